//! Go-style durations, `5m`, `1h30m`, `1.5h`: what a Kubernetes user writes.

use std::fmt;
use std::str::FromStr;

const SECOND: u64 = 1_000_000_000;
/// Go counts nanoseconds in a signed 64-bit number; longer durations are errors there too.
const MAX_NANOS: u128 = i64::MAX as u128;
/// All calls to Keeper are made in frames of this many seconds (docs: slotted time).
const FRAME_SECONDS: u64 = 15;

/// A duration in Go's notation, not negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration {
    nanos: u64,
}

/// Why a text is no duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// No number where one belongs, or nothing at all.
    #[error("is no duration: write a number with a unit, such as 5m, 90s or 1h30m")]
    NoNumber,
    /// A number without a unit.
    #[error("has no unit: write 90s, 5m or 1h30m")]
    NoUnit,
    /// A unit that Go does not know.
    #[error("has an unknown unit: write h, m, s, ms, us or ns, and days as hours, 24h")]
    UnknownUnit,
    /// Below zero.
    #[error("is negative: write a positive duration such as 5m")]
    Negative,
    /// Over 292 years.
    #[error("is too long: write at most 2562047h")]
    TooLong,
}

impl GoDuration {
    /// Whole seconds, rounded up.
    #[must_use]
    pub fn seconds_up(self) -> u64 {
        self.nanos.div_ceil(SECOND)
    }
}

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        use DurationError as E;
        let text = text.trim();
        if text.starts_with('-') {
            return Err(E::Negative);
        }
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        if rest == "0" {
            return Ok(Self { nanos: 0 });
        }
        if rest.is_empty() {
            return Err(E::NoNumber);
        }
        let mut total: u128 = 0;
        while !rest.is_empty() {
            let (whole, after) = take(rest, |c| c.is_ascii_digit());
            let (fraction, after) = match after.strip_prefix('.') {
                Some(after) => take(after, |c| c.is_ascii_digit()),
                None => ("", after),
            };
            if whole.is_empty() && fraction.is_empty() {
                return Err(E::NoNumber);
            }
            let (unit, after) = take(after, |c| !c.is_ascii_digit() && c != '.');
            rest = after;
            let scale: u64 = match unit {
                "" => return Err(E::NoUnit),
                "h" => 3600 * SECOND,
                "m" => 60 * SECOND,
                "s" => SECOND,
                "ms" => 1_000_000,
                // The micro sign and the Greek letter, as in Go.
                "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
                "ns" => 1,
                _ => return Err(E::UnknownUnit),
            };
            let whole: u128 = match whole {
                "" => 0,
                digits => digits.parse().map_err(|_| E::TooLong)?,
            };
            let part = whole
                .checked_mul(u128::from(scale))
                .and_then(|n| n.checked_add(fraction_nanos(fraction, scale)))
                .and_then(|n| n.checked_add(total));
            total = part.filter(|n| *n <= MAX_NANOS).ok_or(E::TooLong)?;
        }
        let nanos = u64::try_from(total).map_err(|_| E::TooLong)?;
        Ok(Self { nanos })
    }
}

/// `0.<digits>` of `scale`, cut to nanoseconds.
fn fraction_nanos(digits: &str, scale: u64) -> u128 {
    let mut place = u128::from(scale);
    let mut numerator: u128 = 0;
    let mut denominator: u128 = 1;
    // More than 15 digits of an hour are below a nanosecond.
    for digit in digits.bytes().take(15) {
        numerator = numerator * 10 + u128::from(digit - b'0');
        denominator *= 10;
    }
    place *= numerator;
    place / denominator
}

fn take(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

/// As Go prints it: `5m0s`, `1h30m0s`, `1.5s`.
impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.nanos / SECOND, self.nanos % SECOND);
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        if nanos == 0 {
            return write!(f, "{seconds}s");
        }
        let fraction = format!("{nanos:09}");
        write!(f, "{seconds}.{}s", fraction.trim_end_matches('0'))
    }
}

/// Time between two refreshes: whole frames of 15 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshInterval {
    seconds: u32,
    /// Whether less than one frame was asked for.
    pub(crate) raised: bool,
}

impl RefreshInterval {
    /// Seconds, a multiple of 15.
    #[must_use]
    pub fn seconds(self) -> u32 {
        self.seconds
    }
}

impl FromStr for RefreshInterval {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let asked: GoDuration = text.parse()?;
        let frames = asked.nanos.div_ceil(FRAME_SECONDS * SECOND).max(1);
        Ok(Self {
            seconds: u32::try_from(frames * FRAME_SECONDS).map_err(|_| DurationError::TooLong)?,
            raised: asked.nanos < FRAME_SECONDS * SECOND,
        })
    }
}

impl fmt::Display for RefreshInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_as_go_reads_them() {
        for (text, nanos) in [
            ("0", 0),
            ("5m", 300 * SECOND),
            (" 5m ", 300 * SECOND),
            ("+5s", 5 * SECOND),
            ("1h30m", 5400 * SECOND),
            ("1.5h", 5400 * SECOND),
            (".5s", SECOND / 2),
            ("5.s", 5 * SECOND),
            ("1h15m30.918s", 4530 * SECOND + 918_000_000),
            ("39h9m14.425s", 140_954 * SECOND + 425_000_000),
            ("100ms", SECOND / 10),
            ("1us1µs1μs1ns", 3001),
            ("0.100000000000000000000h", 360 * SECOND),
        ] {
            assert_eq!(text.parse(), Ok(GoDuration { nanos }), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_says_why() {
        use DurationError as E;
        for (text, want) in [
            ("", E::NoNumber),
            ("five", E::NoNumber),
            (".s", E::NoNumber),
            ("5m ago", E::UnknownUnit),
            ("90", E::NoUnit),
            ("1h30", E::NoUnit),
            ("1d", E::UnknownUnit),
            ("5M", E::UnknownUnit),
            ("-5m", E::Negative),
            ("9999999h", E::TooLong),
            ("99999999999999999999999999999999999999999999s", E::TooLong),
        ] {
            assert_eq!(text.parse::<GoDuration>(), Err(want), "{text}");
        }
    }

    #[test]
    fn intervals_are_whole_frames() {
        for (text, seconds, raised) in [
            ("0", 15, true),
            ("1ms", 15, true),
            ("14.9s", 15, true),
            ("14s", 15, true),
            ("15s", 15, false),
            ("15.1s", 30, false),
            ("16s", 30, false),
            ("5m", 300, false),
            ("24h", 86_400, false),
        ] {
            assert_eq!(
                text.parse(),
                Ok(RefreshInterval { seconds, raised }),
                "{text}"
            );
        }
        assert_eq!(
            "2000000h".parse::<RefreshInterval>(),
            Err(DurationError::TooLong)
        );
    }

    proptest! {
        #[test]
        fn display_and_parse_round_trip(nanos in 0..i64::MAX as u64) {
            let duration = GoDuration { nanos };
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn any_text_parses_or_fails_without_a_panic(text in r"[-+0-9.hmsnuµ d]{0,60}") {
            let _ = text.parse::<GoDuration>();
            if let Ok(interval) = text.parse::<RefreshInterval>() {
                prop_assert_eq!(interval.seconds() % 15, 0);
                prop_assert!(interval.seconds() >= 15);
            }
        }
    }
}
