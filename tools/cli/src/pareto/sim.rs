use anyhow::{Context, Result};
use energy::{Frontier, Service};
use machine::{Machine, State};
use report::Noise;
use serde_json::{Value, json};

use super::show::{Words, frontier, policy};
use super::{Found, Objective, Pareto, Static};

fn load(name: &str) -> Result<Machine> {
    if name.ends_with(".toml") {
        let text = std::fs::read_to_string(name).with_context(|| format!("cannot read {name}"))?;
        return Machine::parse(&text).with_context(|| name.to_owned());
    }
    Ok(Machine::builtin(name)?)
}

/// `zygix pareto --sim`.
pub(super) fn run(args: &Pareto, name: &str) -> Result<()> {
    let started = lab::utc(sys::clock::wall());
    let machine = load(name)?;
    let usr = Service::usr();
    // The service's rate belongs to the thesis's machine: another does what its cores do, at the same time for a request.
    let reference = Machine::builtin("e5-2665")?;
    let most = usr.most_rps * usr.does(&machine, &machine.most()) / usr.does(&reference, &reference.most());
    let service = Service { most_rps: most, ..usr };
    let (all, objective) = (Frontier::new(&machine, &service), args.objective());
    let clocks = all.clock_only();
    let statics = machine.states().iter().map(|s| of(&machine, &service, objective, s)).collect();
    let found = Found::new(&machine, objective, statics, (most, args.loads), |clock_only, rps| {
        let of = if clock_only { &clocks } else { &all };
        match objective {
            Objective::Energy => of.energy(rps),
            Objective::Consolidate => of.background(rps),
        }
    });
    frontier(&found, &format!("{} configurations", found.statics.len()), " (45 of 224 in the thesis, energy)");
    policy(args, &found);
    let state = |s: &Static| json!({"state": s.state.to_string(), "rps": s.carries, "watts": machine.power_w(&s.state, service.full)});
    let object = found.object(found.statics.iter().map(state).collect::<Vec<Value>>());
    let words = Words {
        started,
        kind: format!("pareto-{}", objective.name()),
        title: format!("Static configurations: {}", objective.name()),
        how: format!("{}, modelled.", machine.name()),
        noise: Noise { verdict: "modelled: no noise".into(), ..Noise::default() },
        ..Words::default()
    };
    found.file(args, object, &words)
}

/// A configuration by the model.
fn of(machine: &Machine, service: &Service, objective: Objective, state: &State) -> Static {
    let carries = service.carries(machine, state);
    let all = Frontier::of(machine, service, Vec::new());
    let value = |rps: f64| match objective {
        Objective::Energy => all.watts(state, carries, rps),
        Objective::Consolidate => service.background(machine, machine.cores() - state.cores),
    };
    let line = [0.0, carries].map(|rps| (rps, value(rps))).into();
    Static { state: *state, carries, leaves: state.cores < machine.cores(), line }
}
