use std::path::PathBuf;

use actuate::{ActuateError, Clocks, Knobs, Rapl, Topology, Tree};
use machine::{Machine, State};
use sys::clock;

/// This machine, as far as configurations of it can be set: its clocks, and where its power is read.
///
/// All that was changed is taken back by [`Host::restore`], by the end of the value, and after a crash by whoever finds the record.
pub struct Host {
    knobs: Knobs,
    topology: Topology,
    /// Those that can be set.
    clocks: Option<Clocks>,
    rapl: Option<Rapl>,
    machine: Machine,
    lacks: Vec<String>,
}

impl Host {
    /// Looks at these cpus of a machine; what it lacks becomes lines, and the rest goes on. `siblings`: tell hardware threads of a core from cores. `record` is the file in
    /// which changes are written down before they are made.
    ///
    /// # Errors
    /// A cpu is not there; the machine does not tell its cpus.
    pub fn open(tree: Tree, record: Option<PathBuf>, cpus: &[usize], siblings: bool) -> Result<Host, ActuateError> {
        let online = Topology::read(&tree)?;
        let mut topology = online.only(cpus)?;
        if !siblings {
            topology = topology.flat();
        }
        let mut lacks = Vec::new();
        let rapl = Rapl::open(&tree, clock::now());
        let rapl = rapl.map_err(|e| lacks.push(format!("power is that of a model: {e}"))).ok();
        // Of all cpus, as the control plane does: a step's number means the same there.
        let all: Vec<usize> = online.cpus().iter().map(|c| c.cpu).collect();
        let found = Clocks::open(&tree, &all);
        let steps = found.as_ref().map(Clocks::steps_mhz).unwrap_or_default();
        let machine = ixcp::machine(&topology, &steps, found.as_ref().is_ok_and(Clocks::has_turbo));
        // The text of our own machine is ours.
        let machine = machine.map_err(|_| ActuateError::Missing("a model of this machine".into()))?;
        let mut knobs = Knobs::new(tree, record);
        let clocks = found.and_then(|clocks| {
            let tried = clocks.set(&mut knobs, cpus, ixcp::speed(&machine, &machine.most()));
            // What was changed before the refusal.
            tried.map(|()| clocks).inspect_err(|_| drop(knobs.restore()))
        });
        let clocks = clocks.map_err(|e| lacks.push(format!("clocks stay as they are: {e}"))).ok();
        Ok(Host { knobs, topology, clocks, rapl, machine, lacks })
    }

    /// The control plane's model of these cpus.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// What this machine lacks, a line each.
    pub fn lacks(&self) -> &[String] {
        &self.lacks
    }

    /// In words: the cpus, and how clocks are set.
    pub fn describe(&self) -> String {
        let clocks = self.clocks.as_ref().map_or("clocks as they are".into(), Clocks::how);
        format!("{}; {clocks}", self.topology)
    }

    /// Whether clocks can be set.
    pub(super) fn sets_clocks(&self) -> bool {
        self.clocks.is_some()
    }

    /// All cpus that are explored.
    pub(super) fn all(&self) -> Vec<usize> {
        self.topology.in_use(usize::MAX, usize::MAX)
    }

    /// The cpus that a configuration uses: first hardware threads first.
    pub(super) fn cpus(&self, state: &State) -> Vec<usize> {
        self.topology.in_use(state.cores, state.threads)
    }

    /// Those that it leaves free.
    pub(super) fn free(&self, state: &State) -> Vec<usize> {
        let used = self.cpus(state);
        self.all().into_iter().filter(|cpu| !used.contains(cpu)).collect()
    }

    /// Sets the clock of a configuration on all cpus, also those that it leaves free.
    ///
    /// # Errors
    /// It was refused.
    pub(super) fn set(&mut self, state: &State) -> Result<(), ActuateError> {
        let cpus = self.all();
        match &self.clocks {
            Some(clocks) => clocks.set(&mut self.knobs, &cpus, ixcp::speed(&self.machine, state)),
            None => Ok(()),
        }
    }

    /// Watts since the last call by the energy counters, where there are any and the reading makes sense. Counters that have gone are not asked again.
    pub(super) fn counted_w(&mut self) -> Option<f64> {
        let read = self.rapl.as_mut()?.watts(self.knobs.tree(), clock::now());
        read.unwrap_or_else(|e| {
            self.lacks.push(format!("power is that of a model from here on: {e}"));
            self.rapl = None;
            None
        })
    }

    /// The model's watts: the configuration's hardware threads work for a share `busy` of their time, those of `job` for all of it.
    pub(super) fn modelled_w(&self, state: &State, busy: f64, job: &[usize]) -> f64 {
        let mut cores: Vec<usize> = job.iter().filter_map(|cpu| self.topology.get(*cpu)).map(|c| c.core).collect();
        cores.retain(|core| *core >= state.cores);
        cores.sort_unstable();
        cores.dedup();
        let all = state.cores + cores.len();
        let utilization = (busy * state.cores as f64 + cores.len() as f64) / all as f64;
        self.machine.power_w(&State { cores: all, ..*state }, utilization)
    }

    /// Where watts are from.
    pub(super) fn source(&self) -> String {
        if self.rapl.is_some() { "rapl".into() } else { format!("model {}", self.machine.name()) }
    }

    /// Takes back all that was changed; answers what could not be, which the record keeps for the next start.
    pub fn restore(&mut self) -> Vec<ActuateError> {
        self.knobs.restore()
    }
}

#[cfg(test)]
mod tests {
    use machine::Clock;

    use super::*;

    const POLICY: &str = "sys/devices/system/cpu/cpufreq/policy0";

    /// A machine of files: two cores of two hardware threads, three steps of the clock and turbo mode.
    struct Fake(PathBuf);

    impl Fake {
        fn new(name: &str) -> Fake {
            let root = std::env::temp_dir().join(format!("zygix-pareto-{name}-{}", std::process::id()));
            let fake = Fake(root);
            fake.put("sys/devices/system/cpu/online", "0-3");
            for cpu in 0..4 {
                let siblings = format!("{},{}", cpu % 2, cpu % 2 + 2);
                fake.put(&format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"), &siblings);
            }
            for (file, text) in [
                ("related_cpus", "0 1 2 3"),
                ("scaling_available_governors", "ondemand userspace"),
                ("scaling_available_frequencies", "2401000 2400000 1800000 1200000"),
                ("scaling_governor", "ondemand"),
                ("scaling_setspeed", "<unsupported>"),
                ("cpuinfo_max_freq", "2401000"),
            ] {
                fake.put(&format!("{POLICY}/{file}"), text);
            }
            fake.put("sys/devices/system/cpu/cpufreq/boost", "1");
            fake
        }

        fn put(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn get(&self, path: &str) -> String {
            std::fs::read_to_string(self.0.join(path)).unwrap().trim().to_owned()
        }

        /// Governor, speed, turbo.
        fn clocks(&self) -> [String; 3] {
            let of = |file: &str| self.get(&format!("{POLICY}/{file}"));
            [of("scaling_governor"), of("scaling_setspeed"), self.get("sys/devices/system/cpu/cpufreq/boost")]
        }

        fn open(&self, record: Option<PathBuf>) -> Host {
            Host::open(Tree::fake(&self.0), record, &[0, 1, 2, 3], true).unwrap()
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn each_configuration_has_its_clock_and_at_the_end_all_is_as_it_was() {
        let fake = Fake::new("clocks");
        let before = fake.clocks();
        let mut host = fake.open(None);
        assert!(host.sets_clocks() && host.machine().has_turbo());
        assert_eq!((host.machine().states().len(), host.machine().name()), (2 * 2 * 4, "this machine"));
        let state = |clock| State { cores: 1, threads: 1, clock };
        for (clock, khz, boost) in [
            (Clock::Step(0), "1200000", "0"),
            (Clock::Step(2), "2400000", "0"),
            (Clock::Turbo, "2401000", "1"),
            (Clock::Step(1), "1800000", "0"),
        ] {
            host.set(&state(clock)).unwrap();
            assert_eq!(fake.clocks(), ["userspace", khz, boost]);
        }
        assert_eq!((host.cpus(&state(Clock::Turbo)), host.free(&state(Clock::Turbo))), (vec![0], vec![1, 2, 3]));
        assert!(host.restore().is_empty());
        assert_eq!(fake.clocks(), before);
    }

    #[test]
    fn who_is_killed_leaves_a_record_for_the_next() {
        let fake = Fake::new("record");
        let (before, record) = (fake.clocks(), fake.0.join("changes"));
        let mut host = fake.open(Some(record.clone()));
        host.set(&State { cores: 1, threads: 1, clock: Clock::Step(0) }).unwrap();
        assert_ne!(fake.clocks(), before);
        // As SIGKILL would.
        std::mem::forget(host);
        let (count, errors) = Knobs::recover(Tree::fake(&fake.0), record).unwrap();
        assert!(count > 0 && errors.is_empty(), "{errors:?}");
        assert_eq!(fake.clocks(), before);
    }

    #[test]
    fn without_the_right_to_set_clocks_it_goes_on_and_says_so_once() {
        let fake = Fake::new("refused");
        // Not even root can write to that.
        let governor = fake.0.join(POLICY).join("scaling_governor");
        std::fs::remove_file(&governor).unwrap();
        std::os::unix::fs::symlink("/proc/sys/kernel/ostype", &governor).unwrap();
        let host = fake.open(None);
        assert!(!host.sets_clocks());
        let of_clocks: Vec<&String> = host.lacks().iter().filter(|l| l.contains("clocks stay")).collect();
        assert_eq!((of_clocks.len(), of_clocks[0].lines().count()), (1, 1));
        // The steps are known all the same: the control plane's model has them too.
        assert_eq!(host.machine().clocks_mhz().count(), 3);
        drop(host);
        assert_eq!(fake.get("sys/devices/system/cpu/cpufreq/boost"), "1");
    }

    #[test]
    fn energy_counters_are_read_while_they_are_there() {
        const ZONE: &str = "sys/class/powercap/intel-rapl:0";
        let fake = Fake::new("rapl");
        fake.put(&format!("{ZONE}/name"), "package-0");
        fake.put(&format!("{ZONE}/energy_uj"), "1000");
        let mut host = fake.open(None);
        assert_eq!((host.source(), host.lacks().len()), ("rapl".into(), 0));
        fake.put(&format!("{ZONE}/energy_uj"), "1001");
        assert!(host.counted_w().is_some_and(|watts| watts > 0.0));
        std::fs::remove_file(fake.0.join(ZONE).join("energy_uj")).unwrap();
        assert_eq!((host.counted_w(), host.source()), (None, "model this machine".into()));
        assert_eq!((host.counted_w(), host.lacks().len()), (None, 1));
    }

    #[test]
    fn a_job_on_cores_of_its_own_draws_power_too() {
        let host = Fake::new("watts").open(None);
        let one = State { cores: 1, threads: 1, clock: Clock::Step(2) };
        let alone = host.modelled_w(&one, 0.5, &[]);
        assert_eq!(alone, host.machine().power_w(&one, 0.5));
        let beside = host.modelled_w(&one, 0.5, &[1, 2, 3]);
        assert_eq!(beside, host.machine().power_w(&State { cores: 2, ..one }, 0.75));
        assert!(beside > alone);
        assert_eq!(host.source(), "model this machine");
    }
}
