use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sys::process::{Receiver, Signal, send};
use sys::thread::pin_other;

use crate::ActuateError;
use crate::cgroup::processes;
use crate::tree::Tree;

/// How a change is taken back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Undo {
    /// Write what was there before.
    Write { path: String, value: String },
    /// Remove a directory that we made (a control group).
    Remove { path: String },
    /// Move a process back to where it was.
    Move { pid: u32, born: u64, procs: String },
    /// Let a stopped process, or the group that it leads, go on.
    Continue { pid: u32, born: u64, group: bool },
    /// Allow a thread its processors again.
    Cores { thread: u32, born: u64, cores: Vec<usize> },
    /// End a process that we have started, with its group.
    End { pid: u32, born: u64 },
    /// What is still in a control group that we made goes there; or ends, as nobody was there before us.
    Rest { group: String, to: Option<String> },
}

/// How often something is looked at that takes a moment, and how long it is waited for in between.
const MOMENTS: u32 = 50;
const MOMENT: Duration = Duration::from_millis(10);
/// So many moments have those who are asked to end.
const PATIENCE: u32 = 200;
/// How the control groups that we make are called.
pub(crate) const OURS: &str = "zygix-";

/// Changes the machine's files and processes, and remembers what it found.
///
/// Each first change of a thing goes into a list, and into a file if one was named, *before* it is made. [`Knobs::restore`] takes all back, last first.
/// A control plane that was killed leaves the file behind, from which the next one restores ([`Knobs::recover`]).
#[derive(Debug)]
pub struct Knobs {
    tree: Tree,
    done: Vec<Undo>,
    record: Option<PathBuf>,
}

impl Knobs {
    /// Nothing changed yet, but for what `record` says that an earlier one could not take back. It is the file that outlives us.
    pub fn new(tree: Tree, record: Option<PathBuf>) -> Knobs {
        let done = record.as_deref().and_then(recorded).unwrap_or_default();
        Knobs { tree, done, record }
    }

    /// Takes back what a control plane has changed that did not come to its end. Answers what was left behind: nothing (`None`), or how many changes and what could not
    /// be taken back, which stays in the record. Call it only while no other control plane with this record runs.
    pub fn recover(tree: Tree, record: PathBuf) -> Option<(usize, Vec<ActuateError>)> {
        let done = recorded(&record)?;
        let count = done.len();
        let mut knobs = Knobs { tree, done, record: Some(record) };
        let errors = knobs.restore();
        // What is left is the next one's, who finds it in the file.
        knobs.done.clear();
        knobs.record = None;
        Some((count, errors))
    }

    /// Where it works.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Writes `value` if the file says something else. The first change of a file remembers what it said.
    ///
    /// # Errors
    /// As [`Tree::read`] and [`Tree::write`].
    pub fn set(&mut self, path: &str, value: &str) -> Result<(), ActuateError> {
        let found = self.tree.read(path)?;
        if found == value {
            return Ok(());
        }
        self.set_from(path, value, &found)
    }

    /// The same where what was found does not say what is to be written back.
    ///
    /// # Errors
    /// As [`Tree::write`].
    pub(crate) fn set_from(&mut self, path: &str, value: &str, before: &str) -> Result<(), ActuateError> {
        let known = |u: &Undo| matches!(u, Undo::Write { path: p, .. } if p == path);
        let first = !self.done.iter().any(known);
        if first {
            self.remember(Undo::Write { path: path.to_owned(), value: before.to_owned() })?;
        }
        self.tree.write(path, value).inspect_err(|_| {
            // It was not changed. That the record still has it costs a needless write after a crash.
            if first {
                self.done.pop();
            }
        })
    }

    /// Makes a control group's directory; one that is there already is taken, and stays.
    ///
    /// # Errors
    /// As mkdir(2).
    pub(crate) fn make(&mut self, path: &str) -> Result<(), ActuateError> {
        if self.tree.has(path) {
            return Ok(());
        }
        self.remember(Undo::Remove { path: path.to_owned() })?;
        fs::create_dir(self.tree.at(path)).map_err(|e| {
            self.done.pop();
            ActuateError::of(path, Some(""), e)
        })?;
        if !self.tree.is_real() {
            self.furnish(path);
        }
        Ok(())
    }

    /// What the kernel does for a new control group: it has the files that its parent has.
    fn furnish(&self, path: &str) {
        let (parent, _) = path.rsplit_once('/').unwrap_or((".", path));
        for name in self.tree.list(parent) {
            let file = self.tree.at(&format!("{parent}/{name}"));
            if file.is_file() {
                let _ = fs::copy(file, self.tree.at(&format!("{path}/{name}")));
            }
        }
    }

    /// Moves a process into a control group (`to`: its `cgroup.procs`); `from` is where it goes afterwards.
    ///
    /// # Errors
    /// [`ActuateError::Gone`], and as [`Tree::write`].
    pub(crate) fn move_to(&mut self, pid: u32, to: &str, from: Option<&str>) -> Result<(), ActuateError> {
        let born = self.born(pid)?;
        if let Some(from) = from {
            self.remember(Undo::Move { pid, born, procs: from.to_owned() })?;
        }
        match self.tree.write(to, &pid.to_string()) {
            // ESRCH
            Err(ActuateError::Io { cause, .. }) if cause.raw_os_error() == Some(3) => Err(ActuateError::Gone(pid)),
            other => other,
        }
    }

    /// A process that we have started ends with us, and its group.
    ///
    /// # Errors
    /// It has ended already.
    pub(crate) fn started(&mut self, pid: u32) -> Result<(), ActuateError> {
        let born = self.born(pid)?;
        self.remember(Undo::End { pid, born })
    }

    /// At the end, what is still in a control group goes to `to`, or ends. One that we did not make keeps what it has.
    ///
    /// # Errors
    /// It cannot be written down.
    pub(crate) fn empties(&mut self, group: &str, to: Option<&str>) -> Result<(), ActuateError> {
        let made = |u: &Undo| matches!(u, Undo::Remove { path } if path == group);
        let known = |u: &Undo| matches!(u, Undo::Rest { group: g, .. } if g == group);
        if !self.done.iter().any(made) || self.done.iter().any(known) {
            return Ok(());
        }
        self.remember(Undo::Rest { group: group.to_owned(), to: to.map(str::to_owned) })
    }

    /// Stops a process, or the group that it leads, by a signal; or lets it go on.
    ///
    /// # Errors
    /// [`ActuateError::Gone`]; not permitted.
    pub(crate) fn stop(&mut self, pid: u32, group: bool, stop: bool) -> Result<(), ActuateError> {
        let born = self.born(pid)?;
        let undo = Undo::Continue { pid, born, group };
        if stop && !self.done.contains(&undo) {
            self.remember(undo)?;
        }
        let to = if group { Receiver::Group(pid) } else { Receiver::Process(pid) };
        Ok(send(if stop { Signal::Stop } else { Signal::Continue }, to)?)
    }

    /// Confines a thread to some processors.
    ///
    /// # Errors
    /// [`ActuateError::Gone`]; none of the processors may be used.
    pub(crate) fn cores(&mut self, thread: u32, cores: &[usize]) -> Result<(), ActuateError> {
        let born = self.born(thread)?;
        let known = |u: &Undo| matches!(u, Undo::Cores { thread: t, born: b, .. } if (*t, *b) == (thread, born));
        if !self.done.iter().any(known) {
            let status = self.tree.read(&format!("proc/{thread}/status"))?;
            let list = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:"));
            let before = list.and_then(crate::parse_cpus).unwrap_or_default();
            self.remember(Undo::Cores { thread, born, cores: before })?;
        }
        Ok(pin_other(thread, cores)?)
    }

    /// When a process was started, in the kernel's ticks: with its number, it is not mistaken for another.
    ///
    /// # Errors
    /// [`ActuateError::Gone`].
    pub(crate) fn born(&self, pid: u32) -> Result<u64, ActuateError> {
        let stat = self.tree.read(&format!("proc/{pid}/stat")).map_err(|_| ActuateError::Gone(pid))?;
        // After the name, which is in brackets and may hold anything: state, then 18 numbers, then the start.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let dead = fields.next().is_none_or(|state| matches!(state, "Z" | "X"));
        let born = fields.nth(18).and_then(|f| f.parse().ok());
        born.filter(|_| !dead).ok_or(ActuateError::Gone(pid))
    }

    /// Takes everything back, last change first. What cannot be taken back is told, and stays in the record: the next control plane tries again.
    pub fn restore(&mut self) -> Vec<ActuateError> {
        let all = std::mem::take(&mut self.done);
        self.undo(all)
    }

    /// Takes back what was written to these files.
    ///
    /// # Errors
    /// The first that could not be; it is tried again at the end.
    pub(crate) fn release(&mut self, files: impl Fn(&str) -> bool) -> Result<(), ActuateError> {
        let of = |u: &mut Undo| matches!(u, Undo::Write { path, .. } if files(path));
        let some: Vec<Undo> = self.done.extract_if(.., of).collect();
        match some.is_empty() {
            true => Ok(()),
            false => self.undo(some).into_iter().next().map_or(Ok(()), Err),
        }
    }

    /// Takes back the last first; what fails, once more after the rest (a limit may have to wait for another). What fails again stays in the list, unless its file is gone or
    /// none that we may touch.
    fn undo(&mut self, undos: Vec<Undo>) -> Vec<ActuateError> {
        let again: Vec<Undo> = undos.into_iter().rev().filter(|undo| self.take_back(undo).is_err()).collect();
        let (mut left, mut errors) = (Vec::new(), Vec::new());
        for undo in again {
            let Err(e) = self.take_back(&undo) else { continue };
            if !matches!(e, ActuateError::Missing(_) | ActuateError::Foreign(_)) {
                left.push(undo);
            }
            errors.push(e);
        }
        self.done.extend(left.into_iter().rev());
        self.rewrite();
        errors
    }

    /// The record says what the list says; without anything to take back, it goes.
    fn rewrite(&self) {
        let Some(record) = &self.record else { return };
        if self.done.is_empty() {
            let _ = fs::remove_file(record);
            return;
        }
        let line = |undo: &Undo| serde_json::to_string(undo).unwrap_or_default() + "\n";
        let text: String = self.done.iter().map(line).collect();
        let young = record.with_extension("young");
        // If that fails, the old one stays, which has all of it and more.
        let _ = fs::write(&young, text).and_then(|()| fs::rename(&young, record));
    }

    fn take_back(&self, undo: &Undo) -> Result<(), ActuateError> {
        let is = |pid, born| self.born(pid).is_ok_and(|b| b == born);
        match undo {
            Undo::Write { path, value } => below_sys(path).and_then(|()| self.tree.write(path, value)),
            Undo::Remove { path } => below_sys(path).and_then(|()| self.remove(path)),
            Undo::Move { pid, born, procs } if is(*pid, *born) => {
                below_sys(procs).and_then(|()| self.tree.write(procs, &pid.to_string()))
            }
            Undo::Continue { pid, born, group } if is(*pid, *born) => {
                let to = if *group { Receiver::Group(*pid) } else { Receiver::Process(*pid) };
                Ok(send(Signal::Continue, to)?)
            }
            Undo::Cores { thread, born, cores } if is(*thread, *born) => Ok(pin_other(*thread, cores)?),
            Undo::End { pid, born } if is(*pid, *born) => self.end(*pid, *born),
            Undo::Rest { group, to } => ours(group).and_then(|()| match to {
                Some(to) => below_sys(to).and_then(|()| self.move_rest(group, to)),
                None => self.end_rest(group),
            }),
            // The process is gone, and what was done to it with it.
            Undo::Move { .. } | Undo::Continue { .. } | Undo::Cores { .. } | Undo::End { .. } => Ok(()),
        }
    }

    /// Ends a group: asked first, and made to after two seconds.
    fn end(&self, pid: u32, born: u64) -> Result<(), ActuateError> {
        let group = Receiver::Group(pid);
        send(Signal::Terminate, group)?;
        let _ = send(Signal::Continue, group);
        wait_until(PATIENCE, || !self.born(pid).is_ok_and(|b| b == born));
        // Whatever of the group has outlived its leader.
        let _ = send(Signal::Kill, group);
        Ok(())
    }

    /// Ends what is in a control group: asked first, and made to after two seconds.
    fn end_rest(&self, group: &str) -> Result<(), ActuateError> {
        let all = |signal| {
            for pid in processes(&self.tree, group) {
                let _ = send(signal, Receiver::Process(pid));
            }
        };
        all(Signal::Terminate);
        all(Signal::Continue);
        wait_until(PATIENCE, || processes(&self.tree, group).is_empty());
        let ended = wait_until(MOMENTS, || {
            if !processes(&self.tree, group).is_empty()
                && self.tree.write(&format!("{group}/cgroup.kill"), "1").is_err()
            {
                all(Signal::Kill);
            }
            processes(&self.tree, group).is_empty()
        });
        ended.then_some(()).ok_or_else(|| ActuateError::Busy(group.to_owned()))
    }

    /// Moves what is in a control group to another; also children that come meanwhile.
    fn move_rest(&self, group: &str, to: &str) -> Result<(), ActuateError> {
        let mut seen = Vec::new();
        for _ in 0..MOMENTS {
            let rest: Vec<u32> = processes(&self.tree, group).into_iter().filter(|pid| !seen.contains(pid)).collect();
            if rest.is_empty() {
                break;
            }
            for pid in rest {
                seen.push(pid);
                let moved = self.tree.write(to, &pid.to_string());
                // Who has ended meanwhile is not there to be moved.
                if moved.is_err() && processes(&self.tree, group).contains(&pid) {
                    return moved;
                }
            }
        }
        Ok(())
    }

    /// A control group can be removed when the last of its processes is really gone, which takes a moment.
    fn remove(&self, path: &str) -> Result<(), ActuateError> {
        if !self.tree.is_real() {
            let _ = fs::remove_dir_all(self.tree.at(path));
            return Ok(());
        }
        let mut tries = MOMENTS;
        loop {
            match fs::remove_dir(self.tree.at(path)) {
                Err(e) if e.kind() == std::io::ErrorKind::ResourceBusy && tries > 0 => {
                    tries -= 1;
                    std::thread::sleep(MOMENT);
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                other => return other.map_err(|e| ActuateError::of(path, Some(""), e)),
            }
        }
    }

    /// Into the list, and into the file.
    fn remember(&mut self, undo: Undo) -> Result<(), ActuateError> {
        if let Some(path) = &self.record {
            let wrong = |e| ActuateError::of(&path.display().to_string(), Some(""), e);
            let mut line = serde_json::to_string(&undo).map_err(|e| wrong(e.into()))?;
            line.push('\n');
            let file = fs::OpenOptions::new().create(true).append(true).open(path);
            file.and_then(|mut f| f.write_all(line.as_bytes())).map_err(wrong)?;
        }
        self.done.push(undo);
        Ok(())
    }
}

impl Drop for Knobs {
    fn drop(&mut self) {
        self.restore();
    }
}

/// What a record says; `None`: there is none. The last line may have been cut short; then its change was not made.
fn recorded(record: &Path) -> Option<Vec<Undo>> {
    let text = fs::read_to_string(record).ok()?;
    Some(text.lines().map_while(|line| serde_json::from_str(line).ok()).collect())
}

/// Looks so many times, a moment apart, until it is so; answers whether it is.
fn wait_until(times: u32, mut is: impl FnMut() -> bool) -> bool {
    (0..times).any(|_| {
        let so = is();
        if !so {
            std::thread::sleep(MOMENT);
        }
        so
    })
}

/// A record of changes is a file that somebody may have damaged: nothing outside of the kernel's own files is touched for it.
fn below_sys(path: &str) -> Result<(), ActuateError> {
    let ours = path.starts_with("sys/") && path.split('/').all(|part| part != "..");
    ours.then_some(()).ok_or_else(|| ActuateError::Foreign(path.to_owned()))
}

/// And of control groups, only those that are called as ours are.
fn ours(group: &str) -> Result<(), ActuateError> {
    let name = group.rsplit('/').next().unwrap_or_default();
    below_sys(group)
        .and_then(|()| name.starts_with(OURS).then_some(()).ok_or_else(|| ActuateError::Foreign(group.to_owned())))
}
