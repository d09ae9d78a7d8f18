//! SYN cookies (RFC 4987 section 3.6): a half-open connection that the peer keeps for us.
//!
//! ```text
//!   ISN       | slot 2 | MSS 3 |        MAC 27        |     MAC = SipHash-1-3(key, slot, MSS, peer's ISN, tuple)
//!   TSval     |      clock      | ECN 1 | SACK 1 | shift 4 |     if the SYN has timestamps; shift 15: no scaling
//! ```
//!
//! Of the 27 bits one in 2^27 guesses is right, and each costs a segment: the hash need not be harder than that, and a flood asks for one a SYN.
//!
//! A slot is 64 s; a cookie is good in the slot that it was made in and in the two after. What an ACK claims in its TSecr is
//! not authenticated: a liar chooses only options of its own connection.

use siphasher::sip::{SipHasher13, SipHasher24};
use units::Nanos;
use wire::tcp::{Flags, Segment, Timestamps};
use wire::{Seq, Tuple};

use crate::listen::syn_ack;
use crate::output::syn_window;
use crate::tcb::{Handshake, Tcb, ts_clock};
use crate::{Config, Ecn, Emit};

/// The segment sizes that a cookie can name: those in use, and the default.
const MSS: [u16; 8] = [536, 1200, 1300, 1400, 1440, 1452, 1460, 8960];
/// A slot, in nanoseconds.
const SLOT: u64 = 64_000_000_000;
/// Slots after its own in which a cookie is good.
const SLOTS_OLD: u64 = 2;
const MAC_BITS: u32 = 27;
/// Bits of the timestamp that carry options.
const OPTION_BITS: u32 = 6;
const SACK_BIT: u32 = 1 << 4;
const ECN_BIT: u32 = 1 << 5;
const NO_SCALE: u32 = 15;

/// A SYN-ACK whose only option is the maximum segment size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlainSynAck {
    /// The sequence number: a cookie.
    pub seq: Seq,
    /// The acknowledgment number.
    pub ack: Seq,
    /// The window.
    pub window: u16,
    /// The option.
    pub mss: u16,
}

/// The cookies of one stack.
#[derive(Clone)]
pub struct SynCookies {
    mac: SipHasher13,
    offset: SipHasher13,
}

impl std::fmt::Debug for SynCookies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SynCookies(secret)")
    }
}

impl SynCookies {
    /// Cookies under a key of 16 random bytes. Another key than that of [`crate::IsnKey`] is not needed: the purposes are
    /// kept apart.
    pub fn new(key: [u8; 16]) -> SynCookies {
        let secret = SipHasher24::new_with_key(&key);
        // A key of its own for each, drawn from the secret, so that what is hashed is whole words: a flood asks for nothing but this.
        let keyed = |purpose: u8| SipHasher13::new_with_keys(secret.hash(&[purpose, 0]), secret.hash(&[purpose, 1]));
        SynCookies { mac: keyed(3), offset: keyed(4) }
    }

    /// The SYN-ACK to a SYN for which there is no room: its sequence number is the cookie. Nothing is remembered. About
    /// 40 ns.
    pub fn make(&self, now: Nanos, cfg: &Config, tuple: &Tuple, seg: &Segment) -> Emit {
        let cookie = self.isn(now, cfg, tuple, seg.seq, seg.opts.mss);
        let mut shake = Handshake::of_syn(cfg, cookie, 0, seg);
        if shake.ts_recent.is_none() {
            // Without timestamps there is no place to remember these.
            (shake.wscale, shake.sack, shake.ecn) = (None, false, false);
            return syn_ack(cfg, &shake, 0);
        }
        shake.ts_offset = self.ts_offset(tuple);
        let bit = |on, bit| if on { bit } else { 0 };
        let options = shake.wscale.map_or(NO_SCALE, u32::from) | bit(shake.sack, SACK_BIT) | bit(shake.ecn, ECN_BIT);
        let clock = ts_clock(now).wrapping_add(shake.ts_offset);
        let mut val = (clock & !((1 << OPTION_BITS) - 1)) | options;
        if val > clock {
            // Never ahead of what the connection says later.
            val = val.wrapping_sub(1 << OPTION_BITS);
        }
        syn_ack(cfg, &shake, val)
    }

    /// What the SYN-ACK to a SYN without timestamps says, as [`SynCookies::make`] would have it: it depends on no other option but `mss`. `irs` is the
    /// SYN's sequence number.
    #[inline]
    pub fn make_plain(&self, now: Nanos, cfg: &Config, tuple: &Tuple, irs: Seq, mss: Option<u16>) -> PlainSynAck {
        let seq = self.isn(now, cfg, tuple, irs, mss);
        PlainSynAck { seq, ack: irs + 1, window: syn_window(cfg), mss: cfg.mss }
    }

    #[inline]
    fn isn(&self, now: Nanos, cfg: &Config, tuple: &Tuple, irs: Seq, mss: Option<u16>) -> Seq {
        let mss = mss.unwrap_or_else(|| cfg.default_mss());
        // The largest that is not above the peer's.
        let mss = MSS.iter().skip(1).map(|m| u32::from(*m <= mss)).sum();
        self.cookie(tuple, irs, now.0 / SLOT, mss)
    }

    /// The connection that an ACK belongs to, if it carries a cookie of ours that is not too old. The caller gives the
    /// segment to it after ([`Tcb::segment_arrives`]), for it may carry data. About 30 ns.
    pub fn check(&self, now: Nanos, cfg: &Config, tuple: &Tuple, seg: &Segment) -> Option<Tcb> {
        let odd = Flags::SYN | Flags::RST;
        if !seg.flags.contains(Flags::ACK) || seg.flags.intersects(odd) {
            return None;
        }
        let (cookie, irs) = (seg.ack - 1, seg.seq - 1);
        let slot_now = now.0 / SLOT;
        let age = (slot_now as u32).wrapping_sub(cookie.0 >> 30) & 3;
        let slot = slot_now.checked_sub(u64::from(age)).filter(|_| u64::from(age) <= SLOTS_OLD)?;
        let mss = (cookie.0 >> MAC_BITS) & 7;
        if self.cookie(tuple, irs, slot, mss) != cookie {
            return None;
        }
        let mut shake = Handshake {
            iss: cookie,
            irs,
            mss: MSS.get(mss as usize).copied(),
            wscale: None,
            sack: false,
            ts_recent: None,
            ts_offset: 0,
            ecn: false,
        };
        if let Some(Timestamps { val, ecr }) = seg.opts.timestamps.filter(|_| cfg.timestamps) {
            shake.ts_recent = Some(val);
            shake.ts_offset = self.ts_offset(tuple);
            shake.sack = cfg.sack && ecr & SACK_BIT != 0;
            shake.ecn = cfg.ecn != Ecn::Off && ecr & ECN_BIT != 0;
            // RFC 7323 section 2.3: 14 at most; 15 is ours for "none".
            let shift = (ecr & NO_SCALE) as u8;
            shake.wscale = cfg.shift().and(Some(shift)).filter(|s| *s <= 14);
        }
        Some(Tcb::accepted(now, cfg, &shake, seg))
    }

    #[inline]
    fn cookie(&self, tuple: &Tuple, irs: Seq, slot: u64, mss: u32) -> Seq {
        // 29 bits of the slot's number last for a thousand years.
        let what = u64::from((slot as u32) << 3 | mss) << 32 | u64::from(irs.0);
        let mac = hash(&self.mac, what, tuple) as u32 & ((1 << MAC_BITS) - 1);
        Seq((slot as u32) << 30 | mss << MAC_BITS | mac)
    }

    fn ts_offset(&self, tuple: &Tuple) -> u32 {
        hash(&self.offset, 0, tuple) as u32
    }
}

/// The hash of a word and a tuple; how long the bytes are tells the families apart.
#[inline]
fn hash(key: &SipHasher13, word: u64, tuple: &Tuple) -> u64 {
    let Tuple { local, remote, local_port, remote_port } = *tuple;
    let ports = u64::from(local_port) << 16 | u64::from(remote_port);
    if tuple.is_v4() {
        let addresses = u64::from(local.low32()) << 32 | u64::from(remote.low32());
        return key.hash([word, addresses, ports].map(u64::to_le_bytes).as_flattened());
    }
    let ((a, b), (c, d)) = (local.halves(), remote.halves());
    key.hash([word, a, b, c, d, ports].map(u64::to_le_bytes).as_flattened())
}
