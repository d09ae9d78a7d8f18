use ::spin::wire::{HEADER, REQUEST_MAX, Reply, Request, TIME_MAX};
use draw::{Rng, ServiceTimes};
use units::Nanos;

use crate::asker::{Ask, Verdict};
use crate::body::stretch;
use crate::workload::Spin;

/// Requests for a spin server.
#[derive(Clone, Debug)]
pub(crate) struct Works {
    time: ServiceTimes,
    size: u32,
}

const _: () = assert!(TIME_MAX.0 <= u32::MAX as u64, "an Ask has 32 bits for it");

impl Works {
    pub(crate) fn new(spin: &Spin) -> Works {
        Works { time: spin.time.clone(), size: spin.size.clamp(HEADER as u32, REQUEST_MAX) }
    }

    /// Draws the time that the next request asks for, in nanoseconds.
    #[inline]
    pub(crate) fn draw(&self, rng: &mut Rng) -> u32 {
        self.time.draw(rng).min(TIME_MAX).0 as u32
    }

    /// Appends the request.
    #[inline]
    pub(crate) fn write(&self, ask: Ask, out: &mut Vec<u8>) {
        let request = Request { length: self.size, id: ask.id, time: Nanos(u64::from(ask.subject)) };
        out.extend_from_slice(&request.encode());
        let mut padding = self.size as usize - HEADER;
        let stretch = stretch(0);
        while padding > 0 {
            let n = padding.min(stretch.len());
            out.extend_from_slice(&stretch[..n]);
            padding -= n;
        }
    }

    /// Judges the bytes that begin where the reply does. Right: the id is the request's, and no less was spent than asked.
    #[inline]
    pub(crate) fn judge(ask: Ask, bytes: &[u8]) -> Verdict {
        let Some(reply) = bytes.first_chunk::<HEADER>() else {
            // The length, as far as it is there, tells whether this is a spin server at all.
            let length = (HEADER as u32).to_le_bytes();
            let n = bytes.len().min(length.len());
            return match n {
                0 => Verdict::Incomplete(1),
                _ if bytes[..n] == length[..n] => Verdict::Incomplete(HEADER),
                _ => Verdict::Garbage,
            };
        };
        match Reply::decode(reply) {
            Ok(reply) if reply.id == ask.id && reply.spent >= Nanos(u64::from(ask.subject)) => Verdict::Right(HEADER),
            Ok(_) => Verdict::Wrong(HEADER),
            Err(_) => Verdict::Garbage,
        }
    }
}
