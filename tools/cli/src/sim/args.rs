use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use load::draw::{Gaps, ServiceTimes};
use units::Nanos;

use super::skew::SkewArgs;
use super::world_args::{Campaign, Figures, World};

/// `zygix sim`.
#[derive(Args, Debug)]
#[command(arg_required_else_help = true)]
pub(crate) struct Sim {
    #[command(subcommand)]
    pub(crate) model: Model,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Model {
    /// Queues without any cost but work: the highest load with p99 <= SLO, or percentiles at given loads
    #[command(after_help = "\
Policies: central (one queue, first come first served), partitioned (a queue for each server, requests dealt at random),
ps and ps-partitioned (processor sharing by all servers, or by each), steal (partitioned; idle servers take the oldest
of another queue), quantum:Q[:COST] (one queue, round robin). Times are in mean service times S.

Lists (of --n, --dist, --policy) give a table of all combinations, and JSON with a list `cells`. Equal seeds give
equal results on any number of threads.

Examples:
  zygix sim queueing                                    16 servers, one queue, exponential work: 96.77 %
  zygix sim queueing --n 16 --dist det,exp,b1,b2 --policy central,partitioned,ps,ps-partitioned
  zygix sim queueing --policy steal --load 0.5,0.9,0.95 --json steal.json
  zygix sim queueing --n 2 --dist file:times.txt --slo 20 --precision 0.5
  zygix sim queueing --n 16 --dist det,exp,b1,b2 --policy central,partitioned,ps,ps-partitioned --out results
                                                        ... with curves of p99, drawn in results/index.html")]
    Queueing(Box<Queueing>),
    /// The real dataplane on any number of cores in virtual time: the highest load with p99 <= SLO, or percentiles at given loads
    #[command(after_help = "\
The turn, the shuffle layer, the TCP engine and the application are those that serve; only time is modelled. Each operation
takes what --costs says. Results come with their share of the bounds of queueing theory, and with the most steals.

Examples:
  zygix sim world                                       16 cores, 10 us, exponential, lending, the thesis's costs
  zygix sim world --s 25 --sched zygos --assist ipi --json world.json
  zygix sim world --n 2 --s 50 --dist det --costs costs.json --stall 25us --stall-every 1ms
  zygix sim world --n 4 --load 0.5 --repeats 1 --requests 1k --trace trace.txt
                                                        ... with a line for each transition")]
    World(Box<World>),
    /// The figures of the thesis's chapter 3 (3.3, 3.6 to 3.9, 3.13) from the real dataplane in virtual time, the thesis's numbers beside them
    #[command(after_help = "\
Latency against load for three laws of 10 and 25 us, highest loads for 5 to 100 us, steals, batching: ix; zygos with none, ipi
and lend. About ten minutes on two cores.

Example:
  zygix sim figures --out results                       results/world.json and results/index.html")]
    Figures(Figures),
    /// A tenth of the connections carry most of the load: what is left of it when the control plane's rule has moved flow groups
    #[command(after_help = "\
The real dataplane in virtual time, its real flow groups and moves, and the control plane's rule, which looks ten times a second: even, skewed and
left alone, skewed and evened out. p99 is back when half a second, and all that follows, has at most 1.3 times that of the even case.

Examples:
  zygix sim skew --json skew.json                       8 cores, 50 us, both ways to schedule
  zygix sim skew --together --seconds 6                 the busy connections begin on as few cores as hold them")]
    Skew(SkewArgs),
    /// Thousands of small worlds, each drawn from its seed, in which nothing may be lost, doubled, out of order, leaked or forgotten
    #[command(after_help = "\
Examples:
  zygix sim campaign --seeds 10000
  zygix sim campaign --first 4711 --seeds 1 --trace trace.txt     a seed once more, with a line for each transition")]
    Campaign(Campaign),
}

#[derive(Args, Debug)]
pub(crate) struct Queueing {
    /// Servers: a number from 1 to 1024, or several
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "16",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) n: Vec<u16>,

    /// Service times: det, exp, b1, b2, any text of `zygix load spin --time`, such as file:FILE (scaled to a mean of 1);
    /// or several
    #[arg(long, value_name = "LIST", default_value = "exp")]
    pub(crate) dist: Dists,

    /// How servers take requests, or several: central, partitioned, ps, ps-partitioned, steal, quantum:Q[:COST]
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "central")]
    pub(crate) policy: Vec<queueing::Policy>,

    /// The objective: 99 % of the requests stay at most so many mean service times
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = slo)]
    pub(crate) slo: f64,

    /// Percentiles at these loads (0 to 1) instead of the highest load
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = a_load)]
    pub(crate) load: Vec<f64>,

    /// Gaps between arrivals: poisson, uniform, fixed, gpareto[:SHAPE], trace:FILE
    #[arg(long, value_name = "GAPS", default_value = "poisson")]
    pub(crate) gaps: Gaps,

    /// Where the random numbers come from
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,

    /// Requests of each independent run (k, m, g: thousands, millions ...) [default: by n, S and load, 500k or more]
    #[arg(long, value_name = "N", value_parser = requests)]
    pub(crate) requests: Option<u64>,

    /// How wide the 95 % confidence interval of a highest load may be to either side, in points (hundredths of the full load)
    #[arg(long, value_name = "POINTS", default_value_t = 0.1, value_parser = precision)]
    pub(crate) precision: f64,

    /// Add no runs beyond so many requests for one highest load, all tried loads together, even if the interval is wider
    #[arg(long, value_name = "N", default_value = "2g", value_parser = requests)]
    pub(crate) max_requests: u64,

    /// End each combination after so long, with what there is by then
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) max_seconds: Option<f64>,

    /// Threads [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,

    /// Write the result to FILE as one JSON object
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// File highest loads and curves in DIR, and draw all results that are there into DIR/index.html
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// A distribution of service times, as it is called.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Dist {
    pub(crate) name: String,
    pub(crate) times: ServiceTimes,
}

impl FromStr for Dist {
    type Err = String;
    fn from_str(text: &str) -> Result<Dist, String> {
        let mean = Nanos::from_micros(1);
        let times = match text {
            "det" => ServiceTimes::det(mean),
            "exp" => ServiceTimes::exp(mean),
            "b1" | "bimodal1" => ServiceTimes::bimodal1(mean),
            "b2" | "bimodal2" => ServiceTimes::bimodal2(mean),
            _ => {
                text.parse().map_err(|said| format!("choose from det, exp, b1, b2, or a text with its mean: {said}"))?
            }
        };
        let name = match times.name() {
            "bimodal1" => "b1".into(),
            "bimodal2" => "b2".into(),
            // A path, as it was written; a list of values would fill the screen.
            "file" => text.strip_prefix("values:").map_or(text, |_| "values").into(),
            name => name.into(),
        };
        Ok(Dist { name, times })
    }
}

/// One or several, separated by commas; what begins with `values:` is the last.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Dists(pub(crate) Vec<Dist>);

impl FromStr for Dists {
    type Err = String;
    fn from_str(text: &str) -> Result<Dists, String> {
        let mut dists = Vec::new();
        let mut rest = Some(text);
        while let Some(text) = rest {
            let split = if text.starts_with("values:") { None } else { text.split_once(',') };
            let (first, behind) = split.map_or((text, None), |(first, behind)| (first, Some(behind)));
            dists.push(first.parse()?);
            rest = behind;
        }
        Ok(Dists(dists))
    }
}

pub(super) fn slo(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(slo) if (1.0..=1e6).contains(&slo) => Ok(slo),
        _ => Err("write mean service times, from 1 to 1000000: no request stays shorter than its work".into()),
    }
}

pub(super) fn a_load(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(load) if (1e-4..=0.9999).contains(&load) => Ok(load),
        _ => Err("write loads from 0.0001 to 0.9999: at 1 queues grow for ever".into()),
    }
}

fn precision(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(points) if (1e-4..=10.0).contains(&points) => Ok(points),
        _ => Err("write points from 0.0001 to 10, such as 0.1".into()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(s) if (0.1..=1e6).contains(&s) => Ok(s),
        _ => Err("write seconds, from 0.1".into()),
    }
}

pub(super) fn requests(text: &str) -> Result<u64, String> {
    let wanted = || "write a number from 1k to 1000g, such as 500k".to_owned();
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'k') => (&text[..text.len() - 1], 1e3),
        Some(b'm') => (&text[..text.len() - 1], 1e6),
        Some(b'g') => (&text[..text.len() - 1], 1e9),
        _ => (text, 1.0),
    };
    let number = digits.parse::<f64>().map_err(|_| wanted())? * factor;
    if (1e3..=1e12).contains(&number) { Ok(number as u64) } else { Err(wanted()) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn queueing(line: &str) -> Result<Queueing, String> {
        match Cli::try_parse_from(format!("zygix sim queueing {line}").split_whitespace()) {
            Ok(Cli { command: Command::Sim(Sim { model: Model::Queueing(args) }) }) => Ok(*args),
            Ok(_) => unreachable!("`sim queueing` was written"),
            Err(e) => Err(e.to_string()),
        }
    }

    #[test]
    fn lists_are_understood() {
        let args = queueing("--n 2,16 --dist det,exp:10us,values:1,2 --policy central,quantum:0.1:0.01 --load 0.5,0.9")
            .unwrap();
        let names: Vec<&str> = args.dist.0.iter().map(|d| &*d.name).collect();
        assert_eq!((&args.n[..], &names[..]), (&[2, 16][..], &["det", "exp", "values"][..]));
        assert_eq!((args.policy.len(), &args.load[..]), (2, &[0.5, 0.9][..]));
        let plain = queueing("--requests 50k").unwrap();
        assert_eq!((plain.n, plain.slo, plain.precision, plain.requests), (vec![16], 10.0, 0.1, Some(50_000)));
    }

    #[test]
    fn nonsense_is_named() {
        for (line, complaint) in [
            ("--n 0", "0 is not in 1..=1024"),
            ("--n 1025", "1025"),
            ("--load 1.2", "queues grow for ever"),
            ("--load 0", "from 0.0001"),
            ("--dist gauss", "choose from det, exp, b1, b2"),
            ("--dist exp,file:/no/such/file", "cannot open"),
            ("--policy fifo", "ps-partitioned"),
            ("--policy quantum:0", "quantum:0.1"),
            ("--slo 0.5", "from 1 to"),
            ("--precision 0", "such as 0.1"),
            ("--requests 10", "such as 500k"),
            ("--threads 0", "1..=1024"),
            ("--gaps never", "poisson"),
        ] {
            let said = queueing(line).unwrap_err();
            assert!(said.contains(complaint), "{line}: {said}");
        }
    }
}
