use std::collections::BTreeMap;

use crate::tree::Tree;
use crate::{ActuateError, show_cpus};

const CPUS: &str = "sys/devices/system/cpu";

/// A logical processor (a hardware thread), and where it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cpu {
    /// Its number.
    pub cpu: usize,
    /// The package that it is in, as the kernel numbers them.
    pub package: usize,
    /// Its core, counted over all packages in the order of their first cpus.
    pub core: usize,
    /// Its place on the core.
    pub thread: usize,
}

/// The logical processors that are online.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topology {
    cpus: Vec<Cpu>,
}

impl Topology {
    /// From sysfs: `online`, and of each cpu `topology/thread_siblings_list` (of newer kernels `core_cpus_list`) and `physical_package_id`. What a cpu does not say
    /// is taken as the least: a core of its own, in package 0.
    ///
    /// # Errors
    /// `online` is missing or makes no sense.
    pub fn read(tree: &Tree) -> Result<Topology, ActuateError> {
        let online = tree.cpus(&format!("{CPUS}/online"))?;
        let siblings = |cpu: usize| {
            let of = |name| tree.cpus(&format!("{CPUS}/cpu{cpu}/topology/{name}")).ok();
            let all = of("thread_siblings_list").or_else(|| of("core_cpus_list")).unwrap_or_default();
            let mut all: Vec<usize> = all.into_iter().filter(|c| online.contains(c)).collect();
            if !all.contains(&cpu) {
                all = vec![cpu];
            }
            all
        };
        let package = |cpu| tree.number(&format!("{CPUS}/cpu{cpu}/topology/physical_package_id")).unwrap_or(0);
        let mut cores: BTreeMap<usize, usize> = BTreeMap::new();
        let cpus = online.iter().map(|&cpu| {
            let siblings = siblings(cpu);
            let next = cores.len();
            let core = *cores.entry(siblings[0]).or_insert(next);
            let thread = siblings.iter().position(|c| *c == cpu).unwrap_or(0);
            Cpu { cpu, package: package(cpu) as usize, core, thread }
        });
        Ok(Topology { cpus: cpus.collect() })
    }

    /// As if each of these cpus were a core of its own: for virtual machines whose topology is made up.
    pub fn flat(&self) -> Topology {
        let flat = |(core, cpu): (usize, &Cpu)| Cpu { core, thread: 0, ..cpu.clone() };
        Topology { cpus: self.cpus.iter().enumerate().map(flat).collect() }
    }

    /// Only these cpus, cores and places counted anew.
    ///
    /// # Errors
    /// [`ActuateError::Offline`] for the first that is not there.
    pub fn only(&self, cpus: &[usize]) -> Result<Topology, ActuateError> {
        if let Some(missing) = cpus.iter().find(|c| self.get(**c).is_none()) {
            return Err(ActuateError::Offline(*missing));
        }
        let mut cores: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        let kept = self.cpus.iter().filter(|c| cpus.contains(&c.cpu)).map(|cpu| {
            let next = cores.len();
            let (core, threads) = cores.entry(cpu.core).or_insert((next, 0));
            *threads += 1;
            Cpu { core: *core, thread: *threads - 1, ..cpu.clone() }
        });
        Ok(Topology { cpus: kept.collect() })
    }

    /// All cpus, ascending.
    pub fn cpus(&self) -> &[Cpu] {
        &self.cpus
    }

    /// One of them.
    pub fn get(&self, cpu: usize) -> Option<&Cpu> {
        self.cpus.iter().find(|c| c.cpu == cpu)
    }

    /// How many cores there are.
    pub fn cores(&self) -> usize {
        self.cpus.iter().map(|c| c.core + 1).max().unwrap_or(0)
    }

    /// How many hardware threads the core with the most has.
    pub fn threads(&self) -> usize {
        self.cpus.iter().map(|c| c.thread + 1).max().unwrap_or(0)
    }

    /// How many packages there are.
    pub fn packages(&self) -> usize {
        let mut packages: Vec<usize> = self.cpus.iter().map(|c| c.package).collect();
        packages.sort_unstable();
        packages.dedup();
        packages.len()
    }

    /// The cpus that a configuration of `cores` cores with `threads` hardware threads each uses: first threads first. Fewer where the machine has fewer.
    pub fn in_use(&self, cores: usize, threads: usize) -> Vec<usize> {
        let mut chosen: Vec<&Cpu> = self.cpus.iter().filter(|c| c.core < cores && c.thread < threads).collect();
        chosen.sort_by_key(|c| (c.thread, c.core));
        chosen.iter().map(|c| c.cpu).collect()
    }
}

impl std::fmt::Display for Topology {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all: Vec<usize> = self.cpus.iter().map(|c| c.cpu).collect();
        let (cpus, cores, packages) = (show_cpus(&all), self.cores(), self.packages());
        write!(f, "cpus {cpus}: {cores} core(s) of {} hardware thread(s), {packages} package(s)", self.threads())
    }
}
