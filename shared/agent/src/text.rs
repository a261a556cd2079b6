//! Durations as log lines show them.

use std::time::Duration;

/// `142ms`, `12s`, `5m`, `6h`: the largest whole unit, as users' alerts expect it.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        _ => format!("{}h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_unit() {
        for (ms, text) in [
            (0, "0ms"),
            (142, "142ms"),
            (1_999, "1s"),
            (59_999, "59s"),
            (60_000, "1m"),
            (3_599_999, "59m"),
            (21_600_000, "6h"),
            (172_800_000, "48h"),
        ] {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
    }
}
