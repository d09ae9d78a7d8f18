//! SYNs beyond the backlog, answered with as little as that takes.
//!
//! ```text
//!   frame ── a SYN? whole? intact? ours? unknown? no entry left? next hop known? ──► cookie, in a frame of 58 bytes or a few more
//!              any "no": the ordinary way, as if nobody had looked
//! ```
//! Whoever fills a ring with SYNs gets as much of the core as they take. So they take little: nothing is moved, queued or kept, and only as long as
//! cookies go out is a frame looked at here. All that is counted and checked elsewhere is here, too; what is rare is left to the ordinary way, and
//! IPv6.

use nic::{Queue, RxFrame};
use tcp::PlainSynAck;
use units::Nanos;
use wire::checksum::fold;
use wire::tcp::{Flags, Options, Segment};
use wire::{Ipv4Addr, Seq, ethernet, ipv4};

use crate::DropReason;
use crate::addresses::Ends;
use crate::ahead::Flow;
use crate::stack::Stack;
use crate::tcp_in::COOKIE_LIFE;

/// How long after a cookie the next SYN is expected to want one.
const FLOOD: Nanos = Nanos::from_millis(100);
/// SYNs of a burst that are answered: half of a full one.
pub(crate) const ANSWERS: usize = 32;
/// Where the IP header begins, the transport header if there are no options, and what follows that.
const IP: usize = ethernet::HEADER;
const TCP: usize = IP + ipv4::HEADER;
const OPTIONS: usize = TCP + wire::tcp::HEADER;
/// The flags byte.
const FLAGS: usize = TCP + 13;
/// Flags that may stand beside SYN: whether both speak ECN (RFC 3168 section 6.1.1).
const ECN: Flags = Flags(Flags::ECE.0 | Flags::CWR.0);
/// Kind and length of the option that says the largest segment.
const MSS: [u8; 2] = [2, 4];
/// Bytes of a frame with that option alone.
const PLAIN: usize = OPTIONS + 4;

impl<Q: Queue> Stack<Q> {
    /// A cookie goes out: others will be asked for.
    #[inline]
    pub(crate) fn cookie_made(&mut self, now: Nanos) {
        self.metrics.syn_cookies_out.inc();
        (self.cookies_until, self.flood_until) = (now + COOKIE_LIFE, now + FLOOD);
    }

    /// Takes a frame in, while SYNs come that want cookies. Of those no more than [`ANSWERS`] of a burst are answered: in a burst that has more, a
    /// line has formed, and the rest of the time is for connections. Whoever means it says it again.
    #[inline(never)]
    pub(crate) fn flooded(&mut self, frame: RxFrame, flow: Option<Flow>, now: Nanos, answers: &mut usize) {
        let looks = is_syn(&frame.head) && frame.rest.is_empty();
        if looks && *answers == 0 {
            self.metrics.drop_frame(DropReason::Flood);
            self.link.pools.mbufs.free(frame.head);
        } else if looks && self.answer_syn(&frame, flow, now).is_some() {
            *answers -= 1;
            self.link.pools.mbufs.free(frame.head);
        } else {
            self.frame_arrives(frame, flow, now);
        }
    }

    /// Answers the frame if it is a SYN that has to have a cookie. `None`: nothing has happened.
    #[inline(always)]
    fn answer_syn(&mut self, frame: &RxFrame, flow: Option<Flow>, now: Nanos) -> Option<()> {
        let shared = &*self.shared;
        let all = &shared.addresses;
        let syn = Syn::read(&frame.head, frame.csum_ok)?;
        let known = syn.to == shared.config.mac.0 && all.is_host_v4(syn.src.to_bits()) && shared.listens(syn.dst_port);
        let local = all.find_v4(syn.dst.to_bits()).filter(|_| known)?;
        let ends = Ends { remote: syn.src.into(), remote_port: syn.src_port, local_port: syn.dst_port, local };
        let tuple = all.tuple(&ends);
        let group = flow.map(|flow| flow.group).or(frame.group).unwrap_or_else(|| shared.flow_group(&tuple));
        if shared.owner_word(group) != self.core.0 {
            return None;
        }
        let g = self.groups.get(group).filter(|g| !g.halves.has_room())?;
        if g.find(flow.map_or_else(|| g.hash(&ends), |flow| flow.hash), &ends).is_some() {
            return None;
        }
        let mac = self.link.resolve(&ends.remote, now)?;
        let (cookies, cfg) = (&shared.cookies, shared.tcp(&ends));
        match syn.options {
            [kind, len, a, b] if [*kind, *len] == MSS => {
                let mss = Some(u16::from_be_bytes([*a, *b]));
                let answer = cookies.make_plain(now, cfg, &tuple, syn.seq, mss);
                let frame = syn.answer(&mut self.link.ident, &answer, mac.0);
                self.link.send_or_lose(&frame);
            }
            all => {
                let opts = Options::parse(all).ok()?;
                let Syn { seq, flags, wnd, .. } = syn;
                let seg = Segment { seq, ack: Seq(0), flags, wnd, len: 0, opts, ce: false };
                let answer = cookies.make(now, cfg, &tuple, &seg);
                self.link.answer(&tuple, &answer, mac);
            }
        }
        self.metrics.frame_of(group);
        self.cookie_made(now);
        Some(())
    }
}

/// Whether it is a SYN over IPv4, whole, without options of IP; nothing is checked that takes longer. Few others get further than the first byte.
#[inline(always)]
fn is_syn(frame: &[u8]) -> bool {
    let Some(head) = frame.first_chunk::<OPTIONS>() else { return false };
    head[FLAGS] & !ECN.0 == Flags::SYN.0
        && [head[12], head[13]] == ethernet::IPV4.to_be_bytes()
        && head[IP] == 0x45
        && u16::from_be_bytes([head[IP + 6], head[IP + 7]]) & (ipv4::MF | ipv4::OFFSET_MASK) == 0
        && head[IP + 9] == ipv4::TCP
}

/// A SYN in one piece, without payload, over IPv4 without options, both checksums right.
struct Syn<'a> {
    to: [u8; 6],
    src: Ipv4Addr,
    dst: Ipv4Addr,
    src_port: u16,
    dst_port: u16,
    seq: Seq,
    flags: Flags,
    wnd: u16,
    options: &'a [u8],
}

/// Numbers of 32 bits of which a checksum is made: the sum does not care where in them its words stand.
fn sum<const N: usize>(words: [u32; N]) -> u64 {
    words.iter().fold(0, |sum, word| sum + u64::from(*word))
}

impl<'a> Syn<'a> {
    /// As the frame's bytes say; `None` if it is anything else.
    #[inline(always)]
    fn read(frame: &'a [u8], csum_ok: bool) -> Option<Syn<'a>> {
        let head: &[u8; OPTIONS] = frame.first_chunk()?;
        let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let half = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let (total, header_len) = (usize::from(half(IP + 2)), usize::from(head[TCP + 12] >> 4) * 4);
        let usual = is_syn(frame) && total == ipv4::HEADER + header_len;
        let options = frame.get(OPTIONS..IP + total).filter(|_| usual)?;
        let ends = sum([word(IP + 12), word(IP + 16)]);
        let ip = ends + sum([word(IP), word(IP + 4), word(IP + 8)]);
        if fold(ip) != 0xffff {
            return None;
        }
        let fixed = [0, 4, 8, 12, 16].map(|at| word(TCP + at));
        let rest = options.as_chunks().0.iter().map(|word| u64::from(u32::from_be_bytes(*word))).sum::<u64>();
        let pseudo = ends + u64::from(ipv4::TCP) + header_len as u64;
        if !csum_ok && fold(pseudo + sum(fixed) + rest) != 0xffff {
            return None;
        }
        Some(Syn {
            to: *head.first_chunk()?,
            src: Ipv4Addr::from_bits(word(IP + 12)),
            dst: Ipv4Addr::from_bits(word(IP + 16)),
            src_port: half(TCP),
            dst_port: half(TCP + 2),
            seq: Seq(word(TCP + 4)),
            flags: Flags(head[FLAGS]),
            wnd: half(TCP + 14),
            options,
        })
    }

    /// The frame that answers it: to `mac`, which is where its sender is reached.
    #[inline(always)]
    fn answer(&self, ident: &mut u32, a: &PlainSynAck, mac: [u8; 6]) -> [u8; PLAIN] {
        *ident = ident.wrapping_add(1);
        let pair = |high: u16, low: u16| u32::from(high) << 16 | u32::from(low);
        let tcp_len = (wire::tcp::HEADER + 4) as u16;
        let (src, dst) = (self.dst.to_bits(), self.src.to_bits());
        let total = pair(0x4500, ipv4::HEADER as u16 + tcp_len);
        let (fragment, ttl) = (pair(*ident as u16, ipv4::DF), pair(u16::from_be_bytes([64, ipv4::TCP]), 0));
        let (ports, seq, ack) = (pair(self.dst_port, self.src_port), a.seq.0, a.ack.0);
        let flags = u16::from_be_bytes([(tcp_len as u8 / 4) << 4, (Flags::SYN | Flags::ACK).0]);
        let (window, option) = (pair(flags, a.window), pair(u16::from_be_bytes(MSS), a.mss));
        let ends = sum([src, dst]);
        let ip_sum = !fold(ends + sum([total, fragment, ttl]));
        let pseudo = ends + sum([u32::from(ipv4::TCP), u32::from(tcp_len)]);
        let tcp_sum = !fold(pseudo + sum([ports, seq, ack, window, option]));

        let mut frame = [0; PLAIN];
        let mut put = |at: usize, word: u32| frame[at..at + 4].copy_from_slice(&word.to_be_bytes());
        put(IP, total);
        put(IP + 4, fragment);
        put(IP + 8, ttl | u32::from(ip_sum));
        put(IP + 12, src);
        put(IP + 16, dst);
        put(TCP, ports);
        put(TCP + 4, seq);
        put(TCP + 8, ack);
        put(TCP + 12, window);
        put(TCP + 16, pair(tcp_sum, 0));
        put(OPTIONS, option);
        frame[..6].copy_from_slice(&mac);
        frame[6..12].copy_from_slice(&self.to);
        frame[12..IP].copy_from_slice(&ethernet::IPV4.to_be_bytes());
        frame
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wire::checksum::Sum;
    use wire::{Mac, tcp};

    use super::*;

    const PEER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
    const OURS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);

    fn frame(header: &tcp::Header, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; TCP + tcp::MAX_HEADER];
        ethernet::Header { dst: Mac::local(2), src: Mac::local(1), ethertype: ethernet::IPV4 }.emit(&mut frame);
        let len = header.emit(&mut frame[TCP..]);
        frame.truncate(TCP + len);
        frame.extend_from_slice(payload);
        let len = frame.len() - TCP;
        ipv4::Header::new(PEER, OURS, ipv4::TCP, len as u16).emit(&mut frame[IP..]);
        let sum = Sum::pseudo_v4(PEER, OURS, ipv4::TCP, len as u32).with(&frame[TCP..]).finish();
        frame[TCP + 16..TCP + 18].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    fn syn(src_port: u16, seq: u32, options: Options) -> tcp::Header {
        let (ack, flags) = (Seq(0), Flags::SYN);
        tcp::Header {
            src_port,
            dst_port: 80,
            seq: Seq(seq),
            ack,
            flags,
            window: 1000,
            urgent: 0,
            options,
            header_len: 0,
        }
    }

    proptest! {
        /// What is read is what was written, and the answer is a frame that the ordinary parsers take, with every word where it belongs.
        #[test]
        fn a_syn_is_read_and_answered(port: u16, seq: u32, mss: u16, cookie: u32, window: u16, ident: u32) {
            let bytes = frame(&syn(port, seq, Options { mss: Some(mss), ..Options::NONE }), &[]);
            let read = Syn::read(&bytes, false).unwrap();
            prop_assert_eq!((read.src, read.dst, read.src_port, read.dst_port), (PEER, OURS, port, 80));
            prop_assert_eq!((read.seq, read.flags, read.wnd, read.options.len()), (Seq(seq), Flags::SYN, 1000, 4));
            let says = PlainSynAck { seq: Seq(cookie), ack: Seq(seq) + 1, window, mss: 1460 };
            let answer = read.answer(&mut { ident }, &says, [9; 6]);
            let (eth, packet) = ethernet::parse(&answer).unwrap();
            prop_assert_eq!((eth.dst, eth.src, eth.ethertype), (Mac([9; 6]), Mac::local(2), ethernet::IPV4));
            let (ip, segment) = ipv4::parse(packet).unwrap();
            let expected = ipv4::Header { id: ident.wrapping_add(1) as u16, ..ipv4::Header::new(OURS, PEER, ipv4::TCP, 24) };
            prop_assert_eq!(ip, expected);
            prop_assert!(tcp::checksum_ok(OURS, PEER, std::iter::once(segment)));
            let header = tcp::Header::parse(segment).unwrap();
            let options = Options { mss: Some(1460), ..Options::NONE };
            let flags = Flags::SYN | Flags::ACK;
            let (seq, ack, header_len) = (Seq(cookie), Seq(seq) + 1, 24);
            let expected = tcp::Header { src_port: 80, dst_port: port, seq, ack, flags, window, urgent: 0, options, header_len };
            prop_assert_eq!(header, expected);
        }

        /// A frame that somebody has garbled in one place is none of ours, and none makes us panic.
        #[test]
        fn a_garbled_syn_is_left_to_others(at in IP..PLAIN, with in 1..=255u8, cut in 0..PLAIN) {
            let bytes = frame(&syn(1024, 7, Options { mss: Some(1460), ..Options::NONE }), &[]);
            let mut garbled = bytes.clone();
            garbled[at] ^= with;
            prop_assert!(Syn::read(&garbled, false).is_none());
            prop_assert!(Syn::read(&bytes[..cut], false).is_none());
            let _ = Syn::read(&garbled, true);
        }
    }

    #[test]
    fn data_in_a_syn_goes_the_ordinary_way_and_padding_of_the_link_is_no_data() {
        let header = syn(1024, 7, Options { mss: Some(1460), ..Options::NONE });
        assert!(Syn::read(&frame(&header, b"early"), false).is_none());
        let mut padded = frame(&header, &[]);
        padded.resize(ethernet::MIN_FRAME, 0xee);
        assert_eq!(Syn::read(&padded, false).unwrap().options, [2, 4, 5, 180]);
    }
}
