use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use sys::process::ProcessClock;

use crate::ActuateError;
use crate::cgroup::{Group, Hierarchies};
use crate::knobs::{Knobs, OURS};

/// What runs in the background.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// A command to start and to end: a program and its arguments.
    Command(Vec<String>),
    /// Processes that run already. Children that they have later come along, and go back with them; those that they have now do not.
    Pids(Vec<u32>),
    /// A control group that somebody else has made, by its path within the hierarchy.
    Cgroup(String),
}

/// Work that may have what the dataplanes leave.
#[derive(Debug)]
pub struct Job {
    name: String,
    group: Group,
    child: Option<Child>,
    pids: Vec<u32>,
    /// The processors that it has; empty: none, it is frozen. `None`: it runs as it was found.
    has: Option<Vec<usize>>,
    /// CPU time as last told, for when a process is gone.
    told_ns: u64,
    gone: bool,
}

impl Job {
    /// Takes a job over, or starts it: it runs as before, or anywhere, until [`Job::give`]. `notes` gets what this machine lacks for it.
    ///
    /// Where there are no control groups for it, it is stopped by signals and confined thread by thread, which reaches the named processes (of a command: its process
    /// group) but no children that leave it, and it counts as ended when those have.
    ///
    /// # Errors
    /// A process is gone, the command cannot be started, there is no such control group.
    pub fn take(
        knobs: &mut Knobs,
        found: &Hierarchies,
        name: &str,
        source: &Source,
        notes: &mut Vec<String>,
    ) -> Result<Job, ActuateError> {
        let mut job = Job {
            name: name.to_owned(),
            group: Group::default(),
            child: None,
            pids: Vec::new(),
            has: None,
            told_ns: 0,
            gone: false,
        };
        if let Source::Cgroup(path) = source {
            job.group = Group::existing(knobs.tree(), found, path)?;
            return Ok(job);
        }
        if let Source::Pids(pids) = source {
            for pid in pids {
                knobs.born(*pid)?;
            }
            job.pids = pids.clone();
        }
        job.group = Group::make(knobs, found, &format!("{OURS}{name}"), notes);
        if !job.group.freezes() {
            notes.push(format!("background job {name}: no control group can freeze it; it is stopped by signals"));
        }
        if !job.group.confines() {
            notes.push(format!("background job {name}: no cpuset; its threads are confined one by one"));
        }
        match source {
            Source::Command(command) => job.start(knobs, command)?,
            _ => {
                for pid in job.pids.clone() {
                    job.group.take(knobs, pid, true)?;
                }
            }
        }
        Ok(job)
    }

    /// Starts the command so that all of it is in the group from its first instruction: a shell waits for a line before it becomes the command.
    fn start(&mut self, knobs: &mut Knobs, command: &[String]) -> Result<(), ActuateError> {
        let program = command.first().cloned().unwrap_or_default();
        let wrong = |cause| ActuateError::Start { command: program.clone(), cause };
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "read -r go && exec \"$@\" </dev/null", "sh"]).args(command);
        let mut child = shell.stdin(Stdio::piped()).process_group(0).spawn().map_err(wrong)?;
        let pid = child.id();
        let ready = knobs.started(pid).and_then(|()| self.group.take(knobs, pid, false));
        if let Err(e) = ready {
            // It has not begun: without its line it ends.
            drop(child.stdin.take());
            let _ = child.wait();
            return Err(e);
        }
        let go = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(b"go\n"));
        self.pids = vec![pid];
        self.child = Some(child);
        go.map_err(wrong)
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The processors that it has been given; empty when it is frozen, `None` before the first time.
    pub fn has(&self) -> Option<&[usize]> {
        self.has.as_deref()
    }

    /// Gives it these processors, and no others; none: it is frozen. What it has already is not set again.
    ///
    /// # Errors
    /// [`ActuateError::Gone`], once, when the last of its processes has ended; not permitted; a processor offline. It then has what it had.
    pub fn give(&mut self, knobs: &mut Knobs, cpus: &[usize]) -> Result<(), ActuateError> {
        if self.gone || self.has.as_deref() == Some(cpus) {
            return Ok(());
        }
        if let Some(pid) = self.ended(knobs) {
            self.gone = true;
            return Err(ActuateError::Gone(pid));
        }
        if cpus.is_empty() {
            self.freeze(knobs, true)?;
        } else {
            self.confine(knobs, cpus)?;
            self.freeze(knobs, false)?;
        }
        self.has = Some(cpus.to_vec());
        Ok(())
    }

    /// Whether it has ended: then the last of the processes that were named. Where it has a group, children may outlive these.
    fn ended(&mut self, knobs: &Knobs) -> Option<u32> {
        if let Some(child) = &mut self.child {
            let _ = child.try_wait();
        }
        let last = self.pids.last().copied()?;
        let ended = self.pids.iter().all(|pid| knobs.born(*pid).is_err()) && !self.group.is_populated(knobs.tree());
        ended.then_some(last)
    }

    /// Whether nothing of it runs any more.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Looks whether it has ended; `true` once, when it has.
    pub fn look(&mut self, knobs: &Knobs) -> bool {
        let ended = !self.gone && self.ended(knobs).is_some();
        self.gone |= ended;
        ended
    }

    fn freeze(&self, knobs: &mut Knobs, frozen: bool) -> Result<(), ActuateError> {
        if self.group.freezes() {
            return self.group.freeze(knobs, frozen);
        }
        for pid in &self.pids {
            match knobs.stop(*pid, self.child.is_some(), frozen) {
                Ok(()) | Err(ActuateError::Gone(_)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn confine(&self, knobs: &mut Knobs, cpus: &[usize]) -> Result<(), ActuateError> {
        if self.group.confines() {
            return self.group.confine(knobs, cpus);
        }
        for pid in &self.pids {
            for thread in knobs.tree().list(&format!("proc/{pid}/task")) {
                match thread.parse().map(|thread| knobs.cores(thread, cpus)) {
                    Ok(Err(ActuateError::Gone(_))) | Ok(Ok(())) | Err(_) => {}
                    Ok(Err(e)) => return Err(e),
                }
            }
        }
        Ok(())
    }

    /// CPU time that it has used so far, in nanoseconds: of its control group; else of its processes without their children.
    pub fn cpu_ns(&mut self, knobs: &Knobs) -> u64 {
        let of_group = self.group.cpu_ns(knobs.tree());
        let of_pids = || {
            let clock = |pid: &u32| ProcessClock::of(*pid).and_then(ProcessClock::read).ok().map(|t| t.0);
            self.pids.iter().filter_map(clock).sum()
        };
        self.told_ns = self.told_ns.max(of_group.unwrap_or_else(of_pids));
        self.told_ns
    }
}

impl Drop for Job {
    /// A command that has ended is waited for, so that it does not stay as a zombie. Ending it is the business of [`Knobs::restore`].
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.try_wait();
        }
    }
}
