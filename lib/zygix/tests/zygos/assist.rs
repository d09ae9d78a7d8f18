//! Who does the network work of a core that is in application code; what is stolen, and in which order.

use std::sync::Arc;

use dataplane::{Assist, Sched};

use crate::world::{CAST_PORTS, World};

fn world(assist: Assist, links: usize) -> Arc<World> {
    World::new(Sched::Zygos(assist), links)
}

/// While core 0 runs the handler of `hold`, the client says `ping` on another connection of that core and core 1 turns. What the client
/// had got by the time the handler returned, and what it got afterwards.
fn ping_while_holding(assist: Assist) -> (String, String) {
    let w = world(assist, 16);
    let [a, b] = w.of(0)[..2] else { panic!("two connections of core 0") };
    let meanwhile = w.desk.when("hold", {
        let w = w.clone();
        move || {
            w.say(b, "ping");
            (0..4).for_each(|_| w.turn(1));
            w.turn_client();
            w.got(b)
        }
    });
    w.say(a, "hold");
    w.turn(0);
    let meanwhile = meanwhile.lock().unwrap().take().expect("core 0 ran the handler");
    w.settle();
    assert_eq!(w.got(a), "hold@0\n");
    let after = w.got(b);
    w.ends_clean();
    (meanwhile, after)
}

#[test]
fn a_lender_receives_runs_and_answers_while_the_home_is_in_application_code() {
    assert_eq!(ping_while_holding(Assist::Lend), ("ping@1\n".into(), "".into()));
}

/// The same holds for interrupts when nobody can be interrupted, as here, where the cores are no threads.
#[test]
fn without_assistance_frames_wait_for_their_home() {
    for assist in [Assist::None, Assist::Ipi] {
        let (meanwhile, after) = ping_while_holding(assist);
        assert_eq!(meanwhile, "", "{assist}");
        // Back from the application, the home offers or runs it.
        assert!(after == "ping@0\n" || after == "ping@1\n", "{assist}: {after:?}");
    }
}

#[test]
fn what_was_offered_first_is_stolen_first() {
    for assist in [Assist::None, Assist::Ipi, Assist::Lend] {
        let w = world(assist, 16);
        let [a, b, c, d] = w.of(0)[..4] else { panic!("four connections of core 0") };
        w.log();
        for (link, text) in [(a, "a"), (c, "c"), (b, "b"), (d, "d")] {
            w.say(link, text);
        }
        // Core 0 draws the first and offers the others; of those core 1 takes one per turn.
        w.turn(0);
        (0..3).for_each(|_| w.turn(1));
        assert_eq!(w.log(), ["a@0", "c@1", "b@1", "d@1"], "{assist}");
        assert!(w.count(1, |m| m.steals.get()) >= 3);
        w.settle();
        assert_eq!([a, b, c, d].map(|link| w.got(link)), ["a@0\n", "b@1\n", "c@1\n", "d@1\n"]);
        w.ends_clean();
    }
}

/// A stolen connection gets more requests; its home sees them, and neither runs nor offers them before the first one is done.
#[test]
fn pipelined_requests_stay_in_order_when_the_first_is_stolen() {
    for assist in [Assist::None, Assist::Ipi, Assist::Lend] {
        let w = world(assist, 16);
        let [a, b] = w.of(0)[..2] else { panic!("two connections of core 0") };
        w.log();
        let during = w.desk.when("1", {
            let w = w.clone();
            move || {
                for text in ["2", "3"] {
                    w.say(b, text);
                    (0..3).for_each(|_| w.turn(0));
                }
                w.desk.log.lock().unwrap().clone()
            }
        });
        w.say(a, "x");
        w.say(b, "1");
        w.turn(0);
        w.turn(1);
        assert_eq!(during.lock().unwrap().take().expect("core 1 ran the handler"), ["x@0", "1@1"], "{assist}");
        w.settle();
        let got = w.got(b).replace("@1", "@0");
        assert_eq!(got, "1@0\n2@0\n3@0\n", "{assist}");
        w.ends_clean();
    }
}

#[test]
fn datagrams_are_stolen_one_by_one() {
    let w = world(Assist::Lend, 16);
    let a = w.of(0)[0];
    let port = CAST_PORTS.into_iter().find(|p| w.client().app.home(*p) == 0).expect("a port of core 0");
    w.log();
    w.say(a, "x");
    for text in ["d1", "d2", "d3"] {
        w.client().app.cast(port, text);
        w.turn_client();
    }
    w.turn(0);
    assert_eq!(w.log(), ["x@0"], "the home has one piece of work at a time");
    w.turn(1);
    w.turn(1);
    assert_eq!(w.log(), ["d1@1", "d2@1"]);
    w.turn(0);
    assert_eq!(w.log(), ["d3@0"]);
    w.settle();
    assert_eq!(w.client().app.casts, ["d1@1", "d2@1", "d3@0"]);
    w.ends_clean();
}

/// The handlers were short for a while, so several connections share a batch and little is on offer. Then one is long.
#[test]
fn what_waits_behind_a_handler_that_was_expected_to_be_short_is_offered_by_the_lender() {
    let w = World::with_batch(Sched::Zygos(Assist::Lend), 64, 4);
    let home = w.of(0);
    assert!(home.len() >= 20, "{} connections of core 0", home.len());
    w.desk.cost.store(0, std::sync::atomic::Ordering::Relaxed);
    for round in 0..40 {
        for link in &home {
            w.say(*link, &format!("{round}"));
        }
        w.run(units::Nanos::from_micros(500));
    }
    home.iter().for_each(|link| drop(w.got(*link)));
    let meanwhile = w.desk.when("hold", {
        let (w, home) = (w.clone(), home.clone());
        move || {
            (0..200).for_each(|_| w.turn(1));
            w.turn_client();
            home.iter().filter(|link| !w.got(**link).is_empty()).count()
        }
    });
    w.say(home[0], "hold");
    for link in &home[1..] {
        w.say(*link, "ping");
    }
    w.turn(0);
    let served = meanwhile.lock().unwrap().take().expect("core 0 ran the handler");
    // But for those that share the batch with it.
    assert!(served >= home.len() - 4, "{served} of {}", home.len());
    w.settle();
    w.ends_clean();
}

/// The home never comes back (until the test is over), and its other connections do not notice.
#[test]
fn a_handler_that_never_returns_costs_its_own_connection() {
    let w = world(Assist::Lend, 16);
    let home = w.of(0);
    let (begun, wait) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
    w.desk.when("hold", move || {
        begun.0.send(()).unwrap();
        let _ = wait.1.recv();
    });
    w.say(home[0], "hold");
    let stuck = std::thread::spawn({
        let w = w.clone();
        move || w.turn(0)
    });
    begun.1.recv().unwrap();
    for round in 0..50 {
        for link in &home[1..] {
            w.say(*link, &format!("{round}"));
        }
        (0..2 * home.len()).for_each(|_| w.turn(1));
        w.turn_client();
        for link in &home[1..] {
            assert_eq!(w.got(*link), format!("{round}@1\n"));
        }
    }
    assert_eq!(w.got(home[0]), "");
    drop(wait.0);
    stuck.join().unwrap();
    w.settle();
    assert_eq!(w.got(home[0]), "hold@0\n");
    w.ends_clean();
}
