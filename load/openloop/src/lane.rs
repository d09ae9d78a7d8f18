//! What one queue's connections do: a burst, a transmitted frame, an order.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use draw::Rng;
use nic::{QueueCounters, RxFrame, RxPools, TxFrame};
use rand::Rng as _;
use sys::clock::Clock;
use units::Nanos;
use wire::{arp, ethernet, ipv4, tcp};

use crate::config::Config;
use crate::desk::{Desk, Post};
use crate::flows::Flows;
use crate::frames::Burst;
use crate::job::{Done, Job, Order, Supply};
use crate::queue::Reta;

/// Records under way at once, per queue, while they are stored.
const PRELOAD_DEPTH: usize = 128;
/// Requests made at once, for whichever queue, once the table has been set: others wait for the lane meanwhile.
const MADE: usize = 64;

/// What the queue is doing.
enum Stage {
    Idle,
    /// Order number; waits until all connections are as they should be.
    Settling(u64),
    Working(u64, Box<Job>),
}

/// The connections that are dealt to one queue: makes their requests, and takes the replies' times. Whichever queue has it polled, or sends to one of
/// its connections: one at a time.
pub(crate) struct Lane {
    clock: Clock,
    in_order: bool,
    counters: QueueCounters,
    desk: Arc<Desk>,
    /// Orders seen so far.
    seen: u64,
    stage: Stage,
    /// An answer that the desk had no time for.
    answer: Option<(u64, Done)>,
    /// What the desk was told last.
    due: Nanos,
    picks: Rng,
    flows: Flows,
    /// Where payload of several pieces is put together.
    joined: Vec<u8>,
}

impl Lane {
    pub(crate) fn new(config: &Config, desk: Arc<Desk>, flows: Flows, picks: Rng) -> Lane {
        let joined = Vec::with_capacity(2048);
        desk.set_due(Nanos::MAX);
        Lane {
            clock: config.clock.clone(),
            in_order: config.in_order,
            counters: QueueCounters::default(),
            desk,
            seen: 0,
            stage: Stage::Idle,
            answer: None,
            due: Nanos::MAX,
            picks,
            flows,
            joined,
        }
    }

    // ---- orders ----

    #[cold]
    fn look_at_desk(&mut self, now: Nanos) {
        let Some(Post { order, halt }) = self.desk.take(&mut self.seen) else { return };
        // As the desk has it.
        self.due = Nanos::ZERO;
        if halt && let Stage::Working(_, job) = &mut self.stage {
            job.cut(now);
        }
        let Some((number, order)) = order else { return };
        // Whoever gives an order has given up what was before.
        if let Stage::Working(_, mut job) = std::mem::replace(&mut self.stage, Stage::Idle) {
            self.flows.give_up(&mut job.recorder);
        }
        self.answer = None;
        match order {
            Order::Connect => {
                self.flows.connect();
                self.stage = Stage::Settling(number);
            }
            Order::HangUp => {
                self.flows.hang_up();
                self.stage = Stage::Settling(number);
            }
            Order::Ask(mut asker) => {
                self.flows.change(&mut asker);
                self.answer = Some((number, Done::Asked(asker)));
            }
            Order::Work(job) => {
                self.flows.heeds = matches!(job.supply, Supply::Thinking(_));
                self.flows.ended.clear();
                self.stage = Stage::Working(number, job);
            }
        }
    }

    /// Says that what was ordered is done, once it is.
    #[cold]
    fn settle(&mut self, now: Nanos) {
        self.desk.open.store(self.flows.open as u32, Ordering::Relaxed);
        self.desk.refused.store(self.flows.refused, Ordering::Relaxed);
        match &mut self.stage {
            Stage::Settling(number) if self.flows.settled() => {
                self.answer = Some((*number, Done::Settled));
                self.stage = Stage::Idle;
            }
            Stage::Working(_, job) if job.due() == Nanos::MAX && self.flows.slab.used() == 0 || now >= job.give_up => {
                let Stage::Working(number, mut job) = std::mem::replace(&mut self.stage, Stage::Idle) else { return };
                self.flows.give_up(&mut job.recorder);
                self.answer = Some((number, Done::Worked(job)));
            }
            _ => {}
        }
        if let Some((number, done)) = self.answer.take() {
            self.answer = self.desk.done(number, done).map(|done| (number, done));
        }
    }

    /// Whether [`Lane::settle`] may have something to do.
    #[inline]
    fn may_be_done(&self, now: Nanos) -> bool {
        match &self.stage {
            Stage::Idle => self.answer.is_some(),
            Stage::Settling(_) => true,
            Stage::Working(_, job) => self.flows.slab.used() == 0 && job.due() == Nanos::MAX || now >= job.give_up,
        }
    }

    /// Tells other cores when the next frame is due.
    #[inline]
    fn tell_due(&mut self) {
        self.tell_due_with(Nanos::MAX);
    }

    /// The same, and that somebody is to look by then.
    #[inline]
    fn tell_due_with(&mut self, look: Nanos) {
        self.think();
        let due = match &self.stage {
            Stage::Working(_, job) if self.flows.slab.used() < PRELOAD_DEPTH || !job.is_shallow() => job.due(),
            _ => Nanos::MAX,
        };
        // What has no reply by then is given up, which is news too.
        let end = if let Stage::Working(_, job) = &self.stage { job.give_up } else { Nanos::MAX };
        let due = due.min(self.flows.due()).min(end).min(look);
        if due != self.due {
            self.due = due;
            self.desk.set_due(due);
        }
    }

    // ---- requests ----

    /// Clients who need wait no longer think, in a closed loop.
    #[inline]
    fn think(&mut self) {
        let Lane { flows, stage, clock, .. } = self;
        if let Stage::Working(_, job) = stage
            && let Supply::Thinking(thinkers) = &mut job.supply
        {
            let now = clock.now();
            flows.ended.drain(..).for_each(|id| thinkers.thinks(id, now));
        }
    }

    /// Makes the requests that are due.
    #[inline]
    fn make(flows: &mut Flows, picks: &mut Rng, job: &mut Job, burst: &mut Burst<'_>) {
        // Requests that have to wait take no room of the burst.
        for _ in 0..2 * burst.room {
            if burst.room == 0 || !Self::make_one(flows, picks, job, Some(burst), false) {
                return;
            }
        }
    }

    /// Makes the next request if it is due, and sends it if the burst has room; without one it waits for its queue. False: it is not due.
    #[inline(always)]
    fn make_one(
        flows: &mut Flows,
        picks: &mut Rng,
        job: &mut Job,
        burst: Option<&mut Burst<'_>>,
        in_order: bool,
    ) -> bool {
        let now = flows.now;
        let conns = flows.conns.len() as u32;
        let (ask, meant, whose) = match &mut job.supply {
            Supply::Open { arrivals, .. } => {
                if arrivals.peek() > now {
                    return false;
                }
                (flows.asker.next(), arrivals.next(), None)
            }
            Supply::Thinking(thinkers) => {
                let Some((meant, id)) = thinkers.ask(now) else { return false };
                (flows.asker.next(), meant, Some(id))
            }
            Supply::Records { next, end } => {
                if next >= end || flows.slab.used() >= PRELOAD_DEPTH {
                    return false;
                }
                *next += 1;
                (flows.asker.preload(*next - 1), now, None)
            }
        };
        job.recorder.meant(meant);
        let id = whose.unwrap_or_else(|| picks.random_range(0..conns));
        let made = match burst {
            Some(burst) => flows.ask(id, ask, meant, burst, &mut job.recorder),
            None => flows.ask_later(id, ask, meant, in_order),
        };
        if !made {
            job.recorder.unanswered(meant);
            flows.end(id);
        }
        true
    }

    // ---- replies ----

    /// Takes an IPv4 packet of the server; what is no segment of a connection of ours is nobody's.
    /// False: it is another lane's.
    #[inline]
    fn packet(&mut self, frame: &TxFrame<'_>) -> bool {
        let head = frame.head;
        let Ok(ip) = ipv4::Header::parse(&head[ethernet::HEADER..], frame.len() - ethernet::HEADER) else {
            self.counters.tx_errors += 1;
            return true;
        };
        let at = ethernet::HEADER + usize::from(ip.header_len);
        if ip.protocol != ipv4::TCP || ip.is_fragment() {
            return true;
        }
        let Some(Ok(header)) = head.get(at..).map(tcp::Header::parse) else {
            self.counters.tx_errors += 1;
            return true;
        };
        let Lane { flows, stage, joined, counters, clock, .. } = self;
        let Some(id) = flows.find(ip.dst, header.dst_port) else { return false };
        let header_len = usize::from(header.header_len);
        let Some(len) = usize::from(ip.payload_len()).checked_sub(header_len) else {
            counters.tx_errors += 1;
            return true;
        };
        let first = &head[at + header_len..];
        let payload: &[u8] = match frame.payload {
            _ if len <= first.len() => &first[..len],
            [only] if first.is_empty() && len <= only.len() => &only[..len],
            pieces => {
                joined.clear();
                joined.extend_from_slice(first);
                pieces.iter().for_each(|piece| joined.extend_from_slice(piece));
                &joined[..len.min(joined.len())]
            }
        };
        let recorder = match stage {
            Stage::Working(_, job) => Some(&mut job.recorder),
            _ => None,
        };
        // What carries no payload is not timed.
        let now = if payload.is_empty() { flows.now } else { clock.now() };
        flows.segment(id, &header, payload, now, recorder);
        true
    }
}

impl Lane {
    /// Frames that are due by now, at most `max` of them.
    #[inline]
    pub(crate) fn rx_burst(&mut self, pools: &mut RxPools, max: usize, out: &mut Vec<RxFrame>) {
        let now = self.clock.now();
        self.flows.poll(now);
        if self.desk.has_news(self.seen) {
            self.look_at_desk(now);
        }
        let Lane { flows, stage, picks, counters, .. } = self;
        let before = out.len();
        let room = max.min(out.capacity() - before);
        let mut burst = Burst { pools, frames: out, counters, room };
        match stage {
            Stage::Working(_, job) => {
                flows.serve(&mut burst, Some(&mut job.recorder));
                Self::make(flows, picks, job, &mut burst);
            }
            _ => flows.serve(&mut burst, None),
        }
        if self.may_be_done(now) {
            self.settle(now);
        }
        self.tell_due();
    }

    /// [`Lane::rx_burst`] once the table has been set: frames of those groups that `queue` has. What is due for others waits for their polls.
    pub(crate) fn rx_burst_for(
        &mut self,
        queue: usize,
        reta: &Reta,
        pools: &mut RxPools,
        max: usize,
        out: &mut Vec<RxFrame>,
    ) {
        let now = self.clock.now();
        // Polls come when something is due: silence between two is nobody's fault.
        self.flows.now = now;
        if self.desk.has_news(self.seen) {
            self.look_at_desk(now);
        }
        let Lane { flows, stage, picks, counters, in_order, .. } = self;
        let room = max.min(out.capacity() - out.len());
        flows.ripen(reta);
        let mut burst = Burst { pools, frames: out, counters, room };
        match stage {
            Stage::Working(_, job) => {
                for _ in 0..MADE {
                    if !Self::make_one(flows, picks, job, None, *in_order) {
                        break;
                    }
                }
                flows.sort_out(reta);
                flows.serve_for(queue, reta, &mut burst, Some(&mut job.recorder));
            }
            _ => flows.serve_for(queue, reta, &mut burst, None),
        }
        if self.may_be_done(now) {
            self.settle(now);
        }
        self.sort_out(reta);
    }

    /// What has become ready waits for its queue, and the others know.
    pub(crate) fn sort_out(&mut self, reta: &Reta) {
        self.flows.sort_out(reta);
        self.tell_due_with(self.flows.next_look());
        self.desk.set_waiting(self.flows.waiting());
    }

    /// The table has been set.
    pub(crate) fn redirect(&mut self, queue: usize, reta: &Reta) {
        self.flows.redirect(queue, reta);
        self.sort_out(reta);
    }

    /// Takes a frame of the server. False: it is a segment of no connection of this lane.
    #[inline]
    pub(crate) fn tx(&mut self, frame: &TxFrame<'_>) -> bool {
        let ours = match ethernet::Header::parse(frame.head) {
            Ok(ethernet::Header { ethertype: ethernet::IPV4, .. }) => self.packet(frame),
            Ok(ethernet::Header { ethertype: ethernet::ARP, .. }) => {
                if let Ok(question) = arp::parse(&frame.head[ethernet::HEADER..])
                    && question.operation == arp::Operation::Request
                {
                    self.flows.asked_for(&question);
                }
                true
            }
            _ => true,
        };
        if ours {
            self.counters.tx_frames += 1;
            self.counters.tx_bytes += frame.len() as u64;
            self.tell_due();
        }
        ours
    }

    pub(crate) fn counters(&self) -> QueueCounters {
        self.counters
    }
}
