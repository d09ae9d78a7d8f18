//! The libmemcached tools against `kv`: each does its job, and `memcapable` finds both protocols conforming.
#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;

use tests::{App, Ran, Rig, Serve, Stack, need, on_stacks};

/// A tool by its upstream name; Debian calls memcp `memccp`, and so on.
fn tool(name: &str) -> Result<PathBuf, String> {
    let debian = name.replacen("mem", "memc", 1);
    need::program(&[name, &debian], "libmemcached-tools")
}

/// A rig with files to store, and a tool's way to it.
struct Tools {
    rig: Rig,
    files: PathBuf,
}

impl Tools {
    fn start(stack: Stack) -> Result<Tools, String> {
        tool("memcp")?;
        let rig = Rig::start(&Serve::new(App::Kv, stack).threads(2))?;
        let files = std::env::temp_dir().join(rig.namespace.name());
        fs::create_dir_all(&files).expect("the temporary directory can be written");
        Ok(Tools { rig, files })
    }

    fn file(&self, name: &str, contents: &[u8]) -> String {
        let path = self.files.join(name);
        fs::write(&path, contents).expect("the temporary directory can be written");
        path.display().to_string()
    }

    fn run(&self, name: &str, arguments: &[&str]) -> Ran {
        let servers = format!("--servers={}", self.rig.addr());
        let path = tool(name).expect("they come in one package");
        self.rig.run(path, &[&[&*servers], arguments].concat())
    }
}

impl Drop for Tools {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.files);
    }
}

/// `memcapable` says which of its checks passed; all of them have to.
fn capable(stack: Stack, protocol: &str, least: usize) {
    let tools = need!(Tools::start(stack));
    let (host, port) = (tools.rig.addr().ip().to_string(), tools.rig.addr().port().to_string());
    let path = tool("memcapable").expect("they come in one package");
    let ran = tools.rig.run(path, &["-h", &host, "-p", &port, "-t", "30", protocol]);
    let passed = ran.out.lines().filter(|l| l.trim_end().ends_with("[pass]")).count();
    assert!(ran.status.success() && ran.out.contains("All tests passed"), "{}\n{}", ran.out, ran.err);
    assert!(passed >= least, "only {passed} checks:\n{}", ran.out);
    tools.rig.still_serves_kv();
}

on_stacks! {
    /// Store, look, touch, fetch, remove, flush.
    [zygix = Zygix, software = Software, xdp = Xdp, generic = Generic, linux = Linux, floating = Floating]
    fn the_tools_do_their_jobs(stack) {
        let tools = need!(Tools::start(stack));
        tools.run("memping", &[]).ok();

        let (small, large) = (b"a small value".as_slice(), vec![b'x'; 700_000]);
        let files = [tools.file("small", small), tools.file("large", &large), tools.file("empty", b"")];
        tools.run("memcp", &[&files[0], &files[1], &files[2]]).ok();
        for (key, value) in [("small", small), ("large", &large), ("empty", b"")] {
            tools.run("memexist", &[key]).ok();
            let fetched = tools.run("memcat", &[key]).ok();
            // The tool ends a value with a line feed of its own.
            assert!(fetched.strip_suffix('\n').is_some_and(|f| f.as_bytes() == value), "{key} came back differently");
        }
        let to = tools.files.join("fetched");
        tools.run("memcat", &[&format!("--file={}", to.display()), "large"]).ok();
        assert!(fs::read(&to).expect("memcat wrote it") == large, "the file differs");

        tools.run("memcp", &["--binary", "--set", "--expire=1000", "--flag=7", &files[0]]).ok();
        assert_eq!(tools.run("memcat", &["--flag", "small"]).ok(), "7\na small value\n");
        tools.run("memtouch", &["--expire=2000", "small"]).ok();
        assert!(!tools.run("memtouch", &["--expire=2000", "nothing"]).status.success());

        let stats = tools.run("memstat", &[]).ok();
        assert!(stats.contains("curr_items: 3"), "{stats}");

        tools.run("memrm", &["small"]).ok();
        assert!(!tools.run("memexist", &["small"]).status.success());
        tools.run("memexist", &["large"]).ok();
        tools.run("memflush", &[]).ok();
        assert!(!tools.run("memexist", &["large"]).status.success());
        tools.rig.still_serves_kv();
    }

    /// The ASCII half of the conformance suite.
    [zygix = Zygix, software = Software, xdp = Xdp, generic = Generic, linux = Linux, floating = Floating]
    fn ascii_conforms(stack) {
        capable(stack, "-a", 27);
    }

    /// The binary half.
    [zygix = Zygix, software = Software, xdp = Xdp, generic = Generic, linux = Linux, floating = Floating]
    fn binary_conforms(stack) {
        capable(stack, "-b", 27);
    }

    /// The load tools: verified values from several connections, in both protocols.
    [zygix = Zygix, software = Software, xdp = Xdp, generic = Generic, linux = Linux, floating = Floating]
    fn load_is_borne(stack) {
        let tools = need!(Tools::start(stack));
        tools.run("memslap", &["--concurrency=8", "--execute-number=2000", "--test=get", "--flush"]).ok();
        tools.run("memslap", &["--concurrency=8", "--execute-number=2000", "--test=set", "--binary"]).ok();
        tools.run("memslap", &["--concurrency=4", "--execute-number=500", "--test=mget"]).ok();

        let path = need!(tool("memaslap"));
        let server = tools.rig.addr().to_string();
        for protocol in [&[][..], &["--binary"]] {
            let common = ["-s", &server, "-T", "2", "-c", "16", "-x", "20000", "--verify=1.0", "-X", "1024"];
            let out = tools.rig.run(&path, &[&common, protocol].concat()).ok();
            let value = |name: &str| {
                let line = out.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("no {name}:\n{out}"));
                line[name.len()..].trim().to_owned()
            };
            assert_eq!((value("verify_misses:"), value("verify_failed:")), ("0".into(), "0".into()), "{out}");
            assert!(value("Run time:").contains("Ops: 2"), "{out}");
        }
        tools.rig.still_serves_kv();
    }
}
