//! `zygix bench` and `zygix report` as others see them: as processes. The points are tiny: what is under test is that there
//! is a whole document, not what it says.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The fields of a row: others read them.
const FIGURES: [&str; 6] =
    ["rps_at_slo", "unloaded_p50_us", "unloaded_p99_us", "server_us_per_request", "server_thread_us", "kernel_rx_us"];

fn zygix(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zygix"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder that ends with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("zygix-bench-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a tiny comparison of the Linux stack with itself. `None`, said aloud, where there are no namespaces to be had.
fn null_bench(test: &str, dir: &Path, rows: &str) -> Option<Output> {
    let tiny = ["bench", "stacks", "--null", "--seconds", "0.1", "--repeats", "2", "--records", "1000", "--rows", rows];
    let out = zygix(&tiny).args(["--out", dir.to_str().unwrap()]).output().unwrap();
    let complaint = text(&out.stderr);
    if complaint.contains("neither root nor a user namespace") {
        eprintln!("SKIPPED {test}: {}", complaint.lines().last().unwrap_or_default());
        return None;
    }
    Some(out)
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A document, held to the schema that is published.
fn document(path: &Path) -> Value {
    let schema = read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schema/zygix-bench-1.schema.json")));
    let validator = jsonschema::validator_for(&schema).unwrap();
    let document = read(path);
    let complaints: Vec<String> =
        validator.iter_errors(&document).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    let mut more = document.clone();
    more["extra"] = 1.into();
    assert!(!validator.is_valid(&more), "the schema lets everything pass");
    document
}

#[test]
fn the_same_stack_twice_gives_a_whole_document_and_a_page() {
    let dir = Scratch::new("whole");
    let rows = "usr+linux-partitioned,usr+zygix";
    let Some(out) = null_bench("the_same_stack_twice_gives_a_whole_document_and_a_page", &dir.0, rows) else { return };
    assert!(out.status.success(), "{}", text(&out.stderr));
    let document = document(&dir.0.join("stacks.json"));
    assert_eq!((&document["schema"], &document["kind"]), (&"zygix-bench-1".into(), &"stacks".into()));
    assert_eq!((&document["repeats"], &document["seconds_per_point"]), (&2.into(), &0.1.into()));
    assert!(document["command"].as_str().unwrap().starts_with("zygix bench stacks --null"));
    assert!(document["machine"]["cores"].as_u64().unwrap() > 0);
    assert!(document["noise"]["slices"].as_u64().unwrap() > 0 && document["noise"]["verdict"].is_string());
    let rows = document["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for (row, stack) in rows.iter().zip(["linux-partitioned", "zygix"]) {
        assert_eq!((&row["app"], &row["workload"], &row["stack"]), (&"kv".into(), &"usr".into(), &stack.into()));
        assert!(row["skipped"].is_null());
        for figure in FIGURES {
            let of = |end: &str| row[format!("{figure}{end}")].as_f64();
            // A machine that is too busy has no maximum; everything else is always measured.
            let Some(median) = of("") else {
                assert_eq!(figure, "rps_at_slo", "{row}");
                continue;
            };
            assert!(of("_low").unwrap() <= median && median <= of("_high").unwrap(), "{figure} in {row}");
            assert!(median > 0.0 || figure == "kernel_rx_us", "{figure} in {row}");
        }
    }
    assert_eq!(document["figures"][0]["series"].as_array().unwrap().len(), 2);
    assert_eq!(document["figures"][0]["y"]["mark"], 500.0);
    let page = std::fs::read_to_string(dir.0.join("index.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("linux-partitioned"));
    assert!(text(&out.stdout).contains("machine: "));

    // The page again, from the folder.
    let drawn = zygix(&["report", dir.path(), "-o", dir.0.join("again.html").to_str().unwrap()]).output().unwrap();
    assert!(drawn.status.success(), "{}", text(&drawn.stderr));
    assert!(std::fs::read_to_string(dir.0.join("again.html")).unwrap().contains("<svg"));
}

#[test]
fn an_interrupted_bench_gives_what_it_has() {
    let dir = Scratch::new("interrupt");
    let file = dir.0.join("stacks.json");
    let long = ["bench", "stacks", "--null", "--seconds", "100", "--rows", "echo-1x1+zygix"];
    // A group of its own, as a shell gives it.
    let mut bench = zygix(&long).arg("--json").arg(&file).process_group(0).spawn().unwrap();
    let mut said = BufReader::new(bench.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("round 1 of 3") {
        line.clear();
        if said.read_line(&mut line).unwrap() == 0 || line.contains("neither root") {
            eprintln!("SKIPPED an_interrupted_bench_gives_what_it_has: {line}");
            bench.wait().unwrap();
            return;
        }
    }
    assert!(Command::new("kill").args(["-INT", &bench.id().to_string()]).status().unwrap().success());
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(bench.wait().unwrap().code(), Some(1), "{rest}");
    assert!(rest.lines().last().unwrap().contains("interrupted"), "{rest}");
    let document = read(&file);
    assert!(document["notes"][0].as_str().unwrap().starts_with("Interrupted"), "{document}");
    assert_eq!(document["rows"].as_array().unwrap().len(), 1);
}

#[test]
fn every_bench_runs_and_all_are_drawn() {
    let dir = Scratch::new("all");
    let tiny = ["bench", "all", "--tiny", "--seconds", "0.1", "--repeats", "1", "--records", "1000", "--out"];
    let out = zygix(&tiny).arg(dir.path()).output().unwrap();
    let said = text(&out.stderr);
    if said.contains("neither root nor a user namespace") {
        eprintln!("SKIPPED every_bench_runs_and_all_are_drawn: {}", said.lines().last().unwrap_or_default());
        return;
    }
    // Errors of the load are a busy machine's; here it is under test that each bench comes to its end with all of its parts.
    assert!(said.contains("stacks, 1 of 10: at most"), "{said}");
    let (partitioned, floating, tap) = ("linux-partitioned (veth)", "linux-floating (veth)", "zygix (tap)");
    let ways: &[&str] = &["ix", "zygos, none", "zygos, ipi", "zygos, lend"];
    let sides: [(&str, &[&str], usize); 9] = [
        ("pingpong", &[partitioned, tap, "zygix (shm, own client)"], 2),
        ("churn", &[partitioned, floating, tap], 2),
        ("sizes", &[partitioned, floating, tap, "zygix (shm, own client)"], 2),
        ("batch", &["B = "], 2),
        ("spin", &["linux-partitioned", "linux-floating"], 2),
        ("bulk", &["shm", "veth", "0.5 % corruption", "zygix and linux"], 2),
        ("sched", ways, 4),
        ("stall", ways, 0),
        ("truth", &["p50", "p99", "open loop"], 2),
    ];
    for (kind, sides, figures) in sides {
        let document = document(&dir.0.join(format!("{kind}.json")));
        assert_eq!((&document["schema"], &document["kind"]), (&"zygix-bench-1".into(), &kind.into()));
        let drawn = document["figures"].as_array().unwrap();
        assert_eq!(drawn.len(), figures, "{kind}: {said}");
        // A line of which noise has left nothing is not drawn; its rows in the tables are there, with dashes.
        let tables = document["tables"].to_string();
        assert!(sides.iter().all(|side| tables.contains(side)), "{kind}: {document}");
        assert!(document["tables"].as_array().unwrap().iter().all(|t| !t["rows"].as_array().unwrap().is_empty()));
        assert!(
            document["notes"].as_array().unwrap().iter().all(|n| !n.as_str().unwrap().contains(": left out:")),
            "{document}"
        );
    }
    let page = std::fs::read_to_string(dir.0.join("index.html")).unwrap();
    for title in
        ["Latency of one way", "Connections by their life", "by batch bound", "closed form", "A server that freezes"]
    {
        assert!(page.contains(title), "no {title}");
    }
}

#[test]
fn bulk_transfers_have_a_row_each_and_arrive_whole() {
    let dir = Scratch::new("bulk");
    let file = dir.0.join("bulk.json");
    let tiny = ["bench", "bulk", "--tiny", "--parts", "wires,impaired", "--json"];
    let out = zygix(&tiny).arg(&file).output().unwrap();
    let said = text(&out.stderr);
    if ["neither root nor a user namespace", "load the bridge module"].iter().any(|why| said.contains(why)) {
        eprintln!("SKIPPED bulk_transfers_have_a_row_each_and_arrive_whole: {said}");
        return;
    }
    assert!(out.status.success(), "{said}");
    let document = document(&file);
    let rows = document["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 6 + 7 * 4);
    for row in rows {
        assert_eq!((&row["intact"], row["bytes"].as_u64() > Some(0)), (&true.into(), true), "{row}");
        let of = |end: &str| row[format!("gbps{end}")].as_f64().unwrap();
        assert!(0.0 < of("_low") && of("_low") <= of("") && of("") <= of("_high"), "{row}");
        let compared = row["stack"] == "zygix" && row["wire"] != "shm";
        assert_eq!(row["over_linux"].is_number(), compared, "{row}");
    }
}

#[test]
fn nonsense_is_refused_before_anything_starts() {
    for (line, complaint) in [
        ("bench stacks --rows tea", "no row has `tea`"),
        ("bench stacks --rows memcached+echo", "no row has all"),
        ("bench stacks --seconds 0", "write seconds"),
        ("bench all --seconds 1", "give --out DIR"),
        ("bench truth --requests 0", "such as 400k"),
        ("bench sched --parts tea", "network, maxima"),
        ("bench bulk --parts tea", "wires, impaired"),
    ] {
        let out = zygix(&line.split(' ').collect::<Vec<_>>()).output().unwrap();
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{line}: {said}");
        assert!(said.contains(complaint), "{line}: {said}");
    }
    let out = zygix(&["report", "/no/such/folder"]).output().unwrap();
    assert_eq!((out.status.code(), text(&out.stderr).lines().count()), (Some(1), 1), "{}", text(&out.stderr));
}
