//! One control plane per host (or, of a user without privilege, per user): a lock, and beside it the record of changes and where the web page is. They lie where the
//! dataplanes have their sockets.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

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
pub(crate) enum InstanceError {
    #[error("a control plane runs already (process {0}); one is enough for all dataplanes of a host")]
    Second(String),
    #[error("{path}: {cause}; set ZYGIX_DIR or XDG_RUNTIME_DIR to a directory of your own, or be root")]
    Directory { path: String, cause: io::Error },
}

/// The lock. It goes with the process, however that ends.
#[derive(Debug)]
pub(crate) struct Instance {
    directory: PathBuf,
    lock: File,
}

const LOCK: &str = "cp.lock";
const RECORD: &str = "cp.changes";
const FOUND: &str = "cp.dataplanes";

impl Instance {
    /// The only one, or why not.
    pub(crate) fn only() -> Result<Instance, InstanceError> {
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
        let mut open = OpenOptions::new();
        open.read(true).write(true).create(true).truncate(false).mode(0o644);
        let mut lock = open.open(directory.join(LOCK)).map_err(wrong)?;
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
                let mut text = String::new();
                let _ = Read::by_ref(&mut lock).take(4096).read_to_string(&mut text);
                let pid = serde_json::from_str::<Whereabouts>(&text).map(|w| w.pid.to_string());
                return Err(InstanceError::Second(pid.unwrap_or_else(|_| "unknown".into())));
            }
            Err(TryLockError::Error(e)) => return Err(wrong(e)),
        }
        Ok(Instance { directory, lock })
    }

    /// Where changes of the machine are recorded.
    pub(crate) fn record(&self) -> PathBuf {
        self.directory.join(RECORD)
    }

    /// Where it is written how dataplanes were found.
    pub(crate) fn found(&self) -> PathBuf {
        self.directory.join(FOUND)
    }

    /// Tells whoever asks where we are.
    pub(crate) fn tell(&mut self, listen: Option<SocketAddr>) {
        let text = serde_json::to_string(&Whereabouts { pid: std::process::id(), listen }).unwrap_or_default();
        // Nobody depends on it but `zygix top`, which then shows less.
        let _ = self.lock.set_len(0).and_then(|()| self.lock.write_all(text.as_bytes()));
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.lock.set_len(0);
    }
}

/// Where the control plane of this host is, if one runs.
pub fn whereabouts() -> Option<Whereabouts> {
    abi::door_directories().into_iter().find_map(|directory| {
        let path = directory.join(LOCK);
        let file = File::open(&path).ok()?;
        // Whoever gets the lock, even shared, finds nobody there. It is let go at once.
        let runs = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        let text = runs.then(|| fs::read_to_string(path).ok())??;
        serde_json::from_str(&text).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_until_the_first_is_gone() {
        let directory = std::env::temp_dir().join(format!("zygix-instance-{}", std::process::id()));
        let mut first = Instance::at(directory.clone()).unwrap();
        first.tell(Some("127.0.0.1:9".parse().unwrap()));
        let refused = Instance::at(directory.clone()).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(first);
        drop(Instance::at(directory.clone()).unwrap());
        fs::remove_dir_all(directory).unwrap();
        let nowhere = Instance::at("/proc/zygix".into()).unwrap_err().to_string();
        assert!(nowhere.contains("ZYGIX_DIR") && !nowhere.contains('\n'), "{nowhere}");
    }
}
