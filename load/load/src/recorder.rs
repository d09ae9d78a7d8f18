use draw::Arrivals;
use units::Nanos;

use crate::outcome::{Errors, Outcome};
use crate::slices::Slices;

/// One thread's account of a window of open-loop requests that it makes by its own means: what was meant for the window and what
/// became of it, told as it happens.
///
/// The rules are those of this crate's own engine: a request belongs to the slice for which it was *meant*, and its latency counts
/// from then on. All memory is reserved and touched by [`Recorder::new`]; the other calls allocate nothing and take a few tens
/// of nanoseconds. There is no lateness: it is a client's own measure, and whoever makes requests on the server's cores has none.
#[derive(Debug)]
pub struct Recorder {
    opens: Nanos,
    closes: Nanos,
    slices: Slices,
    errors: Errors,
    sent: u64,
    opened: u64,
    /// Each right reply by itself, as far as there is room.
    each: Vec<(Nanos, Nanos)>,
    keep: bool,
    interrupted: bool,
}

impl Recorder {
    /// For a window of length `window`, in slices of `slice` (longer where there would be more than 300), whose histograms are kept
    /// for [`Outcome::without`] and [`Outcome::typical`] if `keep`. It opens at the instant 0 until [`Recorder::open_at`] says otherwise.
    ///
    /// Takes about 100 KB per slice, and the time to write them.
    pub fn new(window: Nanos, slice: Nanos, keep: bool) -> Recorder {
        Recorder {
            opens: Nanos::ZERO,
            closes: window,
            slices: Slices::new(Nanos::ZERO, window, slice, false),
            errors: Errors::default(),
            sent: 0,
            opened: 0,
            each: Vec::new(),
            keep,
            interrupted: false,
        }
    }

    /// Keeps up to `most` right replies one by one, too ([`Outcome::each`]): 16 bytes each, reserved and written now.
    pub fn keep_each(&mut self, most: usize) {
        self.each = vec![(Nanos(1), Nanos(1)); most];
        self.each.clear();
    }

    /// Lets the window open at `opens`. To be called before anything is recorded.
    pub fn open_at(&mut self, opens: Nanos) {
        self.closes = opens + (self.closes - self.opens);
        self.opens = opens;
        self.slices.open_at(opens);
    }

    /// When the window closes.
    pub fn closes(&self) -> Nanos {
        self.closes
    }

    /// What went wrong so far.
    pub fn errors(&self) -> Errors {
        self.errors
    }

    /// Ends the window now, early.
    pub fn cut(&mut self, now: Nanos) {
        self.interrupted = true;
        self.closes = self.closes.min(now.max(self.opens));
    }

    /// A request was meant for `at`. One of the calls below follows when it is known what became of it.
    #[inline]
    pub fn meant(&mut self, at: Nanos) {
        if let Some(cell) = self.slices.at(at) {
            cell.offered += 1;
        }
    }

    /// A request was handed to the transport.
    #[inline]
    pub fn sent(&mut self) {
        self.sent += 1;
    }

    /// The right reply came at `now` to the request meant for `meant`.
    #[inline]
    pub fn right(&mut self, meant: Nanos, now: Nanos) {
        if meant < self.closes
            && let Some(cell) = self.slices.at(meant)
        {
            cell.done(now - meant, false);
            if self.each.len() < self.each.capacity() {
                self.each.push((meant, now - meant));
            }
        }
        if now < self.closes
            && let Some(cell) = self.slices.at(now)
        {
            cell.answered += 1;
        }
    }

    /// Another reply came.
    #[cold]
    pub fn wrong(&mut self, meant: Nanos) {
        self.errors.wrong += 1;
        self.fault(meant);
    }

    /// The connection broke before the reply had come.
    #[cold]
    pub fn lost(&mut self, meant: Nanos) {
        self.errors.lost += 1;
        self.fault(meant);
    }

    /// There will be no reply: patience has ended, or there was no room to wait in. What an early end cut off is nobody's fault and
    /// does not count.
    #[cold]
    pub fn unanswered(&mut self, meant: Nanos) {
        if !self.interrupted {
            self.errors.unanswered += 1;
            self.fault(meant);
        }
    }

    /// A connection broke.
    #[cold]
    pub fn broken(&mut self) {
        self.errors.broken += 1;
    }

    /// A connection could not be opened.
    #[cold]
    pub fn refused(&mut self) {
        self.errors.refused += 1;
    }

    /// A connection opened at `now`.
    #[cold]
    pub fn opened(&mut self, now: Nanos) {
        self.opened += u64::from(now >= self.opens && now < self.closes);
    }

    /// Counts the `arrivals` before the end of the window that were never made as meant and unanswered; those beyond a quarter of a
    /// million by their mean `rate` (per second). Not after an early end.
    pub fn owe(&mut self, arrivals: &mut Arrivals, rate: f64) {
        if !self.interrupted {
            self.errors.unanswered += self.slices.owe_rest(arrivals, self.closes, rate);
        }
    }

    /// What it came to. CPU time is left at zero.
    pub fn finish(self) -> Outcome {
        let window = self.closes - self.opens;
        let mut outcome = Outcome::new(window, true);
        outcome.sent = self.sent;
        outcome.errors = self.errors;
        outcome.opened = self.opened;
        outcome.interrupted = self.interrupted;
        outcome.each = self.each;
        self.slices.finish(window, self.keep, &mut outcome);
        outcome
    }

    fn fault(&mut self, meant: Nanos) {
        if let Some(cell) = self.slices.at(meant) {
            cell.errors += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use draw::{Gaps, Pattern, Purpose, stream};

    #[test]
    fn a_request_counts_where_it_was_meant_and_its_reply_where_it_came() {
        let mut r = Recorder::new(Nanos(1000), Nanos(500), true);
        r.keep_each(1);
        r.open_at(Nanos(10_000));
        for at in [9_999, 10_100, 10_900] {
            r.meant(Nanos(at));
        }
        r.right(Nanos(9_999), Nanos(10_001));
        r.right(Nanos(10_100), Nanos(10_700));
        r.right(Nanos(10_900), Nanos(11_900));
        let o = r.finish();
        assert_eq!(o.each, [(Nanos(10_100), Nanos(600))], "there was room for one");
        assert_eq!((o.offered, o.completed, o.answered_in_window), (2, 2, 2));
        assert_eq!((o.latency.max(), o.slices[0].p50, o.slices[0].answered), (1000, Nanos(600), 1));
        assert!(o.lateness.is_empty() && o.held == 0 && o.open_loop);
    }

    #[test]
    fn each_kind_of_error_is_counted_and_charged_to_its_slice() {
        let mut r = Recorder::new(Nanos(100), Nanos(100), false);
        r.wrong(Nanos(1));
        r.lost(Nanos(2));
        r.unanswered(Nanos(3));
        r.broken();
        r.refused();
        let o = r.finish();
        assert_eq!(o.errors, Errors { wrong: 1, lost: 1, broken: 1, unanswered: 1, refused: 1 });
        assert_eq!(o.slices[0].errors, 3);
    }

    #[test]
    fn what_was_never_made_is_owed_unless_the_end_came_early() {
        let (gaps, pattern) = (Gaps::fixed(), Pattern::constant(1e6));
        let span = Nanos::from_secs(1);
        let arrivals = || Arrivals::new(&gaps, &pattern, 1.0, Nanos::ZERO, span, stream(1, 0, Purpose::Arrivals));
        let mut r = Recorder::new(span, span, false);
        r.owe(&mut arrivals(), 1e6);
        let owed = r.errors().unanswered;
        assert!(owed.abs_diff(1_000_000) < 10, "{owed}");
        let mut r = Recorder::new(span, span, false);
        r.cut(Nanos::from_millis(1));
        r.owe(&mut arrivals(), 1e6);
        assert_eq!((r.errors().unanswered, r.finish().interrupted), (0, true));
    }
}
