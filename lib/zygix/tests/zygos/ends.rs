//! Close, reset, panic and hoarding on another core than the home: each costs its own connection.

use std::sync::Arc;

use dataplane::{Assist, Sched};

use crate::world::World;

const MODES: [Assist; 3] = [Assist::None, Assist::Ipi, Assist::Lend];

/// Two connections of core 0 and what is stolen of them: the second's line, by core 1, while `act` runs in its handler.
fn stolen(assist: Assist, line: &str, act: impl FnOnce(&World, usize) + Send + 'static) -> (Arc<World>, usize, usize) {
    let w = World::new(Sched::Zygos(assist), 16);
    let [a, b] = w.of(0)[..2] else { panic!("two connections of core 0") };
    w.log();
    let during = w.desk.when(line, {
        let w = w.clone();
        move || act(&w, b)
    });
    w.say(a, "x");
    w.say(b, line);
    w.turn(0);
    w.turn(1);
    assert!(during.lock().unwrap().take().is_some(), "core 1 ran the handler");
    assert_eq!(w.desk.log.lock().unwrap()[..2], ["x@0".to_owned(), format!("{line}@1")]);
    (w, a, b)
}

/// The connections beside the one that ended work as before.
fn others_go_on(w: &World, but: usize) {
    for link in w.of(0).into_iter().chain(w.of(1)).filter(|link| *link != but) {
        w.got(link);
        w.say(link, "still");
        w.settle();
        assert!(w.got(link).starts_with("still@"), "connection {link}");
    }
}

#[test]
fn a_thief_may_close() {
    for assist in MODES {
        let (w, _, b) = stolen(assist, "close", |_, _| {});
        w.settle();
        assert_eq!((w.got(b).as_str(), w.end(b).as_deref()), ("bye\n", Some("finished")), "{assist}");
        others_go_on(&w, b);
        w.ends_clean();
    }
}

#[test]
fn a_peer_may_reset_what_a_thief_has() {
    for assist in MODES {
        let (w, _, b) = stolen(assist, "slow", |w, b| {
            w.client().app.abort(b);
            w.turn_client();
            (0..3).for_each(|_| w.turn(0));
        });
        w.settle();
        let log = w.log();
        assert!(log.contains(&"closed: reset by peer".into()), "{assist}: {log:?}");
        others_go_on(&w, b);
        w.ends_clean();
    }
}

/// Reset by the peer and closed by the handler, neither of which knows of the other; and the place is used again at once.
#[test]
fn a_thief_may_close_what_has_been_reset_meanwhile() {
    for assist in MODES {
        let (w, _, b) = stolen(assist, "close", |w, b| {
            w.client().app.abort(b);
            (0..4).for_each(|_| {
                w.client().app.dial();
            });
            for _ in 0..3 {
                w.turn_client();
                w.turn(0);
            }
        });
        w.settle();
        let log = w.log();
        assert_eq!(log.iter().filter(|l| l.starts_with("closed")).count(), 1, "{assist}: {log:?}");
        others_go_on(&w, b);
        w.ends_clean();
    }
}

#[test]
fn a_panic_on_a_thief_costs_its_own_connection() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|info| {
        if info.payload_as_str() != Some("asked to") {
            eprintln!("{info}");
        }
    }));
    for assist in MODES {
        let (w, a, b) = stolen(assist, "panic", |_, _| {});
        w.settle();
        assert_eq!(w.end(b).as_deref(), Some("reset by peer"), "{assist}");
        assert!(w.log().contains(&"closed: handler panicked".into()));
        assert_eq!(w.got(a), "x@0\n");
        others_go_on(&w, b);
        w.ends_clean();
    }
    std::panic::set_hook(hook);
}

/// More syscalls than a batch of one carries: what answers and what ends has room nevertheless.
#[test]
fn who_asks_for_too_much_gets_an_answer_and_an_end() {
    for assist in MODES {
        let (w, _, b) = stolen(assist, "greedy", |_, _| {});
        w.settle();
        assert_eq!((w.got(b).as_str(), w.end(b).as_deref()), ("bye\n", Some("finished")), "{assist}");
        others_go_on(&w, b);
        w.ends_clean();
    }
}

/// A connection that keeps a buffer of each line for as long as it lives, on whichever core runs it.
#[test]
fn who_hoards_buffers_does_not_take_the_others_from_them() {
    for sched in [Sched::Ix, Sched::Zygos(Assist::Lend)] {
        let w = World::new(sched, 16);
        let hog = w.of(0)[0];
        for n in 0..600 {
            w.say(hog, &format!("keep {n}"));
            w.turn(0);
            w.turn(1);
        }
        others_go_on(&w, hog);
        w.ends_clean();
    }
}
