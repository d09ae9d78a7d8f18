use std::mem;
use std::sync::{Mutex, PoisonError};

use abi::Handle;
use sys::SysError;
use sys::wait::EventFd;

/// What other threads ask of a thread: connections to resume, and to look at the stop flag. Rare, hence a mutex.
pub(crate) struct Inbox {
    resumes: Mutex<Vec<Handle>>,
    pub(crate) bell: EventFd,
}

impl Inbox {
    pub(crate) fn new() -> Result<Inbox, SysError> {
        Ok(Inbox { resumes: Mutex::new(Vec::new()), bell: EventFd::new()? })
    }

    /// Asks the owner to resume `who`.
    pub(crate) fn resume(&self, who: Handle) {
        self.resumes.lock().unwrap_or_else(PoisonError::into_inner).push(who);
        self.bell.ring();
    }

    /// Everything asked since the last call.
    pub(crate) fn take(&self) -> Vec<Handle> {
        self.bell.take();
        mem::take(&mut *self.resumes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
