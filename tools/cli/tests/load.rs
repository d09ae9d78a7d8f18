//! `zygix load` as others see it: a process with a server, an exit code, a table and a JSON object.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

fn zygix(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zygix"));
    command.args(line.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A server that ends with this value.
struct Server {
    process: Child,
    /// Its end is the server's.
    stdin: Option<ChildStdin>,
    addr: String,
}

impl Server {
    fn start(line: &str) -> Server {
        let line = format!("serve {line} --supervised --stack linux-partitioned -l 127.0.0.1 -p 0");
        let mut process = zygix(&line).stdin(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let addr =
            ready.split([' ', '"', ',']).find(|w| w.starts_with("127.0.0.1:")).unwrap_or_else(|| panic!("{ready}"));
        Server { addr: addr.to_owned(), stdin: process.stdin.take(), process }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.process.wait();
    }
}

/// A server that does with each connection what `answer` does, in threads that end with their connections.
fn scripted(answer: fn(std::net::TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    addr
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The last line on standard error, and that it is the only one that begins like a complaint.
fn complaint(out: &Output) -> String {
    let said = text(&out.stderr);
    let lines: Vec<&str> = said.lines().filter(|l| l.starts_with("zygix: ")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    lines[0].to_owned()
}

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        Scratch(std::env::temp_dir().join(format!("zygix-load-{name}-{}.json", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Runs a load and reads its object, which must be as documented.
fn load(name: &str, line: &str) -> (Output, Value) {
    let file = Scratch::new(name);
    let out = zygix(&format!("load {line} --json {}", file.0.display())).output().unwrap();
    let written = std::fs::read_to_string(&file.0).unwrap_or_else(|e| panic!("{e}: {}", text(&out.stderr)));
    let object = serde_json::from_str(&written).unwrap();
    check_schema(&object);
    (out, object)
}

fn check_schema(object: &Value) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schema/zygix-load-1.schema.json");
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let complaints: Vec<String> =
        validator.iter_errors(object).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(complaints.is_empty(), "{complaints:#?}\n{object:#}");
}

fn number(object: &Value, key: &str) -> f64 {
    object[key].as_f64().unwrap_or_else(|| panic!("{key} is no number in {object:#}"))
}

#[test]
fn the_schema_refuses_what_is_not_documented() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schema/zygix-load-1.schema.json");
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let server = Server::start("kv");
    let (_, good) = load("schema", &format!("kv {} --seconds 0.1 --records 10", server.addr));
    let validator = jsonschema::validator_for(&schema).unwrap();
    for (key, value) in
        [("sent", json!("many")), ("extra", json!(1)), ("pace", json!("ajar")), ("p99_us", json!("fast"))]
    {
        let mut bad = good.clone();
        bad[key] = value;
        assert!(!validator.is_valid(&bad), "{key}");
    }
    let mut bad = good.clone();
    bad.as_object_mut().unwrap().remove("completed");
    assert!(!validator.is_valid(&bad));
}

#[test]
fn an_open_loop_is_measured_and_written_down() {
    let server = Server::start("kv");
    let line =
        format!("kv {} --rate 500 --seconds 1.5 --records 100 --probe 1 --protocol binary --seed 3", server.addr);
    let (out, o) = load("open", &line);
    // How busy the machine is decides whether the rate was kept; everything else is certain.
    assert!(matches!(out.status.code(), Some(0 | 3)), "{}", text(&out.stderr));
    assert_eq!((&o["app"], &o["pace"], &o["transport"]), (&json!("kv"), &json!("open"), &json!("linux")));
    assert_eq!((&o["errors"], &o["seed"], &o["pattern"]), (&json!(0), &json!(3), &json!("500")));
    assert_eq!((&o["workload"]["protocol"], &o["workload"]["records"]), (&json!("binary"), &json!(100)));
    assert_eq!(o["offered"], o["completed"]);
    // 750 meant: 10 standard deviations either way.
    assert!((480.0..1020.0).contains(&number(&o, "offered")), "{o}");
    assert!(number(&o, "p50_us") > 0.0 && number(&o, "p50_us") <= number(&o, "p99_us"));
    assert!(number(&o["probe"], "requests") > 0.0);
    let offered: f64 = o["series"].as_array().unwrap().iter().map(|s| number(s, "offered")).sum();
    assert_eq!(offered, number(&o, "offered"));
    let table = text(&out.stdout);
    for part in ["requests/s", "offered", "p99.9", "unloaded", "late by", "errors        none"] {
        assert!(table.contains(part), "no {part} in\n{table}");
    }
}

#[test]
fn a_closed_loop_with_churn_opens_connections() {
    let server = Server::start("echo");
    let (out, o) =
        load("churn", &format!("echo {} --seconds 0.3 --churn 2 --conns 3 --size uniform:1-2000", server.addr));
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert_eq!(
        (&o["pace"], &o["gaps"], &o["churn"]),
        (&json!("closed"), &Value::Null, &json!({"requests": 2, "how": "rst"}))
    );
    assert!(number(&o, "connections_per_s") > 0.0 && number(&o, "completed") > 0.0);
}

#[test]
fn a_sweep_has_its_points() {
    let server = Server::start("echo");
    let (out, o) = load("sweep", &format!("echo {} --sweep 200,400 --seconds 0.3", server.addr));
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let rates: Vec<f64> = o["points"].as_array().unwrap().iter().map(|p| number(p, "rate")).collect();
    assert_eq!((rates, number(&o, "rate")), (vec![200.0, 400.0], 400.0));
    assert_eq!(o["points"][1]["p99_us"], o["p99_us"], "the top level is the last point");
}

#[test]
fn a_search_ends_with_an_answer_or_says_that_there_is_none() {
    let server = Server::start("echo");
    // So lenient, and so low a maximum, that it must be reached.
    let (out, o) =
        load("found", &format!("echo {} --find-max --slo p50=10s --max-rate 100 --seconds 0.3", server.addr));
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let found = &o["find_max"];
    assert_eq!((&found["slo"], &found["open_ended"]), (&json!("p50=10s"), &json!(true)));
    assert_eq!((number(found, "max_rps"), number(&o, "rate")), (100.0, 100.0));
    // No server answers in a nanosecond.
    let (out, o) = load("none", &format!("echo {} --find-max --slo p50=1ns --seconds 0.1", server.addr));
    assert_eq!(out.status.code(), Some(3), "{}", text(&out.stderr));
    assert!(o["find_max"]["max_rps"].is_null());
    assert!(complaint(&out).contains("p50=1ns is not met at any rate"));
}

#[test]
fn a_pingpong_goes_through_the_sizes() {
    let server = Server::start("echo");
    let (out, o) = load("pingpong", &format!("pingpong {} --sizes 64,1k,64k --seconds 0.1", server.addr));
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let pings = o["pingpong"].as_array().unwrap();
    let sizes: Vec<f64> = pings.iter().map(|p| number(p, "size")).collect();
    assert_eq!(sizes, [64.0, 1024.0, 65536.0]);
    assert!(pings.iter().all(|p| number(p, "mbit_per_s") > 0.0));
    assert!(text(&out.stdout).contains("half of the best bandwidth"));
}

#[test]
fn an_objective_decides_the_exit_code() {
    let server = Server::start("echo");
    let (out, _) = load("slo", &format!("echo {} --slo p50=1ns --seconds 0.1", server.addr));
    assert_eq!(out.status.code(), Some(3));
    assert!(complaint(&out).contains("p50=1ns is not met") && text(&out.stdout).contains("missed"));
}

#[test]
fn more_than_a_server_can_do_is_saturation() {
    // One request at a time, 20 ms each: 50 a second.
    let slow = scripted(|mut stream| {
        let mut buffer = [0; 64];
        while stream.read_exact(&mut buffer).is_ok() {
            std::thread::sleep(Duration::from_millis(20));
            if stream.write_all(&buffer).is_err() {
                break;
            }
        }
    });
    let (out, o) = load("slow", &format!("echo {slow} --rate 2k --conns 1 --seconds 0.5 --patience 0.2"));
    assert_eq!(out.status.code(), Some(3), "{}", text(&out.stderr));
    // Which side it was is the engine's to tell, and its tests'; on a busy machine the client may be late, too.
    assert!(o["saturated"] == json!(true) && o["saturated_side"].is_string());
    assert!(complaint(&out).contains("saturated: the "));
}

#[test]
fn what_is_no_server_is_said_in_a_line() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let out = zygix(&format!("load kv {nobody}")).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(complaint(&out).contains("cannot connect"), "{}", complaint(&out));
    // A server of something else.
    let web = scripted(|mut stream| {
        let _ = stream.read(&mut [0; 64]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let out = zygix(&format!("load kv {web} --seconds 0.2")).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(complaint(&out).contains("does not store records"), "{}", complaint(&out));
    let (out, o) = load("web", &format!("kv {web} --seconds 0.2 --no-preload --conns 2"));
    assert_eq!(out.status.code(), Some(1));
    assert!(number(&o, "errors") > 0.0 && number(&o, "completed") == 0.0, "{o}");
    let out = zygix("load kv no-such-host.invalid").output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(complaint(&out).contains("cannot resolve"));
}

#[test]
fn a_server_that_says_nothing_is_no_server() {
    let mute = scripted(|mut stream| while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {});
    let (out, o) = load("mute", &format!("echo {mute} --rate 500 --conns 4 --seconds 0.3 --patience 0.2"));
    assert_eq!(out.status.code(), Some(1), "{}", text(&out.stderr));
    assert_eq!((&o["completed"], &o["p99_us"], &o["saturated"]), (&json!(0), &Value::Null, &json!(true)));
    assert_eq!(o["errors_by_kind"]["unanswered"], o["errors"]);
    assert!(complaint(&out).contains("no request was answered"));
    assert!(text(&out.stdout).contains("no request that was meant for the window was answered"));
}

#[test]
fn limits_of_the_machine_are_said_in_a_line() {
    let server = Server::start("echo");
    let out = zygix(&format!("load echo {} --conns 1000000", server.addr)).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    let said = complaint(&out);
    assert!(said.contains("open files") || said.contains("local ports"), "{said}");
    let limited = format!("ulimit -n 80; exec {} load echo {} --conns 100", env!("CARGO_BIN_EXE_zygix"), server.addr);
    let out = Command::new("sh").args(["-c", &limited]).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(complaint(&out).contains("ulimit -Hn"), "{}", complaint(&out));
}

#[test]
fn nonsense_is_a_matter_of_usage() {
    for line in [
        "kv",
        "kv 127.0.0.1 --rate 0",
        "kv 127.0.0.1 --rate 1e12",
        "kv 127.0.0.1 --find-max",
        "spin 127.0.0.1 --size 1",
    ] {
        let out = zygix(&format!("load {line}")).output().unwrap();
        assert_eq!(out.status.code(), Some(2), "{line}: {}", text(&out.stderr));
    }
}

#[test]
fn an_interrupted_run_keeps_its_results() {
    let server = Server::start("echo");
    let file = Scratch::new("interrupted");
    let line = format!("load echo {} --seconds 600 --warmup 0 --json {}", server.addr, file.0.display());
    let mut running = zygix(&line).spawn().unwrap();
    // The first line of progress: the load has been running for seconds.
    let mut progress = BufReader::new(running.stderr.take().unwrap()).lines();
    assert!(progress.any(|line| line.unwrap().contains("requests/s")), "it ended too early");
    assert!(Command::new("kill").args(["-INT", &running.id().to_string()]).status().unwrap().success());
    let out = running.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(130));
    assert!(text(&out.stdout).contains("interrupted: the results so far"));
    let o: Value = serde_json::from_str(&std::fs::read_to_string(&file.0).unwrap()).unwrap();
    check_schema(&o);
    assert_eq!(o["interrupted"], json!(true));
    assert!(number(&o, "completed") > 0.0 && number(&o, "seconds") < 600.0);
}

/// An agent as a process; it is killed with this value.
struct Agent(Child, String);

impl Agent {
    fn start() -> Agent {
        let mut process = zygix("load agent --listen 127.0.0.1:0 --no-spin").spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
        let addr = ready.split([' ', ';']).find(|w| w.starts_with("127.0.0.1:")).unwrap_or_else(|| panic!("{ready}"));
        Agent(process, addr.to_owned())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn agents_share_a_run_and_one_that_dies_is_named() {
    let server = Server::start("kv");
    let (one, mut two) = (Agent::start(), Agent::start());
    let line = format!("kv {} --rate 400 --records 50 --conns 4 --agents {},{}", server.addr, one.1, two.1);
    let (out, o) = load("agents", &format!("{line} --seconds 1"));
    assert!(matches!(out.status.code(), Some(0 | 3)), "{}", text(&out.stderr));
    assert_eq!((&o["agents"][0]["ok"], &o["agents"][1]["ok"], &o["errors"]), (&json!(true), &json!(true), &json!(0)));
    assert!((200.0..600.0).contains(&number(&o, "offered")));

    let file = Scratch::new("dying");
    let running = format!("load {line} --seconds 7 --json {}", file.0.display());
    let mut running = zygix(&running).spawn().unwrap();
    let mut progress = BufReader::new(running.stderr.take().unwrap()).lines();
    assert!(progress.any(|line| line.unwrap().contains("requests/s")), "it ended too early");
    two.0.kill().unwrap();
    let status = running.wait().unwrap();
    let o: Value = serde_json::from_str(&std::fs::read_to_string(&file.0).unwrap()).unwrap();
    check_schema(&o);
    assert_eq!((status.code(), &o["agents"][0]["ok"], &o["agents"][1]["ok"]), (Some(1), &json!(true), &json!(false)));
    assert!(o["agents"][1]["error"].is_string() && number(&o, "completed") > 0.0);
}
