//! The configuration: a TOML text, checked whole before anything is done. `example.toml` shows all of it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use actuate::{Source, parse_cpus};
use machine::Machine;
use policy::{Rules, Table};
use serde::Deserialize;
use toml::Spanned;
use units::Nanos;

/// A configuration that explains itself.
pub const EXAMPLE: &str = include_str!("example.toml");
/// Where the web page is if nothing else is said: for this machine only.
pub const LISTEN: &str = "127.0.0.1:9797";
/// Dataplanes, and background jobs, at most.
const MANY: usize = 64;

/// What is wrong with a configuration.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct ConfigError {
    /// Where, from 1.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub what: String,
}

/// A configuration that makes sense in itself. Whether this machine has what it names is found out at start.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// The dataplanes, in the order of the text.
    pub dataplanes: Vec<PlaneConfig>,
    /// The background jobs.
    pub background: Vec<JobConfig>,
    /// Where the web page is; `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// The file of decisions.
    pub journal: Option<PathBuf>,
    /// Whether flow groups are moved so that cores are even.
    pub balance: bool,
    /// A machine for watts where there are no counters.
    pub model: Option<Machine>,
    /// Whether hardware threads of a core are told from cores.
    pub siblings: bool,
    /// Whether clocks and turbo mode are set.
    pub clocks: bool,
}

/// A dataplane.
#[derive(Clone, PartialEq, Debug)]
pub struct PlaneConfig {
    /// Its name: that of `zygix serve --name`.
    pub name: String,
    /// When resources are added and removed; with the objective.
    pub rules: Rules,
    /// What is added.
    pub policy: Policy,
    /// Where its elastic threads are, by thread. `None`: where they are found.
    pub cpus: Option<Vec<usize>>,
    /// Elastic threads at least.
    pub min_threads: usize,
    /// ... and at most.
    pub max_threads: usize,
}

/// Which ladder is climbed.
#[derive(Clone, PartialEq, Debug)]
pub enum Policy {
    /// Least energy.
    Energy,
    /// Most for background jobs.
    Consolidate,
    /// The least configuration and the most.
    MinMax,
    /// One configuration.
    Static {
        /// Cores.
        cores: usize,
        /// Hardware threads of each.
        threads: usize,
        /// The clock; `None`: turbo mode.
        mhz: Option<f64>,
    },
    /// A frontier that was searched for.
    Pareto(Table),
}

/// A background job.
#[derive(Clone, PartialEq, Debug)]
pub struct JobConfig {
    /// What it is called.
    pub name: String,
    /// What it is.
    pub source: Source,
    /// The only cpus that it may have; `None`: any.
    pub cpus: Option<Vec<usize>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    slo_us: Option<Spanned<f64>>,
    policy: Option<Spanned<String>>,
    delay_share: Option<Spanned<f64>>,
    listen: Option<Spanned<String>>,
    journal: Option<PathBuf>,
    balance: Option<bool>,
    #[serde(default)]
    machine: MachineTable,
    rules: Option<Spanned<RulesTable>>,
    #[serde(default)]
    dataplane: Vec<Spanned<PlaneTable>>,
    #[serde(default)]
    background: Vec<Spanned<JobTable>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct MachineTable {
    model: Option<Spanned<String>>,
    siblings: Option<bool>,
    clocks: Option<bool>,
}

#[derive(Deserialize, Clone, Default)]
#[serde(deny_unknown_fields)]
struct RulesTable {
    up_after_ms: Option<u64>,
    up_after_down_ms: Option<u64>,
    down_after_ms: Option<u64>,
    down_queue: Option<f64>,
    down_margin: Option<f64>,
    steal_cost: Option<f64>,
    ahead_ms: Option<u64>,
    full: Option<f64>,
    jump_reserve: Option<f64>,
    jumps: Option<usize>,
    stride: Option<usize>,
    mistake_within_ms: Option<u64>,
    mistake_most_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlaneTable {
    name: Spanned<String>,
    slo_us: Option<Spanned<f64>>,
    policy: Option<Spanned<String>>,
    delay_share: Option<Spanned<f64>>,
    cpus: Option<Spanned<String>>,
    min_threads: Option<Spanned<usize>>,
    max_threads: Option<Spanned<usize>>,
    #[serde(rename = "static")]
    fixed: Option<Spanned<StaticTable>>,
    table: Option<Spanned<PathBuf>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StaticTable {
    cores: usize,
    threads: usize,
    mhz: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JobTable {
    name: Spanned<String>,
    command: Option<Spanned<Vec<String>>>,
    pids: Option<Spanned<Vec<u32>>>,
    cgroup: Option<Spanned<String>>,
    cpus: Option<Spanned<String>>,
}

/// A text, and what is said about its places.
struct Text<'a> {
    text: &'a str,
    /// Files are named from here.
    from: &'a Path,
}

impl Config {
    /// The configuration of a text. Files that it names are read, relative to the directory `from`.
    ///
    /// # Errors
    /// The first line that makes no sense, and why.
    pub fn parse(text: &str, from: &Path) -> Result<Config, ConfigError> {
        let file = toml::from_str::<File>(text);
        let text = Text { text, from };
        let file = file.map_err(|e| {
            let what = e.message().split_whitespace().collect::<Vec<_>>().join(" ");
            text.error(e.span().map_or(0, |span| span.start), what)
        })?;
        if file.dataplane.is_empty() {
            return Err(text.error(0, "no dataplane: write a table [[dataplane]] with its name".into()));
        }
        let mut planes: Vec<PlaneConfig> = Vec::new();
        for table in &file.dataplane {
            let plane = text.plane(&file, table.get_ref())?;
            text.beside(&planes, &plane, table.get_ref())?;
            planes.push(plane);
        }
        let mut background: Vec<JobConfig> = Vec::new();
        for table in &file.background {
            let job = text.job(table)?;
            if background.iter().any(|other| other.name == job.name) {
                let what = format!("a second background job is called {}", job.name);
                return Err(text.wrong(&table.get_ref().name, what));
            }
            background.push(job);
        }
        if planes.len().max(background.len()) > MANY {
            return Err(text.error(0, format!("{MANY} dataplanes and background jobs at most")));
        }
        let table = &file.machine;
        Ok(Config {
            dataplanes: planes,
            background,
            listen: text.listen(file.listen.as_ref())?,
            journal: file.journal.map(|path| from.join(path)),
            balance: file.balance.unwrap_or(true),
            model: table.model.as_ref().map(|name| text.model(name)).transpose()?,
            siblings: table.siblings.unwrap_or(true),
            clocks: table.clocks.unwrap_or(true),
        })
    }
}

impl Text<'_> {
    fn error(&self, byte: usize, what: String) -> ConfigError {
        ConfigError { line: 1 + self.text.bytes().take(byte).filter(|b| *b == b'\n').count(), what }
    }

    fn wrong<T>(&self, of: &Spanned<T>, what: String) -> ConfigError {
        self.error(of.span().start, what)
    }

    fn plane(&self, file: &File, table: &PlaneTable) -> Result<PlaneConfig, ConfigError> {
        self.name(&table.name)?;
        let rules = self.rules(file, table)?;
        let policy = self.policy(file, table)?;
        let cpus = table.cpus.as_ref().map(|list| self.cpus(list)).transpose()?;
        let count = |value: &Option<Spanned<usize>>, name: &str, default: usize| match value {
            None => Ok(default),
            Some(n) if (1..=128).contains(n.get_ref()) => Ok(*n.get_ref()),
            Some(n) => Err(self.wrong(n, format!("{name} = {}: use 1 to 128", n.get_ref()))),
        };
        let min_threads = count(&table.min_threads, "min_threads", 1)?;
        let max_threads = count(&table.max_threads, "max_threads", 128)?;
        if let Some(min) = table.min_threads.as_ref().filter(|_| min_threads > max_threads) {
            let what = format!("min_threads = {min_threads} and max_threads = {max_threads}: nothing is in between");
            return Err(self.wrong(min, what));
        }
        if let (Some(list), Some(cpus)) = (&table.cpus, &cpus)
            && cpus.len() < min_threads
        {
            let what = format!("{} cpu(s) for at least {min_threads} threads: each needs one", cpus.len());
            return Err(self.wrong(list, what));
        }
        Ok(PlaneConfig { name: table.name.get_ref().clone(), rules, policy, cpus, min_threads, max_threads })
    }

    /// Against those before it.
    fn beside(&self, others: &[PlaneConfig], plane: &PlaneConfig, table: &PlaneTable) -> Result<(), ConfigError> {
        for other in others {
            if other.name == plane.name {
                return Err(self.wrong(&table.name, format!("a second dataplane is called {}", plane.name)));
            }
            let both = |cpu: &&usize| other.cpus.iter().flatten().any(|c| c == *cpu);
            if let (Some(list), Some(cpu)) = (&table.cpus, plane.cpus.iter().flatten().find(both)) {
                let what = format!("cpu {cpu} is {}'s already: give each dataplane its own", other.name);
                return Err(self.wrong(list, what));
            }
        }
        Ok(())
    }

    fn rules(&self, file: &File, table: &PlaneTable) -> Result<Rules, ConfigError> {
        let Some(slo) = table.slo_us.as_ref().or(file.slo_us.as_ref()) else {
            return Err(self.wrong(&table.name, "no objective: write slo_us, the p99 in microseconds".into()));
        };
        if !(1.0..=60e6).contains(slo.get_ref()) {
            let what = format!("slo_us = {}: use 1 to 60000000 (a minute)", slo.get_ref());
            return Err(self.wrong(slo, what));
        }
        let mut rules = Rules::new(slo.get_ref() * 1000.0);
        if let Some(share) = table.delay_share.as_ref().or(file.delay_share.as_ref()) {
            rules.delay_share = *share.get_ref();
            rules.check().map_err(|e| self.wrong(share, e.to_string()))?;
        }
        let Some(of) = &file.rules else { return Ok(rules) };
        let set = of.get_ref().clone();
        let span = |ms: Option<u64>, default: Nanos| ms.map_or(default, |ms| Nanos(ms.saturating_mul(1_000_000)));
        rules.up_after = span(set.up_after_ms, rules.up_after);
        rules.up_after_down = span(set.up_after_down_ms, rules.up_after_down);
        rules.down_after = span(set.down_after_ms, rules.down_after);
        rules.ahead = span(set.ahead_ms, rules.ahead);
        rules.down_queue = set.down_queue.unwrap_or(rules.down_queue);
        rules.down_margin = set.down_margin.unwrap_or(rules.down_margin);
        rules.steal_cost = set.steal_cost.unwrap_or(rules.steal_cost);
        rules.full = set.full.unwrap_or(rules.full);
        rules.jump_reserve = set.jump_reserve.unwrap_or(rules.jump_reserve);
        rules.jumps = set.jumps.unwrap_or(rules.jumps);
        rules.stride = set.stride.unwrap_or(rules.stride);
        rules.mistake_within = span(set.mistake_within_ms, rules.mistake_within);
        rules.mistake_most = span(set.mistake_most_ms, rules.mistake_most);
        rules.check().map_err(|e| self.wrong(of, e.to_string()))?;
        Ok(rules)
    }

    fn policy(&self, file: &File, table: &PlaneTable) -> Result<Policy, ConfigError> {
        let name = table.policy.as_ref().or(file.policy.as_ref());
        let Some(name) = name else {
            return Err(self.wrong(&table.name, "no policy: write policy = \"energy\" or another".into()));
        };
        match name.get_ref().as_str() {
            "energy" => Ok(Policy::Energy),
            "consolidate" => Ok(Policy::Consolidate),
            "minmax" => Ok(Policy::MinMax),
            "static" => self.fixed(name, table),
            "pareto" => self.pareto(name, table),
            other => {
                let what = format!("no policy `{other}`; choose energy, consolidate, minmax, static or pareto");
                Err(self.wrong(name, what))
            }
        }
    }

    fn fixed(&self, name: &Spanned<String>, table: &PlaneTable) -> Result<Policy, ConfigError> {
        let Some(fixed) = &table.fixed else {
            let what = "policy static needs static = { cores = 2, threads = 1 } in the table of the dataplane";
            return Err(self.wrong(name, what.into()));
        };
        let StaticTable { cores, threads, mhz } = *fixed.get_ref();
        let sane = (1..=4096).contains(&cores) && (1..=2).contains(&threads);
        if !sane || mhz.is_some_and(|mhz| !(1.0..=100_000.0).contains(&mhz)) {
            let what = "use 1 to 4096 cores, 1 or 2 threads of each, and a clock in MHz".into();
            return Err(self.wrong(fixed, what));
        }
        Ok(Policy::Static { cores, threads, mhz })
    }

    fn pareto(&self, name: &Spanned<String>, table: &PlaneTable) -> Result<Policy, ConfigError> {
        let Some(path) = &table.table else {
            let what = "policy pareto needs table = \"FILE\" in the table of the dataplane: what `zygix pareto` wrote";
            return Err(self.wrong(name, what.into()));
        };
        let text = self.file(path)?;
        let table = Table::parse(&text);
        table.map(Policy::Pareto).map_err(|e| self.wrong(path, format!("{}: {e}", path.get_ref().display())))
    }

    fn job(&self, of: &Spanned<JobTable>) -> Result<JobConfig, ConfigError> {
        let table = of.get_ref();
        self.name(&table.name)?;
        let source = match (&table.command, &table.pids, &table.cgroup) {
            (Some(command), None, None) => {
                if command.get_ref().first().is_none_or(String::is_empty) {
                    return Err(self.wrong(command, "an empty command: write a program and its arguments".into()));
                }
                Source::Command(command.get_ref().clone())
            }
            (None, Some(pids), None) => {
                let few = pids.get_ref().is_empty() || pids.get_ref().iter().any(|pid| *pid < 2);
                if few {
                    return Err(self.wrong(pids, "write numbers of processes, from 2 on".into()));
                }
                Source::Pids(pids.get_ref().clone())
            }
            (None, None, Some(group)) => {
                let path = group.get_ref();
                if path.trim_matches('/').is_empty() || path.split('/').any(|part| part == "..") {
                    return Err(self.wrong(group, "write the path of a control group below the root, as /batch".into()));
                }
                Source::Cgroup(path.clone())
            }
            _ => return Err(self.wrong(of, "write one of command, pids and cgroup".into())),
        };
        let cpus = table.cpus.as_ref().map(|list| self.cpus(list)).transpose()?;
        Ok(JobConfig { name: table.name.get_ref().clone(), source, cpus })
    }

    /// Names become file names and labels.
    fn name(&self, name: &Spanned<String>) -> Result<(), ConfigError> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let text = name.get_ref();
        if text.is_empty() || text.len() > 64 || text.starts_with('.') || !text.chars().all(good) {
            return Err(self.wrong(name, format!("name {text:?}: use letters, digits, - _ and .")));
        }
        Ok(())
    }

    fn cpus(&self, list: &Spanned<String>) -> Result<Vec<usize>, ConfigError> {
        let cpus = parse_cpus(list.get_ref()).filter(|cpus| !cpus.is_empty());
        cpus.ok_or_else(|| self.wrong(list, format!("cpus = {:?}: write them as in 0-3,8", list.get_ref())))
    }

    fn listen(&self, listen: Option<&Spanned<String>>) -> Result<Option<SocketAddr>, ConfigError> {
        let text = listen.map_or(LISTEN, |l| l.get_ref().as_str());
        if text == "none" {
            return Ok(None);
        }
        match (text.parse(), listen) {
            (Ok(address), _) => Ok(Some(address)),
            (Err(_), Some(of)) => Err(self.wrong(of, format!("listen = {text:?}: write ADDRESS:PORT, or \"none\""))),
            (Err(_), None) => Ok(None),
        }
    }

    fn model(&self, name: &Spanned<String>) -> Result<Machine, ConfigError> {
        if let Ok(machine) = Machine::builtin(name.get_ref()) {
            return Ok(machine);
        }
        let path = Spanned::new(name.span(), PathBuf::from(name.get_ref()));
        let text = self.file(&path)?;
        Machine::parse(&text).map_err(|e| self.wrong(name, format!("{}: {e}", name.get_ref())))
    }

    fn file(&self, path: &Spanned<PathBuf>) -> Result<String, ConfigError> {
        let text = std::fs::read_to_string(self.from.join(path.get_ref()));
        text.map_err(|e| self.wrong(path, format!("{}: {e}", path.get_ref().display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("/nonexistent"))
    }

    #[test]
    fn the_example_is_one_and_so_is_all_that_it_comments_out() {
        let config = parse(EXAMPLE).unwrap();
        assert_eq!((config.dataplanes.len(), config.background.len()), (1, 1));
        assert_eq!(config.listen, Some(LISTEN.parse().unwrap()));
        assert_eq!((config.dataplanes[0].rules.slo_ns, &config.dataplanes[0].policy), (500e3, &Policy::Energy));
        // What is commented out is true, and understood.
        let apart = ["static =", "table =", "pids =", "cgroup =", "slo_us, policy"];
        let mut full = String::new();
        for line in EXAMPLE.lines() {
            let bare = line.strip_prefix("# ").filter(|l| l.contains(" = ") || l.starts_with('['));
            let bare = bare.filter(|l| apart.iter().all(|a| !l.starts_with(a)));
            full += bare.unwrap_or(line);
            full.push('\n');
        }
        assert!(full.contains("\nmax_threads = 128") && full.contains("\n[rules]"), "{full}");
        let full = parse(&full).unwrap();
        assert_eq!((&full.dataplanes[0].rules, full.listen), (&config.dataplanes[0].rules, config.listen));
        assert_eq!((full.balance, full.siblings, full.clocks), (config.balance, config.siblings, config.clocks));
    }

    #[test]
    fn nonsense_is_named_with_its_line() {
        let good = "slo_us = 500\npolicy = \"energy\"\n[[dataplane]]\nname = \"a\"\n";
        parse(good).unwrap();
        for (text, line, what) in [
            ("slo_us = 0\npolicy = \"energy\"\n[[dataplane]]\nname = \"a\"\n", 1, "slo_us = 0: use 1 to"),
            ("slo_us = nan\npolicy = \"energy\"\n[[dataplane]]\nname = \"a\"\n", 1, "slo_us = NaN"),
            ("slo_us = 500\npolicy = \"fast\"\n[[dataplane]]\nname = \"a\"\n", 2, "no policy `fast`"),
            ("slo_us = 500\n", 1, "no dataplane"),
            ("slo_us = \"x\"\n", 1, "invalid type"),
            (&format!("{good}color = 1\n"), 5, "unknown field `color`"),
            (&format!("{good}slo_us = -3\n"), 5, "slo_us = -3"),
            (&format!("{good}delay_share = 2\n"), 5, "delay_share = 2: use 0.01 to 1"),
            (&format!("{good}min_threads = 3\nmax_threads = 2\n"), 5, "nothing is in between"),
            (&format!("{good}min_threads = 3\ncpus = \"0-1\"\n"), 6, "2 cpu(s) for at least 3"),
            (&format!("{good}max_threads = 0\n"), 5, "use 1 to 128"),
            (&format!("{good}cpus = \"3-1\"\n"), 5, "write them as in 0-3,8"),
            (&format!("{good}policy = \"static\"\n"), 5, "needs static ="),
            (&format!("{good}policy = \"static\"\nstatic = {{ cores = 0, threads = 1 }}\n"), 6, "use 1 to 4096"),
            (&format!("{good}policy = \"pareto\"\n"), 5, "needs table ="),
            (&format!("{good}policy = \"pareto\"\ntable = \"t.toml\"\n"), 6, "t.toml: No such file"),
            (&format!("{good}[[dataplane]]\nname = \"a\"\n"), 6, "a second dataplane"),
            (&format!("{good}cpus = \"0-1\"\n[[dataplane]]\nname = \"b\"\ncpus = \"1\"\n"), 8, "cpu 1 is a's already"),
            (&format!("{good}[[dataplane]]\nname = \"../b\"\n"), 6, "use letters"),
            (&format!("{good}[[background]]\nname = \"j\"\n"), 5, "one of command, pids and cgroup"),
            (&format!("{good}[[background]]\nname = \"j\"\ncommand = []\n"), 7, "an empty command"),
            (&format!("{good}[[background]]\nname = \"j\"\npids = [1]\n"), 7, "from 2 on"),
            (&format!("{good}[[background]]\nname = \"j\"\ncgroup = \"/../x\"\n"), 7, "below the root"),
            (&format!("listen = \"here\"\n{good}"), 1, "write ADDRESS:PORT"),
            (&format!("{good}[machine]\nmodel = \"none-such\"\n"), 6, "none-such: No such file"),
            (&format!("{good}[rules]\nfull = 7.0\n"), 5, "full = 7"),
        ] {
            let said = parse(text).unwrap_err();
            assert!(said.line == line && said.what.contains(what), "{said} for\n{text}");
            assert!(!said.to_string().contains('\n'));
        }
    }

    #[test]
    fn a_dataplane_may_have_its_own_objective_and_policy() {
        let text = "slo_us = 500\npolicy = \"energy\"\n[rules]\ndown_after_ms = 7000\n\
            [[dataplane]]\nname = \"a\"\n[[dataplane]]\nname = \"b\"\nslo_us = 90\npolicy = \"consolidate\"\n";
        let config = parse(text).unwrap();
        let of = |i: usize| (config.dataplanes[i].rules.slo_ns, config.dataplanes[i].rules.down_after);
        assert_eq!((of(0), of(1)), ((500e3, Nanos::from_secs(7)), (90e3, Nanos::from_secs(7))));
        assert_eq!(config.dataplanes[1].policy, Policy::Consolidate);
    }
}
