//! The formulas: systems whose sojourn times need no simulation (Kleinrock, *Queueing Systems*, volume 1, chapters 3 and 5).
//!
//! `lambda` is the rate of Poisson arrivals, `mu` the rate at which one server works, both in one unit. A system that is not stable
//! (`lambda` as much as all servers can do) answers infinity.

/// The time that a share `q` of an M/M/1 queue's requests do not stay longer than: their sojourn is exponential with rate `mu - lambda`.
pub fn mm1_quantile(lambda: f64, mu: f64, q: f64) -> f64 {
    if !stable(lambda, mu) || q >= 1.0 {
        return f64::INFINITY;
    }
    -(-q.max(0.0)).ln_1p() / (mu - lambda)
}

/// The probability that a request must wait in M/M/n (Erlang's C formula), `offered` being `lambda / mu`; 1 when the system is not stable.
/// Costs O(n).
pub fn erlang_c(n: usize, offered: f64) -> f64 {
    let n = n.max(1);
    if !stable(offered, n as f64) {
        return 1.0;
    }
    // Erlang's B formula by its recursion, which neither overflows nor cancels.
    let blocked = (1..=n).fold(1.0, |blocked, k| offered * blocked / (k as f64 + offered * blocked));
    let load = offered / n as f64;
    blocked / (1.0 - load + load * blocked)
}

/// The share of M/M/n's requests that stay longer than `time`: those that wait (with [`erlang_c`]) wait exponentially with rate
/// `n mu - lambda`, and the work comes on top.
pub fn mmn_share_above(n: usize, lambda: f64, mu: f64, time: f64) -> f64 {
    let capacity = n.max(1) as f64 * mu;
    if !stable(lambda, capacity) {
        return 1.0;
    }
    let drain = capacity - lambda;
    let time = time.max(0.0);
    let waits = erlang_c(n, lambda / mu);
    let works_on = (-mu * time).exp();
    // P(wait + work > time) = e^(-mu t) + mu (e^(-d t) - e^(-mu t)) / (mu - d); near mu = d the quotient is t e^(-mu t).
    let apart = (mu - drain) * time;
    let quotient = if apart.abs() < 1e-12 { time } else { time * apart.exp_m1() / apart };
    let waited = works_on * (1.0 + mu * quotient);
    // Far apart, e^(apart) may overflow where e^(-mu t) underflows; then the slower of the two is all that is left.
    let waited =
        if waited.is_finite() { waited } else { (mu * (-drain * time).exp() - drain * works_on) / (mu - drain) };
    ((1.0 - waits) * works_on + waits * waited).clamp(0.0, 1.0)
}

/// The time that a share `q` of M/M/n's requests do not stay longer than: exact but for the bisection, which goes to the last bits.
pub fn mmn_quantile(n: usize, lambda: f64, mu: f64, q: f64) -> f64 {
    let n = n.max(1);
    if !stable(lambda, n as f64 * mu) || q >= 1.0 {
        return f64::INFINITY;
    }
    let above = 1.0 - q.max(0.0);
    let mut high = 1.0 / mu;
    while mmn_share_above(n, lambda, mu, high) > above && high.is_finite() {
        high *= 2.0;
    }
    bisect(0.0, high, |time| mmn_share_above(n, lambda, mu, time) > above)
}

/// The highest load (0..1) at which a share `q` of M/M/n's requests stay at most `slo` mean service times; 0 if none does.
pub fn mmn_max_load(n: usize, slo: f64, q: f64) -> f64 {
    let n = n.max(1);
    bisect(0.0, 1.0, |load| mmn_share_above(n, load * n as f64, 1.0, slo) <= 1.0 - q)
}

/// The mean sojourn in M/G/1 (Pollaczek and Khinchine): the `mean` service time, and waiting in proportion to 1 + `cv2`, its variance over
/// the square of its mean.
pub fn mg1_mean(lambda: f64, mean: f64, cv2: f64) -> f64 {
    let load = lambda * mean;
    if !stable(load, 1.0) {
        return f64::INFINITY;
    }
    mean + load * mean * (1.0 + cv2) / (2.0 * (1.0 - load))
}

/// The mean sojourn in M/M/n: the work, and the wait of those that wait. It is also that of M/G/n/PS under *any* distribution of the work
/// (processor sharing is insensitive to it), and that of any policy that serves exponential work without regard to its length, as stealing.
pub fn mmn_mean(n: usize, lambda: f64, mu: f64) -> f64 {
    let capacity = n.max(1) as f64 * mu;
    if !stable(lambda, capacity) {
        return f64::INFINITY;
    }
    1.0 / mu + erlang_c(n, lambda / mu) / (capacity - lambda)
}

/// The mean of sojourn over own work in M/G/n/PS, for requests of any length: 1 / (1 - load) with one server.
pub fn ps_slowdown(n: usize, load: f64) -> f64 {
    mmn_mean(n, load * n.max(1) as f64, 1.0)
}

/// The share of M/D/1's requests (work of 1) that wait longer than `time`: Erlang's series. Its terms alternate and cancel, so that it is
/// exact to eight digits only up to waits of 15; beyond that the answer is NaN.
pub fn md1_share_waiting(lambda: f64, time: f64) -> f64 {
    if !stable(lambda, 1.0) {
        return 1.0;
    }
    if time.is_nan() || time > 15.0 {
        return f64::NAN;
    }
    if time < 0.0 {
        return 1.0;
    }
    let term = |k: usize| {
        // (lambda (k - t))^k / k! e^(lambda (t - k)), factor by factor.
        let x = lambda * (k as f64 - time);
        (1..=k).fold((-x).exp(), |product, i| product * x / i as f64)
    };
    (1.0 - (1.0 - lambda) * (0..=time as usize).map(term).sum::<f64>()).clamp(0.0, 1.0)
}

/// The highest load at which a share `q` of M/D/1's requests stay at most `slo` service times (up to 16); 0 if none does.
pub fn md1_max_load(slo: f64, q: f64) -> f64 {
    bisect(0.0, 1.0, |load| slo >= 1.0 && md1_share_waiting(load, slo - 1.0) <= 1.0 - q)
}

/// The time that a share `q` of D/M/1's requests do not stay longer than, for a rate of equal gaps `lambda`: exponential with rate
/// mu (1 - s), s being the root below 1 of s = exp(-(1 - s) mu / lambda), the share of arrivals that wait.
pub fn dm1_quantile(lambda: f64, mu: f64, q: f64) -> f64 {
    if !stable(lambda, mu) || q >= 1.0 {
        return f64::INFINITY;
    }
    let waits = bisect(0.0, 1.0 - 1e-12, |s| (-(1.0 - s) * mu / lambda).exp() > s);
    -(-q.max(0.0)).ln_1p() / (mu * (1.0 - waits))
}

/// Whether servers that can do `capacity` keep up with `arrivals`; not if either is no number.
fn stable(arrivals: f64, capacity: f64) -> bool {
    arrivals < capacity
}

/// Where `below` turns from true to false between `low` and `high`.
fn bisect(mut low: f64, mut high: f64, mut below: impl FnMut(f64) -> bool) -> f64 {
    for _ in 0..100 {
        let middle = low.midpoint(high);
        if middle <= low || middle >= high {
            break;
        }
        if below(middle) { low = middle } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * b.abs().max(1.0)
    }

    #[test]
    fn textbook_values() {
        // M/M/1 at 0.5: the sojourn's median is ln 2 / 0.5. Erlang's C of two servers is 2 load^2 / (1 + load).
        assert!(close(mm1_quantile(0.5, 1.0, 0.5), 2.0 * 2f64.ln()));
        assert!(close(erlang_c(2, 1.0), 2.0 * 0.25 / 1.5));
        assert!(close(erlang_c(1, 0.3), 0.3));
        // M/D/1 waits half as long as M/M/1.
        assert!(close(mg1_mean(0.5, 1.0, 1.0), 2.0) && close(mg1_mean(0.5, 1.0, 0.0), 1.5));
    }

    #[test]
    fn the_highest_loads_with_the_99th_percentile_within_ten_services() {
        for (n, percent) in [(1, 53.95), (2, 75.8), (4, 87.5), (8, 93.6), (16, 96.77), (64, 99.18)] {
            let load = mmn_max_load(n, 10.0, 0.99) * 100.0;
            assert!((load - percent).abs() < 0.06, "{n}: {load}");
        }
        assert_eq!(mmn_max_load(4, 1.0, 0.99), 0.0, "the work alone takes longer");
    }

    #[test]
    fn means_of_sharing_and_of_many_servers() {
        assert!(close(mmn_mean(1, 0.5, 1.0), 2.0) && close(ps_slowdown(1, 0.75), 4.0));
        // Two servers at half a load: 1 / (1 - load^2).
        assert!(close(mmn_mean(2, 1.0, 1.0), 4.0 / 3.0));
    }

    #[test]
    fn one_server_with_equal_work_or_equal_gaps() {
        // Nobody waits with probability 1 - load; the mean wait is load / (2 (1 - load)), the integral of the share.
        for load in [0.2, 0.5, 0.8] {
            assert!(close(md1_share_waiting(load, 0.0), load));
            let steps = 15_000;
            let wait: f64 = (0..steps).map(|i| md1_share_waiting(load, (f64::from(i) + 0.5) * 1e-3) * 1e-3).sum();
            let exact = load / (2.0 * (1.0 - load));
            // What lies beyond 15 is a thousandth at the highest of these loads.
            assert!((wait - exact).abs() < 5e-3 * exact, "{load}: {wait} {exact}");
        }
        // Equal gaps: at a load near 0 nobody waits, and the sojourn is the work.
        assert!((dm1_quantile(0.05, 1.0, 0.5) - 2f64.ln()).abs() < 1e-6);
        assert!(dm1_quantile(0.8, 1.0, 0.99) < mm1_quantile(0.8, 1.0, 0.99));
        assert!((md1_max_load(10.0, 0.99) - 0.773).abs() < 0.001, "{}", md1_max_load(10.0, 0.99));
        assert_eq!(md1_max_load(0.9, 0.99), 0.0);
    }

    #[test]
    fn what_is_not_stable_takes_for_ever() {
        for lambda in [1.0, 2.0, f64::NAN] {
            assert_eq!(mm1_quantile(lambda, 1.0, 0.5), f64::INFINITY);
            assert_eq!(mmn_quantile(1, lambda, 1.0, 0.5), f64::INFINITY);
            assert_eq!(mg1_mean(lambda, 1.0, 1.0), f64::INFINITY);
            assert_eq!(erlang_c(1, lambda), 1.0);
            assert_eq!((mmn_mean(1, lambda, 1.0), dm1_quantile(lambda, 1.0, 0.5)), (f64::INFINITY, f64::INFINITY));
            assert_eq!(md1_share_waiting(lambda, 3.0), 1.0);
        }
        assert_eq!(mmn_quantile(2, 1.0, 1.0, 1.0), f64::INFINITY);
    }

    proptest! {
        #[test]
        fn one_server_of_mmn_is_mm1(load in 0.01..0.99f64, mu in 0.1..10.0f64, q in 0.01..0.9999f64) {
            let (one, many) = (mm1_quantile(load * mu, mu, q), mmn_quantile(1, load * mu, mu, q));
            prop_assert!((one - many).abs() < 1e-6 * one, "{} {}", one, many);
        }

        #[test]
        fn quantiles_invert_the_share_above(n in 1..200usize, load in 0.01..0.99f64, q in 0.01..0.9999f64) {
            let time = mmn_quantile(n, load * n as f64, 1.0, q);
            prop_assert!((mmn_share_above(n, load * n as f64, 1.0, time) - (1.0 - q)).abs() < 1e-9);
        }

        #[test]
        fn shares_are_shares_and_descend(n in 1..2000usize, load in 0.0..1.0f64, a in 0.0..1e4f64, b in 0.0..1e4f64) {
            let share = |time| mmn_share_above(n, load * n as f64, 1.0, time);
            let (early, late) = (share(a.min(b)), share(a.max(b)));
            prop_assert!((0.0..=1.0).contains(&late) && late <= early + 1e-12, "{} {}", early, late);
        }

        #[test]
        fn more_servers_carry_more_load(n in 1..64usize, slo in 5.0..100.0f64) {
            prop_assert!(mmn_max_load(n, slo, 0.99) <= mmn_max_load(n + 1, slo, 0.99));
        }
    }
}
