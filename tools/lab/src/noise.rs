//! Noise: time in which what is measured could have run, and something else did.
//!
//! The kernel counts for each thread how long it waited in the run queue (`/proc/PID/task/TID/schedstat`, the second
//! number; proc(5)). The threads under measurement are pinned to cores of their own, so they should hardly ever wait. A
//! slice of the window in which one of them waited for more than [`WAIT_SHARE`] of it is *noisy*: it is discarded and
//! counted.
//!
//! Waiting for one's own kind is no noise: when the kernel moves softirqs into its thread `ksoftirqd`, or a server has
//! several threads on one core, that belongs to what is measured. The time that these ran on the same core is taken off.
//!
//! What a hypervisor takes is not seen in the run queue, and `/proc/stat` has it in steps of 10 ms only. But a core on which
//! nothing else runs is either idle (cpuidle counts that to the microsecond) or runs what is measured (whose CPU clock leaves out
//! what the hypervisor took): what of a slice is neither is *missing*. A slice of which more than [`MISSING_SHARE`] is missing on
//! a measured core is noisy, and so is the one after it, which has the backlog to serve. See docs/decisions/0010.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use anyhow::Result;
use sys::clock::{self, ThreadClock};
use sys::process::ProcessClock;
use units::Nanos;

use crate::account;
use crate::stats::Spread;

/// A slice is noisy when a measured thread waited for more than this share of it: 0.6 ms of 25. Reading the counts is
/// part of it.
pub const WAIT_SHARE: f64 = 0.025;

/// A slice is noisy when more than this share of it is missing on a core: 0.5 ms of 25.
pub const MISSING_SHARE: f64 = 0.02;

/// A window is void when more than this share of its slices is noisy.
pub const VOID_SHARE: f64 = 0.75;

/// A thread that ran for less than this share of the window is not under measurement: it waits for commands, say.
const ACTIVE_SHARE: f64 = 0.01;

/// Above this share of discarded slices a machine is called noisy; above [`VOID_SHARE`], too noisy.
const QUIET: f64 = 0.02;

/// A ratio whose range is narrower than this is good enough for every question asked here.
const FINE: f64 = 0.05;

/// What the scheduler has counted for a thread since its start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Sched {
    ran: Nanos,
    waited: Nanos,
}

/// The first two numbers of a schedstat file.
fn parse(text: &str) -> Option<Sched> {
    let mut numbers = text.split_ascii_whitespace().map(|n| n.parse().ok().map(Nanos));
    Some(Sched { ran: numbers.next()??, waited: numbers.next()?? })
}

/// One thread's counts at each reading.
#[derive(Debug)]
struct Track {
    /// Its schedstat, held open: opening costs more than reading.
    file: Option<File>,
    /// The core that it is pinned to.
    core: Option<usize>,
    /// Its waiting counts as noise. (That of `ksoftirqd` does not: it only explains the waiting of others.)
    measured: bool,
    at: Vec<Sched>,
}

/// What runs on a measured core.
#[derive(Clone, Copy, Debug)]
pub enum Runner {
    /// A whole process.
    Process(ProcessClock),
    /// A thread of this process.
    Thread(ThreadClock),
}

impl Runner {
    fn ran(self) -> Option<Nanos> {
        match self {
            Runner::Process(clock) => clock.read().ok(),
            Runner::Thread(clock) => clock.read().ok(),
        }
    }
}

/// A core that belongs to what is measured.
#[derive(Debug)]
struct Core {
    /// The files in which cpuidle counts, in microseconds.
    idle: Vec<File>,
    runners: Vec<Runner>,
    /// At each reading: the time, and how much of it was idle or run by what is measured. `None` where one of them cannot be told.
    at: Vec<Option<(Nanos, Nanos)>>,
}

impl Core {
    fn new(core: usize, runners: Vec<Runner>) -> Core {
        let states = fs::read_dir(format!("/sys/devices/system/cpu/cpu{core}/cpuidle")).into_iter().flatten().flatten();
        let files = states.filter_map(|s| File::open(s.path().join("time")).ok());
        Core { idle: files.collect(), runners, at: Vec::new() }
    }

    fn read(&mut self) {
        let idle = |file: &File| again(file)?.trim().parse().ok().map(Nanos::from_micros);
        let idle: Option<u64> = self.idle.iter().map(|f| idle(f).map(|n| n.0)).sum();
        let ran: Option<u64> = self.runners.iter().map(|r| r.ran().map(|n| n.0)).sum();
        self.at.push(idle.zip(ran).map(|(idle, ran)| (clock::now(), Nanos(idle + ran))));
    }

    /// What is missing of each slice, beyond what is usual: the way into sleep and out of it is counted by nobody, and takes some per
    /// cent, now more and now less, where a server sleeps after every request. Usual is what is within four median deviations of the
    /// window's median.
    fn missing(&self) -> Vec<Nanos> {
        let of = |pair: &[Option<(Nanos, Nanos)>]| match pair {
            [Some((from, known)), Some((to, then))] => (*to - *from) - (*then - *known),
            _ => Nanos::ZERO,
        };
        let all: Vec<Nanos> = self.at.windows(2).map(of).collect();
        let median = middle(all.iter().map(|m| m.0).collect());
        let deviation = middle(all.iter().map(|m| m.0.abs_diff(median)).collect());
        all.into_iter().map(|missing| missing - Nanos(median + 4 * deviation)).collect()
    }
}

/// Follows a number of threads through a window, slice by slice.
pub struct Watch {
    tracks: Vec<Track>,
    cores: Vec<Core>,
    slice: Nanos,
}

impl Watch {
    /// Follows these `(process, thread)`, in slices of this length. The kernel's softirq threads of their cores are found
    /// by name.
    pub fn new(threads: impl IntoIterator<Item = (u32, u32)>, slice: Nanos) -> Watch {
        let track = |(pid, tid)| Track {
            file: File::open(format!("/proc/{pid}/task/{tid}/schedstat")).ok(),
            core: pinned(pid, tid),
            measured: true,
            at: Vec::new(),
        };
        let mut tracks: Vec<Track> = threads.into_iter().map(track).collect();
        let mut cores: Vec<usize> = tracks.iter().filter_map(|t| t.core).collect();
        cores.sort_unstable();
        cores.dedup();
        for core in cores {
            if let Some(pid) = named(&format!("ksoftirqd/{core}")) {
                let file = File::open(format!("/proc/{pid}/schedstat")).ok();
                tracks.push(Track { file, core: Some(core), measured: false, at: Vec::new() });
            }
        }
        Watch { tracks, cores: Vec::new(), slice }
    }

    /// Follows a core, too, on which nothing runs but these.
    pub fn core(mut self, core: usize, runners: Vec<Runner>) -> Watch {
        self.cores.push(Core::new(core, runners));
        self
    }

    /// Reads all counts: once at the window's start and at the end of every slice. About 10 us a thread.
    pub fn read(&mut self) {
        self.cores.iter_mut().for_each(Core::read);
        for t in &mut self.tracks {
            // A thread that has ended stands still.
            let last = t.at.last().copied().unwrap_or_default();
            let now = t.file.as_ref().and_then(|f| parse(&again(f)?));
            t.at.push(now.unwrap_or(last));
        }
    }

    /// How long the unluckiest measured thread waited in each slice.
    pub fn waits(&self) -> Vec<Nanos> {
        waits(&self.tracks, self.slice)
    }

    /// The noisy ones of the slices: their numbers, ascending.
    pub fn noisy(&self) -> Vec<usize> {
        let share = |share: f64| Nanos((self.slice.0 as f64 * share) as u64);
        let mut noisy = BTreeSet::new();
        noisy.extend(over(&self.waits(), share(WAIT_SHARE)));
        for core in &self.cores {
            let missing = core.missing();
            for i in over(&missing, share(MISSING_SHARE)) {
                noisy.extend([i, i + 1].into_iter().filter(|i| *i < missing.len()));
            }
        }
        noisy.into_iter().collect()
    }
}

/// The median; zero of nothing.
fn middle(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

/// What a file of the kernel's says now: a line of numbers.
fn again(file: &File) -> Option<String> {
    let mut line = [0; 128];
    let n = file.read_at(&mut line, 0).ok()?;
    Some(String::from_utf8_lossy(&line[..n]).into_owned())
}

/// The places of those above the limit.
fn over(times: &[Nanos], limit: Nanos) -> Vec<usize> {
    times.iter().enumerate().filter(|(_, t)| **t > limit).map(|(i, _)| i).collect()
}

fn waits(tracks: &[Track], slice: Nanos) -> Vec<Nanos> {
    let slices = tracks.iter().map(|t| t.at.len()).min().unwrap_or(0).saturating_sub(1);
    let window = slice.0 * slices as u64;
    let ran = |t: &Track, from: usize, to: usize| t.at[to].ran.0.saturating_sub(t.at[from].ran.0);
    let active = |t: &Track| ran(t, 0, slices) as f64 >= window as f64 * ACTIVE_SHARE;
    let measured: Vec<usize> = (0..tracks.len()).filter(|&i| tracks[i].measured && active(&tracks[i])).collect();
    let of = |slice: usize| {
        let wait = |&i: &usize| {
            let t = &tracks[i];
            let own = |j: &usize| *j != i && t.core.is_some() && tracks[*j].core == t.core;
            let explained: u64 = (0..tracks.len()).filter(own).map(|j| ran(&tracks[j], slice, slice + 1)).sum();
            t.at[slice + 1].waited.0.saturating_sub(t.at[slice].waited.0).saturating_sub(explained)
        };
        Nanos(measured.iter().map(wait).max().unwrap_or(0))
    };
    (0..slices).map(of).collect()
}

/// The process with this name, of those that we see.
fn named(name: &str) -> Option<u32> {
    let of = |entry: fs::DirEntry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let comm = fs::read_to_string(entry.path().join("comm")).ok()?;
        (comm.trim_end() == name).then_some(pid)
    };
    fs::read_dir("/proc").ok()?.flatten().find_map(of)
}

/// The core that a thread is pinned to, if it is one only.
pub fn pinned(pid: u32, tid: u32) -> Option<usize> {
    let status = fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    list.trim().parse().ok()
}

/// Listings of a process's threads that are read at most: exits come one after another in a process that ends.
const LISTINGS: usize = 8;

/// The kernel's ids of a process's threads.
///
/// The kernel ends a listing early when the thread at which it stands exits meanwhile. What several listings name
/// together is complete all the same, unless each of them met such an exit: they are read until two in a row agree,
/// [`LISTINGS`] at most.
pub fn threads_of(pid: u32) -> Vec<u32> {
    let list = || -> BTreeSet<u32> {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        tasks.filter_map(|t| t.file_name().to_str()?.parse().ok()).collect()
    };
    let mut last = list();
    let mut seen = last.clone();
    for _ in 1..LISTINGS {
        let now = list();
        let settled = now == last;
        seen.extend(&now);
        last = now;
        if settled {
            break;
        }
    }
    seen.into_iter().collect()
}

/// What was counted over a number of windows.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Noise {
    /// Slices looked at.
    pub slices: u64,
    /// Noisy ones.
    pub discarded: u64,
    /// Waiting in all of them, noisy or not.
    pub waited: Nanos,
}

/// A ratio, and the question that it is to answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Question {
    /// For people: `zygix against linux-partitioned, server time (usr)`.
    pub what: String,
    /// The paired ratios.
    pub ratio: Spread,
}

impl Question {
    /// Whether the rounds agree better with each other than the two sides do: the range of the ratios is narrower than
    /// their distance from 1.
    pub fn answered(&self) -> bool {
        self.ratio.width() <= (self.ratio.median - 1.0).abs().max(FINE)
    }
}

impl Noise {
    /// Adds another window.
    pub fn add(&mut self, other: &Noise) {
        self.slices += other.slices;
        self.discarded += other.discarded;
        self.waited += other.waited;
    }

    /// The share of slices that were noisy.
    pub fn share(&self) -> f64 {
        self.discarded as f64 / self.slices.max(1) as f64
    }

    /// In words for people: whether the figures can be believed.
    ///
    /// `quiet`; `noisy: 12 % of slices discarded`; `too noisy for this question: ...` when more than three quarters were discarded,
    /// or when a question is not answered.
    pub fn verdict(&self, questions: &[Question]) -> String {
        let percent = self.share() * 100.0;
        if self.share() > VOID_SHARE {
            return format!("too noisy for this question: {percent:.0} % of slices would have to be discarded");
        }
        let open: Vec<String> = questions.iter().filter(|q| !q.answered()).map(open_question).collect();
        let seen = format!("{percent:.0} % of slices discarded");
        match (open.is_empty(), self.share() > QUIET) {
            (true, false) => "quiet".into(),
            (true, true) => format!("noisy: {seen}"),
            (false, _) => format!("too noisy for this question: {} ({seen})", open.join("; ")),
        }
    }
}

fn open_question(q: &Question) -> String {
    let r = &q.ratio;
    format!("{}: ratios from {:.2} to {:.2} around {:.2}", q.what, r.low, r.high, r.median)
}

/// What a hypervisor takes, from now on.
pub struct Steal {
    stolen: Nanos,
    all: Nanos,
}

impl Steal {
    /// From now on.
    ///
    /// # Errors
    /// When /proc/stat cannot be read.
    pub fn start() -> Result<Steal> {
        let (stolen, all) = account::stolen()?;
        Ok(Steal { stolen, all })
    }

    /// The share of all cores' time that was taken since.
    ///
    /// # Errors
    /// When /proc/stat cannot be read.
    pub fn share(&self) -> Result<f64> {
        let (stolen, all) = account::stolen()?;
        Ok((stolen - self.stolen).as_secs_f64() / (all - self.all).as_secs_f64().max(1e-9))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    const SLICE: Nanos = Nanos::from_millis(100);

    fn ms(ms: u64) -> Nanos {
        Nanos::from_millis(ms)
    }

    /// A thread's counts from what it ran and waited in each slice, in ms.
    fn track(core: usize, measured: bool, slices: &[(u64, u64)]) -> Track {
        let mut at = vec![Sched { ran: ms(7), waited: ms(9) }];
        for (ran, waited) in slices {
            let last = at[at.len() - 1];
            at.push(Sched { ran: last.ran + ms(*ran), waited: last.waited + ms(*waited) });
        }
        Track { file: None, core: Some(core), measured, at }
    }

    fn watch(tracks: impl IntoIterator<Item = Track>) -> Watch {
        Watch { tracks: tracks.into_iter().collect(), cores: Vec::new(), slice: SLICE }
    }

    /// A core by what was known of each slice, in ms.
    fn core(known: &[u64]) -> Core {
        let mut at = vec![Some((ms(5000), ms(70)))];
        for k in known {
            let (now, sum) = at.last().copied().flatten().unwrap();
            at.push(Some((now + SLICE, sum + ms(*k))));
        }
        Core { idle: Vec::new(), runners: Vec::new(), at }
    }

    #[test]
    fn what_a_hypervisor_took_is_missing_and_its_backlog_is_noise_too() {
        let mut w = watch([]);
        w.cores = vec![core(&[99, 99, 99, 60, 99, 99]), core(&[100, 100, 100, 100, 100, 90])];
        assert_eq!(w.noisy(), [3, 4, 5]);
        // Where the kernel does not count idle time nothing is known to be missing.
        w.cores[0].at[4] = None;
        assert_eq!(w.noisy(), [5], "{:?}", w.cores[0].missing());
        // Where some of it is missing in every slice, now more and now less, only what stands out is noise.
        w.cores = vec![core(&[90, 80, 95, 85, 90, 82, 20, 88, 91, 84])];
        assert_eq!(w.noisy(), [6, 7]);
    }

    #[test]
    fn a_core_is_idle_or_runs_what_is_measured() {
        let here = std::thread::spawn(|| {
            let core = *sys::thread::allowed_cores().unwrap().last().unwrap();
            sys::thread::pin(core).unwrap();
            let mut core = Core::new(core, vec![Runner::Thread(ThreadClock::current())]);
            core.read();
            let until = clock::thread_cpu() + ms(5);
            while clock::thread_cpu() < until {}
            core.read();
            (core.at[0].zip(core.at[1]), core.missing()[0])
        });
        let (known, missing) = here.join().unwrap();
        if let Some(((from, known), (to, then))) = known {
            assert!(then - known >= ms(5) && missing == Nanos::ZERO, "{:?}", to - from);
        }
    }

    #[test]
    fn schedstat_is_read() {
        let sched = parse("40403 27135 1\n").unwrap();
        assert_eq!((sched.ran, sched.waited), (Nanos(40403), Nanos(27135)));
        assert_eq!(parse("40403"), None);
        assert_eq!(parse("a b c"), None);
    }

    #[test]
    fn a_slice_is_noisy_when_any_measured_thread_waited() {
        let server = track(1, true, &[(50, 0), (50, 2), (50, 2), (50, 0)]);
        let client = track(0, true, &[(100, 0), (100, 0), (97, 3), (60, 40)]);
        let w = watch([server, client]);
        assert_eq!(w.waits(), [ms(0), ms(2), ms(3), ms(40)]);
        assert_eq!(w.noisy(), [2, 3], "2 ms of 100 are let pass");
    }

    #[test]
    fn waiting_for_ones_own_kind_is_no_noise() {
        let client = track(0, true, &[(90, 10), (90, 10), (90, 10)]);
        let softirqs = track(0, false, &[(10, 80), (2, 0), (0, 0)]);
        let elsewhere = track(1, false, &[(50, 0), (50, 0), (50, 0)]);
        let mut w = watch([client, softirqs, elsewhere]);
        assert_eq!(w.waits(), [ms(0), ms(8), ms(10)]);
        // Where it runs is not known: nothing explains its waiting.
        w.tracks[0].core = None;
        assert_eq!(w.waits(), [ms(10); 3]);
    }

    #[test]
    fn threads_that_hardly_run_are_not_measured() {
        let waits_for_commands = track(1, true, &[(0, 30), (1, 30)]);
        let server = track(1, true, &[(50, 0), (50, 0)]);
        assert_eq!(watch([server, waits_for_commands]).noisy(), [0usize; 0]);
        assert_eq!(watch([]).noisy(), [0usize; 0]);
    }

    #[test]
    fn our_own_thread_is_followed() {
        let mut w = Watch::new([(std::process::id(), sys::thread::id())], SLICE);
        w.read();
        let until = sys::clock::thread_cpu() + ms(5);
        while sys::clock::thread_cpu() < until {}
        w.read();
        let [from, to] = [w.tracks[0].at[0], w.tracks[0].at[1]];
        assert!(to.ran.0 - from.ran.0 >= 4_000_000, "{from:?} {to:?}");
        assert!(Steal::start().unwrap().share().unwrap() <= 1.0);
    }

    #[test]
    fn a_thread_is_listed_also_while_older_ones_exit() {
        let missed = AtomicUsize::new(0);
        for _ in 0..100 {
            let go = Barrier::new(17);
            std::thread::scope(|scope| {
                for _ in 0..16 {
                    scope.spawn(|| {
                        go.wait();
                    });
                }
                scope.spawn(|| {
                    go.wait();
                    for _ in 0..10 {
                        let listed = threads_of(std::process::id()).contains(&sys::thread::id());
                        missed.fetch_add(usize::from(!listed), Relaxed);
                    }
                });
            });
        }
        assert_eq!(missed.into_inner(), 0);
    }

    #[test]
    fn verdicts() {
        let noise = |discarded| Noise { slices: 100, discarded, waited: ms(1) };
        let question = |median, low, high| Question { what: "a against b".into(), ratio: Spread { median, low, high } };
        assert_eq!(noise(2).verdict(&[]), "quiet");
        assert_eq!(noise(12).verdict(&[question(0.5, 0.4, 0.6)]), "noisy: 12 % of slices discarded");
        assert!(noise(76).verdict(&[]).starts_with("too noisy for this question: 76 %"));
        let open = noise(0).verdict(&[question(1.1, 0.9, 1.3), question(1.01, 0.99, 1.03)]);
        assert!(open.starts_with("too noisy for this question: a against b: ratios from 0.90 to 1.30 around 1.10"));
        assert!(!open.contains("1.01"), "{open}");
    }
}
