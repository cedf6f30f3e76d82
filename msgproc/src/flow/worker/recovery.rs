//! What a worker finds that replaces another.

use super::{At, Core, words};
use crate::{fault::fault, flow::node::Node};

/// What is handled again after a death.
#[derive(Clone, Copy, Debug)]
pub(super) struct Again {
    pub(super) lane: u64,
    pub(super) message: u64,
    pub(super) item: u64,
    pub(super) crashes: u64,
    /// The item to leave out, since it has killed too often.
    pub(super) without: Option<u64>,
    /// Whether the run is to fail because of that.
    pub(super) gives_up: bool,
}

impl<N: Node> Core<N> {
    /// What the process that this one replaces was at when it died.
    pub(super) fn look_back(&mut self) -> Option<Again> {
        if self.setting.info.restarts == 0 {
            return None;
        }
        self.found = At::of(self.load(words::LANE));
        let At::Message(lane) = self.found else { return None };
        let (message, item) = (self.load(words::MESSAGE), self.load(words::ITEM));
        let item = item & !words::NOT_BEGUN;
        let at = words::moment(lane, message, item);
        let known = self.load(words::CRASHED_AT) == at;
        let crashes = if known { self.load(words::CRASHES) } else { 0 };
        let too_many = crashes > u64::from(self.setting.on_death.retries());
        let skips = self.setting.on_death.skips();
        let without = (too_many && skips).then_some(item);
        Some(Again { lane, message, item, crashes, without, gives_up: too_many && !skips })
    }

    /// Leaves an item of the message at hand out, whatever other items processes die over.
    pub(super) fn leave_out(&self, item: u64) {
        let word = LeftOut::word(item);
        let before = word.map_or(0, |word| self.load(word));
        let bit = 1 << (item % 64);
        if before & bit == 0 {
            self.add(words::QUARANTINED, 1);
            if let Some(word) = word {
                self.store(word, before | bit);
                fault!(RECOVER_LEFT_OUT);
            }
        }
    }

    /// Of a new message nothing is left out, and nobody died over it.
    pub(super) fn leave_nothing_out(&self) {
        for word in LeftOut::WORDS.into_iter().chain([words::REACHED]) {
            if self.load(word) != 0 {
                self.store(word, 0);
                fault!(HANDLE_LEFT_OUT);
            }
        }
    }

    /// What is left out of the message that is handled again.
    pub(super) fn left_out(&self, again: &Again) -> LeftOut {
        LeftOut { bits: LeftOut::WORDS.map(|word| self.load(word)), last: again.without }
    }
}

/// Which items of a message are left out.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct LeftOut {
    bits: [u64; words::LEFT_OUT_WORDS],
    /// The last of them, which may have no bit.
    last: Option<u64>,
}

impl LeftOut {
    const WORDS: [usize; words::LEFT_OUT_WORDS] =
        [words::LEFT_OUT, words::LEFT_OUT + 1, words::LEFT_OUT + 2, words::LEFT_OUT + 3];

    /// The word with an item's bit.
    fn word(item: u64) -> Option<usize> {
        LeftOut::WORDS.get((item / 64) as usize).copied()
    }

    #[inline]
    pub(super) fn has(&self, item: u64) -> bool {
        let bits = self.bits.get((item / 64) as usize).copied().unwrap_or(0);
        bits >> (item % 64) & 1 == 1 || self.last == Some(item)
    }
}
