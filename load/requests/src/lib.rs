//! What a load generator asks, and what the right answer is: every byte of every reply is checked.
//!
//! ```text
//!   Workload   what is asked, in numbers                          workload.rs
//!      |
//!   Asker      next() -> Ask     one thread's source of requests  asker.rs
//!              write(Ask)        the request's bytes
//!              judge(Ask, reply) -> Verdict
//!                 +-- kv    records.rs   keys and values by index, lengths.rs
//!                 |         ascii.rs, binary.rs   the two protocols of memcached
//!                 +-- echo  echo.rs      messages that say which they are
//!                 +-- spin  spin.rs      the time to be spent, drawn here
//!                           body.rs      bytes that are cheap to make and to check
//! ```
//!
//! | workload | key | value | asks | source |
//! |---|---|---|---|---|
//! | [`Kv::usr`] | 19 B | 2 B | 99.8 % GET | Facebook's USR (Atikoglu et al., SIGMETRICS 2012) |
//! | [`Kv::etc`] | GEV(30.7984, 8.20449, 0.078688), 20 to 70 B | 15 points below 15 B, then GP(15, 214.476, 0.348238), 1 to 1024 B | 75 % GET | Facebook's ETC, the thesis's text |
//! | [`Kv::etc_scripts`] | as ETC | as ETC | 96.7 % GET | ETC, the mix in the thesis's scripts |
//! | [`Echo`] | | 64 B, or any sizes | the message comes back | thesis section 2.4 |
//! | [`Spin`] | | 16 B, padded if wanted | the server works for the time drawn | thesis section 3.3 |
//!
//! A key-value record's key and value, bytes and lengths, are pure functions of its index, and a SET writes what is there
//! already. So a GET has exactly one right answer whatever else is under way, and whoever knows the workload can check
//! it. All of it is computed; nothing is stored per record.
//!
//! Deliberately absent: sockets, clocks, the instants at which requests are sent (`draw`), and operations other than
//! these. memcached's remaining commands are tested elsewhere; they are not load.
#![forbid(unsafe_code)]

mod ascii;
mod asker;
mod binary;
mod body;
mod echo;
mod lengths;
mod records;
mod spin;
#[cfg(test)]
mod tests;
mod workload;

pub use asker::{Ask, Asker, Verdict};
pub use workload::{ECHO_MAX, Echo, KEY_MAX, Kv, Protocol, Spin, VALUE_MAX, Workload};
