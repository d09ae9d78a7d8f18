//! `zygix ctl`: what running dataplanes say of themselves, and commands for them.
//!
//! | file | what |
//! |---|---|
//! | `args.rs` | the command line |
//! | `tables.rs` | answers for people |

pub(crate) mod args;
mod tables;

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use abi::{Answer, Command, GroupList};
use anyhow::Context;
use attach::{Dataplane, Found, Presence, Snapshot};
use serde_json::{Value, json};
use units::GroupSet;

use crate::Usage;
use args::{Ctl, What};

/// Rates are of the time between two looks, so far apart.
const WINDOW: Duration = Duration::from_millis(200);

/// `zygix ctl`
pub(crate) fn run(ctl: &Ctl) -> anyhow::Result<()> {
    let command = match &ctl.what {
        What::List => return list(ctl),
        What::Cores => return cores(ctl),
        What::Groups => return groups(ctl),
        What::Move { groups, to } => return move_groups(ctl, *groups, target(to)?),
        What::Park { core } => Command::Park { core: *core },
        What::Unpark { core } => Command::Unpark { core: *core, more: 0 },
        What::Pin { core, cpu } => Command::Pin { core: *core, cpu: cpu_of(cpu)? },
        What::Log => Command::Log,
        What::Dump => Command::Dump,
    };
    let answer = attach(ctl)?.command(&command)?;
    match &answer {
        Answer::Moved(moves) | Answer::Log(moves) => say(ctl, || json!(moves), || tables::moves(moves)),
        Answer::Pinned => say(ctl, || json!({ "pinned": true }), || "pinned\n".into()),
        Answer::Dump(dump) => say(ctl, || json!(dump), || tables::dump(dump)),
        Answer::Hello(_) | Answer::Cores(_) | Answer::Groups(_) => say(ctl, || json!(answer), String::new),
    }
}

/// Groups that are there already stay: who writes a range means the others. If all are, the dataplane says so.
fn move_groups(ctl: &Ctl, groups: GroupList, to: u16) -> anyhow::Result<()> {
    let mut dataplane = attach(ctl)?;
    let Answer::Groups(owners) = dataplane.command(&Command::Groups)? else {
        anyhow::bail!("the dataplane was asked for its flow groups and said something else");
    };
    let elsewhere: GroupSet = groups.0.iter().filter(|g| owners.get(g.index()) != Some(&to)).collect();
    let groups = if elsewhere.is_empty() { groups } else { GroupList(elsewhere) };
    let answer = dataplane.command(&Command::Move { groups, to })?;
    let Answer::Moved(moves) = &answer else { anyhow::bail!("the dataplane was told to move and said something else") };
    say(ctl, || json!(moves), || tables::moves(moves))
}

/// `to 1`, or `1`.
fn target(words: &[String]) -> Result<u16, Usage> {
    let number = match words {
        [to, core] if to == "to" => core,
        [core] => core,
        _ => return Err(Usage("move: it reads `zygix ctl move 0-15,40 to 1`".into())),
    };
    number.parse().map_err(|_| Usage(format!("move: {number} is no core: they are numbered from 0 on")))
}

fn cpu_of(text: &str) -> Result<Option<u32>, Usage> {
    if text == "any" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| Usage(format!("pin: {text} is no hardware thread: a number, or `any`")))
}

fn attach(ctl: &Ctl) -> anyhow::Result<Dataplane> {
    let attached = match &ctl.name {
        Some(name) => Dataplane::attach(name),
        None => Dataplane::attach_only(),
    };
    Ok(attached?)
}

/// Two snapshots, for rates.
fn two(ctl: &Ctl) -> anyhow::Result<(Dataplane, Snapshot, Snapshot)> {
    let dataplane = attach(ctl)?;
    let before = dataplane.snapshot()?;
    std::thread::sleep(WINDOW);
    let after = dataplane.snapshot()?;
    Ok((dataplane, before, after))
}

fn list(ctl: &Ctl) -> anyhow::Result<()> {
    let mut all = attach::list();
    if let Some(name) = &ctl.name {
        all.retain(|found| found.name == *name);
    }
    let object = || Value::Array(all.iter().map(found_json).collect());
    say(ctl, object, || tables::list(&all))
}

fn found_json(found: &Found) -> Value {
    let (state, hello, why) = match &found.presence {
        Presence::Live(hello) => ("live", Some(hello), None),
        Presence::Stale => ("stale", None, None),
        Presence::Unwilling(e) => ("unwilling", None, Some(e.to_string())),
    };
    json!({ "name": found.name, "socket": found.socket, "state": state, "hello": hello, "why": why })
}

fn cores(ctl: &Ctl) -> anyhow::Result<()> {
    let (dataplane, before, after) = two(ctl)?;
    let object = || json!({ "name": dataplane.hello().name, "snapshot": after });
    say(ctl, object, || tables::cores(dataplane.hello(), &before, &after))
}

fn groups(ctl: &Ctl) -> anyhow::Result<()> {
    let (mut dataplane, before, after) = two(ctl)?;
    let Answer::Groups(owners) = dataplane.command(&Command::Groups)? else {
        anyhow::bail!("the dataplane was asked for its flow groups and said something else");
    };
    let rows = || {
        let loads = owners.iter().zip(&after.group_load).enumerate();
        Value::Array(
            loads.map(|(group, (core, frames))| json!({ "group": group, "core": core, "frames": frames })).collect(),
        )
    };
    say(ctl, rows, || tables::groups(&owners, &before, &after))
}

/// Prints the answer, or files it.
fn say(ctl: &Ctl, object: impl FnOnce() -> Value, text: impl FnOnce() -> String) -> anyhow::Result<()> {
    let pretty = |value| serde_json::to_string_pretty(&value).map(|text| text + "\n");
    match &ctl.json {
        Some(path) if path == Path::new("-") => print(&pretty(object())?),
        Some(path) => std::fs::write(path, pretty(object())?).with_context(|| format!("{}", path.display()))?,
        None => print(&text()),
    }
    Ok(())
}

/// Whoever closed standard output does not want to know.
fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
