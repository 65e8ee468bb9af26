//! What is compared and what is refused, on small made-up experiments.

use super::*;
use crate::{
    document::{Reason, Verdict},
    plan::{self, Pins},
    spec::{Format, Threshold, parse},
    stats::{Clusters, Labelled},
};

mod refused;

const EXPERIMENT: ExperimentId = ExperimentId(uuid::Uuid::from_u128(1));

pub(super) fn spec(extra: &str, seeds: u32) -> ExperimentSpec {
    let endpoint = if extra.contains("[endpoint]") { "" } else { "endpoint.threshold = \"youden\"" };
    let text = format!(
        r#"
        name = "frozen-vs-finetuned"
        data.dataset = "kermany"
        model.init = "imagenet"
        budget.epochs = 4
        seeds.count = {seeds}
        {endpoint}
        [[arm]]
        name = "frozen"
        stages = [{{ epochs = 4, train = "head" }}]
        [[arm]]
        name = "finetuned"
        stages = [{{ epochs = 2, train = "head" }}, {{ epochs = 2, train = "denseblock4", lr = 1e-4 }}]
        {extra}
        "#
    );
    parse(&text, Format::Toml).expect("a valid spec")
}

fn environment(threads: u32) -> Environment {
    let [engine, libtorch, device, instructions, determinism] =
        ["1", "2.7.1", "cpu", "AVX512", "default"].map(str::to_owned);
    Environment { engine, libtorch, device, instructions, threads, determinism }
}

/// Four normal and four pneumonia samples, of which `right` of each are ranked right.
fn predictions(right: u32) -> Labelled {
    let labels: Vec<u32> = (0..8).map(|index| index / 4).collect();
    let positive = |index: u32, label: u32| if (index % 4 < right) == (label == 1) { 0.75 } else { 0.25 };
    let probabilities =
        labels.iter().zip(0..).map(|(label, index)| positive(index, *label)).flat_map(|p: f32| [1.0 - p, p]);
    let probabilities = probabilities.collect();
    Labelled::new(2, labels, probabilities).expect("well-formed")
}

fn predicted(right: u32) -> Predicted {
    Predicted { val: Some(predictions(right)), test: Some(predictions(right)), external: BTreeMap::new() }
}

fn metrics(right: u32) -> Metrics {
    score(&predicted(right), Threshold::Youden)
}

/// Each sample is another patient's.
fn measured(spec: &ExperimentSpec, right: u32) -> Option<Influence> {
    let each = || Clusters::singletons(8);
    let patients = Patients { val: each(), test: each(), external: BTreeMap::new() };
    predicted(right).influence(&patients, Threshold::Youden, spec.endpoint.metric)
}

pub(super) struct Case {
    spec: ExperimentSpec,
    plan: Plan,
    runs: BTreeMap<RunId, RunFacts>,
}

impl Case {
    /// Everything is done; frozen ranks 2 of 4 right, all others `better` of 4.
    pub(super) fn done(spec: ExperimentSpec, better: u32) -> Self {
        let plan = plan::plan(EXPERIMENT, &spec, &Pins::default()).expect("a valid spec");
        let facts = |run: &PlannedRun| {
            let right = if plan.arms[run.arm].levels["arm"] == "frozen" { 2 } else { better };
            let environments = vec![environment(2); spec.budget.epochs as usize];
            let influence = measured(&spec, right);
            let frozen = vec![None; environments.len()];
            (run.id, RunFacts { outcome: Outcome::Done, environments, frozen, metrics: metrics(right), influence })
        };
        let runs = plan.runs.iter().map(facts).collect();
        Self { spec, plan, runs }
    }

    pub(super) fn with(mut self, arm: &str, seed: u64, change: impl Fn(&mut RunFacts)) -> Self {
        let arm = self.plan.arms.iter().position(|candidate| candidate.name == arm).expect("an arm of the plan");
        let run = self.plan.runs.iter().find(|run| run.arm == arm && run.seed == seed).expect("a run of the plan");
        change(self.runs.get_mut(&run.id).expect("facts of every run"));
        self
    }

    pub(super) fn at(&self, at: Option<u32>, exploratory: bool) -> Comparison {
        let classes = ["NORMAL", "PNEUMONIA"].map(str::to_owned);
        let at = at.map(Epoch);
        let (experiment, spec, plan, runs) = (EXPERIMENT, &self.spec, &self.plan, &self.runs);
        compare(&Input { experiment, spec, plan, classes: &classes, runs, at, exploratory }).expect("an epoch it has")
    }
}

pub(super) fn cut(epochs: usize, outcome: Outcome) -> impl Fn(&mut RunFacts) {
    move |facts| {
        facts.environments.truncate(epochs);
        facts.outcome = outcome.clone();
    }
}

fn failed(cause: FailureCause, message: &str) -> Outcome {
    Outcome::Failed { cause, message: message.to_owned() }
}

#[test]
fn six_seeds_that_agree_are_a_verdict() {
    let comparison = Case::done(spec("", 6), 4).at(None, false);
    assert!(comparison.refused.is_empty() && !comparison.truncated && !comparison.exploratory);
    assert_eq!(comparison.positive_class.as_deref(), Some("PNEUMONIA"));
    let [contrast] = &comparison.contrasts[..] else { panic!("one contrast") };
    assert_eq!((contrast.verdict, contrast.difference.sign_flip_p), (Verdict::Better, Some(0.03125)));
    assert_eq!(contrast.difference.pairs.len(), 6);
    assert_eq!((contrast.difference.mean_difference, contrast.difference.min_difference), (0.5, 0.5));
    let fields: Vec<&str> = contrast.treatment.iter().map(|difference| difference.field.as_str()).collect();
    let second = ["augment", "epochs", "lr", "schedule", "train"].map(|field| format!("stages[1].{field}"));
    assert_eq!(fields[0], "stages[0].epochs");
    assert_eq!(fields[1..], second);
    insta::assert_snapshot!(contrast.because, @"differs by 0.5, 95 % interval 0.0999 to 0.9 over 6 seeds and 8 patients; p = 0.0143 (exact sign-flip over seeds: p = 0.0312)");
    let worse = Case::done(spec("", 6), 0).at(None, false);
    assert_eq!(worse.contrasts[0].verdict, Verdict::Worse);
}

#[test]
fn what_is_frozen_and_moved_is_refused_within_a_stage_alone() {
    let told = |digests: [Option<&str>; 4]| {
        let frozen: Vec<Option<Digest>> =
            digests.iter().map(|digest| digest.map(|text| Digest::of(text.as_bytes()))).collect();
        let case = Case::done(spec("", 6), 4);
        // Two epochs of head, two of denseblock4.
        case.with("finetuned", 3, |facts| facts.frozen.clone_from(&frozen)).at(None, false)
    };
    let refused = told([Some("a"), Some("b"), Some("c"), Some("c")]);
    let [refusal] = &refused.refused[..] else { panic!("one refusal: {:?}", refused.refused) };
    assert_eq!((refusal.reason, refusal.fields[0].field.as_str()), (Reason::FrozenMoved, "frozen"));
    assert!(refused.contrasts.is_empty());
    insta::assert_snapshot!(refusal.message, @r#"arm "finetuned" has weights or BatchNorm statistics that are frozen and moved (seeds 3; of seed 3 between epochs 1 and 2), so something was trained that the spec does not say; train it again (`ceteris verify run`) and look for what changed its checkpoints"#);
    assert_eq!(told([Some("a"), None, Some("c"), Some("d")]).refused[0].reason, Reason::FrozenMoved);
    // Other parts are frozen in another stage, and what is not known is not held against anybody.
    for clean in [[Some("a"), Some("a"), Some("c"), Some("c")], [None; 4], [Some("a"), None, None, Some("c")]] {
        assert!(told(clean).refused.is_empty());
    }
}

#[test]
fn a_smaller_loss_is_better() {
    let comparison = Case::done(spec("[endpoint]\nmetric = \"test.loss\"", 6), 4).at(None, false);
    assert!(comparison.contrasts[0].difference.mean_difference < 0.0);
    assert_eq!(comparison.contrasts[0].verdict, Verdict::Better);
}

#[test]
fn scores_and_their_spread_are_told_per_arm() {
    let comparison = Case::done(spec("", 2), 4).with("frozen", 1, |facts| facts.metrics = metrics(3)).at(None, false);
    let frozen = &comparison.arms[0];
    assert_eq!(frozen.runs.iter().map(|run| run.epochs_trained).collect::<Vec<_>>(), [4, 4]);
    let scores = frozen.runs[0].metrics.test.as_ref().expect("test at the endpoint");
    assert_eq!((scores.auc, scores.accuracy, scores.confusion.clone()), (Some(0.5), Some(0.5), vec![vec![2, 2]; 2]));
    let spread = frozen.summary.val["auc"];
    assert_eq!((spread.mean, spread.min, spread.max, spread.runs), (0.625, 0.5, 0.75, 2));
}

#[test]
fn few_seeds_are_told_honestly() {
    let because = |seeds: u32, frozen: &[(u64, u32)], extra: &str| {
        let spec = spec(extra, seeds);
        let case = frozen.iter().fold(Case::done(spec.clone(), 3), |case, &(seed, right)| {
            let predicted = (metrics(right), measured(&spec, right));
            case.with("frozen", seed, |facts| (facts.metrics, facts.influence) = predicted.clone())
        });
        let comparison = case.at(None, false);
        let contrast = &comparison.contrasts[0];
        format!("{}: {}", contrast.verdict.name(), contrast.because)
    };
    let told = [
        because(1, &[], ""),
        because(2, &[], ""),
        because(2, &[(0, 3)], ""),
        because(4, &[(0, 3), (1, 4)], "[compare]\nmargin = 0.2"),
        because(4, &[(0, 3), (1, 3), (2, 3), (3, 3)], ""),
        because(6, &[(0, 1), (1, 3), (2, 1), (3, 3)], ""),
    ];
    insta::assert_snapshot!(told.join("\n"), @"
    inconclusive: with one seed nothing is known about how training varies; at least 2 are needed
    inconclusive: differs by 0.25, 95 % interval -0.0965 to 0.596 over 2 seeds and 8 patients; p = 0.157 (2 seeds cannot give p below 0.5 in the exact sign-flip test); no number of seeds would show a true difference of this size with probability 0.8 on so few patients
    inconclusive: differs by 0.125, 95 % interval -1.46 to 1.71 over 2 seeds and 8 patients; p = 0.5 (2 seeds cannot give p below 0.5 in the exact sign-flip test); a true difference of this size would be shown by 18 seeds, 16 more, with probability 0.8
    inconclusive: differs by 0.0625, 95 % interval -0.289 to 0.414 over 4 seeds and 8 patients; p = 0.691 (4 seeds cannot give p below 0.125 in the exact sign-flip test); no number of seeds would show a true difference of 0.2, the margin, with probability 0.8 on so few patients
    inconclusive: nothing varies over seeds and patients, or there are fewer than 2 patients of a kind that the metric needs: nothing can be said about chance
    inconclusive: differs by 0.25, 95 % interval -0.0318 to 0.532 over 6 seeds and 8 patients; p = 0.0797 (exact sign-flip over seeds: p = 0.125); no number of seeds would show a true difference of this size with probability 0.8 on so few patients
    ");
    let three_arms = spec("[grid]\naugment = [\"none\", \"light\"]", 6);
    let planned = planned_contrasts(&three_arms, &crate::spec::resolve(&three_arms));
    assert_eq!(planned.len(), 2);
    assert_eq!(
        planned[0].because,
        "6 seeds cannot give p below 0.0625 in the exact sign-flip test after Holm's correction over 2 contrasts; at least 7 are needed for alpha 0.05"
    );
}

#[test]
fn a_grid_contrasts_arms_at_equal_levels() {
    let grid = Case::done(spec("[grid]\naugment = [\"none\", \"light\"]\n[compare]\nbaseline = \"finetuned\"", 2), 4);
    let comparison = grid.at(None, false);
    let pairs: Vec<_> = comparison.contrasts.iter().map(|c| (c.baseline.as_str(), c.arm.as_str())).collect();
    let expected =
        [("finetuned augment=none", "frozen augment=none"), ("finetuned augment=light", "frozen augment=light")];
    assert_eq!(pairs, expected);
}

#[test]
fn an_early_look_is_val_only_and_gives_no_verdict() {
    let comparison = Case::done(spec("[endpoint]\nmetric = \"test.auc\"", 6), 4).at(Some(2), false);
    assert!(comparison.truncated && comparison.refused.is_empty());
    let contrast = &comparison.contrasts[0];
    assert_eq!((contrast.metric.to_string().as_str(), contrast.verdict), ("val.auc", Verdict::Inconclusive));
    assert_eq!(
        contrast.because,
        "read before the endpoint, epoch 4: a look at unfinished training, so there is no verdict"
    );
    assert_eq!(comparison.arms[0].runs[0].epochs_trained, 2);
}

#[test]
fn an_epoch_that_does_not_exist_is_an_error() {
    for at in [0, 5] {
        let error = epoch_to_read(&spec("", 1), Some(Epoch(at))).expect_err("beyond the budget");
        assert!(error.to_string().contains("from 1 to 4"), "{error}");
    }
}

#[test]
fn a_failed_arm_takes_only_its_own_contrasts_with_it() {
    let third = "[[arm]]\nname = \"all\"\nstages = [{ epochs = 4, train = \"all\" }]";
    let case = Case::done(spec(third, 2), 4).with("all", 0, cut(1, failed(FailureCause::User, "out of memory")));
    let comparison = case.at(None, false);
    assert_eq!(comparison.contrasts.len(), 1);
    assert_eq!(comparison.contrasts[0].arm, "finetuned");
    let told: Vec<bool> = comparison.arms.iter().map(|arm| !arm.summary.val.is_empty()).collect();
    assert_eq!(told, [true, true, false]);
}

#[test]
fn a_run_that_failed_later_can_be_read_earlier() {
    let case = Case::done(spec("", 2), 4).with("finetuned", 0, cut(3, failed(FailureCause::User, "out of memory")));
    assert!(case.at(Some(3), false).refused.is_empty());
}

#[test]
fn seeds_may_differ_in_environment_as_long_as_pairs_do_not() {
    let elsewhere = |facts: &mut RunFacts| facts.environments = vec![environment(8); 4];
    let case = Case::done(spec("", 2), 4).with("frozen", 1, elsewhere).with("finetuned", 1, elsewhere);
    assert!(case.at(None, false).refused.is_empty());
}

mod labels {
    use super::*;
    use crate::{
        dataset::{self, Manifest, Sample, Shard, Split},
        digest::Digest,
        predictions::Predictions,
        trainer::Scored,
    };

    fn manifest() -> Manifest {
        let sample = |index: u32| Sample {
            file: format!("{index}.png"),
            split: if index < 2 { Split::Train } else { Split::Val },
            class: index % 2,
            patient: None,
            source: Digest([0; 32]),
            pixels: Digest([0; 32]),
        };
        Manifest {
            schema: dataset::SCHEMA.to_owned(),
            transform: dataset::TRANSFORM.to_owned(),
            image_size: 32,
            classes: ["NORMAL", "PNEUMONIA"].map(str::to_owned).to_vec(),
            samples: (0..4).map(sample).collect(),
            shards: vec![Shard { digest: Digest([0; 32]), samples: 4 }],
        }
    }

    #[test]
    fn predictions_must_be_of_exactly_the_samples() {
        let val = Scored::Split(Split::Val);
        let good = Predictions { samples: vec![2, 3], probabilities: vec![0.5; 4], classes: 2 };
        let labelled = label(good.clone(), &manifest(), &val).expect("of this data set");
        assert_eq!((labelled.samples(), labelled.classes()), (2, 2));
        let others = Predictions { samples: vec![0, 1], ..good.clone() };
        let fewer = Predictions { samples: vec![2], probabilities: vec![0.5; 2], ..good.clone() };
        let classes = Predictions { probabilities: vec![0.3; 6], classes: 3, ..good.clone() };
        for wrong in [others, fewer, classes] {
            assert!(label(wrong.clone(), &manifest(), &val).is_err(), "{wrong:?}");
        }
        assert!(label(good, &manifest(), &Scored::External("nih".to_owned())).is_err());
    }
}
