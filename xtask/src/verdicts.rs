//! What test programs print, counted: passes as the test harness reports them, skips as our tests announce them.

/// How tests of another stack than the one asked for end: that is no skip, they run in another step.
const ELSEWHERE: &str = "excluded by ZYGIX_STACKS";

/// What test programs came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Verdicts {
    pub(crate) passed: u64,
    /// Why tests did not run, a reason for each.
    pub(crate) skipped: Vec<String>,
}

/// Reads the output of test programs that have succeeded.
///
/// A test that cannot do its work prints a line `SKIPPED <name>: <why>` and returns; the harness calls that a pass, we do
/// not. A program without the harness counts as one test.
pub(crate) fn read(output: &str) -> Verdicts {
    let mut verdicts = Verdicts::default();
    let (mut harness, mut elsewhere) = (false, 0);
    for line in output.lines() {
        if let Some(passed) = passed(line) {
            harness = true;
            verdicts.passed += passed;
            continue;
        }
        match skipped(line) {
            Some(why) if why == ELSEWHERE => elsewhere += 1,
            why => verdicts.skipped.extend(why),
        }
    }
    if !harness {
        verdicts.passed = 1;
    }
    verdicts.passed = verdicts.passed.saturating_sub(elsewhere + verdicts.skipped.len() as u64);
    verdicts
}

/// The number in `test result: ok. 12 passed; 0 failed; ...`.
fn passed(line: &str) -> Option<u64> {
    line.strip_prefix("test result: ok. ")?.split_once(" passed")?.0.parse().ok()
}

/// The reason in `SKIPPED name: why` or `SKIPPED: name (3 so far): why`. With one test thread, `test <name> ... ` stands before it.
fn skipped(line: &str) -> Option<String> {
    let line = line.strip_prefix("test ").and_then(|l| l.split_once(" ... ")).map_or(line, |(_, rest)| rest);
    let rest = line.strip_prefix("SKIPPED")?.trim_start_matches([':', ' ']);
    Some(rest.split_once(": ").map_or(rest, |(_, why)| why).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_is_not_a_pass() {
        let out = "running 3 tests\nSKIPPED live: no /dev/net/tun\ntest a ... ok\n\n---- b stdout ----\nSKIPPED: no nc\n\
                   \ntest result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s\n";
        let v = read(out);
        assert_eq!((v.passed, v.skipped), (1, vec!["no /dev/net/tun".to_owned(), "no nc".to_owned()]));
    }

    #[test]
    fn what_runs_in_another_step_is_neither() {
        let out = "SKIPPED: get::linux (1 in this file): excluded by ZYGIX_STACKS\n\
                   SKIPPED: get::zygix (2 in this file): needs root\ntest result: ok. 3 passed; 0 failed\n";
        let v = read(out);
        assert_eq!((v.passed, v.skipped), (1, vec!["needs root".to_owned()]));
    }

    #[test]
    fn a_program_without_harness_is_one_test() {
        assert_eq!(read("test x ... ok\n").passed, 1);
        let v = read("SKIPPED x: not permitted\n");
        assert_eq!((v.passed, v.skipped.len()), (0, 1));
    }

    #[test]
    fn one_thread_prints_the_name_first() {
        assert_eq!(read("test a ... SKIPPED a: no\nok\ntest result: ok. 1 passed; 0 failed").skipped, ["no"]);
        assert!(read("this line says SKIPPED in its middle\n").skipped.is_empty());
    }
}
