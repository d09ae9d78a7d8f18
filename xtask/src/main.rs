//! The project's own commands, `cargo xtask <command>`: what a contributor and the CI run, in one place.
//!
//! | file | what |
//! |---|---|
//! | `test.rs` | `test`: every check there is, in order |
//! | `lint.rs` | `lint`: tidy, layers, format, clippy |
//! | `layers.rs` | `layers`: which crate may depend on which |
//! | `tidy.rs` | the rules that no compiler knows |
//! | `bench.rs`, `counts.rs` | `bench`: programs that measure; instructions per request against a reference |
//! | `fuzz.rs` | `fuzz`: libFuzzer on the targets of the crate `fuzz` |
//! | `mutations.rs`, `mutants.rs` | `mutations`: builds that are broken on purpose, and what catches them |
//! | `demo.rs` | a short run of the demo, its JSON checked |
//! | `suite.rs`, `verdicts.rs` | test programs: built once, run in groups; what they print, counted |
//! | `needs.rs` | programs from outside: found, installed, or named with the command that installs them |
//! | `steps.rs` | progress, times, skips, the summary |
//! | `workspace.rs`, `shell.rs` | cargo's view of the workspace; running programs with a log |
//!
//! Deliberately absent: anything that a plain `cargo` command does as well.
#![forbid(unsafe_code)]

mod bench;
mod counts;
mod demo;
mod fuzz;
mod layers;
mod lint;
mod mutants;
mod mutations;
mod needs;
mod shell;
mod steps;
mod suite;
mod test;
mod tidy;
mod verdicts;
mod workspace;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

  test [--no-install] [--from STEP]   everything that CI checks; installs missing tools where it may
  lint                                tidy, layers, format, clippy
  layers                              which crate may depend on which
  bench [NAME...] [--tiny] [--out DIR]
                                      runs the benches (all, or those named); results as JSON and markdown in DIR
  bench counts [--update]             instructions per request against bench/reference.json
  fuzz [TARGET...] [--minutes N] [--keep]
                                      libFuzzer on whatever a peer may send (all targets, 15 minutes each); needs a C++ compiler
  mutations [NAME...] [--seeds N]     breaks the shuffle layer, a line at a time: does the simulator's campaign, or a curve, catch it?";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match args.split_first() {
        Some((first, rest)) => (first.as_str(), rest),
        None => ("help", &[][..]),
    };
    let outcome = match command {
        "test" => test::Options::parse(rest).and_then(|options| test::run(&options)),
        "lint" => no_more(rest).and_then(|()| lint::run()),
        "layers" => no_more(rest).and_then(|()| layers::run()),
        "bench" => bench::Options::parse(rest).and_then(|options| bench::run(&options)),
        "fuzz" => fuzz::Options::parse(rest).and_then(|options| fuzz::run(&options)),
        "mutations" => mutations::Options::parse(rest).and_then(|options| mutations::run(&options)),
        "help" | "-h" | "--help" => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        other => Err(anyhow::anyhow!("no command `{other}`\n{USAGE}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why:#}");
            ExitCode::FAILURE
        }
    }
}

fn no_more(rest: &[String]) -> anyhow::Result<()> {
    match rest.first() {
        None => Ok(()),
        Some(arg) => Err(anyhow::anyhow!("what is `{arg}`?\n{USAGE}")),
    }
}
