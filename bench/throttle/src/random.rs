//! Chance that is the same in each run, so that a result can be made again.

/// The xorshift64* generator.
pub(crate) struct Random(u64);

impl Random {
    /// A generator for this seed.
    pub(crate) fn new(seed: u64) -> Self {
        // Its state must not be zero, and small seeds must not begin alike.
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        random.next();
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number of `0..bound`; zero if that is empty.
    pub(crate) fn below(&mut self, bound: i64) -> i64 {
        let bound = u64::try_from(bound).unwrap_or(0).max(1);
        i64::try_from((self.next() >> 16) % bound).unwrap_or(0)
    }

    /// A number of `-most..=most`.
    pub(crate) fn around_zero(&mut self, most: i64) -> i64 {
        self.below(2 * most + 1) - most
    }
}
