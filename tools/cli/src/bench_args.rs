use std::path::PathBuf;

use clap::{Args, Subcommand};
use lab::kinds::{Extent, bulk, sched, truth};
use units::Nanos;

use crate::connections::Connections;
use crate::energy::Energy;
use crate::link::Link;
use crate::migrate::Migrate;
use crate::values::Size;

/// `zygix bench`.
#[derive(Args, Debug)]
#[command(arg_required_else_help = true)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(crate) kind: Kind,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Kind {
    /// The same applications on all stacks: requests/s at p99 <= 500 us, unloaded latency, server time per request.
    #[command(after_help = "\
Echo (64 B; 1 connection, 100, 100 with four requests outstanding each) and a key-value store (Facebook's USR and
ETC) on Zygix over a TAP, and on Linux sockets over a veth pair: linux-partitioned (an epoll loop per thread),
linux-floating (one pool of connections), and Debian's memcached if it is installed. One server core, one core for
the client, which is ordinary Linux sockets in every row. The stacks take turns, window by window.

Needs root, or a user namespace. With 2 seconds a point it takes at most a quarter of an hour.

Examples:
  sudo zygix bench stacks --out results               results/stacks.json and results/index.html
  sudo zygix bench stacks --seconds 2 --json stacks.json
  sudo zygix bench stacks --rows usr,echo-1x1+zygix   rows that have one of these words, or several joined by +")]
    Stacks(Stacks),
    /// One message at a time, 64 B to 1 MB: latency and bandwidth of linux-partitioned and of Zygix over TAP and shm
    Pingpong(Plain),
    /// 1 to 1024 messages per connection, closed by RST: connections/s and messages/s
    Churn(Plain),
    /// Messages of 64 B to 8 KB: messages/s and Gbit/s
    Sizes(Plain),
    /// Batch bounds from 1 to 64: p99 against throughput of Zygix
    Batch(Plain),
    /// Work of known length on both Linux stacks: the highest load with p99 <= 10 S, against what theory allows
    Spin(Plain),
    /// memcached, linux-partitioned and Zygix over AF_XDP, on one veth with one client on AF_XDP: requests/s at p99 <= 500 us, server time, latency
    Xdp(Plain),
    /// Goodput of one connection by wire, and over links with loss, reordering, damage, delay, beside Linux on the same link
    #[command(after_help = "\
Zygix over shm and TAP, Linux over veth; then both behind one link with faults, each segment of either meeting the same dice;
then a flow of each on one slow link, and how short DCTCP keeps the queue of a link that marks. A transfer ends after --bytes
or --seconds, whichever is first; every byte is checked. With 2 seconds a point and 3 repeats it takes at most about seven minutes.

Needs root, or a user namespace; and bridge devices (CONFIG_BRIDGE).

Examples:
  sudo zygix bench bulk --seconds 2 --out results
  sudo zygix bench bulk --parts wires --bytes 4g --json bulk.json
  sudo zygix bench bulk --fairness                    two flows on one slow link only")]
    Bulk(Bulk),
    /// The ways to schedule (ix; zygos with none, ipi, lend), on all cores: the highest load with p99 <= 10 S, against the model
    #[command(after_help = "\
Every core of the machine is a server; requests are made by a NIC that needs no client. Exponential, deterministic and
bimodal work of 50 and 100 us; steals by load; a store's tiny tasks; what the network costs per request.
With 2 seconds a point and 3 repeats it takes at most about twenty minutes.

Example:
  sudo zygix bench sched --seconds 2 --out results
  sudo zygix bench sched --parts network,tiny")]
    Sched(Sched),
    /// A core that stands still in application code now and then: p99 of each way to schedule
    Stall(Plain),
    /// The load generator against known truth: an M/M/1 queue and its closed form, and a server that freezes
    #[command(after_help = "\
With the default of 400 000 requests at loads of 0.3 and 0.7 it takes about three and a half minutes.

Example:
  sudo zygix bench truth --requests 100k --out results")]
    Truth(Truth),
    /// A thousand to a million established connections, asked at random: requests/s and memory by their number
    #[command(after_help = "\
Over the emulated wire within one process, an echo server on one core and its client on another. Needs no privilege; a million
connections take about half a gigabyte, and 20 seconds to open.

Example:
  zygix bench connections --json connections.json
  zygix bench connections --counts 1k,100k --out results")]
    Connections(Connections),
    /// Flow groups moved under load, then cores removed and added: what each step takes, and that nothing is lost or reordered
    #[command(after_help = "\
Every core of the machine is a server; requests are made by a NIC that needs no client, pipelined over many connections and checked one by one.
200 random migrations a second at 70 % of what the server comes to in a closed loop; then cores are parked and unparked in turn, at what is left of that
without one. Both ways to schedule. Needs two cores, and no privilege.

Example:
  zygix bench migrate --seconds 10 --json migrate.json")]
    Migrate(Migrate),
    /// Energy saved, and background work kept, by the control plane's policies under three patterns of load (thesis table 2.4)
    #[command(after_help = "\
Four minutes each of slope, step and sine with noise, under the policies energy and consolidate, partitioned (ix) and with stealing
(zygos): twelve runs on a model of the thesis's machine. The policies and the control loop are the real code. Some reconfigurations of each
run are held against the real dataplane in virtual time (`sim world`): same cores, speed and load. Needs no privilege.

Example:
  zygix bench energy --sim --json energy.json --out results")]
    Energy(Energy),
    /// Join two interfaces by a link with faults, until Ctrl-C: for trying something over a bad network
    #[command(after_help = "\
Makes a TAP at either end, without offloads, and moves frames between them; what is asked for happens both ways, by a seed.

Example:
  sudo ip netns add blue; sudo ip netns add green
  sudo zygix bench link --a zl0@blue --a-addr 198.18.0.1/24 --b zl0@green --b-addr 198.18.0.2/24 --latency 5ms --loss 1")]
    Link(Box<Link>),
    /// Stacks, pingpong, churn, sizes, batch, spin, bulk, sched, stall and truth, one after the other, into one folder
    #[command(after_help = "\
Says how long it will take before it begins, and the rest before each bench.

Example:
  sudo zygix bench all --seconds 2 --out results     results/index.html has everything")]
    All(All),
    /// What operations take on this machine, for `zygix sim world --costs FILE`
    #[command(
        long_flag = "calibrate",
        after_help = "\
Frames received and transmitted, turns, calls of application code, stealing, lending, interrupts: nanoseconds each, as medians
of many short pieces. Needs no privilege. Nothing else should run meanwhile.

Example:
  zygix bench calibrate --costs here.json
  zygix sim world --n 16 --s 10 --costs here.json"
    )]
    Calibrate(Calibrate),
}

/// What every bench takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Measuring {
    /// Seconds per measured point
    #[arg(long, value_name = "N", default_value_t = 5.0, value_parser = seconds)]
    pub(crate) seconds: f64,

    /// How often each point is measured: medians are given, with the lowest and the highest
    #[arg(long, value_name = "R", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) repeats: u32,

    /// Records in the store (k and m are thousands and millions)
    #[arg(long, value_name = "N", default_value = "100k", value_parser = records)]
    pub(crate) records: u32,

    /// Write the result to FILE as one JSON object
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// File the result in DIR, and draw all results that are there into DIR/index.html
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Stacks {
    #[command(flatten)]
    pub(crate) measuring: Measuring,

    /// Only some rows: words of applications, stacks, wires and workloads, `,` for or, `+` for and
    #[arg(long, value_name = "FILTER")]
    pub(crate) rows: Option<String>,

    /// The Linux stack in Zygix's place: what the method shows when there is no difference.
    #[arg(long, hide = true)]
    pub(crate) null: bool,
}

/// A bench without options of its own.
#[derive(Args, Debug)]
pub(crate) struct Plain {
    #[command(flatten)]
    pub(crate) measuring: Measuring,

    /// Hardly anything, in a second or two: that it runs, not what it says.
    #[arg(long, hide = true)]
    tiny: bool,
}

impl Plain {
    /// How much is run.
    pub(crate) fn extent(&self) -> Extent {
        if self.tiny { Extent::Tiny } else { Extent::Full }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Truth {
    #[command(flatten)]
    pub(crate) plain: Plain,

    /// The queue's mean service time
    #[arg(long, value_name = "TIME", default_value = "100us", value_parser = service)]
    service: Nanos,

    /// Requests to the queue at each load (k and m are thousands and millions)
    #[arg(long, value_name = "N", default_value = "400k", value_parser = requests)]
    requests: u64,
}

impl Truth {
    /// The queue that is asked for.
    pub(crate) fn queue(&self) -> truth::Queue {
        truth::Queue { service: self.service, requests: self.requests }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Sched {
    #[command(flatten)]
    pub(crate) plain: Plain,

    /// Only some of it: network, maxima, tails, steals, tiny, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = part)]
    parts: Vec<sched::Part>,
}

impl Sched {
    /// The parts that are asked for.
    pub(crate) fn parts(&self) -> Vec<sched::Part> {
        if self.parts.is_empty() { sched::Part::ALL.to_vec() } else { self.parts.clone() }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Bulk {
    #[command(flatten)]
    pub(crate) plain: Plain,

    /// Bytes of a transfer at most (or with k, m, g)
    #[arg(long, value_name = "SIZE", default_value = "1g")]
    bytes: Size,

    /// Only some of it: wires, impaired, fairness, dctcp, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = bulk_part)]
    parts: Vec<bulk::Part>,

    /// Of the links with faults, only some: none, loss, reordering, duplication, corruption, far-loss, all, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = fault)]
    faults: Vec<&'static str>,

    /// Short for --parts fairness,dctcp
    #[arg(long, conflicts_with = "parts")]
    fairness: bool,

    /// Congestion control of both stacks: cubic or reno [default: cubic, if `zygix serve` knows --congestion; else reno]
    #[arg(long, value_name = "NAME", value_parser = congestion)]
    congestion: Option<bulk::Congestion>,
}

impl Bulk {
    /// What is asked for.
    pub(crate) fn wanted(&self) -> bulk::Wanted {
        let parts = match (self.fairness, self.parts.is_empty()) {
            (true, _) => vec![bulk::Part::Fairness, bulk::Part::Dctcp],
            (false, true) => bulk::Part::ALL.to_vec(),
            (false, false) => self.parts.clone(),
        };
        bulk::Wanted { bytes: self.bytes.0 as u64, parts, faults: self.faults.clone(), congestion: self.congestion }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Calibrate {
    /// Write the costs to FILE, for the simulator
    #[arg(long, value_name = "FILE")]
    pub(crate) costs: Option<PathBuf>,

    /// Write the costs and the quartiles of what they were made of to FILE as one JSON object
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Seconds in all
    #[arg(long, value_name = "N", default_value_t = 20.0, value_parser = seconds)]
    pub(crate) seconds: f64,
}

#[derive(Args, Debug)]
pub(crate) struct All {
    #[command(flatten)]
    pub(crate) plain: Plain,
}

/// `zygix report`.
#[derive(Args, Debug)]
#[command(after_help = "\
Takes what `zygix bench --json` and `zygix load --json` have written. The page needs nothing but itself.

Example:
  zygix report results -o results.html")]
pub(crate) struct Report {
    /// The folder with the results
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,

    /// The page [default: DIR/index.html]
    #[arg(short = 'o', long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

pub(crate) fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(s) if (0.05..=3600.0).contains(&s) => Ok(s),
        _ => Err("write seconds, from 0.05 to 3600".into()),
    }
}

fn part(text: &str) -> Result<sched::Part, String> {
    let named = sched::Part::ALL.into_iter().find(|p| p.name() == text);
    named.ok_or_else(|| format!("choose from {}", sched::Part::ALL.map(sched::Part::name).join(", ")))
}

fn bulk_part(text: &str) -> Result<bulk::Part, String> {
    let named = bulk::Part::ALL.into_iter().find(|p| p.name() == text);
    named.ok_or_else(|| format!("choose from {}", bulk::Part::ALL.map(bulk::Part::name).join(", ")))
}

fn fault(text: &str) -> Result<&'static str, String> {
    let named = bulk::faults().into_iter().find(|name| *name == text);
    named.ok_or_else(|| format!("choose from {}", bulk::faults().join(", ")))
}

fn congestion(text: &str) -> Result<bulk::Congestion, String> {
    match text {
        "cubic" => Ok(bulk::Congestion::Cubic),
        "reno" | "newreno" => Ok(bulk::Congestion::Reno),
        _ => Err("choose from cubic, reno".into()),
    }
}

fn service(text: &str) -> Result<Nanos, String> {
    let span = load::draw::parse_span(text)?;
    let sane = Nanos::from_micros(1)..=Nanos::from_millis(10);
    if sane.contains(&span) { Ok(span) } else { Err("write a time from 1us to 10ms, such as 100us".into()) }
}

fn requests(text: &str) -> Result<u64, String> {
    match load::draw::parse_rate(text) {
        Ok(n) if (1000.0..=1e9).contains(&n) => Ok(n as u64),
        _ => Err("write a number from 1k to 1000m, such as 400k".into()),
    }
}

fn records(text: &str) -> Result<u32, String> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'k') => (&text[..text.len() - 1], 1_000),
        Some(b'm') => (&text[..text.len() - 1], 1_000_000),
        _ => (text, 1),
    };
    let number = digits.parse::<u32>().ok().and_then(|n| n.checked_mul(factor));
    // A store of 1 GB holds no more of ETC's.
    number.filter(|n| (1..=2_000_000).contains(n)).ok_or_else(|| "write a number up to 2m, such as 100k".into())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn stacks(line: &str) -> Result<Stacks, String> {
        match Cli::try_parse_from(format!("zygix bench stacks {line}").split_whitespace()) {
            Ok(Cli { command: Command::Bench(Bench { kind: Kind::Stacks(stacks) }) }) => Ok(stacks),
            Ok(_) => unreachable!("`bench stacks` was written"),
            Err(e) => Err(e.to_string()),
        }
    }

    #[test]
    fn the_queue_of_truth_can_be_chosen() {
        let queue = |line: &str| match Cli::try_parse_from(format!("zygix bench truth {line}").split_whitespace()) {
            Ok(Cli { command: Command::Bench(Bench { kind: Kind::Truth(truth) }) }) => Ok(truth.queue()),
            Ok(_) => unreachable!("`bench truth` was written"),
            Err(e) => Err(e.to_string()),
        };
        assert_eq!(queue("").unwrap(), truth::Queue::default());
        let queue_of = queue("--service 1ms --requests 10k").unwrap();
        assert_eq!((queue_of.service, queue_of.requests), (Nanos::from_millis(1), 10_000));
        for bad in ["--service 0", "--service 1s", "--service fast", "--requests 0", "--requests many"] {
            assert!(queue(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bulk_is_bounded_and_has_parts() {
        let wanted = |line: &str| match Cli::try_parse_from(format!("zygix bench bulk {line}").split_whitespace()) {
            Ok(Cli { command: Command::Bench(Bench { kind: Kind::Bulk(bulk) }) }) => Ok(bulk.wanted()),
            Ok(_) => unreachable!("`bench bulk` was written"),
            Err(e) => Err(e.to_string()),
        };
        let usual = wanted("").unwrap();
        assert_eq!((usual.bytes, usual.parts.len(), usual.congestion), (1 << 30, 4, None));
        let some = wanted("--bytes 4m --parts wires --congestion reno").unwrap();
        assert_eq!((some.bytes, some.parts), (4 << 20, vec![bulk::Part::Wires]));
        assert_eq!(some.congestion, Some(bulk::Congestion::Reno));
        assert_eq!(wanted("--faults loss,far-loss").unwrap().faults, ["loss", "far-loss"]);
        assert_eq!(wanted("--fairness").unwrap().parts, [bulk::Part::Fairness, bulk::Part::Dctcp]);
        for bad in ["--bytes 0", "--parts all", "--fairness --parts wires", "--congestion bbr", "--faults rain"] {
            assert!(wanted(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn calibrating_may_be_written_as_a_flag() {
        for line in ["zygix bench calibrate --costs a.json", "zygix bench --calibrate --costs a.json"] {
            match Cli::try_parse_from(line.split_whitespace()) {
                Ok(Cli { command: Command::Bench(Bench { kind: Kind::Calibrate(c) }) }) => {
                    assert_eq!((c.costs, c.json, c.seconds), (Some(PathBuf::from("a.json")), None, 20.0), "{line}");
                }
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_bench_has_defaults_and_limits() {
        let plain = stacks("").unwrap().measuring;
        assert_eq!((plain.seconds, plain.repeats, plain.records), (5.0, 3, 100_000));
        assert_eq!(stacks("--records 1m").unwrap().measuring.records, 1_000_000);
        for bad in ["--seconds 0", "--seconds inf", "--seconds x", "--repeats 0", "--records 0", "--records 5t"] {
            assert!(stacks(bad).is_err(), "{bad}");
        }
    }
}
