use crate::ActuateError;
use crate::knobs::Knobs;
use crate::tree::{Tree, show_cpus};

/// Which control groups this machine has, and where: paths of hierarchies, without the leading slash.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hierarchies {
    /// Version 2.
    pub unified: Option<String>,
    /// The controller `cpuset` of version 1.
    pub cpuset: Option<String>,
    /// The controller `freezer` of version 1.
    pub freezer: Option<String>,
    /// The controller `cpuacct` of version 1.
    pub cpuacct: Option<String>,
}

impl Hierarchies {
    /// As `/proc/self/mounts` tells. Both versions may be mounted, each with some of the controllers.
    pub fn find(tree: &Tree) -> Hierarchies {
        let mut found = Hierarchies::default();
        let mounts = tree.read("proc/self/mounts").unwrap_or_default();
        for line in mounts.lines() {
            let mut fields = line.split_whitespace().skip(1);
            let (Some(at), Some(kind), Some(options)) = (fields.next(), fields.next(), fields.next()) else { continue };
            let at = || Some(at.trim_start_matches('/').to_owned());
            let has = |controller: &str| options.split(',').any(|o| o == controller);
            match kind {
                "cgroup2" if found.unified.is_none() => found.unified = at(),
                "cgroup" if has("cpuset") => found.cpuset = at(),
                "cgroup" if has("freezer") => found.freezer = at(),
                "cgroup" if has("cpuacct") => found.cpuacct = at(),
                _ => {}
            }
        }
        found
    }

    /// Whether version 2 has the controller `cpuset`.
    fn unified_has_cpuset(&self, tree: &Tree) -> bool {
        let controllers = |dir| tree.read(&format!("{dir}/cgroup.controllers")).unwrap_or_default();
        self.unified.as_ref().is_some_and(|dir| controllers(dir).split_whitespace().any(|c| c == "cpuset"))
    }
}

/// A control group in each hierarchy that has a part of what we need: processors, freezing, and accounts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Group {
    /// Directory with `cpuset.cpus`.
    cpuset: Option<String>,
    /// File that freezes, and its words for running and frozen.
    freezer: Option<(String, &'static str, &'static str)>,
    /// File that tells CPU time, version 1 (a number in ns) or version 2 (a table in us).
    usage: Option<String>,
    /// Directories that processes are to be moved into.
    dirs: Vec<String>,
}

impl Group {
    /// Makes the group `name` in every hierarchy that helps. What cannot be made is left out and told in `notes`.
    pub fn make(knobs: &mut Knobs, found: &Hierarchies, name: &str, notes: &mut Vec<String>) -> Group {
        let mut group = Group::default();
        if let Some(dir) = made(knobs, &found.unified, name, notes) {
            group.dirs.push(dir.clone());
            group.take_v2(knobs, found, &dir);
        }
        if group.cpuset.is_none()
            && let Some(dir) = made(knobs, &found.cpuset, name, notes)
        {
            group.dirs.push(dir.clone());
            group.take_v1_cpuset(knobs, found.cpuset.as_deref().unwrap_or_default(), dir, notes);
        }
        if group.freezer.is_none()
            && let Some(dir) = made(knobs, &found.freezer, name, notes)
        {
            group.freezer = Some((format!("{dir}/freezer.state"), "THAWED", "FROZEN"));
            group.dirs.push(dir);
        }
        if group.usage.is_none()
            && let Some(dir) = made(knobs, &found.cpuacct, name, notes)
        {
            group.usage = Some(format!("{dir}/cpuacct.usage"));
            group.dirs.push(dir);
        }
        group
    }

    /// A group that somebody else has made, by its path within the hierarchies. Nothing is moved.
    ///
    /// # Errors
    /// No hierarchy has it.
    pub fn existing(tree: &Tree, found: &Hierarchies, path: &str) -> Result<Group, ActuateError> {
        let path = path.trim_matches('/');
        let dir = |parent: &Option<String>, file: &str| {
            let dir = format!("{}/{path}", parent.as_deref()?);
            tree.has(&format!("{dir}/{file}")).then_some(dir)
        };
        let v2 = |file: &str| dir(&found.unified, file);
        let freezer = v2("cgroup.freeze").map(|d| (format!("{d}/cgroup.freeze"), "0", "1"));
        let old = || dir(&found.freezer, "freezer.state").map(|d| (format!("{d}/freezer.state"), "THAWED", "FROZEN"));
        let usage = v2("cpu.stat").map(|d| format!("{d}/cpu.stat"));
        let account = || dir(&found.cpuacct, "cpuacct.usage").map(|d| format!("{d}/cpuacct.usage"));
        let group = Group {
            cpuset: v2("cpuset.cpus").or_else(|| dir(&found.cpuset, "cpuset.cpus")),
            freezer: freezer.or_else(old),
            usage: usage.or_else(account),
            dirs: Vec::new(),
        };
        match group.cpuset.is_some() || group.freezer.is_some() {
            true => Ok(group),
            false => Err(ActuateError::Missing(format!("control group {path}"))),
        }
    }

    fn take_v2(&mut self, knobs: &mut Knobs, found: &Hierarchies, dir: &str) {
        let tree = knobs.tree().clone();
        if tree.has(&format!("{dir}/cgroup.freeze")) {
            self.freezer = Some((format!("{dir}/cgroup.freeze"), "0", "1"));
        }
        // Accounts of a group of version 2 are there without any controller. Version 1's are asked for where they are not.
        if tree.has(&format!("{dir}/cpu.stat")) {
            self.usage = Some(format!("{dir}/cpu.stat"));
        }
        if found.unified_has_cpuset(&tree) {
            let parent = dir.rsplit_once('/').map_or("", |(parent, _)| parent);
            let subtree = format!("{parent}/cgroup.subtree_control");
            let before = tree.read(&subtree).unwrap_or_default();
            if !before.split_whitespace().any(|c| c == "cpuset") {
                // Taken back before our group is removed, which was made earlier: a controller may leave a group that hands it on to nobody.
                let _ = knobs.set_from(&subtree, "+cpuset", "-cpuset");
            }
            if tree.has(&format!("{dir}/cpuset.cpus")) {
                self.cpuset = Some(dir.to_owned());
            }
        }
    }

    fn take_v1_cpuset(&mut self, knobs: &Knobs, parent: &str, dir: String, notes: &mut Vec<String>) {
        // A new group of version 1 has no memory and no processors, and takes no process before it has both.
        let tree = knobs.tree();
        for file in ["cpuset.mems", "cpuset.cpus"] {
            let wanted = tree.read(&format!("{parent}/{file}"));
            if let Err(e) = wanted.and_then(|w| tree.write(&format!("{dir}/{file}"), &w)) {
                notes.push(e.to_string());
                self.dirs.retain(|d| *d != dir);
                return;
            }
        }
        self.cpuset = Some(dir);
    }

    /// Whether it can confine processes.
    pub fn confines(&self) -> bool {
        self.cpuset.is_some()
    }

    /// Whether it can freeze them.
    pub fn freezes(&self) -> bool {
        self.freezer.is_some()
    }

    /// Moves a process into it. `back`: at the end it returns to where it was, with its children; else all that is in the group then is ended.
    ///
    /// # Errors
    /// [`ActuateError::Gone`]; not permitted.
    pub fn take(&self, knobs: &mut Knobs, pid: u32, back: bool) -> Result<(), ActuateError> {
        let cgroups = knobs.tree().read(&format!("proc/{pid}/cgroup")).map_err(|_| ActuateError::Gone(pid))?;
        for dir in &self.dirs {
            let from = if back { came_from(&cgroups, dir) } else { None };
            // Children go where it goes; without a way back they stay. Those of what ends with us end.
            if from.is_some() || !back {
                knobs.empties(dir, from.as_deref())?;
            }
            knobs.move_to(pid, &format!("{dir}/cgroup.procs"), from.as_deref())?;
        }
        Ok(())
    }

    /// Whether there are processes in it, named ones or children. Somebody else's group counts as empty.
    pub fn is_populated(&self, tree: &Tree) -> bool {
        self.dirs.iter().any(|dir| populated(tree, dir))
    }

    /// Confines all of it to these processors.
    ///
    /// # Errors
    /// A processor is offline, or not the parent's; not permitted.
    pub fn confine(&self, knobs: &mut Knobs, cpus: &[usize]) -> Result<(), ActuateError> {
        let Some(dir) = &self.cpuset else { return Ok(()) };
        let file = format!("{dir}/cpuset.cpus");
        match self.dirs.contains(dir) {
            // Ours: it will be removed.
            true => knobs.tree().write(&file, &show_cpus(cpus)),
            false => knobs.set(&file, &show_cpus(cpus)),
        }
    }

    /// Freezes all of it, or lets it go on.
    ///
    /// # Errors
    /// Not permitted.
    pub fn freeze(&self, knobs: &mut Knobs, frozen: bool) -> Result<(), ActuateError> {
        let Some((file, running, stopped)) = &self.freezer else { return Ok(()) };
        let before = if self.dirs.is_empty() {
            // Version 1 says FREEZING for a while.
            let found = knobs.tree().read(file)?;
            if found == *running { running } else { stopped }
        } else {
            running
        };
        knobs.set_from(file, if frozen { stopped } else { running }, before)
    }

    /// CPU time of all that has run in it, in nanoseconds.
    pub fn cpu_ns(&self, tree: &Tree) -> Option<u64> {
        let text = tree.read(self.usage.as_deref()?).ok()?;
        let table = text.lines().find_map(|l| l.strip_prefix("usage_usec ")).and_then(|us| us.parse::<u64>().ok());
        table.map(|us| us.saturating_mul(1000)).or_else(|| text.parse().ok())
    }
}

/// Makes a group in this hierarchy, if there is one.
fn made(knobs: &mut Knobs, parent: &Option<String>, name: &str, notes: &mut Vec<String>) -> Option<String> {
    let dir = format!("{}/{name}", parent.as_deref()?);
    match knobs.make(&dir) {
        Ok(()) => Some(dir),
        Err(e) => {
            notes.push(e.to_string());
            None
        }
    }
}

/// The processes of a control group, without those of groups within it.
pub(crate) fn processes(tree: &Tree, dir: &str) -> Vec<u32> {
    let list = tree.read(&format!("{dir}/cgroup.procs")).unwrap_or_default();
    let pids = list.lines().filter_map(|line| line.trim().parse().ok());
    pids.filter(|pid| tree.has(&format!("proc/{pid}/stat"))).collect()
}

/// Whether somebody is in a control group or in one within it. Version 1 does not say the latter.
fn populated(tree: &Tree, dir: &str) -> bool {
    let events = tree.read(&format!("{dir}/cgroup.events")).unwrap_or_default();
    match events.lines().find_map(|line| line.strip_prefix("populated ")) {
        Some(so) => so != "0",
        None => !processes(tree, dir).is_empty(),
    }
}

/// Where a process was in the hierarchy of `dir`: that directory's `cgroup.procs`. `cgroups` is `/proc/PID/cgroup`.
fn came_from(cgroups: &str, dir: &str) -> Option<String> {
    let parent = dir.rsplit_once('/')?.0;
    let controller = parent.rsplit('/').next()?;
    // `5:cpuset:/a/b` of version 1, `0::/a/b` of version 2.
    let of = |wanted: &dyn Fn(&str) -> bool| {
        cgroups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            wanted(controllers).then(|| path.trim_matches('/').to_owned())
        })
    };
    let v1 = of(&|list| list.split(',').any(|c| controller.split(',').any(|d| c == d)));
    let path = v1.or_else(|| of(&str::is_empty))?;
    let path = if path.is_empty() { parent.to_owned() } else { format!("{parent}/{path}") };
    Some(format!("{path}/cgroup.procs"))
}
