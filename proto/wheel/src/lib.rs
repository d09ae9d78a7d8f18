//! A hierarchical timing wheel: deadlines at 16 us, in constant time (Varghese and Lauck 1987; thesis section 2.4.2, IX's
//! timer subsystem).
//!
//! ```text
//!              <--- 256 slots of each level, one is "now" --->
//!   level 0    16 us each, 4.096 ms together      fires
//!   level 1    4.096 ms each, 1.049 s together    re-filed into level 0 when its time comes
//!   level 2    1.049 s each, 268 s together       re-filed into level 1; what is farther away is parked in the last
//!                                                 slot and re-filed from there as often as it takes
//! ```
//!
//! One wheel belongs to each core's stack, which arms a timer with a token of its own (flow group, slot, generation) and
//! is handed the token when it is due. [`Wheel`] has the operations (`wheel`), nodes and their lists are in `nodes`,
//! the maps of occupied slots in `occupied`.
//!
//! Absent on purpose: the clock (the caller says `now`), callbacks of timers, repetition, any allocation after
//! construction.
#![forbid(unsafe_code)]

mod nodes;
mod occupied;
mod wheel;

pub use nodes::TimerId;
pub use wheel::Wheel;

#[cfg(test)]
mod tests;
