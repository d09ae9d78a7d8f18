use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use abi::Handle;
use sys::SysError;
use sys::wait::EventFd;
use zygix::ConnRef;

/// What another thread asks of a connection.
pub(crate) enum Mail<M> {
    Resume(Handle),
    Message(Handle, M),
}

/// Where it is put: unbounded, since whoever posts could as well keep it; with a mutex, since it is rare.
pub(crate) struct Inbox<M> {
    mail: Mutex<VecDeque<Mail<M>>>,
    pub(crate) bell: EventFd,
}

impl<M> Inbox<M> {
    pub(crate) fn new() -> Result<Inbox<M>, SysError> {
        Ok(Inbox { mail: Mutex::new(VecDeque::new()), bell: EventFd::new()? })
    }

    pub(crate) fn post(&self, mail: Mail<M>) {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner).push_back(mail);
        self.bell.ring();
    }

    /// Everything posted since the last call.
    pub(crate) fn take(&self) -> VecDeque<Mail<M>> {
        self.bell.take();
        mem::take(&mut *self.mail.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<M> Inbox<M> {
    /// The oldest mail through `sort`, of an inbox that several threads look after: whoever comes leaves the rest to the
    /// others, by ringing on. While `sort` runs nobody else takes any, so that mail is sorted in the order of posting.
    pub(crate) fn next<R>(&self, sort: impl FnOnce(Mail<M>) -> R) -> Option<R> {
        self.bell.take();
        let mut mail = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
        let first = mail.pop_front()?;
        if !mail.is_empty() {
            self.bell.ring();
        }
        Some(sort(first))
    }
}

/// Posts messages to connections, from any thread. Cheap to clone; outlives the threads it posts to.
pub struct Mailbox<M>(pub(crate) Arc<[Inbox<M>]>);

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Mailbox<M> {
        Mailbox(self.0.clone())
    }
}

impl<M: Send> Mailbox<M> {
    /// Has `message` called with `msg` on the connection's thread. A connection that has ended swallows it.
    pub fn post(&self, to: ConnRef, msg: M) {
        self.put(to, |who| Mail::Message(who, msg));
    }

    /// Resumes a connection that answered [`Next::Pause`](zygix::Next::Pause).
    pub fn resume(&self, who: ConnRef) {
        self.put(who, Mail::Resume);
    }

    fn put(&self, to: ConnRef, mail: impl FnOnce(Handle) -> Mail<M>) {
        let who = to.handle();
        // Partitioned: the inbox of the thread that owns it. Floating: all connections are in group 0, with one inbox.
        // A reference of another backend names nothing here.
        if let Some(inbox) = self.0.get(who.group().index()) {
            inbox.post(mail(who));
        }
    }
}
