//! Fetching ahead: what the frames of a burst and the timers of a pass will touch is asked for before the first is worked on.
//!
//! ```text
//!   for all frames   headers ──► hash ──► fetch the place in the flow table
//!   for all frames   place ──► slot ──► fetch the connection
//!   for all frames   connection ──► fetch the buffer that an ACK will free, and its timer
//!   for all frames   work, as always
//! ```
//! With a million connections in memory a request would wait for it a dozen times in a row; so the waits of a burst overlap. Nothing but time
//! depends on it: what is fetched in vain, or not at all, is found later as it would have been.

use abi::Handle;
use nic::{Queue, RxFrame};
use units::FlowGroupId;
use wire::{Addr, Ipv4Addr, Ipv6Addr, ethernet, ipv4, ipv6};

use crate::addresses::Ends;
use crate::shared::Shared;
use crate::stack::Stack;

/// Frames looked at: bounded as batches usually are.
const MOST: usize = 64;
/// Fewer are not worth the looking.
const FEW: usize = 4;

impl<Q: Queue> Stack<Q> {
    /// Has the connections of these frames fetched, if there are many connections.
    #[inline]
    pub(crate) fn look_ahead(&self, frames: &mut [RxFrame]) {
        if frames.len() >= FEW && self.shared.is_scattered() {
            self.fetch(frames);
        }
    }

    #[inline(never)]
    fn fetch(&self, frames: &mut [RxFrame]) {
        let mut meant = [None; MOST];
        for (meant, frame) in meant.iter_mut().zip(frames) {
            let Some((group, hash)) = glance(&self.shared, frame) else { continue };
            // Worked out once; the frame is no fragment, whose group would be another.
            frame.group = Some(group);
            let Some(g) = self.groups.get(group) else { continue };
            g.prefetch_entry(hash);
            *meant = Some((group, hash));
        }
        let mut conns = [None; MOST];
        for (conn, (group, hash)) in conns.iter_mut().zip(meant.into_iter().flatten()) {
            *conn = self.groups.get(group).and_then(|g| g.meant(hash));
            if let Some(conn) = conn {
                mem::prefetch(*conn);
            }
        }
        for conn in conns.into_iter().flatten() {
            // Its deadline is of no interest, but lies in those of its lines that would be waited for one by one: looked at here, where nothing waits
            // for it, they come together. To have asked for them is not enough, when so much has been asked for.
            std::hint::black_box(conn.deadline());
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

/// The flow of a frame that looks like a segment of ours without options of IP. Nothing is checked: it is a guess.
#[inline]
fn glance(shared: &Shared, frame: &RxFrame) -> Option<(FlowGroupId, u64)> {
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
    Some((group, shared.flow_key.hash(&ends)))
}

#[cfg(test)]
mod tests {
    use mem::{MbufQueue, Pool, Room};
    use wire::{Mac, Tuple};

    use super::*;
    use crate::StackConfig;

    const OURS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
    const PEER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

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

    /// What the frame is taken for is what its segment will be found under.
    #[test]
    fn a_guess_is_the_flow_that_the_segment_has() {
        let shared = shared();
        let all = &shared.addresses;
        let ends = |remote: Addr, local| Ends { remote, remote_port: 12345, local_port: 80, local };
        let expected = ends(PEER.into(), all.find_v4(OURS.to_bits()).unwrap());
        let group = shared.flow_group(&all.tuple(&expected));
        assert_eq!(glance(&shared, &v4(ipv4::DF)), Some((group, shared.flow_key.hash(&expected))));

        let mut packet = [0; 60];
        packet[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 20, ipv4::TCP, 64]);
        let peer = Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 1);
        packet[8..24].copy_from_slice(&peer.octets());
        packet[24..40].copy_from_slice(&ours_v6().octets());
        packet[40..44].copy_from_slice(&[0x30, 0x39, 0, 80]);
        let expected = ends(peer.into(), all.find(&ours_v6().into()).unwrap());
        let group = shared.flow_group(&all.tuple(&expected));
        assert_eq!(glance(&shared, &frame(&packet)), Some((group, shared.flow_key.hash(&expected))));
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
