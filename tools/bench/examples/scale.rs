//! `scale [COUNT...]`: rows of many connections, one JSON object per line. For a table and a figure: `zygix bench connections`.

use std::time::Duration;

use bench::{ScaleConfig, scale};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut counts: Vec<usize> = std::env::args().skip(1).map(|n| n.parse()).collect::<Result<_, _>>()?;
    if counts.is_empty() {
        counts = vec![1_000, 10_000, 100_000];
    }
    counts.sort_unstable();
    let config =
        ScaleConfig { counts, under_way: 256, windows: 5, window: Duration::from_millis(500), batch: 64, pin: [0, 1] };
    scale(&config, |row| {
        println!("{}", serde_json::to_string(row).unwrap_or_default());
        true
    })?;
    Ok(())
}
