use super::*;
use crate::file::testing::TempFile;
use crate::stream::{Purpose, stream};
use proptest::prelude::*;

fn moments(n: usize, mut draw: impl FnMut() -> f64) -> (f64, f64) {
    let values: Vec<f64> = (0..n).map(|_| draw()).collect();
    let mean = values.iter().sum::<f64>() / n as f64;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
    (mean, variance)
}

#[test]
fn every_shape_has_mean_one_and_its_variance() {
    for text in ["poisson", "uniform", "fixed", "gpareto", "gpareto:-0.5", "gpareto:0", "values:1,2,3,10"] {
        let gaps: Gaps = text.parse().unwrap();
        let (mut state, mut rng) = (0, stream(1, 0, Purpose::Arrivals));
        let (mean, variance) = moments(400_000, || gaps.draw(&mut state, &mut rng));
        assert!((mean - 1.0).abs() < 0.01, "{text}: {mean}");
        assert!((variance - gaps.cv2()).abs() < 0.05 * gaps.cv2().max(0.01), "{text}: {variance} {}", gaps.cv2());
    }
}

#[test]
fn the_first_gap_is_the_residual_of_a_stationary_process() {
    // Its mean is (1 + cv2) / 2: the paradox of the bus stop.
    for text in ["poisson", "uniform", "fixed", "gpareto", "gpareto:-0.5", "values:1,2,3,10"] {
        let gaps: Gaps = text.parse().unwrap();
        let mut rng = stream(2, 0, Purpose::Arrivals);
        let (mean, _) = moments(400_000, || gaps.first(&mut 0, &mut rng));
        let expected = (1.0 + gaps.cv2()) / 2.0;
        assert!((mean - expected).abs() < 0.01 * expected, "{text}: {mean} {expected}");
    }
}

#[test]
fn the_default_pareto_is_facebooks() {
    let gaps: Gaps = "gpareto".parse().unwrap();
    assert_eq!(gaps, Gaps::gpareto(0.154971).unwrap());
    assert_eq!(gaps.to_string(), "gpareto");
    assert_eq!("gpareto:0.6".parse::<Gaps>().unwrap().cv2(), f64::INFINITY);
}

#[test]
fn a_trace_repeats_its_gaps_in_order_scaled() {
    let file = TempFile::new("# instants\n10\n11\n13\n13\n16\n");
    let gaps: Gaps = format!("trace:{}", file.path()).parse().unwrap();
    assert_eq!(gaps.to_string(), "values:1,2,0,3");
    let (mut state, mut rng) = (0, stream(1, 0, Purpose::Arrivals));
    let drawn: Vec<f64> = (0..8).map(|_| gaps.draw(&mut state, &mut rng)).collect();
    let once = [1.0 / 1.5, 2.0 / 1.5, 0.0, 3.0 / 1.5];
    assert!(drawn.iter().zip(once.iter().cycle()).all(|(a, b)| (a - b).abs() < 1e-12), "{drawn:?}");
    let serialized = serde_json::to_string(&gaps).unwrap();
    drop(file);
    assert_eq!(serde_json::from_str::<Gaps>(&serialized).unwrap(), gaps, "another machine needs no file");
}

#[test]
fn a_trace_is_entered_anywhere_and_followed_from_there() {
    let gaps: Gaps = "values:1,2,4".parse().unwrap();
    let mut entered = [0; 3];
    for seed in 0..7000 {
        let mut state = 0;
        gaps.first(&mut state, &mut stream(seed, 0, Purpose::Arrivals));
        entered[(state + 2) % 3] += 1;
    }
    // In proportion to the gaps' lengths.
    assert!((900..1100).contains(&entered[0]) && (1880..2120).contains(&entered[1]), "{entered:?}");
}

#[test]
fn bad_traces_are_refused_in_a_sentence() {
    for (content, part) in [
        ("", "holds no values"),
        ("1\n", "two instants or more"),
        ("1\n3\n2\n", "must ascend, but 2 follows 3"),
        ("1\n1\n1\n", "must not all be 0"),
        ("1\nsoon\n", "line 2: \"soon\" is not a number"),
        ("-1e300\n1e300\n", "at most 1e12"),
    ] {
        let file = TempFile::new(content);
        let said = format!("trace:{}", file.path()).parse::<Gaps>().unwrap_err();
        assert!(said.contains(part) && said.contains(&file.path()[..20]), "{content:?}: {said}");
    }
    assert!("trace:/".parse::<Gaps>().is_err());
}

#[test]
fn hostile_texts_are_refused() {
    let texts = [
        "",
        "Poisson",
        "poisson:3",
        "gpareto:1",
        "gpareto:NaN",
        "gpareto:-2",
        "values:",
        "values:1,,2",
        "values:-1,2",
        "values:0,0",
    ];
    for text in texts {
        assert!(text.parse::<Gaps>().is_err(), "{text}");
    }
    assert!(serde_json::from_str::<Gaps>("\"gpareto:7\"").is_err());
}

fn any_gaps() -> impl Strategy<Value = Gaps> {
    prop_oneof![
        Just(Gaps::poisson()),
        Just(Gaps::uniform()),
        Just(Gaps::fixed()),
        (-1.0..1.0f64).prop_map(|shape| Gaps::gpareto(shape).unwrap()),
        proptest::collection::vec(1e-9..1e9f64, 1..20).prop_map(|gaps| Gaps::trace(&gaps).unwrap()),
    ]
}

proptest! {
    #[test]
    fn gaps_survive_text_and_serde(gaps in any_gaps()) {
        prop_assert_eq!(&gaps.to_string().parse::<Gaps>().unwrap(), &gaps);
        prop_assert_eq!(&serde_json::from_str::<Gaps>(&serde_json::to_string(&gaps).unwrap()).unwrap(), &gaps);
    }

    #[test]
    fn gaps_are_never_negative(gaps in any_gaps(), seed: u64) {
        let (mut state, mut rng) = (0, stream(seed, 0, Purpose::Arrivals));
        prop_assert!(gaps.first(&mut state, &mut rng) >= 0.0);
        prop_assert!((0..100).all(|_| gaps.draw(&mut state, &mut rng) >= 0.0));
    }

    #[test]
    fn no_text_panics(text in "(poisson|uniform|gpareto|values|trace)?:?[0-9.,eE+\\-a-z]{0,20}") {
        let _ = text.parse::<Gaps>();
    }
}
