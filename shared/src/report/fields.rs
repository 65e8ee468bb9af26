//! Every setting of an experiment, and what it is in it: treatment, controlled or incidental. Nothing is left out, so that a reader sees
//! what was held equal and does not have to believe that something was.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{
    compare::{self, DataSets},
    document::{Evidence, Field, FieldClass},
    plan::Plan,
};

/// In the order treatment, controlled, incidental.
pub(super) fn fields(evidence: &Evidence, plan: &Plan, data: &DataSets) -> Vec<Field> {
    let mut all = of_arms(plan);
    all.extend(of_experiment(evidence, data));
    all.sort_by_key(|field| field.class as u8);
    all
}

fn of_arms(plan: &Plan) -> Vec<Field> {
    let arms: Vec<(&str, BTreeMap<String, Value>)> =
        plan.arms.iter().map(|arm| (arm.name.as_str(), compare::fields(arm))).collect();
    let paths: BTreeSet<&String> = arms.iter().flat_map(|(_, fields)| fields.keys()).collect();
    let field = |path: &String| {
        let values: BTreeMap<&str, Value> =
            arms.iter().map(|(arm, fields)| (*arm, fields.get(path).cloned().unwrap_or(Value::Null))).collect();
        let mut different: Vec<&Value> = values.values().collect();
        different.dedup();
        match different[..] {
            [value] => Field { field: path.clone(), class: FieldClass::Controlled, value: value.clone() },
            _ => Field { field: path.clone(), class: FieldClass::Treatment, value: json!(values) },
        }
    };
    paths.into_iter().map(field).collect()
}

fn of_experiment(evidence: &Evidence, data: &DataSets) -> Vec<Field> {
    let spec = &evidence.spec;
    let pinned = |name: &str, digest: Value| json!({ "name": name, "digest": digest });
    let external: Vec<Value> =
        evidence.pins.external.iter().map(|(name, digest)| pinned(name, json!(digest))).collect();
    let environment = |environment: &crate::checkpoint::Environment| environment.to_string();
    let environments: Vec<String> = evidence.environments.iter().map(environment).collect();
    let init = pinned(&spec.model.init.to_string(), json!(evidence.pins.init));
    let controlled = [
        ("data.dataset", pinned(&spec.data.dataset, json!(evidence.pins.dataset))),
        ("data.external", json!(external)),
        ("data.image_size", json!(data.own.image_size)),
        ("data.transform", json!(data.own.transform)),
        ("model.arch", json!(spec.model.arch)),
        ("model.init", init),
        ("budget.epochs", json!(spec.budget.epochs)),
        ("seeds", json!(spec.seeds.list())),
        ("endpoint.metric", json!(spec.endpoint.metric)),
        ("endpoint.epoch", json!(spec.endpoint.epoch)),
        ("endpoint.threshold", json!(spec.endpoint.threshold)),
        ("compare.alpha", json!(spec.compare.alpha)),
        ("compare.correct", json!(spec.compare.correct)),
        ("compare.margin", json!(spec.compare.margin)),
        ("environment", json!(environments)),
    ];
    let incidental = [
        ("name", json!(spec.name)),
        ("submitted_at", json!(evidence.submitted_at)),
        ("execution", json!(spec.execution)),
        ("keep", json!(spec.keep)),
    ];
    let of = |class: FieldClass| move |(field, value): (&str, Value)| Field { field: field.to_owned(), class, value };
    let controlled = controlled.into_iter().map(of(FieldClass::Controlled));
    controlled.chain(incidental.into_iter().map(of(FieldClass::Incidental))).collect()
}
