//! What a run leaves behind: its checkpoints and its measured values. Neither may depend on faults.

use std::collections::BTreeMap;

use ceteris_shared::{
    checkpoint::Part,
    dataset::Split,
    document::{Checkpoints, State},
    ids::Epoch,
    lineage::LineageKey,
};

use crate::{Client, Spec};

/// Of the committed epochs of one run: the key and the files of each checkpoint, and each measured value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// By epoch. A part's digest is that of its bytes: weights that are equal have equal ones.
    pub checkpoints: BTreeMap<Epoch, (LineageKey, Vec<Part>)>,
    /// By what was measured.
    pub metrics: BTreeMap<(Epoch, Split, String), f64>,
}

impl Trace {
    /// Of the only run of an experiment, as far as it is; also how far that is, and how many values and checkpoints are
    /// there more than once.
    ///
    /// # Panics
    /// When there is no such experiment, or it cannot be asked for.
    #[track_caller]
    pub fn so_far(client: &Client, experiment: &str) -> (State, Self, u32) {
        let run = client.only_run(experiment);
        let (mut trace, mut doubled) = (Self::default(), 0);
        // A point stands before its epoch's commit; until then it may be another attempt's in the end.
        for point in run.series.iter().filter(|point| point.epoch <= run.epoch) {
            let key = (point.epoch, point.split, point.name.clone());
            doubled += u32::from(trace.metrics.insert(key, point.value).is_some());
        }
        let saved: Checkpoints = client.document(&["checkpoint", "ls", &run.run.to_string()]);
        for saved in saved.epochs {
            doubled += u32::from(trace.checkpoints.insert(saved.epoch, (saved.key, saved.parts)).is_some());
        }
        (run.state, trace, doubled)
    }

    /// Of the only run of an experiment that is done.
    ///
    /// # Panics
    /// When it is not, when a value or a checkpoint is missing, or is there twice.
    #[track_caller]
    pub fn complete(client: &Client, spec: &Spec<'_>) -> Self {
        let (state, trace, doubled) = Self::so_far(client, spec.name);
        assert_eq!((state, doubled), (State::Done, 0), "{trace:?}");
        let of_val = trace.metrics.keys().filter(|(_, split, _)| *split == Split::Val).count();
        assert_eq!(of_val, 3 * spec.epochs as usize, "loss, accuracy and auc of every epoch: {trace:?}");
        assert_eq!(trace.checkpoints.len(), spec.epochs as usize);
        trace
    }

    /// How many checkpoints and values of an earlier look are missing now, or are others.
    pub fn lost_since(&self, earlier: &Self) -> u32 {
        let checkpoints =
            earlier.checkpoints.iter().filter(|(epoch, saved)| self.checkpoints.get(epoch) != Some(saved));
        let metrics = earlier.metrics.iter().filter(|(what, value)| self.metrics.get(what) != Some(value));
        (checkpoints.count() + metrics.count()) as u32
    }
}
