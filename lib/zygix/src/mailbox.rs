//! How background threads reach a connection: never directly, but by a message to its home core.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use netstack::{PostError, Shared};

use crate::ConnRef;

/// The token that resumes a paused connection instead of carrying a message.
pub(crate) const RESUME: u64 = 0;

/// Messages under way, by token.
pub(crate) struct Messages<M> {
    waiting: Mutex<HashMap<u64, M>>,
    next: AtomicU64,
}

impl<M> Messages<M> {
    pub(crate) fn new() -> Messages<M> {
        Messages { waiting: Mutex::new(HashMap::new()), next: AtomicU64::new(RESUME + 1) }
    }

    pub(crate) fn take(&self, token: u64) -> Option<M> {
        self.lock().remove(&token)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, M>> {
        self.waiting.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Posts messages to connections, from any thread. Cheap to clone.
pub struct Mailbox<M> {
    shared: Arc<Shared>,
    messages: Arc<Messages<M>>,
}

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Mailbox<M> {
        Mailbox { shared: self.shared.clone(), messages: self.messages.clone() }
    }
}

impl<M: Send> Mailbox<M> {
    pub(crate) fn new(shared: Arc<Shared>, messages: Arc<Messages<M>>) -> Mailbox<M> {
        Mailbox { shared, messages }
    }

    /// Has `message` called with `msg` on the connection's core. A connection that has ended swallows it.
    ///
    /// # Errors
    /// Too many messages wait at that core; the message comes back.
    pub fn post(&self, to: ConnRef, msg: M) -> Result<(), (PostError, M)> {
        let token = self.messages.next.fetch_add(1, Ordering::Relaxed);
        self.messages.lock().insert(token, msg);
        match self.shared.post(to.0, token) {
            Ok(()) => Ok(()),
            Err(full) => match self.messages.take(token) {
                Some(msg) => Err((full, msg)),
                None => Ok(()),
            },
        }
    }

    /// Resumes a connection that answered [`Next::Pause`](crate::Next::Pause).
    ///
    /// # Errors
    /// Too many messages wait at its core.
    pub fn resume(&self, who: ConnRef) -> Result<(), PostError> {
        self.shared.post(who.0, RESUME)
    }
}
