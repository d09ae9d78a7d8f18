use super::*;
use crate::file::testing::TempFile;
use crate::stream::{Purpose, stream};
use proptest::prelude::*;

fn sizes(text: &str) -> Sizes {
    text.parse().unwrap_or_else(|said| panic!("{text}: {said}"))
}

#[test]
fn a_plain_number_is_a_size() {
    let s = sizes("64");
    assert_eq!(s, Sizes::fixed(64));
    assert_eq!((s.at(0.0), s.at(0.999), s.max(), s.min(), s.mean()), (64, 64, 64, 64, 64.0));
}

#[test]
fn uniform_takes_each_size_as_often() {
    let s = sizes("uniform:10-13");
    let mut rng = stream(1, 0, Purpose::Requests);
    let mut counts = [0u32; 4];
    (0..40_000).for_each(|_| counts[s.draw(&mut rng) as usize - 10] += 1);
    assert!(counts.iter().all(|n| (9_500..10_500).contains(n)), "{counts:?}");
    assert_eq!((s.min(), s.max(), s.mean()), (10, 13, 11.5));
}

#[test]
fn etc_values_have_the_papers_probabilities() {
    let s = Sizes::etc_value();
    const N: usize = 1_000_000;
    let mut counts = vec![0u32; 1025];
    (0..N).for_each(|nth| counts[s.at((nth as f64 + 0.5) / N as f64) as usize] += 1);
    let share = |size: usize| f64::from(counts[size]) / N as f64;
    assert_eq!(counts[0], 0);
    // Empty values are cut to one byte.
    assert!((share(1) - 0.00583).abs() < 2e-6);
    for (size, expected) in [(2, 0.17820), (3, 0.09239), (4, 0.00018), (9, 0.00837), (11, 0.08989), (14, 0.01980)] {
        assert!((share(size) - expected).abs() < 2e-6, "{size}");
    }
    let small: f64 = (1..=14).map(share).sum();
    assert!((small - 0.44155).abs() < 2e-6, "{small}");
    // What the tail has above 1 KB is cut to it: (1 + k (1024 - 15) / sigma)^(-1/k) of it.
    let above = (1.0 - 0.44155) * (1.0f64 + 0.348238 * 1009.0 / 214.476).powf(-1.0 / 0.348238);
    assert!((share(1024) - above).abs() < 2e-5, "{} {above}", share(1024));
    assert_eq!((s.min(), s.max()), (1, 1024));
}

#[test]
fn etc_keys_are_about_thirty_bytes_long() {
    let s = Sizes::etc_key();
    assert_eq!((s.min(), s.max(), s.at(0.9999999)), (20, 70, 70));
    // The median of a GEV is mu + sigma (ln(2)^-xi - 1) / xi.
    assert_eq!(s.at(0.5), (30.7984 + 8.20449 * (2f64.ln().powf(-0.078688) - 1.0) / 0.078688) as u32);
    // Its mean is mu + sigma (gamma(1 - xi) - 1) / xi = 36.2; half a byte less by rounding down, and a little less by the cut.
    assert!((35.0..36.2).contains(&s.mean()), "{}", s.mean());
}

#[test]
fn a_cut_moves_what_is_outside_and_nothing_else() {
    let (cut, uncut) = (sizes("gpareto:0,100,0.2:50-300"), sizes("gpareto:0,100,0.2"));
    for nth in 0..1000 {
        let u = f64::from(nth) / 1000.0;
        assert_eq!(cut.at(u), uncut.at(u).clamp(50, 300));
    }
    assert_eq!(sizes("gev:0,1,0.5").max(), 1 << 20);
    assert_eq!(sizes("gev:0,1,-10:0-9").min(), 0);
}

#[test]
fn a_pareto_has_its_mean() {
    // Location + scale / (1 - shape), half a byte less by rounding down.
    let mean = sizes("gpareto:100,1000,0.1").mean();
    assert!((mean - (100.0 + 1000.0 / 0.9 - 0.5)).abs() < 1.0, "{mean}");
}

#[test]
fn a_file_gives_sizes_by_weight() {
    let file = TempFile::new("# size weight\n1000 1\n10 3\n500 0\n");
    let s = sizes(&format!("file:{}", file.path()));
    assert_eq!((s.at(0.0), s.at(0.7499), s.at(0.75), s.at(0.9999), s.at(1.0)), (10, 10, 1000, 1000, 1000));
    assert_eq!((s.max(), s.mean()), (1000, 257.5));
    assert_eq!(s.to_string(), "values:10,3,1000,1");
    assert_eq!(sizes(&s.to_string()), s);
}

#[test]
fn bad_files_are_refused_in_a_sentence() {
    for (content, part) in [
        ("", "holds no values"),
        ("10\n", "2 number(s)"),
        ("10 0\n", "not all be 0"),
        ("10 -1\n", "weight -1"),
        ("-10 1\n", "size -10"),
        ("1.5 1\n", "whole number"),
        ("1e12 1\n", "at most"),
        ("10 NaN\n", "line 1"),
    ] {
        let file = TempFile::new(content);
        let said = format!("file:{}", file.path()).parse::<Sizes>().unwrap_err();
        assert!(said.contains(part), "{content:?}: {said}");
    }
}

#[test]
fn hostile_texts_are_refused() {
    for text in [
        "",
        "-1",
        "64k",
        "99999999999",
        "1e3",
        "uniform:",
        "uniform:9-3",
        "uniform:1-99999999999",
        "gev:1,2",
        "gev:1,2,3,4",
        "gev:1,0,1",
        "gev:1,-1,1",
        "gev:NaN,1,1",
        "gev:1,1,inf",
        "gev:1,1,1:9",
        "gpareto:1,1,1:9-3",
        "values:",
        "values:1",
        "values:1,0",
        "etc-key:",
        "etc",
    ] {
        assert!(text.parse::<Sizes>().is_err(), "{text}");
    }
}

fn any_sizes() -> impl Strategy<Value = Sizes> {
    let cut = || prop_oneof![Just(CUT), (0..=MAX_SIZE, 0..=MAX_SIZE).prop_map(|(a, b)| (a.min(b), a.max(b)))];
    let fit = || (-1e4..1e4f64, 1e-3..1e4f64, -5.0..5.0f64);
    prop_oneof![
        (0..=MAX_SIZE).prop_map(Sizes::fixed),
        (0..=MAX_SIZE, 0..=MAX_SIZE).prop_map(|(a, b)| Sizes(Kind::Uniform(a.min(b), a.max(b)))),
        (fit(), cut()).prop_map(|(fit, cut)| Sizes(Kind::Gev { fit, cut })),
        (fit(), cut()).prop_map(|(fit, cut)| Sizes(Kind::GPareto { fit, cut })),
        Just(Sizes::etc_key()),
        Just(Sizes::etc_value()),
        proptest::collection::vec((0..=MAX_SIZE, 1e-6..1e6f64), 1..20).prop_map(|pairs| {
            Sizes(Kind::Table(
                Table::new(pairs.into_iter().flat_map(|(size, weight)| [f64::from(size), weight]).collect()).unwrap(),
            ))
        }),
    ]
}

#[test]
fn the_mean_of_one_size_is_that_size() {
    let sizes: Sizes = "values:639587,893168.6146200316".parse().unwrap();
    assert_eq!(sizes.mean(), 639_587.0);
}

proptest! {
    #[test]
    fn sizes_survive_text_and_serde(sizes in any_sizes()) {
        prop_assert_eq!(&sizes.to_string().parse::<Sizes>().unwrap(), &sizes);
        prop_assert_eq!(&serde_json::from_str::<Sizes>(&serde_json::to_string(&sizes).unwrap()).unwrap(), &sizes);
    }

    #[test]
    fn sizes_ascend_within_their_ends(sizes in any_sizes(), u in 0.0..1.0f64, v in 0.0..1.0f64) {
        let (low, high) = (sizes.at(u.min(v)), sizes.at(u.max(v)));
        prop_assert!(sizes.min() <= low && low <= high && high <= sizes.max());
        prop_assert!((f64::from(sizes.min())..=f64::from(sizes.max())).contains(&sizes.mean()));
    }

    #[test]
    fn any_share_has_a_size(sizes in any_sizes(), u: f64) {
        prop_assert!((sizes.min()..=sizes.max()).contains(&sizes.at(u)));
    }

    #[test]
    fn no_text_panics(text in "(uniform|gev|gpareto|values|file|etc-)?:?[0-9.,:eE+\\-a-z]{0,24}") {
        let _ = text.parse::<Sizes>();
    }
}
