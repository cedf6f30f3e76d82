//! The same work over several systems: what `bench` needs of it, and `compare` with more of them.

pub(crate) mod bare;
pub(crate) mod ours;
pub(crate) mod pipes;
pub(crate) mod system;
pub(crate) mod work;

use super::{line, pair, stats};
