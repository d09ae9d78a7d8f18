//! A peer of very many connections that keeps 16 bytes of each: it opens them, asks over them at random, and acknowledges as TCP asks for.
//!
//! ```text
//!   SYN, SYN-ACK, ACK        at most `OPENING` at a time
//!   64 B ──►                 on a connection drawn at random, `under_way` of them in all
//!        ◄── 64 B            compared; acknowledged by the next request there, or by itself after `ACK_DELAY`
//! ```

use std::collections::VecDeque;
use std::io::IoSlice;

use mem::{Pool, Room};
use nic::{Queue, RxFrame, RxPools, TxFrame};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use shm::ShmQueue;
use units::Nanos;
use wire::checksum::{Sum, fold};
use wire::tcp::{Flags, Options};
use wire::{Ipv4Addr, Mac, Seq, arp, ethernet, ipv4, tcp};

use crate::rig::{CLIENT, PORT, SERVER};

/// Bytes of a message.
pub(crate) const MESSAGE: usize = 64;
/// Connections per source address.
const PER_ADDRESS: usize = 60_000;
/// The first port of each.
const FIRST_PORT: u16 = 2_000;
/// Addresses, between those of the members, that SYNs come from which nobody stands by.
const FLOODERS: u32 = 64;
/// Connections being opened at once.
const OPENING: usize = 256;
/// How long an acknowledgement waits for a request to ride on: as long as Linux waits (RFC 9293 section 3.8.6.3: less than 0.5 s).
const ACK_DELAY: Nanos = Nanos::from_millis(40);
/// Frames taken at once.
const BURST: usize = 64;
/// So many times in a row, if there are more: answers to a flood must not keep the server from sending.
const BURSTS: usize = 4;
/// Where the TCP header begins.
const TCP_AT: usize = ethernet::HEADER + ipv4::HEADER;
/// The hardware addresses of both ends of [`crate::rig::wire`].
const MACS: (Mac, Mac) = (Mac::local(1), Mac::local(2));

/// One connection, as the client knows it.
#[derive(Clone, Copy, Default)]
struct Member {
    /// The number of the next byte to the server.
    snd: u32,
    /// The number of the next byte from it.
    rcv: u32,
    /// The number acknowledged last.
    told: u32,
    /// Bytes of the reply that have come.
    got: u8,
    open: bool,
    /// A request has no reply yet.
    asked: bool,
    /// It is in the queue of those that owe an acknowledgement.
    owes: bool,
}

/// A SYN of a flooder, made once: others differ from it in a few words, and their checksums by the sum of these (RFC 1624 section 3).
struct Syn {
    frame: [u8; Self::LEN],
    /// The sums of both headers without the words that differ, not complemented.
    sums: [u64; 2],
}

impl Syn {
    const LEN: usize = TCP_AT + tcp::HEADER + 4;
    /// Where the low half of the source address lies, the source port, the sequence number.
    const VARY: [usize; 3] = [ethernet::HEADER + 14, TCP_AT, TCP_AT + 4];

    fn new() -> Syn {
        let mut frame = [0; 160];
        let len = emit(&mut frame, CLIENT, 0, [Seq(0), Seq(0)], Flags::SYN, &[]);
        let frame = *frame.first_chunk().filter(|_| len == Self::LEN).expect("a SYN with one option");
        let sum = |at: usize| u64::from(!u16::from_be_bytes([frame[at], frame[at + 1]]));
        let low = u64::from(CLIENT.to_bits() as u16);
        let sums = [ethernet::HEADER + 10, TCP_AT + tcp::CHECKSUM_OFFSET].map(|at| sum(at) + u64::from(!(low as u16)));
        Syn { frame, sums }
    }

    /// The SYN that 64 random bits choose.
    fn of(&self, random: u64) -> [u8; Self::LEN] {
        let (seq, port) = (random as u32, (random >> 32) as u16);
        let from = (CLIENT.to_bits() + 3 + 2 * ((random >> 48) as u32 % FLOODERS)) as u16;
        let mut frame = self.frame;
        let mut put = |at: usize, bytes: &[u8]| frame[at..at + bytes.len()].copy_from_slice(bytes);
        let [from_at, port_at, seq_at] = Self::VARY;
        put(from_at, &from.to_be_bytes());
        put(port_at, &port.to_be_bytes());
        put(seq_at, &seq.to_be_bytes());
        let varied = u64::from(from) + u64::from(port) + u64::from(seq >> 16) + u64::from(seq & 0xffff);
        put(ethernet::HEADER + 10, &(!fold(self.sums[0] + u64::from(from))).to_be_bytes());
        put(TCP_AT + tcp::CHECKSUM_OFFSET, &(!fold(self.sums[1] + varied)).to_be_bytes());
        frame
    }
}

/// The peer.
pub(crate) struct Crowd {
    queue: ShmQueue,
    /// The port of those that flood, if they have one of their own.
    flooders: Option<ShmQueue>,
    syn: Syn,
    /// Answers to questions for addresses that the wire had no room for.
    told: VecDeque<[u8; ethernet::MIN_FRAME]>,
    pools: RxPools,
    frames: Vec<RxFrame>,
    members: Vec<Member>,
    owing: VecDeque<(Nanos, u32)>,
    rng: SmallRng,
    /// Connections asked for, open, requests without a reply, replies, and what went wrong.
    begun: usize,
    open: usize,
    under_way: usize,
    pub(crate) replies: u64,
    pub(crate) errors: u64,
    /// SYNs that nobody stands by, and what they were answered with.
    pub(crate) floods: u64,
    pub(crate) answers: u64,
}

impl Crowd {
    /// Room for `most` connections, touched. What floods comes by a port of its own if there is a second queue.
    pub(crate) fn new(queues: Vec<ShmQueue>, most: usize) -> Result<Crowd, Box<dyn std::error::Error>> {
        let mut queues = queues.into_iter();
        let (queue, flooders) = (queues.next().ok_or("the wire has no queue")?, queues.next());
        let mut owing = VecDeque::with_capacity(most);
        owing.resize(most, (Nanos::ZERO, 0));
        owing.clear();
        Ok(Crowd {
            queue,
            flooders,
            syn: Syn::new(),
            told: VecDeque::new(),
            pools: RxPools {
                mbufs: Pool::new(Room::Received, 1024, 2048)?,
                spills: Pool::new(Room::Received, 1, 2048)?,
            },
            frames: Vec::with_capacity(BURST),
            // Written, so that it is resident from now on.
            members: (0..most).map(|id| Member { snd: id as u32, ..Member::default() }).collect(),
            owing,
            rng: SmallRng::seed_from_u64(1),
            begun: 0,
            open: 0,
            under_way: 0,
            replies: 0,
            errors: 0,
            floods: 0,
            answers: 0,
        })
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// Opens connections until there are `count`; a step of it.
    pub(crate) fn open_some(&mut self, now: Nanos, count: usize) {
        while self.begun < count.min(self.members.len()) && self.begun < self.open + OPENING {
            let id = self.begun;
            if !self.segment(id, Flags::SYN, false) {
                break;
            }
            self.members[id].snd = self.members[id].snd.wrapping_add(1);
            self.begun += 1;
        }
        self.poll(now);
    }

    /// Asks once more for the connections that were asked for and are not open: their first segment may have been lost at a full wire.
    pub(crate) fn insist(&mut self) {
        for id in 0..self.begun {
            if self.members[id].open {
                continue;
            }
            self.members[id].snd = self.members[id].snd.wrapping_sub(1);
            let sent = self.segment(id, Flags::SYN, false);
            self.members[id].snd = self.members[id].snd.wrapping_add(1);
            if !sent {
                break;
            }
        }
        self.queue.flush();
    }

    /// Asks until `under_way` requests have no reply, and takes what has come; a step of it.
    pub(crate) fn ask_some(&mut self, now: Nanos, under_way: usize) {
        for _ in 0..BURST {
            if self.under_way >= under_way.min(self.open) {
                break;
            }
            let id = self.rng.random_range(0..self.open);
            // Those of a flood's time do not open in their order.
            if self.members[id].asked || !self.members[id].open {
                continue;
            }
            if !self.segment(id, Flags::ACK | Flags::PSH, true) {
                break;
            }
            let member = &mut self.members[id];
            member.snd = member.snd.wrapping_add(MESSAGE as u32);
            member.asked = true;
            self.under_way += 1;
        }
        self.poll(now);
    }

    /// Sends at most `n` SYNs from addresses, ports and numbers drawn at random, which nobody stands by; as many as the wire takes.
    pub(crate) fn flood_some(&mut self, n: usize) {
        for _ in 0..n {
            let frame = self.syn.of(self.rng.random());
            if !send(self.flooders.as_mut().unwrap_or(&mut self.queue), &frame) {
                break;
            }
            self.floods += 1;
        }
    }

    /// Takes what has come, and what it is time for; without asking for more.
    pub(crate) fn poll(&mut self, now: Nanos) {
        let mut frames = std::mem::take(&mut self.frames);
        for _ in 0..BURSTS {
            let came = self.queue.rx_burst(&mut self.pools, BURST, &mut frames);
            for frame in frames.drain(..) {
                if to_nobody(&frame.head) {
                    self.answers += 1;
                } else if self.heard(now, &frame.head).is_none() {
                    self.errors += 1;
                }
                self.pools.mbufs.free(frame.head);
            }
            if came < BURST {
                break;
            }
        }
        self.frames = frames;
        while self.told.front().is_some_and(|reply| send(&mut self.queue, reply)) {
            self.told.pop_front();
        }
        while let Some(&(at, id)) = self.owing.front()
            && at <= now
        {
            let id = id as usize;
            if self.members[id].told != self.members[id].rcv && !self.segment(id, Flags::ACK, false) {
                break;
            }
            self.members[id].owes = false;
            self.owing.pop_front();
        }
        self.flush();
    }

    /// Shows the server what was sent.
    pub(crate) fn flush(&mut self) {
        self.queue.flush();
        if let Some(queue) = &mut self.flooders {
            queue.flush();
        }
    }

    /// Whether anything is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.under_way == 0 && self.owing.is_empty()
    }

    /// Sends a segment on connection `id`; false if the wire is full.
    fn segment(&mut self, id: usize, flags: Flags, with_message: bool) -> bool {
        let member = self.members[id];
        let from = Ipv4Addr::from_bits(CLIENT.to_bits() + 2 * (id / PER_ADDRESS) as u32);
        let port = FIRST_PORT + (id % PER_ADDRESS) as u16;
        let message = [byte(id); MESSAGE];
        let payload = if with_message { &message[..] } else { &[] };
        let mut frame = [0u8; 160];
        let len = emit(&mut frame, from, port, [Seq(member.snd), Seq(member.rcv)], flags, payload);
        let sent = send(&mut self.queue, &frame[..len]);
        if sent {
            self.members[id].told = member.rcv;
        }
        sent
    }

    /// Takes a frame of the server; `None` if it is not as it has to be.
    fn heard(&mut self, now: Nanos, frame: &[u8]) -> Option<()> {
        let (header, payload) = ethernet::parse(frame).ok()?;
        if header.ethertype == ethernet::ARP {
            let question = arp::parse(payload).ok()?;
            let mut reply = [0u8; ethernet::MIN_FRAME];
            question.reply(MACS.1).emit_frame(&mut reply);
            self.told.push_back(reply);
            return Some(());
        }
        let (ip, segment) = ipv4::parse(payload).ok()?;
        let tcp = tcp::Header::parse(segment).ok()?;
        let payload = segment.get(usize::from(tcp.header_len)..)?;
        let address = ip.dst.to_bits().checked_sub(CLIENT.to_bits())?;
        let id = (address / 2) as usize * PER_ADDRESS + usize::from(tcp.dst_port.checked_sub(FIRST_PORT)?);
        let member = self.members.get_mut(id)?;
        if tcp.flags.contains(Flags::SYN) {
            if !member.open {
                member.rcv = tcp.seq.0.wrapping_add(1);
                member.open = true;
                self.open += 1;
            }
            self.segment(id, Flags::ACK, false);
            return Some(());
        }
        if tcp.flags.intersects(Flags::RST | Flags::FIN) {
            return None;
        }
        if payload.is_empty() {
            return Some(());
        }
        if tcp.seq.0 != member.rcv {
            // Sent again, for our acknowledgement came too late.
            self.owe(now, id);
            return Some(());
        }
        member.rcv = member.rcv.wrapping_add(payload.len() as u32);
        member.got += u8::try_from(payload.len()).ok()?;
        let whole = usize::from(member.got) >= MESSAGE;
        if whole {
            (member.got, member.asked) = (0, false);
            self.under_way -= 1;
            self.replies += 1;
        }
        self.owe(now, id);
        payload.iter().all(|b| *b == byte(id)).then_some(())
    }

    fn owe(&mut self, now: Nanos, id: usize) {
        let member = &mut self.members[id];
        if !member.owes {
            member.owes = true;
            self.owing.push_back((now + ACK_DELAY, id as u32));
        }
    }
}

fn send(queue: &mut ShmQueue, frame: &[u8]) -> bool {
    queue.tx(&TxFrame { head: frame, payload: &[] as &[IoSlice<'_>], csum: None, gso: None }).is_ok()
}

/// Writes a segment to the server, and answers how long its frame is.
fn emit(
    frame: &mut [u8; 160],
    from: Ipv4Addr,
    src_port: u16,
    [seq, ack]: [Seq; 2],
    flags: Flags,
    payload: &[u8],
) -> usize {
    let header = tcp::Header {
        src_port,
        dst_port: PORT,
        seq,
        ack,
        flags,
        window: 65_535,
        urgent: 0,
        options: Options { mss: flags.contains(Flags::SYN).then_some(1460), ..Options::NONE },
        header_len: 0,
    };
    ethernet::Header { dst: MACS.0, src: MACS.1, ethertype: ethernet::IPV4 }.emit(frame);
    let mut len = header.emit(&mut frame[TCP_AT..]);
    frame[TCP_AT + len..TCP_AT + len + payload.len()].copy_from_slice(payload);
    len += payload.len();
    ipv4::Header::new(from, SERVER, ipv4::TCP, len as u16).emit(&mut frame[ethernet::HEADER..]);
    let sum = Sum::pseudo_v4(from, SERVER, ipv4::TCP, len as u32).with(&frame[TCP_AT..TCP_AT + len]).finish();
    let at = TCP_AT + tcp::CHECKSUM_OFFSET;
    frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    TCP_AT + len
}

/// Whether a frame goes to nobody: an answer to a flood.
fn to_nobody(frame: &[u8]) -> bool {
    let at = ethernet::HEADER + 16;
    frame[12..14] == ethernet::IPV4.to_be_bytes()
        && frame
            .get(at..)
            .and_then(|rest| rest.first_chunk())
            .is_some_and(|to| u32::from_be_bytes(*to).wrapping_sub(CLIENT.to_bits()) % 2 == 1)
}

/// What the messages of a connection are made of.
fn byte(id: usize) -> u8 {
    (id % 251) as u8
}
