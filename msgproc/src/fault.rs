//! Named points at which a process of a run kills itself, so that tests can stop it at every half
//! step. `flow/README.md` says what a death at each of them leaves.
//!
//! Without the feature `fault` a point costs nothing, and this module has nothing in it.

/// A fault point: `fault!(HANDLE_BEGUN)`. Its name stands in the list below, else it does not
/// compile.
macro_rules! fault {
    ($name:ident) => {
        #[cfg(feature = "fault")]
        shmring::fault::pass($crate::fault::$name);
    };
}
pub(crate) use fault;

#[cfg(feature = "fault")]
macro_rules! points {
    ($($name:ident = $text:literal,)*) => {
        $(pub(crate) const $name: &str = $text;)*

        /// All points, as they are called in [`shmring::fault`].
        pub const ALL: &[&str] = &[$($name),*];
    };
}

#[cfg(feature = "fault")]
points! {
    // A worker is about to do something.
    WORK_BEGUN = "flow.work.begun",
    // A message begins to be handled: each of the stores.
    HANDLE_NOTHING = "flow.handle.nothing",
    HANDLE_MESSAGE = "flow.handle.message",
    HANDLE_ITEM = "flow.handle.item",
    HANDLE_FIRST = "flow.handle.first",
    HANDLE_LEFT_OUT = "flow.handle.left_out",
    HANDLE_BASE = "flow.handle.base",
    HANDLE_LANE = "flow.handle.lane",
    // Its items, one after the other.
    ITEM_BEGUN = "flow.item.begun",
    ITEM_HANDLED = "flow.item.handled",
    ITEMS_DONE = "flow.items.done",
    ITEMS_SENT = "flow.items.sent",
    // What came of them is sent.
    SEND_NO_INTENT = "flow.send.no_intent",
    SEND_LANE = "flow.send.lane",
    SEND_FIRST = "flow.send.first",
    SEND_ITEMS = "flow.send.items",
    SEND_INTENT = "flow.send.intent",
    // It is one item, too long for a message.
    SPILL_NO_DRAFT = "flow.spill.no_draft",
    SPILL_AT = "flow.spill.at",
    SPILL_LEN = "flow.spill.len",
    SPILL_NUMBER = "flow.spill.number",
    SPILL_DRAFT = "flow.spill.draft",
    SPILL_WRITTEN = "flow.spill.written",
    SPILL_LONG = "flow.spill.long",
    SEND_LAST = "flow.send.last",
    SEND_PUT = "flow.send.put",
    SEND_FIRST_MOVED = "flow.send.first_moved",
    SEND_SENT = "flow.send.sent",
    SEND_COUNTED = "flow.send.counted",
    SEND_RUNG = "flow.send.rung",
    // The message is done with.
    TAKE_FETCHED = "flow.take.fetched",
    TAKE_LEASED = "flow.take.leased",
    TAKE_KNOWN = "flow.take.known",
    TAKE_LATE = "flow.take.late",
    TAKE_NUMBER = "flow.take.number",
    TAKE_ENDED = "flow.take.ended",
    TAKE_TO_BE_DONE = "flow.take.to_be_done",
    TAKE_NEXT = "flow.take.next",
    TAKE_PUNCHED = "flow.take.punched",
    TAKE_RELEASED = "flow.take.released",
    TAKE_DONE = "flow.take.done",
    TAKE_RUNG = "flow.take.rung",
    // Messages begin before their turn.
    AHEAD_COUNTED = "flow.ahead.counted",
    AHEAD_BEGUN = "flow.ahead.begun",
    AHEAD_ONE_BY_ONE = "flow.ahead.one_by_one",
    // A source.
    SOURCE_PRODUCED = "flow.source.produced",
    // The node is told that an input has ended.
    TELL_NOTHING = "flow.tell.nothing",
    TELL_BASE = "flow.tell.base",
    TELL_BEGUN = "flow.tell.begun",
    TELL_SENT = "flow.tell.sent",
    TELL_TOLD = "flow.tell.told",
    // The end.
    END_NOTHING = "flow.end.nothing",
    END_BASE = "flow.end.base",
    END_BEGUN = "flow.end.begun",
    END_CALLED = "flow.end.called",
    END_FLUSHED = "flow.end.flushed",
    END_SAID = "flow.end.said",
    END_ENDED = "flow.end.ended",
    END_CLOSED = "flow.end.closed",
    // A replacement is set up, and finds what was begun.
    RECOVER_INLET = "flow.recover.inlet",
    RECOVER_PUNCHED = "flow.recover.punched",
    RECOVER_NOT_LONG = "flow.recover.not_long",
    RECOVER_SENT = "flow.recover.sent",
    RECOVER_READY = "flow.recover.ready",
    RECOVER_AGAIN = "flow.recover.again",
    RECOVER_LEFT_OUT = "flow.recover.left_out",
    RECOVER_DROPPED = "flow.recover.dropped",
    RECOVER_SETTLED = "flow.recover.settled",
    RECOVER_BURNT = "flow.recover.burnt",
    RECOVER_FORCED = "flow.recover.forced",
}
