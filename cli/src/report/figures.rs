//! The pictures of a report.

use ceteris_shared::document::{Contrast, Report, ReportArm, Shapes, Sweep, TreeSegment, Verdict};
use maud::{Markup, html};

use super::chart::{Chart, Line, colour, px, ticks};
use crate::{output, render::percent};

/// Arms that are drawn into one chart; of more, the first ones of the spec.
pub(super) const DRAWN: usize = 8;

fn chart(title: String, x: &str, y: String, lines: Vec<Line>) -> Chart {
    Chart {
        title,
        x: x.to_owned(),
        y,
        x_range: None,
        y_range: None,
        whole: false,
        lines,
        rules: Vec::new(),
        uprights: Vec::new(),
        diagonal: false,
    }
}

/// A score's name for people.
pub(super) fn score_name(name: &str) -> String {
    match name {
        "auc" => "AUC".to_owned(),
        "pr_auc" => "PR-AUC".to_owned(),
        "ece" => "ECE".to_owned(),
        "f1" => "F1".to_owned(),
        "brier" => "Brier score".to_owned(),
        name => name.replace('_', " "),
    }
}

/// A chart for each score that is told of epochs.
pub(super) fn learning_curves(report: &Report) -> Vec<Markup> {
    let arms: Vec<(usize, &ReportArm)> = report.arms.iter().enumerate().take(DRAWN).collect();
    let mut scores: Vec<&str> = Vec::new();
    for curve in arms.iter().flat_map(|(_, arm)| &arm.curves) {
        if !scores.contains(&curve.score.as_str()) {
            scores.push(&curve.score);
        }
    }
    let of_score = |score: &str| {
        let line = |(style, arm): &(usize, &ReportArm)| {
            let curve = arm.curves.iter().find(|curve| curve.score == score)?;
            Some(Line {
                name: arm.name.clone(),
                style: *style,
                points: curve.points.iter().map(|point| (f64::from(point.epoch.0), point.mean)).collect(),
                band: curve.points.iter().map(|point| (f64::from(point.epoch.0), point.min, point.max)).collect(),
                dots: curve.points.len() <= 12,
            })
        };
        let name = score_name(score);
        let mut chart = chart(format!("val {name}"), "epoch", name, arms.iter().filter_map(line).collect());
        chart.whole = true;
        chart.figure("mean over seeds; the band is their range.")
    };
    scores.into_iter().map(of_score).collect()
}

/// The difference after each epoch, for each contrast.
pub(super) fn sweeps(report: &Report) -> Vec<Markup> {
    report
        .sweeps
        .iter()
        .filter(|sweep| sweep.points.iter().any(|point| !point.same))
        .take(DRAWN)
        .map(|sweep| one_sweep(report, sweep))
        .collect()
}

fn one_sweep(report: &Report, sweep: &Sweep) -> Markup {
    let style = report.arms.iter().position(|arm| arm.name == sweep.arm).unwrap_or(1);
    let epoch = |epoch: ceteris_shared::ids::Epoch| f64::from(epoch.0);
    let points = sweep.points.iter().filter_map(|point| Some((epoch(point.epoch), point.difference?))).collect();
    let band = |of: fn(&ceteris_shared::document::SweepPoint) -> Option<[f64; 2]>| -> Vec<(f64, f64, f64)> {
        sweep.points.iter().filter_map(|point| of(point).map(|[low, high]| (epoch(point.epoch), low, high))).collect()
    };
    let together =
        Line { name: String::new(), style, points: Vec::new(), band: band(|point| point.simultaneous), dots: false };
    let alone =
        Line { name: String::new(), style, points, band: band(|point| point.interval), dots: sweep.points.len() <= 30 };
    let title = format!("{} − {}, {}", sweep.arm, sweep.baseline, sweep.metric);
    let mut chart = chart(title, "epoch", "difference".to_owned(), vec![together, alone]);
    (chart.whole, chart.rules) = (true, vec![0.0]);
    let shared = sweep.points.iter().filter(|point| point.same).map(|point| point.epoch).next_back();
    let shared = shared.map(|epoch| format!(" Up to epoch {epoch} the two have the same lineage.")).unwrap_or_default();
    let crossing = sweep.crossing.map(|crossing| {
        format!(
            " It is on the side on which it ends from epoch {} on ({} to {}; {:.0} % of draws end there).",
            crossing.epoch,
            crossing.interval[0],
            crossing.interval[1],
            100.0 * crossing.share
        )
    });
    let truncated = if sweep.truncated { " Earlier epochs are training under way, not shorter runs." } else { "" };
    chart.figure(&format!(
        "dark band: {0} % interval of each epoch; light: of all epochs together.{shared}{1}{truncated}",
        percent(1.0 - report.comparison.alpha),
        crossing.unwrap_or_default()
    ))
}

fn shapes_of<'a>(arm: &'a ReportArm, scored: &str) -> Option<&'a Shapes> {
    arm.shapes.iter().find(|shapes| shapes.scored == scored)
}

/// What was scored, test first.
pub(super) fn scored(report: &Report) -> Vec<&str> {
    let mut all: Vec<&str> = Vec::new();
    for shapes in report.arms.iter().flat_map(|arm| &arm.shapes) {
        if !all.contains(&shapes.scored.as_str()) {
            all.push(&shapes.scored);
        }
    }
    all.sort_by_key(|name| match *name {
        "test" => 0,
        "val" => 2,
        _ => 1,
    });
    all
}

/// ROC and precision-recall curves on one part of the data.
pub(super) fn curves_of_decisions(report: &Report, scored: &str) -> Markup {
    let lines = |of: fn(&Shapes) -> Option<&ceteris_shared::document::Band>| -> Vec<Line> {
        let line = |(style, arm): (usize, &ReportArm)| {
            let band = of(shapes_of(arm, scored)?)?;
            Some(Line {
                name: arm.name.clone(),
                style,
                points: band.x.iter().copied().zip(band.mean.iter().copied()).collect(),
                band: (0..band.x.len()).map(|at| (band.x[at], band.min[at], band.max[at])).collect(),
                dots: false,
            })
        };
        report.arms.iter().enumerate().take(DRAWN).filter_map(line).collect()
    };
    let unit = Some((0.0, 1.0));
    let mut roc = chart(
        format!("ROC, {scored}"),
        "false positive rate",
        "sensitivity".to_owned(),
        lines(|shapes| shapes.roc.as_ref()),
    );
    (roc.x_range, roc.y_range, roc.diagonal) = (unit, unit, true);
    let mut precision = chart(
        format!("Precision and recall, {scored}"),
        "recall (sensitivity)",
        "precision".to_owned(),
        lines(|shapes| shapes.precision_recall.as_ref()),
    );
    (precision.x_range, precision.y_range) = (unit, unit);
    html! { (roc.figure("mean over seeds; the band is their range.")) (precision.figure("mean over seeds; the band is their range.")) }
}

/// Rates over thresholds of one arm on one part of the data, with the thresholds that were chosen on val.
pub(super) fn thresholds(report: &Report, arm: usize, scored: &str) -> Markup {
    let Some(shapes) = shapes_of(&report.arms[arm], scored) else { return html! {} };
    let study = &shapes.thresholds;
    let rates = [
        ("sensitivity", &study.sensitivity),
        ("specificity", &study.specificity),
        ("precision", &study.precision),
        ("F1", &study.f1),
    ];
    let line = |(style, (name, values)): (usize, (&str, &Vec<Option<f64>>))| Line {
        name: name.to_owned(),
        style: style + 1,
        points: study.threshold.iter().zip(values).filter_map(|(at, value)| Some((*at, (*value)?))).collect(),
        band: Vec::new(),
        dots: false,
    };
    let lines = rates.into_iter().enumerate().map(line).filter(|line| !line.points.is_empty()).collect();
    let mut chart = chart(format!("{}, {scored}", report.arms[arm].name), "threshold", "rate".to_owned(), lines);
    (chart.x_range, chart.y_range) = (Some((0.0, 1.0)), Some((0.0, 1.0)));
    chart.uprights = shapes.chosen.iter().map(|chosen| (chosen.threshold, 0)).collect();
    chart.figure("upright lines: the threshold of each seed.")
}

/// Told probabilities against what came true.
pub(super) fn calibration(report: &Report, scored: &str) -> Markup {
    let line = |(style, arm): (usize, &ReportArm)| {
        let bins = &shapes_of(arm, scored)?.reliability;
        Some(Line {
            name: arm.name.clone(),
            style,
            points: bins.iter().filter_map(|bin| Some((bin.told?, bin.came_true?))).collect(),
            band: Vec::new(),
            dots: true,
        })
    };
    let lines = report.arms.iter().enumerate().take(DRAWN).filter_map(line).collect();
    let mut chart =
        chart(format!("Calibration, {scored}"), "probability that is told", "share that came true".to_owned(), lines);
    (chart.x_range, chart.y_range, chart.diagonal) = (Some((0.0, 1.0)), Some((0.0, 1.0)), true);
    chart.figure("ten bins of equal width, all seeds together.")
}

const FOREST_WIDTH: f64 = 600.0;
const FOREST_ROW: f64 = 34.0;

/// The differences with their intervals, on the scale of the metric; the margin is shaded.
pub(super) fn forest(report: &Report) -> Markup {
    let contrasts = &report.comparison.contrasts;
    let Some(first) = contrasts.first() else { return html! {} };
    let ends = |contrast: &Contrast| match &contrast.difference.uncertainty {
        Some(known) => known.interval,
        None => [contrast.difference.mean_difference; 2],
    };
    let margin = first.difference.margin.unwrap_or(0.0);
    let reach = contrasts
        .iter()
        .flat_map(|contrast| {
            ends(contrast).into_iter().chain(contrast.difference.pairs.iter().map(|pair| pair.difference))
        })
        .chain([margin, -margin])
        .fold(0.0, |reach: f64, value| reach.max(value.abs()));
    let reach = if reach > 0.0 { reach * 1.08 } else { 1.0 };
    let height = FOREST_ROW * contrasts.len() as f64 + 62.0;
    let (left, right) = (160.0, FOREST_WIDTH - 16.0);
    let x = |value: f64| left + (value + reach) / (2.0 * reach) * (right - left);
    let ticks = ticks(-reach, reach, 6, false);
    let ticks: Vec<f64> = ticks.into_iter().filter(|tick| tick.abs() <= reach).collect();
    let bottom = height - 42.0;
    let one = contrasts.iter().all(|contrast| contrast.baseline == first.baseline);
    let baseline = if one { first.baseline.as_str() } else { "the baseline of each arm" };
    let better = if first.metric.score.larger_is_better() { "better →" } else { "← better" };
    html! {
        figure.wide {
            figcaption {
                b { "Differences in " (first.metric) } " with " (percent(1.0 - report.comparison.alpha))
                " % intervals over seeds and patients; small dots are seeds."
                @if margin > 0.0 { " The shaded strip is the margin that was declared not to matter." }
            }
            svg viewBox=(format!("0 0 {FOREST_WIDTH} {height}")) role="img" aria-label="Differences with intervals" {
                @if margin > 0.0 {
                    rect.margin x=(px(x(-margin))) width=(px(x(margin) - x(-margin))) y="8" height=(px(bottom - 8.0)) {}
                }
                @for tick in &ticks {
                    line.grid x1=(px(x(*tick))) x2=(px(x(*tick))) y1="8" y2=(px(bottom)) {}
                    text.tick x=(px(x(*tick))) y=(px(bottom + 16.0)) text-anchor="middle" { (short(*tick)) }
                }
                line.axis x1=(px(x(0.0))) x2=(px(x(0.0))) y1="8" y2=(px(bottom)) {}
                @for (index, contrast) in contrasts.iter().enumerate() {
                    @let middle = 8.0 + FOREST_ROW * (index as f64 + 0.5);
                    @let style = report.arms.iter().position(|arm| arm.name == contrast.arm).unwrap_or(1);
                    @let [low, high] = ends(contrast);
                    text.name x=(px(left - 12.0)) y=(px(middle + 4.0)) text-anchor="end" { (shorten(&contrast.arm, 22)) title { (contrast.arm) } }
                    @for pair in &contrast.difference.pairs {
                        circle.seed fill=(colour(style)) cx=(px(x(pair.difference))) cy=(px(middle + 9.0)) r="2" {}
                    }
                    line x1=(px(x(low))) x2=(px(x(high))) y1=(px(middle)) y2=(px(middle)) stroke=(colour(style)) stroke-width="2.4" {}
                    rect x=(px(x(contrast.difference.mean_difference) - 4.5)) y=(px(middle - 4.5)) width="9" height="9" fill=(colour(style)) {}
                }
                text.label x=(px((left + right) / 2.0)) y=(px(height - 6.0)) text-anchor="middle" {
                    "difference to " (baseline) " · " (better)
                }
            }
        }
    }
}

fn short(value: f64) -> String {
    let text = format!("{value:+.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "+0" || text == "-0" { "0".to_owned() } else { text.to_owned() }
}

fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most { text.to_owned() } else { text.chars().take(most - 1).collect::<String>() + "…" }
}

/// Confusion matrices of one part of the data, all seeds of an arm added up.
pub(super) fn confusions(report: &Report, scored: &str) -> Markup {
    let comparison = &report.comparison;
    let matrix = |arm: &ceteris_shared::document::ComparisonArm| -> Option<Vec<Vec<u64>>> {
        let mut sum: Vec<Vec<u64>> = Vec::new();
        for run in &arm.runs {
            let scores = match scored {
                "val" => run.metrics.val.as_ref(),
                "test" => run.metrics.test.as_ref(),
                name => run.metrics.external.get(name),
            };
            let counts = &scores?.confusion;
            if sum.is_empty() {
                sum = vec![vec![0; counts.len()]; counts.len()];
            }
            sum.iter_mut()
                .zip(counts)
                .for_each(|(sum, row)| sum.iter_mut().zip(row).for_each(|(sum, count)| *sum += count));
        }
        (!sum.is_empty()).then_some(sum)
    };
    html! {
        div.matrices {
            @for arm in comparison.arms.iter().take(DRAWN) {
                @if let Some(matrix) = matrix(arm) {
                    table.confusion {
                        caption { (arm.name) small { ", " (output::count(arm.runs.len() as u64, "seed")) " added up" } }
                        thead { tr { th { "truly" } @for class in &comparison.classes { th { "called " (class) } } } }
                        tbody {
                            @for (class, row) in comparison.classes.iter().zip(&matrix) {
                                @let all: u64 = row.iter().sum();
                                tr {
                                    th { (class) }
                                    @for count in row {
                                        @let share = if all > 0 { *count as f64 / all as f64 } else { 0.0 };
                                        td style=(format!("background:rgba(0,114,178,{:.2})", 0.55 * share)) {
                                            (count) " " small { (format!("{:.1} %", 100.0 * share)) }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// How training branches: a bar for each segment, beside the arms that go through it.
pub(super) fn tree(report: &Report) -> Markup {
    let segments = &report.tree;
    let Some(last) = segments.iter().map(|segment| segment.last.0).max() else { return html! {} };
    let rows = rows_of(segments);
    let (left, right, row_height) = (12.0, 450.0, 40.0);
    let count = rows.iter().max().map_or(1, |row| row + 1) as f64;
    let x = |epoch: u32| left + f64::from(epoch) / f64::from(last) * (right - left);
    let middle = |row: usize| 30.0 + row_height * row as f64;
    html! {
        figure.wide {
            figcaption { b { "How training branches" } ", for each seed." }
            svg viewBox=(format!("0 0 600 {}", count * row_height + 34.0)) role="img" aria-label="How training branches" {
                @for tick in ticks(0.0, f64::from(last), 8, true) {
                    line.grid x1=(px(x(tick as u32))) x2=(px(x(tick as u32))) y1="6" y2=(px(count * row_height + 12.0)) {}
                    text.tick x=(px(x(tick as u32))) y=(px(count * row_height + 28.0)) text-anchor="middle" { (format!("{tick:.0}")) }
                }
                @for (index, segment) in segments.iter().enumerate() {
                    @if let Some(parent) = segment.parent {
                        line.branch x1=(px(x(segment.first.0 - 1))) x2=(px(x(segment.first.0 - 1))) y1=(px(middle(rows[parent]))) y2=(px(middle(rows[index]))) {}
                    }
                }
                @for (index, segment) in segments.iter().enumerate() {
                    line.segment x1=(px(x(segment.first.0 - 1))) x2=(px(x(segment.last.0))) y1=(px(middle(rows[index]))) y2=(px(middle(rows[index]))) {}
                    text.tick x=(px(x(segment.first.0 - 1) + 5.0)) y=(px(middle(rows[index]) - 7.0)) { (segment.train.join(", ")) }
                    @if !segments.iter().any(|other| other.parent == Some(index)) {
                        text.name x=(px(x(segment.last.0) + 8.0)) y=(px(middle(rows[index]) + 4.0)) { (shorten(&segment.arms.join(", "), 22)) }
                    }
                }
            }
        }
    }
}

/// A row for each path: the first child goes on in its parent's row, others get one of their own.
fn rows_of(segments: &[TreeSegment]) -> Vec<usize> {
    let mut rows: Vec<usize> = Vec::with_capacity(segments.len());
    let mut next = 0;
    for (index, segment) in segments.iter().enumerate() {
        let first_child =
            segment.parent.filter(|parent| !segments[..index].iter().any(|other| other.parent == Some(*parent)));
        rows.push(match first_child {
            Some(parent) => rows[parent],
            None => {
                next += 1;
                next - 1
            }
        });
    }
    rows
}

/// The verdict as a label.
pub(super) fn verdict(verdict: Verdict) -> Markup {
    html! { span class=(format!("verdict {}", verdict.name().replace(' ', "-"))) { (verdict.name()) } }
}
