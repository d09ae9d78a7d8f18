//! The short run of each target: the corpus, then mutations of it from fixed seeds. `ZYGIX_STRESS=long` runs a hundred times as many.

use std::path::Path;

use fuzz::{TARGETS, Target, mutate};

fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let mut all: Vec<(String, Vec<u8>)> = std::fs::read_dir(&dir)
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap())
        })
        .collect();
    all.sort();
    assert!(!all.is_empty(), "{} is empty", dir.display());
    all
}

fn dictionary(target: &Target) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dictionaries").join(format!("{}.dict", target.name));
    std::fs::read_to_string(path).map_or_else(|_| Vec::new(), |text| mutate::words(&text).unwrap())
}

/// Names what is run, should it panic.
struct Says(String);

impl Drop for Says {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}

fn short(name: &str) {
    let target = fuzz::target(name).unwrap();
    let corpus = corpus(target);
    for (file, input) in &corpus {
        let _says = Says(format!("this was corpus/{name}/{file}"));
        (target.run)(input);
    }
    let inputs: Vec<Vec<u8>> = corpus.into_iter().map(|(_, input)| input).collect();
    let words = dictionary(target);
    let times = if std::env::var("ZYGIX_STRESS").is_ok_and(|s| s == "long") { 100 } else { 1 };
    for nth in 0..target.short * times {
        let input = mutate::mutation(&inputs, &words, nth);
        let _says = Says(format!("this was mutation {nth}: {}", input.escape_ascii()));
        (target.run)(&input);
    }
}

#[test]
fn parsers() {
    short("parsers");
}

#[test]
fn segments() {
    short("segments");
}

#[test]
fn frames() {
    short("frames");
}

#[test]
fn kv() {
    short("kv");
}

#[test]
fn each_target_has_a_test_here() {
    assert_eq!(TARGETS.map(|t| t.name), ["parsers", "segments", "frames", "kv"]);
}
