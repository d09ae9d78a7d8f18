//! `idle [CONNECTIONS]`: memory per idle established connection, over the in-process wire.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count: usize = std::env::args().nth(1).map_or(Ok(100_000), |s| s.parse())?;
    println!("{:?}", bench::idle(count)?);
    Ok(())
}
