use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use abi::{Answer, Command, Reply};

use crate::AttachError;

/// A command may move flow groups, which waits for the cores at most some hundred milliseconds per core.
const PATIENCE: Duration = Duration::from_secs(10);
/// Who does not say who it is in this time counts as unwilling.
pub(crate) const HELLO_PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of an answer at most. A dump of 128 cores has about 300 KB.
const ANSWER_MAX: usize = 4 << 20;

/// A connection to a dataplane's door.
#[derive(Debug)]
pub(crate) struct Link {
    socket: UnixStream,
    /// An answer did not come, and may come yet: what comes from now on answers nobody knows what.
    broken: bool,
}

impl Link {
    pub(crate) fn to(socket: &Path) -> io::Result<Link> {
        let socket = UnixStream::connect(socket)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Link { socket, broken: false })
    }

    /// Asks, and waits for the answer; with it come descriptors, if any.
    pub(crate) fn ask(
        &mut self,
        command: &Command,
        patience: Option<Duration>,
    ) -> Result<(Answer, Vec<OwnedFd>), AttachError> {
        if self.broken {
            return Err(AttachError::Gone("it failed to answer before; attach anew".into()));
        }
        let until = Instant::now() + patience.unwrap_or(PATIENCE);
        let mut line = serde_json::to_vec(command).map_err(|e| AttachError::Protocol(e.to_string()))?;
        line.push(b'\n');
        self.broken = true;
        self.socket.write_all(&line).map_err(gone)?;
        let (line, fds) = self.line(until)?;
        self.broken = false;
        match serde_json::from_slice(&line) {
            Ok(Reply::Ok(answer)) => Ok((answer, fds)),
            Ok(Reply::Error(refusal)) => Err(AttachError::Refused(refusal)),
            Err(e) => Err(AttachError::Protocol(e.to_string())),
        }
    }

    /// Whether the other end has closed it, and so ended or thrown us out.
    pub(crate) fn is_closed(&self) -> bool {
        use std::os::fd::AsRawFd;
        if self.broken {
            return self.ends();
        }
        // Nothing is sent without being asked for: what is readable now is the end.
        sys::wait::readable(&[self.socket.as_raw_fd()], units::Nanos::ZERO).is_ok_and(|ready| ready != 0)
    }

    /// Whether nothing but the end comes yet, after an answer that is too late.
    fn ends(&self) -> bool {
        let (mut socket, mut piece) = (&self.socket, [0; 4096]);
        // Nobody asks over a broken link again: it need not wait any more.
        let _ = socket.set_nonblocking(true);
        loop {
            match socket.read(&mut piece) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return e.kind() != ErrorKind::WouldBlock,
            }
        }
    }

    fn line(&self, until: Instant) -> Result<(Vec<u8>, Vec<OwnedFd>), AttachError> {
        let (mut line, mut fds, mut piece) = (Vec::new(), Vec::new(), [0; 16 * 1024]);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(AttachError::Silent);
            }
            self.socket.set_read_timeout(Some(left)).map_err(gone)?;
            let (n, came) = match sys::unix::recv_fds(&self.socket, &mut piece) {
                Ok(got) => got,
                Err(e) if e.cause.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(gone(e.cause)),
            };
            fds.extend(came);
            line.extend_from_slice(&piece[..n]);
            if n == 0 {
                return Err(AttachError::Gone("it has closed the connection".into()));
            }
            if line.ends_with(b"\n") {
                return Ok((line, fds));
            }
            if line.len() > ANSWER_MAX {
                return Err(AttachError::Protocol("its answer has no end".into()));
            }
        }
    }
}

fn gone(cause: io::Error) -> AttachError {
    match cause.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => AttachError::Silent,
        _ => AttachError::Gone(cause.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_comes_too_late_is_not_the_end() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut link = Link { socket: near, broken: false };
        assert!(!link.is_closed());
        let soon = Some(Duration::from_millis(1));
        assert!(matches!(link.ask(&Command::Groups, soon), Err(AttachError::Silent)));
        far.write_all(b"{\"ok\":").unwrap();
        assert!(!link.is_closed() && !link.is_closed());
        assert!(matches!(link.ask(&Command::Groups, soon), Err(AttachError::Gone(_))));
        drop(far);
        assert!(link.is_closed());
    }
}
