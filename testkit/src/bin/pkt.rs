//! Runs packet scripts and shows what happened: `pkt [--on engine|super|whole|whole6|linux]... FILE...` (default: engine and linux).
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

use testkit::engine::Engine;
use testkit::script::Linux;
use testkit::whole::{Whole, WholeV6};
use testkit::{Make, Script, linux, load, run};

const USAGE: &str = "usage: pkt [--on engine|super|whole|whole6|linux]... FILE.pkt...\n\
                     Runs each script on each stack named (default: engine and linux) and prints the trace.";

fn main() -> ExitCode {
    let (mut stacks, mut files) = (Vec::new(), Vec::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--on" => stacks.extend(args.next()),
            "-h" | "--help" => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            _ => files.push(arg),
        }
    }
    if files.is_empty() {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    if stacks.is_empty() {
        stacks = vec!["engine".into(), "linux".into()];
    }
    let mut good = true;
    for file in &files {
        match load(Path::new(file)) {
            Ok(script) => stacks.iter().for_each(|stack| good &= show(&script, stack)),
            Err(error) => {
                eprintln!("{error}");
                good = false;
            }
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints one run; whether it went as written.
fn show(script: &Script, stack: &str) -> bool {
    println!("== {} on {stack}: {}", script.name, script.about);
    let outcome = match stack {
        "engine" => on(script, &Engine::Segments),
        "super" => on(script, &Engine::SuperSegments),
        "whole" => on(script, &Whole),
        "whole6" => on(script, &WholeV6),
        "linux" => {
            match &script.linux {
                Linux::Agrees => {}
                Linux::Unasked(why) => {
                    println!("   not asked: {why}\n");
                    return true;
                }
                Linux::Differs(why) => println!("   Linux differs: {why}"),
            }
            linux::run_on_linux(script)
        }
        other => {
            eprintln!("no stack is called `{other}`\n{USAGE}");
            return false;
        }
    };
    println!("{outcome}");
    outcome.passed() || outcome.unasked.is_some()
}

fn on(script: &Script, stack: &dyn Make) -> testkit::Run {
    let mut subject = stack.make(&script.config).expect("a stack of ours can always be made");
    run(script, subject.as_mut())
}
