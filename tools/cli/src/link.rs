//! `zygix bench link`: a link with faults between two interfaces, for whoever wants to try something over it.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::str::FromStr;
use std::time::Duration;

use anyhow::Result;
use bridge::End;
use clap::Args;
use nic::{Faults, Passed};
use units::Nanos;

use crate::values::{Network, Size};

/// How often it looks whether it should end.
const LOOK: Duration = Duration::from_millis(50);

/// `zygix bench link`.
#[derive(Args, Debug)]
pub(crate) struct Link {
    /// One end: an interface to be made, in a named namespace or the present one: `zl0@blue`, `zl0`
    #[arg(long, value_name = "NAME[@NETNS]")]
    a: Interface,

    /// The other end
    #[arg(long, value_name = "NAME[@NETNS]")]
    b: Interface,

    /// The address of end a
    #[arg(long, value_name = "ADDRESS/PREFIX")]
    a_addr: Option<Network>,

    /// The address of end b
    #[arg(long, value_name = "ADDRESS/PREFIX")]
    b_addr: Option<Network>,

    /// Frames that never arrive, in percent
    #[arg(long, value_name = "%", default_value_t = 0.0, value_parser = percent)]
    loss: f64,

    /// Frames that arrive twice, in percent
    #[arg(long, value_name = "%", default_value_t = 0.0, value_parser = percent)]
    duplicate: f64,

    /// Frames that others overtake, in percent
    #[arg(long, value_name = "%", default_value_t = 0.0, value_parser = percent)]
    late: f64,

    /// By how much they come late at most
    #[arg(long, value_name = "TIME", default_value = "1ms", value_parser = span)]
    delay: Nanos,

    /// By how many later frames they are overtaken, instead of a time
    #[arg(long, value_name = "N", default_value_t = 0)]
    behind: u32,

    /// Frames with a bit turned over, in percent
    #[arg(long, value_name = "%", default_value_t = 0.0, value_parser = percent)]
    corrupt: f64,

    /// How long every frame takes, one way
    #[arg(long, value_name = "TIME", value_parser = span)]
    latency: Option<Nanos>,

    /// And up to so much longer; the order is kept
    #[arg(long, value_name = "TIME", value_parser = span)]
    jitter: Option<Nanos>,

    /// Bits a second (k and m are thousands and millions)
    #[arg(long, value_name = "RATE", value_parser = load::draw::parse_rate)]
    rate: Option<f64>,

    /// --rate: bytes that wait for it at most
    #[arg(long, value_name = "SIZE", default_value = "128k")]
    queue: Size,

    /// --rate: mark ECN-capable frames that find more bytes waiting
    #[arg(long, value_name = "SIZE")]
    mark: Option<Size>,

    /// Which dice are thrown
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

impl Link {
    fn faults(&self) -> Faults {
        let bytes = |size: Size| u32::try_from(size.0).unwrap_or(u32::MAX);
        Faults {
            loss: self.loss / 100.0,
            duplicate: self.duplicate / 100.0,
            late: self.late / 100.0,
            delay: if self.late > 0.0 { self.delay } else { Nanos::ZERO },
            behind: self.behind,
            corrupt: self.corrupt / 100.0,
            latency: self.latency.unwrap_or(Nanos::ZERO),
            jitter: self.jitter.unwrap_or(Nanos::ZERO),
            unordered: false,
            rate: self.rate.unwrap_or(0.0) as u64,
            queue: bytes(self.queue),
            mark: self.mark.map_or(0, bytes),
        }
    }
}

/// Joins both ends until somebody ends it, and says then what became of the frames.
pub(crate) fn run(args: &Link) -> Result<()> {
    sys::stop::install();
    let (at_a, at_b) = (args.a.namespace()?, args.b.namespace()?);
    let address = |network: &Option<Network>| network.map(|n| (n.address, n.prefix));
    let a = End { namespace: at_a.as_fd(), name: &args.a.name, address: address(&args.a_addr) };
    let b = End { namespace: at_b.as_fd(), name: &args.b.name, address: address(&args.b_addr) };
    let link = bridge::between(&a, &b, [args.faults(); 2], args.seed)?.start(None)?;
    eprintln!("zygix: {} and {} are joined; Ctrl-C ends it", args.a, args.b);
    while !sys::stop::requested() {
        std::thread::sleep(LOOK);
    }
    let seen = link.seen();
    for (from, to, way) in [(&args.a, &args.b, 0), (&args.b, &args.a, 1)] {
        let Passed { frames, lost, dropped, doubled, late, damaged, marked } = seen.passed[way];
        let depths = &seen.depths[way];
        println!(
            "{from} to {to}: {frames} frames, {lost} lost, {dropped} dropped, {doubled} doubled, {late} late, {damaged} damaged, \
             {marked} marked; queue p50 {} B, p99 {} B",
            depths.quantile(0.5),
            depths.quantile(0.99)
        );
    }
    Ok(())
}

/// An interface and its namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Interface {
    name: String,
    netns: Option<String>,
}

impl Interface {
    fn namespace(&self) -> Result<OwnedFd> {
        Ok(match &self.netns {
            Some(name) => sys::netns::named(name)?,
            None => sys::netns::current()?,
        })
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.netns.as_ref().map_or(Ok(()), |netns| write!(f, "@{netns}"))
    }
}

impl FromStr for Interface {
    type Err = String;
    fn from_str(text: &str) -> Result<Interface, String> {
        let (name, netns) = text.split_once('@').map_or((text, None), |(name, netns)| (name, Some(netns)));
        let sound = sys::link::check_name(name).is_ok() && netns.is_none_or(|n| !n.is_empty() && !n.contains('/'));
        if !sound {
            return Err("write NAME or NAME@NETNS; an interface's name has 1 to 15 characters".into());
        }
        Ok(Interface { name: name.into(), netns: netns.map(str::to_owned) })
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let sound = text.parse::<f64>().ok().filter(|p| (0.0..=100.0).contains(p));
    sound.ok_or_else(|| "write a percentage, from 0 to 100".into())
}

fn span(text: &str) -> Result<Nanos, String> {
    let span = load::draw::parse_span(text)?;
    if span <= Nanos::from_secs(10) { Ok(span) } else { Err("write a time of at most 10s, such as 5ms".into()) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};
    use crate::bench_args::{Bench, Kind};

    fn link(line: &str) -> Result<Box<Link>, String> {
        match Cli::try_parse_from(format!("zygix bench link {line}").split_whitespace()) {
            Ok(Cli { command: Command::Bench(Bench { kind: Kind::Link(link) }) }) => Ok(link),
            Ok(_) => unreachable!("`bench link` was written"),
            Err(e) => Err(e.to_string()),
        }
    }

    #[test]
    fn faults_are_what_was_written() {
        let args = link("--a zl0@blue --b zl1 --loss 1 --latency 5ms --rate 100m --mark 15k").unwrap();
        assert_eq!((args.a.to_string(), args.b.to_string()), ("zl0@blue".into(), "zl1".into()));
        let wanted = Faults {
            loss: 0.01,
            latency: Nanos::from_millis(5),
            rate: 100_000_000,
            queue: 128 << 10,
            mark: 15 << 10,
            ..Faults::default()
        };
        assert_eq!(args.faults(), wanted);
        for bad in ["--a zl0", "--a a/b --b c", "--a a@ --b c", "--a a --b b --loss 101", "--a a --b b --latency 1h"] {
            assert!(link(bad).is_err(), "{bad}");
        }
    }
}
