//! Where a run takes place: the machine, and the commit.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::doc::Machine;

impl Machine {
    /// This machine, from `/proc` and `/sys`. What the kernel does not tell stays empty; nothing fails.
    pub fn here() -> Machine {
        let cpuinfo = read("/proc/cpuinfo");
        let flags = field(&cpuinfo, "flags").unwrap_or_default();
        let in_guest = flags.split_whitespace().any(|flag| flag == "hypervisor");
        let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").trim().to_string();
        Machine {
            // Processors other than x86 have no "model name".
            cpu: field(&cpuinfo, "model name").or_else(|| field(&cpuinfo, "Model")).unwrap_or_default(),
            cores: cpuinfo.lines().filter(|line| line.starts_with("processor")).count() as u32,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_string(),
            memory_gb: memory_gb(&read("/proc/meminfo")),
            hypervisor: hypervisor(in_guest),
            governor: (!governor.is_empty()).then_some(governor),
        }
    }
}

/// The commit of the source tree that this program was built in, or that it runs in, as `git describe --always --dirty` says it; `unknown`
/// where there is neither. Another project's repository does not count.
pub fn commit() -> String {
    let built = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf));
    let candidates = [built, std::env::current_dir().ok()];
    candidates.into_iter().flatten().find_map(|at| describe(&at)).unwrap_or_else(|| "unknown".to_string())
}

fn describe(at: &Path) -> Option<String> {
    let top = PathBuf::from(git(at, &["rev-parse", "--show-toplevel"])?);
    top.join("tools/report/Cargo.toml").exists().then(|| git(&top, &["describe", "--always", "--dirty"])).flatten()
}

fn git(at: &Path, args: &[&str]) -> Option<String> {
    let out = Command::new("git").arg("-C").arg(at).args(args).output().ok()?;
    let text = String::from_utf8_lossy(&out.stdout).trim().to_string();
    (out.status.success() && !text.is_empty()).then_some(text)
}

fn read(path: &str) -> String {
    read_to_string(path).unwrap_or_default()
}

/// The value of the first line `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_string())
    })
}

fn memory_gb(meminfo: &str) -> f64 {
    let total = field(meminfo, "MemTotal").unwrap_or_default();
    let kib: f64 = total.trim_end_matches("kB").trim().parse().unwrap_or(f64::NAN);
    (kib / 1024.0 / 1024.0 * 10.0).round() / 10.0
}

/// What the firmware's tables call the machine, when the processor says that it is a virtual one.
fn hypervisor(in_guest: bool) -> Option<String> {
    let kind = read("/sys/hypervisor/type").trim().to_string();
    if !kind.is_empty() {
        return Some(kind);
    }
    if !in_guest {
        return None;
    }
    let words =
        ["sys_vendor", "product_name"].map(|name| read(&format!("/sys/class/dmi/id/{name}")).trim().to_string());
    let name = words.iter().filter(|word| !word.is_empty()).cloned().collect::<Vec<_>>().join(" ");
    Some(if name.is_empty() { "unnamed".to_string() } else { name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_memory_are_read() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU @ 2.00GHz\nflags\t\t: fpu hypervisor\n";
        assert_eq!(field(cpuinfo, "model name").as_deref(), Some("Some CPU @ 2.00GHz"));
        assert_eq!(field(cpuinfo, "name"), None);
        assert_eq!(memory_gb("MemTotal:       16384000 kB\n"), 15.6);
        assert!(memory_gb("").is_nan());
    }

    #[test]
    fn this_machine_has_cores_and_a_kernel() {
        let machine = Machine::here();
        assert!(machine.cores >= 1);
        assert!(!machine.kernel.is_empty());
    }
}
