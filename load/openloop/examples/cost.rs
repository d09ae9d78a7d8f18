//! What the generator costs per request and reply, without a server.
//!
//! ```text
//! cargo run --release -p openloop --example cost -- [connections [burst]]
//! ```

fn main() {
    let word = |n: usize| std::env::args().nth(n).and_then(|word| word.parse::<u32>().ok());
    let (connections, burst) = (word(1).unwrap_or(1024), word(2).unwrap_or(64));
    match openloop::cost(connections, burst as usize, units::Nanos::from_secs(2)) {
        Err(e) => eprintln!("{e}"),
        Ok(c) => {
            println!("{} requests over {connections} connections, {burst} at a time, {} broken", c.requests, c.broken);
            println!("  made (with its buffer)         {:6.1} ns per request", c.made);
            println!("  taken back                     {:6.1} ns per reply", c.taken);
            println!("  of that the buffer             {:6.1} ns", c.buffer);
            println!("  the generator's own            {:6.1} ns", c.own());
        }
    }
}
