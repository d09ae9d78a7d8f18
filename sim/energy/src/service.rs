use machine::{Machine, State};

/// A service on a machine: how long a request takes in each configuration, and what a background job makes of the cores that are left.
///
/// [`Service::usr`] is fitted, for the thesis has no table of it: see there.
#[derive(Clone, PartialEq, Debug)]
pub struct Service {
    /// Requests per second that the largest configuration carries at the objective.
    pub most_rps: f64,
    /// The share of its time for which a thread can be busy at the objective.
    pub full: f64,
    /// What each further core costs all of them: the time of a request grows by so much.
    pub contention: f64,
    /// The same for a background job on several cores.
    pub background_contention: f64,
    /// Shares of a request's time: receiving it, the application. The rest is for sending the reply.
    pub rx: f64,
    /// See `rx`.
    pub app: f64,
    /// The objective for the 99th percentile, in nanoseconds.
    pub slo_ns: f64,
}

impl Service {
    /// memcached with the USR workload, as in the thesis: 6.2 M requests per second at most, 500 us.
    ///
    /// Cores scale "nearly linearly" there (section 2.6). `contention` and `background_contention` are fitted, together with where the patterns begin and end, so
    /// that static configurations come to the bounds of table 2.4. How a request's time is
    /// divided is assumed: it only decides how far the replies of a batch are apart.
    pub fn usr() -> Service {
        Service {
            most_rps: 6.2e6,
            full: 0.965,
            contention: 0.04,
            background_contention: 0.036,
            rx: 0.2,
            app: 0.66,
            slo_ns: 500e3,
        }
    }

    /// What a configuration does in a second, in units of one hardware thread alone at the nominal clock.
    pub fn does(&self, machine: &Machine, state: &State) -> f64 {
        machine.capacity(state) / (1.0 + self.contention * (state.cores.clamp(1, machine.cores()) - 1) as f64)
    }

    /// Requests per second that a configuration carries at the objective.
    pub fn carries(&self, machine: &Machine, state: &State) -> f64 {
        self.most_rps * self.does(machine, state) / self.does(machine, &machine.most())
    }

    /// How long a request keeps a hardware thread busy, in nanoseconds.
    pub fn request_ns(&self, machine: &Machine, state: &State) -> f64 {
        let threads = (state.cores * state.threads) as f64;
        threads * 1e9 * self.full / self.carries(machine, state)
    }

    /// What a background job does on so many of the machine's cores at the nominal clock, as a share of what it does on all of them.
    pub fn background(&self, machine: &Machine, cores: usize) -> f64 {
        let does = |n: f64| n / (1.0 + self.background_contention * (n - 1.0).max(0.0));
        does(cores as f64) / does(machine.cores() as f64)
    }
}
