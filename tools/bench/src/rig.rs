//! Both ends of a wire on one thread: turn by turn, in virtual time, the same steps at every run.

use std::net::Ipv4Addr;
use std::sync::Arc;

use dataplane::{App, ElasticThread, Turn};
use echo::{Echo, Mode};
use netstack::{PoolSizes, Shared, StackConfig};
use nic::Nic;
use shm::{ShmNic, ShmQueue};
use units::{CoreId, Nanos};
use wire::Mac;
use zygix::{Runtime, ServiceApp};

use crate::crowd::Crowd;
use crate::{Client, Tally};

/// The port of the server.
pub(crate) const PORT: u16 = 7;
/// The server's and the client's addresses (the benchmarking range, RFC 2544).
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The virtual time of one round.
const STEP: Nanos = Nanos::from_micros(10);

/// What both ends of an echo bench are told.
pub(crate) fn configs(batch: usize, max_conns: usize) -> (StackConfig, StackConfig) {
    let pools = PoolSizes { rx: 4096, spill: 1, tx: 4096, small: 1024 };
    let config = |mac, ip| StackConfig { batch, max_conns, pools, ..StackConfig::new(Mac::local(mac), ip, 24) };
    (StackConfig { tcp_ports: vec![PORT], ..config(1, SERVER) }, config(2, CLIENT))
}

/// A wire whose two NICs have the addresses of [`configs`].
pub(crate) fn wire() -> std::io::Result<(ShmNic, ShmNic)> {
    wire_of(1)
}

/// As [`wire`]; the second has so many queues, by all of which it sends, each into a ring of its own, and by the first of which it receives.
pub(crate) fn wire_of(queues: u16) -> std::io::Result<(ShmNic, ShmNic)> {
    let end = |mac, queues| shm::Config { queues, ring: 256, mac: Mac::local(mac), ..shm::Config::default() };
    let (server, client) = shm::pair(&end(1, 1), &end(2, queues))?;
    for group in 0..units::FLOW_GROUPS {
        client.set_reta(units::FlowGroupId(group as u16), 0)?;
    }
    Ok((server, client))
}

struct End<A> {
    thread: ElasticThread<ShmQueue>,
    app: A,
}

impl<A: App> End<A> {
    fn new(
        config: StackConfig,
        mut nic: ShmNic,
        app: impl FnOnce(&Arc<Shared>) -> A,
    ) -> Result<End<A>, Box<dyn std::error::Error>> {
        let queue = nic.queues().pop().ok_or("the wire has no queue")?;
        let shared = Shared::new(config, 1, [7; 48], move |t| nic.flow_group(t), |_| {})?;
        let shared = Arc::new(shared);
        let app = app(&shared);
        Ok(End { thread: ElasticThread::new(CoreId(0), shared, queue)?, app })
    }
}

/// An echo server and its client.
pub struct Rig {
    server: End<ServiceApp<Echo>>,
    client: End<Client>,
    tally: Arc<Tally>,
    now: Nanos,
}

impl Rig {
    /// `conns` connections with `depth` messages of `size` bytes each under way; batch bound `batch` at both ends.
    ///
    /// # Errors
    /// Memory or descriptors cannot be had.
    pub fn new(conns: usize, size: usize, depth: u32, batch: usize) -> Result<Rig, Box<dyn std::error::Error>> {
        let (server, client) = configs(batch, conns.max(64));
        let (server_nic, client_nic) = wire()?;
        let tally = Arc::new(Tally::default());
        let now = Nanos::from_secs(1);
        let echo = |shared: &Arc<Shared>| Runtime::new(Arc::new(Echo::new(Mode::Echo)), shared.clone()).app(CoreId(0));
        let target = (SERVER, PORT).into();
        let mut rig = Rig {
            server: End::new(server, server_nic, echo)?,
            client: End::new(client, client_nic, |_| Client::new(target, conns, size, depth, tally.clone()))?,
            tally,
            now,
        };
        rig.client.thread.start(now, &mut rig.client.app);
        Ok(rig)
    }

    /// What the client has seen.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The server's elastic thread.
    pub fn server(&self) -> &ElasticThread<ShmQueue> {
        &self.server.thread
    }

    /// Turns both ends until the client has seen `messages` in all.
    ///
    /// # Errors
    /// Nothing moves any more: 100 000 rounds in a row without a message.
    pub fn run_until(&mut self, messages: u64) -> Result<(), String> {
        let (mut still, mut seen) = (0, self.tally.messages.get());
        while self.tally.messages.get() < messages {
            self.now += STEP;
            server_turn(&mut self.server, self.now);
            let now = self.now;
            self.client.thread.turn(now, || now, &mut self.client.app);
            still = if self.tally.messages.get() == seen { still + 1 } else { 0 };
            seen = self.tally.messages.get();
            if still > 100_000 {
                return Err(format!("stuck after {seen} messages, {} errors", self.tally.errors.get()));
            }
        }
        Ok(())
    }
}

/// An echo server and the peer of very many connections.
pub struct CrowdRig {
    server: End<ServiceApp<Echo>>,
    crowd: Crowd,
    now: Nanos,
}

impl CrowdRig {
    /// Requests that have no reply.
    const UNDER_WAY: usize = 64;
    /// The virtual time of a round: about a million requests a second.
    const STEP: Nanos = Nanos::from_micros(Self::UNDER_WAY as u64);

    /// `conns` established connections, whose state lies in `pages`. With two `ports` what floods has one of its own.
    ///
    /// # Errors
    /// Memory cannot be had; connections do not open.
    pub fn new(conns: usize, pages: mem::Pages, ports: u16) -> Result<CrowdRig, Box<dyn std::error::Error>> {
        let (mut server, _) = configs(64, conns + conns / 2);
        server.pools.tx = crate::scale::REPLIES;
        server.pages = pages;
        let (server_nic, mut client_nic) = wire_of(ports)?;
        let echo = |shared: &Arc<Shared>| Runtime::new(Arc::new(Echo::new(Mode::Echo)), shared.clone()).app(CoreId(0));
        let crowd = Crowd::new(client_nic.queues(), conns)?;
        let mut rig = CrowdRig { server: End::new(server, server_nic, echo)?, crowd, now: Nanos::from_secs(1) };
        for _ in 0..10 + conns {
            rig.crowd.open_some(rig.now, conns);
            server_opens(&mut rig.server, rig.now);
            rig.now += Self::STEP;
        }
        if rig.crowd.open() == conns { Ok(rig) } else { Err(format!("only {} opened", rig.crowd.open()).into()) }
    }

    /// Asks over connections drawn at random until there are `requests` replies in all, and answers how many were wrong. After each burst of
    /// requests come at most `syns` SYNs that nobody stands by, as many as the wire takes.
    ///
    /// # Errors
    /// Nothing moves any more.
    pub fn run_until(&mut self, requests: u64, syns: usize) -> Result<u64, String> {
        for _ in 0..1_000 + requests {
            if self.crowd.replies >= requests {
                return Ok(self.crowd.errors);
            }
            self.crowd.ask_some(self.now, Self::UNDER_WAY);
            self.crowd.flood_some(syns);
            self.crowd.flush();
            server_turn(&mut self.server, self.now);
            self.now += Self::STEP;
        }
        Err(format!("stuck after {} replies", self.crowd.replies))
    }

    /// SYNs that nobody stands by, as many as were taken, and how many of them were answered.
    pub fn floods(&self) -> [u64; 2] {
        [self.crowd.floods, self.crowd.answers]
    }
}

/// A turn of the server while connections are opened, which is not counted.
#[inline(never)]
fn server_opens(server: &mut End<ServiceApp<Echo>>, now: Nanos) -> Turn {
    server.thread.turn(now, || now, &mut server.app)
}

/// One turn of the server: the function whose instructions are counted.
#[inline(never)]
fn server_turn(server: &mut End<ServiceApp<Echo>>, now: Nanos) -> Turn {
    server.thread.turn(now, || now, &mut server.app)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_larger_than_caches_is_served_from_either_kind_of_page() {
        for pages in [mem::Pages::Small, mem::Pages::Huge] {
            let mut rig = CrowdRig::new(5_000, pages, 1).unwrap();
            assert_eq!(rig.run_until(20_000, 0), Ok(0));
        }
    }

    #[test]
    fn messages_of_all_connections_come_back_unharmed() {
        for (conns, size, depth, batch) in [(1, 1, 1, 64), (10, 64, 4, 64), (100, 64, 1, 64), (3, 1400, 2, 1)] {
            let mut rig = Rig::new(conns, size, depth, batch).unwrap();
            rig.run_until(5_000).unwrap();
            assert_eq!((rig.tally().errors.get(), rig.tally().connected.get()), (0, conns as u64));
        }
    }
}
