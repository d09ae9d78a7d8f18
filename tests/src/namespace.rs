use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use sys::{link, netns};

use crate::os;

const PREFIX: &str = "zxt-";
const DIRECTORY: &str = "/run/netns";

/// A network namespace: a named one of ours, with its loopback up, or that of a process.
///
/// Dropping one of ours ends every process in it, and with them the interfaces; what a killed test run left behind is
/// swept away by the next one.
pub struct Namespace {
    name: String,
    path: PathBuf,
    ours: bool,
}

impl Namespace {
    /// A new one.
    ///
    /// # Panics
    /// Without the privileges that [`need::network`](crate::need::network) asks for.
    pub fn new() -> Namespace {
        static SWEEP: Once = Once::new();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        SWEEP.call_once(sweep);
        let name = format!("{PREFIX}{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        netns::create_named(&name).expect("root can make a namespace");
        let path = Path::new(DIRECTORY).join(&name);
        let namespace = Namespace { name, path, ours: true };
        namespace.inside(|| link::up("lo").expect("every namespace has a loopback"));
        namespace
    }

    /// The one that a process lives in. It stays as long as that.
    pub fn of(pid: u32) -> Namespace {
        Namespace { name: format!("of-{pid}"), path: format!("/proc/{pid}/ns/net").into(), ours: false }
    }

    /// Its name; if it is ours, `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it can be opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `f` in a thread in this namespace: sockets made there belong to it wherever they are used afterwards.
    pub fn inside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let enter_and_run = || {
            let namespace = fs::File::open(&self.path).expect("the namespace is there as long as its value");
            netns::enter(namespace).expect("root may");
            f()
        };
        std::thread::scope(|scope| match scope.spawn(enter_and_run).join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Starts a program in this namespace.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn(&self, command: &mut Command) -> Child {
        let child = self.inside(|| command.spawn());
        child.unwrap_or_else(|e| panic!("cannot start {:?}: {e}", command.get_program()))
    }
}

impl Default for Namespace {
    fn default() -> Namespace {
        Namespace::new()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if self.ours {
            remove(&self.name);
        }
    }
}

/// Ends the processes in a namespace, and its name.
fn remove(name: &str) {
    for pid in inhabitants(name) {
        os::signal(pid, libc::SIGKILL);
    }
    let _ = netns::delete_named(name);
}

/// The processes that live in a namespace, ourselves excepted.
fn inhabitants(name: &str) -> HashSet<u32> {
    let Ok(namespace) = fs::metadata(Path::new(DIRECTORY).join(name)) else { return HashSet::new() };
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let lives_there = |pid: &u32| {
        fs::metadata(format!("/proc/{pid}/ns/net"))
            .is_ok_and(|own| (own.dev(), own.ino()) == (namespace.dev(), namespace.ino()))
    };
    pids.filter(|pid| *pid != std::process::id()).filter(lives_there).collect()
}

/// Removes the namespaces of test processes that are gone.
fn sweep() {
    for entry in fs::read_dir(DIRECTORY).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let creator = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let Some(creator) = creator.and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        if !Path::new(&format!("/proc/{creator}")).exists() {
            remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::need;

    #[test]
    fn a_namespace_takes_its_inhabitants_with_it() {
        need!(need::network());
        let namespace = Namespace::new();
        let mut child = namespace.spawn(Command::new("sleep").arg("600"));
        assert_eq!(inhabitants(namespace.name()), HashSet::from([child.id()]));
        assert!(!namespace.inside(|| link::exists("eth0")), "the namespace is empty");
        let path = Path::new(DIRECTORY).join(namespace.name());
        assert!(path.exists());
        drop(namespace);
        assert!(!path.exists());
        assert!(!child.wait().unwrap().success());
    }
}
