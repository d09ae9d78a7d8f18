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
    /// Flow groups may not be moved by hand.
    keeps_groups: bool,
    /// Commands are not answered.
    deaf: bool,
    /// Why it cannot be attached to.
    closed: Option<fn() -> AttachError>,
    attempts: usize,
    heartbeat: Nanos,
    commands: Vec<Command>,
    /// The core of each flow group, its share of the load, and frames so far.
    owners: Vec<usize>,
    weights: Vec<u64>,
    frames: Vec<u64>,
    ready: u64,
    slow: u64,
    calls: u64,
}

impl State {
    fn active(&self) -> Vec<usize> {
        (0..self.parked.len()).filter(|i| !self.parked[*i]).collect()
    }

    /// Cores came or went: each gets as many groups as the others.
    fn spread(&mut self) {
        let active = self.active();
        self.owners = (0..FLOW_GROUPS).map(|g| active[g % active.len()]).collect();
    }

    fn refusal(&self, command: &Command) -> Option<AttachError> {
        let moves = matches!(command, Command::Move { .. });
        let to_parked = matches!(command, Command::Move { to, .. } if self.parked[*to as usize]);
        let (code, text) = match () {
            () if to_parked => ("parked", "it is parked"),
            () if self.refuses || self.keeps_groups && moves => ("timed-out", "core 1 did not come"),
            () => return None,
        };
        Some(AttachError::Refused(Refusal { code: code.to_owned(), text: text.to_owned() }))
    }
}

/// A link to it, which is broken once a command was not answered.
#[derive(Clone)]
struct Numbers(Arc<Mutex<State>>, bool);

impl Numbers {
    fn new(threads: usize) -> Numbers {
        let now = Nanos::from_secs(1000);
        let mut state = State { now, parked: vec![false; threads], cpus: vec![None; threads], ..State::default() };
        state.spread();
        (state.weights, state.frames) = (vec![1; FLOW_GROUPS], vec![0; FLOW_GROUPS]);
        Numbers(Arc::new(Mutex::new(state)), false)
    }

    fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut self.0.lock().unwrap())
    }

    fn serving(&self) -> usize {
        self.with(|s| s.parked.iter().filter(|p| !**p).count())
    }

    fn attach(&self) -> Attach {
        let own = self.clone();
        let knock = move || {
            own.with(|s| {
                s.attempts += 1;
                (s.gone, s.closed)
            })
        };
        let own = self.clone();
        Box::new(move |name| match knock() {
            (true, _) => Err(AttachError::NoSuch { name: name.to_owned(), there: vec![] }),
            (false, Some(why)) => Err(why()),
            (false, None) => Ok(Box::new(own.clone())),
        })
    }
}

impl Plane for Numbers {
    fn snapshot(&mut self) -> Result<Snapshot, AttachError> {
        self.with(|s| {
            if !s.stopped {
                s.heartbeat = s.now;
                let more = (s.demand * 1000.0) as u64;
                s.ready += more;
                let all: u64 = s.weights.iter().sum();
                s.frames.iter_mut().zip(&s.weights).for_each(|(frames, weight)| *frames += 100 * more * weight / all);
            }
            let active = s.active();
            let busy = s.demand / active.len() as f64;
            let page = |i: usize| {
                let place = active.iter().position(|a| *a == i);
                let groups = (0..FLOW_GROUPS).filter(|g| s.owners[*g] == i);
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
            Ok(Snapshot { at: s.now, header, cores, group_load: s.frames.clone() })
        })
    }

    fn command(&mut self, command: &Command) -> Result<Answer, AttachError> {
        if self.1 {
            return Err(AttachError::Gone("it failed to answer before; attach anew".into()));
        }
        self.1 = self.with(|s| s.deaf);
        if self.1 {
            return Err(AttachError::Silent);
        }
        self.with(|s| {
            s.commands.push(command.clone());
            if let Some(refusal) = s.refusal(command) {
                return Err(refusal);
            }
            match command {
                Command::Park { core } => s.parked[*core as usize] = true,
                Command::Unpark { core, .. } => s.parked[*core as usize] = false,
                Command::Pin { core, cpu } => s.cpus[*core as usize] = *cpu,
                Command::Move { groups, to } => groups.0.iter().for_each(|g| s.owners[g.index()] = usize::from(*to)),
                _ => {}
            }
            if matches!(command, Command::Park { .. } | Command::Unpark { .. }) {
                s.spread();
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

    /// What the next round tells it.
    fn told(&mut self) -> Vec<Command> {
        self.plane.with(|s| s.commands.clear());
        self.rounds(1);
        self.plane.with(|s| s.commands.clone())
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
    let commands = world.plane.with(|s| std::mem::take(&mut s.commands));
    let tries = commands.iter().filter(|c| !matches!(c, Command::Move { .. })).count();
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
    let mut world = World::new(&CONFIG.replace("\"kv\"", "\"kv\"\nmin_threads = 5"), machine(), 6, false);
    world.rounds(100);
    assert_eq!(world.plane.serving(), 4, "as many as can");
    let said = "6 elastic threads, but 4 cpus for them: 2 stay parked; min_threads = 5 is more than can serve";
    assert_eq!(world.events(Kind::Attached), [said]);
    let config = Config::parse(&CONFIG.replace("\"kv\"", "\"kv\"\ncpus = \"0-7\""), Path::new("/")).unwrap();
    let machine = machine();
    let options = Options { aloud: false, tree: machine.tree(), alone: false, ..Options::default() };
    assert_eq!(Daemon::start(config, options).err().unwrap(), "cpu 4 is offline");
}

#[test]
fn no_group_is_moved_by_a_picture_from_before_the_cores_changed() {
    let mut world = World::new(CONFIG, machine(), 4, false);
    // Group 0, and those that are with it on each number of cores, have most of the load.
    world.plane.with(|s| (0..FLOW_GROUPS).step_by(12).for_each(|g| s.weights[g] = 40));
    let (mut moved, mut changed) = (0, 0);
    for demand in [0.3, 3.9, 0.3, 3.9] {
        world.plane.with(|s| s.demand = demand);
        for _ in 0..150 {
            let told = world.told();
            let is_move = |c: &&Command| matches!(c, Command::Move { .. });
            let moves = told.iter().filter(is_move).count();
            let others = told.len() - moves;
            // Of several cores that go, groups are moved away before.
            let (first, rest) = told.split_at(moves);
            let parks = rest.iter().filter(|c| matches!(c, Command::Park { .. })).count();
            assert!(
                moves == 0 || others == 0 || first.iter().all(|c| is_move(&c)) && parks == others && parks > 1,
                "{told:?}"
            );
            (moved, changed) = (moved + moves, changed + others);
        }
    }
    assert!(moved > 0 && changed > 0, "{moved} moves, {changed} other commands");
    assert_eq!(world.events(Kind::Trouble), Vec::<String>::new());
}

#[test]
fn groups_that_cannot_be_moved_keep_no_core_from_coming() {
    let mut world = World::new(&CONFIG.replace("\"kv\"", "\"kv\"\nmin_threads = 2"), machine(), 4, false);
    world.plane.with(|s| {
        (s.demand, s.keeps_groups) = (0.3, true);
        (0..FLOW_GROUPS).step_by(2).for_each(|g| s.weights[g] = 40);
    });
    world.until(600, |w| w.plane.serving() == 2).expect("a small load needs two cores");
    // Each second an attempt to move groups is refused; at whatever moment the load comes.
    for wait in 0..10 {
        world.until(600, |w| w.plane.serving() == 2).expect("two again");
        world.until(100, |w| w.plane.with(|s| matches!(s.commands.pop(), Some(Command::Move { .. })))).unwrap();
        world.rounds(wait);
        world.plane.with(|s| s.demand = 3.9);
        let rounds = world.until(20, |w| w.plane.serving() > 2).unwrap();
        assert!(rounds <= 1, "the delay is over its limit for {rounds} rounds");
        world.plane.with(|s| s.demand = 0.3);
    }
    assert!(world.events(Kind::Trouble).iter().all(|t| t.starts_with("moving ")));
}

#[test]
fn one_that_did_not_answer_is_attached_to_anew() {
    let mut world = World::new(CONFIG, machine(), 4, false);
    world.plane.with(|s| s.demand = 0.3);
    world.until(600, |w| w.plane.serving() == 1).expect("a small load needs one core");
    world.plane.with(|s| (s.deaf, s.demand) = (true, 3.9));
    world.rounds(5);
    assert_eq!(world.job("cpuset.cpus"), "2-3", "cpus that it has or shall have are not given away");
    world.plane.with(|s| s.deaf = false);
    world.until(30, |w| w.plane.serving() == 4).expect("commands get through again");
    let said = "{\"cmd\":\"unpark\",\"core\":1,\"more\":0}: the dataplane does not answer; is its process stopped?; it is attached to anew";
    assert_eq!(world.events(Kind::Trouble), [said]);
    assert_eq!(world.events(Kind::Attached).last().unwrap(), "it answers again");
    let plane = world.plane.clone();
    assert_eq!(world.daemon.finish().left, Vec::<String>::new());
    assert_eq!(plane.with(|s| s.cpus.clone()), [None; 4], "how it was found is not forgotten");
}

#[test]
fn each_reason_for_not_attaching_is_told() {
    let mut world = World::new(CONFIG, machine(), 4, false);
    world.plane.with(|s| s.gone = true);
    world.rounds(30);
    world.plane.with(|s| s.gone = false);
    world.plane.with(|s| s.closed = Some(|| AttachError::Silent));
    world.rounds(30);
    world.plane.with(|s| s.closed = Some(|| AttachError::Protocol("version 1".into())));
    world.rounds(30);
    let gone = world.events(Kind::Gone);
    let starts = ["there is no dataplane kv", "the dataplane does not answer", "what answers there is no dataplane"];
    assert!(gone.len() == 3 && gone.iter().zip(starts).all(|(text, start)| text.starts_with(start)), "{gone:?}");
}

#[test]
fn what_cannot_be_put_back_is_told_at_the_end() {
    let mut world = World::new(CONFIG, machine(), 4, false);
    world.plane.with(|s| s.demand = 0.3);
    world.until(600, |w| w.plane.serving() == 1).unwrap();
    world.plane.with(|s| s.stopped = true);
    world.rounds(30);
    assert_eq!(world.daemon.finish().left, ["kv: it does not answer: its threads stay as they are"]);

    let mut world = World::new(CONFIG, machine(), 4, false);
    world.rounds(20);
    world.plane.with(|s| s.gone = true);
    assert_eq!(world.daemon.finish().left, Vec::<String>::new(), "who is gone needs nothing");
}

#[test]
fn a_clock_that_was_refused_is_asked_for_again_and_goes_back_with_its_dataplane() {
    let fake = machine();
    fake.acpi(0, "0 1 2 3");
    let before = fake.all();
    let speed = "sys/devices/system/cpu/cpufreq/policy0/scaling_setspeed";
    fake.read_only(speed);
    let mut world = World::new(&CONFIG.replace("consolidate", "energy"), fake, 4, false);
    world.plane.with(|s| s.demand = 0.1);
    world.until(600, |w| w.plane.serving() == 1).unwrap();
    assert_eq!(world.events(Kind::Trouble).len(), 1, "said once");
    std::fs::remove_file(world.machine.root.join(speed)).unwrap();
    world.machine.put(speed, "<unsupported>");
    world.until(20, |w| w.machine.get(speed) == "1200000").expect("the slowest clock");
    world.plane.with(|s| s.gone = true);
    world.rounds(2);
    let clocks = |all: Vec<(std::path::PathBuf, String)>| -> Vec<_> {
        all.into_iter().filter(|(path, _)| path.to_string_lossy().contains("cpufreq")).collect()
    };
    assert_eq!(clocks(world.machine.all()), clocks(before), "nobody wants them");
}

#[test]
fn one_that_takes_its_time_is_tried_seldom() {
    let slow = || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        AttachError::Silent
    };
    let mut world = World::new(CONFIG, machine(), 4, false);
    world.plane.with(|s| s.closed = Some(slow));
    world.rounds(30);
    assert_eq!(world.plane.with(|s| s.attempts), 1);
    world.plane.with(|s| s.closed = Some(|| AttachError::Silent));
    world.until(600, |w| w.plane.with(|s| s.attempts) >= 10).expect("again, and every second");
}

#[test]
fn a_table_from_another_machine_is_noted() {
    let fake = machine();
    let step = |cores: u32| {
        format!("[[step]]\ncores = {cores}\nthreads = 1\nclock = 0\nbackground = false\nload = {cores}.0\n")
    };
    fake.put("pareto.toml", &format!("name = \"p\"\nmachine = \"e5-2665\"\n{}{}", step(1), step(4)));
    let table = fake.root.join("pareto.toml");
    let config = CONFIG.replace("consolidate", "pareto").replace("\"kv\"", &format!("\"kv\"\ntable = {table:?}"));
    for (model, note) in [("", "; its table was found on e5-2665, not on this machine"), ("model = \"e5-2665\"\n", "")]
    {
        let fake = machine();
        let mut world = World::new(&format!("{config}[machine]\n{model}"), fake, 4, false);
        assert_eq!(world.events(Kind::Attached), [format!("numbers; 4 elastic threads on cpus 0-3{note}")]);
    }
}
