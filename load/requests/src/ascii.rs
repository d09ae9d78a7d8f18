//! memcached's text protocol: `get` of one key, and `set`.
//!
//! ```text
//!   get KEY\r\n                       VALUE KEY 0 LENGTH\r\n VALUE \r\n END\r\n
//!   set KEY 0 0 LENGTH\r\n VALUE \r\n      STORED\r\n
//! ```

use crate::asker::{Ask, Verdict};
use crate::body::Body;
use crate::records::{Key, Records, digits};
use crate::workload::{KEY_MAX, VALUE_MAX};

/// A reply line of more bytes, its end included, is garbage.
pub(crate) const LINE_MAX: usize = 2048;

const STORED: &[u8; 8] = b"STORED\r\n";
/// What follows a value.
const TAIL: &[u8; 7] = b"\r\nEND\r\n";
const VALUE: &[u8; 6] = b"VALUE ";

/// How a line begins that a server may send in answer to a get or a set.
const LINES: [&[u8]; 10] = [
    VALUE,
    b"END\r\n",
    STORED,
    b"NOT_STORED\r\n",
    b"ERROR\r\n",
    b"ERROR ",
    b"CLIENT_ERROR\r\n",
    b"CLIENT_ERROR ",
    b"SERVER_ERROR\r\n",
    b"SERVER_ERROR ",
];

/// Appends the request.
#[inline]
pub(crate) fn write(records: &Records, ask: Ask, out: &mut Vec<u8>) {
    let key = records.key(ask.subject);
    let [letters, number] = key.parts();
    if !ask.set {
        out.extend_from_slice(b"get ");
        out.extend_from_slice(letters);
        out.extend_from_slice(number);
        out.extend_from_slice(b"\r\n");
        return;
    }
    let value = records.value(ask.subject);
    out.extend_from_slice(b"set ");
    out.extend_from_slice(letters);
    out.extend_from_slice(number);
    out.extend_from_slice(b" 0 0 ");
    out.extend_from_slice(significant(&digits(value.len as u32)));
    out.extend_from_slice(b"\r\n");
    value.write(out);
    out.extend_from_slice(b"\r\n");
}

/// Judges the bytes that begin where the reply does.
#[inline]
pub(crate) fn judge(records: &Records, ask: Ask, bytes: &[u8]) -> Verdict {
    if !ask.set {
        return judge_get(records, ask.subject, bytes);
    }
    match bytes.len() {
        0 => Verdict::Incomplete(1),
        n if n < STORED.len() && STORED.starts_with(bytes) => Verdict::Incomplete(STORED.len()),
        _ if bytes.starts_with(STORED) => Verdict::Right(STORED.len()),
        _ => other(bytes),
    }
}

fn judge_get(records: &Records, index: u32, bytes: &[u8]) -> Verdict {
    let (key, value) = (records.key(index), records.value(index));
    let length = digits(value.len as u32);
    let length = significant(&length);
    match hit(&key, &value, length, bytes) {
        Some(rest) => Verdict::Right(bytes.len() - rest.len()),
        None => not_a_hit(&key, &value, length, bytes),
    }
}

/// What follows the right reply to a get, if the whole of it is there.
#[inline]
fn hit<'a>(key: &Key, value: &Body, length: &[u8], bytes: &'a [u8]) -> Option<&'a [u8]> {
    let [letters, number] = key.parts();
    let rest = bytes.strip_prefix(VALUE)?.strip_prefix(letters)?.strip_prefix(number)?;
    let rest = rest.strip_prefix(b" 0 ")?.strip_prefix(length)?.strip_prefix(b"\r\n")?;
    let (shown, rest) = rest.split_at_checked(value.len)?;
    let rest = rest.strip_prefix(TAIL)?;
    value.is(shown).then_some(rest)
}

/// The beginning of the right reply, or another.
fn not_a_hit(key: &Key, value: &Body, length: &[u8], bytes: &[u8]) -> Verdict {
    let [letters, number] = key.parts();
    let header = [VALUE, letters, number, b" 0 ", length, b"\r\n"];
    let mut rest = bytes;
    for part in header {
        let n = part.len().min(rest.len());
        if rest[..n] != part[..n] {
            return other(bytes);
        }
        if n < part.len() {
            return Verdict::Incomplete(least(bytes));
        }
        rest = &rest[n..];
    }
    // The header is the right one, so it tells the reply's length.
    let total = bytes.len() - rest.len() + value.len + TAIL.len();
    if bytes.len() < total { Verdict::Incomplete(total) } else { other(bytes) }
}

/// The least that a reply comes to of which `bytes` are the beginning, in the midst of its first line. The line may
/// still go on otherwise than the right one, so that nothing follows from the right reply's length.
fn least(bytes: &[u8]) -> usize {
    // The end of the line, an empty value, and the tail.
    if bytes.starts_with(VALUE) { bytes.len() + 1 + TAIL.len() } else { bytes.len() + 1 }
}

/// A reply that is not the right one may still be a well-formed one: a miss, an error, another value.
#[cold]
fn other(bytes: &[u8]) -> Verdict {
    let possible = LINES.iter().any(|line| {
        let n = line.len().min(bytes.len());
        line[..n] == bytes[..n]
    });
    if !possible {
        return Verdict::Garbage;
    }
    let line = &bytes[..bytes.len().min(LINE_MAX)];
    let Some(end) = line.windows(2).position(|two| two == b"\r\n") else {
        return if bytes.len() < LINE_MAX { Verdict::Incomplete(least(bytes)) } else { Verdict::Garbage };
    };
    let Some(words) = line[..end].strip_prefix(VALUE) else { return Verdict::Wrong(end + 2) };
    let Some(value_len) = value_len(words) else { return Verdict::Garbage };
    let tail = end + 2 + value_len;
    let total = tail + TAIL.len();
    if bytes.len() < total {
        Verdict::Incomplete(total)
    } else if bytes[tail..].starts_with(TAIL) {
        Verdict::Wrong(total)
    } else {
        Verdict::Garbage
    }
}

/// The length in `KEY FLAGS LENGTH`, if they are that.
fn value_len(words: &[u8]) -> Option<usize> {
    let mut words = std::str::from_utf8(words).ok()?.split(' ');
    let (key, flags, len) = (words.next()?, words.next()?, words.next()?);
    flags.parse::<u32>().ok()?;
    let len = len.parse().ok().filter(|len| *len <= VALUE_MAX)?;
    ((1..=KEY_MAX).contains(&key.len()) && words.next().is_none()).then_some(len)
}

/// A number without its leading zeros.
#[inline]
fn significant(digits: &[u8; 10]) -> &[u8] {
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    &digits[zeros.min(9)..]
}
