//! `ceteris compare --predictions`: no coordinator is asked.

use std::{collections::HashSet, path::PathBuf};

use ceteris_shared::{
    compare::{ModelsError, PredictedModel, Rules, compare_models},
    document::{Models, Verdict},
    spec::{Compare, Correction, Metric, Score},
    stats::BOOTSTRAP_DRAWS,
};
use clap::Args;

use crate::{context::Global, failure::Failure, output, predictions_file};

/// How models are compared.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Models that were trained elsewhere")]
pub struct ModelOptions {
    /// Files of predictions, the baseline's first: CSV, or Parquet if a name ends in .parquet.
    #[arg(long, value_name = "FILE", num_args = 2..)]
    pub predictions: Vec<PathBuf>,
    /// The score that verdicts are given on.
    #[arg(long, value_name = "SCORE", default_value = "auc", value_parser = score, requires = "predictions", conflicts_with = "experiment")]
    metric: Score,
    /// From which probability on a sample is called positive.
    #[arg(long, value_name = "P", default_value_t = 0.5, value_parser = share, requires = "predictions", conflicts_with = "experiment")]
    threshold: f64,
    /// The label that is predicted [default: 1 of 0 and 1, or the last of two in sorted order]
    #[arg(long, value_name = "LABEL", requires = "predictions", conflicts_with = "experiment")]
    positive: Option<String>,
    /// The largest difference that does not matter: with it models can be found equivalent.
    #[arg(long, value_name = "DIFFERENCE", value_parser = above_0, requires = "predictions", conflicts_with = "experiment")]
    margin: Option<f64>,
    /// The family-wise false-alarm rate; intervals have confidence 1 - alpha.
    #[arg(long, value_name = "ALPHA", default_value_t = 0.05, value_parser = error_rate, requires = "predictions", conflicts_with = "experiment")]
    alpha: f64,
    /// Draws of the bootstrap; 0 for none.
    #[arg(long, value_name = "N", default_value_t = BOOTSTRAP_DRAWS, value_parser = clap::value_parser!(u32).range(..=1_000_000), requires = "predictions", conflicts_with = "experiment")]
    draws: u32,
}

fn score(text: &str) -> Result<Score, String> {
    format!("test.{text}").parse::<Metric>().map(|metric| metric.score).map_err(|_| {
        let names = Score::ALL.map(Score::name).join(", ");
        format!("write one of {names}")
    })
}

fn number(text: &str, good: impl Fn(f64) -> bool, what: &str) -> Result<f64, String> {
    text.parse().ok().filter(|value| good(*value)).ok_or_else(|| format!("write {what}"))
}

fn share(text: &str) -> Result<f64, String> {
    number(text, |value| (0.0..=1.0).contains(&value), "a probability between 0 and 1")
}

fn error_rate(text: &str) -> Result<f64, String> {
    number(text, |value| value > 0.0 && value < 1.0, "a number above 0 and below 1")
}

fn above_0(text: &str) -> Result<f64, String> {
    number(text, |value| value > 0.0 && value.is_finite(), "a number above 0")
}

impl ModelOptions {
    /// # Errors
    /// When a file cannot be read, when models are not of the same samples, or when with `--verdict` nothing can be said.
    pub fn run(self, global: &Global, verdict: bool) -> Result<(), Failure> {
        let mut models: Vec<PredictedModel> = Vec::with_capacity(self.predictions.len());
        for (path, name) in self.predictions.iter().zip(names(&self.predictions)) {
            let read = predictions_file::read(path, &name)?;
            if !read.unused.is_empty() {
                global.note(format!("{}: columns that are not used: {}", path.display(), read.unused.join(", ")));
            }
            models.push(read.model);
        }
        let (alpha, margin) = (self.alpha, self.margin);
        let compare = Compare { correct: Correction::Holm, alpha, margin, ..Compare::default() };
        let (metric, threshold, positive, draws) = (self.metric, self.threshold, self.positive, self.draws);
        let rules = Rules { metric, threshold, positive, compare, draws };
        let compared = compare_models(&models, &rules).map_err(|error| match error {
            ModelsError::Input(cause) => Failure::usage(cause),
            error @ ModelsError::NotComparable(_) => Failure::not_comparable(error.to_string())
                .help("models are compared on the same samples, with the same labels and seeds"),
        })?;
        output::print(&compared, global.output)?;
        if verdict { judge(&compared) } else { Ok(()) }
    }
}

/// What models are called: their files' names where these differ, else the whole paths.
fn names(paths: &[PathBuf]) -> Vec<String> {
    let short: Vec<String> =
        paths.iter().map(|path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned()).collect();
    let different = short.iter().collect::<HashSet<_>>().len() == short.len();
    if different { short } else { paths.iter().map(|path| path.display().to_string()).collect() }
}

fn judge(models: &Models) -> Result<(), Failure> {
    let open = models.contrasts.iter().filter(|contrast| contrast.verdict == Verdict::Inconclusive);
    let open: Vec<&str> = open.map(|contrast| contrast.model.as_str()).collect();
    if open.is_empty() {
        return Ok(());
    }
    Err(Failure::inconclusive(format!("nothing can be said about: {}", open.join(", ")))
        .help("the comparison says of each contrast what is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_of_files_are_told_apart_by_their_folders() {
        let paths = |texts: [&str; 2]| texts.map(PathBuf::from);
        assert_eq!(names(&paths(["runs/old.csv", "runs/new.csv"])), ["old", "new"]);
        assert_eq!(names(&paths(["old/test.csv", "new/test.csv"])), ["old/test.csv", "new/test.csv"]);
    }
}
