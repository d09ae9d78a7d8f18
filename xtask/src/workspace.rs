//! Cargo's view of the workspace (`cargo metadata`), reduced to what the commands ask.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A crate of the workspace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Its folder, relative to the root, with `/` between names.
    pub(crate) folder: String,
    /// Crates of the workspace that it is built with, dev-dependencies left out.
    pub(crate) depends_on: Vec<String>,
    /// Crates of others that it names, dev-dependencies included.
    pub(crate) external: Vec<String>,
    /// The sources of its targets, relative to the root: libraries, programs, tests, examples.
    pub(crate) roots: Vec<String>,
    pub(crate) examples: Vec<String>,
}

/// The workspace.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) packages: Vec<Package>,
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn load() -> Result<Workspace> {
        let out = cargo()
            .args(["metadata", "--format-version", "1", "--no-deps"])
            .output()
            .context("cargo metadata does not run")?;
        if !out.status.success() {
            bail!("cargo metadata failed:\n{}", String::from_utf8_lossy(&out.stderr));
        }
        let all: Value = serde_json::from_slice(&out.stdout).context("cargo metadata is not JSON")?;
        Workspace::of(&all)
    }

    fn of(all: &Value) -> Result<Workspace> {
        let root = PathBuf::from(text(all, "workspace_root")?);
        let target = PathBuf::from(text(all, "target_directory")?);
        let listed = list(all, "packages");
        let names: Vec<&str> = listed.iter().filter_map(|p| p["name"].as_str()).collect();
        let packages = listed.iter().map(|p| package(p, &root, &names)).collect::<Result<_>>()?;
        Ok(Workspace { root, target, packages })
    }

    /// The crate with this name.
    pub(crate) fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|p| p.name == name)
    }

    /// A cargo command at the root.
    pub(crate) fn cargo(&self, args: &[&str]) -> Command {
        let mut command = cargo();
        command.current_dir(&self.root).args(args);
        command
    }

    /// A program of the release profile.
    pub(crate) fn release(&self, program: &str) -> PathBuf {
        self.target.join("release").join(program)
    }

    /// Where logs and results of these commands go.
    pub(crate) fn scratch(&self) -> Result<PathBuf> {
        let dir = self.target.join("xtask");
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(dir)
    }
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn text<'a>(of: &'a Value, key: &str) -> Result<&'a str> {
    of[key].as_str().with_context(|| format!("cargo metadata has no `{key}`"))
}

fn list<'a>(of: &'a Value, key: &str) -> &'a [Value] {
    of[key].as_array().map_or(&[], Vec::as_slice)
}

fn package(p: &Value, root: &Path, names: &[&str]) -> Result<Package> {
    let below = |path: &str| -> String {
        let path = Path::new(path);
        path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/")
    };
    let manifest = below(text(p, "manifest_path")?);
    let built_with = |d: &&Value| d["kind"].as_str() != Some("dev");
    let dependencies = list(p, "dependencies").iter().filter(built_with).filter_map(|d| d["name"].as_str());
    let named = list(p, "dependencies").iter().filter_map(|d| d["name"].as_str());
    let targets = list(p, "targets");
    let is_example = |t: &&Value| list(t, "kind").iter().any(|k| k.as_str() == Some("example"));
    let names_of_targets = targets.iter().filter(is_example).filter_map(|t| t["name"].as_str());
    Ok(Package {
        id: text(p, "id")?.to_owned(),
        name: text(p, "name")?.to_owned(),
        folder: manifest.strip_suffix("/Cargo.toml").unwrap_or("").to_owned(),
        depends_on: dependencies.filter(|d| names.contains(d)).map(str::to_owned).collect(),
        external: named.filter(|d| !names.contains(d)).map(str::to_owned).collect(),
        roots: targets.iter().filter_map(|t| t["src_path"].as_str()).map(below).collect(),
        examples: names_of_targets.map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_becomes_packages() {
        let json = serde_json::json!({
            "workspace_root": "/r", "target_directory": "/r/target",
            "packages": [
                { "id": "a#1", "name": "a", "manifest_path": "/r/base/a/Cargo.toml", "dependencies": [
                    { "name": "b", "kind": null }, { "name": "libc", "kind": null }, { "name": "c", "kind": "dev" } ],
                  "targets": [ { "name": "a", "kind": ["lib"], "src_path": "/r/base/a/src/lib.rs" },
                               { "name": "e", "kind": ["example"], "src_path": "/r/base/a/examples/e.rs" } ] },
                { "id": "b#1", "name": "b", "manifest_path": "/r/base/b/Cargo.toml", "dependencies": [], "targets": [] },
                { "id": "c#1", "name": "c", "manifest_path": "/r/c/Cargo.toml", "dependencies": [], "targets": [] } ]
        });
        let w = Workspace::of(&json).unwrap();
        let a = w.package("a").unwrap();
        assert_eq!((a.folder.as_str(), a.depends_on.as_slice()), ("base/a", &["b".to_owned()][..]));
        assert_eq!(a.roots, ["base/a/src/lib.rs", "base/a/examples/e.rs"]);
        assert_eq!((a.examples.as_slice(), a.external.as_slice()), (&["e".to_owned()][..], &["libc".to_owned()][..]));
        assert!(Workspace::of(&serde_json::json!({})).is_err());
    }
}
