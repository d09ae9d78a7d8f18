//! The load over the kernel's TCP sockets, as any client of the server would use them.

use std::io::{self, IoSlice, Read};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use sys::epoll::{Epoll, Events, Interest};
use sys::wait::EventFd;
use sys::{clock, socket};
use units::Nanos;

use crate::engine::{Engine, Wire};
use crate::spec::Hangup;
use crate::{LoadError, Spec};

/// Token of the bell that an order rings.
const BELL: u64 = u64::MAX;

/// How long a thread without an order sleeps, unless the bell rings.
const NAP: Nanos = Nanos::from_millis(500);

/// Bytes taken from a socket at once.
const READ: usize = 64 * 1024;

/// One thread's sockets.
pub(crate) struct Sockets {
    target: SocketAddr,
    local: Vec<IpAddr>,
    epoll: Epoll,
    links: Vec<Socket>,
}

#[derive(Default)]
struct Socket {
    stream: Option<TcpStream>,
    /// Counts the lives of this place: a report about a stream that is gone must not count for its successor.
    life: u32,
    connecting: bool,
    watches_room: bool,
}

impl Wire for Sockets {
    fn open(&mut self, link: usize) -> io::Result<()> {
        let local = self.local.get(link % self.local.len().max(1)).copied();
        let stream = socket::connect_from(local, self.target)?;
        let s = &mut self.links[link];
        s.life = s.life.wrapping_add(1);
        s.connecting = true;
        s.watches_room = true;
        self.epoll.add(&stream, token(link, s.life), Interest::READ.and(Interest::WRITE))?;
        s.stream = Some(stream);
        Ok(())
    }

    fn send(&mut self, link: usize, bytes: &[u8]) -> Option<usize> {
        let s = &mut self.links[link];
        let stream = s.stream.as_ref()?;
        let took = match socket::send(stream, &[IoSlice::new(bytes)]) {
            Ok(n) => n,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
            Err(_) => return None,
        };
        let full = took < bytes.len();
        if full != s.watches_room {
            s.watches_room = full;
            let what = Interest::READ.and(Interest::WRITE.when(full));
            self.epoll.modify(stream, token(link, s.life), what).ok()?;
        }
        Some(took)
    }

    fn close(&mut self, link: usize, how: Hangup) {
        let Some(stream) = self.links[link].stream.take() else { return };
        match how {
            Hangup::Fin => drop(stream),
            Hangup::Rst => socket::abort(stream),
        }
    }
}

fn token(link: usize, life: u32) -> u64 {
    u64::from(life) << 32 | link as u64
}

/// Runs `engine` on sockets until it has ended. A thread without a window sleeps until `bell`; with one it polls if `spin`, else the
/// kernel's timers decide when it wakes.
pub(crate) fn run(mut engine: Engine, bell: &Arc<EventFd>, spin: bool) -> Result<(), LoadError> {
    let links = (0..engine.links()).map(|_| Socket::default()).collect();
    let Spec { target, local, .. } = engine.spec().clone();
    let mut wire = Sockets { target, local, epoll: Epoll::new()?, links };
    wire.epoll.add(&**bell, BELL, Interest::READ)?;
    let mut events = Events::new(256);
    let mut buffer = vec![0; READ];
    while !engine.ended() {
        let now = clock::now();
        engine.turn(now, &mut wire);
        let timeout = match engine.working() && spin {
            true => Duration::ZERO,
            false => (engine.wake_at(now, NAP) - clock::now()).duration(),
        };
        wire.epoll.wait(&mut events, Some(timeout))?;
        if events.is_empty() {
            continue;
        }
        let now = clock::now();
        for i in 0..events.len() {
            let Some(ready) = events.get(i) else { break };
            if ready.token == BELL {
                bell.take();
                continue;
            }
            let link = ready.token as u32 as usize;
            if wire.links.get(link).is_some_and(|s| s.stream.is_some() && token(link, s.life) == ready.token) {
                serve(&mut engine, &mut wire, link, ready, &mut buffer, now);
            }
        }
    }
    Ok(())
}

/// A socket is ready.
fn serve(
    engine: &mut Engine,
    wire: &mut Sockets,
    link: usize,
    ready: sys::epoll::Ready,
    buffer: &mut [u8],
    now: Nanos,
) {
    let s = &mut wire.links[link];
    let Some(stream) = &mut s.stream else { return };
    if s.connecting {
        match stream.take_error() {
            Ok(None) if ready.writable() && !ready.broken() => {
                s.connecting = false;
                s.watches_room = false;
                // Fails only for want of memory; then the socket goes on reporting room, which costs time and nothing else.
                let _ = wire.epoll.modify(stream, ready.token, Interest::READ);
                engine.opened(link, now);
            }
            Ok(None) => {}
            Ok(Some(e)) | Err(e) => return lose(engine, wire, link, e, now),
        }
    }
    let s = &mut wire.links[link];
    let Some(stream) = &mut s.stream else { return };
    if ready.readable() && !s.connecting {
        let ended = match stream.read(buffer) {
            Ok(0) => Some(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) if engine.received(link, &buffer[..n], now) => None,
            Ok(_) => {
                // The engine has taken leave of it already.
                return wire.close(link, Hangup::Rst);
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => None,
            Err(e) => Some(e),
        };
        if let Some(cause) = ended {
            return lose(engine, wire, link, cause, now);
        }
    }
    if ready.writable() {
        engine.writable(link);
    }
}

#[cold]
fn lose(engine: &mut Engine, wire: &mut Sockets, link: usize, cause: io::Error, now: Nanos) {
    wire.close(link, Hangup::Rst);
    engine.closed(link, cause, now);
}
