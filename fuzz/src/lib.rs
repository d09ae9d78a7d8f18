//! Whatever a peer may send: targets that a fuzzer calls with bytes.
//!
//! ```text
//!              bytes ──► parsers    each parser of headers, what it accepts emitted again
//!   fuzzer,    bytes ──► segments   one TCP engine: segments near its numbers, user calls, time
//!   or the     bytes ──► frames     the whole stack with kv and echo: raw frames, plausible frames, time
//!   tests      bytes ──► kv         the memcached protocols over a connection of the whole stack, cut anywhere
//! ```
//!
//! A target panics where something is wrong: the code under test did, or a promise of its interface was not kept. Everything that is under test is the product's own,
//! in virtual time; equal bytes give equal runs.
//!
//! `cargo xtask fuzz` runs a coverage-guided fuzzer (libFuzzer) on them. `cargo test -p fuzz` is the short form: the committed corpus, and a fixed number of
//! mutations of it from fixed seeds ([`mutate`]). What once broke something is kept in the corpus, under a name that says what it was.
//!
//! | file | what |
//! |---|---|
//! | `parsers.rs`, `segments.rs`, `frames.rs`, `kv.rs` | the targets |
//! | `rig.rs` | the whole stack on a cable, for the last two |
//! | `mutate.rs` | inputs from inputs, by a seed |
//! | `bin/fuzz.rs` | the fuzzer's entry |
#![forbid(unsafe_code)]

mod frames;
mod kv;
pub mod mutate;
mod parsers;
mod rig;
mod segments;

/// What is fuzzed.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: that of its folder in `corpus/`, and of its dictionary.
    pub name: &'static str,
    /// One run. Panics where something is wrong.
    pub run: fn(&[u8]),
    /// Mutations in the short run of the tests: a second or two.
    pub short: u64,
}

/// All targets.
pub const TARGETS: [Target; 4] = [
    Target { name: "parsers", run: parsers::run, short: 200_000 },
    Target { name: "segments", run: segments::run, short: 20_000 },
    Target { name: "frames", run: frames::run, short: 2_000 },
    Target { name: "kv", run: kv::run, short: 2_000 },
];

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|t| t.name == name)
}
