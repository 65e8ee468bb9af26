//! How often the verdict of a made-up study is wrong: studies without a difference, to count false alarms, and studies with a
//! known one, to count intervals that miss it. Prints one JSON line for each kind of study.
//!
//! A model's score of an image is `separation · (label - 1/2) + patient + patient within arm + patient within arm and seed + image`, all normal.
//! The separation varies over seeds, in part the same in both arms, because seeds are paired. Patients have one to four images
//! of one class. So the true area under the ROC curve of an arm is `Φ(separation / √(2·variance + variance over seeds))`, and its
//! true accuracy, where scores above 0 are called positive, `Φ(separation / √(4·variance + variance over seeds))`.

use std::process::ExitCode;

use ceteris_shared::{
    ids::Epoch,
    seed::{Draws, Purpose, draw},
    spec::Score,
    stats::{Clusters, Influence, Labelled, crossed, influence, sign_flip},
};
use serde_json::json;
use statrs::distribution::{ContinuousCDF, Normal};

const ALPHA: f64 = 0.05;
const PATIENTS: u32 = 150;

/// Standard deviations of what a score is made of. An image alone has 1.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    /// Of the separation over seeds, equal in both arms.
    seed: f64,
    /// Of the separation over seeds, of each arm for itself.
    seed_in_arm: f64,
    patient: f64,
    patient_in_arm: f64,
    patient_in_arm_and_seed: f64,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "seeds vary",
        seed: 0.2,
        seed_in_arm: 0.4,
        patient: 0.7,
        patient_in_arm: 0.1,
        patient_in_arm_and_seed: 0.2,
    },
    Kind {
        name: "both vary",
        seed: 0.1,
        seed_in_arm: 0.12,
        patient: 0.7,
        patient_in_arm: 0.4,
        patient_in_arm_and_seed: 0.3,
    },
    Kind {
        name: "patients vary",
        seed: 0.0,
        seed_in_arm: 0.0,
        patient: 0.7,
        patient_in_arm: 0.6,
        patient_in_arm_and_seed: 0.3,
    },
];
const SEPARATIONS: [f64; 2] = [1.8, 2.2];

impl Kind {
    fn truth(&self, score: Score, separation: f64) -> f64 {
        let of_score = 1.0 + self.patient.powi(2) + self.patient_in_arm.powi(2) + self.patient_in_arm_and_seed.powi(2);
        let of_separation = self.seed.powi(2) + self.seed_in_arm.powi(2);
        let times = if score == Score::Auc { 2.0 } else { 4.0 };
        Normal::standard().cdf(separation / (times * of_score + of_separation).sqrt())
    }

    /// The differences of a score and their influences, one a seed.
    fn study(
        &self,
        score: Score,
        draws: &mut Draws,
        seeds: usize,
        separations: [f64; 2],
    ) -> (Vec<f64>, Vec<Influence>) {
        let images: Vec<u32> = (0..PATIENTS).map(|_| 1 + draws.below(4) as u32).collect();
        let patients =
            Clusters::named((0u32..).zip(&images).flat_map(|(patient, count)| (0..*count).map(move |_| Some(patient))));
        let label = |patient: usize| u32::from(patient % 5 < 3);
        let labels: Vec<u32> =
            images.iter().enumerate().flat_map(|(patient, count)| (0..*count).map(move |_| label(patient))).collect();
        let of_patient: Vec<f64> = images.iter().map(|_| self.patient * draws.normal()).collect();
        let of_arm: Vec<Vec<f64>> =
            (0..2).map(|_| of_patient.iter().map(|of| of + self.patient_in_arm * draws.normal()).collect()).collect();
        let (mut differences, mut influences) = (Vec::new(), Vec::new());
        for _ in 0..seeds {
            let of_seed = self.seed * draws.normal();
            let mut model = |arm: usize| {
                let separation = separations[arm] + of_seed + self.seed_in_arm * draws.normal();
                let mut scores = Vec::with_capacity(labels.len());
                for (patient, count) in images.iter().enumerate() {
                    let of_model = of_arm[arm][patient] + self.patient_in_arm_and_seed * draws.normal();
                    for _ in 0..*count {
                        let score = separation * (f64::from(label(patient)) - 0.5) + of_model + draws.normal();
                        scores.push(1.0 / (1.0 + (-score).exp()));
                    }
                }
                let labelled = Labelled::of_scores(labels.clone(), &scores).expect("probabilities");
                influence(score, &labelled, Some(0.5), &patients).expect("both classes are there")
            };
            let ((baseline, of_baseline), (arm, of_arm)) = (model(0), model(1));
            differences.push(arm - baseline);
            influences.push(of_arm.minus(&of_baseline));
        }
        (differences, influences)
    }
}

fn main() -> ExitCode {
    let Some(studies) = std::env::args().nth(1).and_then(|count| count.parse::<u32>().ok()) else {
        eprintln!("say how many studies of each kind");
        return ExitCode::from(2);
    };
    let mut cell = 0;
    for (kind, score) in KINDS.into_iter().flat_map(|kind| [(kind, Score::Auc), (kind, Score::Accuracy)]) {
        for seeds in [2, 3, 5, 8] {
            println!("{}", measure(&kind, score, seeds, studies, cell));
            cell += 1;
        }
    }
    ExitCode::SUCCESS
}

/// So many studies without a difference, and with one.
fn measure(kind: &Kind, score: Score, seeds: usize, studies: u32, cell: u64) -> serde_json::Value {
    let (mut alarms, mut exact_alarms, mut covered, mut seen, mut width) = (0u32, 0u32, 0u32, 0u32, 0.0);
    let truth = kind.truth(score, SEPARATIONS[1]) - kind.truth(score, SEPARATIONS[0]);
    for index in 0..studies {
        let mut draws = draw(cell, Epoch(index), 0, Purpose::Resample);
        let (differences, influences) = kind.study(score, &mut draws, seeds, [SEPARATIONS[0]; 2]);
        let estimate = crossed(&differences, &influences).expect("there are seeds");
        alarms += u32::from(estimate.p().is_some_and(|p| p <= ALPHA));
        exact_alarms += u32::from(sign_flip(&differences).is_some_and(|p| p <= ALPHA));
        let (differences, influences) = kind.study(score, &mut draws, seeds, SEPARATIONS);
        let estimate = crossed(&differences, &influences).expect("there are seeds");
        let [low, high] = estimate.interval(1.0 - ALPHA);
        covered += u32::from(low <= truth && truth <= high);
        seen += u32::from(estimate.p().is_some_and(|p| p <= ALPHA));
        width += (high - low) / f64::from(studies);
    }
    let share = |count: u32| f64::from(count) / f64::from(studies);
    json!({
        "kind": kind.name, "score": score.name(), "seeds": seeds, "studies": studies, "true_difference": truth,
        "false_alarms": share(alarms), "false_alarms_sign_flip": share(exact_alarms),
        "coverage": share(covered), "power": share(seen), "mean_width": width,
    })
}
