//! `ceteris compare`: arms of an experiment, or with `--predictions` models that were trained elsewhere.

mod models;

use std::collections::BTreeSet;

use ceteris_proto::v1;
use ceteris_shared::document::{Comparison, Reason, Verdict};
use clap::{Args, ValueEnum};

use crate::{client, context::Global, evidence, failure::Failure, output, render::MatchedContrasts};

/// Compare the arms of an experiment: scores over seeds, each run, confusion, and what can be said about differences.
///
/// Arms that were not trained for the same number of epochs, or that differ in several settings at once and do not declare
/// them as one treatment, are refused: what can be told is printed, what is refused is listed with its reason, and the exit
/// code is 3.
///
/// With --predictions models that were trained elsewhere are compared by what they predicted, each with the first file's. A file is
/// CSV or, if its name ends in .parquet, Parquet, with the columns sample, label and score (the probability of the positive class), and
/// optionally patient, seed and subgroup. All files are of the same samples and seeds. Nothing is known of their budgets, and the result
/// says so.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris compare kermany                     at the endpoint that the spec declares
  ceteris compare kermany --at 2              a look at epoch 2, on val alone
  ceteris compare kermany --match flops       on val, where both arms have done as many operations
  ceteris compare kermany --verdict           for scripts: did anything come out?
  ceteris compare kermany -o json | jq '.arms[] | {name, auc: .summary.test.auc.mean}'
  ceteris compare kermany -o csv > runs.csv
  ceteris compare --predictions old.csv new.csv --metric auc --margin 0.01
  ceteris compare --predictions frozen.parquet finetuned.parquet

Exit codes: 0 printed · 3 refused as not comparable · 4 with --verdict: a contrast is inconclusive.
Without --verdict an inconclusive comparison exits with 0: it was made, and that is its result.")]
pub struct Options {
    /// Its id, the beginning of one, or a name (the newest of that name).
    #[arg(required_unless_present = "predictions", conflicts_with = "predictions")]
    pub experiment: Option<String>,
    /// Read all runs at this epoch instead of the endpoint.
    #[arg(long, value_name = "EPOCH", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "predictions")]
    pub at: Option<u32>,
    /// Make this equal instead of epochs, and compare on val.
    #[arg(long = "match", value_name = "AXIS", conflicts_with_all = ["predictions", "verdict"])]
    pub matched: Option<Axis>,
    /// Compare what is not comparable, with a warning over every table.
    #[arg(long, conflicts_with = "predictions")]
    pub exploratory: bool,
    /// Exit with 4 where a contrast is inconclusive.
    #[arg(long)]
    pub verdict: bool,
    #[command(flatten)]
    models: models::ModelOptions,
}

/// What two arms may have spent equally much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Axis {
    /// What is always equal: the comparison itself.
    Epochs,
    /// Optimizer steps.
    Steps,
    /// Training samples seen.
    Samples,
    /// Operations, counted as if nothing had been kept from before.
    Flops,
    /// Wall time of the devices that trained; each run has one.
    #[value(alias = "gpu-seconds", alias = "wall")]
    Seconds,
}

impl Axis {
    fn name(self) -> &'static str {
        match self {
            Self::Epochs => "epochs",
            Self::Steps => "steps",
            Self::Samples => "samples",
            Self::Flops => "flops",
            Self::Seconds => "seconds",
        }
    }
}

impl Options {
    /// # Errors
    /// When arms are refused as not comparable, when `--verdict` finds none, or when the coordinator cannot be asked.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        if !self.models.predictions.is_empty() {
            return self.models.run(global, self.verdict);
        }
        if let Some(axis) = self.matched.filter(|axis| *axis != Axis::Epochs) {
            return self.match_on(axis, global).await;
        }
        let request = v1::CompareRequest {
            experiment: self.experiment.unwrap_or_default(),
            at: self.at.unwrap_or_default(),
            exploratory: self.exploratory,
        };
        let answer = global.connect().await?.rpc.compare_experiment(request).await?;
        let comparison = client::parse::<Comparison>(answer)?;
        output::print(&comparison, global.output)?;
        judge(&comparison, self.verdict)
    }
}

impl Options {
    /// The contrasts where `axis` is equal, from a report, which is computed here.
    async fn match_on(self, axis: Axis, global: &Global) -> Result<(), Failure> {
        let (objects, evidence) = evidence::open(global, &self.experiment.unwrap_or_default()).await?;
        let data = objects.data_sets(&evidence).await?;
        let report = super::report::made(global, &objects, &evidence, data, self.at, self.exploratory).await?;
        let matched = MatchedContrasts {
            experiment: report.experiment,
            name: report.name,
            axis: axis.name().to_owned(),
            at: report.comparison.at,
            exploratory: report.comparison.exploratory,
            alpha: report.comparison.alpha,
            contrasts: report.matched.into_iter().filter(|matched| matched.axis == axis.name()).collect(),
            refused: report.comparison.refused.clone(),
        };
        output::print(&matched, global.output)?;
        judge(&report.comparison, false)
    }
}

/// The exit code that a comparison deserves.
pub(super) fn judge(comparison: &Comparison, verdict: bool) -> Result<(), Failure> {
    if !comparison.refused.is_empty() && !comparison.exploratory {
        let arms: BTreeSet<&str> = comparison.refused.iter().flat_map(|each| &each.arms).map(String::as_str).collect();
        let reasons: BTreeSet<&str> = comparison.refused.iter().map(|each| word(each.reason)).collect();
        let list = |words: BTreeSet<&str>| words.into_iter().collect::<Vec<_>>().join(", ");
        return Err(Failure::not_comparable(format!("not comparable: {} ({})", list(arms), list(reasons)))
            .help("the comparison lists what differs, why that matters and the way out of each"));
    }
    let open: Vec<&str> = comparison
        .contrasts
        .iter()
        .filter(|contrast| matches!(contrast.verdict, Verdict::Inconclusive | Verdict::NotComparable))
        .map(|contrast| contrast.arm.as_str())
        .collect();
    if verdict && (!open.is_empty() || comparison.contrasts.is_empty()) {
        let which = if open.is_empty() { "there is no contrast".to_owned() } else { open.join(", ") };
        return Err(Failure::inconclusive(format!("nothing can be said about: {which}")).help(
            "the comparison says of each contrast what is missing; `ceteris plan` says it before anything is trained",
        ));
    }
    Ok(())
}

fn word(reason: Reason) -> &'static str {
    match reason {
        Reason::UnequalBudgets => "unequal budgets",
        Reason::Unfinished => "unfinished",
        Reason::Failed => "failed",
        Reason::Diverged => "diverged",
        Reason::Cancelled => "cancelled",
        Reason::SeedsMissing => "seeds missing",
        Reason::Environment => "different environments",
        Reason::FrozenMoved => "frozen weights moved",
        Reason::MetricUndefined => "metric undefined",
        Reason::Confounded => "confounded",
        Reason::Truncated => "schedule cut short",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{failure::Exit, render::fixtures};

    #[test]
    fn exit_codes_follow_the_evidence() {
        let exit = |comparison: &Comparison, verdict| judge(comparison, verdict).err().map(|failure| failure.exit);
        assert_eq!(exit(&fixtures::comparison(), false), None);
        assert_eq!(exit(&fixtures::comparison(), true), Some(Exit::Inconclusive));
        assert_eq!(exit(&fixtures::refused(), false), Some(Exit::NotComparable));
        insta::assert_snapshot!(judge(&fixtures::refused(), false).unwrap_err());
        assert_eq!(exit(&Comparison { exploratory: true, ..fixtures::refused() }, false), None);
        let mut decided = fixtures::comparison();
        decided.contrasts[0].verdict = Verdict::Better;
        assert_eq!(exit(&decided, true), None);
    }
}
