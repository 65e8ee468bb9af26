//! What is compared and what is refused, on small made-up experiments.

use std::fmt::Write as _;

use super::*;
use crate::{
    document::{Reason, Verdict},
    plan::{self, Pins},
    spec::{Format, Threshold, parse},
    stats::{Clusters, Labelled},
};

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

/// What the fine-tuned arm has besides its stages, so that it differs from the frozen one in two settings.
const SECOND_SETTINGS: [(&str, &str); 13] = [
    ("batch_size", "batch_size = 16"),
    ("optimizer", "optimizer = { name = \"sgd\", momentum = 0.9 }"),
    ("weight_decay", "optimizer = { name = \"adam\", weight_decay = 0.01 }"),
    ("precision", "precision = \"bf16\""),
    ("augment", "augment = \"light\""),
    ("schedule", "schedule = \"cosine\""),
    ("lr", "lr = 0.01"),
    ("label_smoothing", "label_smoothing = 0.1"),
    ("class_weights", "class_weights = \"balanced\""),
    ("clip_norm", "clip_norm = 1.0"),
    ("accumulate", "accumulate = 2"),
    ("average", "average = 0.99"),
    ("memory", "memory = \"low\""),
];

/// The declared treatment, what the fine-tuned arm has besides its stages, and what it should not differ in.
const HIDDEN_TREATMENTS: [(&str, &str, &str); 4] = [
    ("an undeclared setting beside the declared one", "treatment = [\"stages\"]", "precision = \"bf16\""),
    ("an undeclared setting instead of the declared one", "treatment = [\"precision\"]", ""),
    ("two undeclared settings", "treatment = [\"lr\"]", "memory = \"low\""),
    ("an undeclared setting beside a bundle", "treatment = [\"lr\", \"stages\"]", "lr = 0.01\nclip_norm = 1.0"),
];

/// All arms' schedule, and the epoch of 4 that is read; the fine-tuned arm's first stage is over after 2.
const READ_EARLY: [(&str, &str, u32); 4] = [
    ("cosine read early", "schedule = \"cosine\"", 3),
    ("cosine read early, over in one arm", "schedule = \"cosine\"", 2),
    ("cosine read after its warm-up", "schedule = { name = \"cosine\", warm_up = 1 }", 2),
    ("one-cycle read early", "schedule = \"one-cycle\"", 1),
];

/// Each row: what happened, and the reasons that are given.
fn refused_cases() -> Vec<(&'static str, Case, Option<u32>, Vec<Reason>)> {
    use Reason::*;
    let case = || Case::done(spec("", 2), 4);
    let diverged = failed(FailureCause::Diverged, "the loss of step 7 is not finite");
    let disk = failed(FailureCause::Infrastructure, "no room left on the disk; gave up after 5 attempts.");
    let mut unpaired = case();
    unpaired.plan.runs.pop();
    let mut undefined = case();
    let one_class = Labelled::new(2, vec![0], vec![0.5, 0.5]).expect("well-formed");
    let of_one_class = Predicted { val: Some(one_class), ..Predicted::default() };
    undefined = undefined.with("frozen", 0, |facts| facts.metrics = score(&of_one_class, Threshold::Youden));
    let with = |extra: &str| Case::done(spec(extra, 2), 4);
    let mut by_design: Vec<(&'static str, Case, Option<u32>, Vec<Reason>)> = Vec::new();
    by_design.extend(SECOND_SETTINGS.map(|(factor, setting)| (factor, with(setting), None, vec![Confounded])));
    by_design.extend(HIDDEN_TREATMENTS.map(|(name, declared, setting)| {
        (name, with(&format!("{setting}\n[compare]\n{declared}")), None, vec![Confounded])
    }));
    by_design.extend(
        READ_EARLY
            .map(|(name, schedule, at)| (name, with(&format!("[controls]\n{schedule}")), Some(at), vec![Truncated])),
    );
    let mut cases = vec![
        (
            "still running",
            case().with("finetuned", 1, cut(3, Outcome::Unfinished)),
            None,
            vec![Unfinished, UnequalBudgets],
        ),
        (
            "never started",
            case().with("finetuned", 0, cut(0, Outcome::Unfinished)),
            None,
            vec![Unfinished, UnequalBudgets],
        ),
        ("failed", case().with("frozen", 0, cut(2, disk.clone())), None, vec![Failed, UnequalBudgets]),
        ("diverged", case().with("finetuned", 0, cut(2, diverged)), None, vec![Diverged, UnequalBudgets]),
        (
            "one arm cancelled half way",
            case().with("finetuned", 0, cut(2, Outcome::Cancelled)).with("finetuned", 1, cut(2, Outcome::Cancelled)),
            None,
            vec![Cancelled, UnequalBudgets],
        ),
        ("read beyond what was reached", case().with("frozen", 1, cut(2, disk)), Some(3), vec![Failed, UnequalBudgets]),
        ("a seed is missing", unpaired, None, vec![SeedsMissing]),
        (
            "computed elsewhere",
            case().with("finetuned", 1, |facts| facts.environments[3] = environment(8)),
            None,
            vec![Environment],
        ),
        ("an environment of an epoch in between", elsewhere(|other| other.threads = 8), None, vec![Environment]),
        ("another engine", elsewhere(|other| other.engine = "2".to_owned()), None, vec![Environment]),
        ("another libtorch", elsewhere(|other| other.libtorch = "2.9.1".to_owned()), None, vec![Environment]),
        ("another device", elsewhere(|other| other.device = "H100".to_owned()), None, vec![Environment]),
        ("other instructions", elsewhere(|other| other.instructions = "AVX2".to_owned()), None, vec![Environment]),
        (
            "other determinism",
            elsewhere(|other| other.determinism = "deterministic".to_owned()),
            None,
            vec![Environment],
        ),
        ("undefined", undefined, None, vec![MetricUndefined]),
    ];
    cases.extend(by_design);
    cases
}

/// One epoch of one run was computed in another environment.
fn elsewhere(change: fn(&mut crate::checkpoint::Environment)) -> Case {
    Case::done(spec("", 2), 4).with("frozen", 0, |facts| change(&mut facts.environments[1]))
}

#[test]
fn the_clean_pair_passes_and_at_least_thirty_others_do_not() {
    assert!(refused_cases().len() >= 30);
    let clean = Case::done(spec("", 2), 4).at(None, false);
    assert!(clean.refused.is_empty() && clean.contrasts.len() == 1);
    let Contrast { factors, single_factor, bundle, .. } = &clean.contrasts[0];
    assert_eq!((factors.join(" ").as_str(), single_factor, bundle), ("stages", &true, &false));
    let declared = Case::done(spec("[compare]\ntreatment = [\"stages\"]", 2), 4).at(None, false);
    assert_eq!((declared.refused, declared.contrasts), (Vec::new(), clean.contrasts));
}

#[test]
fn a_confounded_pair_names_both_settings_and_a_plan_says_so_before() {
    for (factor, setting) in SECOND_SETTINGS {
        let case = Case::done(spec(setting, 2), 4);
        let [refusal] = &case.at(None, false).refused[..] else { panic!("{factor}: one refusal") };
        let mut both = [factor, "stages"];
        both.sort_unstable();
        assert_eq!(refusal.fields.iter().map(|field| field.field.as_str()).collect::<Vec<_>>(), both);
        for field in &refusal.fields {
            assert_ne!(field.values["frozen"], field.values["finetuned"], "{factor}: {field:?}");
        }
        let planned = &planned_contrasts(&case.spec, &case.plan.arms)[0];
        let before = planned.refused.as_ref().expect("it is said before");
        assert_eq!((&before.fields, before.reason), (&refusal.fields, Reason::Confounded));
        assert!(refusal.message.starts_with(&before.message) && !planned.single_factor, "{}", before.message);
    }
}

#[test]
fn a_declared_bundle_is_compared_as_what_it_is() {
    let bundle = "lr = 0.01\nprecision = \"bf16\"\n[compare]\ntreatment = [\"precision\", \"stages\", \"lr\"]";
    let case = Case::done(spec(bundle, 6), 4);
    let comparison = case.at(None, false);
    let contrast = &comparison.contrasts[0];
    assert_eq!((contrast.factors.join(" ").as_str(), contrast.single_factor), ("lr precision stages", false));
    assert_eq!((contrast.bundle, contrast.verdict, comparison.refused.len()), (true, Verdict::Better, 0));
    let planned = &planned_contrasts(&case.spec, &case.plan.arms)[0];
    assert_eq!((planned.bundle, &planned.refused), (true, &None));
}

#[test]
fn a_confounded_arm_takes_only_its_own_contrast_with_it() {
    let third =
        "[[arm]]\nname = \"both\"\nlr = 0.01\nprecision = \"bf16\"\nstages = [{ epochs = 4, train = \"head\" }]";
    let comparison = Case::done(spec(third, 2), 4).at(None, false);
    assert_eq!(comparison.contrasts.iter().map(|contrast| contrast.arm.as_str()).collect::<Vec<_>>(), ["finetuned"]);
    let refused: Vec<_> = comparison.refused.iter().map(|refusal| (refusal.arms.join(" "), refusal.reason)).collect();
    assert_eq!(refused, [("frozen both".to_owned(), Reason::Confounded)]);
    let told: Vec<bool> = comparison.arms.iter().map(|arm| !arm.summary.val.is_empty()).collect();
    assert_eq!(told, [true, true, false]);
}

#[test]
fn a_schedule_with_a_horizon_is_read_when_it_is_over_or_has_not_begun() {
    let refused = |extra: &str, at: u32| Case::done(spec(extra, 2), 4).at(Some(at), false).refused;
    let none = Vec::new();
    // Only what is fine-tuned has a course, in the last two epochs.
    let stage = "schedule = \"constant\"\n[[arm]]\nname = \"course\"\n\
                 stages = [{ epochs = 2, train = \"head\" }, { epochs = 2, train = \"all\", schedule = \"one-cycle\" }]";
    assert_eq!((refused(stage, 2), refused(stage, 4)), (none.clone(), none.clone()));
    let [refusal] = &refused(stage, 3)[..] else { panic!("one refusal") };
    assert_eq!((&refusal.arms[1], refusal.fields.len()), (&"course".to_owned(), 1));
    let told = serde_json::to_string(&refusal.fields[0]).expect("plain data");
    assert_eq!(told, r#"{"field":"stages[1].schedule","values":{"course":"one-cycle","frozen":null}}"#);
    for at in 1..=4 {
        for schedule in ["\"constant\"", "{ name = \"step\", every = 1 }", "{ name = \"exponential\", factor = 0.9 }"] {
            assert_eq!(refused(&format!("[controls]\nschedule = {schedule}"), at), none, "{schedule} at {at}");
        }
    }
    let warm = "[controls]\nschedule = { name = \"cosine\", warm_up = 1 }";
    assert_eq!((refused(warm, 1), refused(warm, 4)), (none.clone(), none));
}

#[test]
fn no_epoch_is_proposed_that_would_be_refused() {
    let failed_at = |schedule: &str, epochs: usize| {
        let case = Case::done(spec(&format!("[controls]\nschedule = {schedule}"), 2), 4);
        let case = case.with("finetuned", 0, cut(epochs, failed(FailureCause::User, "out of memory")));
        case.at(None, false).refused.into_iter().map(|refusal| refusal.message).collect::<Vec<_>>()
    };
    let proposes = |messages: &[String], at: &str| messages.iter().map(|told| told.contains(at)).collect::<Vec<_>>();
    assert_eq!(proposes(&failed_at("\"constant\"", 3), "--at 3 or less"), [true, true]);
    // The fine-tuned arm's first stage is over after 2, the frozen arm's only one is not.
    assert_eq!(proposes(&failed_at("\"cosine\"", 3), "--at 2 or less"), [true, false]);
    assert_eq!(proposes(&failed_at("\"cosine\"", 1), "--at"), [false, false]);
}

/// The contrasts of one arm over a grid, as levels without the arm's name.
fn one_arm(grid: &str, compare: &str) -> Vec<(String, String)> {
    let text = format!(
        "name = \"x\"\ndata.dataset = \"d\"\nmodel.init = \"random\"\nbudget.epochs = 1\nseeds.count = 2\n\
         [[arm]]\nname = \"a\"\nstages = [{{ epochs = 1, train = \"head\" }}]\n[grid]\n{grid}\n[compare]\n{compare}"
    );
    let spec = parse(&text, Format::Toml).expect("a spec");
    let planned = planned_contrasts(&spec, &crate::spec::resolve(&spec));
    let levels = |name: &str| name.trim_start_matches("a ").to_owned();
    assert!(planned.iter().all(|contrast| contrast.single_factor && contrast.refused.is_none()), "{planned:?}");
    planned.iter().map(|contrast| (levels(&contrast.baseline), levels(&contrast.arm))).collect()
}

#[test]
fn the_levels_of_one_arm_are_contrasted_one_factor_at_a_time() {
    let pairs = |grid: &str, compare: &str| {
        let pairs = one_arm(grid, compare);
        pairs.iter().map(|(baseline, arm)| format!("{arm} / {baseline}")).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(pairs("lr = [1e-3, 1e-4, 1e-5]", ""), @"
    lr=1e-4 / lr=1e-3
    lr=1e-5 / lr=1e-3
    ");
    let two_by_two = "lr = [1e-3, 1e-4]\nprecision = [\"fp32\", \"bf16\"]";
    insta::assert_snapshot!(pairs(two_by_two, ""), @"
    lr=1e-3 precision=bf16 / lr=1e-3 precision=fp32
    lr=1e-4 precision=fp32 / lr=1e-3 precision=fp32
    lr=1e-4 precision=bf16 / lr=1e-3 precision=bf16
    lr=1e-4 precision=bf16 / lr=1e-4 precision=fp32
    ");
    let two_by_three = "batch_size = [32, 16]\nlr = [1e-3, 1e-4, 1e-2]";
    insta::assert_snapshot!(pairs(two_by_three, ""), @"
    batch_size=32 lr=1e-4 / batch_size=32 lr=1e-3
    batch_size=32 lr=1e-2 / batch_size=32 lr=1e-3
    batch_size=16 lr=1e-3 / batch_size=32 lr=1e-3
    batch_size=16 lr=1e-4 / batch_size=32 lr=1e-4
    batch_size=16 lr=1e-4 / batch_size=16 lr=1e-3
    batch_size=16 lr=1e-2 / batch_size=32 lr=1e-2
    batch_size=16 lr=1e-2 / batch_size=16 lr=1e-3
    ");
    // Rates are tried at each batch size; batch sizes are not what is asked about.
    insta::assert_snapshot!(pairs(two_by_three, "treatment = [\"lr\"]"), @"
    batch_size=32 lr=1e-4 / batch_size=32 lr=1e-3
    batch_size=32 lr=1e-2 / batch_size=32 lr=1e-3
    batch_size=16 lr=1e-4 / batch_size=16 lr=1e-3
    batch_size=16 lr=1e-2 / batch_size=16 lr=1e-3
    ");
    assert_eq!(pairs(two_by_three, "treatment = [\"lr\", \"batch_size\"]"), pairs(two_by_three, ""));
    assert_eq!(pairs("", ""), "");
}

#[test]
fn a_grid_of_nothing_that_is_declared_is_told_to_be_refused() {
    let text = "name = \"x\"\ndata.dataset = \"d\"\nmodel.init = \"random\"\nbudget.epochs = 1\nseeds.count = 2\n\
                [[arm]]\nname = \"a\"\nstages = [{ epochs = 1, train = \"head\" }]\n\
                [grid]\nlr = [1e-3, 1e-4]\n[compare]\ntreatment = [\"stages\"]";
    let spec = parse(text, Format::Toml).expect("a spec");
    let planned = planned_contrasts(&spec, &crate::spec::resolve(&spec));
    let reasons: Vec<_> = planned.iter().filter_map(|contrast| Some(contrast.refused.as_ref()?.reason)).collect();
    assert_eq!((planned.len(), reasons), (1, vec![Reason::Confounded]));
}

#[test]
fn what_is_not_comparable_is_refused_with_its_reason() {
    let mut told = String::new();
    for (name, case, at, reasons) in refused_cases() {
        let comparison = case.at(at, false);
        let found: Vec<Reason> = comparison.refused.iter().map(|refusal| refusal.reason).collect();
        assert_eq!(found, reasons, "{name}");
        assert!(comparison.contrasts.is_empty(), "{name}: a refused contrast was made");
        assert!(comparison.refused.iter().all(|refusal| !refusal.fields.is_empty()), "{name}: no field is named");
        let named = |arm: &&ComparisonArm| comparison.refused.iter().any(|refusal| refusal.arms.contains(&arm.name));
        let silent = |arm: &ComparisonArm| arm.runs.iter().all(|run| run.metrics == Metrics::default());
        assert!(comparison.arms.iter().filter(named).all(silent), "{name}: scores of a refused arm were told");
        for refusal in &comparison.refused {
            let fields = serde_json::to_string(&refusal.fields).expect("plain data");
            writeln!(told, "{name}: {:?} {:?}\n  {}\n  {fields}", refusal.reason, refusal.arms, refusal.message)
                .expect("a string");
        }
    }
    insta::assert_snapshot!(told);
}

#[test]
fn exploratory_computes_all_the_same_and_says_so() {
    for (name, case, at, reasons) in refused_cases() {
        let comparison = case.at(at, true);
        assert!(comparison.exploratory, "{name}");
        assert!(!comparison.refused.is_empty(), "{name}: the reasons are still told");
        for contrast in &comparison.contrasts {
            assert_eq!((contrast.verdict, contrast.difference.p), (Verdict::NotComparable, None), "{name}");
        }
        if !reasons.contains(&Reason::MetricUndefined) {
            assert_eq!(comparison.contrasts.len(), 1, "{name}");
        }
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
