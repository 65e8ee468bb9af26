//! Ensembles as derived runs: the members' predictions, put together, judged like a run of its own. An ensemble is charged the sum of what
//! its members were: it is no treatment at the same budget, and is in no contrast.

use super::Facts;
use crate::{
    compare::{self, DataSets, Predicted},
    document::{Combination, Ensemble, Evidence},
    ids::Epoch,
    stats::{Labelled, crossed},
};

/// The most bytes of predictions that are kept for ensembles; where there are more, none is made.
const MOST_BYTES: u64 = 512 << 20;

/// Whether the predictions of so many runs can be kept.
pub(super) fn worth_keeping(runs: usize, data: &DataSets) -> bool {
    let own = data.patients.val.of().len() + data.patients.test.of().len();
    let external: usize = data.patients.external.values().map(|clusters| clusters.of().len()).sum();
    let values = (own + external) as u64 * data.own.classes.len() as u64;
    values.saturating_mul(runs as u64).saturating_mul(8) <= MOST_BYTES
}

/// A run that can be a member.
#[derive(Clone, Copy)]
pub(super) struct Member<'a> {
    pub(super) arm: &'a str,
    pub(super) seed: u64,
    pub(super) epochs: u64,
    pub(super) facts: &'a Facts,
}

/// All seeds of each arm, all arms of each seed, and everything. `members` come arm by arm; there are none where one of them has no
/// predictions.
pub(super) fn ensembles(evidence: &Evidence, data: &DataSets, members: &[Member<'_>], at: Epoch) -> Vec<Ensemble> {
    let distinct = |mut names: Vec<String>| {
        let mut seen = std::collections::HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names
    };
    let arms = distinct(members.iter().map(|member| member.arm.to_owned()).collect());
    let seeds = distinct(members.iter().map(|member| member.seed.to_string()).collect());
    let mut wanted: Vec<(String, Vec<Member<'_>>)> = Vec::new();
    let of = |keep: &dyn Fn(&Member<'_>) -> bool| members.iter().copied().filter(|member| keep(member)).collect();
    for arm in &arms {
        wanted.push((format!("{arm}, all seeds"), of(&|member| member.arm == arm)));
    }
    if arms.len() > 1 {
        for seed in &seeds {
            wanted.push((format!("seed {seed}, all arms"), of(&|member| member.seed.to_string() == *seed)));
        }
        wanted.push(("all arms, all seeds".to_owned(), of(&|_| true)));
    }
    let judged = |(name, members): &(String, Vec<Member<'_>>), how: Combination| {
        (members.len() > 1).then(|| judge(evidence, data, name, members, how, at))?
    };
    let binary = data.own.classes.len() == 2;
    let ways: &[Combination] = if binary { &[Combination::Mean, Combination::LogitMean] } else { &[Combination::Mean] };
    wanted.iter().flat_map(|wanted| ways.iter().filter_map(move |how| judged(wanted, *how))).collect()
}

fn judge(
    evidence: &Evidence,
    data: &DataSets,
    name: &str,
    members: &[Member<'_>],
    how: Combination,
    at: Epoch,
) -> Option<Ensemble> {
    let predictions: Option<Vec<&Predicted>> = members.iter().map(|member| member.facts.predicted.as_ref()).collect();
    let predicted = combine(&predictions?, how)?;
    let (rule, metric) = (evidence.spec.endpoint.threshold, compare::metric_to_read(&evidence.spec, at));
    let metrics = compare::score(&predicted, rule);
    let value = metrics.on(metric.split).and_then(|scores| scores.get(metric.score));
    let influence = predicted.influence(&data.patients, rule, metric);
    let estimate = value.zip(influence).and_then(|(value, influence)| crossed(&[value], &[influence]));
    let interval = estimate.filter(|estimate| estimate.standard_error > 0.0);
    Some(Ensemble {
        name: name.to_owned(),
        combination: how,
        members: members.len() as u64,
        epochs: members.iter().map(|member| member.epochs).sum(),
        metric,
        interval: interval.map(|estimate| estimate.interval(1.0 - evidence.spec.compare.alpha)),
        metrics,
    })
}

/// Puts predictions on the same samples together.
fn combine(members: &[&Predicted], how: Combination) -> Option<Predicted> {
    let part = |of: &dyn Fn(&Predicted) -> Option<Labelled>| -> Option<Labelled> {
        let members: Option<Vec<Labelled>> = members.iter().map(|member| of(member)).collect();
        Labelled::combined(&members?, how == Combination::LogitMean)
    };
    let first = members.first()?;
    let external = first
        .external
        .keys()
        .filter_map(|name| Some((name.clone(), part(&|member: &Predicted| member.external.get(name).cloned())?)));
    Some(Predicted {
        val: Some(part(&|member: &Predicted| member.val.clone())?),
        test: part(&|member: &Predicted| member.test.clone()),
        external: external.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(scores: &[f64]) -> Labelled {
        Labelled::of_scores(vec![0, 1, 1], scores).expect("well-formed")
    }

    #[test]
    fn means_are_of_probabilities_or_of_logits() {
        let members = [of(&[0.2, 0.5, 0.9]), of(&[0.4, 0.5, 0.5])];
        let scores = |logits: bool| {
            let combined = Labelled::combined(&members, logits).expect("the same samples");
            combined.one_vs_rest(1).into_iter().map(|(score, _)| score).collect::<Vec<_>>()
        };
        assert!(scores(false).iter().zip([0.3, 0.5, 0.7]).all(|(ours, theirs)| (ours - theirs).abs() < 1e-15));
        // sqrt(0.9 · 0.5) : sqrt(0.1 · 0.5)
        assert!((scores(true)[2] - 0.75).abs() < 1e-12 && (scores(true)[1] - 0.5).abs() < 1e-15);
        let other = Labelled::of_scores(vec![1, 1, 1], &[0.2, 0.5, 0.9]).expect("well-formed");
        assert_eq!(Labelled::combined(&[of(&[0.2, 0.5, 0.9]), other], false), None, "other labels");
    }
}
