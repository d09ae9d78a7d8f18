use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actuate::{Knobs, Speed, Tree, show_cpus};
use machine::Clock;
use units::Nanos;

use crate::config::Config;
use crate::governor::{Found, Governor, Uses};
use crate::host::{Busy, Host};
use crate::http::Server;
use crate::instance::Instance;
use crate::journal::{Journal, Kind};
use crate::plane::{Attach, of_this_host};
use crate::view::{History, View};

/// How often it looks, decides and acts.
const PERIOD: Nanos = Nanos::from_millis(100);
/// How often people are shown something new, and seconds are judged.
const SECOND: Nanos = Nanos::from_secs(1);
/// Events that are shown.
const SHOWN: usize = 100;
/// Troubles that are remembered as told.
const TOLD: usize = 500;

/// How it is run, beside its configuration.
pub struct Options {
    /// Decide, and do nothing.
    pub dry_run: bool,
    /// Tell events on standard output.
    pub aloud: bool,
    /// The machine.
    pub tree: Tree,
    /// How dataplanes are found; `None`: those of this host.
    pub attach: Option<Attach>,
    /// Refuse to be the second of this host, and keep a record of changes. Off in tests that have a machine of their own.
    pub alone: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { dry_run: false, aloud: true, tree: Tree::real(), attach: None, alone: true }
    }
}

/// How it ended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// What could not be taken back, a line each.
    pub left: Vec<String>,
    /// Lines of the journal's file that could not be written.
    pub lost_lines: u64,
}

/// What the loop knows and the web page shows.
#[derive(Default)]
pub(crate) struct Shown {
    pub(crate) view: View,
    pub(crate) history: History,
}

pub(crate) type Shared = Arc<Mutex<Shown>>;

pub(crate) fn locked(shared: &Shared) -> MutexGuard<'_, Shown> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The control plane of a host.
pub struct Daemon {
    host: Host,
    governors: Vec<Governor>,
    journal: Journal,
    attach: Attach,
    shared: Shared,
    server: Option<Server>,
    /// The lock; held to the end.
    _instance: Option<Instance>,
    dry_run: bool,
    balance: bool,
    told: HashSet<String>,
    last_second: Option<Nanos>,
    lacks_told: usize,
    /// Where it is written how dataplanes were found, and what stands there.
    found_at: Option<PathBuf>,
    found: Vec<Found>,
}

impl Daemon {
    /// Takes the lock, takes back what a killed one has left, looks at the machine, opens the page. Dataplanes are attached to in [`Daemon::tick`].
    ///
    /// # Errors
    /// One line: another one runs; a cpu that is not there; an address in use; a journal that cannot be written.
    pub fn start(config: Config, options: Options) -> Result<Daemon, String> {
        let dry_run = options.dry_run;
        let alone = options.alone && !dry_run;
        let instance = alone.then(Instance::only).transpose().map_err(|e| e.to_string())?;
        let journal_of = |e: std::io::Error| {
            let path = config.journal.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
            format!("journal {path}: {e}")
        };
        let file = config.journal.as_deref().filter(|_| !dry_run);
        let mut journal = Journal::open(file, options.aloud).map_err(journal_of)?;
        let record = instance.as_ref().map(Instance::record);
        let recovered = record.clone().and_then(|record| Knobs::recover(options.tree.clone(), record));
        if let Some((count, errors)) = recovered {
            let back = count - errors.len();
            let text = format!("{back} of {count} changes of a control plane that was killed are taken back");
            journal.add("", Kind::Note, "", text);
            errors.iter().for_each(|e| journal.add("", Kind::Trouble, "", e.to_string()));
        }
        let shared = Shared::default();
        let server = match config.listen.filter(|_| !dry_run) {
            Some(listen) => Some(Server::start(listen, shared.clone()).map_err(|e| format!("listen {listen}: {e}"))?),
            None => None,
        };
        let mut host = Host::open(&config, options.tree, record, dry_run).map_err(|e| e.to_string())?;
        host.start_jobs(&config.background);
        if let Some(instance) = &instance {
            instance.tell(server.as_ref().map(Server::address));
        }
        {
            let mut shown = locked(&shared);
            shown.history.names = config.dataplanes.iter().map(|d| d.name.clone()).collect();
            shown.history.slo_us = config.dataplanes.iter().map(|d| d.rules.slo_ns / 1000.0).collect();
        }
        journal.add("", Kind::Note, "", host.describe());
        let mut governors: Vec<Governor> = config.dataplanes.into_iter().map(Governor::new).collect();
        let found_at = instance.as_ref().map(Instance::found);
        let left = found_at.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
        let left: Vec<Found> = left.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        governors.iter_mut().for_each(|g| g.remember(&left));
        Ok(Daemon {
            host,
            governors,
            journal,
            attach: options.attach.unwrap_or_else(of_this_host),
            shared,
            server,
            _instance: instance,
            dry_run,
            balance: config.balance,
            told: HashSet::new(),
            last_second: None,
            lacks_told: 0,
            found_at,
            found: left,
        })
    }

    /// Where the page is, if there is one.
    pub fn address(&self) -> Option<std::net::SocketAddr> {
        self.server.as_ref().map(Server::address)
    }

    /// Ticks until `stop`, which is asked ten times a second.
    pub fn run(&mut self, stop: impl Fn() -> bool) {
        let mut next = sys::clock::now();
        while !stop() {
            let now = sys::clock::now();
            self.tick(now);
            next = (next + PERIOD).max(now);
            let left = next - sys::clock::now();
            std::thread::sleep(Duration::from_nanos(left.0).min(Duration::from_millis(100)));
        }
    }

    /// One round: sense, decide, act; once a second, judge and show.
    pub fn tick(&mut self, now: Nanos) {
        self.tell_lacks();
        for governor in &mut self.governors {
            governor.look(now, &self.host, &mut self.attach, &mut self.journal);
        }
        self.note_found();
        let before = self.free();
        for governor in &mut self.governors {
            governor.decide(&mut self.journal);
        }
        if !self.dry_run {
            self.act(now, &before);
        }
        for governor in self.governors.iter_mut().filter(|_| self.balance && !self.dry_run) {
            governor.balance(now, &mut self.journal);
        }
        let last = *self.last_second.get_or_insert(now);
        if now - last >= SECOND {
            self.last_second = Some(now);
            self.second(now, now - last);
        }
    }

    /// How dataplanes were found is written down before they are changed, and stands there until they are so again.
    fn note_found(&mut self) {
        let found: Vec<Found> = self.governors.iter().filter_map(Governor::found).cloned().collect();
        let Some(path) = self.found_at.as_ref().filter(|_| found != self.found) else { return };
        let written = match found.is_empty() {
            true => std::fs::remove_file(path),
            false => std::fs::write(path, serde_json::to_string(&found).unwrap_or_default()),
        };
        self.found = found;
        if let Err(e) = written {
            let text = format!("{}: {e}", path.display());
            self.trouble(text);
        }
    }

    /// What is needed is taken from background jobs before dataplanes use it, and what is left over is given after they have let it go.
    fn act(&mut self, now: Nanos, before: &[usize]) {
        let after = self.free();
        let both: Vec<usize> = after.iter().filter(|c| before.contains(c)).copied().collect();
        let mut wrong = self.host.give(&both);
        let wanted: Vec<(Vec<usize>, Speed)> = self.uses().into_iter().map(|u| (u.cpus, u.speed)).collect();
        if let Err(e) = self.host.set_clocks(now, wanted) {
            wrong.push(format!("clocks: {e}"));
        }
        for governor in &mut self.governors {
            governor.act(now, &mut self.journal);
        }
        wrong.extend(self.host.give(&after));
        wrong.into_iter().for_each(|text| self.trouble(text));
    }

    fn uses(&self) -> Vec<Uses> {
        self.governors.iter().filter_map(Governor::uses).collect()
    }

    /// Cpus that no dataplane needs.
    fn free(&self) -> Vec<usize> {
        let uses = self.uses();
        let taken = |cpu: &usize| uses.iter().any(|u| if u.background { &u.in_use } else { &u.cpus }.contains(cpu));
        self.host.topology().cpus().iter().map(|c| c.cpu).filter(|cpu| !taken(cpu)).collect()
    }

    fn second(&mut self, now: Nanos, elapsed: Nanos) {
        for governor in &mut self.governors {
            governor.judge(&mut self.journal);
        }
        for text in self.host.account(elapsed) {
            self.journal.add("", Kind::Note, "", text);
        }
        let view = self.view(now);
        let mut shown = locked(&self.shared);
        shown.history.add(&view);
        shown.view = view;
    }

    /// What is known now.
    fn view(&mut self, now: Nanos) -> View {
        let mut view = View {
            at_ms: sys::clock::wall().0 / 1_000_000,
            pid: std::process::id(),
            dry_run: self.dry_run,
            background: self.host.jobs(),
            dataplanes: self.governors.iter().map(Governor::view).collect(),
            ..View::default()
        };
        let uses = self.uses();
        let jobs: HashSet<usize> = view.background.iter().flat_map(|j| j.cpus.iter().copied()).collect();
        let topology = self.host.topology();
        let of_jobs: HashSet<usize> = jobs.iter().filter_map(|c| topology.get(*c)).map(|c| c.core).collect();
        let cores = uses.iter().map(|u| u.cores).sum::<usize>();
        let load = uses.iter().map(|u| u.load * u.cores as f64).sum::<f64>() + of_jobs.len() as f64;
        let all = cores + of_jobs.len();
        let busy = Busy {
            cores: all,
            threads: uses.iter().map(|u| u.threads).max().unwrap_or(1),
            clock: uses.iter().map(|u| u.clock).max().unwrap_or(Clock::Step(0)),
            utilization: if all == 0 { 0.0 } else { load / all as f64 },
        };
        let cpus: Vec<usize> = uses.iter().flat_map(|u| u.cpus.clone()).collect();
        let (power_w, power_from) = self.host.power(now, busy);
        view.host.power_w = power_w;
        view.host.power_from = power_from;
        view.host.topology = self.host.topology().to_string();
        view.host.clock_mhz = self.host.clock_mhz(&cpus);
        view.host.background_share = view.background.iter().map(|j| j.share).sum();
        view.host.lacks = self.host.lacks().to_vec();
        let events: Vec<_> = self.journal.kept().cloned().collect();
        view.events = events[events.len().saturating_sub(SHOWN)..].to_vec();
        view
    }

    /// What this machine lacks is said once.
    fn tell_lacks(&mut self) {
        while let Some(text) = self.host.lacks().get(self.lacks_told).cloned() {
            self.lacks_told += 1;
            self.journal.add("", Kind::Note, "", text);
        }
    }

    /// A trouble that lasts is said once.
    fn trouble(&mut self, text: String) {
        if self.told.len() < TOLD && self.told.insert(text.clone()) {
            self.journal.add("", Kind::Trouble, "", text);
        }
    }

    /// What it shows at present.
    pub fn shown(&self) -> (View, History) {
        let shown = locked(&self.shared);
        (shown.view.clone(), shown.history.clone())
    }

    /// The end: background jobs, clocks and turbo mode as they were found, threads of dataplanes where they were.
    pub fn finish(mut self) -> Report {
        let mut left = Vec::new();
        if !self.dry_run {
            left.extend(self.host.restore().iter().map(ToString::to_string));
            left.extend(self.governors.iter_mut().flat_map(Governor::leave));
            self.note_found();
            let cpus: Vec<usize> = self.host.topology().cpus().iter().map(|c| c.cpu).collect();
            let but = if left.is_empty() { String::new() } else { format!(", but for {} thing(s)", left.len()) };
            let text = format!("the end: what was changed on cpus {} is as it was{but}", show_cpus(&cpus));
            self.journal.add("", Kind::Note, "", text);
        }
        left.iter().for_each(|text| self.journal.add("", Kind::Trouble, "", text.clone()));
        Report { left, lost_lines: self.journal.lost() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attach::AttachError;

    #[test]
    fn how_a_dataplane_was_found_is_kept_while_it_cannot_be_put_back() {
        let root = std::env::temp_dir().join(format!("zygix-daemon-{}", std::process::id()));
        std::fs::create_dir_all(root.join("sys/devices/system/cpu")).unwrap();
        std::fs::write(root.join("sys/devices/system/cpu/online"), "0-1").unwrap();
        let text = "slo_us = 500\npolicy = \"energy\"\nlisten = \"none\"\n[[dataplane]]\nname = \"kv\"\n";
        let config = Config::parse(text, &root).unwrap();
        let found = root.join("found");
        let kv: Vec<Found> = serde_json::from_str(r#"[{"name":"kv","pid":7,"threads":[[true,null]]}]"#).unwrap();
        for (reached, stays) in [(false, true), (true, false)] {
            let attach: Attach = Box::new(move |name| match reached {
                true => Err(AttachError::NoSuch { name: name.to_owned(), there: Vec::new() }),
                false => Err(AttachError::Silent),
            });
            let options = Options {
                aloud: false,
                tree: Tree::fake(&root),
                attach: Some(attach),
                alone: false,
                ..Options::default()
            };
            let mut daemon = Daemon::start(config.clone(), options).unwrap();
            daemon.found_at = Some(found.clone());
            daemon.governors[0].remember(&kv);
            daemon.found = if found.exists() { kv.clone() } else { Vec::new() };
            daemon.tick(Nanos::from_secs(1));
            assert!(reached || found.exists());
            assert_eq!((daemon.finish().left.len(), found.exists()), (usize::from(stays), stays));
        }
        std::fs::remove_dir_all(root).unwrap();
    }
}
