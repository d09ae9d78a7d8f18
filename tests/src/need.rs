//! Skipping loudly what cannot run here.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Says past the harness's capture that this test did not run, and why; adds a line to the file `ZYGIX_SKIPS` names.
pub fn skip(why: &str) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Relaxed) + 1;
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // println! would be captured; a lost message is not worth a failure.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test} ({count} in this file): {why}");
    if let Some(path) = std::env::var_os("ZYGIX_SKIPS") {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let _ = file.and_then(|mut f| f.write_all(format!("{test}: {why}\n").as_bytes()));
    }
}

/// The value, or the end of the test by [`skip`].
#[macro_export]
macro_rules! need {
    ($what:expr) => {
        match $what {
            Ok(value) => value,
            Err(why) => return $crate::need::skip(&why),
        }
    };
}

/// Privileges for namespaces and TAPs.
///
/// # Errors
/// What is missing, and what to do.
pub fn network() -> Result<(), String> {
    if !sys::netns::is_root() {
        return Err("needs root for network namespaces; run it with sudo".into());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Err("/dev/net/tun is missing; load the tun module (modprobe tun)".into());
    }
    Ok(())
}

/// Privileges for programs at interfaces, and a kernel with AF_XDP.
///
/// # Errors
/// What is missing.
pub fn xdp() -> Result<(), String> {
    sys::bpf::SocketMap::new(1).map(drop).map_err(|e| e.to_string())
}

/// That this process may have so many connections open. Tests that want thousands get their turn one after the other:
/// the value is the turn.
///
/// # Errors
/// The limit is lower.
pub fn connections(count: usize) -> Result<MutexGuard<'static, ()>, String> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let open_files = sys::limit::raise_open_files().unwrap_or(0);
    // The tests beside this one need some, too.
    let wanted = count as u64 + 2000;
    if open_files < wanted {
        Err(format!("only {open_files} open files are allowed; ulimit -n {wanted}"))
    } else {
        Ok(turn)
    }
}

/// The first of these programs that is there; distributions name some differently.
///
/// # Errors
/// None is; `package` is what brings it.
pub fn program(names: &[&str], package: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let candidates = names.iter().flat_map(|name| directories.iter().map(move |d| d.join(name)));
    let found = candidates.into_iter().find(|p| p.is_file());
    found.ok_or_else(|| format!("{} is not installed; apt-get install {package}", names[0]))
}

/// The Python of an environment that has `module`.
///
/// # Errors
/// There is none.
pub fn python(module: &str) -> Result<PathBuf, String> {
    let venv = match std::env::var_os("ZYGIX_VENV") {
        Some(path) => PathBuf::from(path),
        None => crate::binary::target().join("venv"),
    };
    let python = venv.join("bin/python");
    let missing = || {
        let venv = venv.display();
        format!("no Python with {module} in {venv}; python3 -m venv {venv} && {venv}/bin/pip install {module}")
    };
    let mut import = std::process::Command::new(&python);
    let there = import.args(["-c", &format!("import {module}")]).stderr(std::process::Stdio::null()).status();
    if there.is_ok_and(|s| s.success()) { Ok(python) } else { Err(missing()) }
}
