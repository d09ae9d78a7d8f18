use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use abi::{Command, LINE_MAX, Refusal, Reply};
use sys::wait::EventFd;
use units::Nanos;

use crate::orders::Orders;

/// Who can be at the door at once.
const CLIENTS: usize = 16;
/// Who does not read an answer for so long is thrown out.
const PATIENCE: Nanos = Nanos::from_secs(5);
/// How often somebody is looked after who does not read.
const LOOK: Nanos = Nanos::from_millis(10);

/// Everybody at the door.
pub(crate) struct Clients {
    listener: UnixListener,
    page: OwnedFd,
    orders: Orders,
    clients: Vec<Client>,
}

struct Client {
    socket: UnixStream,
    /// At most [`LINE_MAX`] bytes.
    input: Vec<u8>,
    /// An answer, of which `sent` bytes have gone. While there is one nothing is read, so that nobody piles them up.
    output: Vec<u8>,
    sent: usize,
    /// The page goes with it.
    with_page: bool,
    since: Nanos,
    /// It is to go once it has been answered.
    leaves: bool,
}

impl Clients {
    pub(crate) fn new(listener: UnixListener, page: OwnedFd, orders: Orders) -> Clients {
        Clients { listener, page, orders, clients: Vec::new() }
    }

    /// Answers until it is to end.
    pub(crate) fn run(&mut self, bell: &EventFd, ended: impl Fn() -> bool) {
        while !ended() {
            self.wait(bell);
            self.let_in();
            // One command of each in turn: nobody can keep the others waiting for longer than theirs take.
            for i in 0..self.clients.len() {
                if ended() {
                    return;
                }
                let keep = self.attend(i);
                self.clients[i].leaves |= !keep;
            }
            self.clients.retain(|c| !c.leaves || !c.output.is_empty());
        }
    }

    fn wait(&self, bell: &EventFd) {
        let mut fds = vec![bell.as_raw_fd(), self.listener.as_raw_fd()];
        fds.extend(self.clients.iter().filter(|c| c.output.is_empty()).map(|c| c.socket.as_raw_fd()));
        let timeout = if self.clients.iter().any(|c| c.has_line() && c.output.is_empty()) {
            Nanos::ZERO
        } else if fds.len() < 2 + self.clients.len() {
            LOOK
        } else {
            Nanos::MAX
        };
        if sys::wait::readable(&fds, timeout).is_err() {
            std::thread::sleep(LOOK.duration());
        }
    }

    fn let_in(&mut self) {
        loop {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                // Descriptors may have run out, and whoever knocks goes on doing so: not in a circle as fast as it goes.
                Err(_) => return std::thread::sleep(LOOK.duration()),
            };
            if socket.set_nonblocking(true).is_err() {
                continue;
            }
            let mut client = Client::new(socket);
            if self.clients.len() >= CLIENTS {
                client.answer(&refusal("busy", format!("{CLIENTS} others are at the door; try again later")));
                // A new socket has room for a line.
                let _ = client.send(&self.page);
                continue;
            }
            self.clients.push(client);
        }
    }

    /// One step for a client: sends what is left of an answer, or takes a command. False: it has gone, or is to go.
    fn attend(&mut self, i: usize) -> bool {
        let client = &mut self.clients[i];
        if client.output.is_empty() && !client.leaves {
            let Some(open) = client.receive() else { return false };
            let Some(line) = client.line() else { return open };
            let reply = match serde_json::from_slice::<Command>(&line) {
                Ok(command) => {
                    client.with_page = command == Command::Hello;
                    self.orders.carry_out(&command)
                }
                Err(e) => refusal("bad-command", format!("this is no command: {e}")),
            };
            self.clients[i].answer(&reply);
        }
        let client = &mut self.clients[i];
        match client.send(&self.page) {
            Ok(()) => true,
            Err(()) => {
                client.output.clear();
                false
            }
        }
    }
}

impl Client {
    fn new(socket: UnixStream) -> Client {
        let (input, output) = (Vec::with_capacity(LINE_MAX), Vec::new());
        Client { socket, input, output, sent: 0, with_page: false, since: Nanos::ZERO, leaves: false }
    }

    fn has_line(&self) -> bool {
        self.input.contains(&b'\n')
    }

    /// Takes what has come, up to a line's length. `None`: nobody is there any more, or a line has no end, which is answered.
    fn receive(&mut self) -> Option<bool> {
        let mut piece = [0; LINE_MAX];
        while self.input.len() < LINE_MAX {
            let room = LINE_MAX - self.input.len();
            match self.socket.read(&mut piece[..room]) {
                // What was asked before the end is answered.
                Ok(0) => return self.has_line().then_some(false),
                Ok(n) => self.input.extend_from_slice(&piece[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        if self.input.len() >= LINE_MAX && !self.has_line() {
            self.input.clear();
            self.leaves = true;
            self.answer(&refusal("bad-command", format!("a command has {LINE_MAX} bytes at most")));
        }
        Some(true)
    }

    fn line(&mut self) -> Option<Vec<u8>> {
        let end = self.input.iter().position(|b| *b == b'\n')?;
        Some(self.input.drain(..=end).collect())
    }

    fn answer(&mut self, reply: &Reply) {
        // Maps with keys of text and numbers: this cannot fail, and a client that gets an empty line sees that something is wrong.
        self.output = serde_json::to_vec(reply).unwrap_or_default();
        self.output.push(b'\n');
        (self.sent, self.since) = (0, sys::clock::now());
    }

    /// Sends what goes. `Err`: it is not there any more, or does not read.
    fn send(&mut self, page: &OwnedFd) -> Result<(), ()> {
        while self.sent < self.output.len() {
            let rest = &self.output[self.sent..];
            let sent = if self.with_page && self.sent == 0 {
                sys::unix::send_fds(&self.socket, rest, &[page.as_fd()]).map_err(|e| e.cause.kind())
            } else {
                self.socket.write(rest).map_err(|e| e.kind())
            };
            match sent {
                Ok(n) => self.sent += n,
                Err(ErrorKind::WouldBlock) if sys::clock::now() - self.since < PATIENCE => return Ok(()),
                Err(ErrorKind::Interrupted) => {}
                Err(_) => return Err(()),
            }
        }
        self.output.clear();
        self.with_page = false;
        Ok(())
    }
}

fn refusal(code: &str, text: String) -> Reply {
    Reply::Error(Refusal { code: code.into(), text })
}
