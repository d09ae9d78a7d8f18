use draw::Arrivals;
use hdrhistogram::Histogram;
use units::Nanos;

use crate::outcome::{Outcome, Slice, histogram, record};

/// Slices of one window, at most: beyond, they are made longer. A histogram takes about 100 KB.
pub(crate) const MAX: usize = 300;

/// Requests never made that are counted one by one.
const COUNTED: usize = 1 << 18;

/// Latencies by the time at which the requests were meant. All memory is reserved and touched before the window.
#[derive(Debug)]
pub(crate) struct Slices {
    opens: Nanos,
    length: Nanos,
    /// The slice that was asked for last, and its beginning from that of the window: mostly the one that is asked for next.
    last: (usize, Nanos),
    cells: Vec<Cell>,
}

/// One slice while it is being filled.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) latency: Histogram<u32>,
    pub(crate) probe: Option<Histogram<u32>>,
    pub(crate) offered: u64,
    pub(crate) completed: u64,
    pub(crate) answered: u64,
    pub(crate) errors: u64,
}

impl Cell {
    fn new(probe: bool) -> Cell {
        let made = || {
            let mut h = Histogram::new_with_bounds(1, 64_000_000_000, 3).expect("valid bounds");
            // Writes every page, so that none is missing when time is short.
            h.reset();
            h
        };
        Cell { latency: made(), probe: probe.then(made), offered: 0, completed: 0, answered: 0, errors: 0 }
    }
}

impl Slices {
    /// Of the window that opens at `opens` and lasts `window`, `length` each.
    pub(crate) fn new(opens: Nanos, window: Nanos, length: Nanos, probe: bool) -> Slices {
        let least = window.0.div_ceil(MAX as u64).max(1);
        let length = Nanos(length.0.max(least).min(window.0.max(1)));
        let count = window.0.div_ceil(length.0).max(1) as usize;
        Slices { opens, length, last: (0, Nanos::ZERO), cells: (0..count).map(|_| Cell::new(probe)).collect() }
    }

    /// The slice that `at` is in, if it is in the window.
    #[inline]
    pub(crate) fn at(&mut self, at: Nanos) -> Option<&mut Cell> {
        if at < self.opens {
            return None;
        }
        let at = at - self.opens;
        let (_, begin) = self.last;
        // A look spares a division, mostly.
        if at < begin || at - begin >= self.length {
            let index = at.0 / self.length.0;
            self.last = (index as usize, Nanos(index * self.length.0));
        }
        self.cells.get_mut(self.last.0)
    }

    /// Lets the window open at `opens`. For slices in which nothing has been counted yet.
    pub(crate) fn open_at(&mut self, opens: Nanos) {
        self.opens = opens;
    }

    /// Counts the arrivals before `closes` that nobody has made as meant and not answered, and returns how many there were: to the
    /// number for as long as that takes no time to speak of, beyond by the mean rate (per second).
    pub(crate) fn owe_rest(&mut self, arrivals: &mut Arrivals, closes: Nanos, rate: f64) -> u64 {
        let mut owed = 0;
        for _ in 0..COUNTED {
            let since = arrivals.peek();
            if since >= closes {
                return owed;
            }
            arrivals.next();
            owed += 1;
            if let Some(cell) = self.at(since) {
                cell.offered += 1;
                cell.errors += 1;
            }
        }
        owed + self.owe(arrivals.peek(), closes, rate / 1e9)
    }

    /// Counts `per_ns` requests for each nanosecond of `[from, to)` as meant and not answered. Returns how many those in slices were.
    fn owe(&mut self, from: Nanos, to: Nanos, per_ns: f64) -> u64 {
        let (opens, length) = (self.opens, self.length);
        let mut sum = 0;
        for (i, cell) in (0..).zip(&mut self.cells) {
            let begin = opens + Nanos(length.0 * i);
            let span = to.min(begin + length) - from.max(begin);
            let owed = (span.0 as f64 * per_ns).round() as u64;
            cell.offered += owed;
            cell.errors += owed;
            sum += owed;
        }
        sum
    }

    /// Puts the slices up to the end of the `window`, which may have been cut short, into `into`.
    pub(crate) fn finish(self, window: Nanos, keep: bool, into: &mut Outcome) {
        for (i, cell) in self.cells.into_iter().enumerate() {
            let at = Nanos(self.length.0 * i as u64);
            if at >= window {
                break;
            }
            let slice = cell.finish(at, self.length.min(window - at), keep, into);
            into.slices.push(slice);
        }
    }
}

impl Cell {
    fn finish(self, at: Nanos, length: Nanos, keep: bool, sum: &mut Outcome) -> Slice {
        let latency = widen(&self.latency, &mut sum.latency, keep);
        let probe = self.probe.as_ref().and_then(|p| widen(p, &mut sum.probe, keep));
        sum.offered += self.offered;
        sum.completed += self.completed;
        sum.answered_in_window += self.answered;
        let quantile = |q| Nanos(self.latency.value_at_quantile(q));
        Slice {
            at,
            length,
            offered: self.offered,
            completed: self.completed,
            answered: self.answered,
            errors: self.errors,
            p50: quantile(0.5),
            p99: quantile(0.99),
            max: Nanos(self.latency.max()),
            probe_p99: Nanos(self.probe.as_ref().map_or(0, |p| p.value_at_quantile(0.99))),
            latency,
            probe,
        }
    }

    #[inline]
    pub(crate) fn done(&mut self, latency: Nanos, probe: bool) {
        match &mut self.probe {
            Some(h) if probe => record(h, latency),
            _ => {
                self.completed += 1;
                record(&mut self.latency, latency);
            }
        }
    }
}

/// Adds a slice's histogram to the whole, and makes a copy of its own if it is to be kept.
fn widen(h: &Histogram<u32>, sum: &mut Histogram<u64>, keep: bool) -> Option<Histogram<u64>> {
    let mut own = keep.then(histogram);
    for v in h.iter_recorded() {
        let (value, count) = (v.value_iterated_to(), u64::from(v.count_at_value()));
        sum.saturating_record_n(value, count);
        own.as_mut().into_iter().for_each(|own| own.saturating_record_n(value, count));
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_cover_the_window_and_nothing_else() {
        let mut s = Slices::new(Nanos(1000), Nanos(250), Nanos(100), false);
        assert!(s.at(Nanos(999)).is_none() && s.at(Nanos(1300)).is_none());
        s.at(Nanos(1000)).unwrap().offered += 1;
        s.at(Nanos(1249)).unwrap().done(Nanos(7), false);
        let mut sum = Outcome::new(Nanos(250), true);
        s.finish(Nanos(250), false, &mut sum);
        let lengths: Vec<u64> = sum.slices.iter().map(|s| s.length.0).collect();
        assert_eq!((lengths, sum.offered, sum.completed), (vec![100, 100, 50], 1, 1));
        assert_eq!((sum.slices[2].max, sum.latency.max()), (Nanos(7), 7));
    }

    #[test]
    fn there_are_never_too_many() {
        let s = Slices::new(Nanos::ZERO, Nanos::from_secs(3600), Nanos(1), false);
        assert!(s.cells.len() <= MAX && s.length.0 * s.cells.len() as u64 >= 3_600_000_000_000);
    }
}
