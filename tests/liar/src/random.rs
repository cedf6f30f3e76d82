//! Numbers that decide what is done.

/// Numbers out of bytes that somebody chose, and when those are used up, out of a generator.
pub struct Random {
    given: Vec<u8>,
    at: usize,
    state: u64,
}

impl Random {
    /// The generator alone.
    pub fn new(seed: u64) -> Random {
        Random { given: Vec::new(), at: 0, state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    /// These bytes first.
    pub fn of(bytes: &[u8]) -> Random {
        Random { given: bytes.into(), ..Random::new(1) }
    }

    /// Whether no chosen byte is left.
    pub fn is_used_up(&self) -> bool {
        self.at >= self.given.len()
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.take(8)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bits = usize::BITS - (bound - 1).leading_zeros();
        (self.take(bits.div_ceil(8).max(1) as usize) % bound as u64) as usize
    }

    /// As many bytes as are chosen, at most `len`.
    pub fn bytes(&mut self, len: usize) -> &[u8] {
        let from = self.at.min(self.given.len());
        self.at = (from + len).min(self.given.len());
        &self.given[from..self.at]
    }

    fn take(&mut self, len: usize) -> u64 {
        if self.is_used_up() {
            // xorshift64*, Vigna 2016.
            self.state ^= self.state >> 12;
            self.state ^= self.state << 25;
            self.state ^= self.state >> 27;
            return self.state.wrapping_mul(0x2545_f491_4f6c_dd1d);
        }
        self.bytes(len).iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_first() {
        let mut random = Random::of(&[7, 1, 2, 3]);
        assert_eq!(random.below(10), 7);
        assert_eq!(random.below(1 << 16), 0x201);
        assert_eq!(random.any(), 3);
        assert!(random.is_used_up());
        assert_ne!(random.any(), random.any());
        assert!(random.below(3) < 3);
    }
}
