//! A directory that looks like `/`.

#![allow(dead_code, reason = "each test file uses some of it")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use actuate::Tree;

/// Files below a directory of its own, gone with the value.
pub(crate) struct Fake {
    pub(crate) root: PathBuf,
}

impl Fake {
    pub(crate) fn new(files: &[(&str, &str)]) -> Fake {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("zygix-actuate-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let fake = Fake { root: std::env::temp_dir().join(name) };
        std::fs::create_dir_all(&fake.root).unwrap();
        for (path, text) in files {
            fake.put(path, text);
        }
        fake
    }

    pub(crate) fn tree(&self) -> Tree {
        Tree::fake(&self.root)
    }

    pub(crate) fn put(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("{text}\n")).unwrap();
    }

    /// A file that not even root may write.
    pub(crate) fn read_only(&self, path: &str) {
        let _ = std::fs::remove_file(self.root.join(path));
        std::os::unix::fs::symlink("/proc/sys/kernel/ostype", self.root.join(path)).unwrap();
    }

    pub(crate) fn get(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.join(path)).unwrap().trim().to_owned()
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// All files with their texts.
    pub(crate) fn all(&self) -> Vec<(PathBuf, String)> {
        let mut found = Vec::new();
        let mut todo = vec![self.root.clone()];
        while let Some(dir) = todo.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    todo.push(path);
                } else {
                    let text = std::fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
                    found.push((path, text));
                }
            }
        }
        found.sort();
        found
    }

    /// Cpus with these siblings and packages.
    pub(crate) fn cpus(&self, online: &str, siblings: &[(usize, &str, &str)]) {
        self.put("sys/devices/system/cpu/online", online);
        for (cpu, list, package) in siblings {
            let dir = format!("sys/devices/system/cpu/cpu{cpu}/topology");
            self.put(&format!("{dir}/thread_siblings_list"), list);
            self.put(&format!("{dir}/physical_package_id"), package);
        }
    }

    /// A cpufreq policy of acpi-cpufreq: steps of the thesis's machine, turbo by the nominal clock and a MHz.
    pub(crate) fn acpi(&self, policy: usize, cpus: &str) {
        let dir = format!("sys/devices/system/cpu/cpufreq/policy{policy}");
        for (file, text) in [
            ("related_cpus", cpus),
            ("scaling_driver", "acpi-cpufreq"),
            ("scaling_available_governors", "conservative ondemand userspace powersave performance"),
            ("scaling_available_frequencies", "2401000 2400000 1800000 1200000"),
            ("scaling_governor", "ondemand"),
            ("scaling_setspeed", "<unsupported>"),
            ("cpuinfo_min_freq", "1200000"),
            ("cpuinfo_max_freq", "2401000"),
            ("scaling_min_freq", "1200000"),
            ("scaling_max_freq", "2401000"),
            ("scaling_cur_freq", "1800000"),
        ] {
            self.put(&format!("{dir}/{file}"), text);
        }
    }

    /// One of intel_pstate.
    pub(crate) fn pstate(&self, policy: usize, cpus: &str) {
        let dir = format!("sys/devices/system/cpu/cpufreq/policy{policy}");
        for (file, text) in [
            ("related_cpus", cpus),
            ("scaling_driver", "intel_pstate"),
            ("scaling_available_governors", "performance powersave"),
            ("scaling_governor", "powersave"),
            ("scaling_setspeed", "<unsupported>"),
            ("base_frequency", "2000000"),
            ("cpuinfo_min_freq", "800000"),
            ("cpuinfo_max_freq", "3500000"),
            ("scaling_min_freq", "800000"),
            ("scaling_max_freq", "3500000"),
        ] {
            self.put(&format!("{dir}/{file}"), text);
        }
        self.put("sys/devices/system/cpu/intel_pstate/no_turbo", "0");
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}
