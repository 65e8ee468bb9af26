//! Whether a data set's splits are large enough for what an experiment does with them. On eight images of a class
//! every rate moves in steps of 12.5 points, so a threshold that is chosen on them, or a verdict that is read on them,
//! is an accident of single images. That is refused before it is paid for, with the arithmetic and the way out.

use std::collections::BTreeMap;

use super::{Endpoint, Threshold};
use crate::dataset::Split;

/// Fewest samples of each class in a split that a threshold is chosen on or arms are judged on: one of them is then 5
/// points of sensitivity or specificity.
const LEAST_OF_A_CLASS: u64 = 20;

/// The splits that are proposed, the first that is large enough: shares as `ceteris data import --split` takes them, and that of val,
/// which is test's too, in percent.
const PROPOSALS: [(&str, u64); 4] =
    [("0.7,0.15,0.15", 15), ("0.6,0.2,0.2", 20), ("0.5,0.25,0.25", 25), ("0.4,0.3,0.3", 30)];

/// What counts of a data set.
#[derive(Clone, Copy, Debug)]
pub struct Sizes<'a> {
    /// The name that it was imported under.
    pub name: &'a str,
    /// The classes.
    pub classes: &'a [String],
    /// Samples per class in each split that has any.
    pub counts: &'a BTreeMap<Split, Vec<u64>>,
    /// Whether it is known whose images they are.
    pub has_patients: bool,
}

/// Why a split is too small.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause}\nhelp: {help}")]
pub struct TooSmall {
    /// The place, and what is wrong.
    pub cause: String,
    /// What to do about it.
    pub help: String,
}

/// Checks that val is large enough to choose the threshold on, and the endpoint's split to judge arms on.
///
/// # Errors
/// The first split that is too small, unless the endpoint says that this is accepted.
pub fn check_sizes(endpoint: &Endpoint, dataset: Sizes<'_>) -> Result<(), TooSmall> {
    let classes = dataset.classes.len();
    let chosen = (classes == 2).then(|| to_choose(endpoint.threshold)).flatten();
    let chosen = chosen.map(|needed| Use {
        key: "threshold",
        purpose: "to choose a threshold on",
        split: Split::Val,
        needed: needed.to_vec(),
    });
    let judged = Use {
        key: "metric",
        purpose: "to judge arms on",
        split: endpoint.metric.split,
        needed: vec![LEAST_OF_A_CLASS; classes],
    };
    let uses: Vec<Use> = chosen.into_iter().chain([judged]).collect();
    let lacking = uses.iter().find(|each| !dataset.few(each).is_empty());
    match lacking {
        Some(lacking) if !endpoint.accept_small_splits => {
            let cause = dataset.cause(lacking, endpoint.threshold);
            Err(TooSmall { cause, help: dataset.help(lacking.split, &uses) })
        }
        _ => Ok(()),
    }
}

/// What a split is used for.
struct Use {
    /// Of `[endpoint]`.
    key: &'static str,
    purpose: &'static str,
    split: Split,
    /// Samples of each class.
    needed: Vec<u64>,
}

/// Negatives and positives that it takes to choose a threshold; none where it is not chosen.
fn to_choose(rule: Threshold) -> Option<[u64; 2]> {
    let least = LEAST_OF_A_CLASS;
    match rule {
        Threshold::Fixed(_) => None,
        Threshold::Youden | Threshold::F1 | Threshold::Cost(_) => Some([least, least]),
        Threshold::Sensitivity(rate) => Some([least, least.max(to_miss_one(rate))]),
        Threshold::Specificity(rate) => Some([least.max(to_miss_one(rate)), least]),
    }
}

/// Fewest samples of which one can be missed at a rate of at least `rate`: 1 / (1 - rate), rounded up; of 1, where none
/// may be missed, any number. As in choosing, the quotient is held against the number, so 10 do for 0.9.
fn to_miss_one(rate: f64) -> u64 {
    if rate >= 1.0 {
        return 1;
    }
    let samples = (1.0 / (1.0 - rate)).ceil();
    let fewer = samples - 1.0;
    (if fewer > 1.0 && (fewer - 1.0) / fewer >= rate { fewer } else { samples }) as u64
}

impl Sizes<'_> {
    fn count(&self, split: Split, class: usize) -> u64 {
        self.counts.get(&split).and_then(|counts| counts.get(class)).copied().unwrap_or(0)
    }

    /// The classes that a split has too few samples of.
    fn few(&self, of: &Use) -> Vec<usize> {
        (0..self.classes.len()).filter(|&class| self.count(of.split, class) < of.needed[class]).collect()
    }

    /// `8 NORMAL and 8 PNEUMONIA`.
    fn listed(&self, classes: &[usize], count: impl Fn(usize) -> u64) -> String {
        let counted: Vec<String> =
            classes.iter().map(|&class| format!("{} {}", count(class), self.classes[class])).collect();
        match counted.split_last() {
            Some((last, before)) if !before.is_empty() => format!("{} and {last}", before.join(", ")),
            _ => counted.concat(),
        }
    }

    /// What one sample of the class is a part of.
    fn rate(&self, class: usize) -> String {
        match (self.classes.len(), class) {
            (2, 0) => "specificity".to_owned(),
            (2, _) => "sensitivity".to_owned(),
            _ => format!("the recall of {}", self.classes[class]),
        }
    }

    fn cause(&self, lacking: &Use, rule: Threshold) -> String {
        let Use { key, purpose, split, needed } = lacking;
        let few = self.few(lacking);
        let count = |class: usize| self.count(*split, class);
        // The class that has fewest samples; of equally rare ones the last, which of two is the positive one.
        let rarest = few.iter().copied().min_by_key(|&class| (count(class), std::cmp::Reverse(class))).unwrap_or(0);
        let (samples, rate) = (count(rarest), self.rate(rarest));
        let why = match (samples, rule) {
            (0, _) => format!("there is no {rate} {purpose}"),
            (LEAST_OF_A_CLASS.., Threshold::Sensitivity(least) | Threshold::Specificity(least)) => format!(
                "with one of them called wrong the {rate} is {}/{samples}, below {least}, so one image decides",
                samples - 1
            ),
            _ => format!("one image is {} points of {rate}, too coarse {purpose}", points(samples)),
        };
        let images = if few.len() == 1 && samples == 1 { "image" } else { "images" };
        let needs = if needed.iter().all(|needed| *needed == LEAST_OF_A_CLASS) {
            format!("{LEAST_OF_A_CLASS} of each class")
        } else {
            self.listed(&few, |class| needed[class])
        };
        format!(
            "endpoint.{key}: the {split} split of {:?} has {} {images}: {why}; it takes {needs}",
            self.name,
            self.listed(&few, count)
        )
    }

    /// Proposes a split that is large enough for all uses, with a quarter to spare, as patients' images stay together.
    fn help(&self, split: Split, uses: &[Use]) -> String {
        let in_all = |class: usize| Split::ALL.into_iter().map(|split| self.count(split, class)).sum::<u64>();
        let enough = |percent: u64, class: usize, needed: u64| {
            u128::from(in_all(class)) * u128::from(percent) >= 125 * u128::from(needed)
        };
        let fits = |percent: u64| {
            uses.iter().all(|of| of.needed.iter().enumerate().all(|(class, needed)| enough(percent, class, *needed)))
        };
        let accept = "to go on all the same, write accept_small_splits = true in [endpoint]";
        match PROPOSALS.into_iter().find(|(_, percent)| fits(*percent)) {
            Some((shares, _)) => {
                let group = if self.has_patients { " --group-by patient" } else { "" };
                format!(
                    "import it again under another name with a larger {split} split, such as: ceteris data import DIR \
                     --name NAME{group} --split {shares} (with --csv, --patient-pattern and --image-size as before); {accept}"
                )
            }
            None => {
                let classes: Vec<usize> = (0..self.classes.len()).collect();
                format!(
                    "{} images in all are too few to share out: add some and import them again under another name; \
                     {accept}",
                    self.listed(&classes, in_all)
                )
            }
        }
    }
}

/// What one of `samples` is, in points: `12.5`, `5`.
fn points(samples: u64) -> String {
    let text = format!("{:.1}", 100.0 / samples as f64);
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::spec::Metric;

    /// Samples per class in train, val and test.
    type Counts<'a> = [&'a [u64]; 3];

    const PUBLISHED: Counts<'_> = [&[1341, 3875], &[8, 8], &[234, 390]];

    fn checked(metric: &str, threshold: Threshold, counts: Counts<'_>) -> Result<(), TooSmall> {
        let names = ["NORMAL", "PNEUMONIA", "TUBERCULOSIS"];
        let classes: Vec<String> = names.iter().take(counts[0].len()).map(|name| (*name).to_owned()).collect();
        let metric: Metric = metric.parse().expect("a metric");
        let counts = Split::ALL.into_iter().zip(counts.map(<[u64]>::to_vec)).collect();
        let sizes = Sizes { name: "kermany", classes: &classes, counts: &counts, has_patients: true };
        let endpoint = Endpoint { metric, threshold, ..Endpoint::default() };
        let accepting = Endpoint { accept_small_splits: true, ..endpoint };
        assert_eq!(check_sizes(&accepting, sizes), Ok(()));
        check_sizes(&endpoint, sizes)
    }

    #[test]
    fn what_is_used_must_be_large_enough() {
        let fixed = Threshold::Fixed(0.5);
        let large: Counts<'_> = [&[1, 1], &[20, 20], &[20, 20]];
        for rule in [Threshold::Youden, Threshold::F1, Threshold::Cost(5.0), fixed, Threshold::Sensitivity(0.95)] {
            assert_eq!(checked("val.auc", rule, large), Ok(()), "{rule:?}");
            assert_eq!(checked("test.auc", rule, large), Ok(()), "{rule:?}");
        }
        assert_eq!(checked("test.auc", fixed, PUBLISHED), Ok(()), "nothing is read on val");
        assert!(checked("test.auc", Threshold::Youden, PUBLISHED).is_err());
        assert!(checked("val.auc", fixed, PUBLISHED).is_err());
        let untested: Counts<'_> = [&[100, 100], &[20, 20], &[1, 1]];
        assert_eq!(checked("val.auc", Threshold::Youden, untested), Ok(()), "nobody is judged on test");
        assert!(checked("test.auc", Threshold::Youden, untested).is_err());
        // With three classes no threshold is chosen.
        let three: Counts<'_> = [&[90, 90, 90], &[1, 1, 1], &[20, 20, 20]];
        assert_eq!(checked("test.auc", Threshold::Youden, three), Ok(()));
        assert!(checked("val.auc", Threshold::Youden, three).is_err());
    }

    #[test]
    fn a_rate_needs_samples_of_which_one_can_be_missed() {
        let needed =
            [(0.5, 2), (0.75, 4), (0.8, 5), (0.9, 10), (0.95, 20), (0.96, 25), (0.97, 34), (0.98, 50), (0.99, 100)];
        for (rate, samples) in needed {
            assert_eq!(to_miss_one(rate), samples, "{rate}");
        }
        assert_eq!((to_miss_one(0.999), to_miss_one(0.9999), to_miss_one(1.0)), (1000, 10_000, 1));
        assert!(to_miss_one(1e-300) == 1 && to_miss_one(1.0 - f64::EPSILON / 2.0) > 1 << 52);
        let with =
            |negatives, positives| -> [Vec<u64>; 3] { [vec![500, 500], vec![negatives, positives], vec![50, 50]] };
        let holds =
            |rule, counts: [Vec<u64>; 3]| checked("test.auc", rule, counts.each_ref().map(Vec::as_slice)).is_ok();
        assert!(
            holds(Threshold::Sensitivity(0.99), with(20, 100)) && !holds(Threshold::Sensitivity(0.99), with(100, 99))
        );
        assert!(
            holds(Threshold::Specificity(0.99), with(100, 20)) && !holds(Threshold::Specificity(0.99), with(99, 100))
        );
        assert!(holds(Threshold::Sensitivity(1.0), with(20, 20)) && !holds(Threshold::Sensitivity(0.5), with(20, 19)));
    }

    #[test]
    fn refusals_do_the_arithmetic_and_name_the_way_out() {
        let fixed = Threshold::Fixed(0.5);
        let refused = [
            checked("test.auc", Threshold::Youden, PUBLISHED),
            checked("val.auc", fixed, PUBLISHED),
            checked("test.auc", fixed, [&[90, 90], &[1, 1], &[30, 19]]),
            checked("test.auc", Threshold::Sensitivity(0.99), PUBLISHED),
            checked("test.auc", Threshold::Sensitivity(0.99), [&[900, 900], &[40, 40], &[40, 40]]),
            checked("test.auc", Threshold::Specificity(0.975), [&[90, 90], &[39, 40], &[40, 40]]),
            checked("test.accuracy", Threshold::F1, [&[50, 50], &[20, 20], &[30, 0]]),
            checked("test.auc", Threshold::F1, [&[50, 50], &[20, 1], &[30, 30]]),
            checked("val.auc", fixed, [&[40, 40], &[9, 12], &[9, 9]]),
            checked("val.auc", fixed, [&[90, 90, 90], &[30, 15, 6], &[9, 9, 9]]),
        ];
        let told = refused.map(|refused| refused.expect_err("too small").to_string());
        insta::assert_snapshot!(told.join("\n\n"));
        let counts = [(Split::Val, vec![8, 8]), (Split::Train, vec![800, 800])].into();
        let classes = ["NORMAL", "PNEUMONIA"].map(str::to_owned);
        let alone = Sizes { name: "mine", classes: &classes, counts: &counts, has_patients: false };
        let told = check_sizes(&Endpoint::default(), alone).expect_err("too small");
        assert!(told.help.contains("--name NAME --split 0.7,0.15,0.15"), "{told}");
    }

    proptest! {
        #[test]
        fn one_can_be_missed_of_what_is_needed_and_of_no_fewer(missable in 1u64..100_000) {
            let exactly = 100_000_u64.div_ceil(100_000 - missable);
            prop_assert_eq!(to_miss_one(missable as f64 / 1e5), exactly);
        }
    }
}
