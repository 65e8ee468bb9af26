//! Where the segments are: found by id, kept one after the other.
//!
//! A coordinator may have a million of them, so what each costs beside its own data counts. They are never removed.

use std::collections::HashMap;

use ceteris_shared::ids::SegmentId;

use crate::scheduler::Segment;

/// All segments. Iterating goes in the order in which they came, so that the same events give the same effects.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Segments {
    places: HashMap<SegmentId, usize>,
    all: Vec<(SegmentId, Segment)>,
}

impl Segments {
    /// Enters a segment whose id is not known yet.
    pub(crate) fn insert(&mut self, id: SegmentId, segment: Segment) {
        self.places.insert(id, self.all.len());
        self.all.push((id, segment));
    }

    /// Makes room for so many more.
    pub(crate) fn reserve(&mut self, more: usize) {
        self.places.reserve(more);
        // A tenth more than is there and not twice as much: these are the coordinator's largest piece of memory.
        if self.all.capacity() - self.all.len() < more {
            self.all.reserve_exact(more.max(self.all.len() / 10));
        }
    }

    pub(crate) fn contains_key(&self, id: &SegmentId) -> bool {
        self.places.contains_key(id)
    }

    pub(crate) fn get(&self, id: &SegmentId) -> Option<&Segment> {
        self.all.get(*self.places.get(id)?).map(|(_, segment)| segment)
    }

    pub(crate) fn get_mut(&mut self, id: &SegmentId) -> Option<&mut Segment> {
        self.all.get_mut(*self.places.get(id)?).map(|(_, segment)| segment)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SegmentId, &Segment)> {
        self.all.iter().map(|(id, segment)| (*id, segment))
    }
}

#[cfg(test)]
impl std::ops::Index<&SegmentId> for Segments {
    type Output = Segment;

    fn index(&self, id: &SegmentId) -> &Segment {
        self.get(id).expect("the segment is known")
    }
}
