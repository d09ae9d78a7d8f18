//! Bulk transfer over a bad link, both ways, against Linux: every byte arrives, in order, once, and no connection is lost.
//!
//! `ZYGIX_STRESS=long`: a gigabyte each way for each fault, 200 MB for all of them together. ZYGIX_SEED chooses other dice.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::Shutdown;

use nic::Faults;
use tests::{App, Crossing, Serve, download, need, on_stacks, upload};
use units::Nanos;

/// Bytes each way: in the ordinary suite, and in the long one.
struct Size {
    short: u64,
    long: u64,
}

const EACH: Size = Size { short: 32 << 20, long: 1 << 30 };
/// A round trip of 10 ms takes its time.
const FAR: Size = Size { short: 6 << 20, long: 200 << 20 };

impl Size {
    fn bytes(&self) -> u64 {
        if std::env::var("ZYGIX_STRESS").is_ok_and(|v| v == "long") { self.long } else { self.short }
    }
}

fn loss() -> Faults {
    Faults { loss: 0.01, ..Faults::default() }
}

/// Held back until three more have passed.
fn reordering() -> Faults {
    Faults { late: 0.02, behind: 3, delay: Nanos::from_millis(1), ..Faults::default() }
}

fn duplication() -> Faults {
    Faults { duplicate: 0.01, ..Faults::default() }
}

fn corruption() -> Faults {
    Faults { corrupt: 0.005, ..Faults::default() }
}

fn all_together() -> Faults {
    Faults {
        duplicate: 0.01,
        late: 0.02,
        delay: Nanos::from_millis(2),
        corrupt: 0.005,
        latency: Nanos::from_millis(5),
        jitter: Nanos::from_millis(1),
        ..loss()
    }
}

/// So many bytes up, then as many down, over a link with these faults.
fn both_ways(stack: tests::Stack, faults: Faults, size: &Size) {
    let seed = std::env::var("ZYGIX_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let bytes = size.bytes();
    let crossing = need!(Crossing::start(&Serve::new(App::Discard, stack), faults, seed));
    let mut stream = crossing.rig.connect();
    let digest = upload(&stream, bytes);
    stream.shutdown(Shutdown::Write).expect("the connection is open");
    let mut told = String::new();
    stream.read_to_string(&mut told).expect("the server answers");
    assert_eq!(told, format!("{bytes} {:016x}\n", digest.finish()));
    there_were(&crossing, &faults);
    crossing.rig.is_well();
    drop(crossing);

    let crossing = need!(Crossing::start(&Serve::new(App::Source, stack), faults, seed));
    let mut stream = crossing.rig.connect();
    writeln!(stream, "{bytes}").expect("the server reads");
    assert_eq!(download(&stream), bytes);
    there_were(&crossing, &faults);
    crossing.rig.is_well();
}

/// The faults were what was asked for: the test would show nothing otherwise.
fn there_were(crossing: &Crossing, faults: &Faults) {
    let [there, back] = crossing.seen().passed;
    assert_eq!(there.dropped + back.dropped, 0, "the link itself has room for all");
    for (share, n) in [
        (faults.loss, there.lost + back.lost),
        (faults.duplicate, there.doubled + back.doubled),
        (faults.late, there.late + back.late),
        (faults.corrupt, there.damaged + back.damaged),
    ] {
        assert_eq!(share > 0.0, n > 0, "{there:?} {back:?}");
    }
}

on_stacks! {
    /// One frame of a hundred.
    [zygix = Zygix, xdp = Xdp]
    fn loss_of_one_percent(stack) {
        both_ways(stack, loss(), &EACH);
    }

    /// One of fifty comes behind the three after it.
    [zygix = Zygix]
    fn reordering_of_two_percent(stack) {
        both_ways(stack, reordering(), &EACH);
    }

    /// One of a hundred comes twice.
    [zygix = Zygix]
    fn duplication_of_one_percent(stack) {
        both_ways(stack, duplication(), &EACH);
    }

    /// One of two hundred comes with a bit turned over, anywhere.
    [zygix = Zygix]
    fn corruption_of_half_a_percent(stack) {
        both_ways(stack, corruption(), &EACH);
    }

    /// All of these, over a link with a latency of 5 ms and jitter; Linux at both ends shows that it can be done.
    [zygix = Zygix, xdp = Xdp, linux = Linux]
    fn everything_and_far_away(stack) {
        both_ways(stack, all_together(), &FAR);
    }

    /// A queue that overflows, as the one before a slow link does: 100 Mbit/s, 4 ms, and room for half of what is under way.
    [zygix = Zygix]
    fn a_slow_link_with_a_short_queue(stack) {
        let rate = 100_000_000;
        let queue = Faults::bandwidth_delay(rate, Nanos::from_millis(4)) / 2;
        let faults = Faults { rate, queue, latency: Nanos::from_millis(2), ..Faults::default() };
        let bytes = FAR.bytes();
        let crossing = need!(Crossing::start(&Serve::new(App::Source, stack), faults, 1));
        let mut stream = crossing.rig.connect();
        writeln!(stream, "{bytes}").expect("the server reads");
        assert_eq!(download(&stream), bytes);
        let seen = crossing.seen();
        assert!(seen.passed[1].dropped > 0, "it did overflow: {:?}", seen.passed);
        assert!(seen.depths[1].quantile(1.0) <= u64::from(queue));
        crossing.rig.is_well();
    }
}
