//! Fetching ahead: what a few frames and the timers of a pass will touch is asked for before the first of them is worked on.
//!
//! ```text
//!   for 16 frames   headers ──► hash
//!   for 16 frames   hash ──► fetch the place in the flow table
//!   for 16 frames   place ──► slot ──► fetch the connection
//!   for 16 frames   connection ──► fetch the buffer that an ACK will free, and its timer
//!   for 16 frames   work, as always
//! ```
//! With a million connections in memory a request would wait for it a dozen times in a row; so the waits of several overlap. The loops are
//! short, for a processor waits for many pages at once only within the few hundred instructions that it has in sight; and the frames are few, for
//! what was fetched has to be there still when its turn comes. Nothing but time depends on what is fetched. What a glance says of a flow is used,
//! and saves its being worked out twice: so it says nothing where the whole look might say otherwise.

use abi::Handle;
use nic::{Queue, RxFrame};
use units::FlowGroupId;
use wire::{Addr, Ipv4Addr, Ipv6Addr, ethernet, ipv4, ipv6};

use crate::addresses::Ends;
use crate::conn::Conn;
use crate::shared::Shared;
use crate::stack::Stack;

/// Frames looked at together.
pub(crate) const WINDOW: usize = 16;
/// Fewer are not worth the looking.
const FEW: usize = 4;

/// Where a flow belongs, and how it is found there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Flow {
    pub(crate) group: FlowGroupId,
    pub(crate) hash: u64,
}

impl<Q: Queue> Stack<Q> {
    /// Has the connections of the first [`WINDOW`] frames fetched, if there are many connections. `flows` says then which those are, frame by frame, as far as that
    /// is seen at a glance; else it is left empty.
    #[inline]
    pub(crate) fn look_ahead(&self, frames: &[RxFrame], flows: &mut Vec<Option<Flow>>) {
        flows.clear();
        if frames.len() >= FEW && self.shared.is_scattered() {
            self.fetch(&frames[..frames.len().min(WINDOW)], flows);
        }
    }

    #[inline(never)]
    fn fetch(&self, frames: &[RxFrame], flows: &mut Vec<Option<Flow>>) {
        flows.extend(frames.iter().map(|frame| glance(&self.shared, frame)));
        let meant = || flows.iter().flatten().filter_map(|flow| Some((self.groups.get(flow.group)?, flow.hash)));
        for (group, hash) in meant() {
            group.prefetch_entry(hash);
        }
        let conns = || meant().filter_map(|(group, hash)| group.meant(hash));
        for conn in conns() {
            mem::prefetch_first(conn, Conn::HOT);
        }
        for conn in conns() {
            if let Some(buffer) = conn.tx.front() {
                buffer.prefetch();
            }
            if let Some(node) = conn.timer.and_then(|(timer, _)| self.wheel.peek(timer)) {
                mem::prefetch(node);
            }
        }
    }

    /// As [`Stack::look_ahead`], for the connections whose timers are due.
    #[inline]
    pub(crate) fn look_ahead_due(&self, due: &[u64]) {
        if due.len() < FEW || !self.shared.is_scattered() {
            return;
        }
        for token in due {
            let handle = Handle::from_bits(*token);
            if let Some(conn) = self.groups.get(handle.group()).and_then(|g| g.conn(handle.slot())) {
                mem::prefetch(conn);
            }
        }
    }
}

/// The flow of a frame that looks like a segment to us without options of IP. Whether it is one is not checked; if it is, this is its flow.
#[inline]
fn glance(shared: &Shared, frame: &RxFrame) -> Option<Flow> {
    let all = &shared.addresses;
    let ip = frame.head.get(ethernet::HEADER..)?;
    let word = |at: usize| Some(u32::from_be_bytes(*ip.get(at..at + 4)?.first_chunk()?));
    let wide = |at: usize| Some(Addr::from(Ipv6Addr::from_bits(u128::from_be_bytes(*ip.get(at..)?.first_chunk()?))));
    let whole = || word(4).is_some_and(|w| w as u16 & (ipv4::MF | ipv4::OFFSET_MASK) == 0);
    let (remote, local, at) = match (*ip.first()?, *ip.get(6)?, *ip.get(9)?) {
        (0x45, _, ipv4::TCP) if whole() => {
            (Ipv4Addr::from_bits(word(12)?).into(), all.find_v4(word(16)?)?, ipv4::HEADER)
        }
        (0x60, ipv4::TCP, _) => (wide(8)?, all.find(&wide(24)?)?, ipv6::HEADER),
        _ => return None,
    };
    let ports = word(at)?;
    let ends = Ends { remote, remote_port: (ports >> 16) as u16, local_port: ports as u16, local };
    let group = frame.group.unwrap_or_else(|| shared.flow_group(&all.tuple(&ends)));
    Some(Flow { group, hash: shared.flow_key.hash(&ends) })
}

#[cfg(test)]
mod tests {
    use mem::{MbufQueue, Pool, Room};
    use wire::{Mac, Tuple};

    use super::*;
    use crate::StackConfig;

    const OURS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
    const PEER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
    const PEER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 1);

    fn shared() -> Shared {
        let config = StackConfig::new(Mac::local(1), OURS, 24).with_address(ours_v6(), 48);
        let group = |t: &Tuple| FlowGroupId((t.remote_port ^ t.local_port) % 128);
        Shared::new(config, 1, [7; 48], group, |_| {}).unwrap()
    }

    fn ours_v6() -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 2)
    }

    fn frame(packet: &[u8]) -> RxFrame {
        let mut head = Pool::new(Room::Received, 4, 2048).unwrap().alloc().unwrap();
        head.extend(&[0; ethernet::HEADER]);
        head.extend(packet);
        RxFrame { head, rest: MbufQueue::new(), csum_ok: true, group: None }
    }

    fn v4(flags_and_offset: u16) -> RxFrame {
        let mut packet = [0; 40];
        ipv4::Header::new(PEER, OURS, ipv4::TCP, 20).emit(&mut packet);
        packet[6..8].copy_from_slice(&flags_and_offset.to_be_bytes());
        packet[20..24].copy_from_slice(&[0x30, 0x39, 0, 80]);
        frame(&packet)
    }

    fn v6() -> RxFrame {
        let mut packet = [0; 60];
        packet[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 20, ipv4::TCP, 64]);
        packet[8..24].copy_from_slice(&PEER_V6.octets());
        packet[24..40].copy_from_slice(&ours_v6().octets());
        packet[40..44].copy_from_slice(&[0x30, 0x39, 0, 80]);
        frame(&packet)
    }

    /// What the frame is taken for is what its segment will be found under.
    #[test]
    fn a_guess_is_the_flow_that_the_segment_has() {
        let shared = shared();
        let all = &shared.addresses;
        let ends = |remote: Addr, local| Ends { remote, remote_port: 12345, local_port: 80, local };
        let expected = ends(PEER.into(), all.find_v4(OURS.to_bits()).unwrap());
        let group = shared.flow_group(&all.tuple(&expected));
        assert_eq!(glance(&shared, &v4(ipv4::DF)), Some(Flow { group, hash: shared.flow_key.hash(&expected) }));

        let expected = ends(PEER_V6.into(), all.find(&ours_v6().into()).unwrap());
        let group = shared.flow_group(&all.tuple(&expected));
        assert_eq!(glance(&shared, &v6()), Some(Flow { group, hash: shared.flow_key.hash(&expected) }));
    }

    proptest::proptest! {
        /// Whatever is wrong with a frame: as long as it is taken for a segment at all, it is found under what the glance said.
        #[test]
        fn a_glance_says_what_the_header_says(v6: bool, noise in proptest::collection::vec((0usize..60, proptest::num::u8::ANY), 0..4)) {
            let shared = shared();
            let mut frame = if v6 { self::v6() } else { v4(ipv4::DF) };
            for (at, byte) in noise {
                if let Some(b) = frame.head.get_mut(ethernet::HEADER + at) {
                    *b = byte;
                }
            }
            let Some(flow) = glance(&shared, &frame) else { return Ok(()) };
            let ip = &mut frame.head[ethernet::HEADER..];
            let len = ip.len();
            let (src, dst, at) = if ip[0] >> 4 == 6 {
                let Ok(header) = ipv6::Header::parse(ip, len) else { return Ok(()) };
                proptest::prop_assert_eq!(header.next, ipv4::TCP);
                (header.src, header.dst, ipv6::HEADER)
            } else {
                ip[10..12].fill(0);
                let sum = !wire::checksum::fold(ip[..20].as_chunks().0.iter().map(|b| u64::from(u16::from_be_bytes(*b))).sum());
                ip[10..12].copy_from_slice(&sum.to_be_bytes());
                let Ok(header) = ipv4::Header::parse(ip, len) else { return Ok(()) };
                proptest::prop_assert_eq!(header.protocol, ipv4::TCP);
                proptest::prop_assert!(!header.is_fragment());
                (header.src.into(), header.dst.into(), usize::from(header.header_len))
            };
            let port = |at: usize| u16::from_be_bytes([ip[at], ip[at + 1]]);
            let Some(local) = shared.addresses.find(&dst) else { return Ok(()) };
            let ends = Ends { remote: src, remote_port: port(at), local_port: port(at + 2), local };
            proptest::prop_assert_eq!(flow.hash, shared.flow_key.hash(&ends));
            proptest::prop_assert_eq!(flow.group, shared.flow_group(&shared.addresses.tuple(&ends)));
        }
    }

    /// A fragment's first bytes may be anything: the group that they would give is not its own.
    #[test]
    fn nothing_is_guessed_of_fragments_strangers_and_scraps() {
        let shared = shared();
        assert_eq!(glance(&shared, &v4(ipv4::MF)), None);
        assert_eq!(glance(&shared, &v4(7)), None);
        let mut elsewhere = v4(ipv4::DF);
        elsewhere.head[ethernet::HEADER + 19] ^= 0xff;
        assert_eq!(glance(&shared, &elsewhere), None);
        for len in 0..ethernet::HEADER + 24 {
            let mut short = v4(ipv4::DF);
            short.head.truncate(len);
            assert_eq!(glance(&shared, &short), None, "{len} bytes");
        }
    }
}
