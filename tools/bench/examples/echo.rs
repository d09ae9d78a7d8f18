//! `echo [SECONDS]`: 64 B messages over the shm wire between two cores, once per depth.

use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds: f64 = std::env::args().nth(1).map_or(Ok(2.0), |s| s.parse())?;
    for depth in [1, 4] {
        let r = bench::echo(&bench::EchoConfig {
            conns: 100,
            size: 64,
            depth,
            batch: 64,
            duration: Duration::from_secs_f64(seconds),
            pin: [1, 0],
        })?;
        println!("{r:?}");
    }
    Ok(())
}
