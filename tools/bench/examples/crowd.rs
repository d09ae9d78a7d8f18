//! Echoes messages over very many connections, one thread, the same steps at every run: the program whose cache misses are simulated.
//!
//! `crowd CONNECTIONS REQUESTS [small]`, by `valgrind --tool=callgrind --cache-sim=yes --toggle-collect='*server_turn*'`: misses divided by requests
//! are what one request costs. `small`: connections lie in 4 KiB pages.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [conns, requests, rest @ ..] = &args[..] else {
        return Err("usage: crowd CONNECTIONS REQUESTS [small]".into());
    };
    let pages = if rest.is_empty() { mem::Pages::Huge } else { mem::Pages::Small };
    let mut rig = bench::CrowdRig::new(conns.parse()?, pages)?;
    let errors = rig.run_until(requests.parse()?)?;
    println!("{requests} replies, {errors} errors");
    Ok(())
}
