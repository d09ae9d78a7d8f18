//! Bulk through Linux sockets, from the client's side: every byte accounted for, bounded in bytes and in time.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use echo::{Digest, pattern};
use sys::clock;
use units::Nanos;

use super::{Bounds, Direction, Moved};
use crate::Interrupted;

/// Bytes written or read at once.
const PIECE: usize = 256 << 10;
/// How long a call may block before it is asked whether to go on.
const GLANCE: Duration = Duration::from_millis(50);
/// A transfer in which nothing moves for so long has failed.
const PATIENCE: Nanos = Nanos::from_secs(20);

/// A transfer over a new connection to `addr`, which Linux's `congestion` controls. `count` follows the bytes, for whoever watches.
///
/// # Errors
/// [`Interrupted`]; refused, reset, stalled.
pub(super) fn transfer(
    addr: SocketAddr,
    direction: Direction,
    bounds: Bounds,
    congestion: &str,
    count: &AtomicU64,
) -> Result<Moved> {
    let stream = TcpStream::connect_timeout(&addr, Duration::from_secs(10)).with_context(|| format!("{addr}"))?;
    stream.set_read_timeout(Some(GLANCE))?;
    stream.set_write_timeout(Some(GLANCE))?;
    sys::socket::set_congestion(&stream, congestion).with_context(|| format!("congestion control {congestion}"))?;
    match direction {
        Direction::Up => up(stream, bounds, count),
        Direction::Down => down(stream, bounds, count),
    }
}

/// Bytes of the pattern that the server digests. Time runs until it has said so.
fn up(mut stream: TcpStream, bounds: Bounds, count: &AtomicU64) -> Result<Moved> {
    let mut watch = Watch::new();
    let mut piece = vec![0; PIECE];
    let mut sent = 0;
    while sent < bounds.bytes && watch.elapsed() < bounds.span {
        let n = (bounds.bytes - sent).min(PIECE as u64) as usize;
        pattern(sent, &mut piece[..n]);
        let mut left = &piece[..n];
        // What of a piece is not taken when time is up is made anew by nobody: the digest is of what was sent.
        while !left.is_empty() && watch.elapsed() < bounds.span {
            if let Some(wrote) = watch.moved(stream.write(left))? {
                left = &left[wrote..];
                sent += wrote as u64;
                count.store(sent, Relaxed);
            }
        }
    }
    stream.shutdown(Shutdown::Write)?;
    let mut told = Vec::new();
    let mut some = [0; 64];
    loop {
        match watch.moved(stream.read(&mut some))? {
            Some(0) => break,
            Some(n) => told.extend_from_slice(&some[..n]),
            None => {}
        }
        if told.len() > 64 {
            bail!("the server answers nonsense");
        }
    }
    let took = watch.elapsed();
    let intact = told == answer(sent).into_bytes();
    Ok(Moved { bytes: sent, took, intact })
}

/// Bytes of the pattern from the server, digested here. When time is up the connection is reset.
fn down(mut stream: TcpStream, bounds: Bounds, count: &AtomicU64) -> Result<Moved> {
    let mut watch = Watch::new();
    stream.write_all(format!("{}\n", bounds.bytes).as_bytes())?;
    let mut piece = vec![0; PIECE];
    let mut digest = Digest::new();
    let mut ended = false;
    while !ended && watch.elapsed() < bounds.span {
        if let Some(n) = watch.moved(stream.read(&mut piece))? {
            digest.update(&piece[..n]);
            count.store(digest.count(), Relaxed);
            ended = n == 0;
        }
    }
    let took = watch.elapsed();
    if !ended {
        sys::socket::abort(stream);
    }
    let whole = !ended || digest.count() == bounds.bytes;
    Ok(Moved { bytes: digest.count(), took, intact: whole && digest == expected(digest.count()) })
}

/// The digest of the first `bytes` of the pattern. About 0.4 s for a gigabyte.
pub(super) fn expected(bytes: u64) -> Digest {
    let mut digest = Digest::new();
    let mut piece = vec![0; PIECE];
    while digest.count() < bytes {
        let n = (bytes - digest.count()).min(PIECE as u64) as usize;
        pattern(digest.count(), &mut piece[..n]);
        digest.update(&piece[..n]);
    }
    digest
}

/// What the server says of the first `bytes` of the pattern.
pub(super) fn answer(bytes: u64) -> String {
    format!("{bytes} {:016x}\n", expected(bytes).finish())
}

/// When it began, and when something moved last.
struct Watch {
    began: Nanos,
    last: Nanos,
}

impl Watch {
    fn new() -> Watch {
        let now = clock::now();
        Watch { began: now, last: now }
    }

    fn elapsed(&self) -> Nanos {
        clock::now() - self.began
    }

    /// What a call has moved; `None` if it only waited.
    fn moved(&mut self, done: std::io::Result<usize>) -> Result<Option<usize>> {
        if sys::stop::requested() {
            return Err(Interrupted.into());
        }
        match done {
            Ok(n) => {
                self.last = clock::now();
                Ok(Some(n))
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {
                if clock::now() - self.last > PATIENCE {
                    bail!("nothing has moved for {} s", PATIENCE.as_secs_f64());
                }
                Ok(None)
            }
            Err(e) => Err(e).context("the connection is lost"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server that takes or gives so many bytes, of which one may be wrong.
    fn against(direction: Direction, bytes: u64, wrong: bool) -> Moved {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut got = Vec::new();
            match direction {
                Direction::Up => {
                    stream.read_to_end(&mut got).unwrap();
                    got[7] ^= u8::from(wrong);
                    let mut digest = Digest::new();
                    digest.update(&got);
                    writeln!(stream, "{} {:016x}", digest.count(), digest.finish()).unwrap();
                }
                Direction::Down => {
                    stream.read_exact(&mut [0; 7]).unwrap();
                    got.resize(bytes as usize, 0);
                    pattern(0, &mut got);
                    got[7] ^= u8::from(wrong);
                    stream.write_all(&got).unwrap();
                }
            }
        });
        let bounds = Bounds { bytes, span: Nanos::from_secs(60) };
        let moved = transfer(addr, direction, bounds, "reno", &AtomicU64::new(0)).unwrap();
        server.join().unwrap();
        moved
    }

    #[test]
    fn every_byte_is_accounted_for() {
        for direction in Direction::ALL {
            for wrong in [false, true] {
                let moved = against(direction, 999_999, wrong);
                assert_eq!((moved.bytes, moved.intact), (999_999, !wrong), "{direction:?}");
            }
        }
    }

    #[test]
    fn time_ends_what_has_no_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut piece = vec![0; 4096];
            for i in 0.. {
                pattern(i * 4096, &mut piece);
                if stream.write_all(&piece).is_err() {
                    return;
                }
            }
        });
        let bounds = Bounds { bytes: u64::MAX, span: Nanos::from_millis(50) };
        let moved = transfer(addr, Direction::Down, bounds, "reno", &AtomicU64::new(0)).unwrap();
        server.join().unwrap();
        assert!(moved.intact && moved.bytes > 0 && moved.took >= bounds.span);
    }
}
