//! Flow groups change cores while they are served, on threads and on real time: what the client says is answered once and in order, nothing is sent again,
//! and no handler holds a move up. No test waits for a span: what has to happen is waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use dataplane::{Assist, Controller, Dataplane, Idle, MoveError, RunnerConfig, Sched};
use netstack::{DropReason, Metrics};
use nic::Nic;
use units::{CoreId, FLOW_GROUPS, FlowGroupId, GroupSet, Nanos};
use zygix::Runtime;

use crate::client::{CLIENT, PORT, SERVER};
use crate::desk::Desk;
use crate::world::{Half, client_half, server_config, wire};

const LIMIT: Duration = Duration::from_secs(30);
const ADAPTIVE: Idle = Idle::Adaptive(Nanos::from_micros(50));
const MODES: [Sched; 4] =
    [Sched::Ix, Sched::Zygos(Assist::None), Sched::Zygos(Assist::Lend), Sched::Zygos(Assist::Ipi)];

struct Live {
    dataplane: Dataplane,
    controller: Controller,
    desk: Arc<Desk>,
    client: Half<crate::client::Client>,
    group: Arc<shm::ShmNic>,
}

impl Live {
    fn start(sched: Sched, idle: Idle, links: usize, cores: u16) -> Live {
        let (mut a, b) = wire(cores);
        let queues = a.queues();
        let (nic, desk) = (Arc::new(a), Arc::new(Desk::default()));
        let runner = RunnerConfig { idle, sched, ..RunnerConfig::default() };
        let (mut runtime, service, group) = (None, desk.clone(), nic.clone());
        let dataplane = Dataplane::start(
            server_config(64),
            queues,
            move |t| group.flow_group(t),
            &runner,
            |core, shared| runtime.get_or_insert_with(|| Runtime::new(service.clone(), shared.clone())).app(core),
        )
        .unwrap();
        let steer = nic.clone();
        let controller = dataplane.controller(Some(Box::new(move |g, q| steer.set_reta(g, q)))).unwrap();
        let mut live = Live { dataplane, controller, desk, client: client_half(b, cores.into()), group: nic };
        (0..links).for_each(|_| {
            live.client.app.dial();
        });
        live.until(|client| (0..links).all(|l| client.is_open(l)));
        live
    }

    /// Turns the client until `done`.
    #[track_caller]
    fn until(&mut self, mut done: impl FnMut(&crate::client::Client) -> bool) {
        let Half { thread, app } = &mut self.client;
        let begun = Instant::now();
        while !done(app) {
            assert!(begun.elapsed() < LIMIT, "it does not happen");
            thread.turn(sys::clock::now(), sys::clock::now, app);
            std::thread::yield_now();
        }
    }

    fn say(&mut self, link: usize, text: &str) {
        self.client.app.say(link, &format!("{text}\n"));
    }

    /// Says something and waits for the answer: which core gave it.
    #[track_caller]
    fn ask(&mut self, link: usize, text: &str) -> String {
        self.client.app.links[link].got.clear();
        self.say(link, text);
        self.until(|client| client.links[link].got.ends_with('\n'));
        let got = self.client.app.links[link].got.trim_end();
        let (echoed, core) = got.rsplit_once('@').unwrap();
        assert_eq!(echoed, text);
        core.to_owned()
    }

    /// The flow group of a connection: the client counts its ports up, so the test asks the server which one it is.
    fn groups_of(&self, core: u16) -> GroupSet {
        self.controller.cores()[usize::from(core)].groups
    }

    fn total(&self, of: impl Fn(&Metrics) -> u64) -> u64 {
        self.dataplane.shared().total(of)
    }

    /// What the controller does takes a while, in which the client goes on.
    fn control<R: Send>(&mut self, act: impl FnOnce(&Controller) -> R + Send) -> R {
        let controller = self.controller.clone();
        std::thread::scope(|scope| {
            let acts = scope.spawn(move || act(&controller));
            self.until(|_| acts.is_finished());
            acts.join().unwrap()
        })
    }

    /// No frame was lost on the way between cores, and no connection ran twice at a time. That nothing at all is sent again is shown where no thread can be
    /// held up (dp/netstack/tests/migration.rs).
    #[track_caller]
    fn is_unharmed(&self) {
        for why in [DropReason::InboxFull, DropReason::NoConn, DropReason::NoPort] {
            assert_eq!(self.total(|m| m.drops(why)), 0, "{why:?}");
        }
        assert!(!self.desk.log.lock().unwrap().iter().any(|l| l.contains("twice")), "a connection ran twice at a time");
    }
}

/// Moves at random, until `over`; how many.
fn stir(controller: &Controller, cores: u16, over: &AtomicBool) -> usize {
    let (mut dice, mut n) = (0x9e37_79b9_u32, 0);
    let mut roll = |sides: u32| {
        dice ^= dice << 13;
        dice ^= dice >> 17;
        dice ^= dice << 5;
        dice % sides
    };
    while !over.load(SeqCst) {
        let to = CoreId(roll(cores.into()) as u16);
        let wanted: GroupSet = (0..8).map(|_| FlowGroupId(roll(FLOW_GROUPS as u32) as u16)).collect();
        let owners = controller.groups();
        let groups: GroupSet = wanted.iter().filter(|g| owners[g.index()] != to).collect();
        if groups.is_empty() {
            continue;
        }
        controller.move_groups(groups, to).expect("it is moved");
        n += 1;
    }
    n
}

#[test]
fn groups_move_under_load_and_nobody_notices() {
    for sched in MODES {
        let (links, lines) = (24, 400);
        let mut live = Live::start(sched, ADAPTIVE, links, 2);
        let over = Arc::new(AtomicBool::new(false));
        let stirrer = std::thread::spawn({
            let (controller, over) = (live.controller.clone(), over.clone());
            move || stir(&controller, 2, &over)
        });
        // Several lines of each connection are under way at a time.
        for line in 0..lines {
            (0..links).for_each(|link| live.say(link, &format!("{line}")));
            let behind =
                |client: &crate::client::Client| client.links.iter().map(|l| line + 1 - l.got.lines().count()).max();
            live.until(|client| behind(client) <= Some(4));
        }
        live.until(|client| client.links.iter().all(|l| l.got.lines().count() == lines));
        over.store(true, SeqCst);
        let moves = stirrer.join().unwrap();
        for (i, link) in live.client.app.links.iter().enumerate() {
            let said: Vec<_> =
                link.got.lines().map(|l| l.split_once('@').unwrap().0.parse::<usize>().unwrap()).collect();
            assert_eq!(said, (0..lines).collect::<Vec<usize>>(), "{sched:?}, connection {i}");
        }
        assert!(moves > 0 && live.total(|m| m.groups_in.get()) >= moves as u64);
        live.is_unharmed();
        for report in live.controller.log() {
            assert!(report.forwarded.is_empty() && report.total >= report.prepare + report.wait + report.rpc);
        }
    }
}

#[test]
fn a_parked_core_owns_nothing_and_can_be_woken() {
    for (sched, idle) in [(Sched::Ix, ADAPTIVE), (Sched::Zygos(Assist::Lend), ADAPTIVE), (Sched::Ix, Idle::Spin)] {
        let links = 16;
        let mut live = Live::start(sched, idle, links, 2);
        let controller = live.controller.clone();
        live.control(|c| c.park(CoreId(1))).unwrap();
        assert!(live.groups_of(1).is_empty() && live.groups_of(0).len() == FLOW_GROUPS);
        for link in 0..links {
            assert_eq!(live.ask(link, "parked"), "0", "{sched:?}");
        }
        assert_eq!(controller.park(CoreId(1)), Err(MoveError::Parked(CoreId(1))));
        assert_eq!(controller.park(CoreId(0)), Err(MoveError::LastCore));
        let some: GroupSet = [FlowGroupId(3)].into_iter().collect();
        assert_eq!(controller.move_groups(some, CoreId(1)), Err(MoveError::Parked(CoreId(1))));
        assert_eq!(controller.move_groups(some, CoreId(0)), Err(MoveError::SameCore(FlowGroupId(3))));
        assert_eq!(controller.move_groups(some, CoreId(9)), Err(MoveError::NoSuchCore(CoreId(9))));
        let none: GroupSet = [FlowGroupId(500)].into_iter().collect();
        assert_eq!(controller.move_groups(none, CoreId(0)), Err(MoveError::NoGroups));
        assert_eq!(controller.unpark(CoreId(0), 0), Err(MoveError::NotParked(CoreId(0))));
        // Nobody else is parked, whatever is said of who comes after it.
        live.control(|c| c.unpark(CoreId(1), 9)).unwrap();
        assert_eq!(live.groups_of(1).len(), FLOW_GROUPS / 2, "it has its share again");
        let answered: Vec<_> = (0..links).map(|link| live.ask(link, "again")).collect();
        assert!(sched != Sched::Ix || answered.iter().any(|core| core == "1"), "and serves it");
        live.is_unharmed();
    }
}

/// A handler that waits for what comes after the move delays it not, and what it then answers gets to the client.
#[test]
fn no_handler_holds_a_move_up() {
    for sched in MODES {
        let mut live = Live::start(sched, ADAPTIVE, 16, 2);
        let (begun, freed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        live.desk.when("hold", {
            let (begun, freed) = (begun.clone(), freed.clone());
            move || {
                begun.store(true, SeqCst);
                let since = Instant::now();
                while !freed.load(SeqCst) && since.elapsed() < LIMIT {
                    std::thread::yield_now();
                }
            }
        });
        let links: Vec<usize> = (0..16).collect();
        live.client.app.links[0].got.clear();
        live.say(0, "hold");
        live.until(|_| begun.load(SeqCst));
        // Whichever core runs it, its connection goes: all groups go to one core, then to the other.
        for core in [0, 1] {
            let theirs = live.groups_of(1 - core);
            if !theirs.is_empty() {
                live.control(|c| c.move_groups(theirs, CoreId(core))).unwrap();
            }
        }
        assert!(!freed.load(SeqCst) && live.client.app.links[0].got.is_empty(), "it runs still");
        freed.store(true, SeqCst);
        live.until(|client| client.links[0].got.ends_with('\n'));
        assert!(live.client.app.links[0].got.starts_with("hold@"));
        for link in links {
            live.ask(link, "on");
        }
        live.is_unharmed();
        let tuple = wire::Tuple { local: SERVER.into(), remote: CLIENT.into(), local_port: PORT, remote_port: 40_000 };
        let group = live.group.flow_group(&tuple);
        assert_eq!(live.dataplane.shared().owner(group), CoreId(1), "all are at the last core");
    }
}
