//! The fixed header, and the segment that the engine sees.

use super::{Flags, Options};
use crate::checksum::Sum;
use crate::{Addr, Malformed, Seq, be16, be32, ipv4};

/// Bytes of a header without options.
pub const HEADER: usize = 20;
/// Bytes of the longest header.
pub const MAX_HEADER: usize = 60;
/// Where the checksum lies in the header: for partial checksum offload.
pub const CHECKSUM_OFFSET: usize = 16;

/// A TCP header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The sender's port.
    pub src_port: u16,
    /// The receiver's port.
    pub dst_port: u16,
    /// The first payload byte (or SYN).
    pub seq: Seq,
    /// The next byte that the sender expects, if [`Flags::ACK`].
    pub ack: Seq,
    /// Control bits.
    pub flags: Flags,
    /// The window, not scaled.
    pub window: u16,
    /// The urgent pointer.
    pub urgent: u16,
    /// Options that we know.
    pub options: Options,
    /// Header with options, in bytes (20..=60). [`Header::emit`] computes its own.
    pub header_len: u8,
}

/// The fixed header and the bytes of options at the front of `segment`.
#[inline(always)]
fn cut(segment: &[u8]) -> Result<(&[u8; HEADER], &[u8]), Malformed> {
    let fixed: &[u8; HEADER] = segment.first_chunk().ok_or(Malformed::Truncated)?;
    let header_len = usize::from(fixed[12] >> 4) * 4;
    if header_len < HEADER {
        return Err(Malformed::Length);
    }
    Ok((fixed, segment.get(HEADER..header_len).ok_or(Malformed::Truncated)?))
}

impl Header {
    /// Reads the header at the front of `segment`, which must hold all of it. The checksum is not verified: NICs may
    /// have done it; else see [`checksum_ok`].
    ///
    /// # Errors
    /// [`Malformed::Truncated`] when `segment` ends within the header, [`Malformed::Length`] for a data offset below 5,
    /// [`Malformed::Option`].
    #[inline]
    pub fn parse(segment: &[u8]) -> Result<Header, Malformed> {
        let (fixed, options) = cut(segment)?;
        Ok(Header {
            src_port: be16(fixed, 0),
            dst_port: be16(fixed, 2),
            seq: Seq(be32(fixed, 4)),
            ack: Seq(be32(fixed, 8)),
            flags: Flags(fixed[13]),
            window: be16(fixed, 14),
            urgent: be16(fixed, 18),
            options: Options::parse(options)?,
            header_len: (HEADER + options.len()) as u8,
        })
    }

    /// Bytes that [`Header::emit`] writes.
    #[inline]
    pub const fn wire_len(&self) -> usize {
        HEADER + self.options.wire_len()
    }

    /// Writes the header with its options, checksum 0, to the front of `out` and returns its length. Panics if `out`
    /// is shorter.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) -> usize {
        let Header { src_port, dst_port, seq, ack, flags, window, urgent, ref options, header_len: _ } = *self;
        HeaderRef { src_port, dst_port, seq, ack, flags, window, urgent, options }.emit(out)
    }
}

/// A header to be written whose options lie elsewhere: a copy of them would wait until they have reached the cache.
#[derive(Clone, Copy, Debug)]
pub struct HeaderRef<'a> {
    /// As [`Header::src_port`], and so on.
    pub src_port: u16,
    /// The receiver's port.
    pub dst_port: u16,
    /// The first payload byte (or SYN).
    pub seq: Seq,
    /// The next byte that the sender expects, if [`Flags::ACK`].
    pub ack: Seq,
    /// Control bits.
    pub flags: Flags,
    /// The window, not scaled.
    pub window: u16,
    /// The urgent pointer.
    pub urgent: u16,
    /// The options.
    pub options: &'a Options,
}

impl HeaderRef<'_> {
    /// As [`Header::emit`].
    #[inline]
    pub fn emit(&self, out: &mut [u8]) -> usize {
        let HeaderRef { src_port, dst_port, seq, ack, flags, window, urgent, options } = *self;
        let (fixed, rest) = out.split_first_chunk_mut::<HEADER>().expect("room for a TCP header");
        let len = HEADER + options.emit(rest);
        fixed[..2].copy_from_slice(&src_port.to_be_bytes());
        fixed[2..4].copy_from_slice(&dst_port.to_be_bytes());
        fixed[4..8].copy_from_slice(&seq.0.to_be_bytes());
        fixed[8..12].copy_from_slice(&ack.0.to_be_bytes());
        fixed[12] = (len as u8 / 4) << 4;
        fixed[13] = flags.0;
        fixed[14..16].copy_from_slice(&window.to_be_bytes());
        fixed[16..18].copy_from_slice(&[0, 0]);
        fixed[18..20].copy_from_slice(&urgent.to_be_bytes());
        len
    }
}

/// Whether a segment (header and payload in the pieces' order) that travelled between these addresses is intact.
pub fn checksum_ok<'a>(
    src: impl Into<Addr>,
    dst: impl Into<Addr>,
    pieces: impl Iterator<Item = &'a [u8]> + Clone,
) -> bool {
    let len: usize = pieces.clone().map(<[u8]>::len).sum();
    let sum = Sum::pseudo(&src.into(), &dst.into(), ipv4::TCP, len as u32);
    pieces.fold(sum, Sum::with).is_valid()
}

/// A segment as the engine sees it: no addresses, no payload bytes, only how many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// SEG.SEQ.
    pub seq: Seq,
    /// SEG.ACK, if [`Flags::ACK`].
    pub ack: Seq,
    /// Control bits.
    pub flags: Flags,
    /// SEG.WND as on the wire, not scaled.
    pub wnd: u16,
    /// Payload bytes.
    pub len: u32,
    /// Options that we know.
    pub opts: Options,
    /// The packet was marked on its way: congestion experienced (RFC 3168 section 5).
    pub ce: bool,
}

impl Segment {
    /// What is there before anything is read.
    pub const EMPTY: Segment =
        Segment { seq: Seq(0), ack: Seq(0), flags: Flags(0), wnd: 0, len: 0, opts: Options::NONE, ce: false };

    /// Reads the header at the front of `segment`, as [`Header::parse`] does, into [`Segment::EMPTY`], and returns its length. In place, for a
    /// copy of options waits until what was just written has reached the cache. `len` and `ce` are not in it.
    ///
    /// # Errors
    /// As [`Header::parse`]: nothing is to be made of what was read, then.
    #[inline(always)]
    pub fn read(&mut self, segment: &[u8]) -> Result<usize, Malformed> {
        let (fixed, options) = cut(segment)?;
        (self.seq, self.ack) = (Seq(be32(fixed, 4)), Seq(be32(fixed, 8)));
        (self.flags, self.wnd) = (Flags(fixed[13]), be16(fixed, 14));
        self.opts.read(options)?;
        Ok(HEADER + options.len())
    }

    /// The segment of a header with `len` payload bytes, in a packet without a mark.
    #[inline]
    pub const fn of(header: &Header, len: u32) -> Segment {
        Segment {
            seq: header.seq,
            ack: header.ack,
            flags: header.flags,
            wnd: header.window,
            len,
            opts: header.options,
            ce: false,
        }
    }

    /// SEG.LEN: payload bytes, with SYN and FIN counted (RFC 9293 section 3.3.1).
    #[inline]
    pub const fn seg_len(&self) -> u32 {
        self.len + self.flags.contains(Flags::SYN) as u32 + self.flags.contains(Flags::FIN) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::tests::any_options;
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn any_header() -> impl Strategy<Value = Header> {
        (any::<[u16; 4]>(), any::<[u32; 2]>(), any::<u8>(), any_options()).prop_map(
            |([src_port, dst_port, window, urgent], [seq, ack], flags, options)| {
                let (seq, ack, flags) = (Seq(seq), Seq(ack), Flags(flags));
                let header_len = (HEADER + options.wire_len()) as u8;
                Header { src_port, dst_port, seq, ack, flags, window, urgent, options, header_len }
            },
        )
    }

    proptest! {
        #[test]
        fn emit_then_parse(header in any_header(), payload: Vec<u8>) {
            let mut bytes = vec![0xee; MAX_HEADER];
            let len = header.emit(&mut bytes);
            prop_assert_eq!(len, usize::from(header.header_len));
            prop_assert_eq!(&bytes[CHECKSUM_OFFSET..18], &[0, 0]);
            bytes.truncate(len);
            bytes.extend(&payload);
            let read = Header::parse(&bytes).unwrap();
            let sacks = header.options.sacks.iter().take(read.options.sacks.len()).collect();
            prop_assert_eq!(read, Header { options: Options { sacks, ..header.options }, ..header });
            prop_assert_eq!(Header::parse(&bytes[..len - 1]), Err(Malformed::Truncated));
            let segment = Segment::of(&read, payload.len() as u32);
            let mut in_place = Segment { len: segment.len, ..Segment::EMPTY };
            prop_assert_eq!(in_place.read(&bytes), Ok(len));
            prop_assert_eq!(in_place, segment);
            prop_assert_eq!(in_place.read(&bytes[..len - 1]), Err(Malformed::Truncated));
            let controls = (header.flags.0 & 1) + (header.flags.0 >> 1 & 1);
            prop_assert_eq!(segment.seg_len(), payload.len() as u32 + u32::from(controls));
        }

        #[test]
        fn checksums_cover_every_piece(header in any_header(), ips: [u32; 2], payload: Vec<u8>, cut: u8, bit: u16) {
            let (src, dst) = (Ipv4Addr::from_bits(ips[0]), Ipv4Addr::from_bits(ips[1]));
            let mut bytes = vec![0; MAX_HEADER];
            let len = header.emit(&mut bytes);
            bytes.truncate(len);
            bytes.extend(&payload);
            let sum = Sum::pseudo_v4(src, dst, ipv4::TCP, bytes.len() as u32).with(&bytes).finish();
            bytes[CHECKSUM_OFFSET..18].copy_from_slice(&sum.to_be_bytes());
            let cut = usize::from(cut).min(bytes.len());
            let (a, b) = bytes.split_at(cut);
            prop_assert!(checksum_ok(src, dst, [a, b].into_iter()));
            let bit = usize::from(bit) % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!checksum_ok(src, dst, [&bytes[..]].into_iter()));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(header) = Header::parse(&bytes) {
                prop_assert!(usize::from(header.header_len) <= bytes.len() && header.header_len >= 20);
            }
        }
    }

    #[test]
    fn a_data_offset_below_five_is_refused() {
        let mut bytes = [0; 20];
        bytes[12] = 0x40;
        assert_eq!(Header::parse(&bytes), Err(Malformed::Length));
    }
}
