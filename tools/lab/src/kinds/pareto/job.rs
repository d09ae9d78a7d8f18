use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::sync_channel;
use std::thread::{Builder, JoinHandle};

use anyhow::{Context, Result};
use spin::Work;
use units::Nanos;

/// What is counted at a time.
const PIECE: Nanos = Nanos::from_micros(20);

/// A background job: a thread on each of some cpus that does nothing but count.
pub(super) struct Job {
    stop: Arc<AtomicBool>,
    /// Work done, in nanoseconds as it was measured: of one cpu alone, a second of it takes a second.
    done: Vec<Arc<AtomicU64>>,
    threads: Vec<JoinHandle<()>>,
}

impl Job {
    /// Starts it. Without cpus it does nothing.
    ///
    /// # Errors
    /// A thread cannot be had, or not there.
    pub(super) fn start(cpus: &[usize], work: Work) -> Result<Job> {
        let mut job = Job { stop: Arc::default(), done: Vec::new(), threads: Vec::new() };
        for &cpu in cpus {
            let (stop, done) = (job.stop.clone(), Arc::<AtomicU64>::default());
            job.done.push(done.clone());
            let (placed, is_placed) = sync_channel(1);
            let run = move || {
                let at = sys::thread::pin(cpu);
                let goes = at.is_ok();
                let _ = placed.send(at);
                while goes && !stop.load(Relaxed) {
                    done.fetch_add(work.spend(PIECE).0, Relaxed);
                }
            };
            let thread = Builder::new().name(format!("background-{cpu}")).spawn(run);
            job.threads.push(thread.context("no thread for a background job")?);
            is_placed.recv().context("a background job has ended")??;
        }
        Ok(job)
    }

    /// All that it has done so far.
    pub(super) fn done(&self) -> Nanos {
        Nanos(self.done.iter().map(|done| done.load(Relaxed)).sum())
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_while_it_lives_and_needs_a_cpu() {
        let cpu = sys::thread::allowed_cores().unwrap()[0];
        let job = Job::start(&[cpu], Work::measured()).unwrap();
        while job.done() == Nanos::ZERO {
            std::thread::yield_now();
        }
        drop(job);
        assert!(Job::start(&[4095], Work::measured()).is_err());
        assert_eq!(Job::start(&[], Work::measured()).unwrap().done(), Nanos::ZERO);
    }
}
