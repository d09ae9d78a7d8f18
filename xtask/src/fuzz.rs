//! `cargo xtask fuzz`: libFuzzer on the targets of the crate `fuzz`, each for some minutes.
//!
//! The build marks every edge of the code under test, which stable Rust can; address sanitizers it cannot, and what they would find is left to the few rooms with
//! unsafe code. Finds are kept in the target folder, so that the next run goes on from there; `--keep` takes what reaches new code into the committed corpus.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::shell;
use crate::workspace::Workspace;

/// Minutes for each.
const MINUTES: u64 = 15;
/// What marks the edges for libFuzzer.
const EDGES: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0";

/// What the command was told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Options {
    names: Vec<String>,
    seconds: u64,
    keep: bool,
}

impl Options {
    pub(crate) fn parse(args: &[String]) -> Result<Options> {
        let mut options = Options { names: Vec::new(), seconds: 60 * MINUTES, keep: false };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--minutes" => {
                    let n = args.next().and_then(|n| n.parse::<f64>().ok()).filter(|n| (0.01..=10_000.0).contains(n));
                    options.seconds = (60.0 * n.context("--minutes: say how many for each target")?) as u64;
                }
                "--keep" => options.keep = true,
                name if !name.starts_with('-') => options.names.push(name.to_owned()),
                other => bail!("no option is called `{other}`; there are --minutes N and --keep"),
            }
        }
        Ok(options)
    }
}

/// Where things are.
struct Places {
    sources: PathBuf,
    finds: PathBuf,
    program: PathBuf,
}

/// `cargo xtask fuzz`
pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::load()?;
    let names = chosen(&targets(&workspace.root)?, &options.names)?;
    let places = build(&workspace)?;
    let (rest, outcomes) = (Mutex::new(names), Mutex::new(Vec::new()));
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(name) = rest.lock().ok().and_then(|mut rest| rest.pop()) {
                    let outcome = fuzz(&places, &name, options).with_context(|| name.clone());
                    match &outcome {
                        Ok(line) => println!("{line}"),
                        Err(e) => println!("{name}: FOUND SOMETHING: {e:#}"),
                    }
                    outcomes.lock().map(|mut all| all.push(outcome)).unwrap_or_default();
                }
            });
        }
    });
    let failed = outcomes.into_inner().unwrap_or_else(|e| e.into_inner()).iter().filter(|o| o.is_err()).count();
    if failed > 0 {
        bail!("{failed} of the targets failed; what broke them is in {}", places.finds.display());
    }
    Ok(())
}

/// All targets: each has a folder in the corpus (`fuzz/tests/short.rs` sees to that).
fn targets(root: &Path) -> Result<Vec<String>> {
    let corpus = root.join("fuzz").join("corpus");
    let folders = std::fs::read_dir(&corpus).with_context(|| format!("cannot list {}", corpus.display()))?;
    let mut names = Vec::new();
    for folder in folders {
        names.push(folder?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Those that were named, or all.
fn chosen(all: &[String], named: &[String]) -> Result<Vec<String>> {
    if let Some(wrong) = named.iter().find(|name| !all.contains(name)) {
        bail!("no target is called `{wrong}`; there are: {}", all.join(", "));
    }
    Ok(if named.is_empty() { all.to_vec() } else { named.to_vec() })
}

/// Builds the fuzzer, apart from other builds, for its flags are its own.
fn build(workspace: &Workspace) -> Result<Places> {
    let target = workspace.target.join("fuzz");
    let host = host()?;
    let log = target.join("build.log");
    std::fs::create_dir_all(&target).with_context(|| format!("cannot make {}", target.display()))?;
    let args = ["build", "--locked", "-p", "fuzz", "--features", "engine", "--bin", "fuzz", "--target", &host];
    let mut cargo = workspace.cargo(&args);
    // With a target named, build scripts and macros are spared the flags.
    cargo.env("RUSTFLAGS", EDGES).env("CARGO_TARGET_DIR", &target).env("CARGO_PROFILE_DEV_OPT_LEVEL", "2");
    println!("building the fuzzer ...");
    shell::run(&mut cargo, &log).context("the fuzzer does not build (it needs a C++ compiler: apt install g++)")?;
    let program = target.join(host).join("debug").join("fuzz");
    Ok(Places { sources: workspace.root.join("fuzz"), finds: target.join("finds"), program })
}

fn host() -> Result<String> {
    let out = Command::new("rustc").arg("-vV").output().context("rustc does not run")?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}

/// One target, until its time is over or something breaks; what it came to.
fn fuzz(places: &Places, name: &str, options: &Options) -> Result<String> {
    let own = places.finds.join(name);
    std::fs::create_dir_all(&own).with_context(|| format!("cannot make {}", own.display()))?;
    let committed = places.sources.join("corpus").join(name);
    let dictionary = places.sources.join("dictionaries").join(format!("{name}.dict"));
    let log = places.finds.join(format!("{name}.log"));
    let mut fuzzer = fuzzer(places, name);
    fuzzer
        .arg(format!("-max_total_time={}", options.seconds))
        .arg(format!("-dict={}", dictionary.display()))
        .arg(format!("-artifact_prefix={}/broke-{name}-", places.finds.display()))
        .args(["-max_len=4096", "-timeout=20", "-rss_limit_mb=4096", "-print_final_stats=1"])
        .args([&own, &committed]);
    let began = Instant::now();
    // It ends by itself; one that does not hangs in a run.
    shell::run_within(&mut fuzzer, &log, Some(Duration::from_secs(options.seconds + 120)))?;
    let took = began.elapsed().as_secs();
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    let said = |what: &str| text.lines().rev().find_map(|line| line.strip_prefix(what)).map(str::trim).unwrap_or("?");
    let edges = text.lines().rev().find_map(|line| line.split("cov: ").nth(1)?.split(' ').next()).unwrap_or("?");
    if options.keep {
        keep(places, name, &own, &committed)?;
    }
    let runs = said("stat::number_of_executed_units:");
    Ok(format!("{name}: {runs} runs in {took} s, {edges} edges reached, nothing broke"))
}

/// Takes into the committed corpus what reaches code that nothing there does.
fn keep(places: &Places, name: &str, own: &Path, committed: &Path) -> Result<()> {
    let log = places.finds.join(format!("{name}.merge.log"));
    shell::run(fuzzer(places, name).arg("-merge=1").args([committed, own]), &log)
}

fn fuzzer(places: &Places, name: &str) -> Command {
    let mut command = Command::new(&places.program);
    command.env("ZYGIX_FUZZ", name);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read_or_refused() {
        let options = parse("kv frames --minutes 0.5 --keep").unwrap();
        assert_eq!(options, Options { names: vec!["kv".into(), "frames".into()], seconds: 30, keep: true });
        assert_eq!(parse("").unwrap().seconds, 900);
        for wrong in ["--minutes", "--minutes x", "--minutes 0", "--tcp"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn targets_are_those_of_the_corpus() {
        let all = targets(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))).unwrap();
        assert!(all.iter().any(|name| name == "parsers"), "{all:?}");
        assert_eq!(chosen(&all, &[]).unwrap(), all);
        assert_eq!(chosen(&all, &["kv".into()]).unwrap(), ["kv"]);
        assert!(chosen(&all, &["tcp".into()]).unwrap_err().to_string().contains("segments"));
    }
}
