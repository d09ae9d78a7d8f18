use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::ActuateError;

/// Longest text that is read from a file. The kernel's are a page at most, but for lists of processes.
const TEXT_MAX: u64 = 1 << 20;

/// Where the kernel's files are: below `/`, or below a directory that looks like it.
///
/// Paths are written without the leading slash: `sys/devices/system/cpu/online`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// The machine's own.
    pub fn real() -> Tree {
        Tree { root: PathBuf::from("/") }
    }

    /// One of files that somebody has made.
    pub fn fake(root: impl Into<PathBuf>) -> Tree {
        Tree { root: root.into() }
    }

    /// Whether it is the machine's own.
    pub fn is_real(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Where this path is.
    pub fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Whether there is such a file or directory.
    pub fn has(&self, path: &str) -> bool {
        self.at(path).exists()
    }

    /// The text of a file, without white space around it.
    ///
    /// # Errors
    /// Missing, not readable, no text.
    pub fn read(&self, path: &str) -> Result<String, ActuateError> {
        use std::io::Read;
        let wrong = |cause| ActuateError::of(path, None, cause);
        let mut text = String::new();
        let file = fs::File::open(self.at(path)).map_err(wrong)?;
        file.take(TEXT_MAX).read_to_string(&mut text).map_err(wrong)?;
        Ok(text.trim().to_owned())
    }

    /// A file that holds a number.
    ///
    /// # Errors
    /// As [`Tree::read`]; and when it is none.
    pub fn number(&self, path: &str) -> Result<u64, ActuateError> {
        let text = self.read(path)?;
        text.parse().map_err(|_| nonsense(path, &text, "a number"))
    }

    /// A file that holds a list of logical processors, as `0-3,8`.
    ///
    /// # Errors
    /// As [`Tree::read`]; and when it is none.
    pub fn cpus(&self, path: &str) -> Result<Vec<usize>, ActuateError> {
        let text = self.read(path)?;
        parse_cpus(&text).ok_or_else(|| nonsense(path, &text, "a list of cpus"))
    }

    /// Writes to a file that is there, in one call, as the kernel's files want it.
    ///
    /// # Errors
    /// Missing, read-only, busy, refused.
    pub fn write(&self, path: &str, value: &str) -> Result<(), ActuateError> {
        let wrong = |cause| ActuateError::of(path, Some(value), cause);
        let mut file = fs::OpenOptions::new().write(true).truncate(true).open(self.at(path)).map_err(wrong)?;
        file.write_all(value.as_bytes()).map_err(wrong)
    }

    /// The names in a directory, sorted; none where there is no such directory.
    pub fn list(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.at(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
        names.sort();
        names
    }
}

/// `0-3,8` as numbers, ascending and each once; `None` for what is no such list. An empty text is the empty list.
pub fn parse_cpus(text: &str) -> Option<Vec<usize>> {
    /// More than any kernel is built for.
    const CPU_MAX: usize = 1 << 16;
    let mut cpus = Vec::new();
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= CPU_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Some(cpus)
}

/// Numbers as the kernel writes them: `0-3,8`. They may come in any order.
pub fn show_cpus(cpus: &[usize]) -> String {
    let mut sorted = cpus.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for cpu in sorted {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => parts.push((cpu, cpu)),
        }
    }
    let show = |&(a, b): &(usize, usize)| if a == b { a.to_string() } else { format!("{a}-{b}") };
    parts.iter().map(show).collect::<Vec<_>>().join(",")
}

pub(crate) fn nonsense(path: &str, found: &str, wanted: &'static str) -> ActuateError {
    let found = found.chars().take(40).collect::<String>().replace('\n', " ");
    ActuateError::Nonsense { path: path.to_owned(), found, wanted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_read_and_written() {
        for (text, cpus) in [("", vec![]), ("0", vec![0]), ("0-3,8", vec![0, 1, 2, 3, 8]), ("5,4-4", vec![4, 5])] {
            assert_eq!(parse_cpus(text).unwrap(), cpus);
        }
        for wrong in ["x", "3-1", "0-", "-1", "0-99999999", "1;2"] {
            assert_eq!(parse_cpus(wrong), None, "{wrong}");
        }
        assert_eq!(show_cpus(&[8, 0, 1, 3, 2, 1]), "0-3,8");
        assert_eq!(show_cpus(&[]), "");
    }
}
