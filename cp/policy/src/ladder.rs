use machine::{Clock, Machine, State};

/// A configuration, and what goes with it.
#[derive(Clone, PartialEq, Debug)]
pub struct Step {
    /// Cores, hardware threads, clock.
    pub state: State,
    /// Whether background jobs may run on the cores that are not in `state`.
    pub background: bool,
    /// The share of the throughput at this step that the step itself added: 1 - what the step below does / what this does. 0 at the lowest.
    pub share: f64,
}

/// Configurations in the order in which they are taken: each does more than the one before.
#[derive(Clone, PartialEq, Debug)]
pub struct Ladder {
    name: String,
    steps: Vec<Step>,
    /// What each does, where the highest does 1.
    worth: Vec<f64>,
}

/// Why a list of configurations is no ladder.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LadderError {
    /// None.
    #[error("a policy needs at least one configuration")]
    Empty,
    /// One does no more than the one before.
    #[error(
        "configuration {at} ({state}) does no more than the one before: list them in ascending order of what they do"
    )]
    Order {
        /// Which, from 1.
        at: usize,
        /// What it is.
        state: State,
    },
    /// A text.
    #[error("line {line}: {what}")]
    At {
        /// Where, from 1.
        line: usize,
        /// What is wrong, and what would be right.
        what: String,
    },
}

impl Ladder {
    /// A ladder of these configurations, where `worth` says what each does, in any unit.
    ///
    /// # Errors
    /// There are none, or one does no more than the one before.
    pub fn new(name: &str, states: &[(State, bool)], worth: impl Fn(&State) -> f64) -> Result<Ladder, LadderError> {
        let does: Vec<f64> = states.iter().map(|(state, _)| worth(state)).collect();
        let top = *does.last().ok_or(LadderError::Empty)?;
        for (i, (state, _)) in states.iter().enumerate() {
            let more = does[i].is_finite() && does[i] > if i == 0 { 0.0 } else { does[i - 1] };
            if !more {
                return Err(LadderError::Order { at: i + 1, state: *state });
            }
        }
        let share = |i: usize| if i == 0 { 0.0 } else { 1.0 - does[i - 1] / does[i] };
        let step = |(i, (state, background)): (usize, &(State, bool))| Step {
            state: *state,
            background: *background,
            share: share(i),
        };
        Ok(Ladder {
            name: name.to_owned(),
            steps: states.iter().enumerate().map(step).collect(),
            worth: does.iter().map(|d| d / top).collect(),
        })
    }

    /// Least energy (thesis section 2.6): cores one by one at the slowest clock, all second hardware threads, the clock step by step, turbo. 22 configurations on
    /// the machine of the thesis.
    pub fn energy(machine: &Machine) -> Ladder {
        let (cores, threads) = (machine.cores(), machine.threads_per_core());
        let mut states: Vec<_> = (1..=cores).map(|cores| State { cores, ..machine.least() }).collect();
        states.extend((2..=threads).map(|threads| State { cores, threads, clock: Clock::Step(0) }));
        let clocks = (1..machine.clocks_mhz().count()).map(Clock::Step);
        let clocks = clocks.chain(machine.has_turbo().then_some(Clock::Turbo));
        states.extend(clocks.map(|clock| State { cores, threads, clock }));
        Ladder::of(machine, "energy", states.into_iter().map(|s| (s, false)))
    }

    /// Most for background jobs (thesis section 2.6): the nominal clock, cores one by one with all their hardware threads; with the last the background jobs stop; turbo.
    /// 9 configurations on the machine of the thesis.
    pub fn consolidate(machine: &Machine) -> Ladder {
        let (cores, threads) = (machine.cores(), machine.threads_per_core());
        let clock = nominal(machine);
        let shared = (1..=cores).map(|n| (State { cores: n, threads, clock }, n < cores));
        let turbo = machine.has_turbo().then_some((State { cores, threads, clock: Clock::Turbo }, false));
        Ladder::of(machine, "consolidate", shared.chain(turbo))
    }

    /// One configuration, for ever.
    pub fn static_(state: State) -> Ladder {
        let step = Step { state, background: false, share: 0.0 };
        Ladder { name: "static".into(), steps: vec![step], worth: vec![1.0] }
    }

    /// The least and the most that the machine can be set to.
    pub fn minmax(machine: &Machine) -> Ladder {
        Ladder::of(machine, "minmax", [(machine.least(), false), (machine.most(), false)].into_iter())
    }

    /// States that a machine has, some of which may do no more than the one before (one core with one clock): these are left out.
    fn of(machine: &Machine, name: &str, states: impl Iterator<Item = (State, bool)>) -> Ladder {
        let mut kept: Vec<(State, bool)> = Vec::new();
        for (state, background) in states {
            match kept.last() {
                Some((last, _)) if machine.capacity(&state) <= machine.capacity(last) => {}
                _ => kept.push((state, background)),
            }
        }
        Ladder::new(name, &kept, |s| machine.capacity(s)).unwrap_or_else(|_| Ladder::static_(machine.most()))
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The configurations, from the one that does least.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The last.
    pub fn top(&self) -> usize {
        self.steps.len() - 1
    }

    /// What a step does, as a share of what the highest does. A step beyond the highest counts as that.
    pub fn worth(&self, step: usize) -> f64 {
        self.worth[step.min(self.top())]
    }

    /// The lowest step that does so much; the highest if none does.
    pub fn enough(&self, worth: f64) -> usize {
        self.worth.iter().position(|w| *w >= worth).unwrap_or(self.top())
    }
}

/// The clock step nearest to the nominal clock.
fn nominal(machine: &Machine) -> Clock {
    let off = |mhz: f64| (mhz - machine.nominal_mhz()).abs();
    let best = machine.clocks_mhz().enumerate().min_by(|a, b| off(a.1).total_cmp(&off(b.1)));
    Clock::Step(best.map_or(0, |(step, _)| step))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thesis() -> Machine {
        Machine::builtin("e5-2665").unwrap()
    }

    #[test]
    fn energy_has_the_22_configurations_of_the_thesis() {
        let ladder = Ladder::energy(&thesis());
        let text: Vec<_> = ladder.steps().iter().map(|s| s.state.to_string()).collect();
        assert_eq!(text.len(), 22);
        assert_eq!(text[0], "1 cores x 1 threads, clock step 0");
        assert_eq!(text[7], "8 cores x 1 threads, clock step 0");
        assert_eq!(text[8], "8 cores x 2 threads, clock step 0");
        assert_eq!(text[9], "8 cores x 2 threads, clock step 1");
        assert_eq!(text[20], "8 cores x 2 threads, clock step 12");
        assert_eq!(text[21], "8 cores x 2 threads, turbo");
        // The share of the n-th core is 1/n, of second threads 1 - 1/1.3, of the clock df/f.
        let share = |i: usize| ladder.steps()[i].share;
        assert!((share(1) - 0.5).abs() < 1e-9 && (share(7) - 1.0 / 8.0).abs() < 1e-9);
        assert!((share(8) - (1.0 - 1.0 / 1.3)).abs() < 1e-9 && (share(20) - 100.0 / 2400.0).abs() < 1e-9);
        assert_eq!((share(0), ladder.worth(21), ladder.worth(99)), (0.0, 1.0, 1.0));
    }

    #[test]
    fn consolidate_has_the_9_configurations_of_the_thesis() {
        let ladder = Ladder::consolidate(&thesis());
        let text: Vec<_> = ladder.steps().iter().map(|s| format!("{} {}", s.state, s.background)).collect();
        assert_eq!(text.len(), 9);
        assert_eq!(text[0], "1 cores x 2 threads, clock step 12 true");
        assert_eq!(text[6], "7 cores x 2 threads, clock step 12 true");
        assert_eq!(text[7], "8 cores x 2 threads, clock step 12 false");
        assert_eq!(text[8], "8 cores x 2 threads, turbo false");
    }

    #[test]
    fn the_step_that_is_enough() {
        let ladder = Ladder::energy(&thesis());
        for i in 0..=ladder.top() {
            assert_eq!(ladder.enough(ladder.worth(i)), i);
            assert_eq!(ladder.enough(ladder.worth(i) + 1e-9), (i + 1).min(ladder.top()));
        }
        assert_eq!((ladder.enough(0.0), ladder.enough(7.0)), (0, 21));
    }

    #[test]
    fn small_machines_have_short_ladders() {
        let one = Machine::generic(1).unwrap();
        assert_eq!(Ladder::consolidate(&one).steps().len(), 2);
        assert_eq!(Ladder::minmax(&one).steps().len(), 2);
        assert_eq!(Ladder::static_(one.least()).top(), 0);
    }

    #[test]
    fn a_ladder_goes_up() {
        let m = thesis();
        let (least, most) = ((m.least(), false), (m.most(), false));
        assert_eq!(Ladder::new("x", &[], |_| 1.0), Err(LadderError::Empty));
        let error = Ladder::new("x", &[most, least], |s| m.capacity(s)).unwrap_err();
        assert!(error.to_string().starts_with("configuration 2 (1 cores x 1 threads"), "{error}");
        assert!(Ladder::new("x", &[least, most], |_| f64::NAN).is_err());
    }
}
