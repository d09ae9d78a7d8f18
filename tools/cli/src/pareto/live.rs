use std::io::Write as _;

use actuate::{Knobs, Tree, show_cpus};
use anyhow::{Result, bail};
use clap::Args;
use dataplane::{Assist, Sched};
use energy::Point as Best;
use ixcp::Instance;
use lab::kinds::pareto::{CPUS_MAX, Configuration, Explored, Host, Objective, SHARES, Sample, Wanted, best, explore};
use load::draw::{ServiceTimes, format_span, parse_span};
use machine::Machine;
use serde_json::{Map, Value, json};
use units::Nanos;

use super::show::{self, Words};
use super::{Found, Pareto, Static};
use crate::Usage;
use crate::args::Scheduler;
use crate::values::Cores;

/// Options of the measuring. What has a default is an option all the same: with --sim none of them means anything.
#[derive(Args, Debug)]
#[command(next_help_heading = "Without --sim")]
pub(super) struct Live {
    /// How long a request takes on a core alone at the nominal clock: det:S, exp:S, bimodal1:S, bimodal2:S, file:FILE [default: exp:100us]
    #[arg(long, value_name = "TIMES")]
    time: Option<ServiceTimes>,

    /// The objective: p99 within this [default: ten mean times of a request]
    #[arg(long, value_name = "SPAN", value_parser = span)]
    slo: Option<Nanos>,

    /// Which core runs what, as in `zygix serve` [default: zygos]
    #[arg(long, value_enum, value_name = "MODE")]
    sched: Option<Scheduler>,

    /// The cpus that configurations are made of: 0,2 or 0-3 [default: all that this process may use]
    #[arg(long, value_name = "LIST")]
    cpus: Option<Cores>,

    /// Take hardware threads for cores of their own: for virtual machines whose topology is made up
    #[arg(long)]
    no_siblings: bool,

    /// Configurations at most [default: 48]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    most: Option<u16>,

    /// Seconds per window of load [default: 2]
    #[arg(long, value_name = "N", value_parser = crate::bench_args::seconds)]
    seconds: Option<f64>,
}

fn span(text: &str) -> Result<Nanos, String> {
    match parse_span(text)? {
        Nanos::ZERO => Err("no latency is within 0".into()),
        span => Ok(span),
    }
}

impl Live {
    /// The first option that is given.
    pub(super) fn given(&self) -> Option<&'static str> {
        let all = [
            ("--time", self.time.is_some()),
            ("--slo", self.slo.is_some()),
            ("--sched", self.sched.is_some()),
            ("--cpus", self.cpus.is_some()),
            ("--no-siblings", self.no_siblings),
            ("--most", self.most.is_some()),
            ("--seconds", self.seconds.is_some()),
        ];
        all.into_iter().find_map(|(name, given)| given.then_some(name))
    }

    fn wanted(&self, objective: Objective) -> Wanted {
        let time = self.time.clone().unwrap_or_else(|| ServiceTimes::exp(Nanos::from_micros(100)));
        Wanted {
            objective,
            slo: self.slo.unwrap_or(Nanos(10 * time.mean().0)),
            time,
            sched: match self.sched {
                Some(Scheduler::Ix) => Sched::Ix,
                Some(Scheduler::Zygos) | None => Sched::Zygos(Assist::Lend),
            },
            point: Nanos((self.seconds.unwrap_or(2.0) * 1e9) as u64),
            most: usize::from(self.most.unwrap_or(48)),
        }
    }

    /// Those that are asked for, of those that there are.
    fn cpus(&self) -> Result<Vec<usize>> {
        let may = sys::thread::allowed_cores()?;
        let cpus = self.cpus.as_ref().map_or(may.clone(), |c| c.0.clone());
        if let Some(cpu) = cpus.iter().find(|cpu| !may.contains(cpu)) {
            return Err(Usage(format!(
                "--cpus: cpu {cpu} is none that this process may use; those are {}",
                show_cpus(&may)
            ))
            .into());
        }
        if cpus.len() > CPUS_MAX {
            return Err(Usage(format!("{} cpus: {CPUS_MAX} can be measured; --cpus chooses", cpus.len())).into());
        }
        Ok(cpus)
    }
}

/// `zygix pareto` on this machine.
pub(super) fn run(args: &Pareto) -> Result<()> {
    let started = lab::utc(sys::clock::wall());
    let (wanted, cpus) = (args.live.wanted(args.objective()), args.live.cpus()?);
    sys::stop::install();
    // The control plane's lock and its record of changes: while one sets clocks, the other does not, and whoever starts next takes back what a killed one has left.
    let instance = Instance::only()?;
    instance.tell(None);
    let tree = Tree::real();
    if let Some((count, errors)) = Knobs::recover(tree.clone(), instance.record()) {
        say(&format!("{} of {count} changes of one that was killed are taken back", count - errors.len()));
    }
    let mut host = Host::open(tree, Some(instance.record()), &cpus, !args.live.no_siblings)?;
    say(&host.describe());
    let told = host.lacks().len();
    host.lacks().iter().for_each(|lack| say(lack));
    let explored = explore(&mut host, &wanted);
    let left = host.restore();
    let explored = explored?;
    host.lacks().iter().skip(told).for_each(|lack| say(lack));
    explored.left_out.iter().for_each(|why| say(&format!("not measured: {why}")));
    let Some(most) = explored.configurations.iter().filter_map(|c| c.rps).max_by(f64::total_cmp) else {
        bail!("{}", nothing(&explored, &wanted));
    };
    let found = found(host.machine(), args, &explored, most);
    configurations(&explored, &wanted);
    show::frontier(&found, &format!("{} configurations measured", explored.configurations.len()), "");
    let incomplete = incomplete(&explored);
    if incomplete.is_none() {
        show::policy(args, &found);
    }
    let words = words(started, &host, &explored, &wanted);
    found.file(args, object(&found, &host, &explored, &wanted, &cpus), &words)?;
    if let Some(first) = left.first() {
        bail!("{} change(s) could not be taken back; the first: {first}", left.len());
    }
    if let Some(why) = incomplete {
        bail!("{why}");
    }
    match explored.errors {
        0 => Ok(()),
        n => bail!("{n} requests were answered wrongly"),
    }
}

/// Why no policy follows: the control plane would never go beyond what it names.
fn incomplete(explored: &Explored) -> Option<String> {
    // The first is the largest.
    let largest = explored.configurations.first().filter(|c| c.is_unknown());
    match (explored.interrupted, largest) {
        (true, _) => Some("interrupted: these are the results so far, and no policy is written".into()),
        (false, Some(c)) => {
            Some(format!("the machine was too noisy to tell what {} carry: no policy is written", c.state))
        }
        (false, None) => None,
    }
}

fn nothing(explored: &Explored, wanted: &Wanted) -> String {
    match explored.interrupted {
        true => "interrupted before anything was found".into(),
        false => format!(
            "no configuration keeps p99 within {} at any load; the machine: {}",
            format_span(wanted.slo),
            explored.noise.verdict
        ),
    }
}

/// The frontier of what was measured.
fn found<'a>(machine: &'a Machine, args: &Pareto, explored: &Explored, most: f64) -> Found<'a> {
    let objective = args.objective();
    let uses_all =
        |c: &&Configuration| c.state.cores == machine.cores() && c.state.threads == machine.threads_per_core();
    let statics = explored.configurations.iter().filter_map(|c| {
        let carries = c.rps?;
        let line = [0.0].into_iter().chain(c.samples.iter().map(|s| s.rps)).chain([carries]);
        let line = line.map(|rps| (rps, c.value(objective, rps))).collect();
        Some(Static { state: c.state, carries, leaves: !uses_all(&c), line })
    });
    Found::new(machine, objective, statics.collect(), (most, args.loads), |clock_only, rps| {
        let all = explored.configurations.iter().filter(|c| !clock_only || uses_all(c));
        best(all, objective, rps).map(|(state, value)| Best { rps, state, value })
    })
}

/// Prints what was measured of each configuration.
fn configurations(explored: &Explored, wanted: &Wanted) {
    let mut out = std::io::stdout().lock();
    let job = wanted.objective == Objective::Consolidate;
    let _ = writeln!(
        out,
        "requests of {}, p99 within {} ({}): {} windows of {:.2} s; {} of {} searches began below what a larger configuration carries",
        wanted.time,
        format_span(wanted.slo),
        wanted.sched,
        explored.windows,
        wanted.point.as_secs_f64(),
        explored.configurations.iter().filter(|c| c.bound.is_some()).count(),
        explored.configurations.len()
    );
    let _ = writeln!(out, "watts: {}; machine: {}\n", explored.source, explored.noise.verdict);
    let at = SHARES.map(|share| format!("{:.0} %", 100.0 * share)).join(" / ");
    let background = if job { format!("  {:>22}", format!("background % at {at}")) } else { String::new() };
    let _ = writeln!(
        out,
        "{:>10}  {:>22}  {:>26}{background}  configuration",
        "K req/s",
        format!("W at {at}"),
        format!("p99 us at {at}")
    );
    for c in &explored.configurations {
        let each = |of: &dyn Fn(&Sample) -> f64, decimals: usize| {
            c.samples.iter().map(|s| format!("{:.decimals$}", of(s))).collect::<Vec<_>>().join(" / ")
        };
        let most = c.rps.map_or("-".into(), |rps| format!("{:.2}", rps / 1e3));
        let unsure = match (c.is_unknown(), c.confident) {
            (true, _) => " (too noisy to tell)",
            (false, false) => " (not sure)",
            (false, true) => "",
        };
        let shares = each(&|s| 100.0 * s.background.unwrap_or(0.0), 1);
        let background = if job { format!("  {shares:>22}") } else { String::new() };
        let (watts, p99) = (each(&|s| s.watts, 1), each(&|s| s.p99_us, 0));
        let _ = writeln!(out, "{most:>10}  {watts:>22}  {p99:>26}{background}  {}{unsure}", c.state);
    }
    let _ = writeln!(out);
}

fn object(found: &Found<'_>, host: &Host, explored: &Explored, wanted: &Wanted, cpus: &[usize]) -> Map<String, Value> {
    let sample = |s: &Sample| json!({"rps": s.rps, "p99_us": s.p99_us, "busy": s.busy, "watts": s.watts, "background": s.background, "noisy": s.noisy});
    let job = wanted.objective == Objective::Consolidate;
    let of = |c: &Configuration| {
        json!({
            "state": c.state.to_string(),
            "rps": c.rps,
            "watts": c.rps.map(|rps| c.watts(rps)),
            "background": c.rps.filter(|_| job).map(|rps| c.background(rps)),
            "bound": c.bound,
            "confident": c.confident,
            "points": c.samples.iter().map(sample).collect::<Vec<_>>(),
        })
    };
    let mut object = found.object(explored.configurations.iter().map(of).collect());
    let scheduler = if wanted.sched == Sched::Ix { "ix" } else { "zygos" };
    let more = json!({
        "measured": true,
        "command": crate::bench::command_line(),
        "cpus": show_cpus(cpus),
        "source": explored.source,
        "time": wanted.time.to_string(),
        "slo_us": wanted.slo.0 as f64 / 1e3,
        "sched": scheduler,
        "seconds_per_point": wanted.point.as_secs_f64(),
        "windows": explored.windows,
        "left_out": explored.left_out,
        "lacks": host.lacks(),
        "noise": explored.noise.verdict,
        "interrupted": explored.interrupted,
    });
    object.extend(more.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())));
    object
}

fn words(started: String, host: &Host, explored: &Explored, wanted: &Wanted) -> Words {
    let name = wanted.objective.name();
    let mut notes = vec![
        format!(
            "{}. Requests of {}, p99 within {}, {}; made by the open-loop NIC on the servers' own cores. Work, not time: at a slower clock a request takes longer.",
            host.describe(),
            wanted.time,
            format_span(wanted.slo),
            wanted.sched
        ),
        format!(
            "Each configuration was looked at at {} of the highest load that it carries; values in between lie on straight lines. Watts: {}.",
            SHARES.map(|share| format!("{:.0} %", 100.0 * share)).join(", "),
            explored.source
        ),
    ];
    notes.extend(explored.left_out.iter().map(|why| format!("Not measured: {why}.")));
    notes.extend(host.lacks().iter().map(|lack| format!("{lack}.")));
    if explored.interrupted {
        notes.insert(0, "Interrupted: these are the results so far.".into());
    }
    Words {
        started,
        kind: format!("pareto-{name}-measured"),
        title: format!("Static configurations of this machine, measured: {name}"),
        how: format!(
            "{}: {}, measured; watts: {}.",
            host.machine().name(),
            report::Machine::here().cpu,
            explored.source
        ),
        noise: explored.noise.clone(),
        notes,
        seconds: wanted.point.as_secs_f64(),
        no_policy: incomplete(explored).is_some(),
    }
}

/// A line on standard error; whoever closed it does not want to know.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "pareto: {line}");
}
