use draw::{KeyChooser, Rng};
use rand::Rng as _;

use crate::ascii;
use crate::binary;
use crate::echo::Messages;
use crate::records::Records;
use crate::spin::Works;
use crate::workload::{Protocol, Workload};

/// A request that was made: enough to write it, and to judge its reply. To be kept until the reply has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask {
    /// What it is about: a record's index, a message's length, or the nanoseconds to be spent.
    pub(crate) subject: u32,
    /// Counts the asker's requests: the binary protocol's opaque, a message's number, a spin request's id.
    pub(crate) id: u32,
    /// Whether it stores.
    pub(crate) set: bool,
}

const _: () = assert!(size_of::<Ask>() <= 24);

/// What the bytes received so far say about the oldest request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The right reply, of this many bytes.
    Right(usize),
    /// A complete reply of this many bytes, and not the right one: a miss, an error, another value.
    Wrong(usize),
    /// Not decided. Come again when at least this many bytes are there, which is more than there are now and not beyond
    /// the reply's end. Once the header of a long reply is there it is the whole reply, so a reply is not scanned
    /// again and again as it grows.
    Incomplete(usize),
    /// Nothing that the protocol allows: where the next reply begins is unknown.
    Garbage,
}

/// One thread's source of requests. Nothing is allocated per request but room in the caller's buffer.
#[derive(Clone, Debug)]
pub struct Asker {
    rng: Rng,
    id: u32,
    of: Of,
}

#[derive(Clone, Debug)]
enum Of {
    Kv { protocol: Protocol, records: Records, count: u32, gets: f64, chooser: KeyChooser },
    Echo(Messages),
    Spin(Works),
}

impl Asker {
    /// Begins to ask. `rng` decides what; equal ones ask the same.
    ///
    /// Numbers that [`Workload::check`] refuses are brought within their bounds. Takes a few milliseconds and up to
    /// 128 KiB for the tables of lengths, and what `KeyChooser` takes.
    pub fn new(workload: &Workload, rng: Rng) -> Asker {
        let of = match workload {
            Workload::Kv(kv) => {
                let count = kv.records.max(1);
                Of::Kv {
                    protocol: kv.protocol,
                    records: Records::new(&kv.key, &kv.value),
                    count,
                    gets: kv.gets,
                    chooser: KeyChooser::new(&kv.keys, count),
                }
            }
            Workload::Echo(echo) => Of::Echo(Messages::new(&echo.size)),
            Workload::Spin(spin) => Of::Spin(Works::new(spin)),
        };
        Asker { rng, id: 0, of }
    }

    /// Decides what to ask next.
    #[inline]
    #[expect(
        clippy::should_implement_trait,
        reason = "it never ends, and an iterator would take `write` and `judge` with it"
    )]
    pub fn next(&mut self) -> Ask {
        self.id = self.id.wrapping_add(1);
        let (id, rng) = (self.id, &mut self.rng);
        match &self.of {
            Of::Kv { gets, chooser, .. } => {
                let set = rng.random::<f64>() >= *gets;
                Ask { subject: chooser.draw(rng), id, set }
            }
            Of::Echo(messages) => Ask { subject: messages.draw(rng), id, set: false },
            Of::Spin(works) => Ask { subject: works.draw(rng), id, set: false },
        }
    }

    /// How many records are to be stored before the measurement; 0: none.
    pub fn records(&self) -> u32 {
        match &self.of {
            Of::Kv { count, .. } => *count,
            Of::Echo(_) | Of::Spin(_) => 0,
        }
    }

    /// The request that stores record `index`, which is below [`records`](Asker::records).
    pub fn preload(&self, index: u32) -> Ask {
        Ask { subject: index, id: index, set: true }
    }

    /// A message of `size` bytes, at least 1, instead of one drawn: for a sweep over sizes. Of use for echo only.
    pub fn ask_of_size(&self, size: u32) -> Ask {
        Ask { subject: size.max(1), id: self.id, set: false }
    }

    /// Appends the request's bytes.
    #[inline]
    pub fn write(&self, ask: Ask, out: &mut Vec<u8>) {
        match &self.of {
            Of::Kv { protocol: Protocol::Ascii, records, .. } => ascii::write(records, ask, out),
            Of::Kv { protocol: Protocol::Binary, records, .. } => binary::write(records, ask, out),
            Of::Echo(_) => Messages::write(ask, out),
            Of::Spin(works) => works.write(ask, out),
        }
    }

    /// Judges `bytes`, which begin where the reply to `ask` does. Costs time in proportion to the reply's length, once
    /// per reply.
    #[inline]
    pub fn judge(&self, ask: Ask, bytes: &[u8]) -> Verdict {
        match &self.of {
            Of::Kv { protocol: Protocol::Ascii, records, .. } => ascii::judge(records, ask, bytes),
            Of::Kv { protocol: Protocol::Binary, records, .. } => binary::judge(records, ask, bytes),
            Of::Echo(messages) => messages.judge(ask, bytes),
            Of::Spin(_) => Works::judge(ask, bytes),
        }
    }
}
