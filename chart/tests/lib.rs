//! What the chart's tests and those on the node both read of the chart's documentation.
#![expect(clippy::expect_used, reason = "a helper of tests fails by panicking")]

pub mod rbac;
