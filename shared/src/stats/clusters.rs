//! What samples were drawn from: images of one patient are not independent, so the patient is the unit that is resampled.

use std::{collections::HashMap, hash::Hash};

/// The cluster of each sample: its patient, or the sample itself where patients are not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clusters {
    of: Vec<u32>,
    count: usize,
}

impl Clusters {
    /// Each of `samples` samples on its own.
    pub fn singletons(samples: usize) -> Self {
        Self { of: (0..).take(samples).collect(), count: samples }
    }

    /// Samples with equal names belong together; one without a name is on its own.
    pub fn named<K: Hash + Eq>(names: impl IntoIterator<Item = Option<K>>) -> Self {
        let mut known: HashMap<K, u32> = HashMap::new();
        let mut of = Vec::new();
        let mut count = 0;
        for name in names {
            let mut next = || {
                count += 1;
                count - 1
            };
            of.push(match name {
                Some(name) => *known.entry(name).or_insert_with(next),
                None => next(),
            });
        }
        Self { of, count: count as usize }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The cluster of each sample, below [`Clusters::count`].
    pub fn of(&self) -> &[u32] {
        &self.of
    }

    /// Those of the samples at `indices`, renumbered.
    pub fn subset(&self, indices: &[usize]) -> Self {
        Self::named(indices.iter().map(|&index| Some(self.of[index])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_belong_together_and_no_name_is_on_its_own() {
        let clusters = Clusters::named([Some("a"), None, Some("b"), Some("a"), None]);
        assert_eq!((clusters.of(), clusters.count()), (&[0, 1, 2, 0, 3][..], 4));
        assert_eq!(clusters.subset(&[3, 4]).of(), [0, 1]);
        assert_eq!(Clusters::singletons(2).of(), [0, 1]);
    }
}
