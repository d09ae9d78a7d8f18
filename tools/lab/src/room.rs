use anyhow::Result;
use load::requests::Workload;
use load::{Load, Pace, Place, Spec, Window};
use report::{Document, Machine};
use sys::clock;
use units::Nanos;

use crate::account::Accounting;
use crate::measure::{self, Point};
use crate::net::{Link, Net};
use crate::noise::{Noise, Question, Steal};
use crate::progress::Progress;
use crate::server::Server;
use crate::stack::{Serving, Stack};

/// How long a window waits for late replies.
const PATIENCE: Nanos = Nanos::from_secs(1);

/// Everything that a bench needs to measure: namespaces, cores, the way to account, and a memory for noise.
///
/// ```text
///   let lab = Lab::build("bench")?;               before any thread is started
///   let mut server = lab.serve(&Serving { .. })?;
///   let mut load = lab.connect(&server, workload, 100, 4)?;
///   let point = lab.measure(&mut load, &mut server, Pace::poisson(1e5), Nanos::from_secs(2))?;
///   let document = lab.document(..)
/// ```
pub struct Lab {
    /// Where servers and load live.
    pub net: Net,
    /// Cores, and how the kernel bills.
    pub accounting: Accounting,
    /// What is going on.
    pub progress: Progress,
    /// Sentences that a reader of the figures must know; they end up in the document.
    pub notes: Vec<String>,
    /// The Linux stack in Zygix's place: what the method shows when there is no difference.
    pub null: bool,
    /// Of all windows so far.
    pub noise: Noise,
    steal: Steal,
    started: String,
    links: Vec<Link>,
}

/// A running server with its address.
pub struct Contender {
    /// How it was started.
    pub serving: Serving,
    /// Its process.
    pub server: Server,
}

impl Lab {
    /// Makes the namespaces, tunes the servers' one, and finds out about the machine. The process must have one thread still.
    /// `who` needs all this, for complaints.
    ///
    /// # Errors
    /// Neither root nor a user namespace is to be had; /proc is not mounted.
    pub fn build(who: &str) -> Result<Lab> {
        let net = Net::build(who)?;
        let mut notes = net.tune()?;
        let accounting = Accounting::here()?;
        if accounting.shared() {
            notes.push(
                "One core for everything: the kernel's receive work cannot be told apart and is left out.".into(),
            );
        }
        if net.unprivileged {
            notes.push("Without root: in a user namespace, where the kernel refuses to steer frames (bpf).".into());
        }
        Ok(Lab {
            net,
            accounting,
            progress: Progress::new(who),
            notes,
            null: false,
            noise: Noise::default(),
            steal: Steal::start()?,
            started: utc(clock::wall()),
            links: Vec::new(),
        })
    }

    /// Starts a server. The veth pair of its link is made when it is first needed, and stays.
    ///
    /// # Errors
    /// Its own complaint, in a line.
    pub fn serve(&mut self, serving: &Serving) -> Result<Contender> {
        let mut started = serving.clone();
        if self.null && started.stack == Stack::Zygix {
            started.stack = Stack::LinuxPartitioned;
        }
        if started.stack != Stack::Zygix && !self.links.contains(&started.link) {
            self.net.veth(started.link)?;
            self.links.push(started.link);
        }
        let server = started.start(&self.net)?;
        Ok(Contender { serving: serving.clone(), server })
    }

    /// Connects a client on the load's core. It never sleeps while a window runs, unless it shares the server's core.
    ///
    /// # Errors
    /// The load's: refused, out of descriptors.
    pub fn connect(&self, to: &Contender, workload: &Workload, connections: u32, depth: u32) -> Result<Load> {
        let spec = Spec { connections, depth, ..Spec::new(workload.clone(), to.serving.addr()) };
        Load::linux(&spec, &self.place()).map_err(measure::refusal)
    }

    /// Where client threads run.
    pub fn place(&self) -> Place {
        Place { cores: vec![self.accounting.load_core], spin: !self.accounting.shared() }
    }

    /// A window of this length, with the warm-up, the slices and the patience that all benches use.
    pub fn window(pace: Pace, length: Nanos) -> Window {
        let slice = measure::slice_of(length);
        Window { slice, keep: true, patience: PATIENCE, ..Window::new(pace, length) }
    }

    /// How long such a window takes when the server keeps up, its warm-up and the readings of clocks included.
    pub fn takes(length: Nanos) -> Nanos {
        let window = Lab::window(Pace::Closed, length);
        window.warmup + window.window + Nanos::from_millis(30)
    }

    /// One window of load on a server: see [`measure::point`]. Its noise is remembered.
    ///
    /// # Errors
    /// [`Interrupted`](crate::Interrupted); the load's and the server's.
    pub fn measure(&mut self, load: &mut Load, on: &mut Contender, pace: Pace, length: Nanos) -> Result<Point> {
        let window = Lab::window(pace, length);
        let point = measure::point(load, &mut on.server, &self.accounting, &window)?;
        self.noise.add(&point.noise);
        Ok(point)
    }

    /// A document with everything that is known without the result: the machine, the commit, when, how noisy. `questions`
    /// decide whether it was too noisy for them.
    ///
    /// # Errors
    /// /proc is not mounted.
    pub fn document(&self, kind: &str, title: &str, command: &str, questions: &[Question]) -> Result<Document> {
        let stolen_share = self.steal.share()?;
        let mut notes = self.notes.clone();
        if stolen_share > 0.005 {
            let percent = stolen_share * 100.0;
            notes.push(format!("The hypervisor took {percent:.1} % of the machine's time meanwhile: tails show that."));
        }
        Ok(Document {
            kind: kind.into(),
            title: title.into(),
            command: command.into(),
            started: self.started.clone(),
            commit: report::commit(),
            machine: Machine::here(),
            noise: report::Noise {
                slices: self.noise.slices,
                discarded: self.noise.discarded,
                waited_ms: self.noise.waited.0 as f64 / 1e6,
                stolen_share,
                verdict: self.noise.verdict(questions),
            },
            notes,
            ..Document::default()
        })
    }
}

/// An instant since 1970 as people write it: `2026-01-31T12:00:00Z`.
pub fn utc(at: Nanos) -> String {
    let seconds = at.duration().as_secs();
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (mut year, mut day) = (1970, days);
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    let (h, m, s) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year}-{month:02}-{:02}T{h:02}:{m:02}:{s:02}Z", day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_as_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_735_689_600, "2025-01-01T00:00:00Z"),
        ] {
            assert_eq!(utc(Nanos::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_window_takes_longer_than_it_is() {
        for ms in [50, 1000, 60_000] {
            let length = Nanos::from_millis(ms);
            assert!(Lab::takes(length) > length);
            let window = Lab::window(Pace::Closed, length);
            assert!(window.keep && window.slice.0 * 10 <= length.0);
        }
    }
}
