use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// How long a line may wait to be taken by the other side.
const WRITE: Duration = Duration::from_secs(10);

/// Why there are no more lines.
#[derive(Debug)]
pub(crate) enum LineError {
    /// The other side has ended the connection.
    Closed,
    /// A line is longer than any that makes sense.
    TooLong(usize),
    /// A line is not UTF-8.
    NotText,
    /// The kernel says something else.
    Io(io::Error),
}

impl std::fmt::Display for LineError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LineError::Closed => f.write_str("the connection ended"),
            LineError::TooLong(limit) => write!(f, "a line of more than {limit} bytes"),
            LineError::NotText => f.write_str("a line that is not text"),
            LineError::Io(e) => write!(f, "{e}"),
        }
    }
}

/// A connection that carries lines.
pub(crate) struct Lines {
    stream: TcpStream,
    /// Received and not handed out; up to `looked` without a line's end.
    buffer: Vec<u8>,
    looked: usize,
    limit: usize,
}

impl Lines {
    /// Lines of at most `limit` bytes each.
    pub(crate) fn new(stream: TcpStream, limit: usize) -> io::Result<Lines> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(WRITE))?;
        Ok(Lines { stream, buffer: Vec::new(), looked: 0, limit })
    }

    /// The next line without its end, waiting for `patience` at most. `None`: none came.
    ///
    /// # Errors
    /// There will be no more.
    pub(crate) fn receive(&mut self, patience: Duration) -> Result<Option<String>, LineError> {
        let until = Instant::now() + patience;
        loop {
            if let Some(line) = self.take()? {
                return Ok(Some(line));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.fill(left)? {
                return Ok(None);
            }
        }
    }

    fn take(&mut self) -> Result<Option<String>, LineError> {
        let Some(end) = self.buffer[self.looked..].iter().position(|&b| b == b'\n').map(|i| i + self.looked) else {
            self.looked = self.buffer.len();
            return if self.looked > self.limit { Err(LineError::TooLong(self.limit)) } else { Ok(None) };
        };
        if end > self.limit {
            return Err(LineError::TooLong(self.limit));
        }
        let rest = self.buffer.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.buffer, rest);
        self.looked = 0;
        line.truncate(end);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        String::from_utf8(line).map(Some).map_err(|_| LineError::NotText)
    }

    /// Receives something; `false` if nothing came in time.
    fn fill(&mut self, patience: Duration) -> Result<bool, LineError> {
        self.stream.set_read_timeout(Some(patience)).map_err(LineError::Io)?;
        let mut piece = [0; 16 << 10];
        match self.stream.read(&mut piece) {
            Ok(0) => Err(LineError::Closed),
            Ok(n) => {
                self.buffer.extend_from_slice(&piece[..n]);
                Ok(true)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(false),
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Err(LineError::Closed),
            Err(e) => Err(LineError::Io(e)),
        }
    }

    /// Sends a line.
    ///
    /// # Errors
    /// The other side has ended the connection, or takes nothing.
    pub(crate) fn send(&mut self, line: &str) -> Result<(), LineError> {
        debug_assert!(!line.contains('\n'), "one line");
        let line = format!("{line}\n");
        self.stream.write_all(line.as_bytes()).map_err(|e| match e.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => LineError::Closed,
            _ => LineError::Io(e),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn pair(limit: usize) -> (TcpStream, Lines) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (there, Lines::new(listener.accept().unwrap().0, limit).unwrap())
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        let (mut there, mut here) = pair(100);
        there.write_all(b"one\r\ntwo\nthr").unwrap();
        assert_eq!(here.receive(LONG).unwrap().as_deref(), Some("one"));
        assert_eq!(here.receive(LONG).unwrap().as_deref(), Some("two"));
        assert_eq!(here.receive(Duration::from_millis(1)).unwrap(), None);
        there.write_all(b"ee\n").unwrap();
        drop(there);
        assert_eq!(here.receive(LONG).unwrap().as_deref(), Some("three"));
        assert!(matches!(here.receive(LONG), Err(LineError::Closed)));
    }

    #[test]
    fn lines_are_limited_and_text() {
        let (mut there, mut here) = pair(100);
        there.write_all(&[b'x'; 101]).unwrap();
        assert!(matches!(here.receive(LONG), Err(LineError::TooLong(100))));
        let (mut there, mut here) = pair(100);
        there.write_all(b"\xff\xfe\n").unwrap();
        assert!(matches!(here.receive(LONG), Err(LineError::NotText)));
    }
}
