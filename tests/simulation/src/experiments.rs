//! What users submit: small experiments of the real planner, some of which go on where others end.

use std::{
    collections::BTreeMap,
    sync::{LazyLock, Mutex, PoisonError},
};

use ceteris_coordinator::driver::SubmitRequest;
use ceteris_shared::{
    digest::Digest,
    ids::ExperimentId,
    plan::{Pins, plan},
    spec::{Format, parse},
};
use uuid::Uuid;

/// How many different ones there are.
pub const VARIANTS: usize = 8;

/// The experiment with this index in a world, of this kind. Planning is the same every time, so it is done once.
pub fn request(index: u128, variant: usize) -> SubmitRequest {
    static PLANNED: Mutex<BTreeMap<(u128, usize), SubmitRequest>> = Mutex::new(BTreeMap::new());
    let mut planned = PLANNED.lock().unwrap_or_else(PoisonError::into_inner);
    planned.entry((index, variant)).or_insert_with(|| make(index, variant)).clone()
}

/// One whose plan contradicts itself.
pub fn senseless() -> SubmitRequest {
    static SENSELESS: LazyLock<SubmitRequest> = LazyLock::new(|| {
        let mut request = make(98, 0);
        request.plan.segments.clear();
        request
    });
    SENSELESS.clone()
}

fn make(index: u128, variant: usize) -> SubmitRequest {
    let experiment = ExperimentId(Uuid::from_u128(index + 1));
    let source = source(variant);
    let spec = parse(&source, Format::Toml).expect("the simulation's experiments are valid");
    let pins = Pins { dataset: Some(Digest::of(b"data set")), ..Pins::default() };
    let plan = plan(experiment, &spec, &pins).expect("the simulation's experiments can be planned");
    SubmitRequest { experiment, spec, source, pins, plan, reused: None }
}

fn source(variant: usize) -> String {
    // One budget goes on where the other ends; the same arms may be trained in any class, or with steps.
    let epochs = if variant.is_multiple_of(2) { 3 } else { 5 };
    let environment = if variant & 2 == 0 { "same" } else { "any" };
    let (seeds, steps) = if variant & 4 == 0 { (1, "") } else { (2, "[execution]\ncheckpoint_every_steps = 2\n") };
    let rest = epochs - 2;
    format!(
        r#"
name = "variant-{variant}"
data = {{ dataset = "d" }}
model = {{ init = "random" }}
budget = {{ epochs = {epochs} }}
controls = {{ environment = "{environment}" }}
seeds = {{ count = {seeds} }}
[[arm]]
name = "frozen"
stages = [{{ epochs = {epochs}, train = "head" }}]
[[arm]]
name = "finetuned"
stages = [{{ epochs = 2, train = "head" }}, {{ epochs = {rest}, train = "denseblock4" }}]
[[arm]]
name = "deeper"
stages = [{{ epochs = {early}, train = "head" }}, {{ epochs = {late}, train = "denseblock3" }}]
{steps}"#,
        early = if epochs == 3 { 1 } else { 4 },
        late = if epochs == 3 { 2 } else { 1 },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_them_can_be_planned_and_some_share_lineage() {
        let plans: Vec<_> = (0..VARIANTS).map(|variant| request(variant as u128, variant).plan).collect();
        assert!(plans.iter().all(|plan| plan.segments.iter().any(|segment| segment.parent.is_some())));
        let keys = |index: usize| -> Vec<_> {
            plans[index].segments.iter().flat_map(|segment| segment.work.epochs.iter().map(|epoch| epoch.key)).collect()
        };
        assert!(keys(0).iter().any(|key| keys(1).contains(key)), "a longer budget goes on");
    }
}
