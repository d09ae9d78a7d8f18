//! A caller of the engine as simple as can be: queues of bytes around a `Tcb`, every answer acted upon and checked.

use std::collections::{BTreeMap, VecDeque};

use units::Nanos;
use wire::Seq;
use wire::tcp::{Flags, Segment};

use crate::{Arrival, CloseReason, Config, Emit, Events, HalfOpen, HalfOutcome, Payload, Records, State, Tcb};

/// A segment with its bytes.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) seg: Segment,
    /// It may be marked.
    pub(super) ect: bool,
    pub(super) payload: Vec<u8>,
}

pub(super) enum Conn {
    Listen(Seq),
    Half(HalfOpen),
    Open(Box<Tcb>),
    Gone,
}

pub(super) struct Endpoint {
    pub(super) cfg: Config,
    pub(super) conn: Conn,
    /// What the user has yet to send.
    pub(super) to_send: VecDeque<u8>,
    send_queue: VecDeque<u8>,
    /// In order, not consumed.
    pub(super) receive_queue: VecDeque<u8>,
    held: BTreeMap<u32, Vec<u8>>,
    held_base: Seq,
    /// Consumed.
    pub(super) received: Vec<u8>,
    pub(super) max_payload: u32,
    pub(super) peer_fin: bool,
    pub(super) connected: bool,
    shut: bool,
    pub(super) close_when_done: bool,
    pub(super) closed: Option<CloseReason>,
    pub(super) outbox: Vec<Packet>,
    pub(super) keep_ooo: bool,
    pub(super) records: Records,
    pub(super) records_made: usize,
    edge: Option<Seq>,
    pub(super) sent_segments: usize,
    pub(super) rexmits: usize,
}

impl Endpoint {
    pub(super) fn new(cfg: Config, conn: Conn) -> Endpoint {
        Endpoint {
            cfg,
            conn,
            to_send: VecDeque::new(),
            send_queue: VecDeque::new(),
            receive_queue: VecDeque::new(),
            held: BTreeMap::new(),
            held_base: Seq(0),
            received: Vec::new(),
            max_payload: 1 << 16,
            peer_fin: false,
            connected: false,
            shut: false,
            close_when_done: true,
            closed: None,
            outbox: Vec::new(),
            keep_ooo: true,
            records: Records::new(1),
            records_made: 1,
            edge: None,
            sent_segments: 0,
            rexmits: 0,
        }
    }

    /// A stack with so many records.
    pub(super) fn set_records(&mut self, n: usize) {
        (self.records, self.records_made) = (Records::new(n), n);
    }

    pub(super) fn connect(now: Nanos, cfg: Config, isn: Seq) -> Endpoint {
        let tcb = Tcb::connect(now, &cfg, isn);
        Endpoint::new(cfg, Conn::Open(Box::new(tcb)))
    }

    pub(super) fn listen(cfg: Config, isn: Seq) -> Endpoint {
        Endpoint::new(cfg, Conn::Listen(isn))
    }

    pub(super) fn tcb(&self) -> &Tcb {
        match &self.conn {
            Conn::Open(tcb) => tcb,
            _ => panic!("no control block"),
        }
    }

    pub(super) fn tcb_mut(&mut self) -> &mut Tcb {
        match &mut self.conn {
            Conn::Open(tcb) => tcb,
            _ => panic!("no control block"),
        }
    }

    pub(super) fn state(&self) -> State {
        match &self.conn {
            Conn::Open(tcb) => tcb.state(),
            Conn::Half(_) => State::SynReceived,
            _ => State::Closed,
        }
    }

    pub(super) fn packet_arrives(&mut self, now: Nanos, packet: &Packet) -> Arrival {
        let seg = &packet.seg;
        match &mut self.conn {
            Conn::Gone => {
                if let Some(reply) = crate::reset_reply(seg) {
                    self.emit(&reply);
                }
                return Arrival::default();
            }
            Conn::Listen(isn) => {
                if seg.flags.0 & (Flags::SYN | Flags::ACK | Flags::RST).0 == Flags::SYN.0 {
                    let (half, emit) = HalfOpen::syn_arrives(now, &self.cfg, *isn, seg);
                    self.conn = Conn::Half(half);
                    self.emit(&emit);
                } else if let Some(reply) = crate::reset_reply(seg) {
                    self.emit(&reply);
                }
                return Arrival::default();
            }
            Conn::Half(half) => match half.segment_arrives(now, &self.cfg, seg) {
                HalfOutcome::Established(tcb) => {
                    self.conn = Conn::Open(Box::new(tcb));
                    self.connected = true;
                }
                HalfOutcome::Drop(_) => return Arrival::default(),
                HalfOutcome::Reply(emit) => {
                    self.emit(&emit);
                    return Arrival::default();
                }
                HalfOutcome::Reset => {
                    self.conn = Conn::Gone;
                    self.closed = Some(CloseReason::Reset);
                    return Arrival::default();
                }
            },
            Conn::Open(_) => {}
        }
        let keep_ooo = self.keep_ooo;
        let cfg = self.cfg.clone();
        let before = self.tcb().rcv_nxt();
        let arrival = {
            let Endpoint { conn: Conn::Open(tcb), records, .. } = self else { panic!("no control block") };
            tcb.segment_arrives(now, &cfg, seg, keep_ooo, records)
        };
        self.take_payload(before, &arrival, &packet.payload);
        self.act(&arrival);
        arrival
    }

    /// The rule of `Arrival::advanced`, to the letter.
    fn take_payload(&mut self, before: Seq, arrival: &Arrival, payload: &[u8]) {
        match arrival.payload {
            Payload::None => assert_eq!(arrival.advanced, 0),
            Payload::InOrder { skip, len } => {
                assert!(len > 0);
                self.receive_queue.extend(&payload[skip as usize..(skip + len) as usize]);
                let mut cur = before + len;
                let end = before + arrival.advanced;
                while let Some((&key, _)) = self.held.first_key_value() {
                    let seq = self.held_base + key;
                    if !seq.lt(end) {
                        break;
                    }
                    let piece = self.held.remove(&key).unwrap();
                    let piece_end = seq + piece.len() as u32;
                    if piece_end.le(cur) {
                        continue;
                    }
                    assert!(seq.le(cur), "a gap in what was said to be connected");
                    self.receive_queue.extend(&piece[cur.since(seq) as usize..]);
                    cur = piece_end;
                }
                assert_eq!(cur, end, "held pieces fill what was advanced");
            }
            Payload::OutOfOrder { skip, len, seq } => {
                assert!(len > 0 && seq.gt(before));
                if self.held.is_empty() {
                    self.held_base = before;
                }
                let piece = payload[skip as usize..(skip + len) as usize].to_vec();
                let key = seq.since(self.held_base);
                for (&k, v) in &self.held {
                    assert!(k + v.len() as u32 <= key || key + len <= k, "held pieces overlap");
                }
                self.held.insert(key, piece);
            }
        }
    }

    fn act(&mut self, arrival: &Arrival) {
        self.send_queue.drain(..arrival.acked as usize);
        self.connected |= arrival.events.contains(Events::CONNECTED);
        if arrival.events.contains(Events::PEER_FIN) {
            assert!(!self.peer_fin, "told twice");
            self.peer_fin = true;
        }
        if let Some(reply) = &arrival.reply {
            self.emit(reply);
        }
        self.check();
        if let Some(reason) = arrival.closed {
            assert_eq!(self.tcb().state(), State::Closed);
            self.closed = Some(reason);
            let Endpoint { conn: Conn::Open(tcb), records, .. } = self else { panic!("no control block") };
            tcb.retire(records);
            self.conn = Conn::Gone;
        }
    }

    fn check(&mut self) {
        let Conn::Open(tcb) = &self.conn else { return };
        tcb.invariants().unwrap_or_else(|name| panic!("{name}: {tcb}"));
        if tcb.state() == State::Closed {
            return;
        }
        assert_eq!(tcb.unacked() as usize, self.send_queue.len(), "{tcb}");
        assert_eq!(tcb.unread() as usize, self.receive_queue.len(), "{tcb}");
        assert!(self.edge.is_none_or(|edge| edge.le(tcb.rcv_edge())), "the window's edge moved back");
        if tcb.state().is_synchronized() {
            self.edge = Some(tcb.rcv_edge());
        }
    }

    pub(super) fn emit(&mut self, emit: &Emit) {
        self.sent_segments += 1;
        self.rexmits += usize::from(emit.rexmit);
        if emit.len == 0 {
            self.outbox.push(Packet { seg: emit.segment(), ect: emit.ect, payload: Vec::new() });
            return;
        }
        let bytes: Vec<u8> =
            self.send_queue.iter().skip(emit.offset as usize).take(emit.len as usize).copied().collect();
        assert_eq!(bytes.len(), emit.len as usize, "emits what was admitted: {emit}");
        let mut at = 0u32;
        for piece in bytes.chunks(usize::from(emit.mss)) {
            let last = at + piece.len() as u32 == emit.len;
            let flags = if last { emit.flags } else { emit.flags.without(Flags::FIN | Flags::PSH) };
            let seg = Segment { seq: emit.seq + at, flags, len: piece.len() as u32, ..emit.segment() };
            self.outbox.push(Packet { seg, ect: emit.ect, payload: piece.to_vec() });
            at += piece.len() as u32;
        }
    }

    /// Sends what the windows admit, then everything that the engine wants out.
    pub(super) fn run(&mut self, now: Nanos) {
        let cfg = self.cfg.clone();
        if matches!(self.conn, Conn::Open(_)) {
            let wish = u32::try_from(self.to_send.len()).unwrap();
            let admitted = self.tcb_mut().send(now, wish) as usize;
            self.send_queue.extend(self.to_send.drain(..admitted));
            if self.close_when_done && self.to_send.is_empty() && !self.shut && self.connected {
                self.shut = true;
                let out = self.tcb_mut().shutdown(now, &cfg);
                self.act(&out);
            }
        }
        let mut calls = 0;
        while let Conn::Open(tcb) = &mut self.conn {
            let Some(emit) = tcb.poll_transmit(now, &cfg, self.max_payload) else {
                break;
            };
            if emit.len > u32::from(emit.mss) && emit.offset + emit.len < self.send_queue.len() as u32 {
                assert_eq!(emit.len % u32::from(emit.mss), 0, "super-segments are whole but the last");
            }
            self.emit(&emit);
            calls += 1;
            assert!(calls < 100_000, "poll_transmit never ends");
        }
        self.check();
    }

    /// The application reads `n` bytes.
    pub(super) fn consume(&mut self, n: usize) {
        let n = n.min(self.receive_queue.len());
        self.received.extend(self.receive_queue.drain(..n));
        if let Conn::Open(tcb) = &mut self.conn {
            tcb.consumed(n as u32);
        }
    }

    pub(super) fn deadline(&self) -> Nanos {
        match &self.conn {
            Conn::Open(tcb) => tcb.deadline(),
            Conn::Half(half) => half.deadline(),
            Conn::Listen(_) | Conn::Gone => Nanos::MAX,
        }
    }

    pub(super) fn timeout(&mut self, now: Nanos) {
        let cfg = self.cfg.clone();
        match &mut self.conn {
            Conn::Open(tcb) => {
                let out = tcb.timeout(now, &cfg, &mut self.records);
                assert!(tcb.deadline() > now, "a deadline stands still: {tcb}");
                self.act(&out);
            }
            Conn::Half(half) => match half.timeout(now, &cfg) {
                Some(emit) => self.emit(&emit),
                None => {
                    self.conn = Conn::Gone;
                    self.closed = Some(CloseReason::TimedOut);
                }
            },
            Conn::Listen(_) | Conn::Gone => {}
        }
    }
}
