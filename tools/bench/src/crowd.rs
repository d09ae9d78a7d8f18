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
use wire::checksum::Sum;
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

/// The peer.
pub(crate) struct Crowd {
    queue: ShmQueue,
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
    /// Room for `most` connections, touched.
    pub(crate) fn new(queue: ShmQueue, most: usize) -> Result<Crowd, mem::MemError> {
        let mut owing = VecDeque::with_capacity(most);
        owing.resize(most, (Nanos::ZERO, 0));
        owing.clear();
        Ok(Crowd {
            queue,
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
            if self.members[id].asked {
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
            let from = Ipv4Addr::from_bits(CLIENT.to_bits() + 3 + 2 * self.rng.random_range(0..FLOODERS));
            let (port, seq) = (self.rng.random(), self.rng.random());
            if !self.emit(from, port, [Seq(seq), Seq(0)], Flags::SYN, &[]) {
                break;
            }
            self.floods += 1;
        }
    }

    /// Takes what has come, and what it is time for; without asking for more.
    pub(crate) fn poll(&mut self, now: Nanos) {
        let mut frames = std::mem::take(&mut self.frames);
        self.queue.rx_burst(&mut self.pools, BURST, &mut frames);
        for frame in frames.drain(..) {
            if self.heard(now, &frame.head).is_none() {
                self.errors += 1;
            }
        }
        self.frames = frames;
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
        self.queue.flush();
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
        let sent = self.emit(from, port, [Seq(member.snd), Seq(member.rcv)], flags, payload);
        if sent {
            self.members[id].told = member.rcv;
        }
        sent
    }

    fn emit(&mut self, from: Ipv4Addr, src_port: u16, [seq, ack]: [Seq; 2], flags: Flags, payload: &[u8]) -> bool {
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
        let mut frame = [0u8; 160];
        ethernet::Header { dst: MACS.0, src: MACS.1, ethertype: ethernet::IPV4 }.emit(&mut frame);
        let at = ethernet::HEADER + ipv4::HEADER;
        let mut len = header.emit(&mut frame[at..]);
        frame[at + len..at + len + payload.len()].copy_from_slice(payload);
        len += payload.len();
        ipv4::Header::new(from, SERVER, ipv4::TCP, len as u16).emit(&mut frame[ethernet::HEADER..]);
        let sum = Sum::pseudo_v4(from, SERVER, ipv4::TCP, len as u32).with(&frame[at..at + len]).finish();
        frame[at + tcp::CHECKSUM_OFFSET..at + tcp::CHECKSUM_OFFSET + 2].copy_from_slice(&sum.to_be_bytes());
        self.send(&frame[..at + len])
    }

    fn send(&mut self, frame: &[u8]) -> bool {
        self.queue.tx(&TxFrame { head: frame, payload: &[] as &[IoSlice<'_>], csum: None, gso: None }).is_ok()
    }

    /// Takes a frame of the server; `None` if it is not as it has to be.
    fn heard(&mut self, now: Nanos, frame: &[u8]) -> Option<()> {
        let (header, payload) = ethernet::parse(frame).ok()?;
        if header.ethertype == ethernet::ARP {
            let question = arp::parse(payload).ok()?;
            let mut reply = [0u8; ethernet::MIN_FRAME];
            question.reply(MACS.1).emit_frame(&mut reply);
            self.send(&reply);
            return Some(());
        }
        let (ip, segment) = ipv4::parse(payload).ok()?;
        let tcp = tcp::Header::parse(segment).ok()?;
        let payload = segment.get(usize::from(tcp.header_len)..)?;
        let address = ip.dst.to_bits().checked_sub(CLIENT.to_bits())?;
        if address % 2 == 1 {
            self.answers += 1;
            return Some(());
        }
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

/// What the messages of a connection are made of.
fn byte(id: usize) -> u8 {
    (id % 251) as u8
}
