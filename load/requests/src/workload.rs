use std::fmt;
use std::str::FromStr;

use ::spin::wire::{HEADER, REQUEST_MAX, TIME_MAX};
use draw::{Keys, ServiceTimes, Sizes};
use serde::{Deserialize, Serialize};

/// The longest key that memcached takes, in bytes.
pub const KEY_MAX: usize = 250;

/// The longest value that is asked for, in bytes: memcached's default limit of an item is a little above it.
pub const VALUE_MAX: usize = 1 << 20;

/// The longest echo message, in bytes.
pub const ECHO_MAX: usize = 1 << 24;

/// What is asked of the server: values at start-up, the same for all threads and machines of one load.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// GET and SET of a key-value server.
    Kv(Kv),
    /// Messages that come back.
    Echo(Echo),
    /// Requests that say how long the server is to work.
    Spin(Spin),
}

/// GET and SET of known records. All of them are to be stored before the measurement ([`Asker::preload`](crate::Asker::preload)).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Kv {
    /// How it is spoken.
    pub protocol: Protocol,
    /// Different records: 1 or more.
    pub records: u32,
    /// Lengths of keys, at most [`KEY_MAX`]. A key that is too short to hold its record's number is lengthened.
    pub key: Sizes,
    /// Lengths of values, at most [`VALUE_MAX`].
    pub value: Sizes,
    /// Share of GETs, 0 to 1. The rest are SETs.
    pub gets: f64,
    /// Which records are asked for how often.
    pub keys: Keys,
}

/// The two protocols of memcached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Lines of text.
    #[default]
    Ascii,
    /// Headers of 24 bytes. Each request carries a number of its own (opaque), and its reply must repeat it.
    Binary,
}

/// Messages that come back as they were sent.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Echo {
    /// Lengths of messages, 1 to [`ECHO_MAX`].
    pub size: Sizes,
}

/// Requests of the spin server (`spin::wire`).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Spin {
    /// How long the server is to work for each. What is drawn above a second is cut there: the server takes no more.
    pub time: ServiceTimes,
    /// Bytes of a request, 16 to 65536. A reply has 16.
    pub size: u32,
}

/// Records by default. The thesis has a million, which do not fit a memcached of its default 64 MiB; these do.
const RECORDS: u32 = 100_000;

impl Kv {
    /// Facebook's USR: keys of 19 B, values of 2 B, 99.8 % GET.
    pub fn usr() -> Kv {
        Kv::text(Sizes::fixed(19), Sizes::fixed(2), 0.998)
    }

    /// Facebook's ETC, with 75 % GET as in the thesis's text.
    pub fn etc() -> Kv {
        Kv::text(Sizes::etc_key(), Sizes::etc_value(), 0.75)
    }

    /// Facebook's ETC, with 3.3 % updates as in the thesis's scripts.
    pub fn etc_scripts() -> Kv {
        Kv { gets: 0.967, ..Kv::etc() }
    }

    fn text(key: Sizes, value: Sizes, gets: f64) -> Kv {
        Kv { protocol: Protocol::Ascii, records: RECORDS, key, value, gets, keys: Keys::uniform() }
    }
}

impl Default for Echo {
    fn default() -> Echo {
        Echo { size: Sizes::fixed(64) }
    }
}

impl Spin {
    /// Requests without padding.
    pub fn new(time: ServiceTimes) -> Spin {
        Spin { time, size: HEADER as u32 }
    }
}

impl Workload {
    /// The application that it is for: `kv`, `echo` or `spin`.
    pub fn name(&self) -> &'static str {
        match self {
            Workload::Kv(_) => "kv",
            Workload::Echo(_) => "echo",
            Workload::Spin(_) => "spin",
        }
    }

    /// Whether it can be asked.
    ///
    /// # Errors
    /// A sentence for people: the number that is out of bounds, and the bounds.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Workload::Kv(kv) => kv.check(),
            Workload::Echo(echo) => sizes("an echo message", &echo.size, 1, ECHO_MAX),
            Workload::Spin(spin) => spin.check(),
        }
    }
}

impl Kv {
    fn check(&self) -> Result<(), String> {
        if self.records == 0 {
            return Err("a key-value load needs at least 1 record".into());
        }
        if !(0.0..=1.0).contains(&self.gets) {
            return Err(format!("the share of GETs is {}; give a number from 0 to 1", self.gets));
        }
        sizes("a key", &self.key, 1, KEY_MAX)?;
        sizes("a value", &self.value, 0, VALUE_MAX)
    }
}

impl Spin {
    fn check(&self) -> Result<(), String> {
        if !(HEADER as u32..=REQUEST_MAX).contains(&self.size) {
            return Err(format!("a spin request has {HEADER} to {REQUEST_MAX} bytes, not {}", self.size));
        }
        if self.time.mean() > TIME_MAX {
            return Err("the mean service time is above a second, which is the most that a spin server spends".into());
        }
        Ok(())
    }
}

fn sizes(what: &str, sizes: &Sizes, min: usize, max: usize) -> Result<(), String> {
    let (low, high) = (sizes.min() as usize, sizes.max() as usize);
    if low < min || high > max {
        return Err(format!("{what} has {min} to {max} bytes; the sizes asked for are {low} to {high}: cut them"));
    }
    Ok(())
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Ascii => "ascii",
            Protocol::Binary => "binary",
        })
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Protocol, String> {
        match text {
            "ascii" => Ok(Protocol::Ascii),
            "binary" => Ok(Protocol::Binary),
            _ => Err(format!("`{text}` is not a protocol: say ascii or binary")),
        }
    }
}
