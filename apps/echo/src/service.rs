use units::CoreId;
use zygix::{Cx, Next, Peer, Received, Reply, Service};

use crate::{Digest, chargen, pattern};

/// Bytes of the pattern that are made at once: a transmit buffer's.
const PIECE: usize = 2048;

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Sends back what it receives.
    #[default]
    Echo,
    /// Reads until the peer has finished, then answers `<count> <digest in 16 hex digits>\n` and closes.
    Discard,
    /// Reads a decimal count and a newline, sends that many bytes of [`pattern`], and closes.
    Source,
    /// Throws away what it receives (RFC 863).
    Sink,
    /// Sends characters until the peer has enough, whatever that says (RFC 864).
    Chargen,
}

/// Ports whose services answer any datagram: echo, daytime, quote of the day, chargen, time, DNS, NTP. A datagram that claims to come from
/// one of them was made to set two services at each other.
const ANSWERING: [u16; 7] = [7, 13, 17, 19, 37, 53, 123];
/// Characters in a datagram of chargen at most (RFC 864).
const CHARACTERS: u32 = 512;

/// The service: a mode for each local port.
#[derive(Clone, Debug, Default)]
pub struct Echo {
    ports: Vec<(u16, Mode)>,
    otherwise: Mode,
}

impl Echo {
    /// The same mode on every port.
    pub fn new(mode: Mode) -> Echo {
        Echo { ports: Vec::new(), otherwise: mode }
    }

    /// The mode by local port; a port that is not listed echoes.
    pub fn by_port(ports: impl IntoIterator<Item = (u16, Mode)>) -> Echo {
        Echo { ports: ports.into_iter().collect(), otherwise: Mode::Echo }
    }

    fn mode(&self, port: u16) -> Mode {
        self.ports.iter().find(|(p, _)| *p == port).map_or(self.otherwise, |(_, mode)| *mode)
    }
}

/// State of one thread: where its chargen's lengths come from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Core(u32);

impl Core {
    /// Between 1 and 512, all of them about as often (RFC 864 asks for a random number).
    fn characters(&mut self) -> usize {
        // A Weyl sequence, mixed: nobody's secret hangs on it.
        self.0 = self.0.wrapping_add(0x9e37_79b9);
        let mixed = (self.0 ^ self.0 >> 15).wrapping_mul(0x85eb_ca6b);
        ((mixed >> 16) % CHARACTERS) as usize + 1
    }
}

/// State of one connection.
#[derive(Debug)]
pub struct Conn(State);

#[derive(Debug)]
enum State {
    Echo,
    Discard(Digest),
    /// The count that is being read.
    Asked(u64),
    Source {
        sent: u64,
        total: u64,
    },
    Sink,
    /// How many characters have been sent.
    Chargen(u64),
}

impl Service for Echo {
    type Conn = Conn;
    type Core = Core;
    type Msg = ();

    fn core(&self, id: CoreId) -> Core {
        Core(u32::from(id.0))
    }

    fn accept(&self, _core: &mut Core, peer: &Peer) -> Option<Conn> {
        Some(Conn(match self.mode(peer.local.port()) {
            Mode::Echo => State::Echo,
            Mode::Discard => State::Discard(Digest::new()),
            Mode::Source => State::Asked(0),
            Mode::Sink => State::Sink,
            Mode::Chargen => State::Chargen(0),
        }))
    }

    fn opened(&self, _cx: &mut Cx<'_, Self>, conn: &mut Conn, tx: &mut Reply<'_>) -> Next {
        conn.stream(tx)
    }

    fn recv(&self, _cx: &mut Cx<'_, Self>, conn: &mut Conn, rx: &mut Received<'_>, tx: &mut Reply<'_>) -> Next {
        match &mut conn.0 {
            State::Echo => echo(rx, tx),
            State::Discard(digest) => discard(digest, rx, tx),
            State::Asked(count) => match ask(count, rx) {
                Asked::Yes => {
                    conn.0 = State::Source { sent: 0, total: *count };
                    conn.stream(tx)
                }
                Asked::NotYet => Next::Read,
                Asked::Never => Next::Close,
            },
            // Whatever else the client says is of no interest.
            State::Source { .. } => {
                rx.consume(rx.len());
                conn.stream(tx)
            }
            // RFC 864: "until the user terminates the connection".
            State::Sink | State::Chargen(_) => {
                rx.consume(rx.len());
                if rx.fin() { Next::Close } else { conn.stream(tx) }
            }
        }
    }

    fn writable(&self, _cx: &mut Cx<'_, Self>, conn: &mut Conn, tx: &mut Reply<'_>) -> Next {
        match conn.0 {
            State::Source { .. } | State::Chargen(_) => conn.stream(tx),
            State::Echo | State::Discard(_) | State::Asked(_) | State::Sink => Next::Read,
        }
    }

    fn datagram(&self, core: &mut Core, peer: &Peer, data: &[u8], tx: &mut Reply<'_>) {
        let from = peer.remote.port();
        // Two echoes, set at each other by one forged datagram, would never end: neither answers its like.
        if from == peer.local.port() || ANSWERING.contains(&from) {
            return;
        }
        match self.mode(peer.local.port()) {
            Mode::Echo if tx.reserve(data.len()) => {
                tx.write(data);
            }
            Mode::Chargen => {
                let mut characters = [0; CHARACTERS as usize];
                let n = core.characters();
                chargen(0, &mut characters[..n]);
                tx.write(&characters[..n]);
            }
            _ => {}
        }
    }
}

fn echo(rx: &mut Received<'_>, tx: &mut Reply<'_>) -> Next {
    while !rx.is_empty() {
        let chunk = rx.chunk();
        let wrote = tx.write(chunk);
        rx.consume(wrote);
        if wrote < chunk.len() {
            return Next::Read;
        }
    }
    if rx.fin() { Next::Close } else { Next::Read }
}

fn discard(digest: &mut Digest, rx: &mut Received<'_>, tx: &mut Reply<'_>) -> Next {
    while !rx.is_empty() {
        let chunk = rx.chunk();
        digest.update(chunk);
        rx.consume(chunk.len());
    }
    if !rx.fin() {
        return Next::Read;
    }
    let line = format!("{} {:016x}\n", digest.count(), digest.finish());
    // Nothing was sent before, so there is room for a line.
    tx.write(line.as_bytes());
    Next::Close
}

enum Asked {
    Yes,
    NotYet,
    Never,
}

fn ask(count: &mut u64, rx: &mut Received<'_>) -> Asked {
    while let Some(&byte) = rx.chunk().first() {
        rx.consume(1);
        match byte {
            b'0'..=b'9' => *count = count.saturating_mul(10).saturating_add(u64::from(byte - b'0')),
            b'\r' => {}
            b'\n' => return Asked::Yes,
            _ => return Asked::Never,
        }
    }
    if rx.fin() { Asked::Never } else { Asked::NotYet }
}

impl Conn {
    /// Sends as much of the pattern, or of the characters, as there is room for.
    fn stream(&mut self, tx: &mut Reply<'_>) -> Next {
        let (sent, total, fill): (_, _, fn(u64, &mut [u8])) = match &mut self.0 {
            State::Source { sent, total } => (sent, *total, pattern),
            State::Chargen(sent) => (sent, u64::MAX, chargen),
            _ => return Next::Read,
        };
        while *sent < total {
            // A transmit buffer at a time, made where it is sent from.
            let n = (total - *sent).min(PIECE as u64) as usize;
            let fill = |out: &mut [u8]| {
                fill(*sent, out);
                out.len()
            };
            if !tx.write_with(n, fill) {
                return Next::Read;
            }
            *sent += n as u64;
        }
        Next::Close
    }
}
