//! The work itself: a frame is decoded and measured.

use std::time::Instant;

use examples::picture::{Broken, Decoder, Size};
use examples::stats;
use serde::{Deserialize, Serialize};
use shmring::block::Block;

/// What one frame's luma says on its own.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Measures {
    pub(crate) size: Size,
    pub(crate) mean_luma: f64,
    pub(crate) edge_mean: f64,
}

/// What became of a frame, with its luma plane.
pub(crate) type Outcome = Result<(Measures, Block), Broken>;

/// A frame that was dealt with.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) number: u64,
    /// When it was found in the input.
    pub(crate) split: Instant,
    /// Its length in the input.
    pub(crate) bytes: usize,
    pub(crate) outcome: Outcome,
}

/// Decodes one picture into the plane that `place` makes for it, and measures it.
pub(crate) fn measure<P: AsMut<[u8]>>(
    decoder: &mut Decoder,
    picture: &[u8],
    place: impl FnOnce(Size) -> P,
) -> Result<(Measures, P), Broken> {
    let opened = decoder.open(picture)?;
    let size = opened.size();
    let mut place = place(size);
    let plane = place.as_mut();
    opened.luma_into(plane)?;
    let mean_luma = stats::mean_luma(plane);
    let edge_mean = stats::edge_mean(plane, size);
    Ok((Measures { size, mean_luma, edge_mean }, place))
}
