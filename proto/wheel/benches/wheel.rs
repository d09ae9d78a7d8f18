//! The cost of a timer: `cargo bench -p wheel`. 10 000 timers are armed all the time, as for as many connections; each figure is the
//! median of 31 rounds.

use std::hint::black_box;
use std::time::Instant;

use units::Nanos;
use wheel::Wheel;

const ROUNDS: usize = 31;
const ARMED: u64 = 10_000;

fn measure(name: &str, n: u64, mut step: impl FnMut(u64)) {
    let mut i = 0;
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..n {
                i += 1;
                step(i);
            }
            start.elapsed().as_nanos() as f64 / n as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!("{name:14} {:6.1} ns  (fastest {:.1})", rounds[ROUNDS / 2], rounds[0]);
}

fn main() {
    let n = if std::env::args().any(|a| a == "--bench") { 200_000 } else { 100 };
    let mut w = Wheel::with_capacity(ARMED as usize + 1);
    let ids: Vec<_> = (0..ARMED).map(|t| w.arm(Nanos::from_millis(50 + t / 10), t).unwrap()).collect();
    measure("rearm", n, |i| {
        let id = ids[(i.wrapping_mul(0x9e37_79b9) % ARMED) as usize];
        assert!(w.rearm(id, Nanos::from_micros(50_000 + i % 100_000)));
    });
    measure("arm, cancel", n, |i| {
        let id = w.arm(Nanos::from_micros(i % 100_000), i).unwrap();
        assert!(w.cancel(id));
    });
    measure("next_deadline", n, |_| {
        black_box(w.next_deadline());
    });
    let mut now = Nanos::ZERO;
    let mut again = Vec::with_capacity(64);
    measure("fire, arm", n, |_| {
        // A delayed ACK or so: due within 1 ms, armed again when it has fired.
        while again.is_empty() {
            now += Wheel::TICK;
            w.advance(now, 64, &mut |t| again.push(t));
        }
        let t = again.pop().unwrap();
        w.arm(now + Nanos::from_micros(500 + t % 500), t).unwrap();
    });
}
