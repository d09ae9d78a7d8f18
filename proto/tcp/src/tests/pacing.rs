//! Windows that leave over their round trip.

use std::collections::BTreeMap;

use super::pair::{Pair, Wire};
use super::*;

const BYTES: usize = 4_000_000;

/// A transfer over a round trip of `round`: how long it took, and the most bytes that left within one millisecond.
fn transfer(pacing: bool, round: Nanos) -> (Nanos, u64) {
    let cfg = Config { pacing, ..Config::default() };
    let wire = Wire { delay: Nanos(round.0 / 2), ..Wire::GOOD };
    let mut pair = Pair::client_and_server(cfg.clone(), cfg, wire, 7);
    pair.ends[1].close_when_done = false;
    pair.ends[0].to_send.extend(std::iter::repeat_n(7, BYTES));
    let (start, mut left) = (pair.now, BTreeMap::new());
    while pair.ends[1].received.len() < BYTES {
        let (at, before) = (pair.now, pair.ends[0].tcb().snd_nxt());
        assert!(pair.step(start + Nanos::from_secs(60)), "stalled");
        *left.entry(at.0 / 1_000_000).or_default() += u64::from(pair.ends[0].tcb().snd_nxt().since(before));
    }
    (pair.now - start, left.into_values().max().unwrap_or(0))
}

/// All acknowledgements of a round trip come in one instant here. At once, the whole window leaves with them; paced, an initial window and what two strides are at a
/// quarter (in slow start: all) above the window's own rate. That takes hardly longer.
#[test]
fn a_window_leaves_over_its_round_trip() {
    let round = ms(20);
    let (at_once, bursts) = transfer(false, round);
    let (paced, strides) = transfer(true, round);
    let window = u64::from(Config::default().rcv_wnd);
    let most = 10 * 1460 + 2 * 2 * window / 20;
    assert!(bursts > window / 2, "the window is what leaves at once: {bursts} B");
    assert!(strides <= most, "{strides} B in a millisecond, {most} at most");
    assert!(paced.0 < at_once.0 * 5 / 4, "{paced:?} instead of {at_once:?}");
}

/// Round trips that are short beside a timer's tick are left alone.
#[test]
fn short_round_trips_are_not_paced() {
    assert_eq!(transfer(true, Nanos::from_micros(200)), transfer(false, Nanos::from_micros(200)));
}

/// Two ends that pace, 20 ms apart, and stay open.
fn far_apart() -> Pair {
    let cfg = Config { pacing: true, ..Config::default() };
    let wire = Wire { delay: ms(10), ..Wire::GOOD };
    let mut pair = Pair::client_and_server(cfg.clone(), cfg, wire, 7);
    pair.ends.iter_mut().for_each(|end| end.close_when_done = false);
    pair
}

/// After silence an initial window may leave at once (RFC 6928), and no more.
#[test]
fn an_initial_window_leaves_at_once_and_the_rest_later() {
    let mut pair = far_apart();
    pair.run_until(pair.now + ms(100), |_| false);
    let before = pair.ends[0].tcb().snd_nxt();
    pair.ends[0].to_send.extend(std::iter::repeat_n(7, BYTES));
    pair.step(pair.now + ms(1));
    let first = pair.ends[0].tcb().snd_nxt().since(before);
    let mss = u32::from(pair.ends[0].tcb().mss());
    assert!((10 * mss..=11 * mss).contains(&first), "{first} B");
}

/// A request of a few bytes leaves less than a segment of its stride to what follows: that waits for the next stride, not for an acknowledgement.
#[test]
fn the_rest_of_a_stride_that_is_no_segment_holds_nothing_up() {
    let mut pair = far_apart();
    pair.ends[0].to_send.extend(std::iter::repeat_n(7, 200_000));
    pair.run_until(pair.now + ms(2000), |pair| pair.ends[1].received.len() == 200_000);
    pair.run_until(pair.now + ms(50), |_| false);
    let (before, mss) = (pair.ends[0].tcb().snd_nxt(), pair.ends[0].tcb().mss());
    pair.ends[0].to_send.extend([7; 100]);
    pair.step(pair.now + ms(1));
    assert_eq!(pair.ends[0].tcb().snd_nxt().since(before), 100);
    pair.ends[0].to_send.extend(std::iter::repeat_n(7, 200_000));
    pair.run_until(pair.now + ms(10), |_| false);
    let left = pair.ends[0].tcb().snd_nxt().since(before);
    assert!(left > 40 * u32::from(mss), "{left} B in half a round trip");
}
