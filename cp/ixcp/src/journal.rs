use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Events that are kept in memory.
const KEPT: usize = 500;

/// What kind of thing has happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// More was given to a dataplane.
    Up,
    /// Something was taken from it.
    Down,
    /// Flow groups were moved so that its cores are even.
    Balance,
    /// It was attached to.
    Attached,
    /// It has ended, or is not there.
    Gone,
    /// A second in which it missed its objective.
    Violation,
    /// Application code has held a core for more than 10 ms.
    NonResponsive,
    /// Something could not be done.
    Trouble,
    /// Something about this machine, or the start and the end of the control plane.
    Note,
}

/// Something that has happened.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// When: milliseconds since 1970.
    pub at_ms: u64,
    /// To which dataplane; empty: to the machine.
    pub dataplane: String,
    /// What kind.
    pub kind: Kind,
    /// The configuration from here on; empty if it did not change.
    pub step: String,
    /// What and why, in a line.
    pub text: String,
}

/// Decisions and events: the last ones in memory, all of them in a file if there is one, a JSON object per line.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    kept: VecDeque<Event>,
    file: Option<File>,
    /// Lines that could not be written.
    lost: u64,
    /// Tells of each event on standard output.
    aloud: bool,
}

impl Journal {
    /// Appends to `path`.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn open(path: Option<&Path>, aloud: bool) -> std::io::Result<Journal> {
        let open = |path: &Path| OpenOptions::new().create(true).append(true).open(path);
        Ok(Journal { file: path.map(open).transpose()?, aloud, ..Journal::default() })
    }

    pub(crate) fn add(&mut self, dataplane: &str, kind: Kind, step: &str, text: impl Into<String>) {
        let (dataplane, step) = (dataplane.to_owned(), step.to_owned());
        let at_ms = sys::clock::wall().0 / 1_000_000;
        let event = Event { at_ms, dataplane, kind, step, text: text.into() };
        if let Some(file) = &mut self.file {
            let line = serde_json::to_string(&event).unwrap_or_default() + "\n";
            // A full disk does not keep anybody from deciding.
            self.lost += u64::from(file.write_all(line.as_bytes()).is_err());
        }
        if self.aloud {
            let _ = writeln!(std::io::stdout(), "{event}");
        }
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(event);
    }

    /// The last ones, oldest first.
    pub(crate) fn kept(&self) -> impl Iterator<Item = &Event> {
        self.kept.iter()
    }

    /// Lines that could not be written to the file.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.at_ms / 1000 % 86_400;
        let (h, m, s, ms) = (seconds / 3600, seconds / 60 % 60, seconds % 60, self.at_ms % 1000);
        write!(f, "{h:02}:{m:02}:{s:02}.{ms:03} ")?;
        if !self.dataplane.is_empty() {
            write!(f, "{}: ", self.dataplane)?;
        }
        f.write_str(self.kind.word())?;
        if !self.step.is_empty() {
            write!(f, " to {}", self.step)?;
        }
        write!(f, ": {}", self.text)
    }
}

impl Kind {
    /// As people are told.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Up => "up",
            Kind::Down => "down",
            Kind::Balance => "balance",
            Kind::Attached => "attached",
            Kind::Gone => "gone",
            Kind::Violation => "SLO missed",
            Kind::NonResponsive => "non-responsive",
            Kind::Trouble => "trouble",
            Kind::Note => "note",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_in_the_file_and_the_last_of_it_in_memory() {
        let path = std::env::temp_dir().join(format!("zygix-journal-{}.jsonl", std::process::id()));
        let mut journal = Journal::open(Some(&path), false).unwrap();
        for i in 0..=KEPT {
            journal.add("kv", Kind::Up, "2 cores", format!("reason {i}"));
        }
        let kept: Vec<_> = journal.kept().collect();
        assert_eq!((kept.len(), kept[0].text.as_str()), (KEPT, "reason 1"));
        let text = std::fs::read_to_string(&path).unwrap();
        let first: Event = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!((text.lines().count(), first.text.as_str(), first.kind), (KEPT + 1, "reason 0", Kind::Up));
        assert!(first.to_string().ends_with(" kv: up to 2 cores: reason 0"), "{first}");
        std::fs::remove_file(path).unwrap();
        assert!(Journal::open(Some(Path::new("/nonexistent/x")), false).is_err());
    }

    #[test]
    fn a_full_disk_is_counted_and_no_more() {
        let mut journal = Journal::open(Some(Path::new("/dev/full")), false).unwrap();
        journal.add("", Kind::Note, "", "x");
        assert_eq!((journal.lost(), journal.kept().count()), (1, 1));
    }
}
