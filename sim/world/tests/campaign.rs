//! Seeds of the campaign, as many as a test run has time for: 200. `ZYGIX_STRESS=long` makes it 10 000:
//! `ZYGIX_STRESS=long cargo test -p world --release --test campaign -- --nocapture`.

use std::sync::atomic::{AtomicU64, Ordering};

/// Worlds in which something has been wrong once that the first 200 do not show: order at a core that was away for long (1720, 3548), frames of one group behind those of another that was
/// not there (572, 724), a handler that was interrupted for messages again and again (1067), everything on one core (1287, 5531, 7384).
#[test]
fn seeds_that_broke_once_keep_what_is_promised() {
    for seed in [572, 724, 1067, 1287, 1720, 3548, 5531, 7384] {
        if let Err(e) = world::campaign::check(seed, None) {
            panic!("{e}");
        }
    }
}

/// Each seed is a world of its own; the first that breaks is named, with what it takes to see it again.
#[test]
fn seeds_keep_what_is_promised() {
    let long = std::env::var("ZYGIX_STRESS").is_ok_and(|how| how == "long");
    let seeds = if long { 10_000 } else { 200 };
    let next = AtomicU64::new(0);
    let broken = std::sync::Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    if long && seed.is_multiple_of(1000) {
                        println!("seed {seed} of {seeds}");
                    }
                    if let Err(e) = world::campaign::check(seed, None) {
                        broken.lock().unwrap().push(e.to_string());
                    }
                }
            });
        }
    });
    let broken = broken.into_inner().unwrap();
    assert!(broken.is_empty(), "{} seeds are broken: {broken:#?}", broken.len());
}
