use std::path::PathBuf;

use abi::GroupList;
use clap::{Args, Subcommand};

#[derive(Args, Debug)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  zygix ctl list                         which dataplanes there are
  zygix ctl cores                        the cores of the only one
  zygix ctl --name kv groups             the flow groups of the one called kv: whose they are, and what comes for them
  zygix ctl move 0-15,40 to 1            moves flow groups 0 to 15 and 40 to core 1
  zygix ctl park 3                       core 3 gives its flow groups to the others, and sleeps
  zygix ctl unpark 3                     ... and has its share again
  zygix ctl dump --json -                everything that is known of it

A dataplane is found by its socket, in /run/zygix (root's) or $XDG_RUNTIME_DIR/zygix; $ZYGIX_DIR names another directory.
Exit codes: 0 done; 1 refused, or there is no such dataplane; 2 usage."
)]
pub(crate) struct Ctl {
    /// Which dataplane; may be left out if there is one only
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Write the answer to FILE as JSON; `-`: to standard output, instead of a table
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) what: What,
}

#[derive(Subcommand, Debug)]
pub(crate) enum What {
    /// Which dataplanes there are
    List,
    /// What its cores do
    Cores,
    /// Whose its flow groups are, and what comes for them
    Groups,
    /// Move flow groups to a core
    #[command(override_usage = "zygix ctl move [OPTIONS] GROUPS to CORE")]
    Move {
        /// Which: `0-15,40`
        #[arg(value_name = "GROUPS")]
        groups: GroupList,
        /// Where to: `to 1`
        #[arg(value_name = "to CORE", num_args = 1..=2, required = true)]
        to: Vec<String>,
    },
    /// Let a core give its flow groups to the others, and sleep
    Park {
        /// Which, from 0 on
        core: u16,
    },
    /// Wake a core, and give it its share of the flow groups
    Unpark {
        /// Which, from 0 on
        core: u16,
    },
    /// Confine a core's thread to a hardware thread of the machine
    Pin {
        /// Which, from 0 on
        core: u16,
        /// The hardware thread; `any`: it floats
        cpu: String,
    },
    /// The latest moves, with what each step took
    Log,
    /// Everything that is known of it, as text
    Dump,
}
