use draw::{Rng, Sizes};

use crate::asker::{Ask, Verdict};
use crate::body::{Body, HEAD, mix};
use crate::lengths::Lengths;
use crate::workload::ECHO_MAX;

/// Messages for an echo server.
///
/// ```text
///   8 bytes or more    | length, u32 LE | number, u32 LE | pattern, from a place that depends on the number |
///   fewer              | pattern ...                                                                        |
/// ```
///
/// A message of 8 bytes or more says which it is. So another of our messages in its place is told from bytes that we
/// never sent.
#[derive(Clone, Debug)]
pub(crate) struct Messages {
    sizes: Lengths,
    max: usize,
}

impl Messages {
    pub(crate) fn new(sizes: &Sizes) -> Messages {
        let sizes = Lengths::new(sizes, 1, ECHO_MAX);
        Messages { max: sizes.max(), sizes }
    }

    /// Draws the length of the next message.
    #[inline]
    pub(crate) fn draw(&self, rng: &mut Rng) -> u32 {
        self.sizes.draw(rng) as u32
    }

    /// Appends the message.
    #[inline]
    pub(crate) fn write(ask: Ask, out: &mut Vec<u8>) {
        message(ask.subject, ask.id).write(out);
    }

    /// Judges the bytes that begin where the message is expected.
    #[inline]
    pub(crate) fn judge(&self, ask: Ask, bytes: &[u8]) -> Verdict {
        let message = message(ask.subject, ask.id);
        let n = bytes.len().min(message.len).min(HEAD);
        if bytes[..n] != message.head[..n] {
            return self.other(message.len, bytes);
        }
        match bytes.get(..message.len) {
            // A shorter message may still be in its place.
            None if bytes.len() < HEAD => Verdict::Incomplete(bytes.len() + 1),
            None => Verdict::Incomplete(message.len),
            Some(whole) if message.is(whole) => Verdict::Right(message.len),
            Some(_) => Verdict::Wrong(message.len),
        }
    }

    /// Not the message that is due, which has `due` bytes. Is it another of ours?
    #[cold]
    fn other(&self, due: usize, bytes: &[u8]) -> Verdict {
        let max = self.max.max(due);
        if max < HEAD {
            return Verdict::Garbage;
        }
        let Some(&length) = bytes.first_chunk::<4>() else { return Verdict::Incomplete(bytes.len() + 1) };
        let length = u32::from_le_bytes(length);
        if !(HEAD..=max).contains(&(length as usize)) {
            return Verdict::Garbage;
        }
        let Some(&[.., n0, n1, n2, n3]) = bytes.first_chunk::<HEAD>() else {
            return Verdict::Incomplete(HEAD);
        };
        let message = message(length, u32::from_le_bytes([n0, n1, n2, n3]));
        match bytes.get(..message.len) {
            None => Verdict::Incomplete(message.len),
            Some(whole) if message.is(whole) => Verdict::Wrong(message.len),
            Some(_) => Verdict::Garbage,
        }
    }
}

fn message(size: u32, number: u32) -> Body {
    let start = mix(u64::from(number));
    let head = if (size as usize) < HEAD {
        start.to_le_bytes()
    } else {
        (u64::from(size) | u64::from(number) << 32).to_le_bytes()
    };
    Body { head, start, len: size as usize }
}
