use std::fmt::Write as _;
use std::path::Path;

use crate::linux::run_on_linux;
use crate::parse::{ParseError, parse};
use crate::run::{Run, run};
use crate::script::{Linux, Script};
use crate::subject::Make;

/// How often a script that failed on Linux is run again.
const RETRIES_IN_REAL_TIME: u32 = 2;

/// Reads one script; its name is the last two parts of its path, without `.pkt`.
///
/// # Errors
/// The file cannot be read, or does not parse.
pub fn load(path: &Path) -> Result<Script, ParseError> {
    let parts: Vec<_> =
        path.with_extension("").components().map(|c| c.as_os_str().to_string_lossy().into_owned()).collect();
    let name = parts[parts.len().saturating_sub(2)..].join("/");
    let source = std::fs::read_to_string(path).map_err(|e| ParseError {
        script: path.display().to_string(),
        line: 0,
        text: String::new(),
        why: e.to_string(),
    })?;
    parse(&name, &source)
}

/// All scripts of this crate, by name.
///
/// # Errors
/// All that do not parse.
pub fn load_all() -> Result<Vec<Script>, Vec<ParseError>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    paths.sort();
    let (good, bad): (Vec<_>, Vec<_>) = paths.iter().map(|p| load(p)).partition(Result::is_ok);
    if bad.is_empty() {
        Ok(good.into_iter().flatten().collect())
    } else {
        Err(bad.into_iter().filter_map(Result::err).collect())
    }
}

fn collect(folder: &Path, paths: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|e| e == "pkt") {
            paths.push(path);
        }
    }
}

/// What became of a script on one stack.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// As written.
    Agrees,
    /// It does otherwise, as the script explains.
    Differs(String),
    /// It cannot be asked; the script says why.
    Unasked(String),
    /// It does otherwise, and nobody has explained it. With the trace.
    Failed(String),
}

impl Verdict {
    fn text(&self) -> String {
        match self {
            Verdict::Agrees => "agrees".into(),
            Verdict::Differs(why) => format!("differs: {why}"),
            Verdict::Unasked(why) => format!("not asked: {why}"),
            Verdict::Failed(_) => "FAILS".into(),
        }
    }
}

/// Runs a script on one of our stacks, or (`None`) on Linux, and judges the outcome.
pub fn verdict(script: &Script, on: Option<&dyn Make>) -> Verdict {
    match on {
        Some(make) => match make.make(&script.config) {
            Ok(mut subject) => {
                let run = run(script, subject.as_mut());
                match &run.unasked {
                    Some(why) => Verdict::Unasked(why.clone()),
                    None if run.passed() => Verdict::Agrees,
                    None => Verdict::Failed(run.to_string()),
                }
            }
            Err(why) => Verdict::Failed(why),
        },
        None => linux_verdict(script),
    }
}

fn linux_verdict(script: &Script) -> Verdict {
    if let Linux::Unasked(why) = &script.linux {
        return Verdict::Unasked(why.clone());
    }
    // In real time the script itself may come late (a retransmission overtakes its next line): such a failure is not
    // repeated, a disagreement is.
    let mut verdict = linux_verdict_once(script);
    for _ in 0..RETRIES_IN_REAL_TIME {
        if matches!(verdict, Verdict::Failed(_)) {
            verdict = linux_verdict_once(script);
        }
    }
    verdict
}

fn linux_verdict_once(script: &Script) -> Verdict {
    let run: Run = run_on_linux(script);
    let has_marked_lines = script.steps.iter().any(|s| s.only.is_some());
    match (&script.linux, run.passed()) {
        (Linux::Differs(why), true) if has_marked_lines => Verdict::Differs(why.clone()),
        (Linux::Differs(why), false) if !has_marked_lines => Verdict::Differs(why.clone()),
        (Linux::Differs(_), true) => {
            Verdict::Failed(format!("{run}    the script says that Linux differs, but it does not (any more)\n"))
        }
        (_, true) => Verdict::Agrees,
        (_, false) => Verdict::Failed(run.to_string()),
    }
}

/// One script's line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// The script.
    pub script: String,
    /// Our engine's.
    pub engine: Verdict,
    /// Our whole stack's.
    pub whole: Verdict,
    /// The referee's.
    pub linux: Verdict,
}

/// The table of results.
pub fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|r| r.script.len()).max().unwrap_or(0);
    let mut text = format!("{:width$}  engine  whole stack  linux\n", "script");
    let ours = |v: &Verdict| match v {
        Verdict::Agrees => "passes",
        Verdict::Failed(_) => "FAILS",
        _ => "-",
    };
    for Row { script, engine, whole, linux } in rows {
        let _ = writeln!(text, "{script:width$}  {:6}  {:11}  {}", ours(engine), ours(whole), linux.text());
    }
    let count = |f: fn(&Row) -> bool| rows.iter().filter(|r| f(r)).count();
    let _ = writeln!(
        text,
        "{} scripts; engine: {} pass; whole stack: {} pass, {} not asked; \
         linux: {} agree, {} differ as explained, {} not asked, {} fail",
        rows.len(),
        count(|r| matches!(r.engine, Verdict::Agrees)),
        count(|r| matches!(r.whole, Verdict::Agrees)),
        count(|r| matches!(r.whole, Verdict::Unasked(_))),
        count(|r| matches!(r.linux, Verdict::Agrees)),
        count(|r| matches!(r.linux, Verdict::Differs(_))),
        count(|r| matches!(r.linux, Verdict::Unasked(_))),
        count(|r| matches!(r.linux, Verdict::Failed(_))),
    );
    text
}
