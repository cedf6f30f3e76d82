//! The work itself: every frame is decoded and measured, and the results come
//! back in the order of the frames. Here everything is done in this process;
//! [`crew`](crate::crew) has it done by others.

use std::fmt::Arguments;
use std::time::Instant;

use examples::picture::{Broken, Decoder, Size};
use examples::stats;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::source::{Next, Source};
use crate::stop::Stop;
use crate::wait;

/// What one frame's luma says on its own.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Measures {
    pub(crate) size: Size,
    pub(crate) mean_luma: f64,
    pub(crate) edge_mean: f64,
}

/// What became of a frame. `P` is the place of its luma plane.
pub(crate) type Outcome<P> = Result<(Measures, P), Broken>;

/// A frame that was dealt with.
#[derive(Debug)]
pub(crate) struct Done<P> {
    pub(crate) number: u64,
    /// When it was found in the input.
    pub(crate) split: Instant,
    /// Its length in the input.
    pub(crate) bytes: usize,
    pub(crate) outcome: Outcome<P>,
}

/// Takes the results, in order.
pub(crate) trait Sink<P: AsRef<[u8]>> {
    /// Takes one, and gives back a plane that it no longer needs.
    fn put(&mut self, done: Done<P>) -> Result<Option<P>, Failure>;

    /// Gives back the last plane, for no other will come.
    fn rest(&mut self) -> Option<P>;

    /// Tells the user of something that happened on the way.
    fn tell(&self, what: Arguments<'_>);
}

/// Who did the work, and what it left behind.
#[derive(Debug)]
pub(crate) struct Work {
    /// Frames dealt with by each worker; empty if there was none.
    pub(crate) frames_per_worker: Vec<u64>,
    pub(crate) blocks_in_use: usize,
    pub(crate) restarts: u64,
}

/// Does everything in this process, until the source ends, the sink fails, or
/// somebody asks to stop.
pub(crate) fn run(
    source: &mut Source,
    sink: &mut impl Sink<Vec<u8>>,
    stop: &Stop,
) -> Result<Work, Failure> {
    let mut decoder = Decoder::new();
    let mut spare = None;
    while !stop.requested() {
        let frame = match source.next_frame()? {
            Next::Frame(frame) => frame,
            Next::NotYet => {
                if let Some(descriptor) = source.descriptor() {
                    wait::until_readable(descriptor)?;
                }
                continue;
            }
            Next::End => break,
        };
        let outcome = frame.picture.and_then(|picture| {
            measure(&mut decoder, picture, |size| {
                let mut plane: Vec<u8> = spare.take().unwrap_or_default();
                plane.resize(size.pixels(), 0);
                plane
            })
        });
        let done = Done { number: frame.number, split: frame.split, bytes: frame.bytes, outcome };
        spare = sink.put(done)?;
    }
    Ok(Work { frames_per_worker: Vec::new(), blocks_in_use: 0, restarts: 0 })
}

/// Decodes one picture into the plane that `place` makes for it, and measures it.
pub(crate) fn measure<P: AsMut<[u8]>>(
    decoder: &mut Decoder,
    picture: &[u8],
    place: impl FnOnce(Size) -> P,
) -> Outcome<P> {
    let opened = decoder.open(picture)?;
    let size = opened.size();
    let mut place = place(size);
    let plane = place.as_mut();
    opened.luma_into(plane)?;
    let mean_luma = stats::mean_luma(plane);
    let edge_mean = stats::edge_mean(plane, size);
    Ok((Measures { size, mean_luma, edge_mean }, place))
}
