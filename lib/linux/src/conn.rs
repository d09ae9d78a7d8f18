use std::io::{self, IoSlice};
use std::net::{Shutdown, TcpStream};

use mem::{MbufQueue, Pool};
use sys::epoll::Interest;
use sys::socket;
use units::Nanos;
use zygix::{Next, Peer, SEND_MARK, TcpOption};

/// Unconsumed bytes kept for a connection before its socket is left unread: what a receive window would be.
pub(crate) const RECV_CAP: usize = 256 * 1024;

/// Parts handed to one `send`.
const PARTS: usize = 64;

/// A kept buffer larger than this is given back when it has emptied.
const KEEP: usize = 4096;

/// One connection.
pub(crate) struct Conn<C> {
    pub(crate) stream: TcpStream,
    pub(crate) peer: Peer,
    /// The application's state.
    pub(crate) state: C,
    /// Received, not consumed by the handler: shown again, first.
    pub(crate) rx: Vec<u8>,
    /// Written by the handler, not taken by the socket.
    tx: Vec<u8>,
    /// Bytes of `tx` that the socket has taken meanwhile.
    sent: usize,
    /// Call `recv` at this many unconsumed bytes.
    pub(crate) want: usize,
    /// What a close does about data that is not acknowledged ([`TcpOption::Linger`]).
    pub(crate) linger: Option<Nanos>,
    /// When the handler is owed its `timer`, or a close is given up.
    pub(crate) deadline: Option<Nanos>,
    /// The deadline that the timers know.
    pub(crate) filed: Option<Nanos>,
    /// What epoll watches for; `None` when it does not know the socket.
    pub(crate) watched: Option<Interest>,
    /// Opened from here, and the handshake is not over.
    pub(crate) connecting: bool,
    /// The socket may hold bytes, or the peer's end, that no event will tell again (of use where events are edges).
    pub(crate) unread: bool,
    /// The peer is known or suspected to have finished: behind the last byte its end may wait.
    pub(crate) ended: bool,
    /// The handler wants no `recv` until resumed.
    pub(crate) paused: bool,
    /// The peer has finished.
    pub(crate) fin: bool,
    /// More than the mark was unsent: the handler is owed a call when it no longer is.
    pub(crate) over: bool,
    /// The handler lacked room: it is owed a call when there is some.
    pub(crate) lacked: bool,
    /// A call is due before the next wait, without an event.
    pub(crate) again: bool,
    /// Half-close asked for; done when all is sent.
    pub(crate) shutdown: bool,
    shut: bool,
    /// Close when all is sent.
    pub(crate) closing: bool,
}

impl<C> Conn<C> {
    pub(crate) fn new(stream: TcpStream, peer: Peer, state: C, connecting: bool) -> Conn<C> {
        Conn {
            stream,
            peer,
            state,
            rx: Vec::new(),
            tx: Vec::new(),
            sent: 0,
            want: 1,
            linger: None,
            deadline: None,
            filed: None,
            watched: None,
            connecting,
            unread: false,
            ended: false,
            paused: false,
            fin: false,
            over: false,
            lacked: false,
            again: false,
            shutdown: false,
            shut: false,
            closing: false,
        }
    }

    /// Bytes that the peer has yet to take.
    pub(crate) fn unsent(&self) -> usize {
        self.tx.len() - self.sent
    }

    /// Whether everything is sent that will ever be, and everything received.
    pub(crate) fn finished(&self) -> bool {
        self.fin && self.shut && !self.paused && !self.again
    }

    /// Whether the socket is to be read.
    pub(crate) fn reads(&self) -> bool {
        !self.paused
            && !self.fin
            && !self.closing
            && !self.connecting
            && self.rx.len() < RECV_CAP
            && self.unsent() <= SEND_MARK
    }

    pub(crate) fn interest(&self) -> Interest {
        Interest::READ.when(self.reads()).and(Interest::WRITE.when(self.connecting || self.unsent() > 0))
    }

    /// Sets an option of the socket. One that is gone reports it at the next read.
    #[cold]
    pub(crate) fn set_option(&mut self, option: TcpOption) {
        let _ = match option {
            TcpOption::NoDelay(on) => self.stream.set_nodelay(on),
            TcpOption::Cork(on) => socket::set_cork(&self.stream, on),
            TcpOption::UserTimeout(after) => socket::set_user_timeout(&self.stream, after),
            // SO_LINGER would have close(2) wait.
            TcpOption::Linger(after) => {
                self.linger = after;
                Ok(())
            }
        };
    }

    /// Ends the socket as an ordinary close does, and as [`TcpOption::Linger`] says.
    pub(crate) fn close(stream: TcpStream, linger: Option<Nanos>) {
        match linger {
            Some(Nanos::ZERO) => socket::abort(stream),
            Some(_) => {
                let _ = socket::set_user_timeout(&stream, linger);
            }
            None => {}
        }
    }

    /// Takes over what the handler answered. A pause ends by a resume only, whatever other handlers answer meanwhile.
    pub(crate) fn follow(&mut self, next: Next) {
        self.want = 1;
        match next {
            Next::Read => {}
            Next::AtLeast(n) => self.want = n.clamp(1, RECV_CAP),
            Next::Pause => self.paused = true,
            Next::Close | Next::Abort => self.closing = true,
        }
    }

    /// Keeps what follows the first `skip` bytes of `queue` as the unconsumed bytes.
    pub(crate) fn keep(&mut self, queue: &MbufQueue, skip: usize) {
        let left = queue.bytes() as usize - skip;
        if left == 0 && self.rx.capacity() > KEEP {
            self.rx = Vec::new();
        }
        self.rx.resize(left, 0);
        queue.copy_to(skip as u32, &mut self.rx);
    }

    /// Sends what was left from before, then `out`; keeps what the socket does not take. Returns bytes sent.
    pub(crate) fn send(&mut self, out: &mut MbufQueue, pool: &mut Pool) -> io::Result<usize> {
        let mut total = self.flush()?;
        while self.unsent() == 0 && out.bytes() > 0 {
            let n = {
                let mut parts = [IoSlice::new(&[]); PARTS];
                let mut count = 0;
                for (part, mbuf) in parts.iter_mut().zip(out.iter()) {
                    *part = IoSlice::new(mbuf);
                    count += 1;
                }
                taken(socket::send(&self.stream, &parts[..count]))?
            };
            out.consume(n as u32, Some(pool));
            total += n;
            if n == 0 {
                break;
            }
        }
        while let Some(mbuf) = out.pop_front() {
            self.tx.extend_from_slice(&mbuf);
            pool.free(mbuf);
        }
        if self.unsent() == 0 {
            self.shut_if_asked();
        }
        Ok(total)
    }

    /// Sends what was left from before. Returns bytes sent.
    fn flush(&mut self) -> io::Result<usize> {
        if self.unsent() == 0 {
            return Ok(0);
        }
        let n = taken(socket::send(&self.stream, &[IoSlice::new(&self.tx[self.sent..])]))?;
        self.sent += n;
        if self.sent == self.tx.len() {
            self.tx.clear();
            self.sent = 0;
            if self.tx.capacity() > KEEP {
                self.tx = Vec::new();
            }
        } else if self.sent > SEND_MARK {
            self.tx.drain(..self.sent);
            self.sent = 0;
        }
        Ok(n)
    }

    fn shut_if_asked(&mut self) {
        if self.shutdown && !self.shut {
            self.shut = true;
            // A socket that is already gone reports it at the next read.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }
}

fn taken(r: io::Result<usize>) -> io::Result<usize> {
    match r {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock || e.kind() == io::ErrorKind::Interrupted => Ok(0),
        r => r,
    }
}
