use std::path::Path;

use anyhow::{Context, Result, bail};
use lab::Lab;
use lab::kinds::{
    Asked, Extent, Finding, batch, bulk, calibrate, churn, pingpong, sched, sizes, spin, stacks, truth, xdp,
};
use units::Nanos;

use crate::Usage;
use crate::bench_args::{All, Bench, Calibrate, Kind, Measuring, Plain, Stacks};

/// `zygix bench`.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    match &bench.kind {
        Kind::Stacks(args) => {
            // What makes no sense is told before anything has started.
            let rows = stacks::Rows::filtered(args.rows.as_deref()).map_err(|e| Usage(format!("--rows: {e}")))?;
            carry_out("stacks", &args.measuring, |asked| compare(args, asked, &rows))
        }
        Kind::Pingpong(args) => plain("pingpong", args, pingpong::run),
        Kind::Churn(args) => plain("churn", args, churn::run),
        Kind::Sizes(args) => plain("sizes", args, sizes::run),
        Kind::Batch(args) => plain("batch", args, batch::run),
        Kind::Spin(args) => plain("spin", args, spin::run),
        Kind::Bulk(args) => carry_out("bulk", &args.plain.measuring, |asked| {
            bulk::run(&mut Lab::build("bench")?, asked, args.plain.extent(), &args.wanted())
        }),
        Kind::Sched(args) => carry_out("sched", &args.plain.measuring, |asked| {
            sched::run(&mut Lab::build("bench")?, asked, args.plain.extent(), &args.parts())
        }),
        Kind::Xdp(args) => plain("xdp", args, xdp::run),
        Kind::Stall(args) => plain("stall", args, sched::stall::run),
        Kind::Truth(args) => carry_out("truth", &args.plain.measuring, |asked| {
            truth::run(&mut Lab::build("bench")?, asked, args.plain.extent(), args.queue())
        }),
        Kind::Connections(args) => crate::connections::run(args),
        Kind::Migrate(args) => crate::migrate::run(args),
        Kind::Energy(args) => crate::energy::run(args),
        Kind::Link(args) => crate::link::run(args),
        Kind::Calibrate(args) => calibrate(args),
        Kind::All(args) => all(args),
    }
}

/// Measures first, and writes then: a file that was there stays if somebody ends it.
fn calibrate(args: &Calibrate) -> Result<()> {
    sys::stop::install();
    let found = calibrate::run(Nanos((args.seconds * 1e9) as u64))?;
    let write = |path: &Path, object: String| {
        std::fs::write(path, object + "\n").with_context(|| format!("cannot write {}", path.display()))
    };
    if let Some(path) = &args.costs {
        write(path, serde_json::to_string_pretty(&found.costs)?)?;
    }
    if let Some(path) = &args.json {
        write(path, serde_json::to_string_pretty(&found)?)?;
    }
    print!("{}", found.table());
    Ok(())
}

fn compare(args: &Stacks, asked: &Asked, rows: &stacks::Rows) -> Result<Finding> {
    let mut lab = Lab::build("bench")?;
    lab.null = args.null;
    if args.null {
        lab.notes.push("A null comparison: the rows of Zygix are the Linux stack's, measured a second time.".into());
    }
    stacks::run(&mut lab, asked, rows)
}

/// A bench that asks for nothing but its extent.
fn plain(name: &str, args: &Plain, bench: fn(&mut Lab, &Asked, Extent) -> Result<Finding>) -> Result<()> {
    carry_out(name, &args.measuring, |asked| bench(&mut Lab::build("bench")?, asked, args.extent()))
}

/// One of the benches that `all` runs.
type Run<'a> = Box<dyn Fn(&mut Lab, &Asked) -> Result<Finding> + 'a>;

/// Every bench, with what it takes at most.
fn every<'a>(asked: &Asked, extent: Extent, rows: &'a stacks::Rows) -> Result<Vec<(&'static str, Nanos, Run<'a>)>> {
    let queue = truth::Queue::default();
    let transfers = bulk::Wanted::default();
    Ok(vec![
        ("stacks", stacks::Plan::new(asked).total(rows), Box::new(move |lab, asked| stacks::run(lab, asked, rows))),
        ("pingpong", pingpong::takes(asked, extent), Box::new(move |lab, asked| pingpong::run(lab, asked, extent))),
        ("churn", churn::takes(asked, extent), Box::new(move |lab, asked| churn::run(lab, asked, extent))),
        ("sizes", sizes::takes(asked, extent), Box::new(move |lab, asked| sizes::run(lab, asked, extent))),
        ("batch", batch::takes(asked, extent), Box::new(move |lab, asked| batch::run(lab, asked, extent))),
        ("spin", spin::takes(asked, extent), Box::new(move |lab, asked| spin::run(lab, asked, extent))),
        (
            "bulk",
            bulk::takes(asked, &transfers, extent),
            Box::new(move |lab, asked| bulk::run(lab, asked, extent, &transfers)),
        ),
        (
            "sched",
            sched::takes(asked, extent)?,
            Box::new(move |lab, asked| sched::run(lab, asked, extent, &sched::Part::ALL)),
        ),
        (
            "stall",
            sched::stall::takes(asked, extent),
            Box::new(move |lab, asked| sched::stall::run(lab, asked, extent)),
        ),
        (
            "truth",
            truth::takes(asked, extent, queue),
            Box::new(move |lab, asked| truth::run(lab, asked, extent, queue)),
        ),
    ])
}

/// All of them, one after the other. One that fails is named at the end and does not keep the others from running.
fn all(args: &All) -> Result<()> {
    let Measuring { out, json, .. } = &args.plain.measuring;
    if out.is_none() || json.is_some() {
        return Err(Usage("bench all writes a file for each bench: give --out DIR, not --json".into()).into());
    }
    // In its tiny mode the comparison is of one row.
    let filter = (args.plain.extent() == Extent::Tiny).then_some("echo-1x1+zygix");
    let rows = stacks::Rows::filtered(filter).map_err(Usage)?;
    let asked = asked(&args.plain.measuring);
    let benches = every(&asked, args.plain.extent(), &rows)?;
    let mut left = benches.iter().fold(Nanos::ZERO, |sum, b| sum + b.1);
    let mut failed = Vec::new();
    for (i, (name, takes, bench)) in benches.iter().enumerate() {
        let minutes = left.as_secs_f64() / 60.0;
        eprintln!("bench: {name}, {} of {}: at most {minutes:.0} min left in all", i + 1, benches.len());
        let done = carry_out(name, &args.plain.measuring, |asked| bench(&mut Lab::build("bench")?, asked));
        if sys::stop::requested() {
            return done;
        }
        if let Err(e) = done {
            eprintln!("bench: {name}: {e:#}");
            failed.push(*name);
        }
        left = left - *takes;
    }
    if failed.is_empty() { Ok(()) } else { bail!("{} did not go through: see above", failed.join(", ")) }
}

fn asked(measuring: &Measuring) -> Asked {
    Asked {
        command: command_line(),
        point: Nanos((measuring.seconds * 1e9) as u64),
        repeats: measuring.repeats,
        records: measuring.records,
    }
}

/// Measures, and files what came of it: also what there was when somebody ended it.
fn carry_out(name: &str, measuring: &Measuring, bench: impl FnOnce(&Asked) -> Result<Finding>) -> Result<()> {
    sys::stop::install();
    if let Some(dir) = &measuring.out {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let finding = bench(&asked(measuring))?;
    let object = serde_json::to_string_pretty(&finding.document)? + "\n";
    let write = |path: &Path| std::fs::write(path, &object).with_context(|| format!("cannot write {}", path.display()));
    if let Some(path) = &measuring.json {
        write(path)?;
    }
    if let Some(dir) = &measuring.out {
        write(&dir.join(format!("{name}.json")))?;
        crate::report::draw(dir, &dir.join("index.html"))?;
    }
    println!("{}", finding.text);
    println!("machine: {}", finding.document.noise.verdict);
    if finding.interrupted {
        bail!("interrupted: these are the results so far");
    }
    match finding.errors {
        0 => Ok(()),
        n => bail!("{n} errors: see the notes of the rows"),
    }
}

/// What was typed, as far as it makes these figures again.
pub(crate) fn command_line() -> String {
    let words = std::env::args().skip(1);
    std::iter::once("zygix".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}
