//! Running programs: quietly, with a log that is shown in part when they fail.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Lines of a log that a failure shows.
const TAIL: usize = 60;

/// Runs `command` with all its output in the file `log`.
///
/// # Errors
/// It can't be started, or fails: then with the end of the log.
pub(crate) fn run(command: &mut Command, log: &Path) -> Result<()> {
    run_within(command, log, None)
}

/// [`run`], but what takes longer than `limit` is killed and has failed.
pub(crate) fn run_within(command: &mut Command, log: &Path, limit: Option<Duration>) -> Result<()> {
    let file = create(log)?;
    let second = file.try_clone().context("cannot use the log twice")?;
    command.stdin(std::process::Stdio::null()).stdout(file).stderr(second);
    let child = command.spawn().with_context(|| format!("cannot run {}", shown(command)))?;
    match wait(child, limit)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("{} failed ({status})\n{}", shown(command), tail(log)),
        None => bail!("{} was killed: it took longer than {limit:?}\n{}", shown(command), tail(log)),
    }
}

/// Runs `command` with its output on the terminal.
pub(crate) fn run_in_sight(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", shown(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs `command` and returns what it writes to its standard output; the rest goes to `log`.
pub(crate) fn output_of(command: &mut Command, log: &Path) -> Result<String> {
    let errors = create(log)?;
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).stderr(errors);
    let child = command.spawn().with_context(|| format!("cannot run {}", shown(command)))?;
    let out = child.wait_with_output().with_context(|| format!("lost {}", shown(command)))?;
    if !out.status.success() {
        bail!("{} failed ({})\n{}", shown(command), out.status, tail(log));
    }
    String::from_utf8(out.stdout).with_context(|| format!("the output of {} is not text", shown(command)))
}

/// Whether `command` can be run and succeeds; its output is thrown away.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    quiet.stderr(std::process::Stdio::null()).status().is_ok_and(|s| s.success())
}

/// Where a program lies, looked for as a shell does, and in the folders that only root's path has.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// A command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words.map(|w| w.to_string_lossy().into_owned()).collect();
    format!("`{}`", words.join(" "))
}

/// The end of a log, and where the whole of it is.
fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(TAIL)..].join("\n");
    format!("{last}\n(the whole log: {})", log.display())
}

fn create(log: &Path) -> Result<File> {
    File::create(log).with_context(|| format!("cannot write {}", log.display()))
}

/// Waits for the child; `None` when it had to be killed.
fn wait(mut child: Child, limit: Option<Duration>) -> Result<Option<ExitStatus>> {
    let Some(limit) = limit else { return Ok(Some(child.wait()?)) };
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("xtask-{}-{name}.log", std::process::id()))
    }

    #[test]
    fn failure_shows_the_end_of_the_log() {
        let log = log("fails");
        let mut command = Command::new("sh");
        let why = run(command.args(["-c", "echo out; echo err >&2; exit 3"]), &log).unwrap_err().to_string();
        assert!(why.contains("out\nerr\n") && why.contains("exit status: 3"), "{why}");
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn what_hangs_is_killed() {
        let log = log("hangs");
        let why = run_within(Command::new("sleep").arg("600"), &log, Some(Duration::from_millis(50))).unwrap_err();
        assert!(why.to_string().contains("was killed"), "{why}");
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn programs_are_found_or_not() {
        assert!(which("sh").is_some());
        assert!(which("no-such-program-anywhere").is_none());
        assert!(run(&mut Command::new("no-such-program-anywhere"), &log("none")).is_err());
        let _ = std::fs::remove_file(log("none"));
    }
}
