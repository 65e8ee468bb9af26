//! In which fields two arms differ. That is the treatment: everything else is equal by construction, because a field
//! that no arm sets comes from `[controls]`, `[data]`, `[model]` or `[budget]`, which all arms share.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{
    document::FieldDifference,
    spec::{ResolvedArm, ResolvedStage},
};

/// The fields in which two arms differ, by path, such as `stages[1].train`.
pub fn treatment(baseline: &ResolvedArm, arm: &ResolvedArm) -> Vec<FieldDifference> {
    let (baseline, arm) = (fields(baseline), fields(arm));
    let paths: BTreeSet<&String> = baseline.keys().chain(arm.keys()).collect();
    let value = |side: &BTreeMap<String, Value>, path: &String| side.get(path).cloned().unwrap_or(Value::Null);
    paths
        .into_iter()
        .filter(|path| baseline.get(*path) != arm.get(*path))
        .map(|path| FieldDifference { field: path.clone(), baseline: value(&baseline, path), arm: value(&arm, path) })
        .collect()
}

/// Every setting by its path. The arm's name and levels say the same again and are left out. A schedule and an
/// augmentation policy are one setting each, as text.
pub(crate) fn fields(arm: &ResolvedArm) -> BTreeMap<String, Value> {
    let ResolvedArm { name: _, levels: _, batch_size, optimization, precision, memory, stages } = arm;
    let stage = |stage: &ResolvedStage| {
        let ResolvedStage { epochs, train, lr, schedule, augment } = stage;
        json!({
            "epochs": epochs,
            "train": train,
            "lr": lr,
            "schedule": schedule.to_string(),
            "augment": augment.to_string(),
        })
    };
    let settings = json!({
        "batch_size": batch_size,
        "optimization": optimization,
        "precision": precision,
        "memory": memory,
        "stages": stages.iter().map(stage).collect::<Vec<_>>(),
    });
    let mut fields = BTreeMap::new();
    flatten(String::new(), settings, &mut fields);
    fields
}

fn flatten(path: String, value: Value, fields: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                flatten(if path.is_empty() { key } else { format!("{path}.{key}") }, value, fields);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (index, value) in items.into_iter().enumerate() {
                flatten(format!("{path}[{index}]"), value, fields);
            }
        }
        leaf @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            fields.insert(path, leaf);
        }
    }
}
