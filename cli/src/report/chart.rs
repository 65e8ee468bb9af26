//! Line charts as SVG: axes with round numbers, lines with bands, marks and rules. Everything else that a picture says stands in its
//! caption and in a table beside it.

use maud::{Markup, html};

/// Colours that people with any colour vision tell apart (Okabe and Ito, 2008); the baseline's comes first.
pub(super) const COLOURS: [&str; 8] =
    ["#333333", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31"];
/// Besides the colour, so that print without colour can be read.
const DASHES: [&str; 8] = ["", "7 3", "2 3", "9 3 2 3", "4 2", "12 4", "1 4", "6 2 1 2"];

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 46.0;

/// A line, with the band around it if there is one.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) style: usize,
    pub(super) points: Vec<(f64, f64)>,
    pub(super) band: Vec<(f64, f64, f64)>,
    pub(super) dots: bool,
}

/// A chart.
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) x: String,
    pub(super) y: String,
    /// The smallest range of x to show.
    pub(super) x_range: Option<(f64, f64)>,
    pub(super) y_range: Option<(f64, f64)>,
    /// Whether x has whole numbers alone.
    pub(super) whole: bool,
    pub(super) lines: Vec<Line>,
    /// Horizontal lines to compare with.
    pub(super) rules: Vec<f64>,
    /// Vertical lines, with the style of a line.
    pub(super) uprights: Vec<(f64, usize)>,
    /// The diagonal from the origin.
    pub(super) diagonal: bool,
}

struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        let share = if self.high > self.low { (value - self.low) / (self.high - self.low) } else { 0.5 };
        self.from + share.clamp(-0.02, 1.02) * (self.to - self.from)
    }
}

impl Chart {
    /// The picture; none without a point.
    pub(super) fn svg(&self) -> Option<Markup> {
        if self.lines.iter().all(|line| line.points.is_empty() && line.band.is_empty()) {
            return None;
        }
        let xs = self.lines.iter().flat_map(|line| line.points.iter().map(|point| point.0));
        let ys = self.lines.iter().flat_map(|line| {
            let band = line.band.iter().flat_map(|(_, low, high)| [*low, *high]);
            line.points.iter().map(|point| point.1).chain(band)
        });
        let (x_low, x_high) = range(xs, self.x_range)?;
        let (y_low, y_high) = range(ys.chain(self.rules.iter().copied()), self.y_range)?;
        let x_ticks = ticks(x_low, x_high, 6, self.whole);
        let y_ticks = ticks(y_low, y_high, 5, false);
        let (y_low, y_high) = match self.y_range {
            Some(range) => range,
            None => (y_low.min(y_ticks[0]), y_high.max(y_ticks[y_ticks.len() - 1])),
        };
        let x = Scale { low: x_low, high: x_high, from: LEFT, to: WIDTH - RIGHT };
        let y = Scale { low: y_low, high: y_high, from: HEIGHT - BOTTOM, to: TOP };
        let digits = decimals(&y_ticks);
        let x_digits = decimals(&x_ticks);
        Some(html! {
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(self.title) {
                title { (self.title) }
                @for tick in &y_ticks {
                    line.grid x1=(px(LEFT)) x2=(px(WIDTH - RIGHT)) y1=(px(y.at(*tick))) y2=(px(y.at(*tick))) {}
                    text.tick x=(px(LEFT - 7.0)) y=(px(y.at(*tick) + 3.5)) text-anchor="end" { (format!("{tick:.digits$}")) }
                }
                @for tick in &x_ticks {
                    line.grid x1=(px(x.at(*tick))) x2=(px(x.at(*tick))) y1=(px(HEIGHT - BOTTOM)) y2=(px(HEIGHT - BOTTOM + 4.0)) {}
                    text.tick x=(px(x.at(*tick))) y=(px(HEIGHT - BOTTOM + 17.0)) text-anchor="middle" { (format!("{tick:.x_digits$}")) }
                }
                line.axis x1=(px(LEFT)) x2=(px(WIDTH - RIGHT)) y1=(px(HEIGHT - BOTTOM)) y2=(px(HEIGHT - BOTTOM)) {}
                @if self.diagonal {
                    line.rule x1=(px(x.at(x_low))) y1=(px(y.at(x_low))) x2=(px(x.at(x_high))) y2=(px(y.at(x_high))) {}
                }
                @for rule in &self.rules {
                    line.rule x1=(px(LEFT)) x2=(px(WIDTH - RIGHT)) y1=(px(y.at(*rule))) y2=(px(y.at(*rule))) {}
                }
                @for (place, style) in &self.uprights {
                    line.upright stroke=(colour(*style)) x1=(px(x.at(*place))) x2=(px(x.at(*place))) y1=(px(TOP)) y2=(px(HEIGHT - BOTTOM)) {}
                }
                @for line in self.lines.iter().filter(|line| line.band.len() > 1) {
                    path.band fill=(colour(line.style)) d=(band(&line.band, &x, &y)) {}
                }
                @for line in &self.lines {
                    @if line.points.len() > 1 {
                        polyline.line stroke=(colour(line.style)) stroke-dasharray=(dash(line.style)) points=(points(&line.points, &x, &y)) {}
                    }
                    @if line.dots || line.points.len() == 1 {
                        @for (at, height) in &line.points {
                            circle fill=(colour(line.style)) cx=(px(x.at(*at))) cy=(px(y.at(*height))) r="2.6" {}
                        }
                    }
                }
                text.label x=(px((LEFT + WIDTH - RIGHT) / 2.0)) y=(px(HEIGHT - 9.0)) text-anchor="middle" { (self.x) }
                text.label x="13" y=(px((TOP + HEIGHT - BOTTOM) / 2.0)) text-anchor="middle"
                    transform=(format!("rotate(-90 13 {})", px((TOP + HEIGHT - BOTTOM) / 2.0))) { (self.y) }
            }
        })
    }

    /// The picture with its title, its legend and what it says.
    pub(super) fn figure(&self, caption: &str) -> Markup {
        html! {
            @if let Some(svg) = self.svg() {
                figure {
                    figcaption { b { (self.title) } " " (caption) }
                    (svg)
                    @if self.lines.iter().any(|line| !line.name.is_empty()) {
                        (legend(self.lines.iter().filter(|line| !line.name.is_empty()).map(|line| (line.name.as_str(), line.style))))
                    }
                }
            }
        }
    }
}

/// Which line is whose.
pub(super) fn legend<'a>(lines: impl Iterator<Item = (&'a str, usize)>) -> Markup {
    html! {
        p.legend {
            @for (name, style) in lines {
                span {
                    svg viewBox="0 0 26 8" width="26" height="8" aria-hidden="true" {
                        line x1="0" x2="26" y1="4" y2="4" stroke=(colour(style)) stroke-width="2.2" stroke-dasharray=(dash(style)) {}
                    }
                    " " (name)
                }
            }
        }
    }
}

pub(super) fn colour(style: usize) -> &'static str {
    COLOURS[style % COLOURS.len()]
}

fn dash(style: usize) -> &'static str {
    DASHES[style % DASHES.len()]
}

/// A coordinate, short.
pub(super) fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

fn points(points: &[(f64, f64)], x: &Scale, y: &Scale) -> String {
    points.iter().map(|(at, height)| format!("{},{}", px(x.at(*at)), px(y.at(*height)))).collect::<Vec<_>>().join(" ")
}

fn band(band: &[(f64, f64, f64)], x: &Scale, y: &Scale) -> String {
    let above = band.iter().map(|(at, _, high)| format!("{} {}", px(x.at(*at)), px(y.at(*high))));
    let below = band.iter().rev().map(|(at, low, _)| format!("{} {}", px(x.at(*at)), px(y.at(*low))));
    format!("M{}Z", above.chain(below).collect::<Vec<_>>().join("L"))
}

fn range(values: impl Iterator<Item = f64>, wanted: Option<(f64, f64)>) -> Option<(f64, f64)> {
    if wanted.is_some() {
        return wanted;
    }
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    match (low.is_finite() && high.is_finite(), high > low) {
        (false, _) => None,
        (true, true) => Some((low, high)),
        (true, false) => Some((low - 0.5, high + 0.5)),
    }
}

/// Round numbers that hold the range between them: about `count` of them.
pub(super) fn ticks(low: f64, high: f64, count: usize, whole: bool) -> Vec<f64> {
    let rough = (high - low) / count as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough * 0.999);
    let mut step = step.unwrap_or(power * 10.0);
    if whole {
        step = step.round().max(1.0);
    }
    let (first, last) =
        if whole { ((low / step).ceil(), (high / step).floor()) } else { ((low / step).floor(), (high / step).ceil()) };
    let ticks: Vec<f64> = (first as i64..=last as i64).map(|index| index as f64 * step).collect();
    if ticks.is_empty() { vec![low, high] } else { ticks }
}

/// Decimals that tell neighbours apart.
fn decimals(ticks: &[f64]) -> usize {
    let step = ticks.windows(2).map(|pair| pair[1] - pair[0]).fold(f64::INFINITY, f64::min);
    let exact = |digits: usize| {
        let scale = 10f64.powi(digits as i32);
        ticks.iter().all(|tick| ((tick * scale).round() - tick * scale).abs() < 1e-6 * (step * scale).max(1.0))
    };
    (0..6).find(|digits| exact(*digits)).unwrap_or(6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_hold_the_range() {
        assert_eq!(ticks(0.0, 1.0, 5, false), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(ticks(1.0, 20.0, 6, true), [5.0, 10.0, 15.0, 20.0]);
        assert_eq!(ticks(1.0, 3.0, 6, true), [1.0, 2.0, 3.0]);
        let narrow = ticks(0.9881, 0.9894, 5, false);
        assert!(narrow[0] <= 0.9881 && narrow[narrow.len() - 1] >= 0.9894, "{narrow:?}");
        assert_eq!(decimals(&[0.0, 0.25, 0.5]), 2);
        assert_eq!(decimals(&[5.0, 10.0]), 0);
    }

    #[test]
    fn nothing_to_draw_is_no_picture() {
        let empty = || Chart {
            title: "empty".to_owned(),
            x: String::new(),
            y: String::new(),
            x_range: None,
            y_range: None,
            whole: true,
            lines: Vec::new(),
            rules: Vec::new(),
            uprights: Vec::new(),
            diagonal: false,
        };
        for unit in [None, Some((0.0, 1.0))] {
            let chart = Chart { x_range: unit, y_range: unit, ..empty() };
            assert!(chart.svg().is_none());
            assert_eq!(chart.figure("").into_string(), "");
        }
    }
}
