use mem::{Iter, Mbuf, MbufQueue, Pool};

/// Received bytes that the application owns: copied out, so that they pin no receive buffer.
#[derive(Debug)]
pub struct RxBuf(pub(crate) Mbuf);

impl std::ops::Deref for RxBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// The unconsumed bytes of a connection, where the NIC put them.
///
/// Slices live as long as the call (`'a`), not as long as the borrow of this value: they stay good after
/// [`consume`](Received::consume). What the handler does not consume is shown again at the next call.
pub struct Received<'a> {
    /// What is left of the buffer that is being read.
    chunk: &'a [u8],
    rest: Iter<'a>,
    /// Room for items that straddle buffers; used up piece by piece, so that each peek may live for `'a`.
    scratch: &'a mut [u8],
    len: usize,
    consumed: usize,
    fin: bool,
}

impl<'a> Received<'a> {
    /// Shows the bytes of `queue`; `scratch` bounds what [`peek`](Received::peek) can join.
    ///
    /// `fin` says that the peer sends no more after these. For backends and tests.
    pub fn new(queue: &'a MbufQueue, fin: bool, scratch: &'a mut [u8]) -> Received<'a> {
        let len = queue.bytes() as usize;
        let mut rx = Received { chunk: &[], rest: queue.iter(), scratch, len, consumed: 0, fin };
        rx.next_chunk();
        rx
    }

    /// Unconsumed bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no bytes are left.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the peer has finished: nothing comes after [`len`](Received::len) bytes.
    #[inline]
    pub fn fin(&self) -> bool {
        self.fin
    }

    /// Bytes consumed in this call so far. For backends.
    pub fn consumed(&self) -> usize {
        self.consumed
    }

    /// The next bytes that lie together: not empty unless nothing is left.
    #[inline]
    pub fn chunk(&self) -> &'a [u8] {
        self.chunk
    }

    /// The next `n` bytes, or `None` when fewer are there or the call's scratch space cannot join them.
    ///
    /// Free when they lie together; otherwise they are copied once into scratch space, of which a call has
    /// 64 KiB. An item that may be longer is read chunk by chunk.
    #[inline]
    pub fn peek(&mut self, n: usize) -> Option<&'a [u8]> {
        if n <= self.chunk.len() {
            return Some(&self.chunk[..n]);
        }
        self.join(n)
    }

    #[cold]
    fn join(&mut self, n: usize) -> Option<&'a [u8]> {
        if n > self.len || n > self.scratch.len() {
            return None;
        }
        let (joined, left) = std::mem::take(&mut self.scratch).split_at_mut(n);
        self.scratch = left;
        let mut at = self.chunk.len();
        joined[..at].copy_from_slice(self.chunk);
        for part in self.rest.clone() {
            let take = part.len().min(n - at);
            joined[at..at + take].copy_from_slice(&part[..take]);
            at += take;
            if at == n {
                break;
            }
        }
        Some(joined)
    }

    /// Copies the next bytes into `out` without consuming them, across buffers; returns how many there were.
    ///
    /// For items that may straddle buffers in a stream that anyone may cut as finely as he likes: it needs no
    /// scratch space.
    pub fn copy_to(&self, out: &mut [u8]) -> usize {
        let mut at = self.chunk.len().min(out.len());
        out[..at].copy_from_slice(&self.chunk[..at]);
        for part in self.rest.clone() {
            if at == out.len() {
                break;
            }
            let take = part.len().min(out.len() - at);
            out[at..at + take].copy_from_slice(&part[..take]);
            at += take;
        }
        at
    }

    /// Marks the next `n` bytes as done; more than there are counts as all.
    #[inline]
    pub fn consume(&mut self, n: usize) {
        let mut n = n.min(self.len);
        self.len -= n;
        self.consumed += n;
        while n >= self.chunk.len() && n > 0 {
            n -= self.chunk.len();
            self.next_chunk();
        }
        self.chunk = &self.chunk[n..];
        if self.chunk.is_empty() && self.len > 0 {
            self.next_chunk();
        }
    }

    /// Takes up to `n` bytes out, as the application's own; fewer if a buffer holds fewer. `None` when no bytes
    /// are left or less than half of the core's buffers are free: who keeps what he took takes nothing from those who answer.
    pub fn take(&mut self, n: usize, pool: &mut Pool) -> Option<RxBuf> {
        let n = n.min(self.chunk.len());
        if n == 0 || 2 * pool.available() <= pool.count() {
            return None;
        }
        let mut own = pool.alloc()?;
        let took = own.extend(&self.chunk[..n]);
        self.consume(took);
        Some(RxBuf(own))
    }

    fn next_chunk(&mut self) {
        self.chunk = &[];
        for part in self.rest.by_ref() {
            if !part.is_empty() {
                self.chunk = part;
                return;
            }
        }
    }
}
