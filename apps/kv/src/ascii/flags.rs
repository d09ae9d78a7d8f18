//! The flags of meta commands: one letter each, some with a token (protocol.txt, "Meta Commands").

use super::base64;
use super::parse::{Words, number, number32, signed};
use crate::digits::Cursor;
use crate::store::KEY_MAX;

/// The longest opaque value.
const OPAQUE_MAX: usize = 32;

/// Flags whose effect depends on their order: what to return, and the changes that show in what is returned later.
const ORDERED: &[u8] = b"cfhklOstTN";

/// What to return, in the order asked for, and in what form. Plain data: it outlives the line.
#[derive(Clone, Debug)]
pub(crate) struct Returns {
    order: [u8; ORDERED.len()],
    count: usize,
    opaque: [u8; OPAQUE_MAX],
    opaque_len: usize,
    /// `b`: the key travels in base64.
    binary_key: bool,
    /// `q`: the nominal answer is not given.
    pub(super) quiet: bool,
}

/// The room that everything which [`Returns::write`] appends may take, generously.
pub(super) const RETURNS_MAX: usize = 704;

impl Returns {
    fn new() -> Returns {
        Returns {
            order: [0; ORDERED.len()],
            count: 0,
            opaque: [0; OPAQUE_MAX],
            opaque_len: 0,
            binary_key: false,
            quiet: false,
        }
    }

    /// Appends what was asked for; `item` appends (or carries out) the flags that concern the item.
    pub(super) fn write(&self, out: &mut Cursor<'_>, key: &[u8], mut item: impl FnMut(u8, &mut Cursor<'_>)) {
        for &flag in &self.order[..self.count] {
            match flag {
                b'O' => {
                    out.put(b" O").put(&self.opaque[..self.opaque_len]);
                }
                b'k' if self.binary_key => {
                    let mut text = [0; base64::encoded_len(KEY_MAX)];
                    let len = base64::encode(key, &mut text);
                    out.put(b" k").put(&text[..len]).put(b" b");
                }
                b'k' => {
                    out.put(b" k").put(key);
                }
                _ => item(flag, out),
            }
        }
    }
}

/// The flags of one command.
#[derive(Clone, Debug)]
pub(super) struct Flags {
    /// Bit n: the letter with code n was given.
    seen: u128,
    pub(super) returns: Returns,
    /// `C`
    pub(super) cas: Option<u64>,
    /// `E`
    pub(super) own_cas: Option<u64>,
    /// `F`
    pub(super) client_flags: u32,
    /// `T`
    pub(super) time: Option<i64>,
    /// `N`
    pub(super) vivify: Option<i64>,
    /// `R`
    pub(super) recache: Option<i64>,
    /// `M`
    pub(super) mode: Option<u8>,
    /// `D`
    pub(super) delta: u64,
    /// `J`
    pub(super) initial: u64,
}

impl Flags {
    /// Whether a letter was given.
    pub(super) fn has(&self, letter: u8) -> bool {
        self.seen & 1 << letter != 0
    }

    /// Reads the flags in `words`, of which `allowed` may occur. The error is the answer to the client.
    pub(super) fn read(words: Words<'_>, allowed: &[u8]) -> Result<Flags, &'static [u8]> {
        let mut flags = Flags {
            seen: 0,
            returns: Returns::new(),
            cas: None,
            own_cas: None,
            client_flags: 0,
            time: None,
            vivify: None,
            recache: None,
            mode: None,
            delta: 1,
            initial: 0,
        };
        for word in words {
            let (&letter, token) = word.split_first().ok_or(INVALID)?;
            if !allowed.contains(&letter) {
                return Err(INVALID);
            }
            if flags.has(letter) {
                return Err(b"CLIENT_ERROR duplicate flag\r\n");
            }
            flags.seen |= 1 << letter;
            flags.take(letter, token)?;
        }
        Ok(flags)
    }

    fn take(&mut self, letter: u8, token: &[u8]) -> Result<(), &'static [u8]> {
        let returns = &mut self.returns;
        if ORDERED.contains(&letter) {
            returns.order[returns.count] = letter;
            returns.count += 1;
        }
        match letter {
            b'C' => self.cas = Some(number(token).ok_or(BAD_TOKEN)?),
            b'E' => self.own_cas = Some(number(token).ok_or(BAD_TOKEN)?),
            b'F' => self.client_flags = number32(token).ok_or(BAD_TOKEN)?,
            b'T' => self.time = Some(signed(token).ok_or(BAD_TOKEN)?),
            b'N' => self.vivify = Some(signed(token).ok_or(BAD_TOKEN)?),
            b'R' => self.recache = Some(signed(token).ok_or(BAD_TOKEN)?),
            b'D' => self.delta = number(token).ok_or(BAD_TOKEN)?,
            b'J' => self.initial = number(token).ok_or(BAD_TOKEN)?,
            b'M' => self.mode = Some(*token.first().ok_or(BAD_TOKEN)?),
            b'O' => {
                let place = returns.opaque.get_mut(..token.len()).ok_or(OPAQUE_TOO_LONG)?;
                place.copy_from_slice(token);
                returns.opaque_len = token.len();
            }
            b'b' => returns.binary_key = true,
            b'q' => returns.quiet = true,
            _ => {}
        }
        Ok(())
    }
}

const INVALID: &[u8] = b"CLIENT_ERROR invalid flag\r\n";
const BAD_TOKEN: &[u8] = b"CLIENT_ERROR bad token in command line format\r\n";
const OPAQUE_TOO_LONG: &[u8] = b"CLIENT_ERROR opaque token too long\r\n";
