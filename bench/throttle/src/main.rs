//! Prints the tables of `docs/throttling.md`, and writes its plot to the file that is named.

use std::io::{self, Write as _};
use std::{env, fs};

use anyhow::Context as _;
use keeper_throttle_sim::Report;

fn main() -> anyhow::Result<()> {
    let plot = env::args_os()
        .nth(1)
        .context("name the SVG file to write: docs/images/throttling.svg")?;
    let report = Report::make();
    fs::write(&plot, report.plot()).with_context(|| format!("writing {}", plot.display()))?;
    write!(io::stdout(), "{}", report.tables())?;
    Ok(())
}
