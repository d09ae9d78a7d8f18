//! The connections of one queue: what they send, and what they make of what comes.
//!
//! Four lists say which connections want something, each at most once in each: `ready` (a frame is due), `acks` (an acknowledgement
//! is owed; by time), `ticks` (something is out that may be lost; by time), `to_open`. Where requests leave in order, each has a place of its own in `ready` as well,
//! once the table has been set. All work is bounded by the burst or by [`TICKS_MAX`].

use std::collections::VecDeque;

use load::Recorder;
use requests::{Ask, Asker};
use units::Nanos;
use wire::tcp::Flags;
use wire::{Seq, arp};

use crate::conn::{Conn, Phase};
use crate::frames::{Burst, Net};
use crate::queue::Reta;
use crate::slab::{NIL, Request, Slab};

/// How long an acknowledgement waits for a request to ride on (RFC 9293 section 3.8.6.3: less than 0.5 s). Up to twice this if there was
/// one meanwhile; both below the server's smallest retransmission timeout.
const ACK_DELAY: Nanos = Nanos::from_millis(10);
/// What the server has not acknowledged for so long is sent again.
pub(crate) const RESEND: Nanos = Nanos::from_millis(200);
/// How often a connection with something out is looked at.
const TICK: Nanos = Nanos::from_millis(50);
/// Looks in one burst.
const TICKS_MAX: usize = 64;
/// Connections being opened at once: below the server's backlog and the frames that it parks for an address.
const OPENING_MAX: usize = 64;
/// Longer silence between two polls is the server's own: nothing is lost because it did not answer meanwhile.
const PAUSE: Nanos = Nanos::from_millis(20);
/// Requests without a reply, all connections of a queue together: beyond, they count as unanswered at once.
pub(crate) const REQUESTS_MAX: usize = 1 << 17;
/// ARP questions that wait for their answer to be sent; the server asks again.
const ARPS_MAX: usize = 16;

/// What is to be sent.
#[derive(Clone, Copy)]
enum Due {
    /// The next request of a connection, where they leave in the order in which they were made.
    Request(u32),
    /// What else there is of a connection; each is in a list once at most.
    Else(u32),
}

impl Due {
    fn id(self) -> u32 {
        let (Due::Request(id) | Due::Else(id)) = self;
        id
    }
}

/// All connections of a queue.
pub(crate) struct Flows {
    pub(crate) net: Net,
    pub(crate) conns: Vec<Conn>,
    /// By client address and port: its place in `conns`.
    by_port: PortMap,
    pub(crate) slab: Slab,
    pub(crate) asker: Asker,
    /// The bytes of the request at `scratch_of`.
    scratch: Vec<u8>,
    scratch_of: u32,
    ready: VecDeque<Due>,
    /// Those of `ready`, by the queue that their frames are for; once the table has been set.
    by_queue: Vec<VecDeque<Due>>,
    acks: VecDeque<(Nanos, u32)>,
    ticks: VecDeque<(Nanos, u32)>,
    to_open: VecDeque<u32>,
    pub(crate) arps: VecDeque<arp::Packet>,
    pub(crate) opening: usize,
    pub(crate) open: usize,
    /// SYNs that were answered with RST since connections were last asked for.
    pub(crate) refused: u64,
    /// Whether connections are to be open.
    wanted: bool,
    /// Whether clients wait for replies before they ask again; then those whose requests have come to an end since somebody last looked.
    pub(crate) heeds: bool,
    pub(crate) ended: Vec<u32>,
    /// The last poll, and when polls began again after a pause.
    pub(crate) now: Nanos,
    resumed: Nanos,
}

/// From client ports to connections: a plain table.
pub(crate) struct PortMap {
    table: Box<[u32]>,
}

impl PortMap {
    pub(crate) fn new(addresses: u16, conns: &[Conn], net: &Net) -> PortMap {
        let mut table = vec![NIL; usize::from(addresses) << 16].into_boxed_slice();
        for (i, c) in (0..).zip(conns) {
            if let Some(address) = net.address(c.ip) {
                table[address << 16 | usize::from(c.port)] = i;
            }
        }
        PortMap { table }
    }

    #[inline]
    fn get(&self, address: usize, port: u16) -> Option<u32> {
        self.table.get(address << 16 | usize::from(port)).copied().filter(|id| *id != NIL)
    }
}

impl Flows {
    pub(crate) fn new(net: Net, conns: Vec<Conn>, asker: Asker) -> Flows {
        let n = conns.len();
        Flows {
            by_port: PortMap::new(net.addresses, &conns, &net),
            slab: Slab::new(REQUESTS_MAX, asker.preload(0)),
            asker,
            scratch: Vec::with_capacity(4096),
            scratch_of: NIL,
            ready: VecDeque::with_capacity(n),
            by_queue: Vec::new(),
            acks: VecDeque::with_capacity(n),
            ticks: VecDeque::with_capacity(n),
            to_open: VecDeque::with_capacity(n),
            arps: VecDeque::with_capacity(ARPS_MAX),
            opening: 0,
            open: 0,
            refused: 0,
            wanted: false,
            heeds: false,
            ended: Vec::with_capacity(n),
            now: Nanos::ZERO,
            resumed: Nanos::ZERO,
            net,
            conns,
        }
    }

    /// The connection that a frame to this address and port is for.
    #[inline]
    pub(crate) fn find(&self, ip: wire::Ipv4Addr, port: u16) -> Option<u32> {
        self.by_port.get(self.net.address(ip)?, port)
    }

    /// Asks something else from now on.
    pub(crate) fn change(&mut self, asker: &mut Asker) {
        std::mem::swap(&mut self.asker, asker);
        self.scratch_of = NIL;
    }

    // ---- what the queue tells ----

    /// A poll begins.
    #[inline]
    pub(crate) fn poll(&mut self, now: Nanos) {
        if now - self.now > PAUSE {
            self.resumed = now;
        }
        self.now = now;
    }

    /// All connections are to be open from now on.
    pub(crate) fn connect(&mut self) {
        self.wanted = true;
        self.refused = 0;
        for id in 0..self.conns.len() as u32 {
            self.want_open(id);
        }
    }

    /// All connections are to end with a reset, for good.
    pub(crate) fn hang_up(&mut self) {
        self.wanted = false;
        self.to_open.clear();
        for id in 0..self.conns.len() as u32 {
            self.conns[id as usize].in_to_open = false;
            if self.conns[id as usize].phase != Phase::Closed {
                self.end_life(id, true, None);
            }
        }
    }

    /// Whether no frame is due.
    #[inline]
    pub(crate) fn quiet(&self) -> bool {
        self.ready.is_empty() && self.arps.is_empty() && (self.to_open.is_empty() || self.opening >= OPENING_MAX)
    }

    /// When the next frame is due of which this knows.
    #[inline]
    pub(crate) fn due(&self) -> Nanos {
        if self.quiet() { self.acks.front().map_or(Nanos::MAX, |(at, _)| *at) } else { Nanos::ZERO }
    }

    /// Somebody asks for the client's hardware address.
    #[cold]
    pub(crate) fn asked_for(&mut self, question: &arp::Packet) {
        if self.net.address(question.target_ip).is_some() && self.arps.len() < ARPS_MAX {
            self.arps.push_back(question.reply(self.net.client));
        }
    }

    // ---- frames out ----

    /// What is due but new requests: answers, resets, segments that had to wait, SYNs, acknowledgements.
    pub(crate) fn serve(&mut self, burst: &mut Burst<'_>, mut recorder: Option<&mut Recorder>) {
        while let Some(answer) = self.arps.front()
            && burst.arp(answer)
        {
            self.arps.pop_front();
        }
        self.tick();
        self.owed();
        while let Some(&due) = self.ready.front() {
            if !self.serve_one(due, burst, recorder.as_deref_mut()) {
                return;
            }
            self.ready.pop_front();
            self.served(due);
        }
        while self.opening < OPENING_MAX
            && let Some(&id) = self.to_open.front()
        {
            let c = &mut self.conns[id as usize];
            if !burst.segment(&self.net, c, c.iss(), Flags::SYN, &[]) {
                return;
            }
            c.in_to_open = false;
            c.phase = Phase::Opening;
            c.stuck_since = self.now;
            self.to_open.pop_front();
            self.opening += 1;
            self.arm(id);
        }
    }

    /// What was in the list is in it no more.
    #[inline]
    fn served(&mut self, due: Due) {
        if let Due::Else(id) = due {
            self.conns[id as usize].in_ready = false;
        }
    }

    /// Sends what is due on one connection; false if there was no room for all of it.
    fn serve_one(&mut self, due: Due, burst: &mut Burst<'_>, recorder: Option<&mut Recorder>) -> bool {
        let id = due.id();
        let c = &mut self.conns[id as usize];
        if let Some(seq) = c.reset {
            if !burst.segment(&self.net, c, seq, Flags::RST | Flags::ACK, &[]) {
                return false;
            }
            c.reset = None;
        }
        if c.phase == Phase::Opening && c.syn_again {
            if !burst.segment(&self.net, c, c.iss(), Flags::SYN, &[]) {
                return false;
            }
            c.syn_again = false;
        }
        if c.phase != Phase::Open {
            return true;
        }
        let most = match due {
            Due::Request(_) => 1,
            Due::Else(_) if c.rest => usize::MAX,
            Due::Else(_) => 0,
        };
        if !self.send(id, most, burst, recorder) {
            return false;
        }
        let c = &mut self.conns[id as usize];
        c.rest &= most < usize::MAX;
        if c.ack_now {
            if !burst.segment(&self.net, c, c.nxt, Flags::ACK, &[]) {
                return false;
            }
            c.told = c.rcv_nxt;
            (c.ack_now, c.owed) = (false, false);
        }
        true
    }

    /// Sends what the window lets through of so many requests of connection `id`; false if the burst had no room for it.
    #[inline]
    fn send(&mut self, id: u32, mut most: usize, burst: &mut Burst<'_>, mut recorder: Option<&mut Recorder>) -> bool {
        loop {
            let c = &mut self.conns[id as usize];
            let at = c.cursor;
            if at == NIL || most == 0 {
                return true;
            }
            let request = self.slab[at];
            let offset = c.nxt.since(request.start);
            let n = c.allowance(request.len - offset);
            if n == 0 {
                c.shut = true;
                self.arm(id);
                return true;
            }
            if self.scratch_of != at {
                self.scratch.clear();
                self.asker.write(request.ask, &mut self.scratch);
                self.scratch_of = at;
            }
            let Some(bytes) = self.scratch.get(offset as usize..(offset + n) as usize) else { return true };
            if !burst.segment(&self.net, c, c.nxt, Flags::PSH | Flags::ACK, bytes) {
                return false;
            }
            c.told = c.rcv_nxt;
            (c.ack_now, c.owed) = (false, false);
            if c.una == c.max {
                c.stuck_since = self.now;
            }
            if offset == 0
                && c.max.le(c.nxt)
                && let Some(recorder) = &mut recorder
            {
                recorder.sent();
            }
            c.nxt += n;
            c.max = c.max.max(c.nxt);
            if c.nxt == request.end() {
                c.cursor = request.next;
                most -= 1;
            }
            self.arm(id);
        }
    }

    /// Asks `ask` on connection `id`, now if it can be sent now. False: there is no place for it.
    #[inline]
    pub(crate) fn ask(
        &mut self,
        id: u32,
        ask: Ask,
        meant: Nanos,
        burst: &mut Burst<'_>,
        recorder: &mut Recorder,
    ) -> bool {
        match self.make(id, ask, meant) {
            Some(true) => {
                let open = self.conns[id as usize].phase == Phase::Open;
                if open && !self.send(id, usize::MAX, burst, Some(recorder)) {
                    self.send_rest(id);
                }
                true
            }
            other => other.is_some(),
        }
    }

    /// Asks `ask` on connection `id` when its queue comes for it: after all that was asked before, or with all that the connection has. False: there is no place for it.
    #[inline]
    pub(crate) fn ask_later(&mut self, id: u32, ask: Ask, meant: Nanos, in_order: bool) -> bool {
        let Some(first) = self.make(id, ask, meant) else { return false };
        if in_order {
            self.ready.push_back(Due::Request(id));
        } else if first && self.conns[id as usize].phase == Phase::Open {
            self.send_rest(id);
        }
        true
    }

    /// A request of connection `id`, and whether it is the first of them to be sent. `None`: there is no place for it.
    #[inline]
    fn make(&mut self, id: u32, ask: Ask, meant: Nanos) -> Option<bool> {
        self.scratch.clear();
        self.asker.write(ask, &mut self.scratch);
        let len = self.scratch.len() as u32;
        let c = &mut self.conns[id as usize];
        let Some(at) = self.slab.put(Request { ask, len, meant, start: c.end, next: NIL }) else {
            self.scratch_of = NIL;
            return None;
        };
        self.scratch_of = at;
        c.end += len;
        match c.tail {
            NIL => c.head = at,
            tail => self.slab[tail].next = at,
        }
        c.tail = at;
        let first = c.cursor == NIL;
        if first {
            c.cursor = at;
        }
        Some(first)
    }

    // ---- frames out, once the table has been set ----

    /// What is due but new requests, of those groups that `queue` has.
    pub(crate) fn serve_for(
        &mut self,
        queue: usize,
        reta: &Reta,
        burst: &mut Burst<'_>,
        mut recorder: Option<&mut Recorder>,
    ) {
        while let Some(answer) = self.arps.front()
            && burst.arp(answer)
        {
            self.arps.pop_front();
        }
        while let Some(&due) = self.by_queue.get(queue).and_then(VecDeque::front) {
            if !self.serve_one(due, burst, recorder.as_deref_mut()) {
                return;
            }
            self.by_queue[queue].pop_front();
            self.served(due);
        }
        // Replies to what was just sent may have made others ready.
        self.sort_out(reta);
    }

    /// What has become due by now becomes ready.
    pub(crate) fn ripen(&mut self, reta: &Reta) {
        self.tick();
        self.owed();
        while self.opening < OPENING_MAX
            && let Some(id) = self.to_open.pop_front()
        {
            let c = &mut self.conns[id as usize];
            (c.in_to_open, c.phase, c.stuck_since, c.syn_again) = (false, Phase::Opening, self.now, true);
            self.opening += 1;
            self.arm(id);
            self.soil(id);
        }
        self.sort_out(reta);
    }

    /// Each queue's own from here on.
    pub(crate) fn sort_out(&mut self, reta: &Reta) {
        while let Some(due) = self.ready.pop_front() {
            let queue = reta.queue(self.conns[due.id() as usize].group);
            if self.by_queue.len() <= queue {
                self.by_queue.resize_with(queue + 1, VecDeque::new);
            }
            self.by_queue[queue].push_back(due);
        }
    }

    /// The table has been set: what was ready for `queue` is sorted again.
    pub(crate) fn redirect(&mut self, queue: usize, reta: &Reta) {
        if let Some(list) = self.by_queue.get_mut(queue) {
            self.ready.append(list);
        }
        self.sort_out(reta);
    }

    /// The queues that something is ready for: bits.
    pub(crate) fn waiting(&self) -> u64 {
        (0..).zip(&self.by_queue).filter(|(_, list)| !list.is_empty()).fold(0, |all, (queue, _)| all | 1 << queue)
    }

    /// When connections with something out are looked at next.
    pub(crate) fn next_look(&self) -> Nanos {
        self.ticks.front().map_or(Nanos::MAX, |(at, _)| *at)
    }

    // ---- time ----

    /// Looks at connections that have something out.
    #[inline]
    fn tick(&mut self) {
        for _ in 0..TICKS_MAX {
            let Some(&(at, id)) = self.ticks.front() else { return };
            if at > self.now {
                return;
            }
            self.ticks.pop_front();
            self.conns[id as usize].in_ticks = false;
            if self.look_at(id) {
                self.arm(id);
            }
        }
    }

    /// Sends again what is overdue. Whether to look again.
    #[cold]
    fn look_at(&mut self, id: u32) -> bool {
        let c = &mut self.conns[id as usize];
        let overdue = self.now - c.stuck_since.max(self.resumed) >= RESEND;
        match c.phase {
            Phase::Closed => return false,
            Phase::Opening if overdue => c.syn_again = true,
            // Nothing is out, and what is to be sent has its place in a list.
            Phase::Open if c.una == c.max && !c.shut => return false,
            Phase::Open if overdue => {
                // Everything from the first byte that is missing. A closed window is probed with a byte.
                c.nxt = c.una;
                c.wnd = c.wnd.max(1);
                c.cursor = c.head;
                skip_sent(c, &self.slab);
                if c.cursor == NIL {
                    (c.nxt, c.una) = (c.end, c.end);
                }
            }
            _ => return true,
        }
        self.conns[id as usize].stuck_since = self.now;
        self.send_rest(id);
        true
    }

    /// Acknowledges what has waited long enough.
    #[inline]
    fn owed(&mut self) {
        while let Some(&(at, id)) = self.acks.front() {
            if at > self.now {
                return;
            }
            self.acks.pop_front();
            let c = &mut self.conns[id as usize];
            c.in_acks = false;
            if !c.owed {
                continue;
            }
            if c.owed_at + ACK_DELAY <= self.now {
                c.ack_now = true;
                self.soil(id);
            } else {
                c.in_acks = true;
                self.acks.push_back((self.now + ACK_DELAY, id));
            }
        }
    }

    /// Has connection `id` looked at in a while.
    #[inline]
    fn arm(&mut self, id: u32) {
        let c = &mut self.conns[id as usize];
        if !c.in_ticks {
            c.in_ticks = true;
            self.ticks.push_back((self.now + TICK, id));
        }
    }

    /// Requests are due on connection `id` that could not be sent when they were to be.
    #[inline]
    pub(crate) fn send_rest(&mut self, id: u32) {
        self.conns[id as usize].rest = true;
        self.soil(id);
    }

    /// A frame is due on connection `id`.
    #[inline]
    pub(crate) fn soil(&mut self, id: u32) {
        let c = &mut self.conns[id as usize];
        if !c.in_ready {
            c.in_ready = true;
            self.ready.push_back(Due::Else(id));
        }
    }

    /// An acknowledgement is owed on connection `id` for what came at `now`.
    #[inline]
    pub(crate) fn owe(&mut self, id: u32, now: Nanos) {
        let c = &mut self.conns[id as usize];
        // RFC 9293 section 3.8.6.3: at least every second full-sized segment.
        if c.rcv_nxt.since(c.told) >= 2 * u32::from(c.mss) {
            c.ack_now = true;
            return self.soil(id);
        }
        if !c.owed {
            c.owed = true;
            c.owed_at = now;
            if !c.in_acks {
                c.in_acks = true;
                self.acks.push_back((now + ACK_DELAY, id));
            }
        }
    }

    // ---- lives ----

    /// Connection `id` is open now.
    pub(crate) fn opened(&mut self, id: u32, recorder: Option<&mut Recorder>) {
        let c = &mut self.conns[id as usize];
        c.phase = Phase::Open;
        c.ack_now = true;
        c.told = c.rcv_nxt;
        c.cursor = c.head;
        self.opening -= 1;
        self.open += 1;
        self.send_rest(id);
        if let Some(recorder) = recorder {
            recorder.opened(self.now);
        }
    }

    /// A connection has come to grief: what was sent on it and has no reply is lost, another takes its place.
    #[cold]
    pub(crate) fn broke(&mut self, id: u32, reset: bool, mut recorder: Option<&mut Recorder>) {
        if let Some(recorder) = recorder.as_deref_mut() {
            recorder.broken();
        }
        self.end_life(id, reset, recorder);
    }

    /// Gives up all requests, and the connections that the server has seen any of on, so that no late reply is taken for another's.
    #[cold]
    pub(crate) fn give_up(&mut self, recorder: &mut Recorder) {
        for id in 0..self.conns.len() as u32 {
            let c = &self.conns[id as usize];
            if c.head == NIL {
                continue;
            }
            let mut at = c.head;
            while at != NIL {
                let request = self.slab[at];
                recorder.unanswered(request.meant);
                self.slab.free(at);
                at = request.next;
            }
            let c = &mut self.conns[id as usize];
            (c.head, c.tail) = (NIL, NIL);
            if c.phase == Phase::Open {
                self.end_life(id, true, None);
            } else {
                // Nothing of them was sent.
                (c.end, c.cursor) = (c.nxt, NIL);
            }
        }
    }

    /// Ends a connection's life, with a reset if the server is to know. Requests that were sent are lost; the others wait for the next life.
    fn end_life(&mut self, id: u32, reset: bool, mut recorder: Option<&mut Recorder>) {
        let c = &mut self.conns[id as usize];
        match c.phase {
            Phase::Closed => return,
            Phase::Opening => self.opening -= 1,
            Phase::Open => self.open -= 1,
        }
        let (max, was_open) = (c.max, c.phase == Phase::Open);
        if reset {
            c.reset = Some(max);
        }
        c.end_life();
        let mut at = c.head;
        (c.head, c.tail) = (NIL, NIL);
        while at != NIL {
            let request = self.slab[at];
            if was_open && request.start.lt(max) {
                if let Some(recorder) = recorder.as_deref_mut() {
                    recorder.lost(request.meant);
                }
                self.slab.free(at);
                self.end(id);
            } else {
                let c = &mut self.conns[id as usize];
                let place = &mut self.slab[at];
                (place.start, place.next) = (c.end, NIL);
                c.end += place.len;
                match c.tail {
                    NIL => c.head = at,
                    tail => self.slab[tail].next = at,
                }
                c.tail = at;
            }
            at = request.next;
        }
        self.soil(id);
        if self.wanted {
            self.want_open(id);
        }
    }

    /// A request of connection `id` has come to its end, whichever.
    #[inline]
    pub(crate) fn end(&mut self, id: u32) {
        if self.heeds {
            self.ended.push(id);
        }
    }

    fn want_open(&mut self, id: u32) {
        let c = &mut self.conns[id as usize];
        if c.phase == Phase::Closed && !c.in_to_open {
            c.in_to_open = true;
            self.to_open.push_back(id);
        }
    }

    /// Whether all connections are as they should be.
    pub(crate) fn settled(&self) -> bool {
        self.quiet() && self.waiting() == 0 && self.opening == 0 && (!self.wanted || self.open == self.conns.len())
    }
}

/// Moves the cursor to the request that `nxt` lies in.
#[inline]
pub(crate) fn skip_sent(c: &mut Conn, slab: &Slab) {
    while c.cursor != NIL && slab[c.cursor].end().le(c.nxt) {
        c.cursor = slab[c.cursor].next;
    }
}

/// A reset for a segment of a life that is over (RFC 9293 section 3.5.2, group 1).
pub(crate) fn refuse(flows: &mut Flows, id: u32, ack: Seq) {
    flows.conns[id as usize].reset = Some(ack);
    flows.soil(id);
}
