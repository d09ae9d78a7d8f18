use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use dataplane::{Assist, Sched};
use load::draw::ServiceTimes;
use load::draw::parse_span;
use nic::Faults;
use units::Nanos;
use world::{Costs, Moves, Setup, Stalls, WorldError};

use super::args::{Dist, a_load, slo};
use crate::args::{Helping, Scheduler};

#[derive(Args, Debug)]
pub(crate) struct World {
    /// Cores
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) n: u16,

    /// The mean service time S, in microseconds
    #[arg(long, value_name = "US", default_value_t = 10.0, value_parser = microseconds)]
    pub(crate) s: f64,

    /// Service times: det, exp, b1, b2, or any text of `zygix load spin --time` (scaled to S)
    #[arg(long, value_name = "DIST", default_value = "exp")]
    pub(crate) dist: Dist,

    /// How cores share the work
    #[arg(long, value_enum, default_value_t = Scheduler::Zygos)]
    pub(crate) sched: Scheduler,

    /// What idle cores do for a core in application code (with --sched zygos)
    #[arg(long, value_enum, default_value_t = Helping::Lend)]
    pub(crate) assist: Helping,

    /// The bound B on batches
    #[arg(long, value_name = "B", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) batch: u16,

    /// What operations take: a file of `zygix bench calibrate`, or `thesis`
    #[arg(long, value_name = "FILE", default_value = "thesis")]
    pub(crate) costs: CostsFrom,

    /// The objective: 99 % of the replies leave within so many S
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = slo)]
    pub(crate) slo: f64,

    /// Percentiles at these loads instead of the highest load
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = a_load)]
    pub(crate) load: Vec<f64>,

    /// A closed loop instead: a client on each connection asks, waits, thinks for so long (such as exp:100us), and asks again
    #[arg(long, value_name = "TIMES", conflicts_with = "load")]
    pub(crate) think: Option<ServiceTimes>,

    /// TCP connections, all cores together (with --think: a world for each number)
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "2752", value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub(crate) conns: Vec<u32>,

    /// Requests at each load that is tried
    #[arg(long, value_name = "N", default_value = "200k", value_parser = super::args::requests)]
    pub(crate) requests: u64,

    /// Independent worlds, with seeds from --seed on; the result is their mean
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) repeats: u16,

    /// Where the random numbers come from: equal seeds give equal results
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,

    /// Take each core away for so long now and then (such as 25us)
    #[arg(long, value_name = "SPAN", value_parser = span, requires = "stall_every")]
    pub(crate) stall: Option<Nanos>,

    /// ... on average so often (such as 1ms)
    #[arg(long, value_name = "SPAN", value_parser = span, requires = "stall")]
    pub(crate) stall_every: Option<Nanos>,

    /// A core that does not come back from the first application code that it runs
    #[arg(long, value_name = "CORE")]
    pub(crate) lost: Option<u16>,

    /// The share of frames that the wire loses, in per cent
    #[arg(long, value_name = "%", default_value_t = 0.0, value_parser = percent)]
    pub(crate) loss: f64,

    /// ... that it doubles
    #[arg(long, value_name = "%", default_value_t = 0.0, value_parser = percent)]
    pub(crate) duplicate: f64,

    /// ... that come late, by up to --delay: others overtake them
    #[arg(long, value_name = "%", default_value_t = 0.0, value_parser = percent)]
    pub(crate) late: f64,

    /// How late at most
    #[arg(long, value_name = "SPAN", default_value = "100us", value_parser = span)]
    pub(crate) delay: Nanos,

    /// Move random flow groups between cores so often a second of virtual time, while the load runs
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub(crate) migrate: Option<f64>,

    /// ... and let this share of it, in per cent, park a core or unpark one instead
    #[arg(long, value_name = "%", default_value_t = 0.0, value_parser = share, requires = "migrate")]
    pub(crate) park: f64,

    /// Write a line for each transition of the first world to FILE (needs --load)
    #[arg(long, value_name = "FILE", requires = "load")]
    pub(crate) trace: Option<PathBuf>,

    /// ... but no more than so many
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub(crate) trace_lines: u64,

    /// Write the result to FILE as one JSON object
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

impl World {
    fn sched(&self) -> Sched {
        match (self.sched, self.assist) {
            // The assistance of a way that has none: commands name both.
            (Scheduler::Ix, _) => Sched::Ix,
            (Scheduler::Zygos, Helping::None) => Sched::Zygos(Assist::None),
            (Scheduler::Zygos, Helping::Ipi) => Sched::Zygos(Assist::Ipi),
            (Scheduler::Zygos, Helping::Lend) => Sched::Zygos(Assist::Lend),
        }
    }

    /// The world that is asked for, of the `nth` seed.
    pub(super) fn setup(&self, costs: Costs, nth: u64) -> Setup {
        let times = self.dist.times.with_mean(Nanos((self.s * 1e3) as u64));
        let stalls = self.stall.zip(self.stall_every).map(|(last, every)| Stalls { every, last });
        let faults = Faults {
            loss: self.loss / 100.0,
            duplicate: self.duplicate / 100.0,
            late: self.late / 100.0,
            delay: self.delay,
            ..Faults::default()
        };
        let faults = if self.loss + self.duplicate + self.late > 0.0 { faults } else { Faults::default() };
        Setup {
            costs,
            connections: self.conns[0],
            batch: usize::from(self.batch),
            stalls,
            moves: self.migrate.map(|rate| Moves { rate, park: self.park / 100.0 }),
            lost: self.lost.map(usize::from),
            faults,
            seed: self.seed + nth,
            ..Setup::new(usize::from(self.n), self.sched(), times)
        }
    }
}

/// Where costs come from.
#[derive(Clone, Debug)]
pub(crate) struct CostsFrom(String);

impl FromStr for CostsFrom {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<CostsFrom, Infallible> {
        Ok(CostsFrom(text.into()))
    }
}

impl CostsFrom {
    /// # Errors
    /// The file cannot be read, or makes no sense.
    pub(super) fn costs(&self) -> Result<Costs, WorldError> {
        if self.0 == "thesis" { Ok(Costs::thesis()) } else { Costs::read(Path::new(&self.0)) }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Figures {
    /// File the results in DIR, and draw all that are there into DIR/index.html
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// Cores
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(2..=64))]
    pub(crate) n: u16,

    /// What operations take: a file of `zygix bench calibrate`, or `thesis`
    #[arg(long, value_name = "FILE", default_value = "thesis")]
    pub(crate) costs: CostsFrom,

    /// Requests at each load that is tried
    #[arg(long, value_name = "N", default_value = "50k", value_parser = super::args::requests)]
    pub(crate) requests: u64,

    /// Where the random numbers come from
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
}

#[derive(Args, Debug)]
pub(crate) struct Campaign {
    /// How many seeds
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) seeds: u64,

    /// The first of them
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) first: u64,

    /// Write a line for each transition to FILE (needs --seeds 1)
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
}

fn microseconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(us) if (0.1..=1e6).contains(&us) => Ok(us),
        _ => Err("write microseconds, from 0.1 to 1000000".into()),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=50.0).contains(&share) => Ok(share),
        _ => Err("write per cent, from 0 to 50".into()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=100.0).contains(&share) => Ok(share),
        _ => Err("write per cent, from 0 to 100".into()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.1..=100_000.0).contains(&rate) => Ok(rate),
        _ => Err("write how many a second, from 0.1 to 100000".into()),
    }
}

fn span(text: &str) -> Result<Nanos, String> {
    parse_span(text)
}
