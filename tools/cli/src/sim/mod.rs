//! `zygix sim`: models, one file or folder each.
//!
//! | file | what |
//! |---|---|
//! | `args.rs` | the command line |
//! | `queueing.rs` | `sim queueing`: cells are simulated one after the other |
//! | `world_args.rs`, `world.rs` | `sim world` and `sim campaign` |
//! | `figures.rs` | `sim figures` |
//! | `skew.rs` | `sim skew` |
//! | `show.rs` | ... as JSON, as tables, as a document for the report |

pub(crate) mod args;
mod figures;
mod queueing;
mod show;
pub(crate) mod skew;
mod world;
pub(crate) mod world_args;

use anyhow::Result;

use args::{Model, Sim};

/// `zygix sim`.
pub(crate) fn run(sim: &Sim) -> Result<()> {
    match &sim.model {
        Model::Queueing(args) => queueing::run(args),
        Model::World(args) => world::run(args),
        Model::Skew(args) => skew::run(args),
        Model::Figures(args) => figures::run(args),
        Model::Campaign(args) => world::check(args),
    }
}
