//! The work itself: every frame is decoded and measured, and the results come
//! back in the order of the frames.

use std::time::Instant;

use examples::picture::{Broken, Decoder, Size};
use examples::stats;

use crate::failure::Failure;
use crate::source::Source;
use crate::stop::Stop;

/// What one frame's luma says on its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measures {
    pub(crate) size: Size,
    pub(crate) mean_luma: f64,
    pub(crate) edge_mean: f64,
}

/// A frame that was dealt with. `P` is the place of its luma plane.
#[derive(Debug)]
pub(crate) struct Done<P> {
    pub(crate) number: u64,
    /// When it was found in the input.
    pub(crate) split: Instant,
    /// Its length in the input.
    pub(crate) bytes: usize,
    pub(crate) outcome: Result<(Measures, P), Broken>,
}

/// Takes the results, in order.
pub(crate) trait Sink<P: AsRef<[u8]>> {
    /// Takes one, and gives back a plane that it no longer needs.
    fn put(&mut self, done: Done<P>) -> Result<Option<P>, Failure>;
}

/// Who did the work, and what it left behind.
#[derive(Debug)]
pub(crate) struct Work {
    /// Frames dealt with by each worker; empty if there was none.
    pub(crate) frames_per_worker: Vec<u64>,
    pub(crate) blocks_in_use: usize,
    pub(crate) restarts: u64,
}

/// Runs until the source ends, the sink fails, or somebody asks to stop.
pub(crate) fn run<S>(
    source: &mut Source,
    sink: &mut S,
    workers: usize,
    stop: &Stop,
) -> Result<Work, Failure>
where
    S: Sink<Vec<u8>>,
{
    match workers {
        0 => in_this_process(source, sink, stop),
        n => Err(Failure::Usage(format!("--workers {n}: only 0 is possible in this build"))),
    }
}

fn in_this_process(
    source: &mut Source,
    sink: &mut impl Sink<Vec<u8>>,
    stop: &Stop,
) -> Result<Work, Failure> {
    let mut decoder = Decoder::new();
    let mut spare = None;
    while !stop.requested() {
        let Some(frame) = source.next_frame()? else {
            break;
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
