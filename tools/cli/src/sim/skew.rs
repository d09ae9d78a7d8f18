//! `sim skew`: a tenth of the connections carry most of the load; what is left of it when the control plane's rule has moved flow groups?

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use dataplane::{Assist, Sched};
use load::draw::ServiceTimes;
use serde_json::{Value, json};
use units::Nanos;
use world::{Costs, Placed, Setup, Skew, Skewed};

/// p99 is to come back to so many times that of the even case.
const LIMIT: f64 = 1.3;

#[derive(Args, Debug)]
pub(crate) struct SkewArgs {
    /// Cores
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(2..=64))]
    pub(crate) n: u16,

    /// The mean service time in microseconds; exponential
    #[arg(long, value_name = "US", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) s: u64,

    /// TCP connections, all cores together: a tenth of them are the busy ones
    #[arg(long, value_name = "N", default_value_t = 320, value_parser = clap::value_parser!(u32).range(20..=50_000))]
    pub(crate) conns: u32,

    /// The share of the load that the busy ones carry, in per cent
    #[arg(long, value_name = "%", default_value_t = 60, value_parser = clap::value_parser!(u8).range(10..=99))]
    pub(crate) carried: u8,

    /// The load, in per cent of what the cores can do
    #[arg(long, value_name = "%", default_value_t = 60, value_parser = clap::value_parser!(u8).range(1..=95))]
    pub(crate) load: u8,

    /// The busy flow groups are together on as few cores as hold them, instead of by chance
    #[arg(long)]
    pub(crate) together: bool,

    /// Seconds of skewed load, after one of even load
    #[arg(long, value_name = "S", default_value_t = 4, value_parser = clap::value_parser!(u64).range(3..=60))]
    pub(crate) seconds: u64,

    /// Worlds, with seeds from --seed on
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) repeats: u16,

    /// Where the random numbers come from
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,

    /// Write the result to FILE as one JSON object
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// The same load three times: even, skewed and left alone, skewed and evened out.
struct Three {
    sched: Sched,
    seed: u64,
    even: Skewed,
    alone: Skewed,
    moved: Skewed,
}

impl Three {
    fn new(args: &SkewArgs, sched: Sched, seed: u64) -> Result<Three> {
        let others = args.conns / 10;
        let times = ServiceTimes::exp(Nanos::from_micros(args.s));
        let connections = args.conns - others;
        let setup = Setup { connections, others, seed, ..Setup::new(usize::from(args.n), sched, times) };
        let placed = if args.together { Placed::Together } else { Placed::ByChance };
        let one = |placed, moves| {
            let (carried, load) = (f64::from(args.carried) / 100.0, f64::from(args.load) / 100.0);
            world::skew(&setup, &Skew { carried, load, span: Nanos::from_secs(args.seconds), placed, moves })
        };
        let (even, alone, moved) = (one(Placed::Evenly, false)?, one(placed, false)?, one(placed, true)?);
        Ok(Three { sched, seed, even, alone, moved })
    }

    /// When p99 was back, in seconds after the load became skewed.
    fn settled(&self) -> Option<f64> {
        self.moved.settled(Nanos((self.even.p99.0 as f64 * LIMIT) as u64)).map(Nanos::as_secs_f64)
    }

    /// p99 of the last half second over that of the even case.
    fn end(&self, of: &Skewed) -> f64 {
        of.windows.last().map_or(f64::NAN, |w| w.p99.0 as f64) / self.even.p99.0 as f64
    }

    fn object(&self) -> Value {
        let us = |t: Nanos| t.0 as f64 / 1e3;
        let windows: Vec<Value> = self.moved.windows.iter().map(|w| json!([w.at.as_secs_f64(), us(w.p99)])).collect();
        json!({
            "sched": self.sched.to_string(),
            "seed": self.seed,
            "even_p99_us": us(self.even.p99),
            "alone": {"p99_us": us(self.alone.p99), "end_to_even": self.end(&self.alone), "fullest_to_mean": self.alone.fullest},
            "moved": {"settled_s": self.settled(), "end_to_even": self.end(&self.moved), "groups_moved": self.moved.groups_moved, "moves": self.moved.moves,
                      "half_seconds_p99_us": windows},
            "errors": self.even.errors + self.alone.errors + self.moved.errors,
            "requests": self.moved.requests,
        })
    }
}

/// `zygix sim skew`.
pub(super) fn run(args: &SkewArgs) -> Result<()> {
    sys::stop::install();
    let mut out = std::io::stdout().lock();
    let _ = writeln!(
        out,
        "{} cores, {} connections, of which {} carry {} % of the load; load {} %, exp {} us",
        args.n,
        args.conns,
        args.conns / 10,
        args.carried,
        args.load,
        args.s
    );
    let _ = writeln!(
        out,
        "{:<14} {:>4} {:>12} {:>14} {:>14} {:>14} {:>12} {:>8}",
        "sched", "seed", "even p99 us", "fullest core", "alone, at end", "moved, at end", "settled s", "groups"
    );
    let mut all = Vec::new();
    for sched in [Sched::Ix, Sched::Zygos(Assist::Lend)] {
        for seed in args.seed..args.seed + u64::from(args.repeats) {
            let three = Three::new(args, sched, seed)?;
            let _ = writeln!(
                out,
                "{:<14} {:>4} {:>12.0} {:>13.2}x {:>13.2}x {:>13.2}x {:>12} {:>8}",
                sched.to_string(),
                seed,
                three.even.p99.0 as f64 / 1e3,
                three.alone.fullest,
                three.end(&three.alone),
                three.end(&three.moved),
                three.settled().map_or("not".into(), |s| format!("{s:.1}")),
                three.moved.groups_moved
            );
            all.push(three.object());
        }
    }
    if let Some(path) = &args.json {
        let object = json!({
            "cores": args.n, "s_us": args.s, "connections": args.conns, "carried": args.carried, "load": args.load, "together": args.together,
            "limit": LIMIT, "costs": Costs::thesis(), "runs": all, "commit": report::commit(), "command": crate::bench::command_line(),
        });
        let text = serde_json::to_string_pretty(&object)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
