use super::*;
use crate::file::testing::TempFile;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

fn pattern(text: &str) -> Pattern {
    text.parse().unwrap_or_else(|said| panic!("{text}: {said}"))
}

fn rates(pattern: &Pattern, span: u64, seconds: &[f64]) -> Vec<f64> {
    seconds.iter().map(|s| pattern.rate_at(Nanos((s * 1e9) as u64), Nanos::from_secs(span)).round()).collect()
}

#[test]
fn a_constant_is_the_same_everywhere() {
    let p = pattern("50k");
    assert!(p.is_constant());
    assert_eq!(rates(&p, 10, &[0.0, 5.0, 99.0]), [50_000.0; 3]);
    assert_eq!((p.peak(), p.mean(Nanos::from_secs(3))), (50_000.0, 50_000.0));
}

#[test]
fn a_slope_rises_and_falls_over_the_run_or_its_seconds() {
    let p = pattern("slope:6m");
    assert_eq!(rates(&p, 240, &[0.0, 60.0, 120.0, 180.0]), [0.0, 3e6, 6e6, 3e6]);
    assert!((p.mean(Nanos::from_secs(240)) - 3e6).abs() < 1.0);
    let p = pattern("slope:1k,10");
    assert_eq!(rates(&p, 240, &[2.5, 5.0, 10.0, 12.5]), [500.0, 1000.0, 0.0, 500.0]);
}

#[test]
fn a_stair_goes_up_and_down_and_begins_anew() {
    let p = pattern("step:500k,1200k,10s");
    let levels: Vec<f64> = (0..7).map(|nth| f64::from(nth) * 10.0 + 5.0).collect();
    assert_eq!(rates(&p, 240, &levels), [5e5, 1e6, 1.2e6, 1e6, 5e5, 5e5, 1e6]);
    assert!((p.mean(Nanos::from_secs(50)) - 4.2e6 / 5.0).abs() < 1.0);
    // Rounding makes no further step: 0.3 / 0.1 is a little less than 3, 0.7 / 0.1 a little less than 7.
    assert_eq!((stairs(0.1, 0.3), stairs(0.1, 0.7), stairs(7.0, 7.0)), (3, 7, 1));
}

#[test]
fn a_sine_swings_between_low_and_high() {
    let p = pattern("sine:1k,3k,40");
    assert_eq!(rates(&p, 240, &[0.0, 10.0, 20.0, 30.0, 40.0]), [1000.0, 2000.0, 3000.0, 2000.0, 1000.0]);
    assert!((p.mean(Nanos::from_secs(80)) - 2000.0).abs() < 0.01);
}

#[test]
fn noise_is_redrawn_every_five_seconds_and_the_same_for_all() {
    let p = pattern("sine:1m,1m,60,250k");
    let drawn = rates(&p, 4000, &(0..800).map(|nth| f64::from(nth) * 5.0 + 1.0).collect::<Vec<_>>());
    assert_eq!(drawn, rates(&p, 4000, &(0..800).map(|nth| f64::from(nth) * 5.0 + 4.9).collect::<Vec<_>>()));
    let mean = drawn.iter().sum::<f64>() / 800.0;
    let spread = (drawn.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / 800.0).sqrt();
    assert!((mean - 1e6).abs() < 20_000.0 && (spread - 250_000.0 / 3f64.sqrt()).abs() < 8_000.0, "{mean} {spread}");
    assert!(drawn.iter().all(|r| (750_000.0..=1_250_000.0).contains(r)));
    assert_eq!(p.peak(), 1_250_000.0);
}

#[test]
fn noise_does_not_make_a_rate_negative() {
    let p = pattern("sine:0,1k,20,5k");
    let drawn = rates(&p, 400, &(0..4000).map(|nth| f64::from(nth) * 0.1).collect::<Vec<_>>());
    assert!(drawn.iter().all(|r| *r >= 0.0) && drawn.contains(&0.0));
}

#[test]
fn a_file_is_followed_in_straight_lines() {
    let file = TempFile::new("# second rate\n10 0\n20 1k\n30 500\n");
    let p = pattern(&format!("file:{}", file.path()));
    assert_eq!(
        rates(&p, 100, &[0.0, 10.0, 15.0, 20.0, 25.0, 30.0, 99.0]),
        [0.0, 0.0, 500.0, 1000.0, 750.0, 500.0, 500.0]
    );
    assert_eq!(p.to_string(), "values:10,0,20,1000,30,500");
    assert_eq!(pattern(&p.to_string()), p);
    assert!((p.mean(Nanos::from_secs(40)) - (5_000.0 + 7_500.0 + 5_000.0) / 40.0).abs() < 1e-6);
}

#[test]
fn bad_files_are_refused_in_a_sentence() {
    for (content, part) in [
        ("", "holds no values"),
        ("1\n", "2 number(s) a line"),
        ("1 0\n2 0\n", "0 all the time"),
        ("2 5\n1 5\n", "must ascend"),
        ("1 5\n1 6\n", "must ascend"),
        ("1 -5\n", "outside"),
        ("-1 5\n", "between"),
        ("1 1e12\n", "outside"),
        ("1e9 5\n", "between"),
    ] {
        let file = TempFile::new(content);
        let said = format!("file:{}", file.path()).parse::<Pattern>().unwrap_err();
        assert!(said.contains(part), "{content:?}: {said}");
    }
}

#[test]
fn hostile_texts_are_refused_in_a_sentence() {
    for text in [
        "",
        "0",
        "1e12",
        "-5",
        "NaN",
        "inf",
        "slope:",
        "slope:0",
        "slope:5,0",
        "slope:5,-1",
        "slope:5,1,1",
        "slope:5,1e9",
        "step:5",
        "step:10,5",
        "step:1,1g",
        "step:0,5",
        "step:1,2,NaN",
        "sine:1",
        "sine:5,1",
        "sine:0,0",
        "sine:1,2,0",
        "sine:1,2,60,-1",
        "sine:1,1g,60,1g",
        "sine:1,2,3,4,5",
        "values:",
        "values:1",
        "values:1,0",
        "values:0,5,0,5",
        "ramp:5",
        "file:/nonexistent",
        "file:/",
        "1,2",
        "slope:1e-300",
    ] {
        let said = text.parse::<Pattern>().expect_err(text);
        assert!(said.len() > 10 && !said.contains('\n'), "{text}: {said}");
    }
    assert!("0".parse::<Pattern>().unwrap_err().contains("must be more than 0"));
    assert!("slope:".parse::<Pattern>().unwrap_err().contains("rate"));
    assert!("step:5".parse::<Pattern>().unwrap_err().contains("write step:STEP,PEAK[,SECONDS]"));
}

#[test]
fn rates_that_code_asks_for_stay_possible() {
    assert_eq!(Pattern::constant(0.0).peak(), MIN_RATE);
    assert_eq!(Pattern::constant(f64::NAN).peak(), MIN_RATE);
    assert_eq!(Pattern::constant(1e30).peak(), MAX_RATE);
    for factor in [0.0, -1.0, f64::NAN, 1e300, f64::INFINITY] {
        let scaled = pattern("sine:10,100,60,7").scaled(factor);
        assert!((MIN_RATE * 0.999..=MAX_RATE * 1.001).contains(&scaled.peak()), "{factor}");
        assert_eq!(pattern(&scaled.to_string()), scaled);
    }
}

#[test]
fn ends_of_time_are_safe() {
    for text in ["5", "slope:5", "slope:5,7", "step:1,5", "sine:1,5,60,1", "values:1,5,2,6"] {
        for span in [Nanos::ZERO, Nanos(1), Nanos(3), Nanos::MAX] {
            for at in [Nanos::ZERO, Nanos(1), Nanos(2), Nanos(u64::MAX - 1), Nanos::MAX] {
                assert!((0.0..=7.0).contains(&pattern(text).rate_at(at, span)), "{text} {at:?} {span:?}");
            }
            assert!((0.0..=7.0).contains(&pattern(text).mean(span)), "{text} {span:?}");
        }
    }
}

fn rate() -> impl Strategy<Value = f64> {
    prop_oneof![1e-3..4e8f64, (1u32..400_000_000).prop_map(f64::from)]
}

pub(crate) fn any_pattern() -> impl Strategy<Value = Pattern> {
    let cycle = || SHORTEST..1_000 * SECOND;
    let points = proptest::collection::btree_map(0..1_000_000_000_000u64, rate(), 1..12);
    prop_oneof![
        rate().prop_map(Pattern::constant),
        (rate(), proptest::option::of(cycle())).prop_map(|(peak, cycle)| Pattern(Kind::Slope { peak, cycle })),
        (rate(), 0.001..1.0f64, cycle()).prop_map(|(peak, share, each)| Pattern(Kind::Step {
            step: peak * share,
            peak,
            each
        })),
        (rate(), 0.0..=1.0f64, cycle(), prop_oneof![Just(0.0), rate()])
            .prop_map(|(high, share, period, noise)| Pattern(Kind::Sine { low: high * share, high, period, noise })),
        points.prop_map(|points| {
            Pattern(Kind::File(points.into_iter().flat_map(|(at, rate)| [at as f64 / 1e9, rate]).collect()))
        }),
    ]
}

proptest! {
    #[test]
    fn patterns_survive_text_and_serde(pattern in any_pattern()) {
        prop_assert_eq!(&pattern.to_string().parse::<Pattern>().unwrap(), &pattern);
        prop_assert_eq!(&serde_json::from_str::<Pattern>(&serde_json::to_string(&pattern).unwrap()).unwrap(), &pattern);
    }

    #[test]
    fn pieces_follow_one_another_without_a_hole(pattern in any_pattern(), span in 1..1_000 * SECOND, at in 0..2_000 * SECOND) {
        let piece = pattern.piece(at, span);
        prop_assert!(piece.start <= at && at < piece.end);
        prop_assert!(piece.from >= 0.0 && piece.to >= 0.0 && piece.from.max(piece.to) <= pattern.peak() * (1.0 + 1e-9));
        if piece.end != u64::MAX {
            prop_assert_eq!(pattern.piece(piece.end, span).start, piece.end);
            prop_assert_eq!(pattern.piece(piece.end - 1, span), piece);
        }
    }

    #[test]
    fn a_scaled_pattern_has_every_rate_scaled(pattern in any_pattern(), factor in 0.01..1.0f64, at in 0..1_000 * SECOND) {
        let span = Nanos::from_secs(240);
        let (before, after) = (pattern.rate_at(Nanos(at), span), pattern.scaled(factor).rate_at(Nanos(at), span));
        prop_assert!((after - before * factor).abs() <= 1e-9 * pattern.peak(), "{} {}", before, after);
    }

    #[test]
    fn no_text_panics(text in "(slope|step|sine|values|file)?:?[0-9.,eEkm+\\-]{0,24}") {
        let _ = text.parse::<Pattern>();
    }
}
