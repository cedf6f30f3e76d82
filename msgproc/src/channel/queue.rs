//! Messages that have come and that nobody has taken yet. No system calls here.

use std::collections::VecDeque;

use super::Message;

/// How much may lie in a [`Queue`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limits {
    /// Messages.
    pub(crate) messages: usize,
    /// Bytes. One message may exceed them where it is the only one.
    pub(crate) bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { messages: 16 * 1024, bytes: 256 << 20 }
    }
}

/// A first-in first-out queue that knows when to take no more.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    messages: VecDeque<Message>,
    bytes: usize,
    limits: Limits,
}

impl Queue {
    #[inline]
    pub(crate) fn new(limits: Limits) -> Queue {
        Queue { limits, ..Queue::default() }
    }

    /// Whether nothing more should be received into it.
    pub(crate) fn is_full(&self) -> bool {
        self.messages.len() >= self.limits.messages || self.bytes >= self.limits.bytes
    }

    pub(crate) fn push(&mut self, message: Message) {
        self.bytes += message.len();
        self.messages.push_back(message);
    }

    pub(crate) fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.len();
        Some(message)
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::frame::{self, Layout},
        *,
    };

    fn message(len: usize) -> Message {
        let mut datagram = frame::head(&[], 0);
        datagram.resize(len, 0);
        let layout = Layout::of(&datagram).unwrap();
        Message::inline(datagram, layout, Vec::new())
    }

    #[test]
    fn is_full_by_number_and_by_size() {
        let limits = Limits { messages: 2, bytes: 100 };
        let mut queue = Queue::new(limits);
        queue.push(message(10));
        assert!(!queue.is_full());
        queue.push(message(11));
        assert!(queue.is_full());
        assert_eq!(queue.pop().unwrap().len(), 10);
        assert!(!queue.is_full());
        queue.push(message(500));
        queue.pop();
        assert!(queue.is_full(), "one large message fills it");
        queue.pop();
        assert!(queue.is_empty() && !queue.is_full());
        assert!(queue.pop().is_none());
    }
}
