use policy::{Group, balance};
use rand::Rng as _;
use units::{CoreId, FLOW_GROUPS};

/// What a move of flow groups took, in nanoseconds: thesis table 2.5, means and standard deviations.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Table {
    prepare: f64,
    deferred: f64,
    total: (f64, f64),
}

const ADD: Table = Table { prepare: 98e3, deferred: 134e3, total: (585e3, 697e3) };
const REMOVE: Table = Table { prepare: 22e3, deferred: 16e3, total: (89e3, 44e3) };

/// A move.
#[derive(Clone, Debug)]
pub struct Moved {
    /// The hardware thread that gave.
    pub from: usize,
    /// The one that took.
    pub to: usize,
    /// The share of the load that went.
    pub share: f64,
    /// For how long its requests waited, in nanoseconds.
    pub total_ns: f64,
    /// What the giver lost.
    pub(crate) prepare_ns: f64,
    /// What the taker lost.
    pub(crate) deferred_ns: f64,
    /// A core came.
    pub add: bool,
}

/// Who owns which flow group, and what comes of it.
#[derive(Clone, Debug)]
pub(crate) struct Groups(Vec<Group>);

impl Groups {
    /// All have the same load, and are the first thread's.
    pub(crate) fn new() -> Groups {
        Groups(vec![Group { load: 1.0 / FLOW_GROUPS as f64, owner: CoreId(0) }; FLOW_GROUPS])
    }

    /// The share of the load that each of `threads` has.
    pub(crate) fn shares(&self, threads: usize) -> Vec<f64> {
        let mut shares = vec![0.0; threads];
        for group in &self.0 {
            if let Some(share) = shares.get_mut(group.owner.index()) {
                *share += group.load;
            }
        }
        shares
    }

    /// Spreads them over these threads, with the control plane's own code; what it took is drawn.
    pub(crate) fn spread(&mut self, threads: &[usize], add: bool, dice: &mut draw::Rng) -> Vec<Moved> {
        let active: Vec<CoreId> = threads.iter().map(|t| CoreId(*t as u16)).collect();
        let table = if add { ADD } else { REMOVE };
        let mut all: Vec<Moved> = Vec::new();
        for (set, to) in balance(&self.0, &active) {
            // Those of one owner go together.
            let begun = all.len();
            for group in set.iter() {
                let Group { load, owner } = self.0[group.index()];
                let here = all[begun..].iter().position(|m| m.from == owner.index()).map(|i| begun + i);
                let at = here.unwrap_or_else(|| {
                    all.push(Moved {
                        from: owner.index(),
                        to: to.index(),
                        share: 0.0,
                        total_ns: log_normal(table.total, dice),
                        prepare_ns: table.prepare,
                        deferred_ns: table.deferred,
                        add,
                    });
                    all.len() - 1
                });
                all[at].share += load;
                self.0[group.index()].owner = to;
            }
        }
        all
    }
}

/// A time that is often short and seldom long, of this mean and deviation.
fn log_normal((mean, deviation): (f64, f64), dice: &mut draw::Rng) -> f64 {
    let variance = (1.0 + (deviation / mean).powi(2)).ln();
    let (a, b): (f64, f64) = (1.0 - dice.random::<f64>(), dice.random());
    let normal = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
    (mean.ln() - variance / 2.0 + variance.sqrt() * normal).exp()
}
