//! The shared memory of the frontend and all its workers: one segment, with a
//! lane for each worker and one pool of blocks.

use examples::picture;
use shmring::Segment;
use shmring::block::BlockPool;
use shmring::ring::records::Records;

use crate::worker::Lane;

/// Enough for the answers that a worker can have on their way.
const ANSWERS: usize = 16 << 10;

/// Of larger things no more than a quarter of this is kept spare.
const MOST_SPARE: usize = 4 << 20;

/// Lengths of what must find room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Bytes of a picture as it is coded.
    coded: usize,
    /// Bytes of its luma plane.
    plane: usize,
}

impl Needs {
    /// Looks at a picture's header. One that is broken has no plane.
    pub(crate) fn of(picture: &[u8]) -> Self {
        let plane = picture::size(picture).map_or(0, |size| size.pixels());
        Self { coded: picture.len(), plane }
    }

    /// What both need, with some more where `other` needs more than this, so that pictures
    /// that become larger one by one do not each need another room.
    pub(crate) fn grown(self, other: Self) -> Self {
        let grown =
            |old: usize, new: usize| if new > old { new + new.min(MOST_SPARE) / 4 } else { old };
        Self { coded: grown(self.coded, other.coded), plane: grown(self.plane, other.plane) }
    }
}

#[derive(Debug)]
pub(crate) struct Room {
    segment: Segment,
    lanes: Vec<(Records, Records)>,
    planes: BlockPool,
    needs: Needs,
}

impl Room {
    /// Makes room for so many workers with `depth` pictures each on their way to
    /// them, and for `planes` planes at once.
    ///
    /// Memory is taken from the system only as it is used, and the blocks that
    /// were freed last are used first.
    pub(crate) fn new(
        workers: usize,
        depth: usize,
        planes: usize,
        needs: Needs,
    ) -> shmring::Result<Self> {
        // A record may be half as long as its ring.
        let jobs = Records::options().capacity((needs.coded + 64) * depth.max(2));
        let answers = Records::options().capacity(ANSWERS);
        let pool =
            BlockPool::options().blocks(planes).block_len(needs.plane.max(1)).carriers(workers);
        // Besides the frontend there are workers that died, until their places are free again.
        let participants = 2 * workers + 1;
        let lane = jobs.len_in_segment()? + answers.len_in_segment()?;
        let segment = Segment::options()
            .len(pool.len_in_segment(participants)? + workers * lane)
            .participants(participants)
            .objects(1 + 2 * workers)
            .bells(workers + 2)
            .anonymous()?;
        let planes = pool.create_in(&segment)?;
        let lane =
            |_| Ok((jobs.clone().create_in(&segment)?, answers.clone().create_in(&segment)?));
        let lanes = (0..workers).map(lane).collect::<shmring::Result<_>>()?;
        Ok(Self { segment, lanes, planes, needs })
    }

    /// Whether a picture finds room.
    pub(crate) fn fits(&self, needs: Needs) -> bool {
        needs.coded <= self.needs.coded && needs.plane <= self.needs.plane
    }

    /// Returns what this room was made for.
    pub(crate) fn needs(&self) -> Needs {
        self.needs
    }

    /// Returns what one worker gets to see.
    pub(crate) fn lane(&self, worker: usize) -> Lane {
        let (jobs, answers) = self.lanes[worker].clone();
        Lane { jobs, answers, planes: self.planes.clone() }
    }

    /// Gives back what workers held that died.
    pub(crate) fn repair(&self) {
        self.segment.repair();
    }

    pub(crate) fn blocks_in_use(&self) -> usize {
        self.planes.in_use()
    }
}
