use std::fmt;

/// The clock of all cores.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Clock {
    /// A step of [`Machine::clocks_mhz`], counted from the slowest.
    Step(usize),
    /// As fast as the package allows, which depends on how many cores are awake.
    Turbo,
}

/// A static configuration. Cores that are not awake sleep, with their hardware threads.
///
/// Of several packages the first is filled first. A number beyond what the machine has counts as all that it has, and none as one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct State {
    /// Cores that are awake, all packages together.
    pub cores: usize,
    /// Hardware threads in use on each of them.
    pub threads: usize,
    /// At which clock.
    pub clock: Clock,
}

/// A logical processor, and where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HardwareThread {
    /// Its number, as Linux counts: first one of each core, then the others.
    pub cpu: usize,
    /// The package that it is in.
    pub package: usize,
    /// Its core, counted over all packages.
    pub core: usize,
    /// Its place on the core.
    pub thread: usize,
}

/// A machine: what its configurations are worth, and what they cost.
#[derive(Clone, PartialEq, Debug)]
pub struct Machine {
    pub(crate) name: String,
    pub(crate) packages: usize,
    /// Of a package.
    pub(crate) cores: usize,
    /// Of a core: one or two.
    pub(crate) threads: usize,
    /// What two busy threads of a core do together, in units of one that is alone.
    pub(crate) second_thread: f64,
    pub(crate) nominal_mhz: f64,
    /// Clock in MHz and dynamic watts of a core that works at it; ascending.
    pub(crate) clocks: Vec<(f64, f64)>,
    /// The same in turbo mode, by the number of cores awake in a package, less one. Empty: it has none.
    pub(crate) turbo: Vec<(f64, f64)>,
    pub(crate) power: Power,
}

/// Watts, and shares of them.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Power {
    /// Of a package whose cores sleep.
    pub(crate) idle_w: f64,
    /// Of a core that is awake, whatever it does.
    pub(crate) awake_w: f64,
    /// How much more a core draws with two threads busy: a factor of the dynamic part.
    pub(crate) second_thread: f64,
    /// The dynamic part of a thread that polls and finds nothing, as a share of that of one that works.
    pub(crate) polling: f64,
    /// What a warm package draws more in turbo mode.
    pub(crate) warm_w: f64,
}

impl Machine {
    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Cores, all packages together.
    pub fn cores(&self) -> usize {
        self.packages * self.cores
    }

    /// Hardware threads of a core.
    pub fn threads_per_core(&self) -> usize {
        self.threads
    }

    /// The steps of the clock, in MHz, from the slowest to the fastest; turbo mode is not among them.
    pub fn clocks_mhz(&self) -> impl Iterator<Item = f64> + '_ {
        self.clocks.iter().map(|(mhz, _)| *mhz)
    }

    /// The clock that the machine is sold with, in MHz: that of [`Machine::speed`] 1.
    pub fn nominal_mhz(&self) -> f64 {
        self.nominal_mhz
    }

    /// Whether it has a turbo mode.
    pub fn has_turbo(&self) -> bool {
        !self.turbo.is_empty()
    }

    /// All hardware threads, by number.
    pub fn hardware_threads(&self) -> Vec<HardwareThread> {
        let all = 0..self.cores() * self.threads;
        let place = |cpu| {
            let core = cpu % self.cores();
            HardwareThread { cpu, package: core / self.cores, core, thread: cpu / self.cores() }
        };
        all.map(place).collect()
    }

    /// The other hardware thread of the same core, if there is one; `None` also for what is no number of a thread.
    pub fn sibling(&self, cpu: usize) -> Option<usize> {
        let cores = self.cores();
        (self.threads == 2 && cpu < 2 * cores).then(|| (cpu + cores) % (2 * cores))
    }

    /// All static configurations: cores, hardware threads, clocks; 224 for the machine of the thesis (section 2.5.3). By clock, then threads, then
    /// cores.
    pub fn states(&self) -> Vec<State> {
        let clocks = (0..self.clocks.len()).map(Clock::Step).chain(self.has_turbo().then_some(Clock::Turbo));
        let mut states = Vec::new();
        for clock in clocks {
            for threads in 1..=self.threads {
                states.extend((1..=self.cores()).map(|cores| State { cores, threads, clock }));
            }
        }
        states
    }

    /// The configuration that does most: everything, at the fastest clock.
    pub fn most(&self) -> State {
        let clock = if self.has_turbo() { Clock::Turbo } else { Clock::Step(self.clocks.len() - 1) };
        State { cores: self.cores(), threads: self.threads, clock }
    }

    /// The one that does least: a hardware thread at the slowest clock.
    pub fn least(&self) -> State {
        State { cores: 1, threads: 1, clock: Clock::Step(0) }
    }

    /// What it does in a second on each of its hardware threads: 1 is one that is alone on its core, at the nominal clock.
    pub fn speed(&self, state: &State) -> f64 {
        let (_, threads) = self.in_use(state);
        let shared = if threads == 2 { self.second_thread / 2.0 } else { 1.0 };
        self.mhz(state) / self.nominal_mhz * shared
    }

    /// What it does in a second altogether, in the same unit.
    pub fn capacity(&self, state: &State) -> f64 {
        let (cores, threads) = self.in_use(state);
        (cores * threads) as f64 * self.speed(state)
    }

    /// The clock, in MHz. In turbo mode that of the package with most cores awake.
    pub fn mhz(&self, state: &State) -> f64 {
        self.at(state).0
    }

    /// The power of all packages, in watts, when each hardware thread in use works for a share `utilization` (0 to 1) of its time, and polls for the rest.
    ///
    /// In turbo mode the packages are warm ([`Machine::warm_w`]).
    pub fn power_w(&self, state: &State, utilization: f64) -> f64 {
        let (cores, threads) = self.in_use(state);
        let power = &self.power;
        let busy = power.polling + (1.0 - power.polling) * utilization.clamp(0.0, 1.0);
        let both = if threads == 2 { power.second_thread } else { 1.0 };
        let awake_packages = cores.div_ceil(self.cores) as f64;
        let warm = if self.in_turbo(state) { power.warm_w * awake_packages } else { 0.0 };
        let core = power.awake_w + self.at(state).1 * both * busy;
        power.idle_w * self.packages as f64 + core * cores as f64 + warm
    }

    /// What of [`Machine::power_w`] a package in turbo mode draws only when it has warmed up, in watts. It takes minutes (thesis section 2.5.3), which are
    /// not modelled: who measures a cold machine finds so much less.
    pub fn warm_w(&self) -> f64 {
        self.power.warm_w
    }

    /// Cores and threads of each, within what there is.
    fn in_use(&self, state: &State) -> (usize, usize) {
        (state.cores.clamp(1, self.cores()), state.threads.clamp(1, self.threads))
    }

    fn in_turbo(&self, state: &State) -> bool {
        state.clock == Clock::Turbo && self.has_turbo()
    }

    /// Clock and dynamic watts of a core.
    fn at(&self, state: &State) -> (f64, f64) {
        let last = self.clocks.len() - 1;
        match state.clock {
            Clock::Turbo if self.has_turbo() => {
                let awake = self.in_use(state).0.min(self.cores);
                self.turbo[awake - 1]
            }
            Clock::Turbo => self.clocks[last],
            Clock::Step(step) => self.clocks[step.min(last)],
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cores x {} threads, ", self.cores, self.threads)?;
        match self.clock {
            Clock::Step(step) => write!(f, "clock step {step}"),
            Clock::Turbo => f.write_str("turbo"),
        }
    }
}
