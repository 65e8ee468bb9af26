//! How training branches, as the plan has it, for one seed.

use std::collections::BTreeSet;

use crate::{
    document::TreeSegment,
    plan::{Plan, PlannedRun},
};

/// The segments that the runs of the first seed go through, parents first.
pub(super) fn tree(plan: &Plan) -> Vec<TreeSegment> {
    let Some(seed) = plan.runs.first().map(|run| run.seed) else { return Vec::new() };
    let runs: Vec<&PlannedRun> = plan.runs.iter().filter(|run| run.seed == seed).collect();
    let used: BTreeSet<usize> = runs.iter().flat_map(|run| run.path.iter().copied()).collect();
    let used: Vec<usize> = used.into_iter().collect();
    let place = |segment: usize| used.binary_search(&segment).ok();
    let segment = |&index: &usize| {
        let segment = &plan.segments[index];
        let mut train: Vec<String> = segment.work.epochs.iter().map(|epoch| epoch.train.name().to_owned()).collect();
        train.dedup();
        let through = runs.iter().filter(|run| run.path.contains(&index));
        TreeSegment {
            parent: segment.parent.and_then(place),
            first: segment.work.start().next(),
            last: segment.work.last_epoch(),
            train,
            arms: through.map(|run| plan.arms[run.arm].name.clone()).collect(),
        }
    };
    used.iter().map(segment).collect()
}
