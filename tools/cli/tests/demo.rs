//! The demo and the supervised server as others see them: as processes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

fn zygix(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zygix"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs the demo on the Linux stack twice. `None`, said aloud, where there are no namespaces to be had.
fn null_demo(test: &str, more: &[&str]) -> Option<(Output, Value)> {
    let file = scratch(test);
    let path = file.to_str().unwrap();
    let out = zygix(&[&["demo", "--null", "--seconds", "2", "--json", path], more].concat()).output().unwrap();
    let json = std::fs::read_to_string(&file);
    let _ = std::fs::remove_file(&file);
    let complaint = text(&out.stderr);
    if complaint.contains("neither root nor a user namespace") {
        eprintln!("SKIPPED {test}: {}", complaint.lines().last().unwrap_or_default());
        return None;
    }
    Some((out, serde_json::from_str(&json.unwrap()).unwrap()))
}

fn scratch(test: &str) -> PathBuf {
    std::env::temp_dir().join(format!("zygix-{test}-{}.json", std::process::id()))
}

fn number(json: &Value, key: &str) -> f64 {
    json[key].as_f64().unwrap_or_else(|| panic!("{key} is no number in {json}"))
}

#[test]
fn the_same_stack_twice_gives_a_whole_report_without_errors() {
    let Some((out, json)) = null_demo("whole", &[]) else { return };
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert_eq!((&json["ok"], &json["errors"]), (&Value::Bool(true), &Value::from(0)));
    for stack in ["zygix", "linux"] {
        let of = &json[stack];
        assert!(number(of, "rps") > 0.0 && number(of, "p50_us") > 0.0);
        assert!(number(of, "p50_us") <= number(of, "p99_us"));
        // The parts, over all rounds, are what the sum is made of.
        assert!(number(of, "server_us_per_request") > 0.0 && number(of, "server_thread_us_per_request") > 0.0);
        assert_eq!(number(of, "idle_polling_us_per_request"), 0.0, "Linux does not poll");
    }
    let table = text(&out.stdout);
    for line in ["requests/s", "p50", "p99", "server-core time per request", "errors"] {
        assert!(table.contains(line), "no {line} in\n{table}");
    }
}

#[test]
fn progress_and_table_go_different_ways() {
    let Some((out, _)) = null_demo("ways", &["--connections", "3", "--depth", "2"]) else { return };
    assert!(text(&out.stderr).contains("round 1 of 1"));
    assert!(!text(&out.stdout).contains("round 1 of 1"));
    assert!(text(&out.stdout).contains("3 connections, depth 2"));
}

/// The server processes that `parent` has started.
fn children(parent: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|t| std::fs::read_to_string(t.path().join("children")).ok());
    lists.flat_map(|l| l.split_whitespace().filter_map(|p| p.parse().ok()).collect::<Vec<u32>>()).collect()
}

fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// A demo that has said that it is calibrating: both servers run. `None` where it cannot.
fn demo_under_way(test: &str) -> Option<(Child, BufReader<impl Read>, Vec<u32>)> {
    // A group of its own, as a shell gives it.
    let mut demo = zygix(&["demo", "--null", "--seconds", "50"]).process_group(0).spawn().unwrap();
    let mut said = BufReader::new(demo.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("calibrating") {
        line.clear();
        if said.read_line(&mut line).unwrap() == 0 || line.contains("neither root") {
            eprintln!("SKIPPED {test}: {line}");
            demo.wait().unwrap();
            return None;
        }
    }
    let servers = children(demo.id());
    Some((demo, said, servers))
}

fn gone(pids: &[u32]) -> bool {
    // A zombie of a parent that was killed is gone as soon as its next parent looks.
    pids.iter().all(|p| match std::fs::read_to_string(format!("/proc/{p}/stat")) {
        Ok(stat) => stat.contains(") Z "),
        Err(_) => true,
    })
}

#[test]
fn an_interrupted_demo_ends_its_servers_first() {
    let Some((mut demo, mut said, servers)) = demo_under_way("interrupt") else { return };
    assert_eq!(servers.len(), 2);
    signal("INT", demo.id());
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(1));
    assert_eq!(rest.lines().last(), Some("zygix: interrupted"));
    assert!(gone(&servers));
}

#[test]
fn servers_end_with_a_demo_that_is_killed() {
    let Some((mut demo, _said, servers)) = demo_under_way("kill") else { return };
    signal("KILL", demo.id());
    demo.wait().unwrap();
    while !gone(&servers) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_server_that_dies_fails_the_demo() {
    let Some((mut demo, mut said, servers)) = demo_under_way("dies") else { return };
    signal("KILL", servers[0]);
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(1));
    let last = rest.lines().last().unwrap_or_default();
    assert!(last.contains("server ended (signal: 9"), "{last}");
    assert!(gone(&servers));
}

#[test]
fn a_supervised_server_is_ready_tells_its_counters_and_ends_with_its_input() {
    let arguments = ["serve", "kv", "--supervised", "--stack", "linux-partitioned", "-l", "127.0.0.1", "-p", "0"];
    let mut server = zygix(&arguments).spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap());
    let mut stdin = server.stdin.take().unwrap();
    let mut line = || {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        serde_json::from_str::<Value>(&line).unwrap()
    };
    let ready = line()["ready"].as_str().unwrap().to_owned();
    let address = ready.split_whitespace().find(|w| w.starts_with("127.0.0.1:")).unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"set k 0 0 2\r\nab\r\nget k\r\nquit\r\n").unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    assert_eq!(said, "STORED\r\nVALUE k 0 2\r\nab\r\nEND\r\n");
    stdin.write_all(b"stats\n").unwrap();
    let stats = line();
    assert!(number(&stats, "cpu_ns") > 0.0);
    assert_eq!((number(&stats, "idle_ns"), number(&stats, "accepted")), (0.0, 1.0));
    drop(stdin);
    assert!(server.wait().unwrap().success());
}

#[test]
fn a_taken_port_and_nonsense_have_their_codes() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let linux = ["serve", "kv", "--stack", "linux-partitioned", "-l", "127.0.0.1"];
    let out = zygix(&[&linux[..], &["-p", &port]].concat()).output().unwrap();
    let said = text(&out.stderr);
    assert_eq!((out.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains(&port) && said.contains("choose another with -p"), "{said}");
    assert_eq!(said.matches("in use").count(), 1, "the cause is told once: {said}");
    let out = zygix(&[&linux[..], &["--netns", "x"]].concat()).output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    let out = zygix(&["demo", "--seconds", "0"]).output().unwrap();
    assert_eq!(out.status.code(), Some(2));
}
