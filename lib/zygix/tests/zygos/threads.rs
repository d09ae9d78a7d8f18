//! The server on threads and on real time. No test waits for a span: what has to happen is waited for, and a generous limit makes a test fail
//! instead of hang.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use dataplane::{Assist, Dataplane, Idle, RunnerConfig, Sched};
use netstack::Metrics;
use units::{CoreId, Nanos};
use zygix::Runtime;

use crate::client::Client;
use crate::desk::Desk;
use crate::world::{Half, client_half, server_config, wire};

const LIMIT: Duration = Duration::from_secs(20);
const ADAPTIVE: Idle = Idle::Adaptive(Nanos::from_micros(50));

struct Live {
    dataplane: Dataplane,
    desk: Arc<Desk>,
    client: Half<Client>,
}

/// Waits until `done`; false when that takes for ever.
fn wait(mut done: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while !done() {
        if begun.elapsed() > LIMIT {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

impl Live {
    fn start(assist: Assist, idle: Idle, links: usize, cores: u16) -> Live {
        let (mut a, b) = wire(cores);
        let queues = nic::Nic::queues(&mut a);
        let desk = Arc::new(Desk::default());
        let runner = RunnerConfig { idle, sched: Sched::Zygos(assist), ..RunnerConfig::default() };
        let mut runtime = None;
        let service = desk.clone();
        let group = move |t: &wire::Tuple| nic::Nic::flow_group(&a, t);
        let dataplane = Dataplane::start(server_config(64), queues, group, &runner, |core, shared| {
            runtime.get_or_insert_with(|| Runtime::new(service.clone(), shared.clone())).app(core)
        });
        let mut live = Live { dataplane: dataplane.unwrap(), desk, client: client_half(b, cores.into()) };
        let all: Vec<_> = (0..links).map(|_| live.client.app.dial()).collect();
        for link in all {
            live.ask(link, "hello");
        }
        live
    }

    /// Turns the client until `done`; false when that takes for ever.
    fn until(&mut self, mut done: impl FnMut(&Client) -> bool) -> bool {
        let Half { thread, app } = &mut self.client;
        wait(|| {
            thread.turn(sys::clock::now(), sys::clock::now, app);
            done(app)
        })
    }

    fn say(&mut self, link: usize, text: &str) {
        self.until(|client| client.is_open(link));
        self.client.app.links[link].got.clear();
        self.client.app.say(link, &format!("{text}\n"));
        self.until(|_| true);
    }

    /// The core that answered what was said on a connection.
    fn answer(&mut self, link: usize) -> Option<String> {
        self.until(|client| client.links[link].got.ends_with('\n'));
        let got = &self.client.app.links[link].got;
        got.trim_end().rsplit_once('@').map(|(_, core)| core.to_owned())
    }

    fn ask(&mut self, link: usize, text: &str) -> Option<String> {
        self.say(link, text);
        self.answer(link)
    }

    /// Two connections of core 0.
    fn two(&self) -> [usize; 2] {
        let links = self.client.app.links.iter().enumerate().filter(|(_, l)| l.home == 0);
        let [a, b, ..] = links.map(|(i, _)| i).collect::<Vec<_>>()[..] else { panic!("two connections of core 0") };
        [a, b]
    }

    fn count(&self, of: impl Fn(&Metrics) -> u64) -> u64 {
        self.dataplane.shared().total(of)
    }

    /// A handler that waits for another one, of a connection with the same home: the other core sees to that one. Says which cores answered.
    fn one_waits_for_the_other(&mut self) -> [Option<String>; 2] {
        let [a, b] = self.two();
        let (begun, freed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        self.desk.when("wait", {
            let (begun, freed) = (begun.clone(), freed.clone());
            move || {
                begun.store(true, SeqCst);
                wait(|| freed.load(SeqCst))
            }
        });
        self.desk.when("free", move || freed.store(true, SeqCst));
        self.say(a, "wait");
        assert!(self.until(|_| begun.load(SeqCst)), "the handler began");
        let free = self.ask(b, "free");
        [self.answer(a), free]
    }
}

/// Whether its cores spin or sleep when they are idle, and however short handlers were before.
#[test]
fn a_long_handler_does_not_hold_up_another_connection_of_its_core() {
    for assist in [Assist::Lend, Assist::Ipi] {
        for idle in [Idle::Spin, ADAPTIVE] {
            let mut live = Live::start(assist, idle, 16, 2);
            for round in 0..20 {
                let cores = live.one_waits_for_the_other();
                assert!(
                    cores[0].is_some() && cores[1].is_some() && cores[0] != cores[1],
                    "{assist}, {idle:?}, {round}"
                );
            }
            match assist {
                Assist::Ipi => assert!(live.count(|m| m.interrupts.get()) > 0),
                _ => assert!(live.count(|m| m.lends.get()) > 0),
            }
            live.dataplane.stop();
        }
    }
}

/// Interrupts that do not get through: what they were sent for is done when the home comes back.
#[test]
fn a_lost_interrupt_costs_time_and_nothing_else() {
    let mut live = Live::start(Assist::Ipi, Idle::Spin, 16, 2);
    let [a, b] = live.two();
    for _ in 0..10 {
        let begun = Arc::new(AtomicBool::new(false));
        let shared = live.dataplane.shared().clone();
        let sent = move || (0..2).map(|core| shared.metrics(CoreId(core)).interrupts_sent.get()).sum::<u64>();
        let before = sent();
        let deaf = live.desk.when("deaf", {
            let begun = begun.clone();
            move || {
                sys::interrupt::held(|| {
                    begun.store(true, SeqCst);
                    wait(|| sent() > before)
                })
            }
        });
        live.say(a, "deaf");
        assert!(live.until(|_| begun.load(SeqCst)));
        assert!(live.ask(b, "ping").is_some());
        assert!(live.answer(a).is_some());
        assert_eq!(deaf.lock().unwrap().take(), Some(true), "an interrupt was sent");
        let cores = live.one_waits_for_the_other();
        assert!(cores[0].is_some() && cores[0] != cores[1], "the next one gets through");
    }
    live.dataplane.stop();
}

/// All cores asleep, again and again: whatever comes is answered.
#[test]
fn sleepers_are_woken_for_whatever_comes() {
    for assist in [Assist::None, Assist::Ipi, Assist::Lend] {
        let mut live = Live::start(assist, Idle::Adaptive(Nanos::ZERO), 16, 2);
        for round in 0..300 {
            for link in [round % 16, (round * 7 + 3) % 16] {
                live.say(link, &format!("{round}"));
            }
            for link in [round % 16, (round * 7 + 3) % 16] {
                assert!(live.answer(link).is_some(), "{assist}, round {round}");
            }
        }
        live.dataplane.stop();
    }
}

/// Handlers were short, so nobody watches; all cores sleep; then one handler is long, and nothing that those wait for tells them.
#[test]
fn a_long_handler_is_noticed_by_cores_that_sleep() {
    for assist in [Assist::Lend, Assist::Ipi] {
        let mut live = Live::start(assist, ADAPTIVE, 16, 2);
        let [a, b] = live.two();
        for n in 0..400 {
            assert!(live.ask([a, b][n % 2], "short").is_some());
        }
        // Long enough for the timers of what was said to have run out.
        let begun = Instant::now();
        live.until(|_| begun.elapsed() > Duration::from_millis(500));
        let cores = live.one_waits_for_the_other();
        assert!(cores[0].is_some() && cores[1].is_some() && cores[0] != cores[1], "{assist}: {cores:?}");
        live.dataplane.stop();
    }
}

/// The home sleeps while another core runs a handler of its, for so long that nothing else is due; then that one sets a timer.
#[test]
fn a_timer_set_on_another_core_rings_although_all_sleep() {
    for assist in [Assist::None, Assist::Ipi, Assist::Lend] {
        let mut live = Live::start(assist, ADAPTIVE, 16, 3);
        let [a, b] = live.two();
        let mut stolen = 0;
        for _ in 0..20 {
            live.desk.log.lock().unwrap().clear();
            // Nothing is asserted of these spans: one lets a thief come, the other lets the home run out of patience.
            let (begun, now) = (Arc::new(AtomicBool::new(false)), Instant::now());
            live.desk.when("timer", {
                let begun = begun.clone();
                move || {
                    begun.store(true, SeqCst);
                    wait(|| now.elapsed() > Duration::from_millis(60))
                }
            });
            live.desk.when("x", move || wait(|| begun.load(SeqCst) || now.elapsed() > Duration::from_millis(5)));
            live.client.app.links[b].got.clear();
            live.client.app.say(a, "x\n");
            live.client.app.say(b, "timer\n");
            assert!(live.until(|client| client.links[b].got.contains("tick")), "{assist}");
            stolen += usize::from(!live.desk.log.lock().unwrap().contains(&"timer@0".into()));
            if stolen == 4 {
                break;
            }
        }
        assert!(stolen > 0, "{assist}: its home ran every one");
        live.dataplane.stop();
    }
}
