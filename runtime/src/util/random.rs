//! Random numbers for tests: the same in each run, so that a failure can be reproduced.

/// A xorshift generator.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// How often to do something at random: fewer times under Miri, where each takes a thousand
    /// times as long.
    pub(crate) fn times(count: usize) -> usize {
        if cfg!(miri) { count.div_ceil(400) } else { count }
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }

    pub(crate) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}
