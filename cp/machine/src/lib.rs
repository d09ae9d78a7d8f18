//! The machine as the control plane and the simulator see it: how fast its hardware threads are, and what power it draws, in each configuration that can be set.
//!
//! ```text
//!   package  ─┬─ core 0 ─┬─ hardware thread 0                speed      clock, and who else is busy on the core
//!     idle_w  │  awake_w └─ hardware thread 8, its sibling   power      idle + cores (awake + what the clock draws)
//!             ├─ core 1 ...
//!             └─ one clock for all cores: a step, or turbo
//! ```
//!
//! A [`State`] says how many cores are awake, how many hardware threads of each are busy, and at which clock they run. A [`Machine`] answers what that is
//! worth. Nothing here reads a clock or a file, or sets anything.
//!
//! | file | what |
//! |---|---|
//! | `model.rs` | [`Machine`], [`State`]: speed, capacity, power |
//! | `file.rs` | a machine as a TOML text: its format, and what is wrong with one |
//! | `builtin.rs`, `e5-2665.toml` | the machine of the thesis; one like it with any number of cores |
//!
//! Left out: the minutes in which a package warms up in turbo mode (it is warm here, see [`Machine::warm_w`]), the time that a change of the clock takes, sleep
//! states in their degrees, memory's power, and clocks per core: a package has one, as in the thesis.
#![forbid(unsafe_code)]

mod builtin;
mod file;
mod model;

pub use file::MachineError;
pub use model::{Clock, HardwareThread, Machine, State};
