//! Kubernetes quantities, `5m`, `16Mi`, `1e3`, compared exactly: a Guaranteed pod is told by equal numbers,
//! however they are written.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

const ONE: u128 = 1_000_000_000;

/// An amount of CPU or memory, in billionths (the API server's own precision), not negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    nanos: u128,
}

/// Why a text is no quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Neither a number nor a number with a known suffix.
    #[error("is no quantity: write a number with a suffix, such as 50m for CPU or 16Mi for memory")]
    Malformed,
    /// Below zero.
    #[error("is negative: write a positive quantity such as 50m or 16Mi")]
    Negative,
    /// More than can be counted.
    #[error("is too large: write a smaller one, such as 50m or 16Mi")]
    TooLarge,
}

impl Quantity {
    /// None of it.
    pub const ZERO: Self = Self { nanos: 0 };

    /// Whole units: bytes, or cores.
    #[must_use]
    pub const fn units(units: u64) -> Self {
        Self {
            nanos: units as u128 * ONE,
        }
    }

    /// Mebibytes.
    #[must_use]
    pub const fn mebibytes(n: u32) -> Self {
        Self::units(n as u64 * 1024 * 1024)
    }

    /// Thousandths of a core.
    #[must_use]
    pub const fn millicores(n: u32) -> Self {
        Self {
            nanos: n as u128 * (ONE / 1000),
        }
    }

    /// Whole units, rounded up.
    #[must_use]
    pub fn units_up(self) -> u64 {
        u64::try_from(self.nanos.div_ceil(ONE)).unwrap_or(u64::MAX)
    }

    /// The sum, or the largest quantity there is.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self {
            nanos: self.nanos.saturating_add(other.nanos),
        }
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        use QuantityError as E;
        let text = text.trim();
        if text.starts_with('-') {
            return Err(E::Negative);
        }
        let text = text.strip_prefix('+').unwrap_or(text);
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(E::Malformed);
        }
        let fraction = fraction.trim_end_matches('0');
        let digits = format!("0{whole}{fraction}");
        let digits: u128 = digits.parse().map_err(|_| E::TooLarge)?;
        let scale = scale(suffix)?;
        let places = u32::try_from(fraction.len()).map_err(|_| E::TooLarge)?;
        let divisor = 10u128.checked_pow(places).ok_or(E::TooLarge)?;
        let nanos = match scale {
            Scale::Up(factor) => digits
                .checked_mul(factor)
                .ok_or(E::TooLarge)?
                .div_ceil(divisor),
            Scale::Down(factor) => digits.div_ceil(divisor.checked_mul(factor).ok_or(E::TooLarge)?),
        };
        Ok(Self { nanos })
    }
}

/// What a suffix does to a number that is then counted in billionths.
enum Scale {
    Up(u128),
    Down(u128),
}

fn scale(suffix: &str) -> Result<Scale, QuantityError> {
    let binary = |power: u32| Ok(Scale::Up(ONE << (10 * power)));
    let decimal = |power: i32| {
        let power = power.saturating_add(9);
        let factor = 10u128
            .checked_pow(power.unsigned_abs())
            .ok_or(QuantityError::TooLarge)?;
        Ok(if power < 0 {
            Scale::Down(factor)
        } else {
            Scale::Up(factor)
        })
    };
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        other => {
            let exponent = other
                .strip_prefix(['e', 'E'])
                .ok_or(QuantityError::Malformed)?;
            decimal(exponent.parse().map_err(|_| QuantityError::Malformed)?)
        }
    }
}

/// The shortest exact spelling: binary suffixes for multiples of 1024, `m`, `u` or `n` below one.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.nanos.is_multiple_of(ONE) {
            for (suffix, scale) in [("m", 1_000_000), ("u", 1000)] {
                if self.nanos.is_multiple_of(scale) {
                    return write!(f, "{}{suffix}", self.nanos / scale);
                }
            }
            return write!(f, "{}n", self.nanos);
        }
        let mut units = self.nanos / ONE;
        let mut suffix = "";
        for next in ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"] {
            if units == 0 || !units.is_multiple_of(1024) {
                break;
            }
            units /= 1024;
            suffix = next;
        }
        write!(f, "{units}{suffix}")
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantities_in_every_notation() {
        for (text, nanos) in [
            ("0", 0),
            ("1", ONE),
            ("+1", ONE),
            (" 5m ", 5_000_000),
            ("0.5", ONE / 2),
            (".5", ONE / 2),
            ("1.", ONE),
            ("1.50", ONE * 3 / 2),
            ("16Mi", ONE << 24),
            ("1.5Gi", (ONE * 3) << 29),
            ("1k", 1000 * ONE),
            ("1e3", 1000 * ONE),
            ("1E3", 1000 * ONE),
            ("1e-3", 1_000_000),
            ("1E", ONE * 1_000_000_000_000_000_000),
            ("100u", 100_000),
            ("1n", 1),
            // Finer than a billionth: rounded up, as the API server does.
            ("0.1n", 1),
            ("1e-12", 1),
        ] {
            assert_eq!(text.parse(), Ok(Quantity { nanos }), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_says_why() {
        use QuantityError as E;
        for (text, want) in [
            ("", E::Malformed),
            (".", E::Malformed),
            ("Mi", E::Malformed),
            ("16MiB", E::Malformed),
            ("16 Mi", E::Malformed),
            ("16mi", E::Malformed),
            ("1.2.3", E::Malformed),
            ("1e", E::Malformed),
            ("0x10", E::Malformed),
            ("ten", E::Malformed),
            ("-1", E::Negative),
            ("1e99", E::TooLarge),
            ("1e-2147483648", E::TooLarge),
            ("99999999999999999999Ei", E::TooLarge),
        ] {
            assert_eq!(text.parse::<Quantity>(), Err(want), "{text}");
        }
        let digits = format!("0.{}1", "0".repeat(60));
        assert_eq!(digits.parse::<Quantity>(), Err(E::TooLarge));
    }

    #[test]
    fn spelled_shortly() {
        for (quantity, text) in [
            (Quantity::ZERO, "0"),
            (Quantity::millicores(5), "5m"),
            (Quantity::millicores(1000), "1"),
            (Quantity::mebibytes(16), "16Mi"),
            (Quantity::units(4_325_376), "4224Ki"),
            (Quantity::units(1000), "1000"),
            (Quantity { nanos: 1500 }, "1500n"),
            (Quantity { nanos: 15_000 }, "15u"),
        ] {
            assert_eq!(quantity.to_string(), text);
        }
    }

    #[test]
    fn arithmetic_never_overflows() {
        let most = Quantity { nanos: u128::MAX };
        assert_eq!(most.saturating_add(most), most);
        assert_eq!(most.units_up(), u64::MAX);
        assert_eq!(Quantity::millicores(1).units_up(), 1);
    }

    proptest! {
        #[test]
        fn display_and_parse_round_trip(nanos in 0..u128::from(u64::MAX) * 1000) {
            let quantity = Quantity { nanos };
            prop_assert_eq!(quantity.to_string().parse(), Ok(quantity));
        }

        #[test]
        fn any_text_parses_or_fails_without_a_panic(text in r"[-+.0-9eEkKMGin ]{0,50}") {
            let _ = text.parse::<Quantity>();
        }
    }
}
