//! `cargo xtask test`: every check there is, from the cheap to the dear, ending at the first that fails.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::steps::{self, Step, Tally};
use crate::suite::Suite;
use crate::workspace::Workspace;
use crate::{counts, demo, layers, lint, needs, shell, tidy, verdicts};

/// The crate of packet scripts, and that of tests with real clients.
const SCRIPTS: &str = "testkit";
const INTEROP: &str = "tests";
/// The crates with models, in a test file that is called after the checker, for the small models and the large ones.
const LOOM: [&str; 2] = ["sync", "shuffle"];
const SHUTTLE: [&str; 1] = ["shuffle"];

/// What the command was told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Options {
    install: bool,
    from: Option<String>,
}

impl Options {
    pub(crate) fn parse(args: &[String]) -> Result<Options> {
        let mut options = Options { install: true, from: None };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match (arg.as_str(), args.as_slice()) {
                ("--no-install", _) => options.install = false,
                ("--from", [step, ..]) => {
                    options.from = Some(step.clone());
                    args.next();
                }
                ("--from", []) => bail!("--from: name a step"),
                (other, _) => bail!("what is `{other}`? There are --no-install and --from STEP"),
            }
        }
        Ok(options)
    }
}

struct Context {
    workspace: Workspace,
    options: Options,
    suite: Suite,
    logs: PathBuf,
}

const STEPS: [Step<Context>; 16] = [
    Step::new("tools", |c, t| needs::provide(&c.workspace, c.options.install, t)),
    Step::new("tidy", |c, t| one(tidy::check(&c.workspace), t)),
    Step::new("layers", |c, t| one(layers::check(&c.workspace), t)),
    Step::new("format", |c, t| one(lint::format(&c.workspace, &c.logs), t)),
    Step::new("clippy", |c, t| one(lint::clippy(&c.workspace, &c.logs), t)),
    Step::making("build", |c, _| {
        shell::run(&mut c.workspace.cargo(&["build", "--release"]), &c.logs.join("build.log"))
    }),
    Step::making("build-tests", |c, _| {
        Suite::build(&c.workspace, &c.logs.join("build-tests.log")).map(|s| c.suite = s)
    }),
    Step::new("unit", |c, t| run_suite(c, |package| package != SCRIPTS && package != INTEROP, None, t)),
    Step::new("doc", |c, t| {
        cargo_test(c.workspace.cargo(&["test", "--workspace", "--doc"]), &c.logs.join("doc.log"), t)
    }),
    Step::new("loom", |c, t| models(c, "loom", &LOOM, t)),
    Step::new("shuttle", |c, t| models(c, "shuttle", &SHUTTLE, t)),
    Step::new("scripts", |c, t| run_suite(c, |package| package == SCRIPTS, None, t)),
    Step::new("interop", |c, t| run_suite(c, |package| package == INTEROP, Some("zygix,linux,floating"), t)),
    Step::new("interop-software", |c, t| run_suite(c, |package| package == INTEROP, Some("software"), t)),
    Step::new("demo", |c, t| one(demo::check(&c.workspace, &c.logs), t)),
    Step::new("counts", |c, t| counts::guard(&c.workspace, t)),
];

/// Runs the steps.
pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::load()?;
    let logs = workspace.scratch()?;
    let mut context = Context { workspace, options: options.clone(), suite: Suite::default(), logs };
    steps::run_all("test", &STEPS, options.from.as_deref(), &mut context)
}

fn one(outcome: Result<()>, tally: &mut Tally) -> Result<()> {
    outcome.map(|()| tally.pass())
}

/// Runs test programs; `stacks` is what servers of interop tests run on.
fn run_suite(c: &mut Context, of: fn(&str) -> bool, stacks: Option<&str>, tally: &mut Tally) -> Result<()> {
    let mut env = vec![("ZYGIX_BIN", c.workspace.release("zygix")), ("ZYGIX_VENV", needs::venv(&c.workspace))];
    env.extend(stacks.map(|list| ("ZYGIX_STACKS", PathBuf::from(list))));
    c.suite.run(of, &env, &c.logs, tally)
}

/// Models, under a checker and in a target directory of its own: the flag would rebuild everything in the common one, twice.
fn models(c: &mut Context, checker: &str, packages: &[&str], tally: &mut Tally) -> Result<()> {
    let mut command = c.workspace.cargo(&["test", "--release", "--test", checker]);
    for package in packages {
        command.args(["--package", package]);
    }
    command.env("RUSTFLAGS", format!("--cfg {checker}")).env("CARGO_TARGET_DIR", c.workspace.target.join(checker));
    cargo_test(command, &c.logs.join(format!("{checker}.log")), tally)
}

/// Runs `cargo test` and counts.
fn cargo_test(mut command: Command, log: &Path, tally: &mut Tally) -> Result<()> {
    shell::run(&mut command, log)?;
    let output = std::fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
    let verdicts = verdicts::read(&String::from_utf8_lossy(&output));
    tally.passed += verdicts.passed;
    tally.skipped.extend(verdicts.skipped);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&words)
    }

    #[test]
    fn options_are_understood() {
        assert_eq!(parse("").unwrap(), Options { install: true, from: None });
        assert_eq!(parse("--from demo --no-install").unwrap(), Options { install: false, from: Some("demo".into()) });
        assert!(parse("--from").is_err() && parse("fast").is_err());
    }

    #[test]
    fn steps_have_names_of_their_own() {
        for (i, step) in STEPS.iter().enumerate() {
            assert!(STEPS[..i].iter().all(|s| s.name != step.name), "{} twice", step.name);
        }
    }
}
