//! Colours, markers and dashes, so that every series of a figure is told apart without colour, too.
//!
//! The colours are those of Okabe and Ito (2008), which people with the common kinds of colour blindness can tell; its yellow is left out: it
//! cannot be seen on white. What a page shows again and again, stacks and ways to schedule, looks the same in every figure.

use crate::doc::Series;

/// Blue, vermillion, bluish green, reddish purple, orange, sky blue, black. The style sheet lightens some of them on a dark page, by these values.
pub(crate) const COLOURS: [(u8, u8, u8); 7] =
    [(0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (0, 0, 0)];

/// Words that are all in a series' name, and its look then. The first that fits is taken.
const KNOWN: [(&[&str], usize); 8] = [
    (&["zygos, lend"], 0),
    (&["zygos, ipi"], 1),
    (&["zygos, none"], 2),
    (&["zygix", "shm"], 5),
    (&["zygix"], 0),
    (&["linux-partitioned"], 1),
    (&["memcached"], 2),
    (&["linux-floating"], 4),
];

/// How one series of a figure looks: an index into all combinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look(pub(crate) usize);

impl Look {
    pub(crate) fn colour(self) -> (u8, u8, u8) {
        COLOURS[self.0 % COLOURS.len()]
    }

    /// Beyond the first round of colours, lines are dashed.
    pub(crate) fn dashed(self) -> bool {
        self.0 >= COLOURS.len()
    }

    /// The outline of the marker around (0, 0), for a circle of radius `r`.
    pub(crate) fn marker(self, r: f64) -> Vec<(i32, i32)> {
        // Corners as (turn, distance); a turn of 0 points up.
        let regular = |n: usize, start: f64, stretch: f64| {
            (0..n).map(|i| (start + i as f64 / n as f64, stretch)).collect::<Vec<_>>()
        };
        let spiked = |start: f64, n: usize, inner: f64| -> Vec<(f64, f64)> {
            (0..2 * n).map(|i| (start + i as f64 / (2 * n) as f64, if i % 2 == 0 { 1.3 } else { inner })).collect()
        };
        let corners = match self.0 % 8 {
            0 => regular(12, 0.0, 1.05),
            1 => regular(4, 0.125, 1.25),
            2 => regular(3, 0.0, 1.35),
            3 => regular(4, 0.0, 1.35),
            4 => regular(3, 0.5, 1.35),
            5 => spiked(0.0, 4, 0.45),
            6 => spiked(0.125, 4, 0.45),
            _ => spiked(0.0, 5, 0.6),
        };
        let place = |(turn, distance): (f64, f64)| {
            let (sin, cos) = (turn * std::f64::consts::TAU).sin_cos();
            ((sin * distance * r).round() as i32, (-cos * distance * r).round() as i32)
        };
        corners.into_iter().map(place).collect()
    }
}

/// The looks of the series of one figure, in their order.
pub(crate) fn looks(series: &[Series]) -> Vec<Look> {
    let known = |name: &str| {
        KNOWN.iter().find(|(words, _)| words.iter().all(|word| name.contains(word))).map(|&(_, slot)| slot)
    };
    let mut taken: Vec<usize> = Vec::new();
    let wanted: Vec<Option<usize>> = series
        .iter()
        .map(|s| {
            let slot = known(&s.name)?;
            let free = !taken.contains(&slot);
            taken.push(slot);
            free.then_some(slot)
        })
        .collect();
    // Beside stacks, other series do not borrow the look of a stack that is absent, while there is another.
    let stacks = !taken.is_empty();
    let reserved = |slot: &usize| stacks && KNOWN.iter().any(|(_, known)| known == slot);
    let once = (0..COLOURS.len())
        .filter(|slot| !reserved(slot))
        .chain((0..COLOURS.len()).filter(reserved))
        .chain(COLOURS.len()..);
    let mut free = once.filter(|slot| !taken.contains(slot));
    wanted.into_iter().map(|slot| Look(slot.or_else(|| free.next()).unwrap_or(0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Vec<usize> {
        let series: Vec<Series> = names.iter().map(|&n| Series { name: n.to_string(), ..Series::default() }).collect();
        looks(&series).into_iter().map(|look| look.0).collect()
    }

    #[test]
    fn stacks_keep_their_looks_and_none_is_twice() {
        assert_eq!(named(&["linux-floating", "zygix, tap", "model", "zygix, shm"]), [4, 0, 3, 5]);
        assert_eq!(named(&["zygix, B = 1", "zygix, B = 2", "zygix, B = 64"]), [0, 3, 6]);
        assert_eq!(named(&["p50", "p99", "max"]), [0, 1, 2]);
        let ways = ["ix", "zygos, none", "zygos, ipi", "zygos, lend"];
        assert_eq!((named(&ways), named(&ways[1..])), (vec![3, 2, 1, 0], vec![2, 1, 0]));
        let many: Vec<String> = (0..40).map(|i| format!("series {i}")).collect();
        let mut slots = named(&many.iter().map(String::as_str).collect::<Vec<_>>());
        slots.sort_unstable();
        slots.dedup();
        assert_eq!(slots.len(), 40);
        let look = |slot: usize| (Look(slot).colour(), Look(slot).marker(9.0), Look(slot).dashed());
        assert!((0..14).all(|a| (0..a).all(|b| look(a) != look(b))));
    }
}
