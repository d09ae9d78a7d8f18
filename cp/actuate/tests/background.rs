//! Background jobs: on control groups made of files, by signals, and on the machine's own control groups.

mod fake;

use std::process::{Child, Command};

use actuate::{ActuateError, Hierarchies, Job, Knobs, Source, Tree};
use fake::Fake;

/// A process that is ended with the value.
struct Sleeper(Child);

impl Sleeper {
    fn new() -> Sleeper {
        Sleeper(Command::new("sleep").arg("1000").spawn().unwrap())
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command whose first process ends at once, and whose child goes on; the file gets the child's number.
struct Orphan(std::path::PathBuf);

impl Orphan {
    fn new(name: &str) -> Orphan {
        let file = std::env::temp_dir().join(format!("zygix-actuate-{name}-{}.pid", std::process::id()));
        let _ = std::fs::remove_file(&file);
        Orphan(file)
    }

    fn source(&self) -> Source {
        let script = format!("sleep 1000 & echo $! > {}", self.0.display());
        Source::Command(["sh", "-c", &script].map(str::to_owned).to_vec())
    }

    fn told(&self) -> Option<u32> {
        std::fs::read_to_string(&self.0).ok().and_then(|t| t.trim().parse().ok())
    }

    /// The child, when its parent has ended.
    fn child(&self) -> u32 {
        wait_for("the command's child", || self.told().is_some());
        let child = self.told().unwrap();
        let parent: u32 = status(child, "NSpgid:").parse().unwrap();
        wait_for("its parent to end", || is_gone(parent));
        child
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        if let Some(child) = self.told().filter(|child| status(*child, "Name:") == "sleep") {
            let _ = sys::process::send(sys::process::Signal::Kill, sys::process::Receiver::Process(child));
        }
        let _ = std::fs::remove_file(&self.0);
    }
}

fn is_gone(pid: u32) -> bool {
    !matches!(status(pid, "State:").chars().next(), Some('S' | 'T' | 'R' | 'D'))
}

fn skip(test: &str, notes: &[String]) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {}", notes.join("; "));
}

fn status(pid: u32, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    text.lines().find_map(|l| l.strip_prefix(field).map(|v| v.trim().to_owned())).unwrap_or_default()
}

fn wait_for(what: &str, mut is: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is() {
        assert!(start.elapsed().as_secs() < 60, "waited a minute for {what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// A machine with process 77 and these control groups.
fn machine(version: u32) -> Fake {
    let fake = Fake::new(&[("proc/77/stat", &format!("77 (a b) c) S {} 4242 0", "0 ".repeat(17).trim()))]);
    if version == 2 {
        fake.put("proc/self/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0");
        fake.put("proc/77/cgroup", "0::/user.slice/batch");
        for dir in ["sys/fs/cgroup", "sys/fs/cgroup/user.slice/batch"] {
            fake.put(&format!("{dir}/cgroup.controllers"), "cpuset cpu memory");
            fake.put(&format!("{dir}/cgroup.subtree_control"), "cpu");
            fake.put(&format!("{dir}/cgroup.procs"), "");
            fake.put(&format!("{dir}/cgroup.freeze"), "0");
            fake.put(&format!("{dir}/cpuset.cpus"), "");
            fake.put(&format!("{dir}/cpu.stat"), "usage_usec 1500\nuser_usec 1000");
        }
    } else {
        let mounts = ["cpuset", "freezer", "cpu,cpuacct"];
        let line = |c: &&str| format!("cgroup /sys/fs/cgroup/{c} cgroup rw,{c} 0 0");
        fake.put("proc/self/mounts", &mounts.iter().map(line).collect::<Vec<_>>().join("\n"));
        fake.put("proc/77/cgroup", "5:cpuset:/\n4:cpu,cpuacct:/batch\n3:freezer:/batch\n0::/");
        fake.put("sys/fs/cgroup/cpuset/cpuset.cpus", "0-3");
        fake.put("sys/fs/cgroup/cpuset/cpuset.mems", "0");
        fake.put("sys/fs/cgroup/cpuset/cgroup.procs", "");
        for c in ["freezer", "cpu,cpuacct"] {
            fake.put(&format!("sys/fs/cgroup/{c}/cgroup.procs"), "");
            fake.put(&format!("sys/fs/cgroup/{c}/batch/cgroup.procs"), "");
        }
        fake.put("sys/fs/cgroup/freezer/freezer.state", "THAWED");
        fake.put("sys/fs/cgroup/freezer/batch/freezer.state", "THAWED");
        fake.put("sys/fs/cgroup/cpu,cpuacct/cpuacct.usage", "1500000");
    }
    fake
}

#[test]
fn processes_get_a_group_of_version_2_and_go_back() {
    let fake = machine(2);
    let mut knobs = Knobs::new(fake.tree(), None);
    let mut notes = Vec::new();
    let found = Hierarchies::find(&fake.tree());
    let mut job = Job::take(&mut knobs, &found, "render", &Source::Pids(vec![77]), &mut notes).unwrap();
    assert_eq!(notes, Vec::<String>::new());
    let ours = "sys/fs/cgroup/zygix-render";
    assert_eq!(fake.get(&format!("{ours}/cgroup.procs")), "77");
    assert_eq!(fake.get("sys/fs/cgroup/cgroup.subtree_control"), "+cpuset");
    job.give(&mut knobs, &[2, 3, 1]).unwrap();
    assert_eq!(fake.get(&format!("{ours}/cpuset.cpus")), "1-3");
    assert_eq!((fake.get(&format!("{ours}/cgroup.freeze")).as_str(), job.has()), ("0", Some(&[2, 3, 1][..])));
    job.give(&mut knobs, &[]).unwrap();
    assert_eq!(fake.get(&format!("{ours}/cgroup.freeze")), "1");
    assert_eq!(job.cpu_ns(&knobs), 1_500_000);
    assert_eq!(knobs.restore().len(), 0);
    assert_eq!(fake.get("sys/fs/cgroup/user.slice/batch/cgroup.procs"), "77");
    assert_eq!(fake.get("sys/fs/cgroup/cgroup.subtree_control"), "-cpuset");
    assert!(!fake.has(ours));
}

#[test]
fn processes_get_groups_of_version_1_and_go_back() {
    let fake = machine(1);
    let mut knobs = Knobs::new(fake.tree(), None);
    let mut notes = Vec::new();
    let found = Hierarchies::find(&fake.tree());
    let mut job = Job::take(&mut knobs, &found, "render", &Source::Pids(vec![77]), &mut notes).unwrap();
    assert_eq!(notes, Vec::<String>::new());
    assert_eq!(fake.get("sys/fs/cgroup/cpuset/zygix-render/cpuset.mems"), "0", "without memory it takes no process");
    job.give(&mut knobs, &[1]).unwrap();
    assert_eq!(fake.get("sys/fs/cgroup/cpuset/zygix-render/cpuset.cpus"), "1");
    job.give(&mut knobs, &[]).unwrap();
    assert_eq!(fake.get("sys/fs/cgroup/freezer/zygix-render/freezer.state"), "FROZEN");
    assert_eq!(job.cpu_ns(&knobs), 1_500_000);
    assert_eq!(knobs.restore().len(), 0);
    for (controller, group) in [("freezer", "/batch"), ("cpu,cpuacct", "/batch"), ("cpuset", "")] {
        assert_eq!(fake.get(&format!("sys/fs/cgroup/{controller}{group}/cgroup.procs")), "77", "{controller}");
        assert!(!fake.has(&format!("sys/fs/cgroup/{controller}/zygix-render")));
    }
}

#[test]
fn somebodys_group_is_set_and_left_as_it_was() {
    let fake = machine(2);
    fake.put("sys/fs/cgroup/user.slice/batch/cpuset.cpus", "0-3");
    let mut knobs = Knobs::new(fake.tree(), None);
    let found = Hierarchies::find(&fake.tree());
    let group = Source::Cgroup("/user.slice/batch".into());
    let mut job = Job::take(&mut knobs, &found, "b", &group, &mut Vec::new()).unwrap();
    job.give(&mut knobs, &[1]).unwrap();
    job.give(&mut knobs, &[]).unwrap();
    let file = |name: &str| fake.get(&format!("sys/fs/cgroup/user.slice/batch/{name}"));
    assert_eq!((file("cpuset.cpus").as_str(), file("cgroup.freeze").as_str()), ("1", "1"));
    knobs.restore();
    assert_eq!((file("cpuset.cpus").as_str(), file("cgroup.freeze").as_str()), ("0-3", "0"));
    let nobody = Job::take(&mut knobs, &found, "b", &Source::Cgroup("nobody".into()), &mut Vec::new()).unwrap_err();
    assert_eq!(nobody.to_string(), "control group nobody: not on this machine");
}

#[test]
fn a_process_that_is_gone_is_said_once() {
    let fake = machine(2);
    let mut knobs = Knobs::new(fake.tree(), None);
    let found = Hierarchies::find(&fake.tree());
    let wrong = Job::take(&mut knobs, &found, "b", &Source::Pids(vec![78]), &mut Vec::new()).unwrap_err();
    assert_eq!(wrong.to_string(), "process 78 is gone");
    let mut job = Job::take(&mut knobs, &found, "b", &Source::Pids(vec![77]), &mut Vec::new()).unwrap();
    std::fs::remove_file(fake.root.join("proc/77/stat")).unwrap();
    assert!(matches!(job.give(&mut knobs, &[1]), Err(ActuateError::Gone(77))));
    job.give(&mut knobs, &[2]).unwrap();
    assert!(job.is_gone());
    assert_eq!(knobs.restore().len(), 0, "there is nobody to move back");
}

#[test]
fn a_group_that_may_not_be_written_is_told() {
    let fake = machine(2);
    let mut knobs = Knobs::new(fake.tree(), None);
    let found = Hierarchies::find(&fake.tree());
    let mut job = Job::take(&mut knobs, &found, "b", &Source::Pids(vec![77]), &mut Vec::new()).unwrap();
    fake.read_only("sys/fs/cgroup/zygix-b/cpuset.cpus");
    assert!(matches!(job.give(&mut knobs, &[1]), Err(ActuateError::ReadOnly(..))));
    assert_eq!(job.has(), None, "it has what it had");
}

/// A real process on a machine without control groups.
fn without_groups() -> (Knobs, Hierarchies) {
    (Knobs::new(Tree::real(), None), Hierarchies::default())
}

#[test]
fn without_control_groups_signals_and_affinity_do_it() {
    let sleeper = Sleeper::new();
    let (mut knobs, none) = without_groups();
    let mut notes = Vec::new();
    let before = status(sleeper.pid(), "Cpus_allowed_list:");
    let mut job = Job::take(&mut knobs, &none, "b", &Source::Pids(vec![sleeper.pid()]), &mut notes).unwrap();
    assert_eq!(notes.len(), 2, "{notes:?}");
    let core = *sys::thread::allowed_cores().unwrap().last().unwrap();
    job.give(&mut knobs, &[core]).unwrap();
    assert_eq!(status(sleeper.pid(), "Cpus_allowed_list:"), core.to_string());
    job.give(&mut knobs, &[]).unwrap();
    wait_for("it to stop", || status(sleeper.pid(), "State:").starts_with('T'));
    assert_eq!(knobs.restore().len(), 0);
    wait_for("it to go on", || status(sleeper.pid(), "State:").starts_with('S'));
    assert_eq!(status(sleeper.pid(), "Cpus_allowed_list:"), before);
}

#[test]
fn a_command_runs_until_the_end_and_takes_its_children_along() {
    let (mut knobs, none) = without_groups();
    let file = std::env::temp_dir().join(format!("zygix-actuate-{}.pid", std::process::id()));
    let _ = std::fs::remove_file(&file);
    let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
    let source = Source::Command(["sh", "-c", &script].map(str::to_owned).to_vec());
    let mut job = Job::take(&mut knobs, &none, "b", &source, &mut Vec::new()).unwrap();
    let child = || std::fs::read_to_string(&file).ok().and_then(|t| t.trim().parse::<u32>().ok());
    wait_for("the command's child", || child().is_some());
    let child = child().unwrap();
    job.give(&mut knobs, &[]).unwrap();
    wait_for("the child to stop", || status(child, "State:").starts_with('T'));
    assert_eq!(knobs.restore().len(), 0);
    wait_for("the child to end", || is_gone(child));
    assert!(job.look(&knobs) && !job.look(&knobs), "told once");
    let _ = std::fs::remove_file(&file);

    let none_such = Source::Command(vec![]);
    let mut ended = Job::take(&mut knobs, &none, "c", &none_such, &mut Vec::new()).unwrap();
    wait_for("nothing to end", || ended.look(&knobs));
}

#[test]
fn on_this_machines_own_control_groups() {
    let found = Hierarchies::find(&Tree::real());
    let mut knobs = Knobs::new(Tree::real(), None);
    let mut notes = Vec::new();
    let name = format!("test-{}", std::process::id());
    let command = Source::Command(["sh", "-c", "while :; do :; done"].map(str::to_owned).to_vec());
    let mut job = Job::take(&mut knobs, &found, &name, &command, &mut notes).unwrap();
    if !notes.is_empty() {
        return skip("on_this_machines_own_control_groups", &notes);
    }
    let core = *sys::thread::allowed_cores().unwrap().last().unwrap();
    job.give(&mut knobs, &[core]).unwrap();
    wait_for("it to work", || job.cpu_ns(&knobs) > 0);
    job.give(&mut knobs, &[]).unwrap();
    // Frozen: its account stands still. It needs a moment to come to rest.
    let mut last = 0;
    wait_for("it to rest", || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        std::mem::replace(&mut last, job.cpu_ns(&knobs)) == last
    });
    job.give(&mut knobs, &[core]).unwrap();
    wait_for("it to go on", || job.cpu_ns(&knobs) > last);
    job.give(&mut knobs, &[]).unwrap();
    let left: Vec<String> = knobs.restore().iter().map(ToString::to_string).collect();
    assert_eq!(left, Vec::<String>::new(), "also a frozen command ends, and its groups go");
    assert!(job.look(&knobs));
}

#[test]
fn a_command_goes_on_while_somebody_is_in_its_group() {
    let fake = Fake::new(&[]);
    std::os::unix::fs::symlink("/proc", fake.root.join("proc")).unwrap();
    fake.put("sys/fs/cgroup/cgroup.procs", "");
    fake.put("sys/fs/cgroup/cgroup.freeze", "0");
    let found = Hierarchies { unified: Some("sys/fs/cgroup".into()), ..Hierarchies::default() };
    let (mut knobs, orphan) = (Knobs::new(fake.tree(), None), Orphan::new("fake"));
    let mut job = Job::take(&mut knobs, &found, "b", &orphan.source(), &mut Vec::new()).unwrap();
    let child = orphan.child();
    fake.put("sys/fs/cgroup/zygix-b/cgroup.procs", &child.to_string());
    assert!(!job.look(&knobs) && !job.is_gone());
    job.give(&mut knobs, &[]).unwrap();
    assert_eq!(fake.get("sys/fs/cgroup/zygix-b/cgroup.freeze"), "1");
    knobs.restore();
    wait_for("the child to end", || is_gone(child));
    assert!(job.look(&knobs) && !fake.has("sys/fs/cgroup/zygix-b"));
}

#[test]
fn on_this_machines_own_control_groups_children_end_or_go_back() {
    let found = Hierarchies::find(&Tree::real());
    let (mut knobs, mut notes) = (Knobs::new(Tree::real(), None), Vec::new());
    let (orphan, name) = (Orphan::new("real"), format!("test-children-{}", std::process::id()));
    let mut job = Job::take(&mut knobs, &found, &name, &orphan.source(), &mut notes).unwrap();
    let child = orphan.child();
    if !notes.is_empty() {
        return skip("on_this_machines_own_control_groups_children_end_or_go_back", &notes);
    }
    assert!(!job.look(&knobs));
    job.give(&mut knobs, &[]).unwrap();
    let left: Vec<String> = knobs.restore().iter().map(ToString::to_string).collect();
    assert_eq!(left, Vec::<String>::new(), "the frozen child ends, and the groups go");
    assert!(is_gone(child) && job.look(&knobs));

    // Somebody's process, and a child that it has later.
    let orphan = Orphan::new("later");
    let script = format!("read -r go; sleep 1000 & echo $! > {}; wait", orphan.0.display());
    let mut shell = Command::new("sh");
    let mut parent = Sleeper(shell.args(["-c", &script]).stdin(std::process::Stdio::piped()).spawn().unwrap());
    let groups = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let before = groups(parent.pid());
    Job::take(&mut knobs, &found, &name, &Source::Pids(vec![parent.pid()]), &mut notes).unwrap();
    drop(parent.0.stdin.take().map(|mut stdin| std::io::Write::write_all(&mut stdin, b"go\n")));
    wait_for("a child", || orphan.told().is_some());
    let child = orphan.told().unwrap();
    assert!(groups(child).contains(&name), "{}", groups(child));
    let left: Vec<String> = knobs.restore().iter().map(ToString::to_string).collect();
    let after = (groups(parent.pid()), groups(child));
    assert_eq!((left, after), (Vec::new(), (before.clone(), before)));
}
