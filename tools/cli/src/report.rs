use std::path::Path;

use anyhow::{Context, Result};

use crate::bench_args::Report;

/// `zygix report`.
pub(crate) fn run(args: &Report) -> Result<()> {
    let page = args.out.clone().unwrap_or_else(|| args.dir.join("index.html"));
    draw(&args.dir, &page)?;
    println!("{}", page.display());
    Ok(())
}

/// Draws all results of a folder into one page.
pub(crate) fn draw(dir: &Path, page: &Path) -> Result<()> {
    let documents = report::load_dir(dir)?;
    std::fs::write(page, report::html(&documents)).with_context(|| format!("cannot write {}", page.display()))
}
