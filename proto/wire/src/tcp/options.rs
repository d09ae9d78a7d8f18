//! The options of a TCP header: a list of (kind, length, value), padded to whole words.
//!
//! Received in any order, the last of a kind wins; unknown kinds, and known ones of an impossible size, are skipped
//! (RFC 9293 section 3.1, MUST-6; RFC 1122 section 4.2.2.5). Sent in the layout that Linux and the BSDs use, each
//! option's numbers on 4-byte boundaries:
//!
//! ```text
//!   MSS(4) | SACK-permitted(2) TS(10) | NOP wscale(3) | NOP NOP SACK(2 + 8n)
//!            (or NOP NOP TS(10), or NOP NOP SACK-permitted)
//! ```

use crate::{Malformed, Seq, be32};

/// Bytes that options can take in a header.
pub const MAX_OPTIONS: usize = 40;

const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const WSCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;
/// RFC 7323 section 2.3: a larger shift count is used as 14.
const MAX_WSCALE: u8 = 14;
/// What nearly every segment of an established connection carries.
const ALIGNED_TIMESTAMPS: [u8; 4] = [NOP, NOP, TIMESTAMPS, 10];

/// The timestamps option (RFC 7323 section 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timestamps {
    /// The sender's clock.
    pub val: u32,
    /// What it last heard of ours.
    pub ecr: u32,
}

/// The blocks of a SACK option (RFC 2018): up to 4 ranges [left, right).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SackBlocks {
    /// Blocks beyond `len` are zero, so that equality can be derived.
    blocks: [(Seq, Seq); 4],
    len: u8,
}

/// The options that we speak.
///
/// In this order in memory: what is wide lies at its natural place, so that a copy reads what was just written in the pieces in which it was written.
/// (Read otherwise, each copy waits until all earlier stores are done, 30 ns where one of them misses the caches.)
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Options {
    /// What the sender holds beyond the acknowledgment.
    pub sacks: SackBlocks,
    /// Timestamps (RFC 7323).
    pub timestamps: Option<Timestamps>,
    /// Maximum segment size that the sender can receive, in bytes of payload (RFC 9293 section 3.7.1; SYN only).
    pub mss: Option<u16>,
    /// The shift that the sender applies to its windows, at most 14 (RFC 7323 section 2; SYN only).
    pub wscale: Option<u8>,
    /// The sender understands SACK (RFC 2018; SYN only).
    pub sack_permitted: bool,
}

impl SackBlocks {
    /// No block.
    pub const EMPTY: SackBlocks = SackBlocks { blocks: [(Seq(0), Seq(0)); 4], len: 0 };

    /// How many blocks there are.
    #[inline]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a block; `false` when four are there already.
    #[inline]
    pub fn push(&mut self, left: Seq, right: Seq) -> bool {
        let Some(slot) = self.blocks.get_mut(usize::from(self.len)) else {
            return false;
        };
        *slot = (left, right);
        self.len += 1;
        true
    }

    /// The blocks, in the option's order (the most recently received first).
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Seq, Seq)> + Clone + '_ {
        self.as_slice().iter().copied()
    }

    /// The blocks, in the option's order.
    #[inline]
    pub fn as_slice(&self) -> &[(Seq, Seq)] {
        self.blocks.get(..usize::from(self.len)).unwrap_or(&self.blocks)
    }
}

impl FromIterator<(Seq, Seq)> for SackBlocks {
    /// The first four blocks.
    fn from_iter<I: IntoIterator<Item = (Seq, Seq)>>(blocks: I) -> SackBlocks {
        let mut sacks = SackBlocks::EMPTY;
        for (left, right) in blocks.into_iter().take(4) {
            sacks.push(left, right);
        }
        sacks
    }
}

impl Options {
    /// No option.
    pub const NONE: Options =
        Options { mss: None, wscale: None, sack_permitted: false, timestamps: None, sacks: SackBlocks::EMPTY };

    /// Reads the bytes between fixed header and payload. Bounded by their number (at most 40).
    ///
    /// # Errors
    /// [`Malformed::Option`] for a length below 2 or past the end.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Options, Malformed> {
        let mut options = Options::NONE;
        options.read(bytes)?;
        Ok(options)
    }

    /// As [`Options::parse`], into what holds none yet.
    #[inline(always)]
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        if let Some(chunk) = bytes.first_chunk::<12>()
            && bytes.len() == 12
            && chunk[..4] == ALIGNED_TIMESTAMPS
        {
            self.timestamps = Some(Timestamps { val: be32(chunk, 4), ecr: be32(chunk, 8) });
            return Ok(());
        }
        if bytes.is_empty() { Ok(()) } else { self.read_list(bytes) }
    }

    /// The general case: one option after another.
    #[inline(never)]
    fn read_list(&mut self, mut rest: &[u8]) -> Result<(), Malformed> {
        while let [kind, tail @ ..] = rest {
            match *kind {
                END => break,
                NOP => rest = tail,
                kind => {
                    // RFC 9293 section 3.1, MUST-68 and RFC 1122: "an illegal option length (e.g. zero)" must not hang.
                    let &[len, ..] = tail else {
                        return Err(Malformed::Option);
                    };
                    let whole = rest.get(..usize::from(len)).ok_or(Malformed::Option)?;
                    let value = whole.get(2..).ok_or(Malformed::Option)?;
                    self.read_one(kind, value);
                    rest = &rest[usize::from(len)..];
                }
            }
        }
        Ok(())
    }

    /// Takes one option's value; unknown kinds and impossible sizes are skipped.
    fn read_one(&mut self, kind: u8, value: &[u8]) {
        match (kind, value) {
            (MSS, &[a, b]) => self.mss = Some(u16::from_be_bytes([a, b])),
            (WSCALE, &[shift]) => self.wscale = Some(shift.min(MAX_WSCALE)),
            (SACK_PERMITTED, []) => self.sack_permitted = true,
            (TIMESTAMPS, &[a, b, c, d, e, f, g, h]) => {
                self.timestamps =
                    Some(Timestamps { val: u32::from_be_bytes([a, b, c, d]), ecr: u32::from_be_bytes([e, f, g, h]) });
            }
            (SACK, value) if matches!(value.len(), 8 | 16 | 24 | 32) => {
                let blocks = value.as_chunks::<8>().0;
                self.sacks = blocks.iter().map(|b| (Seq(be32(b, 0)), Seq(be32(b, 4)))).collect();
            }
            _ => {}
        }
    }

    /// Bytes of the options but SACK blocks.
    #[inline]
    const fn len_without_sacks(&self) -> usize {
        let mut len = 0;
        if self.mss.is_some() {
            len += 4;
        }
        if self.timestamps.is_some() {
            len += 12; // with SACK-permitted in place of the padding
        } else if self.sack_permitted {
            len += 4;
        }
        if self.wscale.is_some() {
            len += 4;
        }
        len
    }

    /// How many SACK blocks find room (with timestamps, three: RFC 2018 section 3).
    #[inline]
    const fn sacks_that_fit(&self, used: usize) -> usize {
        let room = (MAX_OPTIONS - 4 - used) / 8;
        if self.sacks.len() < room { self.sacks.len() } else { room }
    }

    /// Bytes that [`Options::emit`] writes: a multiple of 4, at most 40. SACK blocks beyond that are left out.
    #[inline]
    pub const fn wire_len(&self) -> usize {
        let used = self.len_without_sacks();
        if self.sacks.is_empty() { used } else { used + 4 + 8 * self.sacks_that_fit(used) }
    }

    /// Writes the options to the front of `out` and returns their length. Panics if `out` is shorter.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) -> usize {
        if let Options { mss: None, wscale: None, sack_permitted: false, timestamps: Some(ts), sacks } = self
            && sacks.is_empty()
        {
            put_timestamps(out, ALIGNED_TIMESTAMPS, *ts);
            return 12;
        }
        self.emit_list(out)
    }

    fn emit_list(&self, out: &mut [u8]) -> usize {
        let Options { mss, wscale, sack_permitted, timestamps, ref sacks } = *self;
        let mut at = 0;
        if let Some(mss) = mss {
            let [a, b] = mss.to_be_bytes();
            out[..4].copy_from_slice(&[MSS, 4, a, b]);
            at = 4;
        }
        let pad = if sack_permitted { [SACK_PERMITTED, 2] } else { [NOP, NOP] };
        if let Some(ts) = timestamps {
            put_timestamps(&mut out[at..], [pad[0], pad[1], TIMESTAMPS, 10], ts);
            at += 12;
        } else if sack_permitted {
            out[at..at + 4].copy_from_slice(&[NOP, NOP, pad[0], pad[1]]);
            at += 4;
        }
        if let Some(shift) = wscale {
            out[at..at + 4].copy_from_slice(&[NOP, WSCALE, 3, shift.min(MAX_WSCALE)]);
            at += 4;
        }
        if !sacks.is_empty() {
            let n = self.sacks_that_fit(at);
            out[at..at + 4].copy_from_slice(&[NOP, NOP, SACK, (2 + 8 * n) as u8]);
            at += 4;
            for (left, right) in sacks.iter().take(n) {
                out[at..at + 4].copy_from_slice(&left.0.to_be_bytes());
                out[at + 4..at + 8].copy_from_slice(&right.0.to_be_bytes());
                at += 8;
            }
        }
        at
    }
}

#[inline]
fn put_timestamps(out: &mut [u8], head: [u8; 4], ts: Timestamps) {
    let out: &mut [u8; 12] = out.first_chunk_mut().expect("room for TCP timestamps");
    out[..4].copy_from_slice(&head);
    out[4..8].copy_from_slice(&ts.val.to_be_bytes());
    out[8..].copy_from_slice(&ts.ecr.to_be_bytes());
}

#[cfg(test)]
#[path = "options_tests.rs"]
pub(super) mod tests;
