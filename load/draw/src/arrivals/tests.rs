use super::*;
use crate::stream::{Purpose, stream};
use proptest::prelude::*;

fn arrivals(gaps: &str, pattern: &str, share: f64, span: Nanos, seed: u64) -> Arrivals {
    let (gaps, pattern) = (gaps.parse().unwrap(), pattern.parse().unwrap());
    Arrivals::new(&gaps, &pattern, share, Nanos::from_secs(100), span, stream(seed, 0, Purpose::Arrivals))
}

/// Offsets from the start.
fn all(mut arrivals: Arrivals) -> Vec<u64> {
    let start = arrivals.start;
    std::iter::from_fn(|| Some(arrivals.next()).filter(|at| *at != Nanos::MAX)).map(|at| (at - start).0).collect()
}

#[test]
fn next_tells_what_peek_told_and_the_end_stays() {
    let mut a = arrivals("fixed", "10", 1.0, Nanos::from_secs(1), 1);
    for _ in 0..10 {
        let peeked = a.peek();
        assert!((Nanos::from_secs(100)..Nanos::from_secs(101)).contains(&peeked));
        assert_eq!(a.next(), peeked);
    }
    assert_eq!([a.peek(), a.next(), a.next(), a.peek()], [Nanos::MAX; 4]);
}

#[test]
fn fixed_gaps_are_equal_and_begin_at_a_phase_of_their_own() {
    let one = all(arrivals("fixed", "1k", 1.0, Nanos::from_secs(1), 1));
    let two = all(arrivals("fixed", "1k", 1.0, Nanos::from_secs(1), 2));
    assert_eq!((one.len(), two.len()), (1000, 1000));
    assert!(one.windows(2).all(|pair| (999_999..=1_000_001).contains(&(pair[1] - pair[0]))));
    assert!(one[0] < 1_000_000 && one[0] != two[0]);
}

#[test]
fn equal_seeds_give_equal_arrivals_and_others_do_not() {
    let span = Nanos::from_secs(1);
    for pattern in ["10k", "sine:1k,10k,1,2k"] {
        let one = all(arrivals("poisson", pattern, 1.0, span, 7));
        assert_eq!(one, all(arrivals("poisson", pattern, 1.0, span, 7)));
        let other = all(arrivals("poisson", pattern, 1.0, span, 8));
        let common = one.iter().filter(|at| other.binary_search(at).is_ok()).count();
        assert!(common < 5, "{common}");
    }
}

/// The number of arrivals is the integral of the rate, within five standard deviations (their variance is the integral times cv2).
#[test]
fn as_many_arrive_as_the_rate_integrates_to() {
    let span = Nanos::from_secs(30);
    for pattern in [
        "5k",
        "slope:10k",
        "slope:10k,7",
        "step:2k,9k,3",
        "sine:0,10k,10",
        "sine:1k,10k,8,3k",
        "values:5,0,10,20000,20,0,25,0,26,9000",
    ] {
        for gaps in ["poisson", "uniform", "fixed", "gpareto", "values:1,2,3,4"] {
            let expected = pattern.parse::<Pattern>().unwrap().mean(span) * 30.0 * 0.5;
            let got = all(arrivals(gaps, pattern, 0.5, span, 3)).len() as f64;
            let spread = (expected * gaps.parse::<Gaps>().unwrap().cv2()).sqrt();
            assert!((got - expected).abs() < 5.0 * spread + 3.0, "{gaps} {pattern}: {got} {expected}");
        }
    }
}

/// Time changed by the integrated rate, equal gaps put the nth arrival where the integral is n (plus the phase).
#[test]
fn arrivals_follow_the_rate_from_piece_to_piece() {
    let span = Nanos::from_secs(20);
    for text in ["slope:1k", "step:100,400,2", "sine:0,1k,6", "values:3,0,6,1000,9,0,12,0,15,700"] {
        let pattern: Pattern = text.parse().unwrap();
        let got = all(arrivals("fixed", text, 1.0, span, 5));
        let phase = integral(&pattern, got[0], span);
        for (nth, at) in got.iter().enumerate().step_by(97) {
            let mass = integral(&pattern, *at, span) - phase;
            assert!((mass - nth as f64).abs() < 0.01 + 1e-4 * nth as f64, "{text}: {nth} {mass}");
        }
    }
}

/// The integral of the rate up to `at`, by many small steps.
fn integral(pattern: &Pattern, at: u64, span: Nanos) -> f64 {
    const STEPS: u64 = 20_000;
    let width = at as f64 / STEPS as f64;
    let middle = |nth: u64| Nanos(((nth as f64 + 0.5) * width) as u64);
    (0..STEPS).map(|nth| pattern.rate_at(middle(nth), span)).sum::<f64>() * width / 1e9
}

#[test]
fn poisson_gaps_in_real_time_are_exponential() {
    let got = all(arrivals("poisson", "100k", 1.0, Nanos::from_secs(4), 11));
    let mean = 10_000.0;
    let mut gaps: Vec<u64> = got.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable();
    for q in [0.1, 0.5, 0.9, 0.99, 0.999] {
        let expected = -mean * f64::ln(1.0 - q);
        let drawn = gaps[(gaps.len() as f64 * q) as usize] as f64;
        assert!((drawn - expected).abs() < 0.06 * expected, "{q}: {drawn} {expected}");
    }
}

#[test]
fn windows_without_a_rate_are_skipped_as_a_whole() {
    // 11 days without an arrival, then a second with some.
    let got = all(arrivals("poisson", "values:0,1000,1,0,999998,0,999999,1000", 1.0, Nanos::from_secs(1_000_000), 1));
    let (early, late): (Vec<u64>, Vec<u64>) = got.iter().partition(|at| **at < 500_000_000_000_000);
    assert!(early.iter().all(|at| *at < 1_000_000_000) && late.iter().all(|at| *at >= 999_998_000_000_000));
    assert!((350..650).contains(&early.len()) && (1250..1750).contains(&late.len()), "{} {}", early.len(), late.len());
    // A burst of gaps of 0 does not fall into a window without a rate.
    let got = all(arrivals("values:0,0,0,4", "values:0,0,10,0,11,100", 1.0, Nanos::from_secs(20), 1));
    assert!(!got.is_empty() && got.iter().all(|at| *at >= 10_000_000_000));
}

#[test]
fn rates_near_zero_end() {
    for pattern in ["1e-9", "slope:1e-9", "sine:0,0.0000001,1", "step:0.000001,0.000001,0.1"] {
        assert!(all(arrivals("poisson", pattern, 1e-9, Nanos::from_secs(3600), 1)).is_empty(), "{pattern}");
    }
    assert!(all(arrivals("poisson", "1", 1.0, Nanos::ZERO, 1)).is_empty());
    for share in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(all(arrivals("poisson", "1k", share, Nanos::from_secs(10), 1)).is_empty(), "{share}");
    }
}

#[test]
fn a_run_without_end_begins() {
    let mut a = arrivals("poisson", "1k", 1.0, Nanos::MAX, 1);
    let first = a.next();
    assert!(first < a.next() && a.peek() < Nanos::from_secs(101));
}

proptest! {
    #[test]
    fn arrivals_ascend_and_stay_in_the_run(
        pattern in crate::pattern::tests::any_pattern(), gaps in prop_oneof![Just("poisson"), Just("gpareto"), Just("fixed"), Just("values:0,1")],
        share in 1e-3..1.0f64, span in 1..100_000_000_000u64, seed: u64
    ) {
        let start = Nanos(seed >> 8);
        let gaps = gaps.parse().unwrap();
        let mut a = Arrivals::new(&gaps, &pattern, share, start, Nanos(span), stream(seed, 1, Purpose::Arrivals));
        let mut before = start;
        for _ in 0..2_000 {
            let at = a.next();
            if at == Nanos::MAX {
                prop_assert_eq!(a.next(), Nanos::MAX);
                break;
            }
            prop_assert!(at >= before && at < start + Nanos(span), "{:?} {:?}", before, at);
            before = at;
        }
    }
}
