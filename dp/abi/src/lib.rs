//! The layout that applications and dataplane share: event conditions, batched syscalls, handles, return codes (thesis table 2.2).
//!
//! ```text
//!   application  <--- event conditions: knock connected recv sent dead ---   dataplane
//!                ---> batched syscalls: connect accept sendv recv_done close  --->
//! ```
//!
//! One exchange per batch, not one per event. Both arrays are small plain values. A *handle* is what the dataplane
//! calls a connection, a *cookie* what the application calls it. Handles, lengths and buffer references that
//! come back from an application are allegations until the dataplane has checked them.
//!
//! Deliberately absent: memory (buffers are named by position in the batch that carries them, never by address)
//! and behaviour.
#![forbid(unsafe_code)]

mod code;
mod event;
mod handle;
mod option;
mod syscall;

pub use code::{Code, Dead};
pub use event::{Event, Peer, RxRef};
pub use handle::{Cookie, Handle};
pub use option::TcpOption;
pub use syscall::{Syscall, TxRange};
