use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Names that are tried where one was not asked for: `echo`, `echo-2` ...
const TRIED: usize = 64;
/// Characters of a name at most: the path has to fit into a socket address (108 bytes).
const NAME_MAX: usize = 48;

/// How a dataplane is to be called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Called {
    /// So, or not at all.
    By(String),
    /// So, or with `-2`, `-3` ... at the end where that is taken.
    Like(String),
}

/// Why it cannot be called so.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// It is no name.
    #[error("{0:?} is no name: take up to {NAME_MAX} letters, digits, and `-`, `_`, `.` within")]
    Bad(String),
    /// There is one.
    #[error("a dataplane {0} runs already: choose another name, or end that one")]
    Taken(String),
    /// Its socket cannot be made.
    #[error("{}: {cause}; XDG_RUNTIME_DIR or ZYGIX_DIR names a directory of yours", .at.display())]
    Io {
        /// Where.
        at: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
    /// There is nowhere to make it.
    #[error("no directory for sockets: set XDG_RUNTIME_DIR, or ZYGIX_DIR")]
    Nowhere,
}

/// A socket in one of the directories of dataplanes. It goes with this value.
#[derive(Debug)]
pub(crate) struct Socket {
    name: String,
    path: PathBuf,
    /// The device and the number of the file, to know it by.
    id: (u64, u64),
}

impl Socket {
    /// Makes it, in the first directory that we may write in, or in the only one; takes over what a dead dataplane left.
    pub(crate) fn claim(called: &Called, only: Option<&Path>) -> Result<(Socket, UnixListener), NameError> {
        let (Called::By(first) | Called::Like(first)) = called;
        if !is_name(first) {
            return Err(NameError::Bad(first.clone()));
        }
        let mut refusal = NameError::Nowhere;
        for directory in only.map_or_else(abi::door_directories, |only| vec![only.to_owned()]) {
            let lock = match enter(&directory) {
                Ok(lock) => lock,
                Err(cause) => {
                    refusal = NameError::Io { at: directory, cause };
                    continue;
                }
            };
            let tries = if matches!(called, Called::By(_)) { 1 } else { TRIED };
            for n in 1..=tries {
                let name = if n == 1 { first.clone() } else { format!("{first}-{n}") };
                match make(&directory, &name) {
                    Ok(Some(made)) => return Ok(made),
                    Ok(None) => refusal = NameError::Taken(name),
                    Err(cause) => return Err(NameError::Io { at: directory, cause }),
                }
            }
            drop(lock);
            return Err(refusal);
        }
        Err(refusal)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let Some(directory) = self.path.parent() else { return };
        let Ok(_lock) = enter(directory) else { return };
        // Somebody may have removed it, and another may have the name since.
        if id_of(&self.path).is_ok_and(|id| id == self.id) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn is_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=NAME_MAX).contains(&name.len()) && name.chars().all(inner) && !name.starts_with(['-', '.'])
}

fn id_of(path: &Path) -> io::Result<(u64, u64)> {
    path.symlink_metadata().map(|m| (m.dev(), m.ino()))
}

/// Makes the directory if need be, and keeps others from claiming names there until the file is closed.
fn enter(directory: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    // Who could open it could keep it locked.
    let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(directory.join(".lock"))?;
    lock.lock()?;
    Ok(lock)
}

/// A socket that nobody but us (and root) can connect to, under its name at once. `None`: a live dataplane has it.
fn make(directory: &Path, name: &str) -> io::Result<Option<(Socket, UnixListener)>> {
    let path = directory.join(format!("{name}.sock"));
    match UnixStream::connect(&path) {
        Ok(_) => return Ok(None),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {}
        // Somebody else's: not ours to judge.
        Err(e) if e.kind() == ErrorKind::PermissionDenied => return Ok(None),
        Err(e) => return Err(e),
    }
    // In a directory of its own until nobody else may use it.
    let nursery = directory.join(format!(".{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&nursery);
    DirBuilder::new().mode(0o700).create(&nursery)?;
    let made: io::Result<UnixListener> = (|| {
        let young = nursery.join("s");
        let listener = UnixListener::bind(&young)?;
        listener.set_nonblocking(true)?;
        std::fs::set_permissions(&young, Permissions::from_mode(0o600))?;
        // In place of what a dead one left.
        std::fs::rename(&young, &path)?;
        Ok(listener)
    })();
    let _ = std::fs::remove_dir_all(&nursery);
    let listener = made?;
    let id = id_of(&path)?;
    Ok(Some((Socket { name: name.to_owned(), path, id }, listener)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for name in ["echo", "kv-2", "a", "My_App.1", &"x".repeat(NAME_MAX)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", ".lock", "-x", "a/b", "a b", "a\n", "ä", &"x".repeat(NAME_MAX + 1)] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn a_dead_ones_socket_is_taken_over_and_a_live_ones_is_not() {
        let directory = std::env::temp_dir().join(format!("zygix-name-{}", std::process::id()));
        let _lock = enter(&directory).unwrap();
        let claim = |name| make(&directory, name).unwrap();
        let (first, listener) = claim("a").unwrap();
        assert_eq!(first.path().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(claim("a").is_none());
        let id = first.id;
        // As SIGKILL leaves it: the file stays, and nobody listens.
        drop(listener);
        let (second, _listener) = claim("a").unwrap();
        assert_ne!(second.id, id);
        assert!(UnixStream::connect(second.path()).is_ok());
        let left: Vec<_> = std::fs::read_dir(&directory).unwrap().flatten().map(|e| e.file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        drop(_lock);
        // Not what is another's by now.
        drop(first);
        assert!(second.path().exists());
        let path = second.path().to_owned();
        drop(second);
        assert!(!path.exists());
        std::fs::remove_dir_all(directory).unwrap();
    }
}
