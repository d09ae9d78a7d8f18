use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use abi::{Answer, Command, Hello};

use crate::AttachError;
use crate::link::{HELLO_PATIENCE, Link};

/// A socket that was found.
#[derive(Debug)]
pub struct Found {
    /// Its name: the file's without `.sock`.
    pub name: String,
    /// Where it is.
    pub socket: PathBuf,
    /// Who is behind it.
    pub presence: Presence,
}

/// Who is behind a socket.
#[derive(Debug)]
pub enum Presence {
    /// A dataplane that answers.
    Live(Hello),
    /// Nobody: its dataplane has ended without clearing up.
    Stale,
    /// Somebody who does not let us in, or does not answer as a dataplane does.
    Unwilling(AttachError),
}

impl Found {
    /// Whether it answers.
    pub fn is_live(&self) -> bool {
        matches!(self.presence, Presence::Live(_))
    }
}

/// All sockets of dataplanes that can be seen from here, by name. One that does not answer costs two seconds.
pub fn list() -> Vec<Found> {
    let mut all = Vec::new();
    for directory in abi::door_directories() {
        // What is not there, or not ours to read, has nothing for us.
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let socket = entry.path();
            let name = socket.file_name().and_then(|n| n.to_str()?.strip_suffix(".sock"));
            if let Some(name) = name.map(str::to_owned) {
                let presence = look(&socket);
                all.push(Found { name, socket, presence });
            }
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn look(socket: &Path) -> Presence {
    let mut link = match Link::to(socket) {
        Ok(link) => link,
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => return Presence::Stale,
        Err(cause) => return Presence::Unwilling(AttachError::Denied { socket: socket.to_owned(), cause }),
    };
    match link.ask(&Command::Hello, Some(HELLO_PATIENCE)) {
        Ok((Answer::Hello(hello), _)) => Presence::Live(hello),
        Ok(_) => Presence::Unwilling(AttachError::Protocol("it was asked for its name and said something else".into())),
        Err(e) => Presence::Unwilling(e),
    }
}

/// The socket of that name, or of the only dataplane that runs.
pub(crate) fn find(name: Option<&str>) -> Result<(String, PathBuf), AttachError> {
    let Some(name) = name else {
        let mut live: Vec<Found> = list().into_iter().filter(Found::is_live).collect();
        return match live.len() {
            0 => Err(AttachError::NoneRuns),
            1 => live.pop().map(|f| (f.name, f.socket)).ok_or(AttachError::NoneRuns),
            _ => Err(AttachError::Several(live.into_iter().map(|f| f.name).collect())),
        };
    };
    let file = format!("{name}.sock");
    let plain = !name.is_empty() && !name.contains('/');
    let there = |d: PathBuf| Some(d.join(&file)).filter(|path| plain && path.symlink_metadata().is_ok());
    match abi::door_directories().into_iter().find_map(there) {
        Some(socket) => Ok((name.to_owned(), socket)),
        None => {
            let there = list().into_iter().filter(Found::is_live).map(|f| f.name).collect();
            Err(AttachError::NoSuch { name: name.to_owned(), there })
        }
    }
}
