//! `cargo xtask mutations`: the shuffle layer, broken on purpose, one line at a time. Does the simulator's campaign see it, or a curve?
//!
//! A copy of the sources is built and judged (sim/world/examples/judge.rs) as it is, then with each line of the [table](crate::mutants) broken. *Caught* is one that
//! breaks a seed; that makes the fixed worlds slower than the unbroken ones, from each of their seeds; or with which the judge does not come to its end.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::mutants::{MUTANTS, Mutant};
use crate::shell;
use crate::workspace::Workspace;

/// Seeds of the campaign: as many as the ordinary test suite runs.
const SEEDS: u64 = 200;
/// A curve is worse if it is by this factor, from each seed.
const WORSE: f64 = 1.2;
/// A judge that has said nothing for so long makes no progress.
const SILENCE: Duration = Duration::from_secs(60);
/// Nor does one that has not ended by then, with a second more for each ten seeds.
const LIMIT: Duration = Duration::from_secs(300);
/// A build takes no longer.
const BUILD: Duration = Duration::from_secs(1200);

/// What the command was told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Options {
    names: Vec<String>,
    seeds: u64,
}

impl Options {
    pub(crate) fn parse(args: &[String]) -> Result<Options> {
        let mut options = Options { names: Vec::new(), seeds: SEEDS };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--seeds" => {
                    let n = args.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
                    options.seeds = n.context("--seeds: say how many")?;
                }
                name if MUTANTS.iter().any(|m| m.name == name) => options.names.push(name.to_owned()),
                other => {
                    let names: Vec<&str> = MUTANTS.iter().map(|m| m.name).collect();
                    bail!("no mutation is called `{other}`; there are: {}; and --seeds N", names.join(", "));
                }
            }
        }
        Ok(options)
    }

    fn wants(&self, mutant: &Mutant) -> bool {
        self.names.is_empty() || self.names.iter().any(|n| n == mutant.name)
    }
}

/// A fixed world from one seed: p50, p99 and mean in nanoseconds, and requests without a right answer.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Curve {
    times: [f64; 3],
    errors: u64,
}

/// By world, then seed.
type Curves = BTreeMap<String, BTreeMap<u64, Curve>>;

/// What the judge says.
#[derive(Clone, PartialEq, Debug)]
enum Verdict {
    /// A promise is broken.
    Broken { seed: u64, what: String },
    /// None is, and so long did the worlds take.
    Holds(Curves),
    /// It was killed, in the middle of this.
    Stuck(String),
}

/// Runs the judge on the sources as they are, then on each mutation.
///
/// # Errors
/// One is not caught; the unbroken build is; a line is not where the table says; something does not build.
pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::load()?;
    let wanted: Vec<&Mutant> = MUTANTS.iter().filter(|m| options.wants(m)).collect();
    let place = Place::new(&workspace)?;
    print!("{:<34} ", "as it is");
    let _ = std::io::stdout().flush();
    let began = Instant::now();
    place.build("as-it-is")?;
    let unbroken = place.program()?;
    let reference = match judge(&place, options.seeds)? {
        Verdict::Holds(curves) => curves,
        Verdict::Broken { seed, what } => bail!("not even the unbroken build passes, seed {seed}: {what}"),
        Verdict::Stuck(at) => bail!("not even the unbroken build comes to an end: {at}"),
    };
    println!("{} seeds hold, {} worlds  {:.0} s", options.seeds, reference.len(), began.elapsed().as_secs_f64());
    let mut missed = Vec::new();
    for mutant in &wanted {
        print!("{:<34} ", mutant.name);
        let _ = std::io::stdout().flush();
        let (caught, took) = place.with(mutant, || {
            place.build(mutant.name)?;
            if place.program()? == unbroken {
                bail!("`{}` has built the same program: its line is not compiled into the judge", mutant.name);
            }
            let began = Instant::now();
            Ok((caught(&judge(&place, options.seeds)?, &reference), began.elapsed()))
        })?;
        let by = caught.as_deref().unwrap_or("NOT CAUGHT");
        println!("{by}  {:.1} s\n{:34} (breaks: {})", took.as_secs_f64(), "", mutant.breaks);
        if caught.is_none() {
            missed.push(mutant.name);
        }
    }
    if !missed.is_empty() {
        bail!("{} of {} mutations were not caught: {}", missed.len(), wanted.len(), missed.join(", "));
    }
    println!("all {} mutations were caught", wanted.len());
    Ok(())
}

/// By what a mutation was caught, if it was.
fn caught(verdict: &Verdict, reference: &Curves) -> Option<String> {
    match verdict {
        Verdict::Broken { seed, what } => {
            let what = what.strip_prefix(&format!("seed {seed}: ")).unwrap_or(what);
            Some(format!("seed {seed}: {what}"))
        }
        Verdict::Stuck(at) => Some(format!("no progress: {at}")),
        Verdict::Holds(curves) => worse(curves, reference),
    }
}

/// The first world that is clearly worse than the reference's, and by how much. All seeds have to agree, for chance moves a single one.
fn worse(curves: &Curves, reference: &Curves) -> Option<String> {
    for (world, before) in reference {
        let Some(after) = curves.get(world).filter(|a| a.len() == before.len()) else {
            return Some(format!("curve: the world `{world}` failed"));
        };
        let errors: u64 = after.values().map(|c| c.errors).sum();
        if errors > 0 {
            return Some(format!("curve: {errors} requests of `{world}` have no right answer"));
        }
        for (i, what) in ["p50", "p99", "mean"].into_iter().enumerate() {
            let ratio = |(seed, b): (&u64, &Curve)| after.get(seed).map_or(f64::INFINITY, |a| a.times[i] / b.times[i]);
            let least = before.iter().map(ratio).fold(f64::INFINITY, f64::min);
            if least >= WORSE {
                return Some(format!("curve: {what} of `{world}` is {least:.2} times as long, or more"));
            }
        }
    }
    None
}

/// Builds and runs the judge, and understands what it says.
fn judge(place: &Place, seeds: u64) -> Result<Verdict> {
    let program = place.judge();
    let mut command = Command::new(&program);
    command.arg(seeds.to_string()).current_dir(&place.tree);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
    let out = child.stdout.take().context("the judge has no output")?;
    let (tell, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        BufReader::new(out).lines().map_while(Result::ok).for_each(|line| _ = tell.send(line));
    });
    let end = Instant::now() + LIMIT + Duration::from_secs(seeds / 10);
    let mut heard = Heard::default();
    let stuck = loop {
        match lines.recv_timeout(SILENCE.min(end.saturating_duration_since(Instant::now()))) {
            Ok(line) => heard.line(&line),
            Err(mpsc::RecvTimeoutError::Disconnected) => break false,
            Err(mpsc::RecvTimeoutError::Timeout) => break true,
        }
    };
    if stuck {
        child.kill()?;
    }
    let status = child.wait()?;
    let _ = reader.join();
    Ok(match (stuck, heard.broken) {
        (_, Some((seed, what))) => Verdict::Broken { seed, what },
        (true, None) => Verdict::Stuck(format!("{} did not end", Vec::from_iter(heard.open).join(", "))),
        (false, None) if status.success() => Verdict::Holds(heard.curves),
        // Killed by its own hand, as by a stack that overflows.
        (false, None) => {
            Verdict::Stuck(format!("{} ended the judge ({status})", Vec::from_iter(heard.open).join(", ")))
        }
    })
}

/// The judge's lines so far.
#[derive(Default)]
struct Heard {
    open: BTreeSet<String>,
    broken: Option<(u64, String)>,
    curves: Curves,
}

impl Heard {
    fn line(&mut self, line: &str) {
        let Ok(line) = serde_json::from_str::<Value>(line) else { return };
        let text = |key: &str| line[key].as_str().map(str::to_owned);
        if let Some(what) = text("begins") {
            self.open.insert(what);
        } else if let Some(what) = text("ends") {
            self.open.remove(&what);
        } else if let Some(seed) = line["broken"].as_u64() {
            self.broken = Some((seed, text("what").unwrap_or_default()));
        } else if let (Some(world), Some(seed)) = (text("world"), line["seed"].as_u64()) {
            let times = ["p50", "p99", "mean"].map(|key| line[key].as_f64().unwrap_or(f64::INFINITY));
            let errors = line["errors"].as_u64().unwrap_or(1);
            self.curves.entry(world).or_default().insert(seed, Curve { times, errors });
        }
    }
}

/// The copy that is broken in the project's stead, and its builds.
struct Place {
    tree: PathBuf,
    target: PathBuf,
    logs: PathBuf,
}

impl Place {
    /// Copies the sources, those that git knows or would be told of. Files that are equal stay as they are, so that nothing is built in vain.
    fn new(workspace: &Workspace) -> Result<Place> {
        let base = workspace.target.join("mutations");
        let place = Place { tree: base.join("tree"), target: base.join("build"), logs: base.join("logs") };
        for dir in [&place.tree, &place.logs] {
            std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        let args = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let mut git = Command::new("git");
        let listed = shell::output_of(git.current_dir(&workspace.root).args(args), &place.logs.join("git.log"))?;
        let files: BTreeSet<&Path> = listed.split('\0').filter(|f| !f.is_empty()).map(Path::new).collect();
        for file in &files {
            // What git knows may have been deleted.
            if let Ok(bytes) = std::fs::read(workspace.root.join(file)) {
                write(&place.tree.join(file), &bytes)?;
            } else {
                let _ = std::fs::remove_file(place.tree.join(file));
            }
        }
        prune(&place.tree, &place.tree, &files)?;
        Ok(place)
    }

    /// Where the judge is, once it is built.
    fn judge(&self) -> PathBuf {
        self.target.join("debug/examples/judge")
    }

    /// Its bytes.
    fn program(&self) -> Result<Vec<u8>> {
        let file = self.judge();
        std::fs::read(&file).with_context(|| format!("no {}", file.display()))
    }

    /// Builds the judge in the copy. One that was there before does not pass for it.
    fn build(&self, name: &str) -> Result<()> {
        let _ = std::fs::remove_file(self.judge());
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.target);
        cargo.args(["build", "--package", "world", "--example", "judge"]);
        let log = self.logs.join(format!("{name}.log"));
        shell::run_within(&mut cargo, &log, Some(BUILD)).with_context(|| format!("`{name}` does not build"))
    }

    /// Calls `what` with the mutation in the copy, and mends it again.
    fn with<R>(&self, mutant: &Mutant, what: impl FnOnce() -> Result<R>) -> Result<R> {
        let file = self.tree.join(mutant.file);
        let right = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", mutant.file))?;
        let wrong = broken(&right, mutant)?;
        write(&file, wrong.as_bytes())?;
        let outcome = what();
        write(&file, right.as_bytes())?;
        outcome
    }
}

/// The file's text with the mutation in it.
fn broken(text: &str, mutant: &Mutant) -> Result<String> {
    let Mutant { name, file, right, wrong, .. } = mutant;
    match text.matches(right).count() {
        1 => Ok(text.replacen(right, wrong, 1)),
        n => {
            bail!("the line that `{name}` breaks is {n} times in {file}: the code has moved; mend xtask/src/mutants.rs")
        }
    }
}

/// Writes a file unless it says that already.
fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    if std::fs::read(file).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    std::fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))
}

/// Removes files of an earlier copy that are not the project's any more.
fn prune(tree: &Path, dir: &Path, files: &BTreeSet<&Path>) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            prune(tree, &path, files)?;
        } else if path.strip_prefix(tree).is_ok_and(|p| !files.contains(p)) && path != tree.join("Cargo.lock") {
            std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever moves a line moves it here, too.
    #[test]
    fn each_mutation_has_its_line() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for (i, mutant) in MUTANTS.iter().enumerate() {
            let text = std::fs::read_to_string(root.join(mutant.file)).unwrap();
            let wrong = broken(&text, mutant).unwrap();
            assert!(wrong != text && MUTANTS[..i].iter().all(|m| m.name != mutant.name), "{}", mutant.name);
        }
        assert!(broken("moved", &MUTANTS[0]).unwrap_err().to_string().contains("0 times"));
    }

    fn curves(p99: [f64; 2], errors: u64) -> Curves {
        let seeds = (1..).zip(p99).map(|(seed, p99)| (seed, Curve { times: [10.0, p99, 12.0], errors })).collect();
        Curves::from([("w".to_owned(), seeds)])
    }

    #[test]
    fn a_curve_is_worse_if_all_seeds_say_so() {
        let before = curves([100.0, 200.0], 0);
        assert_eq!(worse(&before, &before), None);
        assert_eq!(worse(&curves([300.0, 200.0], 0), &before), None);
        assert!(worse(&curves([130.0, 250.0], 0), &before).unwrap().contains("p99 of `w` is 1.25 times"));
        assert!(worse(&curves([100.0, 200.0], 1), &before).unwrap().contains("no right answer"));
        assert!(worse(&Curves::new(), &before).unwrap().contains("failed"));
    }

    #[test]
    fn what_the_judge_says_is_understood() {
        let mut heard = Heard::default();
        for line in [
            r#"{"begins":"seed 1"}"#,
            r#"{"begins":"seed 2"}"#,
            r#"{"ends":"seed 1"}"#,
            r#"{"world":"w","seed":1,"p50":10,"p99":100,"mean":12.0,"steal_rate":0.1,"errors":0}"#,
            r#"{"broken":7,"what":"why"}"#,
            "nonsense",
        ] {
            heard.line(line);
        }
        assert_eq!(Vec::from_iter(heard.open), ["seed 2"]);
        assert_eq!(heard.broken, Some((7, "why".to_owned())));
        assert_eq!(heard.curves["w"][&1], Curve { times: [10.0, 100.0, 12.0], errors: 0 });
    }

    #[test]
    fn options_are_understood() {
        let parse = |line: &str| Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(parse("").unwrap(), Options { names: vec![], seeds: SEEDS });
        let one = parse("lost-wake-up --seeds 10000").unwrap();
        assert_eq!((one.names.as_slice(), one.seeds), (&["lost-wake-up".to_owned()][..], 10_000));
        assert!(one.wants(MUTANTS.iter().find(|m| m.name == "lost-wake-up").unwrap()) && !one.wants(&MUTANTS[0]));
        assert!(parse("nonsense").is_err() && parse("--seeds").is_err() && parse("--seeds 0").is_err());
    }
}
