//! The memory of the data plane, all of it reserved at start-up.
//!
//! ```text
//!   Region   huge pages from the kernel, 2 MiB aligned                    region.rs
//!     |
//!     +- Pool   count x (64 B header | capacity B)                        pool.rs
//!     |    |  alloc      ^ free (own core)   ^ drop (any core, by the return stack)
//!     |    v             |                   |
//!     |   Mbuf  one owner, a view [off, off + len) of its buffer          mbuf.rs
//!     |    |
//!     |   MbufQueue  a FIFO through the headers                           queue.rs
//!     |
//!     +- Depot<T>  -> Chunk<T>  32 T at a time, resident once used        depot.rs
//!     +- Words  tables of numbers, resident once used                     words.rs
//! ```
//!
//! Every buffer names its pool for life, so it may travel to any core and finds home by itself. A buffer is never
//! uninitialised: the kernel zeroes pages, later owners only overwrite. What is deliberately absent: sharing
//! of one buffer by several owners, growth, and anything that knows what a packet is.

mod depot;
mod error;
mod mbuf;
mod pool;
mod prefetch;
mod queue;
mod region;
mod words;

pub use depot::{CHUNK, Chunk, Depot};
pub use error::MemError;
pub use mbuf::Mbuf;
pub use pool::Pool;
pub use prefetch::{prefetch, prefetch_first};
pub use queue::{Iter, MbufMut, MbufQueue};
pub use region::{Backing, HUGE_PAGE, Pages, Region, Room};
pub use words::Words;
