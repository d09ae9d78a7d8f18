//! Route netlink (rtnetlink(7)): requests built byte by byte, answers read attribute by attribute. Cold path: allocates.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::{SysError, check, owned};

const HEADER: usize = 16;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const EXT_ACK_MESSAGE: u16 = 1;

/// A request in the making: a message header, a fixed body, then attributes.
#[derive(Debug)]
pub struct Request {
    bytes: Vec<u8>,
    call: &'static str,
}

impl Request {
    /// A request of this type (RTM_*) with flags (NLM_F_*; request and acknowledgment are added). `call` is its name in
    /// errors.
    pub fn new(call: &'static str, kind: u16, flags: i32) -> Request {
        let flags = (flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        Request { bytes, call }
    }

    /// Appends part of the fixed body.
    #[must_use]
    pub fn body(mut self, bytes: &[u8]) -> Request {
        self.bytes.extend(bytes);
        self
    }

    /// Appends an attribute.
    #[must_use]
    pub fn attr(mut self, kind: u16, value: &[u8]) -> Request {
        self.bytes.extend((4 + value.len() as u16).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// Appends an attribute that contains what `inside` appends.
    #[must_use]
    pub fn nest(mut self, kind: u16, inside: impl FnOnce(Request) -> Request) -> Request {
        let start = self.bytes.len();
        self = inside(self.attr(kind, &[]));
        let len = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self
    }

    /// Sends the request in the calling thread's network namespace and returns the bodies of the answers.
    ///
    /// # Errors
    /// The kernel's, with its own words where it gives some.
    pub fn send(mut self) -> Result<Vec<Vec<u8>>, SysError> {
        let len = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&len.to_ne_bytes());
        let socket = socket()?;
        // SAFETY: a live buffer of the length passed.
        let n = unsafe { libc::send(socket.as_raw_fd(), self.bytes.as_ptr().cast(), self.bytes.len(), 0) };
        check(n as i64, self.call)?;
        let mut answers = Vec::new();
        let mut buffer = vec![0u8; 1 << 16];
        loop {
            // SAFETY: a live buffer of the length passed.
            let n = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            let mut rest = &buffer[..check(n as i64, self.call)? as usize];
            while let Some((kind, body, next)) = message(rest) {
                match kind {
                    ERROR => return outcome(body, self.call).map(|()| answers),
                    DONE => return Ok(answers),
                    _ => answers.push(body.to_vec()),
                }
                rest = next;
            }
        }
    }
}

fn socket() -> Result<OwnedFd, SysError> {
    // SAFETY: takes integers only.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE) };
    let fd = owned(fd, "socket(AF_NETLINK)")?;
    for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
        let on: libc::c_int = 1;
        // SAFETY: a live integer of the size passed. Older kernels refuse; then errors have no words.
        unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_NETLINK, option, (&raw const on).cast(), 4) };
    }
    Ok(fd)
}

/// The first message of a datagram: its type, its body, and what follows.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let len = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let body = bytes.get(HEADER..len)?;
    Some((kind, body, bytes.get(len.next_multiple_of(4)..).unwrap_or(&[])))
}

/// The body of an NLMSG_ERROR: 0 is the acknowledgment.
fn outcome(body: &[u8], call: &'static str) -> Result<(), SysError> {
    let code = body.first_chunk().map_or(-libc::EPROTO, |c| i32::from_ne_bytes(*c));
    if code == 0 {
        return Ok(());
    }
    let error = SysError::new(call, io::Error::from_raw_os_error(-code));
    // The code, the offending header (capped), then the extended acknowledgment.
    let words = attrs(body.get(4 + HEADER..).unwrap_or(&[])).find(|(kind, _)| *kind == EXT_ACK_MESSAGE);
    Err(match words {
        Some((_, text)) => error.on(String::from_utf8_lossy(text).trim_end_matches('\0')),
        None => error,
    })
}

/// The attributes in `bytes`: (type without flag bits, value). Ends at the first that does not fit.
pub fn attrs(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?);
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind & 0x3fff, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_nest_and_are_padded() {
        let request = Request::new("test", 16, 0).nest(18, |r| r.attr(1, b"veth\0").attr(2, &[9]));
        let found: Vec<(u16, &[u8])> = attrs(&request.bytes[HEADER..]).collect();
        assert_eq!(found.len(), 1);
        let inner: Vec<(u16, &[u8])> = attrs(found[0].1).collect();
        assert_eq!(inner, [(1, &b"veth\0"[..]), (2, &[9][..])]);
        assert_eq!(request.bytes.len() % 4, 0);
    }

    #[test]
    fn broken_answers_end_quietly() {
        assert_eq!(attrs(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(attrs(&[200, 0, 1, 0, 5]).count(), 0);
        assert!(message(&[0xff; 16]).is_none() && message(&[1, 2]).is_none());
        assert_eq!(outcome(&[], "test").unwrap_err().errno(), Some(libc::EPROTO));
    }
}
