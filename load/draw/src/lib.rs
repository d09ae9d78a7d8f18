//! What a load generator draws: when requests leave, how large they are, which key they name and how long the server works on them.
//!
//! ```text
//!   description (text, serde)        drawn by one thread
//!   Gaps + Pattern  ------------->   Arrivals     instants, ascending
//!   Sizes           ------------->   Sizes::at    bytes, as a quantile function
//!   Keys            ------------->   KeyChooser   0..n
//!   ServiceTimes    ------------->   draw         Nanos
//! ```
//!
//! Every description is a short text (`poisson`, `slope:6.2m`, `etc-value`, `bimodal1:10us`): it parses, displays as a text that parses to
//! an equal value, and serializes as that text. A description that names a file reads it when it is parsed and carries the values from then
//! on (`values:...`), so another machine needs no file.
//!
//! Files: `text` numbers with units; `file` bounded reading; `quantile` the extreme-value functions; `gaps`, `pattern`,
//! `arrivals`, `sizes`, `service`, `keys` one description each; `stream` and `zipf` the randomness below.
//!
//! Absent on purpose: clocks, sockets and threads. Random streams are for experiments that can be repeated, not for secrets.
#![forbid(unsafe_code)]

mod arrivals;
mod file;
mod gaps;
mod keys;
mod pattern;
mod quantile;
mod service;
mod sizes;
mod stream;
mod text;
mod zipf;

pub use arrivals::Arrivals;
pub use file::MAX_VALUES;
pub use gaps::Gaps;
pub use keys::{KeyChooser, Keys};
pub use pattern::{MAX_RATE, MIN_RATE, Pattern};
pub use quantile::{gev, gpareto};
pub use service::ServiceTimes;
pub use sizes::{MAX_SIZE, Sizes};
pub use stream::{Purpose, Rng, stream};
pub use text::{format_rate, format_span, parse_rate, parse_span};
