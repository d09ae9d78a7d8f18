//! What all stacks of a dataplane share. Everything here is read by any core at any time; the few writes are atomic.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use abi::Handle;
use crossbeam_queue::ArrayQueue;
use mem::{Depot, MemError};
use nic::RxFrame;
use shuffle::Shuffle;
use sync::Epoch;
use tcp::{IsnKey, SynCookies};
use units::{CoreId, FLOW_GROUPS, FlowGroupId};
use wire::Tuple;

use crate::addresses::{Addresses, Ends};
use crate::config::StackConfig;
use crate::conn::Conn;
use crate::flow_table::FlowKey;
use crate::metrics::Metrics;
use crate::neighbours::Neighbours;
use crate::slips::Work;
use crate::trips::{TRIPS, Trip};

/// What every IPv6 host can take: RFC 9293 section 3.7.1, MUST-15.
const DEFAULT_MSS_V6: u16 = wire::ipv6::MIN_MTU - (wire::ipv6::HEADER + wire::tcp::HEADER) as u16;
/// By how much IPv6's header is longer than IPv4's.
const LONGER: u16 = (wire::ipv6::HEADER - wire::ipv4::HEADER) as u16;
/// Frames that may wait for their owner.
const INBOX: usize = 1024;
/// In an owner word: the group has come to this core a moment ago, and frames of it may still come by its last core's ring.
pub(crate) const SETTLING: u16 = 1 << 15;
/// No core: a group that has never moved came from there.
const NOBODY: u16 = u16::MAX;
/// Messages that background threads may have waiting at one core.
pub(crate) const MAIL: usize = 64 * 1024;

/// A message could not be posted: too many wait already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PostError;

impl std::fmt::Display for PostError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{MAIL} messages wait already at the connection's core; post again later")
    }
}

impl std::error::Error for PostError {}

/// What other threads leave for a core.
pub(crate) struct Inbox {
    pub(crate) frames: ArrayQueue<RxFrame>,
    pub(crate) mail: Mutex<Vec<(Handle, u64)>>,
    /// Batches of which something is to be carried out here.
    pub(crate) trips: ArrayQueue<Trip>,
    /// There is mail, or a trip, or there are frames of groups that came here.
    pub(crate) mail_waits: AtomicBool,
    /// Frames of groups that came here, from the core that they came from: older than what this core's own ring brings.
    pub(crate) moved: ArrayQueue<RxFrame>,
    /// The polls that found this core's ring empty, counted while somebody waits for them.
    pub(crate) epoch: Epoch,
    /// Its shuffle layer, where batches come home to.
    pub(crate) shuffle: OnceLock<Arc<Shuffle<Work>>>,
}

/// A set of port numbers.
struct Ports(Box<[AtomicU64]>);

impl Ports {
    fn new(ports: &[u16]) -> Ports {
        let set = Ports((0..1024).map(|_| AtomicU64::new(0)).collect());
        for p in ports {
            set.0[usize::from(p >> 6)].fetch_or(1 << (p & 63), Ordering::Relaxed);
        }
        set
    }

    fn contains(&self, port: u16) -> bool {
        self.0[usize::from(port >> 6)].load(Ordering::Relaxed) >> (port & 63) & 1 != 0
    }
}

/// How the NIC (or its stand-in in software) maps a flow to its group.
pub(crate) type FlowGroupFn = Box<dyn Fn(&Tuple) -> FlowGroupId + Send + Sync>;
type WakeFn = Box<dyn Fn(CoreId) + Send + Sync>;

/// The common ground of the stacks of one dataplane.
pub struct Shared {
    pub(crate) config: StackConfig,
    pub(crate) addresses: Addresses,
    /// The engine's parameters for IPv6.
    tcp_v6: tcp::Config,
    owners: [AtomicU16; FLOW_GROUPS],
    came_from: [AtomicU16; FLOW_GROUPS],
    /// Groups on their way or settling, and requests to move some: nobody looks further while there are none.
    moving: AtomicU32,
    /// Records that some stack has too many of.
    pub(crate) surplus: ArrayQueue<tcp::Spare>,
    pub(crate) neighbours: Neighbours,
    inboxes: Box<[Inbox]>,
    metrics: Box<[Arc<Metrics>]>,
    flow_group: FlowGroupFn,
    wake: WakeFn,
    tcp_ports: Ports,
    udp_ports: Ports,
    pub(crate) isn: IsnKey,
    pub(crate) cookies: SynCookies,
    pub(crate) flow_key: FlowKey,
    pub(crate) depot: Depot<Conn>,
}

/// Connections per core that a second-level cache holds, about.
const SCATTERED: usize = 2048;

impl Shared {
    /// The common ground of `cores` stacks; flow groups are dealt out to them in turn.
    ///
    /// `flow_group` must be the function by which the NIC steers. `wake` makes a sleeping core look at its inbox.
    /// `secret` keys sequence numbers, cookies and flow tables: 48 bytes that no peer can guess.
    pub fn new(
        config: StackConfig,
        cores: usize,
        secret: [u8; 48],
        flow_group: impl Fn(&Tuple) -> FlowGroupId + Send + Sync + 'static,
        wake: impl Fn(CoreId) + Send + Sync + 'static,
    ) -> Result<Shared, MemError> {
        let key = |n: usize| std::array::from_fn(|i| secret[16 * n + i]);
        Ok(Shared {
            owners: std::array::from_fn(|g| AtomicU16::new((g % cores) as u16)),
            came_from: [const { AtomicU16::new(NOBODY) }; FLOW_GROUPS],
            moving: AtomicU32::new(0),
            surplus: ArrayQueue::new((cores * config.records).max(1)),
            neighbours: Neighbours::new(),
            inboxes: (0..cores)
                .map(|_| Inbox {
                    frames: ArrayQueue::new(INBOX),
                    mail: Mutex::new(Vec::with_capacity(MAIL)),
                    trips: ArrayQueue::new(cores * TRIPS),
                    mail_waits: AtomicBool::new(false),
                    moved: ArrayQueue::new(INBOX),
                    epoch: Epoch::new(),
                    shuffle: OnceLock::new(),
                })
                .collect(),
            metrics: (0..cores).map(|_| Arc::default()).collect(),
            flow_group: Box::new(flow_group),
            wake: Box::new(wake),
            tcp_ports: Ports::new(&config.tcp_ports),
            udp_ports: Ports::new(&config.udp_ports),
            isn: IsnKey::new(key(0)),
            cookies: SynCookies::new(key(1)),
            flow_key: FlowKey::new(key(2)),
            // Each group's last chunk may be part empty.
            depot: Depot::new(config.max_conns + FLOW_GROUPS * mem::CHUNK, config.pages)?,
            addresses: Addresses::new(&config),
            tcp_v6: tcp::Config {
                mss: config.tcp.mss.saturating_sub(LONGER),
                default_mss: config.tcp.default_mss.or(Some(DEFAULT_MSS_V6)),
                ..config.tcp.clone()
            },
            config,
        })
    }

    /// The configuration of all stacks.
    pub fn config(&self) -> &StackConfig {
        &self.config
    }

    /// The engine's parameters for a flow.
    #[inline(always)]
    pub(crate) fn tcp(&self, ends: &Ends) -> &tcp::Config {
        if ends.is_v4() { &self.config.tcp } else { &self.tcp_v6 }
    }

    /// The core whose network layer owns the flow group.
    #[inline]
    pub fn owner(&self, group: FlowGroupId) -> CoreId {
        CoreId(self.owner_word(group) & !SETTLING)
    }

    /// The core, and whether the group is [`SETTLING`] there.
    #[inline]
    pub(crate) fn owner_word(&self, group: FlowGroupId) -> u16 {
        self.owners[group.index() % FLOW_GROUPS].load(Ordering::Acquire)
    }

    /// The core that had the group before its owner, if it has ever moved.
    pub(crate) fn came_from(&self, group: FlowGroupId) -> Option<CoreId> {
        let core = self.came_from[group.index() % FLOW_GROUPS].load(Ordering::Relaxed);
        (core != NOBODY).then_some(CoreId(core))
    }

    /// From here on `to` is the group's owner, and `from` forwards what still comes to it. By `from`, under its lock.
    pub(crate) fn hand_over(&self, group: FlowGroupId, from: CoreId, to: CoreId) {
        self.came_from[group.index() % FLOW_GROUPS].store(from.0, Ordering::Relaxed);
        self.moving.fetch_add(1, Ordering::Relaxed);
        self.owners[group.index() % FLOW_GROUPS].store(to.0 | SETTLING, Ordering::Release);
    }

    /// Nothing more is expected by its last core's ring. By the owner, under its lock.
    pub(crate) fn settled(&self, group: FlowGroupId) {
        let core = self.owner(group);
        self.owners[group.index() % FLOW_GROUPS].store(core.0, Ordering::Release);
        self.moving.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether the group has come to its owner so lately that it does not go on yet.
    pub fn is_settling(&self, group: FlowGroupId) -> bool {
        self.owner_word(group) & SETTLING != 0
    }

    /// Whether groups are on their way or settling, or somebody asks for that.
    #[inline]
    pub fn is_moving(&self) -> bool {
        self.moving.load(Ordering::Relaxed) != 0
    }

    /// Somebody begins, or ends, to ask for groups to be moved: elastic threads look at that while there is any.
    pub fn asks_to_move(&self, begins: bool) {
        if begins {
            self.moving.fetch_add(1, Ordering::SeqCst)
        } else {
            self.moving.fetch_sub(1, Ordering::SeqCst)
        };
    }

    /// The rounds of a core's ring.
    pub fn epoch(&self, core: CoreId) -> &Epoch {
        &self.inbox(core).epoch
    }

    /// The flow group of a flow.
    #[inline]
    pub fn flow_group(&self, tuple: &Tuple) -> FlowGroupId {
        (self.flow_group)(tuple)
    }

    /// Whether there are so many connections that those of a batch are found in memory rather than in a cache: what will be needed is then worth
    /// being fetched ahead.
    #[inline]
    pub fn is_scattered(&self) -> bool {
        // Few connections take a chunk for each group that one of them is in.
        self.depot.taken() > FLOW_GROUPS * mem::CHUNK + SCATTERED * self.inboxes.len()
    }

    /// How many cores there are.
    pub fn cores(&self) -> usize {
        self.inboxes.len()
    }

    /// What a core has counted.
    pub fn metrics(&self, core: CoreId) -> &Arc<Metrics> {
        &self.metrics[core.index()]
    }

    /// A counter summed over all cores.
    pub fn total(&self, of: impl Fn(&Metrics) -> u64) -> u64 {
        self.metrics.iter().map(|m| of(m)).sum()
    }

    /// Posts `token` to a connection, from any thread: it comes as an event condition `message`. A connection that has
    /// ended swallows it.
    ///
    /// # Errors
    /// Too many messages wait at the connection's core.
    pub fn post(&self, to: Handle, token: u64) -> Result<(), PostError> {
        let core = self.owner(to.group());
        let inbox = self.inbox(core);
        let mut mail = inbox.mail.lock().unwrap_or_else(|e| e.into_inner());
        if mail.len() >= MAIL {
            return Err(PostError);
        }
        mail.push((to, token));
        drop(mail);
        inbox.mail_waits.store(true, Ordering::Release);
        (self.wake)(core);
        Ok(())
    }

    /// Makes a core look at its inbox if it sleeps.
    pub fn wake(&self, core: CoreId) {
        (self.wake)(core);
    }

    /// Whether something waits in a core's inbox: to be asked before that core sleeps.
    pub fn has_inbox(&self, core: CoreId) -> bool {
        self.has_frames(core) || self.inbox(core).mail_waits.load(Ordering::Acquire)
    }

    /// Whether frames wait there.
    pub fn has_frames(&self, core: CoreId) -> bool {
        let inbox = self.inbox(core);
        !inbox.frames.is_empty() || !inbox.moved.is_empty()
    }

    pub(crate) fn inbox(&self, core: CoreId) -> &Inbox {
        &self.inboxes[core.index()]
    }

    /// Posts a message on that came to a core which the connection has left. However many wait: it has been admitted once.
    #[cold]
    pub(crate) fn post_on(&self, to: Handle, token: u64) {
        let core = self.owner(to.group());
        let inbox = self.inbox(core);
        inbox.mail.lock().unwrap_or_else(|e| e.into_inner()).push((to, token));
        inbox.mail_waits.store(true, Ordering::Release);
        (self.wake)(core);
    }

    /// Hands a frame to the core that its group has gone to; gives it back when there is no room.
    #[cold]
    pub(crate) fn forward_moved(&self, to: CoreId, frame: RxFrame) -> Result<(), RxFrame> {
        let inbox = self.inbox(to);
        inbox.moved.push(frame)?;
        inbox.mail_waits.store(true, Ordering::Release);
        (self.wake)(to);
        Ok(())
    }

    /// Hands a frame to its owner; gives it back when the owner's inbox is full.
    pub(crate) fn forward(&self, to: CoreId, frame: RxFrame) -> Result<(), RxFrame> {
        self.inbox(to).frames.push(frame)?;
        (self.wake)(to);
        Ok(())
    }

    pub(crate) fn listens(&self, port: u16) -> bool {
        self.tcp_ports.contains(port)
    }

    pub(crate) fn serves_udp(&self, port: u16) -> bool {
        self.udp_ports.contains(port)
    }
}
