//! What is frozen must not move. The trainer keeps it in inference mode and writes it as a part of each checkpoint; where that part has
//! other bytes at the end of a stage than after its first epoch, something was trained that the spec does not say, and the arm is not
//! what it claims to be.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Input, runs_of};
use crate::{
    digest::Digest,
    document::{Reason, Refusal, RefusedField},
    ids::Epoch,
    plan::PlannedRun,
};

/// A frozen part that moved.
struct Moved {
    seed: u64,
    from: (Epoch, Digest),
    to: (Epoch, Digest),
}

/// The refusal of an arm of which a run's frozen part moved within a stage.
pub(super) fn moved(input: &Input<'_>, arm: usize, at: Epoch) -> Option<Refusal> {
    let moved: Vec<Moved> = runs_of(input.plan, arm).iter().filter_map(|run| of_run(input, run, at)).collect();
    let first = moved.first()?;
    let seeds: Vec<String> = moved.iter().map(|moved| moved.seed.to_string()).collect();
    let name = input.arm_name(arm);
    let values: BTreeMap<String, Value> =
        [(name.to_owned(), Value::from(vec![first.from.1.to_string(), first.to.1.to_string()]))].into();
    Some(Refusal {
        arms: vec![name.to_owned()],
        reason: Reason::FrozenMoved,
        message: format!(
            "arm {name:?} has weights or BatchNorm statistics that are frozen and moved (seeds {}; of seed {} between epochs {} and {}), so \
             something was trained that the spec does not say; train it again (`ceteris verify run`) and look for what changed its \
             checkpoints",
            seeds.join(", "),
            first.seed,
            first.from.0,
            first.to.0,
        ),
        fields: vec![RefusedField { field: "frozen".to_owned(), values }],
    })
}

fn of_run(input: &Input<'_>, run: &PlannedRun, at: Epoch) -> Option<Moved> {
    let frozen = &input.runs.get(&run.id)?.frozen;
    let epochs = run.path.iter().flat_map(|&index| &input.plan.segments[index].work.epochs);
    let mut before: Option<(Epoch, Digest)> = None;
    for (work, digest) in epochs.zip(frozen).take(at.0 as usize) {
        if work.optimizer_starts {
            before = None;
        }
        let Some(digest) = *digest else { continue };
        match before {
            Some(from) if from.1 != digest => return Some(Moved { seed: run.seed, from, to: (work.epoch, digest) }),
            Some(_) => {}
            None => before = Some((work.epoch, digest)),
        }
    }
    None
}
