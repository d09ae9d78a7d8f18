//! The search for the maximum load at an objective, on several servers in alternation, and the curve that its windows draw.

use anyhow::Result;
use load::search::{self, Found, Search, SearchConfig, Slo};
use load::{Load, Outcome, Pace, Side};
use report::Point as Dot;
use sys::clock;
use units::Nanos;

use crate::measure::Point;
use crate::noise::Noise;
use crate::stats::{Spread, median};
use crate::{Contender, Lab};

/// Windows whose rates differ by less than this share are one point of a curve.
const SAME_RATE: f64 = 0.04;

/// A server and its client.
pub struct Runner {
    /// The server.
    pub server: Contender,
    /// Its client, with the connections of the workload.
    pub load: Load,
    /// Of all windows on it.
    pub noise: Noise,
}

impl Runner {
    /// Nothing measured yet.
    pub fn new(server: Contender, load: Load) -> Runner {
        Runner { server, load, noise: Noise::default() }
    }

    /// One window.
    ///
    /// # Errors
    /// [`Interrupted`](crate::Interrupted); the load's and the server's.
    pub fn window(&mut self, lab: &mut Lab, pace: Pace, length: Nanos) -> Result<Point> {
        let point = lab.measure(&mut self.load, &mut self.server, pace, length)?;
        self.noise.add(&point.noise);
        Ok(point)
    }

    /// One connection, one request at a time, and nothing else: what latency is without load.
    ///
    /// # Errors
    /// As [`Runner::window`].
    pub fn unloaded(&mut self, lab: &mut Lab, length: Nanos) -> Result<Point> {
        let mut probe = lab.connect(&self.server, &self.load.spec().workload.clone(), 1, 1)?;
        let point = lab.measure(&mut probe, &mut self.server, Pace::Closed, length)?;
        self.noise.add(&point.noise);
        Ok(point)
    }
}

/// A window at some rate.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Tried {
    /// Requests per second, offered.
    pub rate: f64,
    /// Rightly answered.
    pub achieved: f64,
    /// The latency at the objective's quantile in the median slice, in microseconds.
    pub latency_us: f64,
    /// Which side broke the objective, if it was broken.
    pub broke: Option<Side>,
    /// The machine was too noisy.
    pub void: bool,
    /// Replies that were wrong.
    pub wrong: u64,
}

impl Tried {
    /// Of a window that offered `rate`.
    pub fn of(rate: f64, point: &Point, slo: &Slo) -> Tried {
        Tried::new(rate, &point.outcome, point.void(), slo)
    }

    /// The same, where nothing but the outcome was taken down.
    pub(super) fn new(rate: f64, outcome: &Outcome, void: bool, slo: &Slo) -> Tried {
        Tried {
            rate,
            achieved: outcome.achieved_rps(),
            latency_us: outcome.typical(slo.quantile).0 as f64 / 1e3,
            broke: broke(outcome, slo),
            void,
            wrong: outcome.errors.wrong,
        }
    }
}

/// Which side broke the objective, if it was broken. Where nobody was saturated, it was the client if its own lateness is a good
/// part of the limit.
fn broke(outcome: &Outcome, slo: &Slo) -> Option<Side> {
    let late = outcome.lateness.value_at_quantile(0.9) > slo.limit.0 / 2;
    let missed = outcome.typical(slo.quantile) > slo.limit || !kept_up(outcome);
    missed.then_some(if late { Side::Client } else { Side::Server })
}

/// Whether replies came at the rate of requests: to 5 %, since a slice that is left out takes its replies with it and leaves
/// those that came late.
fn kept_up(outcome: &Outcome) -> bool {
    let errors = outcome.errors.total() as f64;
    outcome.answered_in_window as f64 >= 0.95 * outcome.offered as f64 && errors <= 0.001 * outcome.offered as f64
}

/// What a window says to the search: slices are its samples, and half of them may be above the limit ([`Outcome::typical`]).
pub(super) fn vote(outcome: &Outcome, void: bool, slo: &Slo) -> search::Point {
    if void {
        return search::Point::void();
    }
    let each = outcome.slices.iter().filter_map(|s| s.latency.as_ref()).filter(|h| !h.is_empty());
    let above: Vec<bool> = each.map(|h| h.value_at_quantile(slo.quantile) > slo.limit.0).collect();
    search::Point {
        latency: outcome.typical(slo.quantile),
        ok_rate: kept_up(outcome),
        samples: above.len() as u64,
        above: above.iter().filter(|above| **above).count() as u64,
        void: false,
    }
}

/// What a search came to.
#[derive(Clone, Debug)]
pub struct Hunted {
    /// The maximum, and how sure it is.
    pub found: Found,
    /// Its windows, in the order in which they were measured.
    pub tried: Vec<Tried>,
}

/// How a search goes.
pub struct Hunt<'a> {
    /// An open loop at some rate.
    pub pace: &'a dyn Fn(f64) -> Pace,
    /// The length of its windows.
    pub step: Nanos,
    /// When it has to be content with what it has, on the monotonic clock.
    pub deadline: Nanos,
}

/// Searches on each runner, as its configuration says (the objective must be the same in all). All take turns, window by window, in
/// the order given.
///
/// # Errors
/// [`Interrupted`](crate::Interrupted); the load's and the server's.
pub fn hunt(
    lab: &mut Lab,
    runners: &mut [&mut Runner],
    configs: Vec<SearchConfig>,
    order: &[usize],
    how: &Hunt<'_>,
) -> Result<Vec<Hunted>> {
    let mut hunts: Vec<(Search, Slo, Vec<Tried>)> =
        configs.into_iter().map(|config| (by_slices(&config), config.slo, Vec::new())).collect();
    let mut going = true;
    while going {
        going = false;
        for &i in order {
            let (search, slo, tried) = &mut hunts[i];
            let Some(rate) = search.next().filter(|_| clock::now() < how.deadline) else { continue };
            going = true;
            let name = runners[i].server.serving.stack.name();
            lab.progress.say(&format!("{name} at {rate:.0} requests/s"));
            let point = runners[i].window(lab, (how.pace)(rate), how.step)?;
            search.tell(rate, vote(&point.outcome, point.void(), slo));
            tried.push(Tried::of(rate, &point, slo));
        }
    }
    Ok(hunts.into_iter().map(|(search, _, tried)| Hunted { found: search.result(), tried }).collect())
}

/// The search of such votes: the objective's limit for half of the slices.
pub(super) fn by_slices(config: &SearchConfig) -> Search {
    Search::new(SearchConfig { slo: Slo { quantile: 0.5, ..config.slo }, ..config.clone() })
}

/// Windows as the points of a curve of latency against requests answered, by rising rate; it ends with the first that is above `top`
/// microseconds. Those that were too noisy are left out, unless there are no others: the document's verdict says what
/// they are worth.
pub fn curve(tried: &[Tried], top: f64) -> Vec<Dot> {
    let quiet = tried.iter().any(|t| !t.void);
    let mut sorted: Vec<&Tried> = tried.iter().filter(|t| t.latency_us > 0.0 && !(quiet && t.void)).collect();
    sorted.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    let mut points = Vec::new();
    let mut rest = &sorted[..];
    while let Some(first) = rest.first() {
        let n = rest.iter().take_while(|t| t.rate <= first.rate * (1.0 + SAME_RATE)).count();
        let (group, after) = rest.split_at(n);
        rest = after;
        let x = median(group.iter().map(|t| t.achieved));
        let Some(y) = Spread::of(group.iter().map(|t| t.latency_us)) else { continue };
        points.push(if n > 1 { Dot::spread(x, y.median, y.low, y.high) } else { Dot::new(x, y.median) });
    }
    // One above the end of the axis shows where the curve leaves it.
    let inside = points.iter().rposition(|p| p.y <= top).map_or(0, |last| last + 1);
    points.truncate(inside + 1);
    points
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn tried(rate: f64, latency_us: f64) -> Tried {
        let broke = (latency_us > 500.0).then_some(Side::Server);
        Tried { rate, achieved: rate, latency_us, broke, void: false, wrong: 0 }
    }

    #[test]
    fn curves_rise_in_rate_and_end_off_the_axis() {
        let windows = [tried(2e5, 9e4), tried(1.2e5, 700.0), tried(5e4, 40.0), tried(5.1e4, 60.0), tried(3e5, 1e6)];
        let points = curve(&windows, 2000.0);
        let x: Vec<f64> = points.iter().map(|p| p.x).collect();
        assert_eq!(x, [50_500.0, 1.2e5, 2e5], "two windows at one rate are a point; 300 000 is beyond the end");
        assert_eq!((points[0].y, points[0].low, points[0].high), (50.0, Some(40.0), Some(60.0)));
    }

    #[test]
    fn noisy_windows_are_better_than_none() {
        let noisy = Tried { void: true, ..tried(1e4, 1000.0) };
        assert_eq!(curve(&[noisy, tried(1e4, 20.0)], 2000.0), [Dot::new(1e4, 20.0)]);
        assert_eq!(curve(&[noisy], 2000.0), [Dot::new(1e4, 1000.0)]);
    }
}
