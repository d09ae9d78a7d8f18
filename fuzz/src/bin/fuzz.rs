//! libFuzzer's entry. Which target, `ZYGIX_FUZZ` says.
#![no_main]
#![forbid(unsafe_code)]

use std::sync::LazyLock;

use fuzz::{TARGETS, Target, target};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("ZYGIX_FUZZ").unwrap_or_default();
    target(&name).unwrap_or_else(|| {
        let names = TARGETS.map(|t| t.name).join(", ");
        eprintln!("ZYGIX_FUZZ={name}: there are {names}");
        std::process::exit(2)
    })
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));
