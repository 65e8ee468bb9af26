//! The report as CSV: one row for each number, with its interval where it has one. At full precision.

use ceteris_shared::document::{Report, Spread};

use crate::output::Table;

/// What, of which arm against which, on what, which score, at which epoch, and the number.
pub(super) fn table(report: &Report) -> Table {
    let mut table = Table::new([
        "what",
        "arm",
        "baseline",
        "scored",
        "score",
        "seed",
        "epoch",
        "value",
        "low",
        "high",
        "exploratory",
    ]);
    let exploratory = report.comparison.exploratory.to_string();
    let at = report.comparison.at.to_string();
    let mut row = |what: &str,
                   arm: &str,
                   baseline: &str,
                   scored: &str,
                   score: &str,
                   seed: String,
                   epoch: String,
                   value: f64,
                   interval: Option<[f64; 2]>| {
        let end = |index: usize| interval.map(|interval| interval[index].to_string()).unwrap_or_default();
        let texts = [what, arm, baseline, scored, score].map(str::to_owned);
        table.row(texts.into_iter().chain([seed, epoch, value.to_string(), end(0), end(1), exploratory.clone()]));
    };
    for contrast in &report.comparison.contrasts {
        let (arm, baseline, metric) = (&contrast.arm, &contrast.baseline, contrast.metric);
        let (scored, score) = (metric.split.name(), metric.score.name());
        let difference = &contrast.difference;
        let interval = difference.uncertainty.as_ref().map(|known| known.interval);
        row(
            "difference",
            arm,
            baseline,
            scored,
            score,
            String::new(),
            at.clone(),
            difference.mean_difference,
            interval,
        );
        if let Some(p) = difference.p_corrected {
            row("p", arm, baseline, scored, score, String::new(), at.clone(), p, None);
        }
        for pair in &difference.pairs {
            row(
                "difference of a seed",
                arm,
                baseline,
                scored,
                score,
                pair.seed.to_string(),
                at.clone(),
                pair.difference,
                None,
            );
        }
    }
    for arm in &report.comparison.arms {
        let parts = [("val", &arm.summary.val), ("test", &arm.summary.test)].into_iter();
        let external = arm.summary.external.iter().map(|(name, spreads)| (name.as_str(), spreads));
        for (scored, spreads) in parts.chain(external) {
            for (score, Spread { mean, min, max, interval, .. }) in spreads {
                row("mean", &arm.name, "", scored, score, String::new(), at.clone(), *mean, *interval);
                row("range", &arm.name, "", scored, score, String::new(), at.clone(), *mean, Some([*min, *max]));
            }
        }
    }
    for arm in &report.arms {
        for curve in &arm.curves {
            for point in &curve.points {
                let range = Some([point.min, point.max]);
                row(
                    "curve",
                    &arm.name,
                    "",
                    "val",
                    &curve.score,
                    String::new(),
                    point.epoch.to_string(),
                    point.mean,
                    range,
                );
            }
        }
        for drop in &arm.external {
            let interval = drop.uncertainty.as_ref().map(|known| known.interval);
            row(
                "external drop",
                &arm.name,
                "",
                &drop.name,
                &drop.score,
                String::new(),
                at.clone(),
                drop.difference,
                interval,
            );
        }
    }
    for sweep in &report.sweeps {
        let (scored, score) = (sweep.metric.split.name(), sweep.metric.score.name());
        for point in &sweep.points {
            if let Some(difference) = point.difference {
                row(
                    "sweep",
                    &sweep.arm,
                    &sweep.baseline,
                    scored,
                    score,
                    String::new(),
                    point.epoch.to_string(),
                    difference,
                    point.interval,
                );
            }
        }
    }
    table
}
