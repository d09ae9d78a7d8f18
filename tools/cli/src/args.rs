use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::bench_args::{Bench, Report};
use crate::cp::Cp;
use crate::ctl::args::Ctl;
use crate::load::args::Load;
use crate::sim::args::Sim;
use crate::top::Top;
use crate::values::{Cores, HostAddress, Megabytes, Network, NicUri, Size};

/// A dataplane operating system for Linux: network services on their own user-level TCP/IP stack.
#[derive(Parser, Debug)]
#[command(
    name = "zygix",
    version,
    arg_required_else_help = true,
    after_help = "\
Examples:
  zygix demo                          both stacks, real load, a table: no set-up, no privilege needed
  sudo zygix serve kv                 a memcached-compatible store at 198.18.0.2:11211, reached through TAP zx0
  zygix serve kv --stack linux-partitioned
                                      the same store on Linux sockets"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run an application on the dataplane, or on Linux sockets.
    Serve(Serve),
    /// Load a server, and measure it: the pace is kept whatever the server does
    Load(Box<Load>),
    /// Compare the key-value store on both stacks under real load; needs no set-up.
    Demo(Demo),
    /// Measure stacks side by side; results for programs and for the report
    Bench(Bench),
    /// Simulate: queues, the real dataplane in virtual time, campaigns of seeds
    Sim(Sim),
    /// Find the configurations of a machine that are worth having: least energy, or most background throughput, at each load
    #[command(after_help = "\
Measures this machine: the dataplane on the open-loop NIC in this process, as in `zygix bench sched`, in each configuration (cores, hardware
threads, clock); requests are work, so a slower clock makes them longer. For each, the highest load whose p99 keeps to the objective; then, at
10, 50 and 90 % of that, watts (by energy counters, else by the control plane's model of this machine) and what a background job does on the cpus
that are left, of what it does alone on all (consolidate; it runs all the time). For energy those cpus sleep. Clocks are set where that is
possible, and put back at the end; while a control plane runs it is refused. With 2 seconds a window, half a minute for a configuration.

What is not measured:
  - a configuration with no more cores, no more threads and no faster clock than another carries no more: its search ends there
  - beyond --most configurations, clocks are thinned to the slowest, the nominal, turbo and some between; then cores to 1, 2, 4 and so on and all
  - for background work, other clocks than the nominal, and turbo mode unless all cores serve
  - values between those three loads: they lie on straight lines

With --sim: what each carries, and draws, follows from a machine's model and a service's (memcached, USR); all are looked at.
Where a configuration carries less than 1 % more than the one before, the policy leaves it out.

Examples:
  sudo zygix pareto --policy energy.toml              the frontier of this machine, as a policy for `zygix cp`
  sudo zygix pareto --objective consolidate --cpus 0-3 --out results
  zygix pareto --sim --policy energy.toml             that of the thesis's machine
  zygix pareto --sim --machine generic:64 --json pareto.json")]
    Pareto(crate::pareto::Pareto),
    /// Draw results as one page
    Report(Report),
    /// Look at running dataplanes, move their flow groups, park their cores
    Ctl(Ctl),
    /// Hold dataplanes' objectives with the least energy, or with the most left for others
    Cp(Cp),
    /// Watch dataplanes and the control plane in a terminal
    Top(Top),
}

#[derive(Args, Debug)]
#[command(arg_required_else_help = true)]
pub(crate) struct Serve {
    #[command(subcommand)]
    pub(crate) app: App,
}

#[derive(Subcommand, Debug)]
pub(crate) enum App {
    /// A key-value store that speaks memcached's ASCII and binary protocols.
    #[command(after_help = "\
Examples:
  sudo zygix serve kv                                at 198.18.0.2:11211; Linux reaches it through TAP zx0
  sudo zygix serve kv -t 2 --pin 2,3 -m 1g           two elastic threads on cores 2 and 3, 1 GB of memory
  sudo zygix serve kv --netns blue --pcap kv.pcap    in the network namespace `blue`, with every frame recorded
  zygix serve kv --stack linux-partitioned -p 22122  the same store on Linux sockets
  sudo zygix serve kv --stack linux-floating -t 2 --pin 0,1 --tuned
                                                     any thread serves any connection; tuned for latency
  unshare -rn zygix serve kv                         without privilege, in a namespace of its own

SIGINT and SIGTERM end it: connections are reset, counters printed. A second signal ends it at once.")]
    Kv(Kv),
    /// Echo, and two services to measure and check bulk transfers with.
    #[command(after_help = "\
Examples:
  sudo zygix serve echo                              echoes TCP and UDP at 198.18.0.2:7007
  sudo zygix serve echo --addr 198.18.0.2/24 --addr 2001:2::2/64
                                                     the same for IPv4 and IPv6
  sudo zygix serve echo --mode discard               reads to the end, answers `<bytes> <digest>`
  printf '1000000\\n' | nc 198.18.0.2 7007            with --mode source: a million bytes of a known pattern
  zygix serve echo --stack linux-partitioned -t 2    on Linux sockets, two threads")]
    Echo(Echo),
    /// Throw away what comes (RFC 863), TCP and UDP.
    Discard(Plain<7009>),
    /// Send characters (RFC 864), TCP and UDP: to a connection for as long as it is open, up to 512 in answer to a datagram.
    Chargen(Plain<7019>),
    /// Work of a known length: each request says how long it wants to be served, and is.
    #[command(after_help = "\
Examples:
  sudo zygix serve spin                              at 198.18.0.2:7008, TCP and UDP
  zygix serve spin --stack linux-floating -t 2       on Linux sockets: whichever thread is free takes a request
  zygix serve spin --stack linux-partitioned -t 2    ... each thread has connections of its own

A request names its own service time, at most 1 s; `zygix load spin` draws it from a distribution.")]
    Spin(Spin),
}

#[derive(Args, Debug)]
pub(crate) struct Kv {
    /// The TCP port
    #[arg(short = 'p', long, value_name = "PORT", default_value_t = 11211)]
    pub(crate) port: u16,

    /// Memory for items, their index and half-received values, in megabytes (or with k, m, g)
    #[arg(short = 'm', long, value_name = "SIZE", default_value = "64")]
    pub(crate) memory_limit: Megabytes,

    /// When memory is used up, refuse to store instead of evicting
    #[arg(short = 'M', long)]
    pub(crate) disable_evictions: bool,

    /// The largest item, in bytes (or with k, m, g)
    #[arg(short = 'I', long, value_name = "SIZE", default_value = "1m")]
    pub(crate) max_item_size: Size,

    #[command(flatten)]
    pub(crate) on: On,
}

#[derive(Args, Debug)]
pub(crate) struct Echo {
    /// The port, TCP and UDP
    #[arg(short = 'p', long, value_name = "PORT", default_value_t = 7007)]
    pub(crate) port: u16,

    /// What is done with received bytes
    #[arg(long, value_enum, default_value_t = EchoMode::Echo)]
    pub(crate) mode: EchoMode,

    #[command(flatten)]
    pub(crate) on: On,
}

#[derive(Args, Debug)]
pub(crate) struct Spin {
    /// The port, TCP and UDP
    #[arg(short = 'p', long, value_name = "PORT", default_value_t = 7008)]
    pub(crate) port: u16,

    #[command(flatten)]
    pub(crate) on: On,
}

/// A service that has nothing to set but where it is.
#[derive(Args, Debug)]
pub(crate) struct Plain<const PORT: u16> {
    /// The port, TCP and UDP
    #[arg(short = 'p', long, value_name = "PORT", default_value_t = PORT)]
    pub(crate) port: u16,

    #[command(flatten)]
    pub(crate) on: On,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EchoMode {
    /// Send them back
    Echo,
    /// Read to the end, answer with their number and digest
    Discard,
    /// Take a number and a newline, send that many bytes of a known pattern
    Source,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scheduler {
    /// Partitioned
    Ix,
    /// Work-conserving
    Zygos,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Helping {
    /// Works in its stead
    Lend,
    /// Interrupts it
    Ipi,
    /// Waits for it
    None,
}

/// What an application runs on: the same for all of them.
#[derive(Args, Clone, Debug)]
pub(crate) struct On {
    /// The stack under the application
    #[arg(long, value_enum, default_value_t = Stack::Zygix, value_name = "STACK")]
    pub(crate) stack: Stack,

    /// Threads, each with a share of the connections, or (linux-floating) all of them for all connections
    #[arg(short = 't', long = "cores", visible_alias = "threads", value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=128))]
    pub(crate) threads: u16,

    /// Cores to pin the threads to, in order: `1`, `0,2`, `1-3`. Without it they float
    #[arg(long, value_name = "LIST")]
    pub(crate) pin: Option<Cores>,

    /// Connections served at once
    #[arg(short = 'c', long, value_name = "N", default_value_t = 1024,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) conn_limit: u32,

    /// The address to serve. Linux: one of the machine's, or 0.0.0.0 for all (the default). Zygix: short for --addr
    #[arg(short = 'l', long, value_name = "ADDRESS")]
    pub(crate) listen: Option<IpAddr>,

    /// Bound of a batch: frames and connections of one turn (Zygix), events of one wait (Linux) [default: 64, but 1 for
    /// linux-floating, where other threads cannot take what one has fetched]
    #[arg(long, value_name = "B", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) batch: Option<u16>,

    /// Linux: lock all memory and do without transparent huge pages
    #[arg(long)]
    pub(crate) tuned: bool,

    /// Linux: the congestion control of its connections, such as cubic or reno [default: the system's]
    #[arg(long, value_name = "NAME")]
    pub(crate) linux_congestion: Option<String>,

    /// linux-floating: how threads learn of events
    #[arg(long, value_enum, default_value_t = Epoll::Shared, value_name = "WAY")]
    pub(crate) epoll: Epoll,

    /// Zygix: the NIC. `tap:NAME` makes that TAP device; `xdp:NAME` shares that interface with the kernel by AF_XDP, in the best mode
    /// that works (`xdp:NAME,generic` names one), all of our addresses or, with `,ports` or `,ports=11211+8080`, those ports only, so that the kernel may
    /// have the same addresses, and with `,busy-poll` the driver's receive path is run by our polls where the kernel lets us; `shm:PATH` meets another Zygix at a Unix socket
    #[arg(long, value_name = "NIC", default_value = "tap:zx0")]
    pub(crate) nic: NicUri,

    /// Zygix: make the TAP in this network namespace (see `ip netns`) instead of the present one; or find the interface there
    #[arg(long, value_name = "NAME")]
    pub(crate) netns: Option<String>,

    /// Zygix: its own address and prefix, IPv4 or IPv6; more than one by repeating this [default: 198.18.0.2/24]
    #[arg(long, value_name = "ADDRESS/PREFIX")]
    pub(crate) addr: Vec<Network>,

    /// Zygix: Linux's address at its end of the TAP, one per network, or `none` to leave that to you [default: the network's first]
    #[arg(long, value_name = "ADDRESS/PREFIX")]
    pub(crate) host_addr: Vec<HostAddress>,

    /// Zygix: the next hop to other networks, one for IPv4 and one for IPv6
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) gateway: Vec<IpAddr>,

    /// Zygix: a thread with nothing to do polls on (least latency, a whole core), or polls a while and sleeps
    #[arg(long, value_enum, default_value_t = IdlePolicy::Adaptive, value_name = "POLICY")]
    pub(crate) idle: IdlePolicy,

    /// Zygix: which core runs what. `ix`: each core its own connections, in batches; `zygos`: idle cores steal ready ones
    #[arg(long, value_enum, default_value_t = Scheduler::Ix, value_name = "MODE")]
    pub(crate) sched: Scheduler,

    /// --sched zygos: what an idle core does that finds frames at a core which is in application code [default: lend]
    #[arg(long, value_enum, value_name = "WAY")]
    pub(crate) assist: Option<Helping>,

    /// Zygix: who brings a frame to the core that owns its flow
    #[arg(long, value_enum, default_value_t = Steering::Auto, value_name = "WAY")]
    pub(crate) steering: Steering,

    /// Zygix: the least retransmission timeout, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) rto_min: u16,

    /// Zygix: how long an acknowledgement may wait for data to ride on, in microseconds
    #[arg(long, value_name = "US", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(0..500_000))]
    pub(crate) delayed_ack: u32,

    /// Zygix: how the congestion window grows and shrinks
    #[arg(long, value_enum, default_value_t = CongestionControl::Cubic, value_name = "NAME")]
    pub(crate) congestion: CongestionControl,

    /// Zygix: explicit congestion notification: neither offered nor accepted, accepted, or offered, too [default: accept; with
    /// `--congestion dctcp` on]
    #[arg(long, value_enum, value_name = "WHEN")]
    pub(crate) ecn: Option<EcnUse>,

    /// Zygix: send a window over its round trip instead of at once, where that takes 2 ms or more: kinder to short queues on the way
    #[arg(long)]
    pub(crate) pacing: bool,

    /// Zygix: the name for `zygix ctl`; `none`: it takes no commands [default: the application's, with -2, -3 ... where that is taken]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Zygix: record every frame in FILE (further queues in FILE.1, FILE.2 ...)
    #[arg(long, value_name = "FILE")]
    pub(crate) pcap: Option<PathBuf>,

    /// Say more: -v start-up details, -vv counters at the end
    #[arg(short = 'v', long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Run under another program: JSON lines on standard output, commands on standard input, its end is ours.
    #[arg(long, hide = true)]
    pub(crate) supervised: bool,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stack {
    /// Our own, on a NIC of ours
    Zygix,
    /// Linux sockets: an epoll loop and a listener per thread
    LinuxPartitioned,
    /// Linux sockets: one pool of connections, served by whichever thread is free
    LinuxFloating,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Epoll {
    /// All wait at one epoll instance
    Shared,
    /// Each waits at its own, woken one at a time by EPOLLEXCLUSIVE
    Exclusive,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum IdlePolicy {
    /// Poll for ever
    Spin,
    /// Poll for 50 us, then sleep until a frame or a timer
    Adaptive,
}

/// How the congestion window grows and shrinks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum CongestionControl {
    /// RFC 9438
    Cubic,
    /// RFC 5681, RFC 6582
    #[value(name = "newreno")]
    NewReno,
    /// RFC 8257: for networks whose switches mark early
    Dctcp,
}

/// Explicit congestion notification (RFC 3168).
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum EcnUse {
    /// Neither offered nor accepted
    Off,
    /// Accepted where a peer offers it
    Accept,
    /// Offered, too
    On,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Steering {
    /// The NIC, where it can and may (a TAP needs the privilege for bpf(2)); else software
    Auto,
    /// Each thread forwards what is not its own
    Software,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Starts `zygix serve kv` twice, on Zygix (over a TAP) and on Linux sockets (over a veth pair), pinned to one core,
loads both in turn from another core through ordinary Linux sockets with checked replies, and prints a table.
Everything happens in network namespaces of its own, which end with it. Without root it makes a user namespace;
where that is forbidden, run it with sudo.

Examples:
  zygix demo
  zygix demo --seconds 30 --json result.json")]
pub(crate) struct Demo {
    /// Seconds of load, both stacks and all rounds together
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=50))]
    pub(crate) seconds: u32,

    /// Write the result to FILE as one JSON object
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Connections to each server
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) connections: u16,

    /// Requests outstanding per connection
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) depth: u16,

    /// Run the Linux stack on both sides: what the method shows when there is no difference.
    #[arg(long, hide = true)]
    pub(crate) null: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn serve(line: &str) -> Result<Serve, String> {
        match Cli::try_parse_from(format!("zygix serve {line}").split(' ')) {
            Ok(Cli { command: Command::Serve(serve) }) => Ok(serve),
            Ok(_) => unreachable!("`serve` was written"),
            Err(e) => Err(e.to_string()),
        }
    }

    #[test]
    fn the_description_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn memcacheds_flags_are_understood() {
        let Ok(Serve { app: App::Kv(kv) }) = serve("kv -p 22122 -m 1024 -M -I 2m -c 4096 -t 2 -l 127.0.0.1 -vv") else {
            panic!("not understood")
        };
        assert_eq!(
            (kv.port, kv.memory_limit.0, kv.disable_evictions, kv.max_item_size.0),
            (22122, 1 << 30, true, 2 << 20)
        );
        assert_eq!((kv.on.conn_limit, kv.on.threads, kv.on.verbose), (4096, 2, 2));
        assert_eq!(kv.on.listen, Some("127.0.0.1".parse().unwrap()));
        assert_eq!((kv.on.stack, kv.on.nic), (Stack::Zygix, NicUri::Tap("zx0".into())));
    }

    #[test]
    fn nonsense_is_named() {
        for (line, complaint) in [
            ("kv -p 70000", "70000 is not in"),
            ("kv -t 0", "0 is not in"),
            ("kv -m lots", "with k, m or g"),
            ("kv --nic wifi:0", "no NIC of the kind wifi"),
            ("kv --addr 198.18.0.0/24", "take another"),
            ("kv --pin 1,1", "named twice"),
            ("kv --stack bsd", "linux-floating"),
            ("spin --batch 0", "0 is not in"),
            ("kv --epoll poll", "exclusive"),
            ("tea", "unrecognized subcommand"),
        ] {
            let said = serve(line).unwrap_err();
            assert!(said.contains(complaint), "{line}: {said}");
        }
    }
}
