//! Bulk: clients of `echo --mode discard` and `--mode source` that check every byte.

use std::io::{Read, Write};

use echo::{Digest, pattern};

/// How much is written or read at once: not a multiple of any segment size.
const PIECE: usize = 250_007;

/// Writes `total` bytes of the pattern; returns their digest.
///
/// # Panics
/// When the server does not take all.
pub fn upload(mut to: impl Write, total: u64) -> Digest {
    let mut digest = Digest::new();
    let mut piece = vec![0; PIECE];
    let mut sent = 0;
    while sent < total {
        let n = (total - sent).min(PIECE as u64) as usize;
        pattern(sent, &mut piece[..n]);
        to.write_all(&piece[..n]).unwrap_or_else(|e| panic!("the server takes all; after {sent} bytes: {e}"));
        digest.update(&piece[..n]);
        sent += n as u64;
    }
    digest
}

/// Reads to the end and compares with the pattern; returns the number of bytes.
///
/// # Panics
/// When a byte is wrong, or the connection breaks.
pub fn download(mut from: impl Read) -> u64 {
    let (mut piece, mut expected) = (vec![0; PIECE], vec![0; PIECE]);
    let mut got = 0;
    loop {
        let n = from.read(&mut piece).unwrap_or_else(|e| panic!("the server sends all; after {got} bytes: {e}"));
        if n == 0 {
            return got;
        }
        pattern(got, &mut expected[..n]);
        if piece[..n] != expected[..n] {
            let at = (0..n).find(|i| piece[*i] != expected[*i]).expect("they differ");
            panic!("byte {} is wrong", got + at as u64);
        }
        got += n as u64;
    }
}
