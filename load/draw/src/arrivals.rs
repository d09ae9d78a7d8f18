//! When one thread's requests leave: a renewal process whose unit-mean gaps are stretched by the integrated rate.
//!
//! Called once a request from the load generator's loop. The work is a draw and a division, and a square root where the rate slopes. A piece
//! of the pattern without arrivals is skipped as a whole; a run has no more pieces than milliseconds, and each is visited once.

use crate::gaps::Gaps;
use crate::pattern::{Pattern, Piece};
use crate::stream::Rng;
use units::Nanos;

/// One thread's arrivals in a run, ascending. The process is stationary: it does not begin with an arrival, and threads with `fixed` gaps
/// are out of step with one another.
///
/// Threads that share a rate superpose their processes. Poisson processes add up to one; any other shape comes out the nearer to Poisson,
/// the more threads there are (Palm and Khinchin). Who wants exactly the shape uses one thread.
#[derive(Clone, Debug)]
pub struct Arrivals {
    gaps: Gaps,
    pattern: Pattern,
    rng: Rng,
    /// The place in a trace of gaps.
    state: usize,
    share: f64,
    start: Nanos,
    span: u64,
    /// The straight piece of the pattern that holds the next arrival.
    line: Line,
    /// Where the next arrival is, in nanoseconds from the piece's start.
    offset: f64,
    next: Nanos,
}

/// A [`Piece`] as this thread needs it: in its share of the rate, and in arrivals a nanosecond.
#[derive(Clone, Copy, Debug)]
struct Line {
    /// From the run's start, in nanoseconds.
    start: u64,
    /// Not behind the run's end.
    length: f64,
    end: u64,
    rate: f64,
    /// The change of `rate` in a nanosecond.
    slope: f64,
}

impl Line {
    fn new(piece: Piece, share: f64, span: u64) -> Line {
        let slope = (piece.to - piece.from) / (piece.end - piece.start) as f64;
        let end = piece.end.min(span);
        Line {
            start: piece.start,
            length: (end - piece.start) as f64,
            end,
            rate: piece.from * share / 1e9,
            slope: slope * share / 1e9,
        }
    }

    /// How far behind `offset` the integrated rate has grown by `mass`, or what is left of `mass` at the end of the piece.
    fn advance(&self, offset: f64, mass: f64) -> Result<f64, f64> {
        let left = self.length - offset;
        if self.slope == 0.0 {
            let ahead = mass / self.rate;
            // Also false when both are 0.
            return if ahead < left { Ok(offset + ahead) } else { Err(mass - left * self.rate) };
        }
        let now = self.rate + self.slope * offset;
        let whole = (now + self.slope * left / 2.0) * left;
        if mass >= whole {
            return Err(mass - whole);
        }
        if mass <= 0.0 {
            return Ok(offset);
        }
        // The root of now x + slope x^2 / 2 = mass in the form that does not cancel.
        let ahead = 2.0 * mass / (now + (now * now + 2.0 * self.slope * mass).max(0.0).sqrt());
        Ok(offset + ahead.min(left))
    }
}

impl Arrivals {
    /// The arrivals of a thread that carries `share` of `pattern` (0.25: a quarter of every rate) from `start` on for `span`. A share that
    /// is not positive and finite has no arrivals.
    pub fn new(gaps: &Gaps, pattern: &Pattern, share: f64, start: Nanos, span: Nanos, mut rng: Rng) -> Arrivals {
        let mut state = 0;
        let first = gaps.first(&mut state, &mut rng);
        let share = if share.is_finite() { share.max(0.0) } else { 0.0 };
        let line = Line::new(pattern.piece(0, span.0), share, span.0);
        let (gaps, pattern) = (gaps.clone(), pattern.clone());
        let mut arrivals =
            Arrivals { gaps, pattern, rng, state, share, start, span: span.0, line, offset: 0.0, next: Nanos::MAX };
        if span.0 != 0 && share > 0.0 {
            arrivals.advance(first);
        }
        arrivals
    }

    /// The next arrival, on the clock of `start`; [`Nanos::MAX`] when the run has no more.
    #[inline]
    pub fn peek(&self) -> Nanos {
        self.next
    }

    /// Takes the next arrival: what [`peek`](Arrivals::peek) tells, and the one behind it becomes the next.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "never ends: the last answer is Nanos::MAX, for ever")]
    pub fn next(&mut self) -> Nanos {
        let now = self.next;
        if now != Nanos::MAX {
            let gap = self.gaps.draw(&mut self.state, &mut self.rng);
            self.advance(gap);
        }
        now
    }

    #[inline]
    fn advance(&mut self, mut mass: f64) {
        loop {
            match self.line.advance(self.offset, mass) {
                Ok(offset) => {
                    self.offset = offset;
                    // Rounding must not carry an arrival over the end of its piece.
                    let at = (self.line.start + offset as u64).min(self.line.end - 1);
                    self.next = self.start + Nanos(at);
                    return;
                }
                Err(left) => {
                    mass = left.max(0.0);
                    if self.line.end >= self.span {
                        self.next = Nanos::MAX;
                        return;
                    }
                    self.line = Line::new(self.pattern.piece(self.line.end, self.span), self.share, self.span);
                    self.offset = 0.0;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
