//! Whose time it was: the CPU time that a server costs, its share of the kernel's receive work included.
//!
//! *Server time* is the sum of
//!
//! 1. **threads**: CPU time of the server process (all threads, user and kernel), less its own idle polling;
//! 2. **kernel**: time in softirqs on the load's core, where Linux does a server's receive work on this machine.
//!
//! ```text
//!   over veth   client core: send() -> veth -> softirq: the server's TCP receives     2, counted for the server
//!               server core: send() -> veth -> softirq: the client's TCP receives     1, within the server's thread
//!   over TAP    client core: send() -> the TAP's queue                                nothing of the server's
//!               server core: write() -> the client's TCP receives                     1, within the server's thread
//! ```
//!
//! Both servers thus pay for the client's receive work too (the sender's core does it on a machine whose wire is
//! memory); both are charged by the same rule, and what that charges to Zygix for softirqs on the load's core is
//! measured, not assumed to be nothing.
//!
//! Why this way: docs/decisions/0005-server-time.md. The kernel here charges softirqs to the thread they interrupt and
//! counts them by its tick (`TICK_CPU_ACCOUNTING`, 250 a second): the share is a sample, whose standard error
//! [`Cost::kernel_error`] tells. Kernels with `IRQ_TIME_ACCOUNTING` measure instead of sampling, and keep softirqs out
//! of thread time; [`Billing`] finds out which it is, and then softirqs on the server's core count as well.

use std::net::UdpSocket;

use anyhow::{Context, Result};
use sys::clock;
use units::Nanos;

use crate::server::Usage;

/// The unit of /proc/stat: USER_HZ is 100 on every architecture that Rust's standard library runs on.
const JIFFY: u64 = 10_000_000;

/// Where the kernel puts the time of softirqs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Billing {
    /// Into the thread they interrupt; /proc/stat samples them.
    Thread,
    /// Apart (`IRQ_TIME_ACCOUNTING`); /proc/stat has them to the nanosecond.
    Apart,
}

impl Billing {
    /// Tries it: datagrams that a thread sends to itself are received in softirqs within `send`, so that a good part of
    /// its time on the core is missing in its CPU time if they are billed apart. 30 ms.
    ///
    /// # Errors
    /// Loopback is down.
    pub fn detect() -> Result<Billing> {
        let socket = UdpSocket::bind(("127.0.0.1", 0))?;
        socket.connect(socket.local_addr()?)?;
        let mut buffer = [0; 64];
        // The best of three: whatever else keeps a thread from its core looks like being billed apart.
        let mut share = 0f64;
        for _ in 0..3 {
            let (wall, cpu, waited) = (clock::now(), clock::thread_cpu(), waited());
            while clock::now() < wall + Nanos::from_millis(10) {
                socket.send(&buffer)?;
                socket.recv(&mut buffer)?;
            }
            let on_core = (clock::now() - wall) - (self::waited() - waited);
            let cpu = clock::thread_cpu() - cpu;
            share = share.max(cpu.as_secs_f64() / on_core.as_secs_f64().max(1e-9));
        }
        Ok(if share < 0.85 { Billing::Apart } else { Billing::Thread })
    }
}

/// How long the calling thread has waited for a core while it could have run (proc(5), schedstat). Zero where the kernel
/// does not say.
fn waited() -> Nanos {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Nanos(text.split_ascii_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0))
}

/// Softirq time of each core since the machine started.
#[derive(Clone, Debug)]
pub struct Softirqs(Vec<(usize, Nanos)>);

impl Softirqs {
    /// Reads /proc/stat.
    ///
    /// # Errors
    /// /proc is not mounted.
    pub fn read() -> Result<Softirqs> {
        let text = std::fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        Ok(Softirqs(parse(&text)))
    }

    fn of(&self, core: usize) -> Nanos {
        self.0.iter().find(|(c, _)| *c == core).map_or(Nanos::ZERO, |(_, t)| *t)
    }
}

/// The seventh number of each `cpuN` line (proc(5)).
fn parse(stat: &str) -> Vec<(usize, Nanos)> {
    let core = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let core = words.next()?.strip_prefix("cpu")?.parse().ok()?;
        let jiffies: u64 = words.nth(6)?.parse().ok()?;
        Some((core, Nanos(jiffies * JIFFY)))
    };
    stat.lines().filter_map(core).collect()
}

/// What a hypervisor took from this machine since it started, and all the time there was, summed over cores: the
/// eighth number of the `cpu` line, and the sum of the first eight.
///
/// # Errors
/// /proc is not mounted.
pub fn stolen() -> Result<(Nanos, Nanos)> {
    let text = std::fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    let times: Vec<u64> = line.split_ascii_whitespace().skip(1).take(8).filter_map(|n| n.parse().ok()).collect();
    Ok((Nanos(times.get(7).unwrap_or(&0) * JIFFY), Nanos(times.iter().sum::<u64>() * JIFFY)))
}

/// Which cores, and how the kernel bills.
#[derive(Clone, Copy, Debug)]
pub struct Accounting {
    /// Where the load runs.
    pub load_core: usize,
    /// Where the servers run. The same one on a machine with a single core.
    pub server_core: usize,
    /// How the kernel bills softirqs.
    pub billing: Billing,
}

/// Everything that is read at either end of a window.
#[derive(Clone, Debug)]
pub struct Reading {
    /// When, on the monotonic clock.
    pub at: Nanos,
    /// Requests answered so far.
    pub requests: u64,
    /// What the server has used so far.
    pub usage: Usage,
    /// What the kernel has.
    pub softirqs: Softirqs,
}

/// What a number of requests cost the server; sums over windows.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Cost {
    /// Requests answered.
    pub requests: u64,
    /// Length of the windows.
    pub wall: Nanos,
    /// Thread time, idle polling subtracted.
    pub threads: Nanos,
    /// Idle polling.
    pub idle: Nanos,
    /// Kernel time on the server's behalf outside of its threads.
    pub kernel: Nanos,
}

impl Accounting {
    /// On the cores that [`choose`](crate::cores::choose) picks of those that we may use.
    ///
    /// # Errors
    /// sched_getaffinity(2); loopback is down.
    pub fn here() -> Result<Accounting> {
        let (load_core, server_core) = crate::cores::choose(&sys::thread::allowed_cores()?);
        Ok(Accounting { load_core, server_core, billing: Billing::detect()? })
    }

    /// Whether load and servers share the only core.
    pub fn shared(&self) -> bool {
        self.load_core == self.server_core
    }

    /// What happened between two readings.
    pub fn cost(&self, from: &Reading, to: &Reading) -> Cost {
        let softirq = |core| to.softirqs.of(core) - from.softirqs.of(core);
        let mut kernel = Nanos::ZERO;
        // On a single core one softirq looks like another: the client's, which the server's thread has paid already, and
        // the server's. None is counted.
        if self.load_core != self.server_core {
            kernel += softirq(self.load_core);
            if self.billing == Billing::Apart {
                kernel += softirq(self.server_core);
            }
        }
        let idle = to.usage.idle - from.usage.idle;
        Cost {
            requests: to.requests - from.requests,
            wall: to.at - from.at,
            threads: (to.usage.cpu - from.usage.cpu) - idle,
            idle,
            kernel,
        }
    }
}

impl Cost {
    /// Adds another window.
    pub fn add(&mut self, other: &Cost) {
        self.requests += other.requests;
        self.wall += other.wall;
        self.threads += other.threads;
        self.idle += other.idle;
        self.kernel += other.kernel;
    }

    /// Microseconds of `span` per request.
    pub fn per_request(&self, span: Nanos) -> f64 {
        span.0 as f64 / 1e3 / self.requests.max(1) as f64
    }

    /// Server time per request in microseconds.
    pub fn total(&self) -> f64 {
        self.per_request(self.threads + self.kernel)
    }

    /// The standard error of the kernel's part in microseconds per request, if it was sampled by ticks of 4 ms: that of
    /// a share estimated from independent looks, and the rounding of /proc/stat.
    pub fn kernel_error(&self) -> f64 {
        let tick = 4e6;
        let looks = (self.wall.0 as f64 / tick).max(1.0);
        let share = (self.kernel.0 as f64 / self.wall.0.max(1) as f64).clamp(0.0, 1.0);
        let sampling = (share * (1.0 - share) * looks).sqrt() * tick;
        let rounding = JIFFY as f64 / 6f64.sqrt();
        sampling.hypot(rounding) / 1e3 / self.requests.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "\
cpu  7355 0 3095 285244 407 0 41 1193 0 0
cpu0 3545 0 1225 143311 42 0 5 538 0 0
cpu1 3810 0 1870 141932 364 0 35 655 0 0
intr 145554 0
softirq 1 2 3
";

    fn reading(requests: u64, cpu: u64, idle: u64, softirqs: [u64; 2]) -> Reading {
        Reading {
            at: Nanos::from_millis(requests),
            requests,
            usage: Usage { cpu: Nanos(cpu), idle: Nanos(idle) },
            softirqs: Softirqs(vec![(0, Nanos(softirqs[0])), (1, Nanos(softirqs[1]))]),
        }
    }

    #[test]
    fn the_kernels_own_counts_are_found() {
        assert_eq!(parse(STAT), [(0, Nanos(5 * JIFFY)), (1, Nanos(35 * JIFFY))]);
        assert!(!Softirqs::read().unwrap().0.is_empty());
        let (stolen, all) = stolen().unwrap();
        assert!(stolen < all);
    }

    #[test]
    fn each_part_is_charged_once() {
        let (from, to) = (reading(0, 1000, 100, [0, 0]), reading(1000, 9_001_000, 2_000_100, [3_000_000, 5_000_000]));
        let two = Accounting { load_core: 0, server_core: 1, billing: Billing::Thread };
        let cost = two.cost(&from, &to);
        assert_eq!((cost.threads.0, cost.idle.0, cost.kernel.0), (7_000_000, 2_000_000, 3_000_000));
        assert_eq!((cost.total(), cost.per_request(cost.idle)), (10.0, 2.0));
        let apart = Accounting { billing: Billing::Apart, ..two };
        assert_eq!(apart.cost(&from, &to).kernel.0, 8_000_000);
        let one = Accounting { server_core: 0, ..two };
        assert_eq!(one.cost(&from, &to).kernel, Nanos::ZERO);
        let mut sum = cost;
        sum.add(&cost);
        assert_eq!((sum.requests, sum.total()), (2000, 10.0));
        assert!(sum.kernel_error() < cost.kernel_error() * 0.75, "longer windows are surer");
    }

    #[test]
    fn how_the_kernel_bills_is_a_fact() {
        let first = Billing::detect().unwrap();
        assert_eq!(first, Billing::detect().unwrap());
    }
}
