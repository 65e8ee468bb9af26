//! What an arm loses on data from elsewhere.

use super::Facts;
use crate::{
    document::{Evidence, ExternalDrop, Uncertainty},
    stats::{Influence, crossed, crossed_over},
};

/// The drop from test to each external data set, over the seeds that have both. The two sets of patients are drawn independently, the
/// seeds are the same.
pub(super) fn drops(evidence: &Evidence, runs: &[&Facts]) -> Vec<ExternalDrop> {
    let names = evidence.pins.external.iter().map(|(name, _)| name.as_str());
    names.filter_map(|name| drop_of(evidence, name, runs)).collect()
}

fn drop_of(evidence: &Evidence, name: &str, runs: &[&Facts]) -> Option<ExternalDrop> {
    let score = evidence.spec.endpoint.metric.score;
    let values = |facts: &&Facts| {
        let metrics = facts.metrics();
        let internal = metrics.test.as_ref()?.get(score)?;
        Some((internal, metrics.external.get(name)?.get(score)?))
    };
    let values: Vec<(f64, f64)> = runs.iter().filter_map(values).collect();
    if values.is_empty() {
        return None;
    }
    let mean = |of: fn(&(f64, f64)) -> f64| values.iter().map(of).sum::<f64>() / values.len() as f64;
    let internal: Option<Vec<Influence>> = runs.iter().map(|facts| Some(facts.test.as_ref()?.times(-1.0))).collect();
    let external: Option<Vec<Influence>> = runs.iter().map(|facts| facts.external.get(name).cloned()).collect();
    let differences: Vec<f64> = values.iter().map(|(internal, external)| external - internal).collect();
    let estimate = internal
        .as_ref()
        .zip(external.as_ref())
        .and_then(|(internal, external)| crossed_over(&differences, &[internal, external]))
        .filter(|estimate| estimate.standard_error > 0.0);
    let patients = |of: &Option<Vec<Influence>>| of.as_ref().and_then(|all| all.first()).map_or(0, Influence::clusters);
    let patients = (patients(&internal) + patients(&external)) as u64;
    Some(ExternalDrop {
        name: name.to_owned(),
        score: score.name().to_owned(),
        internal: mean(|values| values.0),
        external: mean(|values| values.1),
        external_interval: external
            .as_ref()
            .and_then(|influences| crossed(&values.iter().map(|values| values.1).collect::<Vec<_>>(), influences))
            .filter(|estimate| estimate.standard_error > 0.0)
            .map(|estimate| estimate.interval(1.0 - evidence.spec.compare.alpha)),
        difference: mean(|values| values.1 - values.0),
        uncertainty: estimate.map(|estimate| Uncertainty::of(&estimate, evidence.spec.compare.alpha, patients)),
    })
}
