//! The application's side of the gate: it is handed a batch, and answers with syscalls.

use abi::{Code, Cookie, Handle, Peer, Syscall, TcpOption, TxRange};
use mem::{MbufQueue, Pool};
use netstack::{Batch, Datagram, Entry};
use units::Nanos;

/// What runs between `dispatch` and `complete`: an application, or the library that one is written on.
pub trait App: Send {
    /// Called once, before the first turn, with an empty batch: the place for `connect`.
    fn start(&mut self, batch: &mut BatchView<'_>) {
        let _ = batch;
    }

    /// Consumes the event conditions of a batch and fills in its syscalls. One gate crossing for all of them.
    fn run(&mut self, batch: &mut BatchView<'_>);

    /// The batch's syscalls have been carried out, and [`Batch::returns`] says with what outcome.
    fn returned(&mut self, batch: &Batch) {
        let _ = batch;
    }

    /// The instant at which to be run even if no connection has news, with an empty batch: for applications that do things by
    /// the clock. Asked in every turn, so a plain value; it stays in the past until the application has moved it. [`Nanos::MAX`]: never.
    fn wake_at(&self) -> Nanos {
        Nanos::MAX
    }
}

/// A batch while the application has it.
pub struct BatchView<'a> {
    batch: &'a mut Batch,
    arena: &'a mut Pool,
    now: Nanos,
}

impl<'a> BatchView<'a> {
    /// A view of `batch`; `arena` is the executing thread's pool of transmit buffers.
    pub fn new(batch: &'a mut Batch, arena: &'a mut Pool, now: Nanos) -> BatchView<'a> {
        BatchView { batch, arena, now }
    }

    /// The instant at which the batch began.
    #[inline]
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// How many connections have news.
    #[inline]
    pub fn len(&self) -> usize {
        self.batch.entries().len()
    }

    /// Whether no connection has news (there may be datagrams).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A connection with news.
    #[inline]
    pub fn entry(&self, i: usize) -> &Entry {
        self.batch.entry(i)
    }

    /// A connection with news, beside the pool to answer from.
    #[inline]
    pub fn entry_and_arena(&mut self, i: usize) -> (&Entry, &mut Pool) {
        (self.batch.entry(i), self.arena)
    }

    /// Datagrams in the order of arrival, beside the pool to answer from.
    pub fn datagram_and_arena(&mut self, i: usize) -> Option<(&Datagram, &mut Pool)> {
        self.batch.datagrams().get(i).map(|d| (d, &mut *self.arena))
    }

    /// The whole batch, with the event conditions as the ABI lists them.
    pub fn batch(&self) -> &Batch {
        self.batch
    }

    /// The pool of transmit buffers of the executing thread.
    pub fn arena(&mut self) -> &mut Pool {
        self.arena
    }

    /// Accepts the knock of entry `i`, which may be written to from then on.
    ///
    /// # Errors
    /// [`Code::NoMem`]: the batch holds no more syscalls. So with all calls below.
    pub fn accept(&mut self, i: usize, cookie: Cookie) -> Result<(), Code> {
        let handle = self.batch.entry(i).handle;
        self.batch.call(Syscall::Accept { handle, cookie })?;
        self.batch.accepted(i, cookie);
        Ok(())
    }

    /// Sends of `queue` what the window of entry `i` admits, cutting a buffer in two if it must; the rest stays in `queue`.
    /// A `sent` will say when to come again if bytes are left, or if `more` says that there will be. Returns the bytes taken.
    pub fn sendv(&mut self, i: usize, queue: &mut MbufQueue, more: bool) -> Result<u32, Code> {
        let entry = self.batch.entry(i);
        let (handle, window) = (entry.handle, entry.window);
        let (mut sg, mut bytes) = self.batch.gather(queue, window);
        if bytes < window
            && !queue.is_empty()
            && let Some(mut part) = self.split(queue, window - bytes)
        {
            let (rest, len) = self.batch.gather(&mut part, window - bytes);
            sg.count += rest.count;
            bytes += len;
            // No room in the array: what was cut off goes back to where it was.
            queue.prepend(&mut part);
        }
        self.batch.used_window(i, bytes);
        self.batch.call(Syscall::Sendv { handle, sg, waiting: queue.bytes().max(u32::from(more)) })?;
        Ok(bytes)
    }

    /// Cuts the first `n` bytes off the queue's first buffer, by copying them.
    fn split(&mut self, queue: &mut MbufQueue, n: u32) -> Option<MbufQueue> {
        let mut part = self.arena.alloc()?;
        part.reset(0);
        let mut front = queue.front_mut()?;
        let n = (n as usize).min(part.capacity()).min(front.len());
        part.extend(&front[..n]);
        front.trim_front(n);
        Some(MbufQueue::from(part))
    }

    /// Advances the receive window of entry `i` past `bytes` and frees their buffers, once the batch is completed.
    pub fn recv_done(&mut self, i: usize, bytes: u32) -> Result<(), Code> {
        let handle = self.batch.entry(i).handle;
        self.batch.call(Syscall::RecvDone { handle, bytes })
    }

    /// Ends sending; receiving goes on.
    pub fn shutdown(&mut self, handle: Handle) -> Result<(), Code> {
        self.batch.call(Syscall::Shutdown { handle })
    }

    /// Closes.
    pub fn close(&mut self, handle: Handle) -> Result<(), Code> {
        self.batch.call(Syscall::Close { handle })
    }

    /// Resets.
    pub fn abort(&mut self, handle: Handle) -> Result<(), Code> {
        self.batch.call(Syscall::Abort { handle })
    }

    /// Sets an option of a connection.
    pub fn set_option(&mut self, handle: Handle, option: TcpOption) -> Result<(), Code> {
        self.batch.call(Syscall::SetOption { handle, option })
    }

    /// Sets the connection's deadline.
    pub fn timer(&mut self, handle: Handle, deadline: Nanos) -> Result<(), Code> {
        self.batch.call(Syscall::Timer { handle, deadline })
    }

    /// Opens a connection.
    pub fn connect(&mut self, cookie: Cookie, dst: std::net::SocketAddr) -> Result<(), Code> {
        self.batch.call(Syscall::Connect { cookie, dst })
    }

    /// Puts whole buffers into the scatter-gather array, for a syscall made by [`BatchView::raw`].
    pub fn gather(&mut self, queue: &mut MbufQueue) -> TxRange {
        self.batch.gather(queue, u32::MAX).0
    }

    /// Any syscall, as it stands: for libraries in other languages, whose arguments nobody has looked at yet.
    pub fn raw(&mut self, call: Syscall) -> Result<(), Code> {
        self.batch.call(call)
    }

    /// Sends all of `queue` as one datagram.
    pub fn udp_send(&mut self, peer: Peer, queue: &mut MbufQueue) -> Result<(), Code> {
        let (sg, _) = self.batch.gather(queue, u32::MAX);
        self.batch.call(Syscall::UdpSend { peer, sg })
    }
}
