use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use abi::{Answer, Command, Hello, PROTOCOL_VERSION, PageReader, PageWords};
use sys::page::WordsView;

use crate::AttachError;
use crate::link::{HELLO_PATIENCE, Link};
use crate::list::find;
use crate::snapshot::Snapshot;

struct View(WordsView);

impl PageWords for View {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn load(&self, at: usize) -> u64 {
        self.0.load(at)
    }
}

/// A dataplane of another process. Dropping it changes nothing there.
pub struct Dataplane {
    hello: Hello,
    link: Link,
    page: PageReader<View>,
}

impl Dataplane {
    /// Attaches to the dataplane of that name. Any number of attachments may be there at once, up to the 16 that its door lets in.
    ///
    /// # Errors
    /// There is none, it may not be attached to, or does not answer as it should within two seconds.
    pub fn attach(name: &str) -> Result<Dataplane, AttachError> {
        Dataplane::open(Some(name))
    }

    /// Attaches to the only dataplane that runs.
    ///
    /// # Errors
    /// As [`Dataplane::attach`]; there are several.
    pub fn attach_only() -> Result<Dataplane, AttachError> {
        Dataplane::open(None)
    }

    fn open(name: Option<&str>) -> Result<Dataplane, AttachError> {
        let (name, socket) = find(name)?;
        Dataplane::at(name, socket)
    }

    /// Attaches to the dataplane behind a socket, wherever that is.
    ///
    /// # Errors
    /// As [`Dataplane::attach`].
    pub fn attach_at(socket: &Path) -> Result<Dataplane, AttachError> {
        Dataplane::at(socket.display().to_string(), socket.to_owned())
    }

    fn at(name: String, socket: PathBuf) -> Result<Dataplane, AttachError> {
        let mut link = Link::to(&socket).map_err(|cause| match cause.kind() {
            ErrorKind::ConnectionRefused => AttachError::Stale { name, socket },
            _ => AttachError::Denied { socket, cause },
        })?;
        let (answer, fds) = link.ask(&Command::Hello, Some(HELLO_PATIENCE))?;
        let Answer::Hello(hello) = answer else {
            return Err(AttachError::Protocol("it was asked for its name and said something else".into()));
        };
        if hello.protocol != PROTOCOL_VERSION {
            let theirs = hello.protocol;
            return Err(AttachError::Protocol(format!("it speaks version {theirs}, this program {PROTOCOL_VERSION}")));
        }
        let Some(fd) = fds.into_iter().next() else {
            return Err(AttachError::Protocol("its metrics page did not come with its name".into()));
        };
        let page = PageReader::new(View(WordsView::open(fd)?))?;
        Ok(Dataplane { hello, link, page })
    }

    /// Who it is.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// What its page says now. It is there to be read also when the dataplane has ended: see [`Snapshot::is_fresh`].
    ///
    /// # Errors
    /// The dataplane has ended while it wrote.
    pub fn snapshot(&self) -> Result<Snapshot, AttachError> {
        let header = self.page.header();
        let cores = (0..header.cores).map(|core| self.page.core(core)).collect::<Result<_, _>>()?;
        // Looked at last, so that the heartbeat is not later.
        Ok(Snapshot { header, cores, group_load: self.page.group_load(), at: sys::clock::now() })
    }

    /// Gives it a command and waits for the answer: a few milliseconds for moves, more if application code does not return.
    ///
    /// # Errors
    /// [`AttachError::Refused`]: it says why not. [`AttachError::Gone`], [`AttachError::Silent`]: it has ended, or does not get to answer.
    pub fn command(&mut self, command: &Command) -> Result<Answer, AttachError> {
        self.link.ask(command, None).map(|(answer, _)| answer)
    }

    /// Whether its process has ended: its page has not been written for a second, and its socket is closed. A process that is stopped has not ended.
    pub fn has_ended(&self) -> bool {
        let silent = sys::clock::now() - self.page.header().heartbeat > abi::PAGE_STALE;
        silent && self.link.is_closed()
    }
}

impl std::fmt::Debug for Dataplane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dataplane").field("hello", &self.hello).finish_non_exhaustive()
    }
}
