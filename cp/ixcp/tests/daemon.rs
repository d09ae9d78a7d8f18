//! The control loop in virtual time, on machines made of files, over dataplanes made of numbers.

// One fake machine for both crates.
#[path = "../../actuate/tests/fake/mod.rs"]
mod fake;

use std::path::Path;
use std::sync::{Arc, Mutex};

use abi::{Answer, Command, CorePage, GroupList, LatencyHistogram, PageHeader, PageSched, Refusal};
use attach::{AttachError, Snapshot};
use fake::Fake;
use ixcp::{Attach, Config, Daemon, Kind, Options, Plane};
use units::{FLOW_GROUPS, FlowGroupId, GroupSet, Nanos};

const TICK: Nanos = Nanos::from_millis(100);

/// A dataplane whose load is a number: how many cores it needs.
#[derive(Default)]
struct State {
    now: Nanos,
    demand: f64,
    parked: Vec<bool>,
    cpus: Vec<Option<u32>>,
    gone: bool,
    stopped: bool,
    refuses: bool,
    heartbeat: Nanos,
    commands: Vec<Command>,
    ready: u64,
    slow: u64,
    calls: u64,
}

#[derive(Clone)]
struct Numbers(Arc<Mutex<State>>);

impl Numbers {
    fn new(threads: usize) -> Numbers {
        let now = Nanos::from_secs(1000);
        let state = State { now, parked: vec![false; threads], cpus: vec![None; threads], ..State::default() };
        Numbers(Arc::new(Mutex::new(state)))
    }

    fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut self.0.lock().unwrap())
    }

    fn serving(&self) -> usize {
        self.with(|s| s.parked.iter().filter(|p| !**p).count())
    }

    fn attach(&self) -> Attach {
        let own = self.clone();
        Box::new(move |name| match own.with(|s| s.gone) {
            true => Err(AttachError::NoSuch { name: name.to_owned(), there: vec![] }),
            false => Ok(Box::new(own.clone())),
        })
    }
}

impl Plane for Numbers {
    fn snapshot(&mut self) -> Result<Snapshot, AttachError> {
        self.with(|s| {
            if !s.stopped {
                s.heartbeat = s.now;
                s.ready += (s.demand * 1000.0) as u64;
            }
            let active: Vec<usize> = (0..s.parked.len()).filter(|i| !s.parked[*i]).collect();
            let busy = s.demand / active.len() as f64;
            let page = |i: usize| {
                let place = active.iter().position(|a| *a == i);
                let groups = (0..FLOW_GROUPS).filter(|g| place == Some(g % active.len()));
                let groups: GroupSet = groups.map(|g| FlowGroupId(g as u16)).collect();
                let us = if s.slow > 0 { 5000 } else { 50 };
                let mut counts = vec![0; abi::LATENCY_BUCKETS];
                counts[LatencyHistogram::bucket_of(Nanos::from_micros(us))] = s.ready;
                let queue = if busy > 1.0 { 500.0 * (busy - 1.0) } else { busy };
                let busy = if place.is_some() { busy.min(1.0) } else { 0.0 };
                CorePage {
                    parked: s.parked[i],
                    groups: GroupList(groups),
                    cpu: s.cpus[i],
                    depth_ewma: [if place.is_some() { queue } else { 0.0 }; 3],
                    batch_ewma: 1.0 + busy,
                    iteration_ns_ewma: 60_000.0,
                    idle_ewma: [1.0 - busy; 3],
                    ready: if i == 0 { s.ready } else { 0 },
                    non_responsive: s.calls,
                    latency: if i == 0 { LatencyHistogram::of(counts) } else { LatencyHistogram::default() },
                    ..CorePage::default()
                }
            };
            let cores = (0..s.parked.len()).map(page).collect();
            let header = PageHeader {
                cores: s.parked.len(),
                groups: FLOW_GROUPS,
                pid: 4711,
                bound: 64,
                sched: PageSched::Ix,
                started: Nanos(0),
                heartbeat: s.heartbeat,
                published: 1,
            };
            Ok(Snapshot { at: s.now, header, cores, group_load: vec![s.ready; FLOW_GROUPS] })
        })
    }

    fn command(&mut self, command: &Command) -> Result<Answer, AttachError> {
        self.with(|s| {
            s.commands.push(command.clone());
            if s.refuses {
                let (code, text) = ("timed-out".to_owned(), "core 1 did not come".to_owned());
                return Err(AttachError::Refused(Refusal { code, text }));
            }
            match command {
                Command::Park { core } => s.parked[*core as usize] = true,
                Command::Unpark { core } => s.parked[*core as usize] = false,
                Command::Pin { core, cpu } => s.cpus[*core as usize] = *cpu,
                _ => {}
            }
            Ok(Answer::Pinned)
        })
    }

    fn has_ended(&self) -> bool {
        self.with(|s| s.gone)
    }

    fn about(&self) -> String {
        "numbers".into()
    }
}

/// A control plane, its machine and its dataplane.
struct World {
    daemon: Daemon,
    plane: Numbers,
    machine: Fake,
}

const CONFIG: &str = "slo_us = 500\npolicy = \"consolidate\"\nlisten = \"none\"\n[[dataplane]]\nname = \"kv\"\n\
    [[background]]\nname = \"batch\"\npids = [77]\n";

/// Four cpus, each a core; control groups of version 2; process 77.
fn machine() -> Fake {
    let stat = format!("77 (job) S {} 4242 0", "0 ".repeat(17).trim());
    let fake = Fake::new(&[
        ("sys/devices/system/cpu/online", "0-3"),
        ("proc/77/stat", &stat),
        ("proc/77/cgroup", "0::/"),
        ("proc/self/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0"),
    ]);
    for (file, text) in [
        ("cgroup.controllers", "cpuset"),
        ("cgroup.subtree_control", "cpuset"),
        ("cgroup.procs", "77"),
        ("cgroup.freeze", "0"),
        ("cpuset.cpus", ""),
        ("cpu.stat", "usage_usec 100"),
    ] {
        fake.put(&format!("sys/fs/cgroup/{file}"), text);
    }
    fake
}

impl World {
    fn new(config: &str, machine: Fake, threads: usize, dry_run: bool) -> World {
        let plane = Numbers::new(threads);
        let options =
            Options { dry_run, aloud: false, tree: machine.tree(), attach: Some(plane.attach()), alone: false };
        let daemon = Daemon::start(Config::parse(config, Path::new("/")).unwrap(), options).unwrap();
        World { daemon, plane, machine }
    }

    /// So many rounds; answers after how many `is` held first.
    fn until(&mut self, rounds: usize, is: impl Fn(&World) -> bool) -> Option<usize> {
        (0..rounds).find(|_| {
            let now = self.plane.with(|s| {
                s.now += TICK;
                s.now
            });
            self.daemon.tick(now);
            is(self)
        })
    }

    fn rounds(&mut self, rounds: usize) {
        self.until(rounds, |_| false);
    }

    fn job(&self, file: &str) -> String {
        self.machine.get(&format!("sys/fs/cgroup/zygix-batch/{file}"))
    }

    /// Makes a second pass, so that what happened is shown.
    fn events(&mut self, kind: Kind) -> Vec<String> {
        self.rounds(11);
        let (view, _) = self.daemon.shown();
        view.events.into_iter().filter(|e| e.kind == kind).map(|e| e.text).collect()
    }
}

#[test]
fn cores_follow_the_load_and_the_background_gets_the_rest() {
    let mut world = World::new(CONFIG, machine(), 4, false);
    world.plane.with(|s| s.demand = 0.3);
    world.rounds(1);
    assert_eq!((world.plane.serving(), world.job("cgroup.freeze").as_str()), (4, "1"), "it begins at the top");
    world.until(600, |w| w.plane.serving() == 1).expect("a small load needs one core");
    assert_eq!((world.job("cpuset.cpus").as_str(), world.job("cgroup.freeze").as_str()), ("1-3", "0"));
    assert_eq!(world.plane.with(|s| s.cpus.clone()), [Some(0), Some(1), Some(2), Some(3)], "threads have their cpus");
    // A load of almost three cores: what is behind is seen at the next look.
    world.plane.with(|s| s.demand = 2.9);
    let first = world.until(20, |w| w.plane.serving() > 1).unwrap();
    assert!(first <= 1, "the delay is over its limit for {first} rounds");
    world.until(100, |w| w.plane.serving() >= 3).expect("as many as are needed");
    world.plane.with(|s| s.demand = 3.99);
    world.until(100, |w| w.plane.serving() == 4).expect("all");
    assert_eq!(world.job("cgroup.freeze"), "1", "the last core goes, and the job stops");
    world.rounds(30);
    let (view, history) = world.daemon.shown();
    assert!(view.dataplanes[0].rate > 0.0 && history.samples.len() >= 3);
    let report = world.daemon.finish();
    assert_eq!(report.left, Vec::<String>::new());
    assert!(!world.machine.has("sys/fs/cgroup/zygix-batch"));
    assert_eq!(world.plane.with(|s| s.cpus.clone()), [None; 4]);
}

#[test]
fn the_end_leaves_all_as_it_was_found() {
    let fake = machine();
    fake.acpi(0, "0 1 2 3");
    let before = fake.all();
    let config = CONFIG.replace("consolidate", "energy");
    let mut world = World::new(&config, fake, 4, false);
    world.plane.with(|s| s.demand = 0.1);
    world.until(600, |w| w.plane.serving() == 1).unwrap();
    let speed = world.machine.get("sys/devices/system/cpu/cpufreq/policy0/scaling_setspeed");
    assert_eq!(speed, "1200000", "the slowest clock");
    assert_eq!(world.job("cgroup.freeze"), "1", "policy energy leaves nothing to others");
    let (plane, machine) = (world.plane.clone(), world.machine);
    assert_eq!(world.daemon.finish().left, Vec::<String>::new());
    assert_eq!((plane.serving(), plane.with(|s| s.cpus.clone())), (4, vec![None; 4]));
    assert_eq!(machine.all(), before);
}

#[test]
fn a_dry_run_decides_and_changes_nothing() {
    let fake = machine();
    fake.acpi(0, "0 1 2 3");
    let before = fake.all();
    let mut world = World::new(CONFIG, fake, 4, true);
    world.plane.with(|s| s.demand = 0.1);
    world.rounds(200);
    assert!(!world.events(Kind::Down).is_empty());
    assert_eq!(world.plane.with(|s| s.commands.len()), 0);
    let machine = world.machine;
    world.daemon.finish();
    assert_eq!(machine.all(), before);
    assert_eq!(world.plane.with(|s| s.commands.len()), 0);
}

#[test]
fn a_dataplane_that_ends_is_waited_for() {
    let mut world = World::new(CONFIG, machine(), 4, false);
    world.plane.with(|s| s.gone = true);
    world.rounds(30);
    assert_eq!(world.job("cpuset.cpus"), "0-3", "nobody needs them");
    assert_eq!(world.events(Kind::Gone), ["there is no dataplane kv; none runs here"], "said once");
    world.plane.with(|s| {
        s.gone = false;
        s.parked = vec![false, true, true, true];
    });
    world.until(30, |w| w.plane.serving() == 4).expect("found again, it gets all there is");
    assert_eq!(world.job("cgroup.freeze"), "1");
    world.plane.with(|s| s.gone = true);
    world.rounds(2);
    let gone = world.events(Kind::Gone);
    assert_eq!(gone.last().unwrap(), "it has ended; waiting for it to come back");
    assert_eq!(world.events(Kind::Attached).len(), 1);
}

#[test]
fn one_that_is_stopped_or_refuses_is_left_alone_and_said_once() {
    let mut world = World::new(CONFIG, machine(), 4, false);
    world.plane.with(|s| s.demand = 0.1);
    world.rounds(2);
    world.plane.with(|s| s.refuses = true);
    world.rounds(100);
    let refusals = world.events(Kind::Trouble);
    assert!(!refusals.is_empty() && refusals.iter().all(|t| t.contains("core 1 did not come")), "{refusals:?}");
    let tries = world.plane.with(|s| std::mem::take(&mut s.commands).len());
    assert!(tries < 20, "{tries} commands in 11 seconds");
    world.plane.with(|s| (s.refuses, s.stopped) = (false, true));
    world.rounds(50);
    let last = world.events(Kind::Trouble);
    assert!(last.last().unwrap().contains("does not write its page"), "{last:?}");
    world.plane.with(|s| s.commands.clear());
    world.rounds(50);
    assert_eq!(world.plane.with(|s| s.commands.len()), 0);
    let (view, _) = world.daemon.shown();
    assert_eq!(view.dataplanes[0].state, "silent");
}

#[test]
fn missed_objectives_and_calls_that_do_not_return_are_counted() {
    let mut world = World::new(CONFIG, machine(), 2, false);
    world.plane.with(|s| s.demand = 0.5);
    world.rounds(30);
    world.plane.with(|s| (s.slow, s.calls) = (1, 3));
    world.rounds(1);
    world.plane.with(|s| s.slow = 1);
    assert_eq!(world.events(Kind::NonResponsive), ["6 call(s) of the application took more than 10 ms"]);
    assert_eq!(world.events(Kind::Violation).len(), 1, "a row of seconds is one event");
    let (view, _) = world.daemon.shown();
    assert!(view.dataplanes[0].violations >= 1 && view.dataplanes[0].violations < view.dataplanes[0].seconds);
}

#[test]
fn what_a_machine_lacks_is_said_once() {
    let mut world = World::new(CONFIG, machine(), 4, false);
    world.rounds(100);
    let notes = world.events(Kind::Note);
    for what in
        ["clocks stay as they are: sys/devices/system/cpu/cpufreq: not on this machine", "power is that of a model"]
    {
        assert_eq!(notes.iter().filter(|n| n.starts_with(what)).count(), 1, "{what}: {notes:?}");
    }
    let (view, _) = world.daemon.shown();
    assert!(view.host.power_w.unwrap() > 0.0 && view.host.power_from == "model this machine");
}

#[test]
fn limits_are_kept() {
    let config = CONFIG.replace("name = \"kv\"", "name = \"kv\"\nmin_threads = 2\nmax_threads = 3\ncpus = \"0-3\"");
    let mut world = World::new(&config, machine(), 4, false);
    world.plane.with(|s| s.demand = 0.1);
    world.until(600, |w| w.job("cpuset.cpus") == "2-3" && w.job("cgroup.freeze") == "0").expect("two stay");
    assert_eq!(world.plane.serving(), 2);
    world.plane.with(|s| s.demand = 9.0);
    world.rounds(200);
    assert_eq!(world.plane.serving(), 3);
}

#[test]
fn more_threads_than_cpus_and_cpus_that_are_not_there() {
    let mut world = World::new(CONFIG, machine(), 6, false);
    world.rounds(3);
    assert_eq!(world.plane.serving(), 4);
    assert_eq!(world.events(Kind::Attached), ["6 elastic threads, but 4 cpus for them: 2 stay parked"]);
    let config = Config::parse(&CONFIG.replace("\"kv\"", "\"kv\"\ncpus = \"0-7\""), Path::new("/")).unwrap();
    let machine = machine();
    let options = Options { aloud: false, tree: machine.tree(), alone: false, ..Options::default() };
    assert_eq!(Daemon::start(config, options).err().unwrap(), "cpu 4 is offline");
}
