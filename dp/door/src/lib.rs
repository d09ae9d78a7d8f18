//! A dataplane's door to the control plane: its metrics page, and a Unix socket over which it is given commands.
//!
//! ```text
//!   elastic threads ── counters ──► page thread, every 10 ms ──► page (memfd) ─ ─ ─ ─ ─ ─ ─► whoever has its descriptor
//!        ▲                                                                                       ▲
//!        └──── moves, parking ◄──── Controller ◄──── door thread ◄──── /run/zygix/NAME.sock ◄────┘
//! ```
//!
//! | file | what |
//! |---|---|
//! | `name.rs` | names, and the sockets that they are |
//! | `clients.rs` | who is at the door: lines in, answers out, within bounds |
//! | `orders.rs` | commands carried out |
//! | `pages.rs` | the thread that writes the page |
//!
//! Both threads are ordinary ones. An elastic thread never waits for them, and knows nothing of them; nobody at the door can make it: lines, clients and answers are
//! bounded, and who does not read is thrown out. Why a socket and no command words in the page: decision 0017.
#![forbid(unsafe_code)]

mod clients;
mod name;
mod orders;
mod pages;

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use abi::{Hello, PROTOCOL_VERSION};
use dataplane::{Dataplane, Publisher, Sched, Steer};
use sys::SysError;
use sys::page::SharedWords;
use sys::wait::EventFd;

use crate::clients::Clients;
use crate::name::Socket;
pub use crate::name::{Called, NameError};
use crate::orders::Orders;
use crate::pages::Pages;

/// What is said of a dataplane at its door.
#[derive(Clone, Debug)]
pub struct DoorConfig {
    /// How it is called.
    pub called: Called,
    /// What it serves, where, and how: for people.
    pub about: String,
    /// How its cores are scheduled.
    pub sched: Sched,
    /// Where its socket is to be; none: where they all are ([`abi::door_directories`]).
    pub directory: Option<PathBuf>,
}

/// Why a dataplane has no door.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// It cannot be called so, or its socket cannot be made.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Memory or descriptors.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// Threads.
    #[error("the door's threads cannot be started: {0}")]
    Io(#[from] std::io::Error),
    /// The page has no room for it.
    #[error("{0} cores are more than a metrics page can have ({max})", max = abi::PAGE_CORES)]
    Cores(usize),
}

/// An open door. Closed when it is dropped, which waits for a command that is under way; the socket goes with it.
#[derive(Debug)]
pub struct Door {
    socket: Socket,
    end: Arc<End>,
    threads: Vec<JoinHandle<()>>,
}

/// How both threads are told to end.
#[derive(Debug)]
struct End {
    asked: AtomicBool,
    bells: [EventFd; 2],
}

impl End {
    fn asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Door {
    /// Opens it. `steer` is the NIC's [`set_reta`](nic::Nic::set_reta); without it the frames of flow groups that move are forwarded.
    ///
    /// # Errors
    /// A dataplane of that name runs; the socket cannot be made where it belongs; something has run out.
    pub fn open(dataplane: &Dataplane, steer: Option<Steer>, config: &DoorConfig) -> Result<Door, DoorError> {
        let shared = dataplane.shared().clone();
        let cores = shared.cores();
        let words = SharedWords::create(abi::page_words(cores))?;
        let page = words.as_fd().try_clone_to_owned()?;
        let end = Arc::new(End { asked: AtomicBool::new(false), bells: [EventFd::new()?, EventFd::new()?] });
        let (now, pid) = (sys::clock::now(), std::process::id());
        let Some(publisher) = Publisher::new(words, &shared, config.sched, pid, now) else {
            return Err(DoorError::Cores(cores));
        };
        let Some(controller) = dataplane.controller(steer) else { return Err(DoorError::Cores(cores)) };
        let (socket, listener) = Socket::claim(&config.called, config.directory.as_deref())?;
        let tids: Arc<[u32]> = dataplane.tids().into();
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            name: socket.name().to_owned(),
            about: config.about.clone(),
            pid,
            cores: cores as u16,
            sched: config.sched.to_string(),
        };
        let mut pages = Pages::new(publisher, shared.clone(), controller.clone(), tids.clone());
        let orders = Orders::new(hello, controller, shared, tids)?;
        let mut clients = Clients::new(listener, page, orders);
        let mut door = Door { socket, end: end.clone(), threads: Vec::new() };
        let ending = end.clone();
        let page_thread = move || pages.run(&ending.bells[0], || ending.asked());
        door.threads.push(std::thread::Builder::new().name("page".into()).spawn(page_thread)?);
        let door_thread = move || clients.run(&end.bells[1], || end.asked());
        door.threads.push(std::thread::Builder::new().name("door".into()).spawn(door_thread)?);
        Ok(door)
    }

    /// How the dataplane is called.
    pub fn name(&self) -> &str {
        self.socket.name()
    }

    /// Where its socket is.
    pub fn path(&self) -> &Path {
        self.socket.path()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.end.asked.store(true, Ordering::SeqCst);
        self.end.bells.iter().for_each(EventFd::ring);
        for thread in self.threads.drain(..) {
            // What it had to say in a panic has been printed.
            let _ = thread.join();
        }
    }
}
