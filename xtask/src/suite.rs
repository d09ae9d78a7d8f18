//! The test programs of the workspace: built once, then run in groups, some of them twice in another mode.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell;
use crate::steps::Tally;
use crate::verdicts;
use crate::workspace::Workspace;

/// No test program runs longer than this, by far.
const LIMIT: Duration = Duration::from_secs(600);

/// A test program.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Program {
    package: String,
    /// The crate's folder, in which cargo would run it.
    folder: PathBuf,
    /// The name of the library, program or test file that it tests.
    target: String,
    file: PathBuf,
}

/// All test programs.
#[derive(Default)]
pub(crate) struct Suite(Vec<Program>);

impl Suite {
    /// Builds all of them, in one go: building by crate would build what they share once for each set of features.
    pub(crate) fn build(workspace: &Workspace, log: &Path) -> Result<Suite> {
        let args = ["test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"];
        let messages = shell::output_of(&mut workspace.cargo(&args), log)?;
        let programs: Vec<Program> = messages.lines().filter_map(|line| program(line, workspace)).collect();
        if programs.is_empty() {
            bail!("cargo test --no-run built no test program");
        }
        Ok(Suite(programs))
    }

    /// Runs the programs of the crates that `of` picks, one after the other.
    ///
    /// # Errors
    /// The first that fails.
    pub(crate) fn run(
        &self,
        of: impl Fn(&str) -> bool,
        env: &[(&str, PathBuf)],
        logs: &Path,
        tally: &mut Tally,
    ) -> Result<()> {
        for program in self.0.iter().filter(|p| of(&p.package)) {
            let log = logs.join(format!("test-{}-{}.log", program.package, program.target));
            let mut command = Command::new(&program.file);
            command.arg("--show-output").current_dir(&program.folder).env("CARGO_MANIFEST_DIR", &program.folder);
            command.envs(env.iter().map(|(name, value)| (name, value)));
            shell::run_within(&mut command, &log, Some(LIMIT)).with_context(|| {
                let Program { package, target, .. } = program;
                format!("tests `{target}` of crate {package}; alone: cargo test -p {package}")
            })?;
            let output = std::fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
            let verdicts = verdicts::read(&String::from_utf8_lossy(&output));
            tally.passed += verdicts.passed;
            tally.skipped.extend(verdicts.skipped.into_iter().map(|why| format!("{}: {why}", program.package)));
        }
        Ok(())
    }
}

/// The test program that a message of cargo's announces, if it does.
fn program(message: &str, workspace: &Workspace) -> Option<Program> {
    let message: Value = serde_json::from_str(message).ok()?;
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let id = message["package_id"].as_str()?;
    let package = workspace.packages.iter().find(|p| p.id == id)?;
    Some(Program {
        package: package.name.clone(),
        folder: workspace.root.join(&package.folder),
        target: message["target"]["name"].as_str()?.to_owned(),
        file: PathBuf::from(message["executable"].as_str()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Package;

    #[test]
    fn only_test_programs_are_taken() {
        let package = Package {
            id: "x 1".into(),
            name: "x".into(),
            folder: "base/x".into(),
            depends_on: vec![],
            external: vec![],
            roots: vec![],
            examples: vec![],
        };
        let w = Workspace { root: "/r".into(), target: "/t".into(), packages: vec![package] };
        let say = |test: bool, exe: &str| {
            format!(
                "{{\"reason\":\"compiler-artifact\",\"package_id\":\"x 1\",\"profile\":{{\"test\":{test}}},\
                 \"target\":{{\"name\":\"live\"}},\"executable\":{exe}}}"
            )
        };
        let p = program(&say(true, "\"/t/live-1\""), &w).unwrap();
        assert_eq!((p.package.as_str(), p.target.as_str(), p.folder), ("x", "live", "/r/base/x".into()));
        assert_eq!(program(&say(false, "\"/t/live-1\""), &w), None);
        assert_eq!(program(&say(true, "null"), &w), None);
        assert_eq!(program("{\"reason\":\"build-finished\"}", &w), None);
    }
}
