//! `echo [SECONDS] [--json FILE]`: 64 B messages over the shm wire, server and client on a core each, for several depths and
//! batch bounds.

use std::time::Duration;

use bench::{EchoConfig, EchoResult};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut seconds, mut json) = (2.0, None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" => json = Some(args.next().ok_or("--json: name a file")?),
            number => seconds = number.parse().map_err(|_| "usage: echo [SECONDS] [--json FILE]")?,
        }
    }
    let config = |conns, depth, batch| EchoConfig {
        conns,
        size: 64,
        depth,
        batch,
        duration: Duration::from_secs_f64(seconds),
        pin: [1, 0],
    };
    println!("conns  depth  B    messages/s   busy ns/message  mean batch  errors");
    let mut rows: Vec<EchoResult> = Vec::new();
    for (conns, depth, batch) in [(100, 1, 64), (100, 4, 64), (1, 1, 64), (100, 1, 1), (100, 1, 16)] {
        let r = bench::echo(&config(conns, depth, batch))?;
        println!(
            "{:5}  {:5}  {:3}  {:11.0}  {:15.0}  {:10.1}  {:6}",
            r.conns, r.depth, r.batch, r.messages_per_s, r.server_busy_ns, r.mean_batch, r.errors
        );
        rows.push(r);
    }
    if let Some(file) = json {
        std::fs::write(file, serde_json::to_string_pretty(&serde_json::json!({ "rows": rows }))?)?;
    }
    Ok(())
}
