//! Claims of a paper or a README, held against what an experiment shows.
//!
//! A claim is a sentence of a small language (`says.rs`); a file lists them (`file.rs`). It holds where the experiment was set up
//! to answer it and the answer is what it says: the two arms and the metric are a contrast that was fixed before training, the arms
//! are comparable, and the verdict at the endpoint agrees. Whatever else the numbers would let one say was found by looking, and is
//! told as not declared.

mod file;
mod says;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::{
    contrast::number,
    verdict::{confidence, tells_of_treatments},
};
use crate::{
    dataset::Split,
    document::{Comparison, Contrast, Verdict},
    ids::Epoch,
    spec::Metric,
};

pub use file::{Error, MAX_CLAIMS, MAX_CLAIMS_BYTES, Stated, parse};
pub use says::SaysError;

/// Something that is said about two arms, as its [`Display`](std::fmt::Display) writes it and [`FromStr`](std::str::FromStr) reads it:
/// `finetuned > frozen in test.auc at 20 epochs by >= 0.005`.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The arm that is named first.
    pub left: String,
    /// What it is to the other one.
    pub relation: Relation,
    /// The arm that is named last.
    pub right: String,
    /// In what.
    pub metric: Metric,
    /// After how many epochs; none is the endpoint.
    pub at: Option<Epoch>,
}

/// What one arm's value of the metric is to another's. It is about values: the smaller loss is the better one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Relation {
    /// Larger, by at least so much.
    Larger {
        /// How much; none is any difference.
        least: Option<f64>,
    },
    /// Smaller, by at least so much.
    Smaller {
        /// How much; none is any difference.
        least: Option<f64>,
    },
    /// The same, but for so much.
    Equivalent {
        /// The largest difference that does not matter.
        margin: f64,
    },
}

/// What a claim is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The evidence says so.
    Holds,
    /// The evidence says otherwise.
    Fails,
    /// There is too little evidence for either, or there is no verdict at this epoch.
    Undecided,
    /// Something else than the treatment differs between the arms, or runs are not there.
    NotComparable,
    /// It was not fixed before training that this would be looked at.
    NotDeclared,
}

impl Status {
    /// The words in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Fails => "fails",
            Self::Undecided => "undecided",
            Self::NotComparable => "not comparable",
            Self::NotDeclared => "not declared",
        }
    }
}

/// A status and its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// What the claim is worth.
    pub status: Status,
    /// Why, in a sentence.
    pub because: String,
}

impl Judgement {
    fn new(status: Status, because: impl Into<String>) -> Self {
        Self { status, because: because.into() }
    }
}

impl Claim {
    /// The epoch before the endpoint that it is about; none where it is about the endpoint, or about more epochs than were trained.
    pub fn before_endpoint(&self, budget: u32) -> Option<Epoch> {
        self.at.filter(|at| at.0 < budget)
    }

    /// The arm that is said to have the larger value; of two equivalent ones the first.
    fn larger(&self) -> &str {
        match self.relation {
            Relation::Larger { .. } | Relation::Equivalent { .. } => &self.left,
            Relation::Smaller { .. } => &self.right,
        }
    }

    fn is_about(&self, arm: &str) -> bool {
        self.left == arm || self.right == arm
    }
}

/// Judges a claim by a comparison that reads [`Claim::before_endpoint`] or, where that is none, the endpoint.
pub fn judge(claim: &Claim, comparison: &Comparison) -> Judgement {
    match contrast_of(claim, comparison) {
        Ok(contrast) => judge_by(claim, comparison, contrast),
        Err(judgement) => judgement,
    }
}

/// The contrast that answers the claim.
fn contrast_of<'a>(claim: &Claim, comparison: &'a Comparison) -> Result<&'a Contrast, Judgement> {
    let not_declared = |because: String| Err(Judgement::new(Status::NotDeclared, because));
    let budget = comparison.budget;
    if let Some(at) = claim.at.filter(|at| at.0 > budget) {
        return not_declared(format!("the experiment trains {budget} epochs, and the claim is about epoch {at}"));
    }
    let known = |name: &str| comparison.arms.iter().any(|arm| arm.name == name);
    if let Some(unknown) = [&claim.left, &claim.right].into_iter().find(|name| !known(name)) {
        let arms = list(comparison.arms.iter().map(|arm| arm.name.clone()));
        return not_declared(format!("the experiment has no arm {unknown:?}; its arms are {arms}"));
    }
    let declared = comparison.endpoint.metric;
    // Before the endpoint test data are not looked at, and arms are told apart on val.
    let counterpart = comparison.truncated && claim.metric == Metric { split: Split::Val, ..declared };
    if claim.metric != declared && !counterpart {
        return not_declared(format!(
            "it was fixed before training that arms are judged on {declared}, and the claim is about {}",
            claim.metric
        ));
    }
    let refusal = comparison.refused.iter().find(|refusal| refusal.arms.iter().all(|arm| claim.is_about(arm)));
    if let Some(refusal) = refusal {
        return Err(Judgement::new(Status::NotComparable, refusal.message.clone()));
    }
    let is_of_both = |contrast: &&Contrast| claim.is_about(&contrast.arm) && claim.is_about(&contrast.baseline);
    comparison.contrasts.iter().find(is_of_both).map_or_else(
        || {
            let made = comparison.contrasts.iter().map(|made| format!("{:?} against {:?}", made.arm, made.baseline));
            not_declared(format!(
                "{:?} against {:?} is no contrast that was declared: arms are compared with the baseline at the same levels of \
                 the grid{}",
                claim.left,
                claim.right,
                if comparison.contrasts.is_empty() { String::new() } else { format!(", here {}", list(made)) }
            ))
        },
        Ok,
    )
}

/// Some of them, for a sentence.
fn list(names: impl ExactSizeIterator<Item = String>) -> String {
    const SHOWN: usize = 6;
    let all = names.len();
    let mut shown: Vec<String> = names.take(SHOWN).collect();
    if all > SHOWN {
        shown.push(format!("and {} more", all - SHOWN));
    }
    shown.join(", ")
}

fn judge_by(claim: &Claim, comparison: &Comparison, contrast: &Contrast) -> Judgement {
    let Contrast { baseline, arm, verdict, because, .. } = contrast;
    let told = format!("the verdict on {arm:?} against {baseline:?} is {}: {because}", verdict.name());
    if *verdict == Verdict::NotComparable {
        return Judgement::new(Status::NotComparable, told);
    }
    let toward = |larger: &str, interval: [f64; 2]| {
        let [low, high] = interval;
        // Not `-high`: there is no -0 in a sentence.
        if larger == arm { [low, high] } else { [0.0 - high, 0.0 - low] }
    };
    // Of one seed, of epochs before the endpoint and of two equal arms an interval says nothing about treatments.
    let interval = contrast.difference.uncertainty.as_ref().map(|uncertainty| uncertainty.interval);
    let interval = interval.filter(|_| tells_of_treatments(contrast) && !comparison.truncated);
    let interval = interval.map(|interval| toward(claim.larger(), interval));
    let confidence = confidence(comparison.alpha);
    match claim.relation {
        Relation::Equivalent { margin } => equivalent(contrast, margin, interval, &confidence, told),
        Relation::Larger { least } | Relation::Smaller { least } => {
            let arm_is_larger = match verdict {
                Verdict::Better => Some(contrast.metric.score.larger_is_better()),
                Verdict::Worse => Some(!contrast.metric.score.larger_is_better()),
                Verdict::Equivalent | Verdict::Inconclusive | Verdict::NotComparable => None,
            };
            let as_claimed = arm_is_larger.map(|larger| larger == (claim.larger() == arm));
            if *verdict == Verdict::Equivalent || as_claimed == Some(false) {
                return Judgement::new(Status::Fails, told);
            }
            match least {
                Some(least) => at_least(least, interval, as_claimed == Some(true), &confidence, told),
                None if as_claimed == Some(true) => Judgement::new(Status::Holds, told),
                None => Judgement::new(Status::Undecided, told),
            }
        }
    }
}

/// Whether the difference is `least` or more: where it is shown that there is one, the lower end of its interval decides.
fn at_least(least: f64, interval: Option<[f64; 2]>, shown: bool, confidence: &str, told: String) -> Judgement {
    let Some([low, high]) = interval else { return Judgement::new(Status::Undecided, told) };
    let (begins, ends) = (beside(low, least), beside(high, least));
    let bound = number(least);
    if high < least {
        let because =
            format!("the {confidence} interval of the claimed difference ends at {ends}, below {bound}; {told}");
        Judgement::new(Status::Fails, because)
    } else if !shown {
        Judgement::new(Status::Undecided, told)
    } else if low >= least {
        let because = format!(
            "the {confidence} interval of the claimed difference begins at {begins}, not below {bound}; {told}"
        );
        Judgement::new(Status::Holds, because)
    } else {
        let because = format!(
            "the {confidence} interval of the claimed difference begins at {begins}, below {bound}, and ends at {ends}; {told}"
        );
        Judgement::new(Status::Undecided, because)
    }
}

/// Whether the difference is within `margin`: by the verdict, where the declared margin is not larger, or by its whole interval.
fn equivalent(
    contrast: &Contrast,
    margin: f64,
    interval: Option<[f64; 2]>,
    confidence: &str,
    told: String,
) -> Judgement {
    let declared = contrast.difference.margin.is_some_and(|declared| declared <= margin);
    if contrast.verdict == Verdict::Equivalent && declared {
        return Judgement::new(Status::Holds, told);
    }
    let Some([low, high]) = interval else { return Judgement::new(Status::Undecided, told) };
    let (status, lies) = if low >= -margin && high <= margin {
        (Status::Holds, "lies within")
    } else if low > margin || high < -margin {
        (Status::Fails, "lies outside")
    } else {
        (Status::Undecided, "reaches beyond")
    };
    let (begins, ends) = (beside(low, -margin), beside(high, margin));
    let bound = number(margin);
    let because = format!(
        "the {confidence} interval of the difference, {begins} to {ends}, {lies} the margin of {bound} to both sides; {told}"
    );
    Judgement::new(status, because)
}

/// `value` rounded, unless it would then look like the bound that it is held against.
fn beside(value: f64, bound: f64) -> String {
    let rounded = number(value);
    if value != bound && rounded == number(bound) { value.to_string() } else { rounded }
}
