//! `zygix sim` as others see it: as a process. The runs are short: what is under test is what is written, not what queueing theory says.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn zygix(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zygix"));
    command.args(line.split_whitespace()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder that ends with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("zygix-sim-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Runs `sim queueing`, and reads what it has written.
fn queueing(dir: &Scratch, line: &str) -> (Output, Value) {
    let json = dir.file("result.json");
    let out = zygix(&format!("sim queueing {line} --json {}", json.display())).output().unwrap();
    assert!(out.status.success(), "{line}: {}", text(&out.stderr));
    (out, read(&json))
}

#[test]
fn a_highest_load_has_what_others_rely_on() {
    let dir = Scratch::new("max");
    let line = "--n 2 --dist exp --policy central --slo 10 --requests 20k --precision 1";
    let (out, object) = queueing(&dir, line);
    let (load, ci95) = (object["max_load"].as_f64().unwrap(), object["ci95"].as_f64().unwrap());
    // 75.8 %, exactly, from M/M/2.
    assert!((load - 0.758).abs() < 0.02 && ci95 > 0.0 && ci95 <= 0.01, "{object}");
    assert!((object["exact"].as_f64().unwrap() - 0.758).abs() < 0.001, "{object}");
    assert_eq!((&object["policy"], &object["n"], &object["dist"]), (&"central".into(), &2.into(), &"exp".into()));
    assert_eq!((&object["slo"], &object["precise"]), (&10.0.into(), &true.into()));
    for field in ["seeds", "requests", "seconds", "requests_per_s"] {
        assert!(object[field].as_f64().unwrap() > 0.0, "{field}: {object}");
    }
    assert!(object["command"].as_str().unwrap().starts_with("zygix sim queueing --n 2"), "{object}");
    let (said, complaints) = (text(&out.stdout), text(&out.stderr));
    assert!(said.contains("Highest load with p99 <= 10 S") && said.contains("central"), "{said}");
    // No terminal, no bar.
    assert_eq!(complaints, "");

    let (_, again) = queueing(&dir, &format!("{line} --threads 3"));
    assert_eq!((&again["max_load"], &again["ci95"]), (&object["max_load"], &object["ci95"]), "equal seeds");
    let (_, other) = queueing(&dir, &format!("{line} --seed 2"));
    assert_ne!(other["max_load"], object["max_load"]);
}

#[test]
fn given_loads_give_rows() {
    let dir = Scratch::new("rows");
    for policy in ["central", "partitioned", "ps", "ps-partitioned", "steal", "quantum:0.1"] {
        let (out, object) = queueing(&dir, &format!("--n 2 --policy {policy} --load 0.2,0.6 --requests 3k"));
        assert_eq!(object["policy"], policy);
        let rows = object["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 2, "{object}");
        for (row, load) in rows.iter().zip([0.2, 0.6]) {
            let of = |field: &str| row[field].as_f64().unwrap();
            assert_eq!(of("load"), load);
            assert!(0.0 < of("p50") && of("p50") < of("p99") && of("p99") < of("p999") && of("p999") <= of("max"));
            assert!(of("mean") >= 0.9 && of("slowdown_mean") >= 1.0 && of("p99_ci95") > 0.0, "{row}");
        }
        assert!(object["max_load"].is_null());
        assert!(text(&out.stdout).contains("How long requests stay"), "{}", text(&out.stdout));
    }
}

#[test]
fn lists_give_cells_and_a_table() {
    let dir = Scratch::new("cells");
    let times = dir.file("times.txt");
    std::fs::write(&times, "1\n2\n3 # long\n").unwrap();
    let line = format!("--n 1,2 --dist det,file:{} --policy central,ps --requests 2k --precision 5", times.display());
    let (out, object) = queueing(&dir, &line);
    let cells = object["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 8, "{object}");
    assert!(cells.iter().all(|cell| (0.1..1.0).contains(&cell["max_load"].as_f64().unwrap())), "{object}");
    let said = text(&out.stdout);
    let widths: Vec<usize> = said
        .lines()
        .skip(1)
        .take(9)
        .map(|line| line.find(" 1 ").or(line.find(" 2 ")).or(line.find(" n ")).unwrap())
        .collect();
    assert!(widths.windows(2).all(|pair| pair[0] == pair[1]), "not aligned: {said}");
}

#[test]
fn a_folder_gets_a_document_and_a_page() {
    let dir = Scratch::new("out");
    let line = format!(
        "sim queueing --n 2 --dist det,exp --policy central,partitioned --requests 2k --precision 5 --out {}",
        dir.0.display()
    );
    let out = zygix(&line).output().unwrap();
    assert!(out.status.success(), "{}", text(&out.stderr));
    let document = read(&dir.file("queueing.json"));
    let schema = read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schema/zygix-bench-1.schema.json")));
    let validator = jsonschema::validator_for(&schema).unwrap();
    let complaints: Vec<String> =
        validator.iter_errors(&document).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    let figures = document["figures"].as_array().unwrap();
    assert_eq!((figures.len(), &figures[0]["y"]["mark"]), (2, &10.0.into()));
    // Two policies, and what M/M/2 says exactly.
    assert_eq!(figures[1]["series"].as_array().unwrap().len(), 3);
    assert_eq!(document["tables"][0]["rows"].as_array().unwrap().len(), 4);
    let page = std::fs::read_to_string(dir.file("index.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("p99 by load: exponential, n = 2"));
}

#[test]
fn a_precision_that_is_not_reached_is_said() {
    let dir = Scratch::new("imprecise");
    let (out, object) = queueing(&dir, "--n 2 --requests 1k --precision 0.001 --max-requests 1k");
    assert_eq!(object["precise"], false);
    assert!(object["ci95"].as_f64().unwrap() > 0.00001, "{object}");
    let said = text(&out.stderr);
    assert!(said.contains("--max-requests") && said.lines().count() == 1, "{said}");
}

#[test]
fn an_interrupted_simulation_gives_what_it_has() {
    let dir = Scratch::new("interrupt");
    let json = dir.file("result.json");
    // The first is done at once, the second takes minutes.
    let line = "--n 1 --policy central,quantum:0.001 --load 0.99 --requests 200k";
    let mut child = zygix(&format!("sim queueing {line} --json {}", json.display())).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let said: Vec<String> = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap).collect();
    assert!(said.last().unwrap().contains("interrupted"), "{said:?}");
    let object = read(&json);
    assert_eq!(object["interrupted"], true);
    // On a machine that is very busy not even the first.
    let cells = object["cells"].as_array().unwrap();
    assert!(cells.len() <= 1 && cells.iter().all(|cell| cell["policy"] == "central"), "{object}");
}

#[test]
fn nonsense_is_refused_with_code_2() {
    for (line, complaint) in [
        ("sim queueing --n 0", "1..=1024"),
        ("sim queueing --load 1.2", "queues grow for ever"),
        ("sim queueing --dist gauss", "det, exp, b1, b2"),
        ("sim queueing --slo 0.9", "no request stays shorter than its work"),
        ("sim queueing --policy lifo", "central, partitioned"),
        ("sim tea", "unrecognized subcommand"),
    ] {
        let out = zygix(line).output().unwrap();
        let said = text(&out.stderr);
        assert_eq!((out.status.code(), text(&out.stdout).as_str()), (Some(2), ""), "{line}: {said}");
        assert!(said.starts_with("error: ") && said.contains(complaint), "{line}: {said}");
    }
    // What cannot be written is known at the end, in one line.
    let out = zygix("sim queueing --n 1 --load 0.5 --requests 1k --json /no/such/folder/x.json").output().unwrap();
    assert_eq!((out.status.code(), text(&out.stderr).lines().count()), (Some(1), 1), "{}", text(&out.stderr));
}
