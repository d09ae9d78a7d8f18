//! Inputs from inputs, by a seed: enough to shake a target where no coverage guides.

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

/// The longest input.
pub const LEN_MAX: usize = 4096;

/// Numbers at which code changes its mind.
const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, 0x20, 0x0a, 0x40];

/// The `nth` mutation of what is in `corpus`, with words of `dictionary` now and then. Any of the corpus if it is empty is taken to be the empty input.
pub fn mutation(corpus: &[Vec<u8>], dictionary: &[Vec<u8>], nth: u64) -> Vec<u8> {
    let mut rng = SmallRng::seed_from_u64(nth);
    let mut input = pick(corpus, &mut rng).to_vec();
    for _ in 0..rng.random_range(1..=6) {
        change(&mut input, corpus, dictionary, &mut rng);
    }
    input.truncate(LEN_MAX);
    input
}

fn pick<'a>(of: &'a [Vec<u8>], rng: &mut SmallRng) -> &'a [u8] {
    if of.is_empty() { &[] } else { &of[rng.random_range(0..of.len())] }
}

fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], dictionary: &[Vec<u8>], rng: &mut SmallRng) {
    let at = rng.random_range(0..=input.len());
    let until = (at + rng.random_range(1..=32)).min(input.len());
    match rng.random_range(0..8) {
        0 => {
            let random: Vec<u8> = (0..rng.random_range(1..=16)).map(|_| rng.random()).collect();
            input.splice(at..at, random);
        }
        1 => drop(input.drain(at..until)),
        2 => {
            let again = input[at..until].to_vec();
            input.splice(at..at, again);
        }
        3 => {
            let other = pick(corpus, rng);
            let from = rng.random_range(0..=other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        4 => {
            let word = pick(dictionary, rng).to_vec();
            let until = (at + word.len() * rng.random_range(0..=1)).min(input.len());
            input.splice(at..until, word);
        }
        _ if at == input.len() => input.push(EDGES[rng.random_range(0..EDGES.len())]),
        5 => input[at] ^= 1 << rng.random_range(0..8),
        6 => input[at] = EDGES[rng.random_range(0..EDGES.len())],
        _ => input[at] = input[at].wrapping_add(rng.random_range(0..=16)).wrapping_sub(8),
    }
}

/// The words of a dictionary as libFuzzer reads it: one in quotes per line, `\xHH`, `\"` and `\\` for what cannot be written.
///
/// # Errors
/// The line that is none.
pub fn words(text: &str) -> Result<Vec<Vec<u8>>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| word(line).ok_or_else(|| format!("not a word of a dictionary: {line}"))).collect()
}

fn word(line: &str) -> Option<Vec<u8>> {
    let inner = line.split_once('"')?.1.strip_suffix('"')?;
    let mut word = Vec::new();
    let mut rest = inner.bytes();
    while let Some(byte) = rest.next() {
        word.push(match (byte, byte == b'\\') {
            (_, true) => match rest.next()? {
                b'x' => {
                    let digit = |b: u8| char::from(b).to_digit(16);
                    (digit(rest.next()?)? * 16 + digit(rest.next()?)?) as u8
                }
                escaped @ (b'\\' | b'"') => escaped,
                _ => return None,
            },
            (byte, false) => byte,
        });
    }
    Some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_the_fuzzer_reads_them() {
        let text = "# comment\n\nget=\"get \"\n\"\\x0d\\x0a\"\n\"a\\\\b\\\"\"\n";
        assert_eq!(words(text).unwrap(), [b"get ".to_vec(), b"\r\n".to_vec(), b"a\\b\"".to_vec()]);
        assert!(words("get").is_err());
        assert!(words("\"\\q\"").is_err());
    }

    #[test]
    fn equal_numbers_give_equal_mutations_and_others_do_not() {
        let corpus = [b"get a\r\n".to_vec(), b"set a 0 0 1\r\nx\r\n".to_vec()];
        let words = [b"cas".to_vec()];
        let all: std::collections::HashSet<Vec<u8>> = (0..200).map(|n| mutation(&corpus, &words, n)).collect();
        assert!(all.len() > 150, "{}", all.len());
        assert_eq!(mutation(&corpus, &words, 7), mutation(&corpus, &words, 7));
        assert!(mutation(&[], &[], 3).len() <= LEN_MAX);
    }
}
