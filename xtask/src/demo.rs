//! A short run of the demo, and whether its JSON says what it promises.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell;
use crate::workspace::Workspace;

/// The demo promises to end within a minute; twice that is a hang.
const LIMIT: Duration = Duration::from_secs(120);
/// What is measured of each stack.
const MEASURES: [&str; 4] = ["rps", "p50_us", "p99_us", "server_us_per_request"];

/// Runs the release build's demo for two seconds of load.
///
/// # Errors
/// It fails, or its JSON is not what it should be.
pub(crate) fn check(workspace: &Workspace, logs: &Path) -> Result<()> {
    let json = logs.join("demo.json");
    // What an earlier run left behind must not pass for this one's.
    let _ = std::fs::remove_file(&json);
    let mut demo = Command::new(workspace.release("zygix"));
    demo.current_dir(&workspace.root).args(["demo", "--seconds", "2", "--json"]).arg(&json);
    shell::run_within(&mut demo, &logs.join("demo.log"), Some(LIMIT))?;
    let text = std::fs::read_to_string(&json).with_context(|| format!("the demo left no {}", json.display()))?;
    let result: Value = serde_json::from_str(&text).with_context(|| format!("{} is not JSON", json.display()))?;
    let wrong = faults(&result);
    if !wrong.is_empty() {
        bail!("the demo's result is wrong: {}\n{text}", wrong.join("; "));
    }
    Ok(())
}

/// What is wrong with a demo's result.
fn faults(result: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    if result["ok"] != Value::Bool(true) {
        wrong.push("`ok` is not true".to_owned());
    }
    if result["errors"].as_u64() != Some(0) {
        wrong.push(format!("`errors` is {}", result["errors"]));
    }
    for stack in ["zygix", "linux"] {
        for measure in MEASURES {
            let value = &result[stack][measure];
            if !value.as_f64().is_some_and(|v| v > 0.0 && v.is_finite()) {
                wrong.push(format!("`{stack}.{measure}` is {value}"));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_result_must_be_whole() {
        let side = json!({"rps": 1.0, "p50_us": 1, "p99_us": 2.5, "server_us_per_request": 0.5});
        let good = json!({"ok": true, "errors": 0, "zygix": side, "linux": side});
        assert!(faults(&good).is_empty());
        let mut bad = good.clone();
        bad["errors"] = json!(1);
        bad["linux"]["rps"] = json!(0);
        assert_eq!(faults(&bad), ["`errors` is 1", "`linux.rps` is 0"]);
        assert_eq!(faults(&json!({})).len(), 10);
    }
}
