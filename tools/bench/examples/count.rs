//! Echoes messages over the in-process wire, one thread, the same steps at every run: the program whose instructions callgrind counts.
//!
//! `count N`: N messages of 64 B over 100 connections. Instructions of `server_turn` divided by N are the cost per request.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let n: u64 = std::env::args().nth(1).ok_or("usage: count MESSAGES")?.parse()?;
    let mut rig = bench::Rig::new(100, 64, 1, 64)?;
    rig.run_until(n)?;
    println!("{} messages, {} errors", rig.tally().messages.get(), rig.tally().errors.get());
    Ok(())
}
