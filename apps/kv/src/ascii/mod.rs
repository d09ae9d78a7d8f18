//! The text protocol (memcached's doc/protocol.txt).
//!
//! | file | what |
//! |---|---|
//! | `parse.rs` | lines, words, numbers |
//! | `fetch.rs` | `get` and its like, key by key; the short way for one key |
//! | `commands.rs` | the other classic commands |
//! | `meta.rs` | the meta commands, `mg` to `mn` |
//! | `flags.rs` | the flags of meta commands |
//! | `base64.rs` | binary keys of meta commands |
//!
//! A line is executed once it is there as a whole and its answer has room. Only the lines of `get`, `gets`, `gat`
//! and `gats` may be longer than 2048 bytes; they are answered key by key as they come.

mod base64;
mod commands;
mod fetch;
mod flags;
mod meta;
mod parse;

use zygix::Received;

pub(crate) use commands::{count_arith, outcome};
pub(crate) use fetch::{Keys, next_key};
pub(crate) use flags::Returns;
pub(crate) use meta::stored as meta_stored;
pub(crate) use parse::{LINE_MAX, newline};

use crate::conn::{Conn, Step};
use crate::service::Turn;
use parse::Line;

/// What `version` answers: the release of memcached whose protocol this is, and who speaks.
pub(crate) const VERSION: &str = "1.6.21-zygix";

pub(crate) const ERROR: &[u8] = b"ERROR\r\n";
const BAD_FORMAT: &[u8] = b"CLIENT_ERROR bad command line format\r\n";
const OUT_OF_MEMORY: &[u8] = b"SERVER_ERROR out of memory storing object\r\n";

/// Executes the next command.
#[inline]
pub(crate) fn command(turn: &mut Turn<'_, '_>, conn: &mut Conn, rx: &mut Received<'_>) -> Step {
    match fetch::get_one(turn, conn, rx) {
        Some(step) => step,
        None => any_command(turn, conn, rx),
    }
}

fn any_command(turn: &mut Turn<'_, '_>, conn: &mut Conn, rx: &mut Received<'_>) -> Step {
    if rx.is_empty() {
        return Step::Bytes(1);
    }
    if !turn.room() {
        return Step::Room;
    }
    let mut scratch = turn.scratch();
    let step = match parse::line(rx, &mut scratch) {
        Line::Whole(line, len) => commands::execute(turn, conn, rx, line, len),
        Line::Part => Step::Bytes(rx.len() + 1),
        Line::Long(head) => fetch::long_line(turn, conn, rx, head),
    };
    turn.keep_scratch(scratch);
    step
}
