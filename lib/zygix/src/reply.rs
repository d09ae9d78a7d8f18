use mem::{Mbuf, MbufQueue, Pool};

use crate::RxBuf;

/// Above this many unsent bytes a connection's `recv` is not called: 64 KiB (thesis section 2.3.2, libix's pending cap).
pub const SEND_MARK: usize = 64 * 1024;

/// A connection never holds more unsent bytes than this, so a call of `recv` finds at least `SEND_CAP - SEND_MARK` bytes of room.
pub const SEND_CAP: usize = 2 * SEND_MARK;

/// A filled transmit buffer: it is sent from where it lies.
#[derive(Debug)]
pub struct TxBuf(pub(crate) Mbuf);

impl From<RxBuf> for TxBuf {
    fn from(rx: RxBuf) -> TxBuf {
        TxBuf(rx.0)
    }
}

/// What a handler answers: written straight into transmit buffers of the executing core.
///
/// Room is bounded, per connection by [`SEND_CAP`] and by the core's pool. A handler that needs more than it has
/// stops consuming and returns; it is called again when there is room.
pub struct Reply<'a> {
    out: &'a mut MbufQueue,
    pool: &'a mut Pool,
    room: usize,
    starved: bool,
    shutdown: bool,
}

impl<'a> Reply<'a> {
    /// Collects into `out`, from `pool`, at most `room` bytes. For backends and tests.
    pub fn new(out: &'a mut MbufQueue, pool: &'a mut Pool, room: usize) -> Reply<'a> {
        Reply { out, pool, room, starved: false, shutdown: false }
    }

    /// Bytes that may still be written in this call.
    pub fn room(&self) -> usize {
        let tail = self.out.back().map_or(0, |m| m.tailroom());
        self.room.min(tail + self.pool.available() * self.pool.capacity())
    }

    /// Whether `n` more bytes may be written. If not, the handler is called again once room has grown, even when
    /// nothing more is received. Ask for at most `SEND_CAP - SEND_MARK` bytes: more may never be granted.
    #[inline]
    pub fn reserve(&mut self, n: usize) -> bool {
        let enough = n <= self.room();
        self.starved |= !enough;
        enough
    }

    /// Appends `bytes`, as many as there is room for; returns how many that were.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let mut left = &bytes[..bytes.len().min(self.room)];
        let mut wrote = 0;
        if let Some(mut tail) = self.out.back_mut() {
            wrote = tail.extend(left);
            left = &left[wrote..];
        }
        while !left.is_empty() {
            let Some(mut fresh) = self.pool.alloc() else { break };
            let took = fresh.extend(left);
            left = &left[took..];
            wrote += took;
            self.out.push_back(fresh);
        }
        self.room -= wrote;
        self.starved |= wrote < bytes.len();
        wrote
    }

    /// Lets `fill` write up to `n` bytes in place and say how many it wrote. `n` must fit one buffer (2 KiB);
    /// returns whether there was room (`fill` is not called otherwise).
    pub fn write_with(&mut self, n: usize, fill: impl FnOnce(&mut [u8]) -> usize) -> bool {
        if n > self.room || n > self.pool.capacity() {
            self.starved = true;
            return false;
        }
        if self.out.back().is_none_or(|m| m.tailroom() < n) {
            let Some(fresh) = self.pool.alloc() else {
                self.starved = true;
                return false;
            };
            self.out.push_back(fresh);
        }
        let Some(mut tail) = self.out.back_mut() else { return false };
        let wrote = fill(&mut tail.spare_mut()[..n]).min(n);
        tail.grow(wrote);
        self.room -= wrote;
        true
    }

    /// Appends a whole buffer without copying it; gives it back when there is no room.
    pub fn send(&mut self, buf: impl Into<TxBuf>) -> Result<(), TxBuf> {
        let buf = buf.into();
        if buf.0.len() > self.room {
            self.starved = true;
            return Err(buf);
        }
        self.room -= buf.0.len();
        self.out.push_back(buf.0);
        Ok(())
    }

    /// Says that nothing will be sent after this (half-close); receiving goes on.
    pub fn shutdown(&mut self) {
        self.shutdown = true;
    }

    /// Whether the handler wanted more room than there was. For backends.
    pub fn starved(&self) -> bool {
        self.starved
    }

    /// Whether the handler asked for a half-close. For backends.
    pub fn is_shutdown(&self) -> bool {
        self.shutdown
    }

    /// The pool that replies are made from, for [`Received::take`](crate::Received::take).
    pub fn pool(&mut self) -> &mut Pool {
        self.pool
    }
}
