//! A key-value store that speaks memcached's protocols, written as a `Service`: one store, shared by all elastic threads.
//!
//! ```text
//!   bytes --> conn --+-- ascii/   get set ... mg ms md ma me mn --+--> store --> shards: index, items, clock hand
//!                    +-- binary   24-byte headers ----------------+      |
//!   bytes <------------ values copied from the item into the reply <-----+
//! ```
//!
//! | file | what |
//! |---|---|
//! | `service.rs` | the `Service`: threads, connections, the limit on them |
//! | `conn.rs` | what a connection is in the middle of, and the loop that moves it on |
//! | `upload.rs` | a value that is still coming in |
//! | `ascii/` | the text protocol: lines, classic commands, meta commands |
//! | `binary.rs` | the binary protocol |
//! | `store/` | the shards, their items, eviction, the memory budget |
//! | `stats.rs` | counters, and what `stats` answers |
//! | `clock.rs` | seconds, and memcached's expiration times |
//! | `config.rs` | the settings |
//! | `digits.rs` | numbers and lines written by hand |
//!
//! A request whose reply finds no room is not executed: it stays unconsumed and is seen again. Values that are
//! larger than a reply's room are sent piece by piece from the item, outside of any lock; values that come in are
//! collected once, in the memory that becomes the item.
//!
//! Deliberately absent: SASL, extstore, UDP framing, a background crawler (expired items go when they are met), slab classes.
#![forbid(unsafe_code)]

mod ascii;
mod binary;
mod clock;
mod config;
mod conn;
mod digits;
mod service;
mod stats;
mod store;
#[cfg(test)]
mod tests;
mod upload;

pub use config::Config;
pub use conn::Conn;
pub use service::{Core, Kv};
