use policy::{CoreSense, Sense};
use units::Nanos;

/// What a dataplane publishes of a core: averages of values that are taken every 10 ms.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    sense: CoreSense,
    /// The ring was full since the last look.
    full: bool,
}

/// Factors of the averages (`ix-zygos`, metrics): the first is the quickest.
const FACTORS: [f64; 3] = [0.5, 0.25, 0.125];

/// A tick's values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) queue: f64,
    pub(crate) full: bool,
    pub(crate) batch: f64,
    pub(crate) iteration_ns: f64,
    pub(crate) idle: f64,
    pub(crate) stolen: f64,
}

impl Meter {
    /// A core that is active from now on.
    pub(crate) fn fresh() -> Meter {
        Meter::default()
    }

    pub(crate) fn tick(&mut self, seen: &Seen) {
        let s = &mut self.sense;
        // A core that has just come has no past.
        let first = !s.active;
        let ewma = |old: &mut f64, new: f64, factor: f64| {
            *old = if first { new } else { factor * new + (1.0 - factor) * *old }
        };
        for (i, factor) in FACTORS.into_iter().enumerate() {
            ewma(&mut s.queue[i], seen.queue, factor);
            ewma(&mut s.idle[i], seen.idle, factor);
        }
        ewma(&mut s.batch, seen.batch, FACTORS[0]);
        ewma(&mut s.iteration_ns, seen.iteration_ns, FACTORS[0]);
        s.remote_share = seen.stolen;
        s.active = true;
        self.full |= seen.full;
    }

    /// What the control plane reads.
    pub(crate) fn look(&mut self) -> CoreSense {
        CoreSense { queue_full: std::mem::take(&mut self.full), ..self.sense.clone() }
    }
}

/// All of them, at one instant.
pub(crate) fn look(meters: &mut [Meter], at: Nanos, bound: usize) -> Sense {
    Sense { at, batch_bound: bound, cores: meters.iter_mut().map(Meter::look).collect() }
}
