//! All of it at random: whoever may turn does so, at any time and also while handlers run; lines are said, connections closed and reset.

use std::sync::{Arc, Mutex};

use dataplane::{Assist, Sched};
use units::Nanos;

use crate::world::World;

const LINKS: usize = 10;

/// A stream of small numbers that a seed decides.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % sides
    }
}

struct Game {
    dice: Mutex<Dice>,
    /// How many lines were said on each connection.
    said: Mutex<[usize; LINKS]>,
}

impl Game {
    fn roll(&self, sides: usize) -> usize {
        self.dice.lock().unwrap().roll(sides)
    }

    /// Something happens.
    fn step(&self, w: &World) {
        let link = self.roll(LINKS);
        match self.roll(40) {
            0 => w.client().app.close(link),
            1 => w.client().app.abort(link),
            2 if self.roll(3) == 0 => w.client().app.say(link, "close\n"),
            2..=15 => {
                let mut said = self.said.lock().unwrap();
                said[link] += 1;
                w.client().app.say(link, &format!("{}\n", said[link]));
            }
            16..=24 => w.turn_client(),
            25..=31 => w.turn(0),
            32..=38 => w.turn(1),
            _ => w.desk.tick(Nanos::from_millis(1)),
        }
    }
}

fn play(assist: Assist, seed: u64) {
    let w = World::new(Sched::Zygos(assist), LINKS);
    let dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let game = Arc::new(Game { dice: Mutex::new(dice), said: Mutex::default() });
    let set = w.desk.during.set(Box::new({
        let (w, game) = (Arc::downgrade(&w), game.clone());
        move || {
            for _ in 0..game.roll(8) {
                w.upgrade().iter().for_each(|w| game.step(w));
            }
        }
    }));
    assert!(set.is_ok());
    for _ in 0..600 {
        game.step(&w);
    }
    w.run(Nanos::from_millis(600));
    let log = w.log();
    assert!(log.iter().all(|l| !l.contains("twice")), "{assist}, seed {seed}: {log:?}");
    let said = *game.said.lock().unwrap();
    for (link, said) in said.into_iter().enumerate() {
        let (got, end) = (w.got(link), w.end(link));
        let numbers: Vec<_> = got.lines().filter(|l| *l != "bye").map(|l| l.split('@').next().unwrap()).collect();
        let right = numbers.iter().zip(1..).all(|(got, n)| *got == n.to_string());
        let whole = end.is_some() || numbers.len() == said;
        assert!(right && whole, "{assist}, seed {seed}, link {link}: {said} said, {numbers:?}, {end:?}");
    }
    w.ends_clean();
}

#[test]
fn order_is_kept_and_nothing_is_lost_or_left_whatever_happens() {
    for assist in [Assist::None, Assist::Ipi, Assist::Lend] {
        for seed in 1..=25 {
            play(assist, seed);
        }
    }
}
