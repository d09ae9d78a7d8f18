//! How two processes come to share a wire.
//!
//! ```text
//!   connector                              listener, at a path in the file system
//!       |-- greeting ------------------------>|   queues, flags
//!       |                                     |   makes memory and doorbells for both
//!       |<- greeting + memory, its bells -----|
//!       |<- one byte + the connector's bells -|
//! ```
//!
//! The socket serves this exchange only. Greetings are 24 bytes, little-endian: magic 8, version 4, queues 2, flags
//! 2 (1: trusted, 2: super-frames), ring 4, zero 4. What comes from the other process is checked like any input: a listener turns a stranger away
//! and goes on waiting.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sys::unix::{recv_fds, send_fds};
use sys::wait::{self, EventFd};
use units::Nanos;

use crate::end::Agreed;
use crate::memory::{Geometry, Memory, QUEUES_MAX};
use crate::queue::Link;
use crate::{Config, ShmNic};

const MAGIC: [u8; 8] = *b"zygixshm";
/// Changes whenever the greeting or the layout of the memory does.
const VERSION: u32 = 2;
/// How long the other process may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

// A message carries the memory and a side's doorbells.
const _: () = assert!(QUEUES_MAX < sys::unix::MAX_FDS);

/// What each side says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Greeting {
    queues: u16,
    trusted: bool,
    large: bool,
    ring: u32,
}

impl Greeting {
    const BYTES: usize = 24;

    fn of(config: &Config) -> Greeting {
        Greeting { queues: config.queues, trusted: config.trusted, large: config.large, ring: config.ring }
    }

    fn encode(self) -> [u8; Greeting::BYTES] {
        let mut bytes = [0; Greeting::BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.queues.to_le_bytes());
        bytes[14..16].copy_from_slice(&(u16::from(self.trusted) | u16::from(self.large) << 1).to_le_bytes());
        bytes[16..20].copy_from_slice(&self.ring.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; Greeting::BYTES]) -> io::Result<Greeting> {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
        if bytes[..8] != MAGIC {
            return Err(invalid("the other end does not speak of wires; is this the right path?"));
        }
        if u32_at(8) != VERSION {
            return Err(invalid(&format!("the other end has version {} of the wire, this is {VERSION}", u32_at(8))));
        }
        let flag = |bit: u16| u16_at(14) & bit != 0;
        let greeting = Greeting { queues: u16_at(12), trusted: flag(1), large: flag(2), ring: u32_at(16) };
        greeting.config().check()?;
        Ok(greeting)
    }

    /// What it asks for, but for the address, which nobody else needs to know.
    fn config(self) -> Config {
        let Greeting { queues, trusted, large, ring } = self;
        Config { queues, trusted, large, ring, ..Config::default() }
    }
}

/// A place in the file system where a wire waits for its other end. Dropping it takes the place away.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    config: Config,
}

impl Listener {
    /// Takes the place `path`. A socket left there by a process that is gone is removed.
    ///
    /// Errors: somebody else listens there, something that is not a socket is there, or the directory does not admit
    /// it.
    pub fn bind(path: &Path, config: &Config) -> io::Result<Listener> {
        config.check()?;
        let bound = match UnixListener::bind(path) {
            Err(e) if e.kind() == ErrorKind::AddrInUse => {
                remove_stale(path)?;
                UnixListener::bind(path)
            }
            bound => bound,
        };
        let socket = bound.map_err(|e| explain(e, path, "cannot listen; is the directory there and writable?"))?;
        Ok(Listener { socket, path: path.into(), config: config.clone() })
    }

    /// Waits for the other end. Strangers are turned away and do not end the wait.
    ///
    /// Errors: a signal came (`Interrupted`); no memory or descriptors are left.
    pub fn accept(self) -> io::Result<ShmNic> {
        loop {
            if wait::readable(&[self.socket.as_raw_fd()], Nanos::MAX)? == 0 {
                return Err(explain(ErrorKind::Interrupted.into(), &self.path, "stopped waiting for the other end"));
            }
            let (stream, _) = self.socket.accept()?;
            match self.welcome(&stream) {
                Ok(nic) => return Ok(nic),
                Err(Failed::Visitor) => continue,
                Err(Failed::Us(e)) => return Err(e),
            }
        }
    }

    /// The listener's half of the exchange.
    fn welcome(&self, mut stream: &UnixStream) -> Result<ShmNic, Failed> {
        let mine = Greeting::of(&self.config).encode();
        let mut bytes = [0; Greeting::BYTES];
        stream.set_read_timeout(Some(PATIENCE)).map_err(|_| Failed::Visitor)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(|_| Failed::Visitor)?;
        stream.read_exact(&mut bytes).map_err(|_| Failed::Visitor)?;
        let theirs = Greeting::decode(&bytes).map_err(|_| {
            // Without memory it reads as a refusal, and tells a peer of another version which one this is.
            _ = send_fds(stream, &mine, &[]);
            Failed::Visitor
        })?;
        let peer = Config { queues: theirs.queues, ..self.config.clone() };
        let link = Link::create(&self.config, &peer).map_err(Failed::Us)?;
        let fds = |side: usize| link.bells[side].iter().map(EventFd::as_fd);
        let first: Vec<BorrowedFd<'_>> = [link.memory.fd()].into_iter().chain(fds(0)).collect();
        let second: Vec<BorrowedFd<'_>> = fds(1).collect();
        send_fds(stream, &mine, &first).map_err(|_| Failed::Visitor)?;
        send_fds(stream, &[1], &second).map_err(|_| Failed::Visitor)?;
        let agreed = Agreed::of(&self.config, &theirs.config(), self.config.ring);
        Ok(ShmNic::new(Arc::new(link), 0, &self.config, agreed, &name(&self.path)))
    }
}

impl AsFd for Listener {
    /// Readable when somebody is at the door.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.path);
    }
}

/// Why a visitor did not become the other end.
enum Failed {
    /// It did not behave like one.
    Visitor,
    /// We lack the means.
    Us(io::Error),
}

/// The connector's half of the exchange.
pub(crate) fn connect(path: &Path, config: &Config) -> io::Result<ShmNic> {
    config.check()?;
    let stream = UnixStream::connect(path).map_err(|e| match e.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            explain(e, path, "nobody listens; start the other end first")
        }
        _ => explain(e, path, "cannot connect"),
    })?;
    let refused = |e: io::Error| explain(e, path, "the other end did not join");
    join(&stream, path, config).map_err(refused)
}

fn join(stream: &UnixStream, path: &Path, config: &Config) -> io::Result<ShmNic> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    send_fds(stream, &Greeting::of(config).encode(), &[])?;
    let mut bytes = [0; Greeting::BYTES];
    let (n, fds) = recv_fds(stream, &mut bytes)?;
    if n < bytes.len() {
        return Err(invalid("it closed the connection; one wire has two ends"));
    }
    let theirs = Greeting::decode(&bytes)?;
    let mut fds = fds.into_iter();
    let memory = fds.next().ok_or_else(|| invalid("it sent no memory"))?;
    let geometry = Geometry { queues: [theirs.queues, config.queues], ring: theirs.ring };
    let memory = Arc::new(Memory::join(memory, geometry)?);
    let theirs_bells = bells(fds, theirs.queues)?;
    let (_, fds) = recv_fds(stream, &mut [0])?;
    let link = Link { memory, bells: [theirs_bells, bells(fds.into_iter(), config.queues)?] };
    let agreed = Agreed::of(config, &theirs.config(), theirs.ring);
    Ok(ShmNic::new(Arc::new(link), 1, config, agreed, &name(path)))
}

fn bells(fds: impl ExactSizeIterator<Item = OwnedFd>, n: u16) -> io::Result<Vec<EventFd>> {
    if fds.len() != usize::from(n) {
        return Err(invalid("it sent another number of doorbells than agreed"));
    }
    Ok(fds.map(EventFd::from_owned).collect())
}

/// Clears the way to a path whose socket nobody answers.
fn remove_stale(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(explain(
            ErrorKind::AlreadyExists.into(),
            path,
            "something that is not a socket is there; use another path",
        ));
    }
    match UnixStream::connect(path) {
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Ok(_) => Err(explain(ErrorKind::AddrInUse.into(), path, "another process listens there; use another path")),
        Err(e) => Err(explain(e, path, "cannot tell whether the path is in use")),
    }
}

fn name(path: &Path) -> String {
    format!("shm:{}", path.display())
}

fn explain(cause: io::Error, path: &Path, what: &str) -> io::Error {
    io::Error::new(cause.kind(), format!("{}: {what} ({cause})", name(path)))
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, text)
}
