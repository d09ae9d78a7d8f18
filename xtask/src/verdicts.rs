//! What test programs print, counted: passes as the test harness reports them, skips as our tests announce them.

/// What one test program came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Verdicts {
    pub(crate) passed: u64,
    pub(crate) skipped: Vec<String>,
}

/// Reads the output of a test program that has succeeded.
///
/// A test that cannot do its work prints a line `SKIPPED <what>: <why>` and returns; the harness calls that a pass, we do
/// not. A program without the harness counts as one test.
pub(crate) fn read(output: &str) -> Verdicts {
    let mut verdicts = Verdicts::default();
    let mut harness = false;
    for line in output.lines() {
        if let Some(passed) = passed(line) {
            harness = true;
            verdicts.passed += passed;
        } else if let Some(why) = skipped(line) {
            if !verdicts.skipped.contains(&why) {
                verdicts.skipped.push(why);
            }
        }
    }
    if !harness {
        verdicts.passed = 1;
    }
    verdicts.passed = verdicts.passed.saturating_sub(verdicts.skipped.len() as u64);
    verdicts
}

/// The number in `test result: ok. 12 passed; 0 failed; ...`.
fn passed(line: &str) -> Option<u64> {
    line.strip_prefix("test result: ok. ")?.split_once(" passed")?.0.parse().ok()
}

/// What follows the mark. With one test thread the mark comes after `test <name> ... `.
fn skipped(line: &str) -> Option<String> {
    let line = line.strip_prefix("test ").and_then(|l| l.split_once(" ... ")).map_or(line, |(_, rest)| rest);
    let why = line.strip_prefix("SKIPPED")?;
    Some(why.trim_start_matches([':', ' ']).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_is_not_a_pass() {
        let out = "running 3 tests\nSKIPPED live: no /dev/net/tun\ntest a ... ok\n\n---- b stdout ----\nSKIPPED: no nc\n\
                   \ntest result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s\n";
        let v = read(out);
        assert_eq!((v.passed, v.skipped), (1, vec!["live: no /dev/net/tun".to_owned(), "no nc".to_owned()]));
    }

    #[test]
    fn a_program_without_harness_is_one_test() {
        assert_eq!(read("test x ... ok\n").passed, 1);
        let v = read("SKIPPED x: not permitted\n");
        assert_eq!((v.passed, v.skipped.len()), (0, 1));
    }

    #[test]
    fn one_thread_prints_the_name_first() {
        assert_eq!(read("test a ... SKIPPED a: no\nok\ntest result: ok. 1 passed; 0 failed").skipped, ["a: no"]);
        assert!(read("this line says SKIPPED in its middle\n").skipped.is_empty());
    }
}
