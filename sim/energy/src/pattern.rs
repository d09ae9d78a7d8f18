use std::f64::consts::TAU;

use rand::{Rng as _, SeedableRng as _};

/// The thesis's load patterns (section 2.6): four minutes each, between nearly idle and the most.
///
/// How long they stay idle at the ends, and where the sine begins and how far it goes, the thesis shows only in its figures; here they are such that static configurations
/// come to the means of table 2.4.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pattern {
    /// From 0 to the most and back, after 5 s of rest and before 5 s of it.
    Slope,
    /// 500 K requests per second more every 10 s, then as many less.
    Step,
    /// Between 10 and 93 % of the most in 130 s, and noise of 250 K requests per second either way, drawn anew every 5 s.
    Sine,
}

/// How long a run is, in seconds.
pub(crate) const RUN_S: f64 = 240.0;
const REST_S: f64 = 5.0;
const STAIR_S: f64 = 10.0;
const STAIR: f64 = 500e3;
const NOISE: f64 = 250e3;
const NOISE_S: f64 = 5.0;
const PERIOD_S: f64 = 130.0;
const PHASE: f64 = 0.08;
const LOW: f64 = 0.1;
const HIGH: f64 = 0.93;

impl Pattern {
    /// All three.
    pub const ALL: [Pattern; 3] = [Pattern::Slope, Pattern::Step, Pattern::Sine];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Pattern::Slope => "slope",
            Pattern::Step => "step",
            Pattern::Sine => "sine",
        }
    }

    /// The rate at a time in seconds, in requests per second. Noise is drawn from `seed`.
    pub fn rate(self, at: f64, most: f64, seed: u64) -> f64 {
        match self {
            Pattern::Slope => {
                let half = RUN_S / 2.0;
                let from_top = (at - half).abs();
                (1.0 - from_top / (half - REST_S)).clamp(0.0, 1.0) * most
            }
            Pattern::Step => {
                let nth = (at / STAIR_S).floor();
                let stairs = RUN_S / STAIR_S / 2.0;
                ((stairs - (nth - stairs).abs()) * STAIR).clamp(0.0, most)
            }
            Pattern::Sine => {
                let wave = 0.5 - 0.5 * (TAU * (at / PERIOD_S + PHASE)).cos();
                let nth = (at / NOISE_S).max(0.0) as u64;
                let noise = draw::Rng::seed_from_u64(seed << 16 | nth).random_range(-NOISE..=NOISE);
                ((LOW + (HIGH - LOW) * wave) * most + noise).clamp(0.0, most)
            }
        }
    }
}
