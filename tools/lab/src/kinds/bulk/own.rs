//! Bulk with Zygix at both ends: a client of the echo server's sink and source, as a service on the dataplane.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use abi::{Dead, Peer};
use anyhow::{Result, anyhow, bail};
use dataplane::{Dataplane, Idle, RunnerConfig};
use echo::{Digest, pattern};
use netstack::StackConfig;
use nic::Nic;
use sys::clock;
use units::{CoreId, Nanos};
use wire::Mac;
use zygix::{Cx, Next, Received, Reply, Runtime, Service};

use super::sockets::{answer, expected};
use super::{Bounds, Direction, Moved};
use crate::Interrupted;
use crate::net::{Link, PREFIX};

/// Bytes written at once: a transmit buffer.
const PIECE: usize = 2048;
/// Between two looks at the clock.
const PIECES: usize = 16;
/// How long the last bytes and the answer may take beyond the span.
const PATIENCE: Nanos = Nanos::from_secs(20);

/// Where a client's thread runs, and how its TCP is set.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    /// Its core.
    pub(super) core: usize,
    /// It polls all the time.
    pub(super) spin: bool,
    /// What the engine is told, the segment size aside.
    pub(super) tcp: tcp::Config,
}

/// The engine of a client that takes part in ECN: what its connections ask for when they open.
pub(super) fn ecn() -> tcp::Config {
    tcp::Config { ecn: tcp::Ecn::On, ..tcp::Config::default() }
}

/// A transfer over a new connection to the server of `link`, by a dataplane on `nic` that lasts as long.
///
/// # Errors
/// [`Interrupted`]; no memory; refused, reset, stalled.
pub(super) fn transfer<N>(
    mut nic: N,
    link: Link,
    target: SocketAddr,
    direction: Direction,
    bounds: Bounds,
    seat: &Seat,
) -> Result<Moved>
where
    N: Nic + Send + Sync + 'static,
    N::Queue: 'static,
{
    let queues = nic.queues();
    let mtu = queues.first().map_or(1500, |q| nic::Queue::caps(q).mtu);
    let config = StackConfig {
        tcp: tcp::Config { mss: mtu - 40, ..seat.tcp.clone() },
        max_conns: 64,
        ..StackConfig::new(Mac::local(2), link.host(), PREFIX)
    };
    let idle = if seat.spin { Idle::Spin } else { Idle::default() };
    let runner = RunnerConfig { pin: vec![seat.core], idle, ..RunnerConfig::default() };
    let (tell, told) = channel();
    let client = Arc::new(Client { target, direction, bounds, tell });
    let mut runtime = None;
    let dataplane = Dataplane::start(
        config,
        queues,
        move |t| nic.flow_group(t),
        &runner,
        |core, shared| runtime.get_or_insert_with(|| Runtime::new(client.clone(), shared.clone())).app(core),
    )
    .map_err(|e| anyhow!("the client's dataplane: {e}"))?;
    let done = wait(&told, bounds);
    dataplane.stop();
    let Told { bytes, took, proof } = done?;
    let intact = match proof {
        Proof::Answer(said) => said == answer(bytes).into_bytes(),
        Proof::Digest(digest) => digest == expected(bytes),
    };
    Ok(Moved { bytes, took, intact })
}

fn wait(told: &Receiver<Result<Told, Dead>>, bounds: Bounds) -> Result<Told> {
    let until = clock::now() + bounds.span + PATIENCE;
    loop {
        if sys::stop::requested() {
            return Err(Interrupted.into());
        }
        match told.recv_timeout(Duration::from_millis(20)) {
            Ok(Ok(told)) => return Ok(told),
            Ok(Err(why)) => bail!("the connection is lost: {why:?}"),
            Err(_) if clock::now() > until => bail!("the transfer stalls"),
            Err(_) => {}
        }
    }
}

/// What a finished transfer tells.
struct Told {
    bytes: u64,
    took: Nanos,
    proof: Proof,
}

enum Proof {
    /// Of an upload: what the server has said.
    Answer(Vec<u8>),
    /// Of a download.
    Digest(Digest),
}

struct Client {
    target: SocketAddr,
    direction: Direction,
    bounds: Bounds,
    tell: Sender<Result<Told, Dead>>,
}

/// The one connection.
struct Conn {
    began: Nanos,
    sent: u64,
    /// The last byte was handed over.
    poured: bool,
    told: bool,
    answer: Vec<u8>,
    digest: Digest,
}

impl Client {
    fn is_over(&self, conn: &Conn) -> bool {
        clock::now() - conn.began >= self.bounds.span
    }

    /// As much of the pattern as there is room for.
    fn pour(&self, conn: &mut Conn, tx: &mut Reply<'_>) -> Next {
        while !conn.poured {
            for _ in 0..PIECES {
                let n = (self.bounds.bytes - conn.sent).min(PIECE as u64) as usize;
                let fill = |out: &mut [u8]| {
                    pattern(conn.sent, out);
                    out.len()
                };
                if n > 0 && !tx.write_with(n, fill) {
                    return Next::Read;
                }
                conn.sent += n as u64;
            }
            conn.poured = conn.sent == self.bounds.bytes || self.is_over(conn);
            if conn.poured {
                tx.shutdown();
            }
        }
        Next::Read
    }

    fn tell(&self, conn: &mut Conn, bytes: u64, proof: Proof) {
        conn.told = true;
        // Nobody listens any more if it took too long.
        let _ = self.tell.send(Ok(Told { bytes, took: clock::now() - conn.began, proof }));
    }
}

impl Service for Client {
    type Conn = Conn;
    type Core = ();
    type Msg = ();

    fn core(&self, _id: CoreId) {}

    fn dial(&self, _core: &mut ()) -> Vec<(SocketAddr, Conn)> {
        let began = clock::now();
        let digest = Digest::new();
        vec![(self.target, Conn { began, sent: 0, poured: false, told: false, answer: Vec::new(), digest })]
    }

    fn accept(&self, _core: &mut (), _peer: &Peer) -> Option<Conn> {
        None
    }

    fn connected(&self, _cx: &mut Cx<'_, Self>, conn: &mut Conn, tx: &mut Reply<'_>) -> Next {
        conn.began = clock::now();
        match self.direction {
            Direction::Up => self.pour(conn, tx),
            Direction::Down => {
                tx.write(format!("{}\n", self.bounds.bytes).as_bytes());
                Next::Read
            }
        }
    }

    fn writable(&self, _cx: &mut Cx<'_, Self>, conn: &mut Conn, tx: &mut Reply<'_>) -> Next {
        match self.direction {
            Direction::Up => self.pour(conn, tx),
            Direction::Down => Next::Read,
        }
    }

    fn recv(&self, _cx: &mut Cx<'_, Self>, conn: &mut Conn, rx: &mut Received<'_>, tx: &mut Reply<'_>) -> Next {
        while !rx.is_empty() {
            let chunk = rx.chunk();
            match self.direction {
                Direction::Up if conn.answer.len() < 64 => conn.answer.extend_from_slice(chunk),
                Direction::Up => {}
                Direction::Down => conn.digest.update(chunk),
            }
            rx.consume(chunk.len());
        }
        match self.direction {
            Direction::Up if rx.fin() => {
                let said = std::mem::take(&mut conn.answer);
                self.tell(conn, conn.sent, Proof::Answer(said));
                Next::Close
            }
            Direction::Up => self.pour(conn, tx),
            Direction::Down if rx.fin() || self.is_over(conn) => {
                let digest = std::mem::take(&mut conn.digest);
                self.tell(conn, digest.count(), Proof::Digest(digest));
                Next::Abort
            }
            Direction::Down => Next::Read,
        }
    }

    fn closed(&self, _core: &mut (), conn: Conn, why: Dead) {
        if !conn.told {
            let _ = self.tell.send(Err(why));
        }
    }
}

#[cfg(test)]
mod tests {
    use echo::{Echo, Mode};

    use super::*;

    /// A transfer between two dataplanes of this process.
    fn over_a_wire(direction: Direction, bytes: u64, ring: u32, offload: bool) -> Moved {
        let link = Link(3);
        let wire =
            |n| shm::Config { mac: Mac::local(n), ring, trusted: offload, large: offload, ..shm::Config::default() };
        let (mut far, near) = shm::pair(&wire(1), &wire(2)).unwrap();
        let config = StackConfig {
            tcp: tcp::Config { mss: 1460, ..tcp::Config::default() },
            max_conns: 64,
            tcp_ports: vec![9],
            ..StackConfig::new(Mac::local(1), link.server(), PREFIX)
        };
        let mode = if direction == Direction::Up { Mode::Discard } else { Mode::Source };
        let (queues, mut runtime) = (far.queues(), None);
        let server = Dataplane::start(
            config,
            queues,
            move |t| far.flow_group(t),
            &RunnerConfig::default(),
            |core, shared| {
                runtime.get_or_insert_with(|| Runtime::new(Arc::new(Echo::new(mode)), shared.clone())).app(core)
            },
        );
        let server = server.unwrap();
        let seat = Seat { core: sys::thread::allowed_cores().unwrap()[0], spin: false, tcp: tcp::Config::default() };
        let bounds = Bounds { bytes, span: Nanos::from_secs(60) };
        let moved = transfer(near, link, (link.server(), 9).into(), direction, bounds, &seat).unwrap();
        server.stop();
        moved
    }

    #[test]
    fn both_ends_are_ours_and_every_byte_is_accounted_for() {
        for direction in Direction::ALL {
            // Super-frames, on a ring that holds plenty, and on one that is full after each.
            for (ring, offload) in [(512, false), (512, true), (64, true)] {
                let moved = over_a_wire(direction, 20_000_001, ring, offload);
                assert_eq!((moved.bytes, moved.intact), (20_000_001, true), "{direction:?}, {ring}, {offload}");
            }
        }
    }
}
