//! What an interrupt costs who sends it and who gets it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;

use anyhow::{Result, anyhow};
use sys::clock;
use sys::interrupt::Receiver;
use units::Nanos;

use super::Meter;
use crate::stats::median;

/// The time from one interrupt to the next.
const EVERY: Nanos = Nanos::from_micros(50);
/// Interrupts that are measured at most.
const MOST: usize = 20_000;
/// Interrupts that are sent at most, once the time is over, until one was measured at both ends: on a busy machine most find a thread that is not
/// running.
const TRIES: usize = 100_000;
/// The first so many find cold caches.
const COLD: usize = 20;
/// What takes longer was something else.
const TOO_LONG: Nanos = Nanos::from_micros(200);

/// What was measured, one by one, in nanoseconds.
#[derive(Default)]
pub(super) struct Interrupts {
    pub(super) send: Vec<f64>,
    pub(super) lost: Vec<f64>,
}

/// Interrupts a thread that computes on the second core from the first, on which the caller is, until the meter says that it is enough.
///
/// # Errors
/// The core is not ours; nothing came.
pub(super) fn measure(cores: (usize, usize), meter: &Meter) -> Result<Interrupts> {
    let (tell, told) = mpsc::channel();
    let (over, measured) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut all = Interrupts::default();
    thread::scope(|scope| -> Result<()> {
        let (over, measured) = (&over, &measured);
        let computing = scope.spawn(move || -> Result<Vec<f64>> {
            sys::thread::pin(cores.1)?;
            let hits = Arc::new(AtomicU64::new(0));
            let counted = hits.clone();
            let receiver = Receiver::install(Box::new(move || {
                counted.fetch_add(1, Relaxed);
            }))?;
            let _ = tell.send(receiver.line());
            Ok(compute(&hits, over, measured))
        });
        // An error of the other thread closes the channel.
        if let Ok(line) = told.recv() {
            let mut next = clock::now() + EVERY;
            for tries in 0.. {
                let lacks = all.send.is_empty() || !measured.load(Relaxed);
                let enough = all.send.len() >= MOST || meter.is_over();
                if enough && (!lacks || tries >= TRIES) || sys::stop::requested() {
                    break;
                }
                while clock::now() < next {}
                let before = clock::now();
                let sent = line.raise();
                let took = clock::now() - before;
                next = clock::now() + EVERY;
                if sent && took < TOO_LONG {
                    all.send.push(took.0 as f64);
                }
            }
        }
        over.store(true, Relaxed);
        all.lost = computing.join().map_err(|_| anyhow!("the interrupted thread panicked"))??;
        Ok(())
    })?;
    for of in [&mut all.send, &mut all.lost] {
        of.drain(..COLD.min(of.len() / 2));
    }
    if all.send.is_empty() || all.lost.is_empty() {
        return Err(anyhow!("no interrupt came through: signals to a thread of this very process fail here"));
    }
    Ok(all)
}

/// Computes, reading the clock all the time, until it is over; returns for each interrupt how much longer than usual it took from one reading to the
/// next. Says so when there is a first one.
fn compute(hits: &AtomicU64, over: &AtomicBool, measured: &AtomicBool) -> Vec<f64> {
    let (mut lost, mut usual) = (Vec::with_capacity(MOST), Vec::with_capacity(1024));
    let (mut last, mut seen) = (clock::now(), 0);
    while !over.load(Relaxed) {
        let now = clock::now();
        let hit = hits.load(Relaxed);
        if hit == seen {
            if usual.len() < 1024 {
                usual.push((now - last).0 as f64);
            }
            last = now;
            continue;
        }
        // It came before this reading, or just after it.
        let after = clock::now();
        let gap = (now - last).max(after - now);
        if hit == seen + 1 && gap < TOO_LONG && lost.len() < MOST {
            lost.push(gap.0 as f64);
            measured.store(true, Relaxed);
        }
        (seen, last) = (hit, clock::now());
    }
    let usual = median(usual);
    lost.iter().map(|gap| (gap - usual).max(0.0)).collect()
}
