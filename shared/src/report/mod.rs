//! The report: everything that an experiment says, computed from its evidence and its predictions, and from nothing else. Who has
//! those two computes the same report, to the last digit; `ceteris verify` does.
//!
//! It is built epoch by epoch, so that of predictions no more than a few runs' are in memory, and of every run what each patient
//! contributes to the score after one epoch. A [`Builder`] says which files it wants of an epoch; a [`Reader`] reads one run's,
//! wherever and in however many threads; what was read is added, and after the last epoch there is a report.

mod answer;
mod builder;
mod checklist;
mod curves;
mod difference;
mod ensembles;
mod external;
mod facts;
mod fields;
mod matched;
mod reader;
mod shapes;
mod subgroups;
mod sweep;
#[cfg(test)]
mod tests;
mod tree;

pub use builder::{Builder, Wanted};
pub use difference::{Differences, NumberDifference, differences};
pub use reader::{Facts, Reader};
pub use subgroups::{Attributes, MOST_VALUES};

use crate::{
    compare,
    ids::{Epoch, RunId},
    spec,
};

/// The most epochs that are told; of longer budgets as many, evenly spaced, the last one among them.
pub const MOST_EPOCHS: u32 = 60;

/// Why there is no report.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("the evidence has a spec that cannot be planned: {0}")]
    Spec(#[from] spec::Error),
    #[error(transparent)]
    Compare(#[from] compare::Error),
    #[error("the evidence's runs are not those that its spec plans: {0}")]
    Runs(String),
    #[error(
        "epoch {epoch} of run {run} (arm {arm:?}, seed {seed}) has another lineage than its spec says: the evidence was changed, or \
         runs were swapped"
    )]
    Lineage { run: RunId, arm: String, seed: u64, epoch: Epoch },
}

/// Which epochs are told.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    epochs: Vec<Epoch>,
}

impl Told {
    fn up_to(last: Epoch) -> Self {
        let count = last.0.min(MOST_EPOCHS);
        // From the last one backwards, in equal steps.
        let epoch = |index: u32| Epoch((u64::from(last.0) * u64::from(index) / u64::from(count.max(1))) as u32);
        Self { epochs: (1..=count).map(epoch).collect() }
    }
}
