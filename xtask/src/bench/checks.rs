//! What a benchmark must show, and whether it did.

use super::{spread::Spread, text::number};

/// What a figure must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Required {
    AtLeast(f64),
    AtMost(f64),
}

impl Required {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(limit) => value >= limit,
            Self::AtMost(limit) => value <= limit,
        }
    }

    fn shown(self) -> String {
        match self {
            Self::AtLeast(limit) => format!("≥ {}", number(limit)),
            Self::AtMost(limit) => format!("≤ {}", number(limit)),
        }
    }
}

/// One figure beside what is required of it. The median counts.
#[derive(Clone, Debug)]
pub struct Check {
    pub figure: String,
    pub required: Required,
    pub got: Spread,
    /// Whether what was computed is right. A figure whose results are wrong counts as zero.
    pub right: bool,
    /// Something to reach for; nothing fails without it.
    pub stretch: bool,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Holds,
    FallsShort,
    Wrong,
}

impl Check {
    pub fn verdict(&self) -> Verdict {
        match (self.right, self.required.is_met(self.got.median)) {
            (false, _) => Verdict::Wrong,
            (true, true) => Verdict::Holds,
            (true, false) => Verdict::FallsShort,
        }
    }

    fn said(&self) -> &'static str {
        match (self.verdict(), self.stretch) {
            (Verdict::Holds, false) => "yes",
            (Verdict::Holds, true) => "reached",
            (Verdict::FallsShort, false) => "**no**",
            (Verdict::FallsShort, true) => "not reached",
            (Verdict::Wrong, _) => "**no**: wrong results count as zero",
        }
    }
}

/// All checks of a benchmark, in the order in which they are shown.
#[derive(Clone, Debug, Default)]
pub struct Checks(pub Vec<Check>);

impl Checks {
    /// A figure that must hold. `right` says whether the results behind it are.
    pub fn require(&mut self, figure: &str, required: Required, got: Spread, right: bool) {
        self.0.push(Check { figure: figure.to_owned(), required, got, right, stretch: false });
    }

    /// A figure to reach for.
    pub fn stretch(&mut self, figure: &str, required: Required, got: Spread, right: bool) {
        self.0.push(Check { figure: figure.to_owned(), required, got, right, stretch: true });
    }

    /// Required figures that fall short or are wrong.
    pub fn failed(&self) -> usize {
        self.0.iter().filter(|check| !check.stretch && check.verdict() != Verdict::Holds).count()
    }

    /// Rows of a table: figure, required, measured, whether it holds.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let row = |check: &Check| {
            let required = check.required.shown();
            let required = if check.stretch { format!("stretch {required}") } else { required };
            vec![check.figure.clone(), required, super::text::spread(check.got), check.said().to_owned()]
        };
        self.0.iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(required: Required, got: f64, right: bool) -> Verdict {
        Check { figure: String::new(), required, got: Spread::one(got), right, stretch: false }.verdict()
    }

    #[test]
    fn the_limit_itself_holds() {
        assert_eq!(verdict(Required::AtLeast(1.0), 1.0, true), Verdict::Holds);
        assert_eq!(verdict(Required::AtLeast(1.0), 0.999, true), Verdict::FallsShort);
        assert_eq!(verdict(Required::AtMost(0.8), 0.8, true), Verdict::Holds);
        assert_eq!(verdict(Required::AtMost(0.8), 0.801, true), Verdict::FallsShort);
    }

    #[test]
    fn a_fast_wrong_answer_scores_zero_and_so_does_a_small_one() {
        assert_eq!(verdict(Required::AtLeast(1.0), 100.0, false), Verdict::Wrong);
        assert_eq!(verdict(Required::AtMost(1.0), 0.0, false), Verdict::Wrong);
    }

    #[test]
    fn what_could_not_be_measured_does_not_hold() {
        assert_eq!(verdict(Required::AtLeast(1.0), f64::NAN, true), Verdict::FallsShort);
        assert_eq!(verdict(Required::AtMost(1.0), f64::NAN, true), Verdict::FallsShort);
    }

    #[test]
    fn only_required_figures_fail() {
        let mut checks = Checks::default();
        checks.require("speed", Required::AtLeast(1.0), Spread::one(1.1), true);
        checks.stretch("speed", Required::AtLeast(1.25), Spread::one(1.1), true);
        assert_eq!(checks.failed(), 0);
        checks.require("memory", Required::AtMost(0.8), Spread::one(0.9), true);
        checks.require("speed", Required::AtLeast(1.0), Spread::one(2.0), false);
        assert_eq!(checks.failed(), 2);
    }
}
