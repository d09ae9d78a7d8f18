//! How soon more is added after a jump of the load: the aim is 200 ms after the delay estimate has passed its limit, also shortly after a removal.

use energy::{Jump, Pattern, Reaction, Sched, Service, Setup, react};
use machine::Machine;
use policy::Rules;
use report::{Column, Table};
use serde_json::{Value, json};

/// Jumps under one schedule, one policy, at one kind of moment.
pub(super) struct Jumps {
    sched: Sched,
    policy: &'static str,
    jump: Jump,
    /// The longest time for which the delay estimate was over its limit before more was set; in ms, ascending.
    added_ms: Vec<f64>,
    /// From its first passing the limit until it was within it for good.
    over_ms: Vec<f64>,
}

/// A value of a sorted list; 0 if there is none.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let last = sorted.len().saturating_sub(1) as f64;
    sorted.get((last * q).ceil() as usize).copied().unwrap_or(0.0)
}

impl Jumps {
    /// So many of them, from as many seeds, beginning with `first`.
    fn new(
        (machine, service, rules): (&Machine, &Service, &Rules),
        (sched, policy, jump): (Sched, &'static str, Jump),
        (first, n): (u64, u64),
    ) -> Jumps {
        let ladder = super::ladder(policy, machine);
        let one = |seed| {
            let setup = Setup::new(machine, service, Pattern::Step, sched, ladder.clone());
            react(&Setup { seed, rules: rules.clone(), ..setup }, jump)
        };
        let all: Vec<Reaction> = (first..first + n).filter_map(one).collect();
        let sorted = |of: fn(&Reaction) -> f64| {
            let mut ms: Vec<f64> = all.iter().map(|r| of(r) / 1e6).collect();
            ms.sort_by(f64::total_cmp);
            ms
        };
        Jumps { sched, policy, jump, added_ms: sorted(|r| r.added_ns), over_ms: sorted(|r| r.over_ns) }
    }

    fn moment(&self) -> &'static str {
        match self.jump {
            Jump::Steady => "steady",
            Jump::AfterRemoval => "after a removal",
        }
    }

    pub(super) fn object(&self) -> Value {
        json!({
            "sched": super::sched_name(self.sched),
            "policy": self.policy,
            "moment": self.moment(),
            "jumps": self.added_ms.len(),
            "added_ms": {"median": quantile(&self.added_ms, 0.5), "p99": quantile(&self.added_ms, 0.99), "max": quantile(&self.added_ms, 1.0)},
            "over_ms": {"median": quantile(&self.over_ms, 0.5), "p99": quantile(&self.over_ms, 0.99), "max": quantile(&self.over_ms, 1.0)},
        })
    }
}

/// All schedules, policies and moments, `n` seeds each.
pub(super) fn all(rules: &Rules, machine: &Machine, service: &Service, seed: u64, n: u16) -> Vec<Jumps> {
    let moments = [Jump::Steady, Jump::AfterRemoval];
    let what: Vec<_> = [Sched::Ix, Sched::Zygos]
        .into_iter()
        .flat_map(|s| ["energy", "consolidate"].map(|p| (s, p)))
        .flat_map(|(s, p)| moments.map(|m| (s, p, m)))
        .collect();
    super::on_all_cores(&what, |cell| Jumps::new((machine, service, rules), *cell, (seed, n.into())))
}

pub(super) fn table(jumps: &[Jumps]) -> Table {
    let ms = |name: &str| Column::number(name, "ms").decimals(0);
    let row = |j: &Jumps| -> Vec<Value> {
        let added = [0.5, 0.99, 1.0].map(|q| json!(quantile(&j.added_ms, q)));
        let over = [0.5, 0.99, 1.0].map(|q| json!(quantile(&j.over_ms, q)));
        let head = [json!(super::sched_name(j.sched)), json!(j.policy), json!(j.moment()), json!(j.added_ms.len())];
        head.into_iter().chain(added).chain(over).collect()
    };
    Table {
        id: "reaction".into(),
        title: "Reaction to a jump of the load".into(),
        caption: "The load jumps to 1.1 to 3 times what the configuration carries, at any moment, or within half a second after something was removed. Added: for how long at \
                  most the published delay estimate is over its limit before more is set (or it falls by itself); the aim is 200 ms. Over: from its first passing the limit to the last instant above it."
            .into(),
        columns: vec![
            Column::text("schedule"),
            Column::text("policy"),
            Column::text("moment"),
            Column::number("jumps", "").decimals(0),
            ms("added: median"),
            ms("p99"),
            ms("longest"),
            ms("over: median"),
            ms("p99"),
            ms("longest"),
        ],
        rows: jumps.iter().map(row).collect(),
    }
}

pub(super) fn show(out: &mut impl std::io::Write, jumps: &[Jumps]) {
    for j in jumps {
        let [median, p99, max] = [0.5, 0.99, 1.0].map(|q| quantile(&j.added_ms, q));
        let _ = writeln!(
            out,
            "{:<6} {:<12} {:<16} {:>4} jumps: more is added {median:.0} ms after the delay passes its limit (median; p99 {p99:.0}, longest {max:.0})",
            super::sched_name(j.sched),
            j.policy,
            j.moment(),
            j.added_ms.len()
        );
    }
}
