//! memcached's binary protocol (its wiki, BinaryProtocolRevamped): get and set.
//!
//! ```text
//!   0        1        2        3        4        5        6        7
//! | magic  | opcode | key length      | extras | type 0 | status          |
//! | total body length                 | opaque                            |
//! | cas                                                                   |
//! | extras ... key ... value                                              |
//!
//!   get  request   key                              reply  flags (4 B), value
//!   set  request   flags, expiry (8 B), key, value  reply  nothing
//! ```

use crate::asker::{Ask, Verdict};
use crate::records::Records;
use crate::workload::{KEY_MAX, VALUE_MAX};

const REQUEST: u8 = 0x80;
const RESPONSE: u8 = 0x81;
const GET: u8 = 0x00;
const SET: u8 = 0x01;
pub(crate) const HEADER: usize = 24;
/// Bytes of extras in a set, and in the reply to a get.
const SET_EXTRAS: usize = 8;
const GET_EXTRAS: usize = 4;
/// No reply has a longer body.
const BODY_MAX: usize = VALUE_MAX + KEY_MAX + 20;

/// Appends the request.
#[inline]
pub(crate) fn write(records: &Records, ask: Ask, out: &mut Vec<u8>) {
    let key = records.key(ask.subject);
    let [letters, number] = key.parts();
    if !ask.set {
        out.extend_from_slice(&header(GET, key.len(), 0, key.len(), ask.id));
        out.extend_from_slice(letters);
        out.extend_from_slice(number);
        return;
    }
    let value = records.value(ask.subject);
    out.extend_from_slice(&header(SET, key.len(), SET_EXTRAS, SET_EXTRAS + key.len() + value.len, ask.id));
    // No flags, no expiry.
    out.extend_from_slice(&[0; SET_EXTRAS]);
    out.extend_from_slice(letters);
    out.extend_from_slice(number);
    value.write(out);
}

fn header(opcode: u8, key: usize, extras: usize, body: usize, opaque: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[0] = REQUEST;
    header[1] = opcode;
    header[2..4].copy_from_slice(&(key as u16).to_be_bytes());
    header[4] = extras as u8;
    header[8..12].copy_from_slice(&(body as u32).to_be_bytes());
    header[12..16].copy_from_slice(&opaque.to_be_bytes());
    header
}

/// Judges the bytes that begin where the reply does.
#[inline]
pub(crate) fn judge(records: &Records, ask: Ask, bytes: &[u8]) -> Verdict {
    match bytes.first() {
        None => return Verdict::Incomplete(1),
        Some(&RESPONSE) => {}
        // Text, most likely: a server that does not speak this protocol.
        Some(_) => return Verdict::Garbage,
    }
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else { return Verdict::Incomplete(HEADER) };
    let [_, opcode, key_1, key_0, extras, data_type, status_1, status_0, b3, b2, b1, b0, id3, id2, id1, id0, ..] =
        *header;
    let key = usize::from(u16::from_be_bytes([key_1, key_0]));
    let body = u32::from_be_bytes([b3, b2, b1, b0]) as usize;
    if data_type != 0 || key + usize::from(extras) > body || body > BODY_MAX {
        return Verdict::Garbage;
    }
    let Some(body) = rest.get(..body) else { return Verdict::Incomplete(HEADER + body) };
    let total = HEADER + body.len();
    let success = status_1 == 0 && status_0 == 0 && key == 0 && u32::from_be_bytes([id3, id2, id1, id0]) == ask.id;
    let right = success
        && if ask.set {
            opcode == SET && body.is_empty()
        } else {
            opcode == GET && usize::from(extras) == GET_EXTRAS && hit(records, ask.subject, body)
        };
    if right { Verdict::Right(total) } else { Verdict::Wrong(total) }
}

/// Whether it is the body of the right reply to a get: no flags, and the value.
fn hit(records: &Records, index: u32, body: &[u8]) -> bool {
    let value = records.value(index);
    body.strip_prefix(&[0; GET_EXTRAS]).is_some_and(|bytes| value.is(bytes))
}
