//! What a backend has received and not handled yet: two lanes, the urgent one first.

use crate::{
    channel::{Limits, Message, Queue},
    message::Down,
    start::{LANES, Lane},
};

/// Messages that wait, in the lanes by which they came.
#[derive(Debug)]
pub(super) struct Inbox {
    lanes: [Queue; LANES],
    /// How many commands of each lane have been taken out.
    taken: [u64; LANES],
    /// How many messages have come by the urgent lane.
    urgent: u64,
}

impl Inbox {
    #[inline]
    pub(super) fn new(limits: Limits) -> Inbox {
        Inbox { lanes: [Queue::new(limits), Queue::new(limits)], taken: [0; LANES], urgent: 0 }
    }

    /// Whether nothing more should be received into it.
    pub(super) fn is_full(&self) -> bool {
        self.lanes.iter().any(Queue::is_full)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lanes.iter().all(Queue::is_empty)
    }

    /// Takes a message in. Where all urgent ones have come that were `announced`, it is none.
    pub(super) fn push(&mut self, message: Message, announced: u64) {
        let lane = if announced == self.urgent { Lane::Ordinary } else { lane_of(&message) };
        self.urgent += u64::from(lane == Lane::Urgent);
        self.lanes[lane as usize].push(message);
    }

    /// Takes the next message: the oldest urgent one, or else the oldest one.
    pub(super) fn pop(&mut self) -> Option<Message> {
        Lane::ALL.into_iter().find_map(|lane| self.lanes[lane as usize].pop())
    }

    /// The number of a command in its lane, which has just been taken out.
    pub(super) fn number(&mut self, lane: Lane) -> u64 {
        self.taken[lane as usize] += 1;
        self.taken[lane as usize]
    }

    /// How many messages have come by the urgent lane.
    pub(super) fn urgent(&self) -> u64 {
        self.urgent
    }
}

fn lane_of(message: &Message) -> Lane {
    match postcard::take_from_bytes::<Down<'_>>(message.header()) {
        Ok((Down::Command { urgent, .. }, _)) => Lane::of(urgent),
        Ok((Down::Probe { .. }, _)) => Lane::Urgent,
        _ => Lane::Ordinary,
    }
}
