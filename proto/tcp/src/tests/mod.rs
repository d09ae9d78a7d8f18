//! Engine tests: a pair of engines over a bad wire, arbitrary input, and examples by RFC section.

mod close;
mod endpoint;
mod fuzz;
mod handshake;
mod loss;
mod pair;
mod rfc5961;
mod rfc7323;
mod windows;

use proptest::test_runner::Config as ProptestConfig;
use units::Nanos;

const MS: Nanos = Nanos::from_millis(1);

#[test]
fn sizes() {
    assert!(size_of::<crate::Tcb>() <= 320, "{}", size_of::<crate::Tcb>());
    assert_eq!(size_of::<crate::HalfOpen>(), 40);
    println!(
        "Tcb {} Arrival {} Emit {}",
        size_of::<crate::Tcb>(),
        size_of::<crate::Arrival>(),
        size_of::<crate::Emit>()
    );
}

/// At least `n` cases; PROPTEST_CASES asks for more.
fn cases(n: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(n), ..default }
}
