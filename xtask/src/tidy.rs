//! The rules that no compiler knows, checked line by line.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// A Rust file that is longer has more than one idea.
const LONGEST: usize = 800;
/// Crates that may contain unsafe code; STYLE.md says why these.
const UNSAFE_CRATES: [&str; 8] = ["sys", "mem", "sync", "shm", "tap", "xdp", "testkit", "tests"];
/// The code map, and the reasons for external crates.
const MAP: &str = "ARCHITECTURE.md";
const REASONS: &str = "docs/decisions/0002-dependencies.md";
/// How far above an unsafe block its reason may stand.
const REASON_WITHIN: usize = 8;
/// Marks of unfinished work. Written in two halves, for this file is checked too.
const UNFINISHED: [&str; 5] = [
    concat!("todo", "!("),
    concat!("unimpl", "emented!("),
    concat!("dbg", "!("),
    concat!("FIX", "ME"),
    concat!("TO", "DO"),
];

/// Checks all files that git knows or would take.
///
/// # Errors
/// All that is wrong, a line each.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let mut wrong = Vec::new();
    let private = private_paths(&workspace.root);
    for file in files(&workspace.root)? {
        let Ok(text) = std::fs::read_to_string(workspace.root.join(&file)) else { continue };
        let name = file.to_string_lossy();
        wrong.extend(places(&text, &private).into_iter().map(|l| format!("{name}:{l}: names a place of this machine")));
        match file.extension().and_then(|e| e.to_str()) {
            Some("rs") => {
                wrong.extend(rust(&text).into_iter().map(|what| format!("{name}{what}")));
                wrong.extend(soundness(&text, &workspace.root, &file).map(|what| format!("{name}: {what}")));
            }
            Some("md") => {
                wrong.extend(links(&text, &workspace.root, &file).into_iter().map(|l| format!("{name}: {l}")))
            }
            _ => {}
        }
    }
    for package in workspace.packages.iter().filter(|p| !UNSAFE_CRATES.contains(&p.name.as_str())) {
        for root in &package.roots {
            let text = std::fs::read_to_string(workspace.root.join(root)).unwrap_or_default();
            if is_main(root) && !text.contains("#![forbid(unsafe_code)]") {
                wrong.push(format!(
                    "{root}: lacks #![forbid(unsafe_code)]; unsafe code lives in {} only",
                    UNSAFE_CRATES.join(", ")
                ));
            }
        }
    }
    wrong.extend(same_command(&workspace.root));
    wrong.extend(unmentioned(workspace));
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

/// Tracked files, and new ones that no ignore rule names.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let out = git.output().context("git does not run; it lists the files to check")?;
    if !out.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    let names = String::from_utf8(out.stdout).context("a file name is not text")?;
    Ok(names.split('\0').filter(|n| !n.is_empty()).map(PathBuf::from).collect())
}

/// Libraries, programs and build scripts; tests and examples of a crate share its lint table and need no line of their own.
fn is_main(root: &str) -> bool {
    root.contains("/src/") || root.ends_with("build.rs")
}

/// What is wrong with a Rust file, each as `:line: what` or `: what`.
fn rust(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() > LONGEST {
        wrong.push(format!(": {} lines, {LONGEST} at most: it holds more than one idea", lines.len()));
    }
    for (i, line) in lines.iter().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        if let Some(mark) = UNFINISHED.iter().find(|m| line.contains(*m)) {
            wrong.push(format!(":{}: {mark}", i + 1));
        }
        if opens_unsafe(code) {
            let above = &lines[i.saturating_sub(REASON_WITHIN)..=i];
            if !above.iter().any(|l| l.contains("SAFETY:") || l.contains("# Safety")) {
                wrong.push(format!(":{}: unsafe without a SAFETY sentence just above it", i + 1));
            }
        }
    }
    wrong
}

/// A source file with unsafe code, or the crate's first page, says what makes it sound.
fn soundness(text: &str, root: &Path, file: &Path) -> Option<&'static str> {
    let source = file.iter().position(|part| part == "src")?;
    let says = |text: &str| text.contains("//! # Soundness") || text.contains("//! *Soundness*");
    if says(text) || !text.lines().any(|line| opens_unsafe(line.split("//").next().unwrap_or_default())) {
        return None;
    }
    let page = root.join(file.iter().take(source + 1).collect::<PathBuf>()).join("lib.rs");
    let page = std::fs::read_to_string(page).unwrap_or_default();
    (!says(&page)).then_some("unsafe code, and neither this file nor lib.rs has a paragraph `# Soundness`")
}

/// Whether the line opens an unsafe block, or an unsafe implementation.
fn opens_unsafe(code: &str) -> bool {
    let word = |w: &str| {
        code.match_indices(w)
            .any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '"'))
    };
    word("unsafe {") || word("unsafe impl")
}

/// The folder of this checkout and the user's home: no file may name them.
fn private_paths(root: &Path) -> Vec<String> {
    let home = std::env::var("HOME").unwrap_or_default();
    let root = root.to_string_lossy().into_owned();
    [root, home].into_iter().filter(|p| p.len() > 1).collect()
}

/// The lines that contain one of `private` as a path of its own.
fn places(text: &str, private: &[String]) -> Vec<usize> {
    let names = |line: &str| {
        private.iter().any(|p| {
            line.match_indices(p.as_str()).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                let after = line[at + p.len()..].chars().next();
                let inside = |c: char| c.is_alphanumeric() || c == '_' || c == '-' || c == '.';
                !before.is_some_and(|c| inside(c) || c == '/') && !after.is_some_and(inside)
            })
        })
    };
    text.lines().enumerate().filter(|(_, line)| names(line)).map(|(i, _)| i + 1).collect()
}

/// Links of a document to files that are not there.
fn links(text: &str, root: &Path, file: &Path) -> Vec<String> {
    let here = root.join(file);
    let folder = here.parent().unwrap_or(root);
    let mut wrong = Vec::new();
    for (at, _) in text.match_indices("](") {
        let Some(to) = text[at + 2..].split(')').next() else { continue };
        let path = to.split('#').next().unwrap_or_default();
        if path.is_empty() || to.contains("://") || to.contains('\n') {
            continue;
        }
        if !folder.join(path).exists() {
            wrong.push(format!("the link to {path} leads nowhere"));
        }
    }
    wrong
}

/// Crates that the documents forgot: ours belong on the map, others' need their reason.
fn unmentioned(workspace: &Workspace) -> Vec<String> {
    let page = |name: &str| std::fs::read_to_string(workspace.root.join(name)).unwrap_or_default();
    let (map, reasons) = (page(MAP), page(REASONS));
    let names = |page: &str, name: &str| page.contains(&format!("`{name}`")) || page.contains(&format!("/{name}`"));
    let ours =
        workspace.packages.iter().filter(|p| !names(&map, &p.name)).map(|p| format!("{MAP}: no word of {}", p.folder));
    let mut others: Vec<&String> = workspace.packages.iter().flat_map(|p| &p.external).collect();
    others.sort();
    others.dedup();
    let others = others.into_iter().filter(|name| !names(&reasons, name));
    ours.chain(others.map(|name| format!("{REASONS}: no reason for {name}"))).collect()
}

/// The CI runs what the README tells people to run.
fn same_command(root: &Path) -> Option<String> {
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap_or_default();
    let (ci, readme) = (read(".ci/run"), read("README.md"));
    let command = ci.lines().rfind(|l| !l.trim().is_empty())?.trim_start_matches("exec ").trim();
    (!readme.lines().any(|l| l.trim() == command))
        .then(|| format!(".ci/run: runs `{command}`, which is not a line of README.md"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_asks_for_a_reason() {
        // In two halves, for this file is checked too.
        let block = concat!("uns", "afe { g() }");
        let what = rust(&format!("fn f() {{\n    {block}\n}}\n"));
        assert_eq!(what, [":2: unsafe without a SAFETY sentence just above it"]);
        assert!(rust(&format!("// SAFETY: g is fine.\n{block}\n")).is_empty());
        assert!(rust("// we never write unsafe { } here\nlet s = \"unsafe { }\"; not_unsafe {\n").is_empty());
        assert_eq!(rust("unsafe impl Send for X {}\n").len(), 1);
    }

    #[test]
    fn unfinished_work_and_long_files_are_named() {
        assert_eq!(rust(&format!("{}\"x\")\n", UNFINISHED[0])).len(), 1);
        assert!(rust(&"x\n".repeat(LONGEST)).is_empty());
        assert_eq!(rust(&"x\n".repeat(LONGEST + 1)).len(), 1);
    }

    #[test]
    fn places_of_the_machine_are_found_as_whole_paths() {
        let private = ["/far/away".to_owned()];
        assert_eq!(places("ok\nsee /far/away/x\n\"/far/away\"\n", &private), [2, 3]);
        assert!(places("so/far/away /far/awayer http://x/far/away\n", &private).is_empty());
    }

    #[test]
    fn links_must_lead_somewhere() {
        let dir = std::env::temp_dir().join(format!("xtask-links-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("a.md"), "").unwrap();
        let text = "[a](a.md#part) [web](https://x.y/z) [self](#here) [gone](b.md)";
        let wrong = links(text, &dir, Path::new("c.md"));
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(wrong, ["the link to b.md leads nowhere"]);
    }
}
