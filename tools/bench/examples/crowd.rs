//! Echoes messages over very many connections, one thread, the same steps at every run: the program whose cache misses are simulated.
//!
//! `crowd CONNECTIONS REQUESTS [small] [SYNS] [PORTS]`, by `valgrind --tool=callgrind --cache-sim=yes --toggle-collect='*server_turn*'`: misses divided by
//! requests are what one request costs. `small`: connections lie in 4 KiB pages. SYNS: so many that nobody stands by come with each burst of requests,
//! by a port of their own if there are two PORTS.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [conns, requests, rest @ ..] = &args[..] else {
        return Err("usage: crowd CONNECTIONS REQUESTS [small] [SYNS] [PORTS]".into());
    };
    let (pages, rest) = match rest {
        [small, rest @ ..] if small == "small" => (mem::Pages::Small, rest),
        rest => (mem::Pages::Huge, rest),
    };
    let syns = rest.first().map_or(Ok(0), |syns| syns.parse())?;
    let ports = rest.get(1).map_or(Ok(1), |ports| ports.parse())?;
    let mut rig = bench::CrowdRig::new(conns.parse()?, pages, ports)?;
    let errors = rig.run_until(requests.parse()?, syns)?;
    let [taken, answered] = rig.floods();
    println!("{requests} replies, {errors} errors; {taken} SYNs, {answered} answered");
    Ok(())
}
