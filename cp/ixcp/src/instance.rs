//! One control plane per host (or, of a user without privilege, per user): a lock, and beside it the record of changes, and where the web page is, which anybody may
//! read. They lie where the dataplanes have their sockets.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where a control plane is, for those who want to look at it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Whereabouts {
    /// Its process.
    pub pid: u32,
    /// Its web page.
    pub listen: Option<SocketAddr>,
}

/// Why there is no second one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstanceError {
    /// The process that has the lock.
    #[error("a control plane (or `zygix pareto`) runs already (process {0}); there is one at a time on a host")]
    Second(String),
    /// There is no place for the lock.
    #[error("{path}: {cause}; set ZYGIX_DIR or XDG_RUNTIME_DIR to a directory of your own, or be root")]
    Directory {
        /// Where it would have been.
        path: String,
        /// What is wrong there.
        cause: io::Error,
    },
}

/// The right to change this host's clocks and to place its jobs: a lock, which goes with the process, however that ends.
#[derive(Debug)]
pub struct Instance {
    directory: PathBuf,
    _lock: File,
}

const LOCK: &str = "cp.lock";
const WHERE: &str = "cp.where";
/// Bytes of [`WHERE`] at most.
const WHERE_MAX: u64 = 4096;
const RECORD: &str = "cp.changes";
const FOUND: &str = "cp.dataplanes";

impl Instance {
    /// The only one.
    ///
    /// # Errors
    /// There is one already; no directory can be written.
    pub fn only() -> Result<Instance, InstanceError> {
        let mut wrong = None;
        for directory in abi::door_directories() {
            match Instance::at(directory) {
                Err(e @ InstanceError::Directory { .. }) => wrong = wrong.or(Some(e)),
                other => return other,
            }
        }
        let nowhere = || InstanceError::Directory { path: "ZYGIX_DIR".into(), cause: io::ErrorKind::NotFound.into() };
        Err(wrong.unwrap_or_else(nowhere))
    }

    fn at(directory: PathBuf) -> Result<Instance, InstanceError> {
        let wrong = |cause| InstanceError::Directory { path: directory.display().to_string(), cause };
        if !directory.exists() {
            DirBuilder::new().mode(0o755).create(&directory).map_err(wrong)?;
        }
        // Who could open it could keep it locked.
        let mut open = OpenOptions::new();
        open.read(true).write(true).create(true).truncate(false).mode(0o600);
        let lock = open.open(directory.join(LOCK)).map_err(wrong)?;
        lock.set_permissions(Permissions::from_mode(0o600)).map_err(wrong)?;
        // Whoever looks for a control plane has it for a moment.
        let mut tries = 20;
        let locked = loop {
            match lock.try_lock() {
                Err(TryLockError::WouldBlock) if tries > 0 => std::thread::sleep(std::time::Duration::from_millis(10)),
                other => break other,
            }
            tries -= 1;
        };
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = said(&directory).map(|w| w.pid.to_string());
                return Err(InstanceError::Second(pid.unwrap_or_else(|| "unknown".into())));
            }
            Err(TryLockError::Error(e)) => return Err(wrong(e)),
        }
        // What one that was killed has told.
        let _ = fs::remove_file(directory.join(WHERE));
        Ok(Instance { directory, _lock: lock })
    }

    /// Where changes of the machine are recorded ([`Knobs::new`](actuate::Knobs::new)). What one that was killed has left there is to be taken back first
    /// ([`Knobs::recover`](actuate::Knobs::recover)).
    pub fn record(&self) -> PathBuf {
        self.directory.join(RECORD)
    }

    /// Where it is written how dataplanes were found.
    pub(crate) fn found(&self) -> PathBuf {
        self.directory.join(FOUND)
    }

    /// Tells whoever asks which process this is, and where its page is.
    pub fn tell(&self, listen: Option<SocketAddr>) {
        let text = serde_json::to_string(&Whereabouts { pid: std::process::id(), listen }).unwrap_or_default();
        // Nobody depends on it but `zygix top`, which then shows less.
        let path = self.directory.join(WHERE);
        let _ = fs::write(&path, text).and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o644)));
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.directory.join(WHERE));
    }
}

/// Where the control plane of this host is, if one runs.
pub fn whereabouts() -> Option<Whereabouts> {
    abi::door_directories().iter().find_map(|directory| whereabouts_in(directory))
}

fn whereabouts_in(directory: &Path) -> Option<Whereabouts> {
    let said = said(directory)?;
    let runs = match File::open(directory.join(LOCK)) {
        // Whoever gets the lock, even shared, finds nobody there. It is let go at once.
        Ok(lock) => matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)),
        // It is somebody else's: then the process is all there is to go by.
        Err(e) => e.kind() == io::ErrorKind::PermissionDenied && Path::new("/proc").join(said.pid.to_string()).exists(),
    };
    runs.then_some(said)
}

/// What a control plane has told there, which may have ended without taking it back.
fn said(directory: &Path) -> Option<Whereabouts> {
    let mut text = String::new();
    File::open(directory.join(WHERE)).ok()?.take(WHERE_MAX).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_until_the_first_is_gone() {
        let directory = std::env::temp_dir().join(format!("zygix-instance-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        // As one left it that let everybody read it.
        fs::write(directory.join(LOCK), "").unwrap();
        fs::set_permissions(directory.join(LOCK), Permissions::from_mode(0o644)).unwrap();
        let first = Instance::at(directory.clone()).unwrap();
        assert_eq!(whereabouts_in(&directory), None);
        first.tell(Some("127.0.0.1:9".parse().unwrap()));
        let mode = |name| fs::metadata(directory.join(name)).unwrap().permissions().mode();
        assert_eq!((mode(LOCK) & 0o777, mode(WHERE) & 0o777), (0o600, 0o644), "nobody else may hold the lock");
        let there = Whereabouts { pid: std::process::id(), listen: Some("127.0.0.1:9".parse().unwrap()) };
        assert_eq!(whereabouts_in(&directory), Some(there.clone()));
        let refused = Instance::at(directory.clone()).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(first);
        assert_eq!(whereabouts_in(&directory), None);
        // As SIGKILL leaves it.
        fs::write(directory.join(WHERE), serde_json::to_string(&there).unwrap()).unwrap();
        assert_eq!(whereabouts_in(&directory), None);
        drop(Instance::at(directory.clone()).unwrap());
        fs::remove_dir_all(directory).unwrap();
        let nowhere = Instance::at("/proc/zygix".into()).unwrap_err().to_string();
        assert!(nowhere.contains("ZYGIX_DIR") && !nowhere.contains('\n'), "{nowhere}");
    }
}
