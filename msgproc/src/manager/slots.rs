//! Places with numbers: found in one step, used again, and a stale number is noticed.

use std::fmt;

/// Which process of a manager.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId {
    index: u32,
    generation: u32,
}

impl ProcessId {
    /// The number of its place: 0 for the first process that was added, then 1, and so on; the
    /// place of a removed one is used again.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

impl fmt::Debug for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProcessId({}", self.index)?;
        if self.generation > 0 {
            write!(f, ", generation {}", self.generation)?;
        }
        write!(f, ")")
    }
}

/// Values in places.
#[derive(Debug)]
pub(super) struct Slots<T> {
    places: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Slots<T> {
        Slots { places: Vec::new(), free: Vec::new() }
    }

    /// Puts a value into the place that was freed last, or into a new one.
    pub(super) fn insert(&mut self, value: T) -> ProcessId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            u32::try_from(self.places.len() - 1).expect("fewer than 2^32 places")
        });
        let (generation, place) = &mut self.places[index as usize];
        *place = Some(value);
        ProcessId { index, generation: *generation }
    }

    pub(super) fn get(&self, id: ProcessId) -> Option<&T> {
        let (generation, value) = self.places.get(id.index())?;
        value.as_ref().filter(|_| *generation == id.generation)
    }

    pub(super) fn get_mut(&mut self, id: ProcessId) -> Option<&mut T> {
        let (generation, value) = self.places.get_mut(id.index())?;
        value.as_mut().filter(|_| *generation == id.generation)
    }

    pub(super) fn remove(&mut self, id: ProcessId) -> Option<T> {
        self.get(id)?;
        let (generation, place) = &mut self.places[id.index()];
        *generation = generation.wrapping_add(1);
        self.free.push(id.index);
        place.take()
    }

    /// Who is in this place now.
    pub(super) fn at(&self, index: usize) -> Option<ProcessId> {
        let (generation, value) = self.places.get(index)?;
        value.as_ref()?;
        Some(ProcessId { index: index as u32, generation: *generation })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ProcessId, &T)> {
        self.places.iter().zip(0..).filter_map(|((generation, value), index)| {
            Some((ProcessId { index, generation: *generation }, value.as_ref()?))
        })
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (ProcessId, &mut T)> {
        self.places.iter_mut().zip(0..).filter_map(|((generation, value), index)| {
            Some((ProcessId { index, generation: *generation }, value.as_mut()?))
        })
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoke() {
        let mut slots = Slots::new();
        let (a, b) = (slots.insert('a'), slots.insert('b'));
        assert_eq!((a.index(), b.index(), slots.len()), (0, 1, 2));
        assert_eq!(slots.get(a), Some(&'a'));
        assert_eq!(slots.iter().collect::<Vec<_>>(), [(a, &'a'), (b, &'b')]);
    }

    #[test]
    fn a_stale_number_finds_nothing() {
        let mut slots = Slots::new();
        let a = slots.insert('a');
        assert_eq!(slots.remove(a), Some('a'));
        assert_eq!((slots.remove(a), slots.at(0), slots.len()), (None, None, 0));
        let b = slots.insert('b');
        assert_eq!(b.index(), a.index());
        assert_eq!((slots.get(a), slots.get(b)), (None, Some(&'b')));
        assert_eq!(slots.get_mut(a), None);
        assert_eq!(slots.at(0), Some(b));
        assert_ne!(a, b);
    }
}
