//! Arms that differ in more than one setting, or in one that is not the declared treatment. Nothing that is measured can
//! tell what such a difference comes from, so it is refused, and before training it is said that it will be.

use std::collections::BTreeSet;

use super::{ArmPair, factors::Differing, factors::factors};
use crate::{
    document::{Reason, Refusal, RefusedField},
    spec::{ExperimentSpec, Factor, Metric, ResolvedArm},
};

/// What a difference between two arms would be a difference of.
pub(super) struct Treated {
    /// The settings in which they differ.
    pub(super) factors: Vec<Factor>,
    /// Whether they are several, and declared to be one treatment.
    pub(super) bundle: bool,
    /// Why it would be no one's in particular.
    pub(super) refused: Option<Refusal>,
}

impl Treated {
    pub(super) fn of(spec: &ExperimentSpec, arms: &[ResolvedArm], pair: ArmPair, metric: Metric) -> Self {
        let (baseline, arm) = (&arms[pair.baseline], &arms[pair.arm]);
        let differing = factors(baseline, arm);
        let factors: Vec<Factor> = differing.iter().map(|differing| differing.factor).collect();
        let message = message(spec.compare.treatment.as_deref(), &factors, [&baseline.name, &arm.name], metric);
        let refused = message.map(|message| Refusal {
            arms: vec![baseline.name.clone(), arm.name.clone()],
            reason: Reason::Confounded,
            message,
            fields: differing.into_iter().map(|differing| field(differing, [&baseline.name, &arm.name])).collect(),
        });
        let bundle = refused.is_none() && factors.len() > 1;
        Self { factors, bundle, refused }
    }

    /// The names of the factors, as documents have them.
    pub(super) fn names(&self) -> Vec<String> {
        self.factors.iter().map(|factor| factor.name().to_owned()).collect()
    }
}

fn field(differing: Differing, arms: [&String; 2]) -> RefusedField {
    let Differing { factor, values } = differing;
    RefusedField { field: factor.name().to_owned(), values: arms.into_iter().cloned().zip(values).collect() }
}

fn message(declared: Option<&[Factor]>, factors: &[Factor], arms: [&String; 2], metric: Metric) -> Option<String> {
    let [baseline, arm] = arms;
    let Some(declared) = declared else {
        return (factors.len() > 1).then(|| {
            format!(
                "{arm:?} differs from {baseline:?} in {} at once, so a difference in {metric} could be {}; {}, add an arm that \
                 differs in one of them alone, or, if the bundle itself is the treatment, declare it: {}",
                list(&stages_first(factors), "and"),
                if factors.len() == 2 { "either's" } else { "any one's" },
                equalise(factors),
                declaration(factors)
            )
        });
    };
    let hidden: Vec<Factor> = factors.iter().filter(|factor| !declared.contains(factor)).copied().collect();
    let all: Vec<Factor> = declared.iter().chain(&hidden).copied().collect();
    let (differ, are, them) = if hidden.len() == 1 { ("differs", "is", "it") } else { ("differ", "are", "them") };
    (!hidden.is_empty()).then(|| {
        let named = list(&stages_first(&hidden), "and");
        format!(
            "{named} {differ} between {baseline:?} and {arm:?} and {are} not in the declared treatment ({}), so a difference in \
             {metric} could be due to {them}; set {named} equal in both, or declare {them} too: {}",
            list(&stages_first(declared), "and"),
            declaration(&all)
        )
    })
}

/// How a spec says that the arms may differ in all of these.
fn declaration(factors: &[Factor]) -> String {
    let names: BTreeSet<&str> = factors.iter().map(|factor| factor.name()).collect();
    let names: Vec<String> = names.into_iter().map(|name| format!("{name:?}")).collect();
    format!("[compare] treatment = [{}]", names.join(", "))
}

/// The way to a single factor. How the budget is spent is what arms are usually about, so that is kept.
fn equalise(factors: &[Factor]) -> String {
    let others: Vec<Factor> = factors.iter().filter(|factor| **factor != Factor::Stages).copied().collect();
    match (others.len() == factors.len(), factors.len()) {
        (false, ..=3) => format!("set {} equal in both", list(&others, "and")),
        (false, _) => "set all but stages equal in both".to_owned(),
        (true, 2) => format!("set {} equal in both", list(&others, "or")),
        (true, _) => "set all but one of them equal in both".to_owned(),
    }
}

fn stages_first(factors: &[Factor]) -> Vec<Factor> {
    let mut factors = factors.to_vec();
    factors.sort_by_key(|factor| (*factor != Factor::Stages, *factor));
    factors
}

/// `a`, `a and b`, `a, b and c`.
fn list(factors: &[Factor], conjunction: &str) -> String {
    let names: Vec<&str> = factors.iter().map(|factor| factor.name()).collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, before)) => format!("{} {conjunction} {last}", before.join(", ")),
        None => String::new(),
    }
}
