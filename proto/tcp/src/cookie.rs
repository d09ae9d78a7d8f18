//! SYN cookies (RFC 4987 section 3.6): a half-open connection that the peer keeps for us.
//!
//! ```text
//!   ISN       | slot 2 | MSS 3 |        MAC 27        |     MAC = SipHash(key, tuple, peer's ISN, slot, MSS)
//!   TSval     |      clock      | ECN 1 | SACK 1 | shift 4 |     if the SYN has timestamps; shift 15: no scaling
//! ```
//!
//! A slot is 64 s; a cookie is good in the slot that it was made in and in the two after. What an ACK claims in its TSecr is
//! not authenticated: a liar chooses only options of its own connection.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;
use units::Nanos;
use wire::tcp::{Flags, Segment, Timestamps};
use wire::{Seq, Tuple};

use crate::isn::hash_tuple;
use crate::listen::syn_ack;
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

/// The cookies of one stack.
#[derive(Clone)]
pub struct SynCookies {
    mac: SipHasher24,
    offset: SipHasher24,
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
        let keyed = |purpose: u8| {
            let mut hasher = SipHasher24::new_with_key(&key);
            hasher.write_u8(purpose);
            hasher
        };
        SynCookies { mac: keyed(3), offset: keyed(4) }
    }

    /// The SYN-ACK to a SYN for which there is no room: its sequence number is the cookie. Nothing is remembered. About
    /// 40 ns.
    pub fn make(&self, now: Nanos, cfg: &Config, tuple: &Tuple, seg: &Segment) -> Emit {
        let slot = now.0 / SLOT;
        let peer_mss = seg.opts.mss.unwrap_or_else(|| cfg.default_mss());
        // The largest that is not above the peer's.
        let mss = MSS.iter().rposition(|m| *m <= peer_mss).unwrap_or(0) as u32;
        let cookie = self.cookie(tuple, seg.seq, slot, mss);
        let mut shake = Handshake::of_syn(cfg, cookie, self.ts_offset(tuple), seg);
        if shake.ts_recent.is_none() {
            // Without timestamps there is no place to remember these.
            (shake.wscale, shake.sack, shake.ecn) = (None, false, false);
        }
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
            ts_offset: self.ts_offset(tuple),
            ecn: false,
        };
        if let Some(Timestamps { val, ecr }) = seg.opts.timestamps.filter(|_| cfg.timestamps) {
            shake.ts_recent = Some(val);
            shake.sack = cfg.sack && ecr & SACK_BIT != 0;
            shake.ecn = cfg.ecn != Ecn::Off && ecr & ECN_BIT != 0;
            // RFC 7323 section 2.3: 14 at most; 15 is ours for "none".
            let shift = (ecr & NO_SCALE) as u8;
            shake.wscale = cfg.shift().and(Some(shift)).filter(|s| *s <= 14);
        }
        Some(Tcb::accepted(now, cfg, &shake, seg))
    }

    fn cookie(&self, tuple: &Tuple, irs: Seq, slot: u64, mss: u32) -> Seq {
        let mut hasher = self.mac;
        hasher.write_u64(slot);
        hasher.write_u32(irs.0);
        hasher.write_u32(mss);
        let mac = hash_tuple(hasher, tuple) as u32 & ((1 << MAC_BITS) - 1);
        Seq((slot as u32) << 30 | mss << MAC_BITS | mac)
    }

    fn ts_offset(&self, tuple: &Tuple) -> u32 {
        hash_tuple(self.offset, tuple) as u32
    }
}
