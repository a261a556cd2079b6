//! A pod that refreshes for hours holds no more memory at the end than at the start. A program of its own: what
//! another test allocates meanwhile would count.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
#![expect(dead_code, reason = "each test binary uses a part of the support")]

mod support;

use std::time::Duration;

use keeper_agent::schedule::Grid;
use peak_alloc::PeakAlloc;
use support::Bench;
use support::virtual_host::VirtualHost;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// What buffers of the connection to keeper-sim may differ by. One hundred bytes for each refresh would be more.
const NOISE: usize = 24 * 1024;

const VAULT: &str = "records: [{title: Orders, password: first}, {title: Payments, password: pay}]";
const OUTPUTS: [&str; 2] = ["Orders -> orders.json", "Payments[password] -> p"];

#[tokio::test]
async fn two_hours_of_refreshes_leave_nothing_behind() {
    let mut bench = Bench::new(VAULT, &OUTPUTS).await;
    bench.config.refresh_interval_seconds = 15;
    // Its rule counts in real time.
    bench.sim.set_throttle(None);
    let host = VirtualHost::new(&bench.sim, 1);
    let mut runner = bench.runner_on(host.clone(), Grid::STANDARD);
    let script = async {
        let mut sizes = Vec::new();
        for minutes in [20, 120] {
            for minute in 0..minutes {
                let value = format!("{:08}", sizes.len() * 1_000 + minute);
                bench.sim.set("Orders", "password", &value).unwrap();
                host.advance(Duration::from_secs(60)).await;
                assert!(bench.read("orders.json").unwrap().contains(&value));
                bench.sim.reset_calls();
            }
            sizes.push(HEAP.current_usage());
        }
        sizes
    };
    let sizes = tokio::select! {
        ended = runner.run(|_| {}) => panic!("ended: {ended:?}"),
        sizes = script => sizes,
    };
    let [early, late] = sizes.as_slice() else {
        panic!("{sizes:?}")
    };
    assert!(*late < early + NOISE, "from {early} to {late} bytes");
}
