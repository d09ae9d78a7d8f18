//! ZygOS mode as a service sees it: two cores that steal and lend, and a client.
//!
//! | file | what |
//! |---|---|
//! | `world.rs` | two elastic threads of one crew and a client over the in-process wire, in virtual time, each turned by hand |
//! | `client.rs` | the client: connections by number, datagrams |
//! | `desk.rs` | the service: it echoes lines, says which core did it, and lets the test act while "application code" runs |
//! | `assist.rs` | who does the network work of a core that is in application code; what is stolen, and in which order |
//! | `ends.rs` | close, reset, panic and hoarding on another core than the home |
//! | `chance.rs` | all of it at random: order, exactly once, nothing left |
//! | `moves.rs` | flow groups change cores, and cores are parked, on threads |
//! | `threads.rs` | the same on threads, where only they can show it: interrupts, and cores that sleep |

mod assist;
mod chance;
mod client;
mod desk;
mod ends;
mod moves;
mod threads;
mod world;
