//! Inputs where nobody watches which code they reach: seeds, cut, joined and overwritten.

use crate::{Random, targets};

/// Makes inputs for one target, the same for the same seed.
pub struct Generator {
    seeds: Vec<Vec<u8>>,
    random: Random,
}

impl Generator {
    /// Inputs for the target of that name.
    pub fn new(target: &str, seed: u64) -> Generator {
        Generator { seeds: targets::seeds(target), random: Random::new(seed) }
    }

    /// The next input.
    pub fn input(&mut self) -> Vec<u8> {
        let random = &mut self.random;
        let seed = random.below(self.seeds.len());
        let mut input = self.seeds[seed].clone();
        // Most seeds are short and say what is done; the rest decides how.
        if random.below(2) == 0 && input.len() < 64 {
            let more = random.below(200);
            input.extend((0..more).map(|_| random.any() as u8));
        }
        for _ in 0..random.below(8) {
            change(&mut input, random);
        }
        input
    }
}

fn change(input: &mut Vec<u8>, random: &mut Random) {
    if input.is_empty() {
        input.push(random.any() as u8);
        return;
    }
    // Headers stand at the beginning.
    let reach = if random.below(2) == 0 { input.len() } else { input.len().min(256) };
    let at = random.below(reach);
    match random.below(8) {
        0 => input.truncate(at),
        1 => input.insert(at, random.any() as u8),
        2 => drop(input.remove(at)),
        3 => input[at] ^= 1 << random.below(8),
        4 => input[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
        5 => {
            let end = (at + 8).min(input.len());
            let word = random.any().to_le_bytes();
            input[at..end].copy_from_slice(&word[..end - at]);
        }
        6 => {
            let from = random.below(input.len());
            let len = random.below(16).min(input.len() - from.max(at));
            input.copy_within(from..from + len, at);
        }
        _ => input[at] = random.any() as u8,
    }
}
