use draw::{Rng, Sizes};
use rand::RngCore;

/// Steps into which a distribution's quantiles are cut. A power of two, so that some bits of a hash choose one.
const LEVELS: usize = 1 << 14;

/// Lengths by quantile: a distribution cut into [`LEVELS`] steps of equal probability, so that a length costs a look into
/// a table and not two logarithms.
#[derive(Clone, Debug)]
pub(crate) struct Lengths {
    /// `LEVELS` of them, or one if all are the same.
    levels: Box<[u32]>,
}

impl Lengths {
    /// The quantiles of `sizes`, kept within `min..=max`.
    pub(crate) fn new(sizes: &Sizes, min: usize, max: usize) -> Lengths {
        let (min, max) = (min as u32, max as u32);
        // The middle of each step.
        let level = |i: usize| sizes.at((i as f64 + 0.5) / LEVELS as f64).clamp(min, max);
        let fixed = level(0) == level(LEVELS - 1);
        Lengths { levels: (0..if fixed { 1 } else { LEVELS }).map(level).collect() }
    }

    /// The length that the low 14 bits of `hash` choose.
    #[inline]
    pub(crate) fn of(&self, hash: u64) -> usize {
        self.levels[hash as usize & (self.levels.len() - 1)] as usize
    }

    /// A length drawn at random.
    #[inline]
    pub(crate) fn draw(&self, rng: &mut Rng) -> usize {
        match self.levels.as_ref() {
            [one] => *one as usize,
            _ => self.of(u64::from(rng.next_u32())),
        }
    }

    /// The longest.
    pub(crate) fn max(&self) -> usize {
        self.levels.iter().max().map_or(0, |max| *max as usize)
    }
}

const _: () = assert!(LEVELS.is_power_of_two());
