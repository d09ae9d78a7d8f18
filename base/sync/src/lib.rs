//! Small things that several cores touch at once, each built so that the model checker can take it apart.
//!
//! ```text
//!   try_lock    TryLock, alias StackLock     nobody waits for it: taken or not
//!   sleep       SleepWord                    asleep or not, with no lost wake-up
//!   link_stack  LinkStack, Link, Chain       many push, one takes all: how foreign mbufs come home
//!   offers      Offers                       one pushes, any takes one: ready work for whichever core is free
//!   returns     Returns                      any returns, one takes all: how it comes home
//!   epoch       Epoch                        an empty ring, as another core learns of it
//!   ring        Ends, Producer, Consumer     the indices of an SPSC ring; the other end may lie
//!   switch      atomic, cell                 std's primitives, loom's under `--cfg loom`, shuttle's under `--cfg shuttle`
//! ```
//!
//! All types are free of packets, NICs and clocks. `tests/loom.rs` runs the very same code through every interleaving:
//! `RUSTFLAGS="--cfg loom" cargo test -p sync --release --test loom`. Absent on purpose: locks that wait, and
//! what is in the slots, nodes and cells.

mod epoch;
mod link_stack;
mod offers;
mod returns;
pub mod ring;
mod sleep;
mod switch;
mod try_lock;

pub use epoch::{Count, Epoch, Mark};
pub use link_stack::{Chain, Link, LinkStack, Linked};
pub use offers::{Offers, Taken};
pub use returns::Returns;
pub use sleep::SleepWord;
pub use switch::{atomic, cell};
pub use try_lock::{StackGuard, StackLock, TryGuard, TryLock};
