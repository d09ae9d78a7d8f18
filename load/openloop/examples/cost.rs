//! What the generator costs per request and reply, without a server.
//!
//! ```text
//! cargo run --release -p openloop --example cost -- [connections]
//! ```

fn main() {
    let connections = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1024);
    match openloop::cost(connections, units::Nanos::from_secs(2)) {
        Err(e) => eprintln!("{e}"),
        Ok(c) => {
            println!("{} requests over {connections} connections, {} broken", c.requests, c.broken);
            println!("  made (with its buffer)         {:6.1} ns per request", c.made);
            println!("  taken back                     {:6.1} ns per reply", c.taken);
            println!("  of that the buffer             {:6.1} ns", c.buffer);
            println!("  the generator's own            {:6.1} ns", c.own());
        }
    }
}
