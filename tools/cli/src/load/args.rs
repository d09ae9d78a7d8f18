// These comments are help texts: their brackets mean what can be left out.
#![allow(rustdoc::broken_intra_doc_links)]

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};
use load::draw::{Gaps, Keys, Pattern, ServiceTimes, Sizes, parse_rate};
use load::requests::Protocol;
use load::search::Slo;

use crate::values::{Cores, HostAddress, Network, NicUri, Size};

#[derive(Args, Debug)]
#[command(arg_required_else_help = true)]
pub(crate) struct Load {
    #[command(subcommand)]
    pub(crate) what: What,
}

#[derive(Subcommand, Debug)]
pub(crate) enum What {
    /// Load a key-value server: ours, or any memcached
    #[command(after_help = "\
Examples:
  zygix load kv 127.0.0.1                            as fast as 16 connections go, one request at a time on each
  zygix load kv 10.0.0.2:11211 --rate 50k --conns 100 --depth 4
                                                     50 000 requests a second by a Poisson process
  zygix load kv 10.0.0.2 --workload etc --find-max --slo p99=500us
                                                     the most that it can do with 99 % within 500 us
  zygix load kv 10.0.0.2 --sweep 10k,50k,100k --json curve.json
  zygix load kv --nic shm:/tmp/wire                  over our own stack, against `zygix serve kv --nic shm:/tmp/wire`

Exit codes: 0 fine; 1 errors, or no server; 2 usage; 3 saturated, or objective not met; 130 interrupted, with the results so far.")]
    Kv(Kv),
    /// Load an echo server
    #[command(after_help = "\
Examples:
  zygix load echo 127.0.0.1 --size 64 --conns 100    as fast as it goes
  zygix load echo 127.0.0.1 --churn 1 --hangup rst   a connection for each message
  zygix load echo --nic shm:/tmp/wire --conns 100    over our own stack, against `zygix serve echo --nic shm:/tmp/wire`

Exit codes: 0 fine; 1 errors, or no server; 2 usage; 3 saturated, or objective not met; 130 interrupted, with the results so far.")]
    Echo(Echo),
    /// Load a spin server with requests that say how long it is to work
    #[command(after_help = "\
Examples:
  zygix load spin 127.0.0.1 --time exp:100us --rate 5k --conns 100
  zygix load spin 127.0.0.1 --time bimodal1:50us --find-max --slo p99=500us

Exit codes: 0 fine; 1 errors, or no server; 2 usage; 3 saturated, or objective not met; 130 interrupted, with the results so far.")]
    Spin(Spin),
    /// One message to and fro, over a sweep of sizes: latency, bandwidth, half-bandwidth size
    #[command(after_help = "\
Examples:
  zygix load pingpong 127.0.0.1                      64 B to 1 MB, against `zygix serve echo`
  zygix load pingpong 127.0.0.1 --sizes 64,1k,64k --seconds 2")]
    Pingpong(Pingpong),
    /// Make load on behalf of a coordinator on another machine (--agents)
    #[command(after_help = "\
Example, on two machines and a third:
  zygix load agent --listen 10.0.0.11:7117
  zygix load agent --listen 10.0.0.12:7117
  zygix load kv 10.0.0.2 --rate 1m --conns 1000 --agents 10.0.0.11,10.0.0.12

Whoever can reach an agent can have it send load to any address: listen on trusted networks only.")]
    Agent(Agent),
}

/// The port of an agent.
pub(crate) const AGENT_PORT: u16 = 7117;

#[derive(Args, Debug)]
pub(crate) struct Kv {
    /// The server: ADDRESS[:PORT] [default port: 11211]
    #[arg(value_name = "TARGET")]
    pub(crate) target: Option<String>,

    /// What to ask: sizes of keys and values, share of GETs
    #[arg(long, value_enum, default_value_t = KvWorkload::Usr, value_name = "NAME", help_heading = "Workload")]
    pub(crate) workload: KvWorkload,

    /// Different records [default: 100000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Workload")]
    pub(crate) records: Option<u32>,

    /// Lengths of keys: 19, uniform:10-30, etc-key, gev:MU,SIGMA,XI:MIN-MAX, file:FILE [default: the workload's]
    #[arg(long, value_name = "SIZES", help_heading = "Workload")]
    pub(crate) key: Option<Sizes>,

    /// Lengths of values, likewise
    #[arg(long, value_name = "SIZES", help_heading = "Workload")]
    pub(crate) value: Option<Sizes>,

    /// Share of GETs, 0 to 1; the rest are SETs [default: the workload's]
    #[arg(long, value_name = "SHARE", value_parser = share, help_heading = "Workload")]
    pub(crate) gets: Option<f64>,

    /// Which records are asked for how often: uniform, zipf:S
    #[arg(long, value_name = "KEYS", help_heading = "Workload")]
    pub(crate) keys: Option<Keys>,

    /// memcached's protocol: ascii, binary
    #[arg(long, value_name = "PROTOCOL", default_value_t = Protocol::Ascii, help_heading = "Workload")]
    pub(crate) protocol: Protocol,

    /// The records are there already
    #[arg(long, help_heading = "Workload")]
    pub(crate) no_preload: bool,

    #[command(flatten)]
    pub(crate) how: How,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KvWorkload {
    /// Facebook's USR: keys of 19 B, values of 2 B, 99.8 % GET
    Usr,
    /// Facebook's ETC: keys of 20 to 70 B, values of 1 to 1024 B, 75 % GET
    Etc,
    /// ETC with 96.7 % GET
    EtcScripts,
}

#[derive(Args, Debug)]
pub(crate) struct Echo {
    /// The server: ADDRESS[:PORT] [default port: 7007]
    #[arg(value_name = "TARGET")]
    pub(crate) target: Option<String>,

    /// Lengths of messages: 64, uniform:64-1024, etc-value, file:FILE
    #[arg(long, value_name = "SIZES", default_value = "64", help_heading = "Workload")]
    pub(crate) size: Sizes,

    #[command(flatten)]
    pub(crate) how: How,
}

#[derive(Args, Debug)]
pub(crate) struct Spin {
    /// The server: ADDRESS[:PORT] [default port: 7008]
    #[arg(value_name = "TARGET")]
    pub(crate) target: Option<String>,

    /// How long the server works for a request: det:S, exp:S, bimodal1:S, bimodal2:S, file:FILE
    #[arg(long, value_name = "TIMES", default_value = "exp:100us", help_heading = "Workload")]
    pub(crate) time: ServiceTimes,

    /// Bytes of a request, at least 16
    #[arg(long, value_name = "BYTES", default_value_t = 16, help_heading = "Workload")]
    pub(crate) size: u32,

    #[command(flatten)]
    pub(crate) how: How,
}

#[derive(Args, Debug)]
pub(crate) struct Pingpong {
    /// The echo server: ADDRESS[:PORT] [default port: 7007]
    #[arg(value_name = "TARGET")]
    pub(crate) target: Option<String>,

    /// These sizes, such as 64,1k,64k
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with = "max")]
    pub(crate) sizes: Vec<Size>,

    /// Powers of two from 64 B up to this
    #[arg(long, value_name = "SIZE", default_value = "1m")]
    pub(crate) max: Size,

    /// Seconds per size
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = seconds)]
    pub(crate) seconds: f64,

    /// Where the random numbers begin
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,

    /// Write the result to FILE as one JSON object
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) via: Via,
}

#[derive(Args, Debug)]
pub(crate) struct Agent {
    /// Where to wait for coordinators: ADDRESS[:PORT]
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7117")]
    pub(crate) listen: String,

    /// Cores to pin the threads to: `1`, `0,2`, `1-3`
    #[arg(long, value_name = "LIST")]
    pub(crate) pin: Option<Cores>,

    /// Never sleep: requests leave on time to the microsecond, and whole cores are used up
    #[arg(long, overrides_with = "no_spin")]
    pub(crate) spin: bool,

    /// Sleep when there is nothing to do [default where there is one core only]
    #[arg(long, overrides_with = "spin")]
    pub(crate) no_spin: bool,
}

/// What all loads but `pingpong` have in common.
#[derive(Args, Clone, Debug)]
pub(crate) struct How {
    /// Open loop: requests a second. 50k, slope:PEAK[,S], step:STEP,PEAK[,S], sine:LOW,HIGH[,S[,NOISE]], file:FILE.
    /// Without it the loop is closed: each connection always has --depth requests under way
    #[arg(long, value_name = "PATTERN", help_heading = "Pace")]
    pub(crate) rate: Option<Pattern>,

    /// Open loop: gaps between requests. poisson, uniform, fixed, gpareto[:SHAPE], trace:FILE
    #[arg(long, value_name = "GAPS", default_value = "poisson", help_heading = "Pace")]
    pub(crate) arrivals: Gaps,

    /// Length of the measured window, of each one with --sweep and --find-max [default: 10, and 3 with those]
    #[arg(long, value_name = "S", value_parser = seconds, help_heading = "Pace")]
    pub(crate) seconds: Option<f64>,

    /// Load before the window [default: a tenth of it, 0.05 to 1]
    #[arg(long, value_name = "S", value_parser = seconds_or_none, help_heading = "Pace")]
    pub(crate) warmup: Option<f64>,

    /// How long replies are waited for after the window; what has none then is an error
    #[arg(long, value_name = "S", default_value_t = 2.0, value_parser = seconds_or_none, help_heading = "Pace")]
    pub(crate) patience: f64,

    /// Where the random numbers begin: equal seeds ask the same
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Pace")]
    pub(crate) seed: u64,

    /// Connections
    #[arg(short = 'c', long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000_000),
          help_heading = "Connections")]
    pub(crate) conns: u32,

    /// Local addresses to connect from, in turn: each has ports of its own, for more connections than one has
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with = "nic", help_heading = "Connections")]
    pub(crate) local: Vec<IpAddr>,

    /// Requests under way per connection, at most
    #[arg(short = 'd', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536),
          help_heading = "Connections")]
    pub(crate) depth: u32,

    /// End each connection after N requests and open another
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Connections")]
    pub(crate) churn: Option<u32>,

    /// How --churn ends them: reset, or orderly close (which leaves ports in TIME-WAIT)
    #[arg(long, value_enum, value_name = "HOW", default_value_t = HangupHow::Rst, requires = "churn", help_heading = "Connections")]
    pub(crate) hangup: HangupHow,

    /// Beside the load, an unloaded agent: one request at a time over N connections of its own
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000),
          help_heading = "Connections")]
    pub(crate) probe: u32,

    /// Client threads
    #[arg(short = 't', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=128),
          help_heading = "Client")]
    pub(crate) threads: u32,

    #[command(flatten)]
    pub(crate) via: Via,

    /// Agents on other machines that make the load: ADDRESS[:PORT],... (see `zygix load agent`)
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with_all = ["nic", "netns", "pin"], help_heading = "Client")]
    pub(crate) agents: Vec<String>,

    /// The objective: a percentile and its limit, as p99=500us. Missed: exit code 3
    #[arg(long, value_name = "PXX=TIME", help_heading = "Search")]
    pub(crate) slo: Option<Slo>,

    /// Search for the highest rate that holds the objective
    #[arg(long, requires = "slo", conflicts_with_all = ["rate", "sweep"], help_heading = "Search")]
    pub(crate) find_max: bool,

    /// How close to the first rate that fails, relative to it
    #[arg(long, value_name = "SHARE", default_value_t = 0.02, value_parser = precision, help_heading = "Search")]
    pub(crate) precision: f64,

    /// The highest rate of --find-max and --sweep N
    #[arg(long, value_name = "RATE", value_parser = parse_rate, help_heading = "Search")]
    pub(crate) max_rate: Option<f64>,

    /// A window at each of these rates (10k,20k,50k), or at N rates up to --max-rate [default: what a closed loop reaches]
    #[arg(long, value_name = "RATES|N", conflicts_with = "rate", help_heading = "Search")]
    pub(crate) sweep: Option<Sweep>,

    /// Write the result to FILE as one JSON object (docs/load.md)
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// How the load reaches the server, and where it runs.
#[derive(Args, Clone, Debug)]
pub(crate) struct Via {
    /// Over our own stack on this NIC, instead of Linux sockets: `shm:PATH` meets a Zygix, `tap:NAME` a server on Linux,
    /// `xdp:NAME` either, over an interface of this machine's
    #[arg(long, visible_alias = "via", value_name = "NIC", help_heading = "Transport")]
    pub(crate) nic: Option<NicUri>,

    /// --nic: our address and prefix [default: the first of the target's /24 or /64 that is not the target]
    #[arg(long, value_name = "ADDRESS/PREFIX", requires = "nic", help_heading = "Transport")]
    pub(crate) addr: Option<Network>,

    /// --nic tap: Linux's address at its end, or `none` to leave that to you [default: the target]
    #[arg(long, value_name = "ADDRESS/PREFIX", requires = "nic", help_heading = "Transport")]
    pub(crate) host_addr: Option<HostAddress>,

    /// Run in this network namespace (see `ip netns`)
    #[arg(long, value_name = "NAME", help_heading = "Transport")]
    pub(crate) netns: Option<String>,

    /// Cores to pin the client's threads to: `1`, `0,2`, `1-3`
    #[arg(long, value_name = "LIST", help_heading = "Client")]
    pub(crate) pin: Option<Cores>,

    /// Never sleep: requests leave on time to the microsecond, and whole cores are used up [default where cores are left]
    #[arg(long, overrides_with = "no_spin", help_heading = "Client")]
    pub(crate) spin: bool,

    /// Sleep when there is nothing to do: the kernel's timers decide how late requests leave
    #[arg(long, overrides_with = "spin", help_heading = "Client")]
    pub(crate) no_spin: bool,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HangupHow {
    /// A reset
    Rst,
    /// An orderly close
    Fin,
}

/// `--sweep`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Sweep {
    /// At these rates.
    Rates(Vec<f64>),
    /// At so many, evenly up to the maximum.
    Points(u32),
}

impl FromStr for Sweep {
    type Err = String;

    fn from_str(text: &str) -> Result<Sweep, String> {
        // A lone small number can hardly be meant as a rate.
        if let Ok(points @ 1..=200) = text.parse() {
            return Ok(Sweep::Points(points));
        }
        let rates: Vec<f64> = text.split(',').map(parse_rate).collect::<Result<_, _>>()?;
        if rates.len() > 200 {
            return Err("200 rates at most".into());
        }
        Ok(Sweep::Rates(rates))
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match seconds_or_none(text)? {
        s if s >= 0.01 => Ok(s),
        _ => Err("at least 0.01 seconds".into()),
    }
}

fn seconds_or_none(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(s) if (0.0..=604_800.0).contains(&s) => Ok(s),
        Ok(_) => Err("seconds from 0 to a week".into()),
        Err(_) => Err("write a number of seconds: 10, 0.5".into()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|s| (0.0..=1.0).contains(s)).ok_or_else(|| "write a share from 0 to 1".into())
}

fn precision(text: &str) -> Result<f64, String> {
    let of = text.parse().ok().filter(|p| (0.001..=0.5).contains(p));
    of.ok_or_else(|| "write a share from 0.001 to 0.5".into())
}
