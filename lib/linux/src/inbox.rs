use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use abi::Handle;
use sys::SysError;
use sys::wait::EventFd;
use zygix::ConnRef;

/// What another thread asks of the thread that owns a connection.
pub(crate) enum Mail<M> {
    Resume(Handle),
    Message(Handle, M),
}

/// Where it is put: unbounded, since whoever posts could as well keep it; with a mutex, since it is rare.
pub(crate) struct Inbox<M> {
    mail: Mutex<Vec<Mail<M>>>,
    pub(crate) bell: EventFd,
}

impl<M> Inbox<M> {
    pub(crate) fn new() -> Result<Inbox<M>, SysError> {
        Ok(Inbox { mail: Mutex::new(Vec::new()), bell: EventFd::new()? })
    }

    pub(crate) fn post(&self, mail: Mail<M>) {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner).push(mail);
        self.bell.ring();
    }

    /// Everything posted since the last call.
    pub(crate) fn take(&self) -> Vec<Mail<M>> {
        self.bell.take();
        mem::take(&mut *self.mail.lock().unwrap_or_else(PoisonError::into_inner))
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
        // A reference of another backend names nothing here.
        if let Some(inbox) = self.0.get(who.group().index()) {
            inbox.post(mail(who));
        }
    }
}
