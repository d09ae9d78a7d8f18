//! Programs from outside that the tests use: found, or installed, or named with the reason and the exact command.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::shell::{self, which};
use crate::steps::Tally;
use crate::workspace::Workspace;

/// A program, the Debian package that brings it, and who needs it.
struct Need {
    /// What it is called; distributions differ.
    names: &'static [&'static str],
    package: &'static str,
    what_for: &'static str,
}

impl Need {
    fn is_missing(&self) -> bool {
        self.names.iter().all(|name| which(name).is_none())
    }
}

const NEEDS: [Need; 8] = [
    Need { names: &["ip"], package: "iproute2", what_for: "a look at the test networks" },
    Need { names: &["unshare"], package: "util-linux", what_for: "tests in a user namespace" },
    Need { names: &["ping"], package: "iputils-ping", what_for: "interop tests with ping" },
    Need { names: &["nc"], package: "netcat-openbsd", what_for: "interop tests with nc" },
    Need {
        names: &["memccp", "memcp"],
        package: "libmemcached-tools",
        what_for: "interop tests with libmemcached's tools",
    },
    Need { names: &["memcached"], package: "memcached", what_for: "tests and comparisons with memcached" },
    Need { names: &["python3"], package: "python3", what_for: "interop tests with Python clients" },
    Need { names: &["valgrind"], package: "valgrind", what_for: "instruction counts" },
];

/// Client libraries, at the versions that the interop tests were written against.
const PYTHON_CLIENTS: [&str; 2] = ["pymemcache==4.0.0", "pylibmc==1.6.3"];
/// What pylibmc is built with where PyPI has no wheel of it.
const PYTHON_BUILD: [&str; 5] = ["python3-venv", "python3-dev", "gcc", "libmemcached-dev", "zlib1g-dev"];

/// Finds everything; installs what is missing if `install` and possible. What is missing still becomes a note: the tests
/// that need it skip, loudly, and are counted then.
///
/// # Errors
/// rustfmt or clippy is missing: without them there is nothing to skip to.
pub(crate) fn provide(workspace: &Workspace, install: bool, tally: &mut Tally) -> Result<()> {
    let logs = workspace.scratch()?;
    components(install, &logs)?;
    let missing: Vec<&Need> = NEEDS.iter().filter(|n| n.is_missing()).collect();
    let packages: Vec<&str> = missing.iter().map(|n| n.package).collect();
    let refusal = if packages.is_empty() { None } else { apt(&packages, install, &logs).err() };
    for need in missing.iter().filter(|n| n.is_missing()) {
        tally.notes.push(format!(
            "{} is missing, so there will be no {}. To install it: sudo apt-get install -y {}",
            need.names[0], need.what_for, need.package
        ));
    }
    if let Some(why) = refusal {
        tally.notes.push(format!("not installed: {why:#}"));
    }
    if !Path::new("/dev/net/tun").exists() {
        tally
            .notes
            .push("/dev/net/tun is missing, so there will be no tests over TAP. To load it: sudo modprobe tun".into());
    }
    if which("python3").is_none() {
        return Ok(());
    }
    if let Err(why) = python(workspace, install, &logs) {
        let venv = venv(workspace);
        let venv = venv.display();
        tally.notes.push(format!(
            "no Python clients, so there will be no tests with them ({}). To get them: python3 -m venv {venv} && \
             {venv}/bin/pip install {}",
            first_line(&why),
            PYTHON_CLIENTS.join(" ")
        ));
    }
    Ok(())
}

/// The Python environment that the interop tests look for.
pub(crate) fn venv(workspace: &Workspace) -> PathBuf {
    workspace.target.join("venv")
}

/// rustfmt and clippy belong to the toolchain, but not to every installation of it.
fn components(install: bool, logs: &Path) -> Result<()> {
    for (command, component) in [("cargo-fmt", "rustfmt"), ("cargo-clippy", "clippy")] {
        let there = || shell::succeeds(Command::new(command).arg("--version"));
        if there() {
            continue;
        }
        let mut add = Command::new("rustup");
        add.args(["component", "add", component]);
        if install && which("rustup").is_some() {
            shell::run(&mut add, &logs.join("rustup.log"))?;
        }
        if !there() {
            bail!("{component} is missing from the Rust toolchain. To install it: rustup component add {component}");
        }
    }
    Ok(())
}

/// Installs Debian packages.
///
/// # Errors
/// We may not, or it does not work.
fn apt(packages: &[&str], install: bool, logs: &Path) -> Result<()> {
    if !install {
        bail!("--no-install was given");
    }
    if which("apt-get").is_none() {
        bail!("there is no apt-get here; take the packages of this distribution that bring the same programs");
    }
    let user = Command::new("id").arg("-u").output()?;
    if user.stdout.trim_ascii() != b"0" {
        bail!("only root may install packages");
    }
    let log = logs.join("apt.log");
    let apt_get = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(args);
        command
    };
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    install.extend(packages);
    // A fresh machine has no package lists yet, an old one has stale ones.
    shell::run(&mut apt_get(&install), &log).or_else(|_| {
        shell::run(&mut apt_get(&["update"]), &log)?;
        shell::run(&mut apt_get(&install), &log)
    })
}

/// An environment with the client libraries.
fn python(workspace: &Workspace, install: bool, logs: &Path) -> Result<()> {
    let venv = venv(workspace);
    let python = venv.join("bin/python");
    if shell::succeeds(Command::new(&python).args(["-c", "import pymemcache, pylibmc"])) {
        return Ok(());
    }
    if !install {
        bail!("--no-install was given");
    }
    let log = logs.join("python.log");
    let make = || shell::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv), &log);
    // Debian's python3 comes without venv.
    make().or_else(|_| apt(&["python3-venv"], install, logs).and_then(|()| make()))?;
    let pip = |how: &[&str]| {
        let mut command = Command::new(&python);
        command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(how).args(PYTHON_CLIENTS);
        command
    };
    shell::run(&mut pip(&["--only-binary=:all:"]), &log).or_else(|_| {
        apt(&PYTHON_BUILD, install, logs)?;
        shell::run(&mut pip(&[]), &log)
    })
}

fn first_line(why: &anyhow::Error) -> String {
    why.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_installed_unasked() {
        let logs = std::env::temp_dir();
        assert!(apt(&["no-such-package"], false, &logs).unwrap_err().to_string().contains("--no-install"));
        let nowhere = Workspace { root: logs.clone(), target: logs.join("no-such-folder"), packages: vec![] };
        assert!(python(&nowhere, false, &logs).is_err());
        assert!(!nowhere.target.exists());
    }
}
