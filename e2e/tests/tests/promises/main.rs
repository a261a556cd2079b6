//! What the product promises on a real node; every test in a namespace of its own, all at once.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "tests fail by panicking"
)]

mod admission;
mod asking;
mod canary;
mod chart;
mod classic;
mod config;
mod defaults;
mod examples;
mod faults;
mod first_line;
mod formats;
mod missing;
mod nginx;
mod paths;
mod pods;
mod proxy;
mod refresh;
mod reload;
mod rights;
mod safety_net;
mod settings;
mod smoke;
mod stale;
mod users;
mod variables;
mod warnings;
mod whole;
