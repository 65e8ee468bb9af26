//! How much each cluster of samples contributes to a score's deviation: what the variance of a score, and the covariance of two
//! scores on the same samples, are made of.
//!
//! Areas under ROC curves have two parts, one for a cluster's positives and one for its negatives, with the corrections of
//! DeLong et al. 1988 and Obuchowski 1997. Everything else is linearised: a sample contributes the derivative of the score by the
//! sample's weight (Hampel, "The influence curve and its role in robust estimation", 1974). Each takes no longer than sorting.

use std::collections::HashSet;

use super::{CALIBRATION_BINS, Clusters, Labelled, calibration};
use crate::spec::Score;

/// Contributions of clusters, in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Influence {
    parts: Vec<[f64; 2]>,
    /// What sums of products of first parts, of second parts, and of one with the other are multiplied by.
    factors: [f64; 3],
}

impl Influence {
    /// Nothing, with the shape of `self`.
    pub fn zero(&self) -> Self {
        Self { parts: vec![[0.0; 2]; self.parts.len()], factors: self.factors }
    }

    /// The influence on the difference of the two scores.
    pub fn minus(&self, other: &Self) -> Self {
        self.combined(other, -1.0)
    }

    /// The influence on the score times `factor`.
    pub fn times(&self, factor: f64) -> Self {
        let parts = self.parts.iter().map(|[one, other]| [factor * one, factor * other]).collect();
        Self { parts, factors: self.factors }
    }

    /// What each cluster contributes, in the clusters' order: the score's deviation where that cluster counts once more.
    pub fn of_clusters(&self) -> impl Iterator<Item = f64> + '_ {
        self.parts.iter().map(|[one, other]| one + other)
    }

    /// The influence on the sum of the two scores.
    pub fn plus(&self, other: &Self) -> Self {
        self.combined(other, 1.0)
    }

    fn combined(&self, other: &Self, sign: f64) -> Self {
        let add = |(one, other): (&[f64; 2], &[f64; 2])| [one[0] + sign * other[0], one[1] + sign * other[1]];
        Self { parts: self.parts.iter().zip(&other.parts).map(add).collect(), factors: self.factors }
    }

    /// The covariance of two scores on the same clusters.
    pub fn covariance(&self, other: &Self) -> f64 {
        let mut sums = [0.0; 3];
        for (one, other) in self.parts.iter().zip(&other.parts) {
            sums[0] += one[0] * other[0];
            sums[1] += one[1] * other[1];
            sums[2] += one[0] * other[1] + one[1] * other[0];
        }
        sums.iter().zip(self.factors).map(|(sum, factor)| sum * factor).sum()
    }

    /// The variance of the score.
    pub fn variance(&self) -> f64 {
        self.covariance(self).max(0.0)
    }

    /// How many clusters there are.
    pub fn clusters(&self) -> usize {
        self.parts.len()
    }

    fn of_one_part(parts: Vec<f64>) -> Option<Self> {
        let factor = unbiased(parts.len())?;
        Some(Self { parts: parts.into_iter().map(|part| [part, 0.0]).collect(), factors: [factor, 0.0, 0.0] })
    }
}

/// n / (n - 1); undefined below two.
fn unbiased(count: usize) -> Option<f64> {
    (count > 1).then(|| count as f64 / (count - 1) as f64)
}

/// A score with the influence of each cluster on it. `threshold` is where a probability of the positive class is called positive;
/// it is not used with more than two classes. Undefined where the score is, and where fewer than two clusters have a sample of a kind
/// that it is made of: of each class for the area and balanced accuracy, a positive one for recall, F1 and average precision, a
/// negative one for specificity, one that is called for precision.
pub fn influence(
    score: Score,
    labelled: &Labelled,
    threshold: Option<f64>,
    clusters: &Clusters,
) -> Option<(f64, Influence)> {
    match (score, labelled.positive()) {
        (Score::Auc, Some(positive)) => area(&labelled.one_vs_rest(positive), clusters),
        (Score::Auc, None) => mean_area(labelled, clusters),
        (Score::PrAuc, _) => average_precision(labelled, clusters),
        // Of one patient with the disease nothing is known about others.
        (Score::F1, Some(positive)) if patients_of(labelled, positive, clusters) < 2 => None,
        _ => linearised(&ratio(score, labelled, threshold)?, clusters),
    }
}

/// How many clusters have a sample of the class.
fn patients_of(labelled: &Labelled, class: usize, clusters: &Clusters) -> usize {
    let of_class = labelled.labels.iter().zip(clusters.of()).filter(|(label, _)| **label as usize == class);
    of_class.map(|(_, cluster)| cluster).collect::<HashSet<_>>().len()
}

/// The area under the ROC curve and the influence of each cluster's positives and negatives on it.
pub(super) fn area(scores: &[(f64, bool)], clusters: &Clusters) -> Option<(f64, Influence)> {
    let placements = placements(scores)?;
    let Placements { area, of, positives, negatives } = placements;
    let mut parts = vec![[0.0; 2]; clusters.count()];
    let mut has = vec![[false; 2]; clusters.count()];
    for (((_, positive), placement), &cluster) in scores.iter().zip(of).zip(clusters.of()) {
        let (side, count) = if *positive { (0, positives) } else { (1, negatives) };
        parts[cluster as usize][side] += (placement - area) / count as f64;
        has[cluster as usize][side] = true;
    }
    let with = |side: usize| has.iter().filter(|has| has[side]).count();
    let factors = [unbiased(with(0))?, unbiased(with(1))?, unbiased(clusters.count())?];
    Some((area, Influence { parts, factors }))
}

struct Placements {
    area: f64,
    /// Of each positive the share of negatives below it, of each negative the share of positives above it.
    of: Vec<f64>,
    positives: u64,
    negatives: u64,
}

fn placements(scores: &[(f64, bool)]) -> Option<Placements> {
    let positives = scores.iter().filter(|(_, positive)| *positive).count() as u64;
    let negatives = scores.len() as u64 - positives;
    if positives == 0 || negatives == 0 {
        return None;
    }
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_unstable_by(|&a, &b| scores[a].0.total_cmp(&scores[b].0));
    let mut of = vec![0.0; scores.len()];
    let (mut positives_below, mut negatives_below, mut twice_won) = (0u64, 0u64, 0u128);
    for ties in order.chunk_by(|&a, &b| scores[a].0 == scores[b].0) {
        let positives_here = ties.iter().filter(|&&index| scores[index].1).count() as u64;
        let negatives_here = ties.len() as u64 - positives_here;
        let twice_below = 2 * negatives_below + negatives_here;
        let twice_above = 2 * (positives - positives_below) - positives_here;
        for &index in ties {
            of[index] = if scores[index].1 {
                twice_below as f64 / (2 * negatives) as f64
            } else {
                twice_above as f64 / (2 * positives) as f64
            };
        }
        twice_won += u128::from(positives_here) * u128::from(twice_below);
        positives_below += positives_here;
        negatives_below += negatives_here;
    }
    let area = twice_won as f64 / (2 * u128::from(positives) * u128::from(negatives)) as f64;
    Some(Placements { area, of, positives, negatives })
}

/// The mean over classes of each against the rest. A cluster's contributions to the classes are added before they are squared, as
/// one part.
fn mean_area(labelled: &Labelled, clusters: &Clusters) -> Option<(f64, Influence)> {
    let classes = labelled.classes();
    let mut sum = 0.0;
    let mut parts = vec![0.0; clusters.count()];
    for class in 0..classes {
        let (value, influence) = area(&labelled.one_vs_rest(class), clusters)?;
        sum += value;
        for (part, [positive, negative]) in parts.iter_mut().zip(&influence.parts) {
            *part += (positive + negative) / classes as f64;
        }
    }
    Some((sum / classes as f64, Influence::of_one_part(parts)?))
}

/// Average precision. What a sample with score `s` adds: if it is positive, its own precision beside the mean; and to the
/// precision at each positive's threshold not above `s`, where it is called, too.
fn average_precision(labelled: &Labelled, clusters: &Clusters) -> Option<(f64, Influence)> {
    let classes = labelled.classes();
    let ranked: Vec<usize> = labelled.positive().map_or_else(|| (0..classes).collect(), |positive| vec![positive]);
    let mut parts = vec![0.0; clusters.count()];
    let mut sum = 0.0;
    for &class in &ranked {
        let scores = labelled.one_vs_rest(class);
        let value = super::average_precision(&scores)?;
        if patients_of(labelled, class, clusters) < 2 {
            return None;
        }
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_unstable_by(|&a, &b| scores[a].0.total_cmp(&scores[b].0));
        let positives_of = |ties: &[usize]| ties.iter().filter(|&&index| scores[index].1).count();
        let positives = positives_of(&order);
        let share = 1.0 / (positives * ranked.len()) as f64;
        // Called, and rightly so, at the threshold of the ties that come next.
        let (mut called, mut right) = (scores.len(), positives);
        // Of the thresholds of positives so far: sums of 1 / called, and of precision / called.
        let (mut inverse, mut precise) = (0.0, 0.0);
        for ties in order.chunk_by(|&a, &b| scores[a].0 == scores[b].0) {
            let here = positives_of(ties);
            let precision = right as f64 / called as f64;
            inverse += here as f64 / called as f64;
            precise += here as f64 * precision / called as f64;
            for &index in ties {
                let own = if scores[index].1 { precision - value + inverse } else { 0.0 };
                parts[clusters.of()[index] as usize] += (own - precise) * share;
            }
            called -= ties.len();
            right -= here;
        }
        sum += value;
    }
    Some((sum / ranked.len() as f64, Influence::of_one_part(parts)?))
}

/// What a sample adds to the numerator and to the denominator, for each of the ratios whose mean the score is.
type Ratios = Vec<Vec<(f64, f64)>>;

/// The score as a mean of ratios of sums over samples; `None` where it is undefined because nothing is called.
fn ratio(score: Score, labelled: &Labelled, threshold: Option<f64>) -> Option<Ratios> {
    let classes = labelled.classes();
    let call = |row: &[f64]| -> Option<usize> {
        match labelled.positive() {
            Some(positive) => Some(usize::from(row[positive] >= threshold?)),
            None => Some((0..classes).fold(0, |best, class| if row[class] > row[best] { class } else { best })),
        }
    };
    let count = |yes: bool| f64::from(u8::from(yes));
    // Precision, recall, F1 and specificity are the positive class's, or the mean of all classes'.
    let judged: Vec<usize> = labelled.positive().map_or_else(|| (0..classes).collect(), |positive| vec![positive]);
    let decided = |classes: &[usize], terms: &dyn Fn(bool, bool) -> (f64, f64)| -> Option<Ratios> {
        let of = |class: usize| {
            labelled.rows().map(|(label, row)| Some(terms(label as usize == class, call(row)? == class))).collect()
        };
        classes.iter().map(|&class| of(class)).collect()
    };
    match score {
        Score::Accuracy => labelled
            .rows()
            .map(|(label, row)| Some((count(call(row)? == label as usize), 1.0)))
            .collect::<Option<Vec<_>>>()
            .map(|samples| vec![samples]),
        Score::Loss => {
            let cost = |(label, row): (u32, &[f64])| (-row[label as usize].max(labelled.floor()).ln(), 1.0);
            Some(vec![labelled.rows().map(cost).collect()])
        }
        Score::Brier => Some(vec![labelled.rows().map(|row| (super::calibration::squared_error(row), 1.0)).collect()]),
        Score::Precision => decided(&judged, &|is, called| (count(is && called), count(called))),
        Score::Recall => decided(&judged, &|is, called| (count(is && called), count(is))),
        Score::Specificity => decided(&judged, &|is, called| (count(!is && !called), count(!is))),
        Score::F1 => decided(&judged, &|is, called| (2.0 * count(is && called), count(is) + count(called))),
        Score::BalancedAccuracy => {
            let all: Vec<usize> = (0..classes).collect();
            decided(&all, &|is, called| (count(is && called), count(is)))
        }
        Score::Ece => Some(vec![calibration_gaps(labelled)]),
        Score::Auc | Score::PrAuc => None,
    }
}

/// What each sample adds to the gap of its bin, on the side on which the bin's gap is.
fn calibration_gaps(labelled: &Labelled) -> Vec<(f64, f64)> {
    let gap = |(label, row): (u32, &[f64])| {
        let (told, came_true) = calibration::confidence(label, row);
        (calibration::bin(told), told - f64::from(u8::from(came_true)))
    };
    let gaps: Vec<(usize, f64)> = labelled.rows().map(gap).collect();
    let mut sums = [0.0; CALIBRATION_BINS];
    gaps.iter().for_each(|(bin, gap)| sums[*bin] += gap);
    gaps.into_iter().map(|(bin, gap)| (if sums[bin] < 0.0 { -gap } else { gap }, 1.0)).collect()
}

fn linearised(ratios: &Ratios, clusters: &Clusters) -> Option<(f64, Influence)> {
    let mut parts = vec![0.0; clusters.count()];
    let mut sum = 0.0;
    for samples in ratios {
        let (above, below) = samples.iter().fold((0.0, 0.0), |sum, term| (sum.0 + term.0, sum.1 + term.1));
        if below <= 0.0 {
            return None;
        }
        let with = samples.iter().zip(clusters.of()).filter(|((_, term), _)| *term > 0.0).map(|(_, cluster)| cluster);
        if with.collect::<HashSet<_>>().len() < 2 {
            return None;
        }
        let value = above / below;
        for ((above, term), &cluster) in samples.iter().zip(clusters.of()) {
            parts[cluster as usize] += (above - value * term) / below / ratios.len() as f64;
        }
        sum += value;
    }
    Some((sum / ratios.len() as f64, Influence::of_one_part(parts)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stats::{Weighted, strategy};

    /// The variance by leaving out one cluster after the other (Tukey, 1958).
    fn jackknife(score: Score, labelled: &Labelled, clusters: &Clusters) -> Option<f64> {
        let count = clusters.count();
        let weighted = Weighted::new(labelled, Some(0.5), clusters);
        let without = |cluster: usize| {
            let mut weights = vec![1; count];
            weights[cluster] = 0;
            weighted.score(score, &weights)
        };
        let without: Vec<f64> = (0..count).map(without).collect::<Option<_>>()?;
        let mean = without.iter().sum::<f64>() / count as f64;
        let squares = without.iter().map(|left| (left - mean).powi(2)).sum::<f64>();
        Some(squares * (count - 1) as f64 / count as f64)
    }

    #[test]
    fn of_one_patient_of_a_kind_nothing_is_known_about_others() {
        // One positive of ten, which two images show; at 0.85 only it is called.
        let labels = (0..10).map(|index| u32::from(index > 7)).collect();
        let scores: Vec<f64> = (0..10).map(|index| f64::from(index) / 10.0).collect();
        let labelled = Labelled::of_scores(labels, &scores).expect("well-formed");
        let patients = Clusters::named((0..10).map(|index| Some(index.min(8))));
        let known = |score| influence(score, &labelled, Some(0.85), &patients).is_some();
        let unknown = [Score::Auc, Score::BalancedAccuracy, Score::F1, Score::PrAuc, Score::Precision, Score::Recall];
        assert!(unknown.into_iter().all(|score| !known(score)));
        assert!([Score::Accuracy, Score::Brier, Score::Loss, Score::Specificity].into_iter().all(known));
    }

    proptest! {
        #[test]
        fn the_score_is_the_score(labelled in strategy::binary()) {
            let clusters = Clusters::singletons(labelled.samples());
            let direct = Weighted::new(&labelled, Some(0.5), &clusters);
            let ones = vec![1; labelled.samples()];
            for score in Score::ALL {
                if let Some((value, influence)) = influence(score, &labelled, Some(0.5), &clusters) {
                    let expected = direct.score(score, &ones).expect("it is defined");
                    prop_assert!((value - expected).abs() < 1e-12, "{score:?}: {value} {expected}");
                    prop_assert!(influence.variance().is_finite());
                }
            }
        }

        #[test]
        fn contributions_add_up_to_nothing(labelled in strategy::binary(), patients in 1u32..9) {
            let clusters = Clusters::named((0u32..).take(labelled.samples()).map(|index| Some(index % patients)));
            for score in Score::ALL {
                if let Some((_, influence)) = influence(score, &labelled, Some(0.5), &clusters) {
                    let sum: f64 = influence.parts.iter().flatten().sum();
                    prop_assert!(sum.abs() < 1e-12, "{score:?}: {sum}");
                }
            }
        }

        #[test]
        fn the_jackknife_agrees_with_the_closed_form(rows in proptest::collection::vec((0u32..2, 0u32..1000), 60..90)) {
            let scores: Vec<f64> = rows.iter().map(|(label, p)| (f64::from(*p) + 200.0 * f64::from(*label)) / 1200.0).collect();
            let labelled = Labelled::of_scores(rows.iter().map(|row| row.0).collect(), &scores).expect("well-formed");
            let clusters = Clusters::singletons(rows.len());
            let positives = rows.iter().filter(|row| row.0 == 1).count();
            prop_assume!(positives >= 15 && rows.len() - positives >= 15);
            for score in [Score::Auc, Score::Accuracy, Score::Brier, Score::F1, Score::PrAuc] {
                let closed = influence(score, &labelled, Some(0.5), &clusters);
                if let (Some((_, closed)), Some(left_out)) = (closed, jackknife(score, &labelled, &clusters)) {
                    let closed = closed.variance();
                    // Average precision is no smooth function of who is there: a tie that is left out moves it by a step.
                    let near = if score == Score::PrAuc { 0.4 } else { 0.15 };
                    prop_assert!((closed - left_out).abs() <= near * closed + 1e-12, "{score:?}: {closed} {left_out}");
                }
            }
        }
    }
}
