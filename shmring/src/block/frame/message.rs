//! How a frame travels in a message: as its block. What it is, the receiver reads from the block.

use ndarray::Dimension;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{super::Block, DynFrame, Frame, FrameError};
use crate::{array::Element, transfer};

/// Keeps the words of the error for the port.
fn refused<E: de::Error>(error: FrameError) -> E {
    E::custom(transfer::explain(error.into()))
}

impl<T, D> Serialize for Frame<T, D> {
    /// Travels only inside a message that a port sends. Over a ring, the ring must lie in the
    /// segment of the block's pool.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.block().serialize(serializer)
    }
}

impl<'de, T: Element, D: Dimension> Deserialize<'de> for Frame<T, D> {
    fn deserialize<R: Deserializer<'de>>(deserializer: R) -> Result<Frame<T, D>, R::Error> {
        Frame::open(Block::deserialize(deserializer)?).map_err(refused)
    }
}

impl Serialize for DynFrame {
    /// As [`Frame`] does.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.block().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for DynFrame {
    fn deserialize<R: Deserializer<'de>>(deserializer: R) -> Result<DynFrame, R::Error> {
        DynFrame::open(Block::deserialize(deserializer)?).map_err(refused)
    }
}
