//! Documents as text for people and as tables for CSV. Pure: a document in, a string out, the same on every machine.

mod backup;
mod catalog;
mod claims;
mod compare;
mod dataset;
pub mod experiment;
mod fetched;
#[cfg(test)]
pub mod fixtures;
pub mod matched;
mod models;
mod numbers;
mod plan;
mod preview;
mod storage;
mod verify;
pub mod watch;

use ceteris_shared::spec::ResolvedStage;

pub use backup::{Backup, Restored};
pub use claims::{CheckedClaim, Claims};
pub use dataset::{Import, ImportRefusal};
pub use fetched::Fetched;
pub use matched::MatchedContrasts;
pub use numbers::{Difference, Numbers};
pub use preview::{Preview, PreviewRow};

/// A score, to four decimals; `-` where it is undefined.
fn score(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"))
}

/// A difference with its sign, to four decimals.
fn difference(value: f64) -> String {
    format!("{value:+.4}")
}

/// A p-value to four decimals: what is smaller is said to be.
pub(crate) fn p_value(value: Option<f64>) -> String {
    match value {
        Some(p) if p < 1e-4 => "<0.0001".to_owned(),
        p => score(p),
    }
}

/// A share as a percentage, without digits that rounding made.
pub(crate) fn percent(share: f64) -> f64 {
    (1e8 * share).round() / 1e6
}

/// A number for CSV: all its digits, empty where undefined.
fn number(value: Option<f64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// How an arm spends its budget: `15 head lr=1e-3, 5 denseblock4 lr=1e-5 schedule=cosine`.
pub(crate) fn stages(stages: &[ResolvedStage]) -> String {
    stages.iter().map(ResolvedStage::to_string).collect::<Vec<_>>().join(", ")
}

/// Seconds as `45s`, `3m 20s` or `2h 05m`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m {seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h {minutes:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let texts = [0.4, 59.6, 200.0, 7500.0, -3.0].map(duration);
        assert_eq!(texts, ["0s", "1m 00s", "3m 20s", "2h 05m", "0s"]);
    }

    #[test]
    fn undefined_scores_are_a_dash() {
        assert_eq!((score(None), score(Some(0.98765))), ("-".to_owned(), "0.9877".to_owned()));
        assert_eq!((difference(-0.001), difference(0.25)), ("-0.0010".to_owned(), "+0.2500".to_owned()));
    }
}
