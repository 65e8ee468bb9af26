//! `ceteris.matched/1`: contrasts where something else than epochs is equal.

use ceteris_shared::{
    document::{Matched, MatchedSays, Refusal},
    ids::{Epoch, ExperimentId},
};
use serde::Serialize;

use super::{duration, number};
use crate::output::{ReadOut, Table};

/// The contrasts of an experiment on one axis.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "schema", rename = "ceteris.matched/1")]
pub struct MatchedContrasts {
    /// Which experiment.
    pub experiment: ExperimentId,
    /// What people call it.
    pub name: String,
    /// What is equal.
    pub axis: String,
    /// The last epoch that is read.
    pub at: Epoch,
    /// True where it was asked to compare what is not comparable: evidence of nothing.
    pub exploratory: bool,
    /// Confidence of intervals is 1 - alpha.
    pub alpha: f64,
    /// The contrasts.
    pub contrasts: Vec<Matched>,
    /// What is not comparable.
    pub refused: Vec<Refusal>,
}

/// The epochs that runs are read at.
pub fn epochs([first, last]: [Epoch; 2]) -> String {
    match (first.0, last.0) {
        (0, 0) => "no epoch".to_owned(),
        _ if first == last => format!("epoch {first}"),
        _ => format!("epochs {first} to {last}"),
    }
}

/// What both arms may have spent, for people.
pub fn amount(matched: &Matched) -> String {
    match matched.axis.as_str() {
        "seconds" => duration(matched.amount),
        "flops" => format!("{:.3e}", matched.amount),
        _ => format!("{:.0}", matched.amount),
    }
}

/// What a contrast says beside the one at equal epochs.
pub fn says(says: MatchedSays) -> &'static str {
    match says {
        MatchedSays::Same => "the same",
        MatchedSays::Opposite => "OPPOSITE",
        MatchedSays::NotShown => "not shown",
        MatchedSays::ShownHere => "shown here alone",
        MatchedSays::NotTreated => "not yet treated",
        MatchedSays::Unknown => "-",
    }
}

impl ReadOut for MatchedContrasts {
    fn text(&self) -> String {
        let mut text = format!("{} ({}), equal {} instead of equal epochs\n", self.name, self.experiment, self.axis);
        if self.exploratory {
            text += "EXPLORATORY: what is not comparable is compared; this is evidence of nothing\n";
        }
        text += "on val, at evaluated epochs: the last ones by which neither arm has spent more than the one that spent less in all; no verdict\n\n";
        let confidence = format!("{} % interval", super::percent(1.0 - self.alpha));
        let header = ["arm", "against", "metric", "each spends", "arm read at", "baseline read at", ">difference"];
        let mut table = Table::new(header.into_iter().chain([confidence.as_str(), "beside equal epochs"]));
        for matched in &self.contrasts {
            let interval = matched.uncertainty.as_ref().map(|known| known.interval);
            table.row([
                matched.arm.clone(),
                matched.baseline.clone(),
                matched.metric.to_string(),
                amount(matched),
                epochs(matched.arm_epochs),
                epochs(matched.baseline_epochs),
                matched.difference.map_or_else(|| "-".to_owned(), super::difference),
                interval.map_or_else(|| "-".to_owned(), |[low, high]| format!("{low:+.4} to {high:+.4}")),
                says(matched.says).to_owned(),
            ]);
        }
        text += &table.text();
        for refusal in &self.refused {
            text += &format!("refused: {}\n", refusal.message);
        }
        text
    }

    fn csv(&self) -> Table {
        let mut table = Table::new([
            "axis",
            "arm",
            "baseline",
            "metric",
            "amount",
            "arm_first",
            "arm_last",
            "baseline_first",
            "baseline_last",
            "difference",
            "low",
            "high",
            "says",
        ]);
        for matched in &self.contrasts {
            let end = |index: usize| matched.uncertainty.as_ref().map(|known| known.interval[index]);
            table.row([
                matched.axis.clone(),
                matched.arm.clone(),
                matched.baseline.clone(),
                matched.metric.to_string(),
                matched.amount.to_string(),
                matched.arm_epochs[0].to_string(),
                matched.arm_epochs[1].to_string(),
                matched.baseline_epochs[0].to_string(),
                matched.baseline_epochs[1].to_string(),
                number(matched.difference),
                number(end(0)),
                number(end(1)),
                says(matched.says).to_owned(),
            ]);
        }
        table
    }
}
