use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use tcp::Congestion;

use super::{local, os, remote};
use crate::script::{Call, Check, Config, Dead, State};
use crate::subject::{LOCAL_PORT, REMOTE_PORT, stream, stream_byte};

/// How long a call may take that waits for the kernel.
const PATIENCE: Duration = Duration::from_secs(2);
/// Buffers that never run full in a script.
const BUFFER: i32 = 8 << 20;

/// The user of the kernel's TCP: a listener and one connection.
pub(super) struct User {
    config: Config,
    listener: Option<TcpListener>,
    stream: Option<TcpStream>,
    /// The error that ended the connection; the kernel tells it once.
    error: Option<io::Error>,
    aborted: bool,
    /// Bytes written and read so far: positions in the streams.
    written: u64,
    read: u64,
}

impl User {
    pub(super) fn new(config: &Config) -> User {
        User { config: config.clone(), listener: None, stream: None, error: None, aborted: false, written: 0, read: 0 }
    }

    /// Forgets the connection (it has ended); the listener stays.
    pub(super) fn new_connection(&mut self) {
        self.stream = None;
        self.error = None;
        self.aborted = false;
        self.written = 0;
        self.read = 0;
    }

    pub(super) fn call(&mut self, call: Call) -> Result<(), String> {
        let text = |e: io::Error| e.to_string();
        match call {
            Call::Listen => {
                let socket = self.socket().map_err(text)?;
                os::listen(&socket).map_err(text)?;
                self.listener = Some(TcpListener::from(socket));
            }
            Call::Connect => {
                let socket = self.socket().map_err(text)?;
                os::connect(&socket, remote()).map_err(text)?;
                // A connection that is being opened would delay the ACK of its handshake: see `connected`.
                self.stream = Some(TcpStream::from(socket));
            }
            Call::Accept => {
                let listener = self.listener.as_ref().ok_or("nobody listens")?;
                let (stream, _) = patiently(|| listener.accept()).map_err(text)?;
                stream.set_nonblocking(true).map_err(text)?;
                delay_acks(&stream).map_err(text)?;
                self.stream = Some(stream);
            }
            Call::Send { bytes, .. } => {
                let data = stream(self.written, bytes as usize);
                let n = patiently(|| self.open()?.write(&data)).map_err(text)?;
                self.written += n as u64;
                if n != data.len() {
                    return Err(format!("{n} bytes were taken"));
                }
            }
            Call::Recv(n) => self.recv(n)?,
            Call::Shutdown => self.open().and_then(|s| s.shutdown(Shutdown::Write)).map_err(text)?,
            Call::Close => drop(self.stream.take()),
            Call::Abort => {
                self.open().and_then(os::set_abort_on_close).map_err(text)?;
                self.stream = None;
                self.aborted = true;
            }
        }
        Ok(())
    }

    /// A bound socket whose options connections inherit.
    fn socket(&self) -> io::Result<std::os::fd::OwnedFd> {
        let socket = os::socket()?;
        os::set(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        // A small window is a small buffer (the kernel doubles it, for its book-keeping), so that it can close.
        let buffer = if self.config.window < 65_535 { self.config.window as i32 } else { BUFFER };
        os::set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, buffer)?;
        os::set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, BUFFER)?;
        os::set(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, i32::from(!self.config.nagle))?;
        let congestion = match self.config.congestion {
            Congestion::NewReno => "reno",
            Congestion::Cubic => "cubic",
            Congestion::Dctcp => "dctcp",
        };
        os::set_congestion(&socket, congestion)?;
        if let Some(after) = self.config.user_timeout {
            os::set(&socket, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, after.millis() as i32)?;
        }
        os::set(&socket, libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP, self.config.window as i32)?;
        if self.config.keepalive.is_some() {
            os::set(&socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
        }
        os::bind(&socket, local())?;
        Ok(socket)
    }

    fn open(&self) -> io::Result<&TcpStream> {
        self.stream.as_ref().ok_or_else(|| io::Error::other("there is no connection to call"))
    }

    fn recv(&mut self, n: u32) -> Result<(), String> {
        let mut left = n as usize;
        let mut buffer = vec![0; left];
        while left > 0 {
            let got = patiently(|| self.open()?.read(&mut buffer[..left])).map_err(|e| e.to_string())?;
            if got == 0 {
                return Err(format!("the peer's end came {left} bytes early"));
            }
            if let Some(at) = (0..got).find(|&i| buffer[i] != stream_byte(self.read + i as u64)) {
                return Err(format!("a wrong byte at position {} of the stream", self.read + at as u64));
            }
            self.read += got as u64;
            left -= got;
        }
        Ok(())
    }

    pub(super) fn check(&mut self, check: Check) -> Result<(), String> {
        if let Some(error) = self.stream.as_ref().and_then(|s| s.take_error().ok().flatten()) {
            self.error = Some(error);
        }
        let rows = rows()?;
        let state = rows.connection.map_or("CLOSED", State::name).to_string();
        let (holds, got) = match check {
            Check::State(State::Closed) => (rows.connection.is_none(), state),
            Check::State(State::Listen) => (rows.connection.is_none() && rows.listener, state),
            Check::State(wanted) => (rows.connection == Some(wanted), state),
            Check::Connected => {
                let done = !matches!(rows.connection, None | Some(State::SynSent | State::SynReceived));
                let told = done && self.open().and_then(delay_acks).is_ok();
                (told, state)
            }
            Check::Readable(n) => {
                let waiting = self.open().and_then(os::readable).map_err(|e| e.to_string())?;
                (waiting == n, format!("{waiting} bytes wait"))
            }
            Check::Eof => self.eof(),
            Check::Dead(dead) => self.dead(dead, rows.connection),
            Check::Alive => match &self.error {
                Some(error) => (false, error.to_string()),
                None => (rows.connection.is_some(), state),
            },
        };
        if holds { Ok(()) } else { Err(got) }
    }

    fn eof(&mut self) -> (bool, String) {
        let mut byte = [0];
        match self.open().and_then(|mut s| s.read(&mut byte)) {
            Ok(0) => (true, String::new()),
            Ok(_) => (false, "more data".into()),
            Err(e) => (false, e.to_string()),
        }
    }

    /// The kernel tells users who hold the socket; of one that was closed it can only be seen that it is gone.
    fn dead(&self, dead: Dead, row: Option<State>) -> (bool, String) {
        if row.is_some_and(|r| r != State::Closed) {
            return (false, format!("the connection is in {}", row.map_or("", State::name)));
        }
        if self.stream.is_none() {
            return ((dead == Dead::Aborted) == self.aborted, "closed by the user".into());
        }
        let code = self.error.as_ref().and_then(io::Error::raw_os_error);
        let got = match code {
            Some(libc::ECONNRESET | libc::EPIPE) => Some(Dead::Reset),
            Some(libc::ECONNREFUSED) => Some(Dead::Refused),
            Some(libc::ETIMEDOUT) => Some(Dead::TimedOut),
            Some(_) => None,
            None => Some(Dead::Finished),
        };
        (got == Some(dead), format!("{:?}", self.error))
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if let Some(stream) = &self.stream {
            // Nothing of the script shall go on in the namespace; if it fails, the kernel's timeouts end it.
            let _ = os::set_abort_on_close(stream.as_fd());
        }
    }
}

/// No "quick acknowledgments" at the beginning of a connection: RFC 9293 section 3.8.6.3 from the first segment on.
fn delay_acks(stream: &TcpStream) -> io::Result<()> {
    os::set(stream, libc::IPPROTO_TCP, libc::TCP_QUICKACK, 0)
}

/// Tries until the kernel no longer says "not now".
fn patiently<T>(mut f: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let began = Instant::now();
    loop {
        match f() {
            Err(e) if e.kind() == ErrorKind::WouldBlock && began.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(1));
            }
            result => return result,
        }
    }
}

/// What the kernel's table of connections says.
struct Rows {
    connection: Option<State>,
    listener: bool,
}

fn rows() -> Result<Rows, String> {
    let path = "/proc/thread-self/net/tcp";
    let table = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    let mut rows = Rows { connection: None, listener: false };
    for line in table.lines().skip(1) {
        let mut words = line.split_whitespace().skip(1);
        let port = |w: Option<&str>| w.and_then(|w| u16::from_str_radix(w.rsplit(':').next()?, 16).ok());
        let (from, to, state) = (port(words.next()), port(words.next()), words.next().and_then(state_of));
        match state {
            Some(State::Listen) => rows.listener |= from == Some(LOCAL_PORT),
            state if (from, to) == (Some(LOCAL_PORT), Some(REMOTE_PORT)) => rows.connection = state,
            _ => {}
        }
    }
    Ok(rows)
}

/// The kernel's numbers of states (include/net/tcp_states.h).
fn state_of(code: &str) -> Option<State> {
    Some(match code {
        "01" => State::Established,
        "02" => State::SynSent,
        "03" | "0C" => State::SynReceived,
        "04" => State::FinWait1,
        "05" => State::FinWait2,
        "06" => State::TimeWait,
        "08" => State::CloseWait,
        "09" => State::LastAck,
        "0A" => State::Listen,
        "0B" => State::Closing,
        _ => return None,
    })
}
