//! What benches write, and how it is drawn: documents in, one page out.
//!
//! ```text
//!   zygix bench --json ──> doc.rs ──┐                          ┌─ stacks.rs   rows and ratios
//!                                   ├─ folder.rs ──> page.rs ──┤
//!   zygix load --json ───> load.rs ─┘                          └─ plot.rs     figures, with scale.rs and palette.rs
//! ```
//!
//! | file | what |
//! |---|---|
//! | `doc.rs` | the schema of a bench's document |
//! | `here.rs` | the machine and the commit of a run |
//! | `load.rs` | an object of `zygix load` as a document |
//! | `folder.rs` | a folder of results |
//! | `page.rs`, `style.css` | the page |
//! | `stacks.rs` | the comparison of stacks |
//! | `plot.rs`, `scale.rs`, `palette.rs` | a figure; its axes; its colours and markers |
//! | `number.rs` | numbers for people |
//!
//! The page is one file: no script, nothing fetched. Its first lines say on what machine, under what noise and by what command the figures came
//! to be. Absent on purpose: measuring, judging noise, zooming and other interaction (each figure has its data below it).
#![forbid(unsafe_code)]

pub mod doc;
mod folder;
mod here;
mod load;
mod number;
mod page;
mod palette;
mod plot;
mod scale;
mod stacks;

pub use doc::{Axis, Column, Document, Figure, Machine, Noise, Point, SCHEMA, Series, Style, Table};
pub use folder::{AnyDoc, load_dir};
pub use here::commit;
pub use load::{LOAD_SCHEMA, LoadObject};
pub use page::html;
