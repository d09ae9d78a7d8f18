//! `zygix cp` beside a real server: two elastic threads on a TAP, load that comes and goes, a background job that gets the rest.
//!
//! One test: control planes are one per directory of sockets, and the machine's cores are one for all.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tests::{App, Namespace, PORT, SERVER, Serve, Server, Stack, need, os, piped, wait_for, zygix_path};

/// A directory for sockets, configuration and journal, gone with the value.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        let path = std::env::temp_dir().join(format!("zygix-cp-test-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    /// `zygix`, which finds dataplanes here.
    fn zygix(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(zygix_path());
        command.args(arguments).env("ZYGIX_DIR", &self.0);
        command
    }

    fn config(&self) -> PathBuf {
        self.0.join("cp.toml")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running control plane. With the value it ends, and takes back what it changed.
struct Cp {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Cp {
    fn start(directory: &Directory, more: &[&str]) -> Cp {
        let config = directory.config();
        let mut command = directory.zygix(&["cp", "--config", config.to_str().unwrap()]);
        let mut child = command.args(more).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (out, into) = (child.stdout.take().unwrap(), log.clone());
        // Ends with the control plane.
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                *into.lock().unwrap() += &(line + "\n");
            }
        });
        Cp { child, log }
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    fn says(&self, what: &str) -> String {
        wait_for(&format!("{what} in the control plane's words"), || self.log().contains(what).then(|| self.log()))
    }

    /// What its page shows.
    fn view(&self) -> Option<Value> {
        let log = self.log();
        let address = log.split("http://").nth(1)?.split('/').next()?;
        let mut stream = TcpStream::connect(address.parse::<SocketAddr>().ok()?).ok()?;
        stream.write_all(b"GET /api/view HTTP/1.1\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()
    }

    fn until(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let start = std::time::Instant::now();
        loop {
            let view = self.view();
            if let Some(view) = view.clone().filter(|v| is(v)) {
                return view;
            }
            assert!(start.elapsed() < tests::PATIENCE, "waited for {what}; {view:?}; it said:\n{}", self.log());
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}

impl Drop for Cp {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            os::signal(self.child.id(), libc::SIGTERM);
        }
        let _ = self.child.wait();
    }
}

fn active(view: &Value) -> Option<u64> {
    (view["dataplanes"][0]["state"] == "serving").then(|| view["dataplanes"][0]["active"].as_u64())?
}

fn cpus_of_job(view: &Value) -> Option<usize> {
    view["background"][0]["cpus"].as_array().map(Vec::len)
}

/// Processes whose command line has `mark`.
fn alive(mark: &str) -> usize {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|e| std::fs::read(e.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(mark)).count()
}

fn serve(directory: &Directory, namespace: &Namespace) -> Server {
    let serve = Serve::new(App::Spin, Stack::Zygix).threads(2).with("--name elastic");
    let mut command = directory.zygix(&[]);
    command.args(serve.arguments()).args(["--supervised", "--netns", namespace.name()]);
    Server::start(namespace, piped(&mut command))
}

/// Requests of 1 ms each, so many in a second, for so long. It is not asked how well they were served: this machine may be busy.
fn load(directory: &Directory, namespace: &Namespace, rate: u32, seconds: u32) -> Child {
    let (target, rate, seconds) = (format!("{SERVER}:{PORT}"), rate.to_string(), seconds.to_string());
    let mut command = directory.zygix(&["load", "spin", &target, "--time", "det:1ms"]);
    command.args(["--rate", &rate, "--seconds", &seconds, "--no-spin"]);
    namespace.spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0))
}

fn parked(directory: &Directory) -> String {
    let out = directory.zygix(&["ctl", "cores", "--name", "elastic", "--json", "-"]).output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

fn write_config(directory: &Directory, mark: &str) {
    let text = format!(
        "slo_us = 20000\npolicy = \"consolidate\"\nlisten = \"127.0.0.1:0\"\njournal = \"cp.jsonl\"\n\
         [machine]\nsiblings = false\n[[dataplane]]\nname = \"elastic\"\ncpus = \"0-1\"\n\
         [[background]]\nname = \"{mark}\"\ncommand = [\"sh\", \"-c\", \"while :; do :; done\", \"{mark}\"]\n"
    );
    std::fs::write(directory.config(), text).unwrap();
}

#[test]
fn cores_come_and_go_with_the_load_and_service_survives_the_control_plane() {
    need!(need::network());
    let cores = sys::thread::allowed_cores().unwrap_or_default();
    if cores.len() < 2 || cores[..2] != [0, 1] {
        return need::skip("needs cpus 0 and 1");
    }
    let (directory, namespace) = (Directory::new(), Namespace::new());
    let mark = format!("zygixjob{}", std::process::id());
    write_config(&directory, &mark);
    let server = serve(&directory, &namespace);
    let before = parked(&directory);

    // What would be done is told, and not done.
    let dry = Cp::start(&directory, &["--dry-run"]);
    dry.says("down to 1 thread");
    drop(dry);
    assert_eq!((pins_and_parks(&parked(&directory)), alive(&mark)), (pins_and_parks(&before), 0));

    // Without load one thread is enough, and the job has the other cpu.
    let mut cp = Cp::start(&directory, &[]);
    cp.until("one thread", |v| active(v) == Some(1) && cpus_of_job(v) == Some(1));
    assert!(alive(&mark) > 0);

    // A second control plane is refused in one line.
    let config = directory.config();
    let second = directory.zygix(&["cp", "--config", config.to_str().unwrap()]).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(second.status.code() == Some(1) && said.contains("runs already") && said.lines().count() == 1, "{said}");

    // More than a core's work: the job stops, and the second thread serves. Then it is over.
    let mut client = load(&directory, &namespace, 1500, 8);
    cp.until("two threads", |v| active(v) == Some(2) && cpus_of_job(v) == Some(0));
    client.wait().unwrap();
    cp.until("one thread again", |v| active(v) == Some(1) && cpus_of_job(v) == Some(1));
    let journal = std::fs::read_to_string(directory.0.join("cp.jsonl")).unwrap();
    let events: Vec<Value> = journal.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    for kind in ["up", "down", "attached"] {
        assert!(events.iter().any(|e| e["kind"] == kind && e["text"] != ""), "no {kind} in\n{journal}");
    }

    // Killed, it leaves a server that serves; the next one takes back what it had changed, and goes on.
    cp.child.kill().unwrap();
    cp.child.wait().unwrap();
    assert!(load(&directory, &namespace, 50, 1).wait().unwrap().success(), "service goes on");
    let cp = Cp::start(&directory, &[]);
    cp.says("of a control plane that was killed are taken back");
    cp.until("one thread under the next", |v| active(v) == Some(1) && cpus_of_job(v) == Some(1));

    // The end: all as it was.
    os::signal(cp.child.id(), libc::SIGTERM);
    cp.says("the end: what was changed");
    wait_for("the job's end", || (alive(&mark) == 0).then_some(()));
    assert_eq!(pins_and_parks(&parked(&directory)), pins_and_parks(&before));
    for group in ["cpuset", "freezer", "unified", "."] {
        assert!(!Path::new("/sys/fs/cgroup").join(group).join(format!("zygix-{mark}")).exists(), "{group}");
    }
    assert!(server.is_alive());
    server.end(libc::SIGTERM);
}

/// What the control plane has to put back. How many connections there were is nobody's business.
fn pins_and_parks(cores: &str) -> Vec<(Value, Value)> {
    let json: Value = serde_json::from_str(cores).unwrap();
    let list = json["snapshot"]["cores"].as_array().cloned().unwrap_or_default();
    assert_eq!(list.len(), 2, "{cores}");
    list.iter().map(|c| (c["parked"].clone(), c["cpu"].clone())).collect()
}
