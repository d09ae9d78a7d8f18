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
mod command;
mod event;
mod group_list;
mod handle;
mod latency;
mod option;
mod page;
mod syscall;

pub use code::{Code, Dead};
pub use command::{
    Answer, Command, CoreInfo, Counters, Dump, Hello, LINE_MAX, MoveInfo, PROTOCOL_VERSION, Refusal, Reply,
    door_directories,
};
pub use event::{Event, Peer, RxRef};
pub use group_list::{GroupList, GroupListError};
pub use handle::{Cookie, Handle};
pub use latency::{LATENCY_BUCKETS, LatencyHistogram};
pub use option::TcpOption;
pub use page::{
    CorePage, PAGE_CORES, PAGE_PERIOD, PAGE_STALE, PAGE_VERSION, PageError, PageHeader, PageReader, PageSched,
    PageWords, PageWriter, page_words,
};
pub use syscall::{Syscall, TxRange};
