use std::io;
use std::sync::Arc;

use draw::{Purpose, Rng, stream};
use nic::{Caps, Nic, Steering};
use rand::Rng as _;
use requests::Asker;
use units::{FLOW_GROUPS, FlowGroupId};
use wire::rss::{MICROSOFT_KEY, Toeplitz};
use wire::{Ipv4Addr, Seq, Tuple};

use crate::config::{Config, ConfigError, PORT_MIN};
use crate::conn::Conn;
use crate::desk::Desk;
use crate::director::Director;
use crate::flows::Flows;
use crate::frames::Net;
use crate::lane::Lane;
use crate::queue::{OpenLoopQueue, Wire};

/// The hash by which flows are dealt out, as the emulated wire does it.
pub(crate) static RSS: Toeplitz = Toeplitz::new(&MICROSOFT_KEY);

/// Marks a stream of random numbers that is none of the load's own.
const NUMBERS: u64 = 0x6973_6e73;

/// The NIC without a wire.
pub struct OpenLoop {
    queues: Vec<OpenLoopQueue>,
    wire: Arc<Wire>,
}

impl OpenLoop {
    /// The NIC, and the hand that directs it. All connections are closed.
    ///
    /// Reserves and touches about 6 MB per queue, and 256 KiB per queue and client address.
    ///
    /// # Errors
    /// A number of the configuration is out of its range, or there are too few ports for the connections.
    pub fn new(config: &Config) -> Result<(OpenLoop, Director), ConfigError> {
        config.check()?;
        let (server, client) = (config.server, config.client);
        let net = Net { server, port: config.port, client: client.mac, first: client.ip, addresses: config.addresses };
        let caps = Caps {
            mtu: 1500,
            tx_csum: true,
            rx_csum: true,
            tso: false,
            large_rx: false,
            gather: true,
            steering: Steering::Hardware,
            reta_size: FLOW_GROUPS as u16,
            mac: server.mac.0,
            name: format!("openloop:{} (no wire)", config.workload.name()),
        };
        let desks: Vec<Arc<Desk>> = (0..config.queues).map(|_| Arc::default()).collect();
        let lanes = (0..).zip(deal(config)?).zip(&desks).map(|((index, conns), desk)| {
            let asker = Asker::new(&config.workload, stream(config.seed, index, Purpose::Requests));
            let picks = stream(config.seed, index, Purpose::Connections);
            Lane::new(config, Arc::clone(desk), Flows::new(net, conns, asker), picks)
        });
        let wire = Arc::new(Wire::new(lanes.collect(), desks.clone(), config));
        let queues =
            (0..usize::from(config.queues)).map(|own| OpenLoopQueue::new(caps.clone(), own, Arc::clone(&wire)));
        Ok((OpenLoop { queues: queues.collect(), wire }, Director::new(config, desks)))
    }
}

/// The connections of each queue: flow by flow to the queue that owns it, until each has enough.
fn deal(config: &Config) -> Result<Vec<Vec<Conn>>, ConfigError> {
    let (queues, wanted) = (usize::from(config.queues), config.per_queue() as usize);
    let mut dealt: Vec<Vec<Conn>> = (0..queues).map(|_| Vec::with_capacity(wanted)).collect();
    let mut numbers: Rng = stream(config.seed ^ NUMBERS, 0, Purpose::Connections);
    let mut missing = queues * wanted;
    'all: for address in 0..u32::from(config.addresses) {
        let ip = Ipv4Addr::from_bits(config.client.ip.to_bits() + address);
        for port in PORT_MIN..=u16::MAX {
            if missing == 0 {
                break 'all;
            }
            let tuple =
                Tuple { local: config.server.ip.into(), remote: ip.into(), local_port: config.port, remote_port: port };
            let group = RSS.flow_group(&tuple);
            let conns = &mut dealt[group.index() % queues];
            if conns.len() < wanted {
                conns.push(Conn::new(ip, port, group, Seq(numbers.random())));
                missing -= 1;
            }
        }
    }
    match (0..).zip(&dealt).find(|(_, conns)| conns.len() < wanted) {
        Some((queue, conns)) => {
            Err(ConfigError::Flows { queue, found: conns.len(), wanted, addresses: config.addresses })
        }
        None => Ok(dealt),
    }
}

impl Nic for OpenLoop {
    type Queue = OpenLoopQueue;

    fn queues(&mut self) -> Vec<OpenLoopQueue> {
        std::mem::take(&mut self.queues)
    }

    fn flow_group(&self, tuple: &Tuple) -> FlowGroupId {
        RSS.flow_group(tuple)
    }

    /// A few stores; frames that have been made already come to the old queue. Errors: there is no such group or queue.
    fn set_reta(&self, group: FlowGroupId, queue: u16) -> io::Result<()> {
        let queues = self.wire.queues();
        if group.index() >= FLOW_GROUPS || usize::from(queue) >= queues {
            let text = format!("{group:?} to queue {queue}: there are {FLOW_GROUPS} groups and {queues} queues");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.wire.set_reta(group, queue);
        Ok(())
    }

    fn steering(&self) -> Steering {
        Steering::Hardware
    }
}
