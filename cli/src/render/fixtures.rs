//! Small documents for the tests of rendering.

use std::collections::BTreeMap;

use ceteris::import::summary::{
    DuplicateFile, DuplicateGroup, Duplicates, SCHEMA, SharedPatient, SplitSummary, Summary as DatasetSummary,
};
use ceteris_shared::{
    checkpoint::Environment,
    compare::{
        PredictedModel, Prediction, Rules,
        claims::{Judgement, Status},
        compare_models,
    },
    dataset::Split,
    digest::Digest,
    document::{
        Checkpoint, Checkpoints, Comparison, ComparisonArm, ComparisonRun, Contrast, Dataset, Datasets, Difference,
        EndpointRule, Experiment, ExperimentArm, ExperimentRow, Experiments, Failure, FieldDifference, Live, Metrics,
        Models, NamedDigest, Pair, Plan, Reason, Refusal, RefusedField, Run, RunSpent, Scores, SegmentRow,
        SegmentState, SeriesPoint, Spread, State, Summary, Timestamp, Uncertainty, Verdict, Weights, WeightsEntry,
        Worker, WorkerAttempt, WorkerState, Workers,
    },
    ids::{Attempt, Epoch, ExperimentId, RunId, SegmentId, WorkerId},
    lineage::LineageKey,
    plan::{self, Pins},
    spec::{self, Arch, Compare, Correction, Endpoint, ExperimentSpec, Format, Score},
    trainer::FailureCause,
};
use uuid::Uuid;

use super::{CheckedClaim, Claims, Import, ImportRefusal};

const SPEC: &str = include_str!("../../../examples/kermany.toml");

fn experiment_id() -> ExperimentId {
    ExperimentId(Uuid::from_u128(0x1c3a_6e5f_0000_4000_8000_0000_0000_0001))
}

fn run_id(number: u128) -> RunId {
    RunId(Uuid::from_u128((0xabc0_0000 + number) << 96))
}

fn segment_id(number: u128) -> SegmentId {
    SegmentId(Uuid::from_u128((0x5e90_0000 + number) << 96))
}

fn moment() -> Timestamp {
    Timestamp(1_793_000_000_000)
}

fn environment() -> Environment {
    Environment {
        engine: "1".to_owned(),
        libtorch: "2.9.0".to_owned(),
        device: "cpu".to_owned(),
        instructions: "AVX512".to_owned(),
        threads: 2,
        determinism: "default".to_owned(),
    }
}

fn spec() -> ExperimentSpec {
    spec::parse(SPEC, Format::Toml).expect("the example is a spec")
}

pub fn pins() -> Pins {
    Pins { dataset: Some(Digest::of(b"dataset")), init: Some(Digest::of(b"weights")), ..Pins::default() }
}

pub fn plan(pins: Option<&Pins>) -> Plan {
    let planned = plan::plan(experiment_id(), &spec(), pins.unwrap_or(&Pins::default())).expect("the example is valid");
    Plan::new(&spec(), &planned, pins.map(|pins| (pins, 0)))
}

pub fn datasets() -> Datasets {
    let counts =
        |normal, pneumonia| BTreeMap::from([("NORMAL".to_owned(), normal), ("PNEUMONIA".to_owned(), pneumonia)]);
    let kermany = Dataset {
        name: "kermany".to_owned(),
        digest: Digest::of(b"dataset"),
        image_size: 224,
        classes: vec!["NORMAL".to_owned(), "PNEUMONIA".to_owned()],
        samples: 700,
        patients: Some(512),
        counts: BTreeMap::from([
            (Split::Train, counts(200, 300)),
            (Split::Val, counts(50, 50)),
            (Split::Test, counts(50, 50)),
        ]),
        bytes: 700 * 224 * 224,
        registered_at: moment(),
    };
    let unknown = Dataset { name: "x".to_owned(), patients: None, counts: BTreeMap::new(), ..kermany.clone() };
    Datasets { datasets: vec![kermany, unknown] }
}

pub fn weights() -> Weights {
    let entry = WeightsEntry {
        name: "imagenet".to_owned(),
        digest: Digest::of(b"weights"),
        arch: Arch::Densenet121,
        registered_at: moment(),
    };
    Weights { weights: vec![entry] }
}

pub fn workers() -> Workers {
    let busy = Worker {
        id: WorkerId(Uuid::from_u128(7 << 96)),
        name: "gpu-1".to_owned(),
        state: WorkerState::Connected,
        slots: 1,
        attempts: vec![WorkerAttempt { attempt: Attempt { segment: segment_id(0), number: 1 }, epoch: Some(Epoch(2)) }],
        version: "0.1.0".to_owned(),
        environment: environment(),
        last_seen: moment(),
        drained_slots: Vec::new(),
        set_aside_until: None,
    };
    let gone = Worker {
        id: WorkerId(Uuid::from_u128(8 << 96)),
        name: "gpu-2".to_owned(),
        state: WorkerState::Disconnected,
        attempts: Vec::new(),
        ..busy.clone()
    };
    Workers { workers: vec![busy, gone] }
}

pub fn checkpoints() -> Checkpoints {
    let checkpoint = |epoch: u32| Checkpoint {
        epoch: Epoch(epoch),
        key: LineageKey(Digest::of(&epoch.to_le_bytes())),
        manifest: Digest::of(&[epoch as u8, 1]),
        weights: Digest::of(&[epoch as u8, 2]),
        attempt: Attempt { segment: segment_id(0), number: epoch },
        bytes: 28_000_000,
        parts: Vec::new(),
        environment: environment(),
    };
    Checkpoints {
        run: run_id(1),
        experiment: experiment_id(),
        arm: "frozen".to_owned(),
        seed: 0,
        epochs: vec![checkpoint(1), checkpoint(2)],
    }
}

pub fn experiments() -> Experiments {
    let row = ExperimentRow {
        id: experiment_id(),
        name: "kermany".to_owned(),
        state: State::Running,
        paused: false,
        submitted_at: moment(),
        runs: 4,
        epochs_done: 7,
        epochs_to_train: 12,
    };
    Experiments { experiments: vec![row.clone(), ExperimentRow { state: State::Done, name: "a".to_owned(), ..row }] }
}

fn run(number: u128, arm: &str, state: State, epoch: u32) -> Run {
    let point =
        |epoch, split, name: &str, value| SeriesPoint { epoch: Epoch(epoch), split, name: name.to_owned(), value };
    let series = (1..=epoch).flat_map(|epoch| {
        [
            point(epoch, Split::Train, "loss", 0.5 / f64::from(epoch)),
            point(epoch, Split::Val, "loss", 0.6 / f64::from(epoch)),
            point(epoch, Split::Val, "auc", 0.9 + f64::from(epoch) / 100.0),
        ]
    });
    let val = [("auc", 0.9 + f64::from(epoch) / 100.0), ("accuracy", 0.88), ("loss", 0.31)];
    Run {
        run: run_id(number),
        arm: arm.to_owned(),
        seed: 0,
        state,
        epoch: Epoch(epoch),
        epochs: 4,
        live: None,
        val: if epoch == 0 { BTreeMap::new() } else { val.map(|(name, value)| (name.to_owned(), value)).into() },
        series: series.collect(),
        spent: RunSpent { epochs: epoch, steps: 16 * u64::from(epoch), samples: 500 * u64::from(epoch), seconds: 61.5 },
        failure: None,
    }
}

/// Two runs that share the epoch in flight, half done.
pub fn running() -> Experiment {
    let live = Some(Live { epoch: Epoch(2), step: 8, steps: 16, loss: Some(0.25) });
    let arms = [(1, "frozen"), (2, "finetuned")].map(|(number, name)| ExperimentArm {
        name: name.to_owned(),
        levels: BTreeMap::from([("arm".to_owned(), name.to_owned())]),
        stages: spec::resolve(&spec())[number as usize - 1].stages.clone(),
        runs: vec![Run { live, ..run(number, name, State::Running, 1) }],
    });
    let segment = |number: u128, state, first, last, runs: &[u128]| SegmentRow {
        id: segment_id(number),
        state,
        attempts: 1,
        worker: Some("gpu-1".to_owned()),
        first: Epoch(first),
        last: Epoch(last),
        runs: runs.iter().map(|run| run_id(*run)).collect(),
    };
    Experiment {
        id: experiment_id(),
        name: "kermany".to_owned(),
        state: State::Running,
        paused: false,
        submitted_at: moment(),
        budget: 4,
        dataset: NamedDigest { name: "kermany".to_owned(), digest: Some(Digest::of(b"dataset")) },
        init: NamedDigest { name: "random".to_owned(), digest: None },
        external: Vec::new(),
        endpoint: EndpointRule::from(Endpoint::default()),
        epochs_asked: 8,
        epochs_to_train: 6,
        epochs_reused: 0,
        extends: None,
        environment: Some(environment()),
        sharing: None,
        ledger: ceteris_shared::document::Ledger::default(),
        epochs_done: 3,
        arms: arms.into(),
        segments: vec![
            segment(0, SegmentState::Running, 1, 2, &[1, 2]),
            segment(1, SegmentState::Waiting, 3, 4, &[1]),
            segment(2, SegmentState::Waiting, 3, 4, &[2]),
        ],
    }
}

pub fn failed() -> Experiment {
    let mut experiment = Experiment { state: State::Failed, ..running() };
    experiment.arms[0].runs = vec![run(1, "frozen", State::Done, 4)];
    let failure = Failure {
        cause: FailureCause::Infrastructure,
        message: "no room left on the disk; gave up after 5 attempts".to_owned(),
    };
    experiment.arms[1].runs = vec![Run { failure: Some(failure), ..run(2, "finetuned", State::Failed, 2) }];
    experiment
}

fn scores(shift: f64) -> Scores {
    Scores {
        samples: 100,
        auc: Some(0.95 + shift),
        accuracy: Some(0.9 + shift),
        loss: Some(0.3 - shift),
        precision: Some(0.91),
        recall: None,
        f1: Some(0.9),
        specificity: Some(0.89),
        balanced_accuracy: Some(0.9 + shift),
        pr_auc: Some(0.94 + shift),
        brier: Some(0.08 - shift),
        ece: Some(0.03),
        calibration_slope: Some(0.8),
        calibration_intercept: Some(-0.1),
        confusion: vec![vec![45, 5], vec![4, 46]],
        threshold: Some(0.5),
    }
}

fn comparison_arm(name: &str, shift: f64) -> ComparisonArm {
    let run = |seed: u64| ComparisonRun {
        run: RunId::derive(experiment_id(), name, seed),
        seed,
        epochs_trained: 4,
        metrics: Metrics {
            val: Some(scores(shift)),
            test: Some(scores(shift + seed as f64 / 100.0)),
            external: BTreeMap::new(),
        },
    };
    let spread = |mean: f64, interval: Option<[f64; 2]>| Spread {
        mean: mean + shift,
        min: mean + shift - 0.005,
        max: mean + shift + 0.005,
        runs: 2,
        interval,
    };
    let undefined_once = Spread { mean: 0.91, min: 0.91, max: 0.91, runs: 1, interval: None };
    let spreads = || {
        let defined = [
            ("auc", spread(0.95, Some([0.93 + shift, 0.97 + shift]))),
            ("accuracy", spread(0.9, None)),
            ("precision", undefined_once),
        ];
        defined.map(|(name, spread)| (name.to_owned(), spread)).into()
    };
    ComparisonArm {
        name: name.to_owned(),
        levels: BTreeMap::from([("arm".to_owned(), name.to_owned())]),
        runs: vec![run(0), run(1)],
        summary: Summary { val: spreads(), test: spreads(), external: BTreeMap::new() },
    }
}

pub fn comparison() -> Comparison {
    let pair = |seed, difference| Pair { seed, baseline: 0.95, arm: 0.95 + difference, difference };
    Comparison {
        experiment: experiment_id(),
        name: "kermany".to_owned(),
        endpoint: EndpointRule::from(Endpoint::default()),
        at: Epoch(4),
        budget: 4,
        truncated: false,
        exploratory: false,
        classes: vec!["NORMAL".to_owned(), "PNEUMONIA".to_owned()],
        positive_class: Some("PNEUMONIA".to_owned()),
        alpha: 0.05,
        correct: Correction::Holm,
        arms: vec![comparison_arm("frozen", 0.0), comparison_arm("finetuned", 0.02)],
        contrasts: vec![Contrast {
            baseline: "frozen".to_owned(),
            arm: "finetuned".to_owned(),
            metric: Endpoint::default().metric,
            treatment: vec![FieldDifference {
                field: "stages[0].epochs".to_owned(),
                baseline: 4.into(),
                arm: 2.into(),
            }],
            factors: vec!["stages".to_owned()],
            single_factor: true,
            bundle: false,
            difference: difference(vec![pair(0, 0.02), pair(1, 0.01)]),
            verdict: Verdict::Inconclusive,
            because: "differs by 0.015, 95 % interval -0.034 to 0.064 over 2 seeds and 80 patients; p = 0.18"
                .to_owned(),
        }],
        refused: Vec::new(),
    }
}

/// What two seeds and 80 patients may say.
fn difference(pairs: Vec<Pair>) -> Difference {
    Difference {
        pairs,
        mean_difference: 0.015,
        min_difference: 0.01,
        max_difference: 0.02,
        uncertainty: Some(Uncertainty {
            interval: [-0.034, 0.064],
            standard_error: 0.007,
            degrees_of_freedom: Some(1.7),
            seed_variance: Some(5e-5),
            patient_variance: 2.4e-5,
            patients: 80,
        }),
        p: Some(0.18),
        p_corrected: Some(0.18),
        margin: None,
        equivalence_p: None,
        sign_flip_p: Some(0.5),
        smallest_p: 0.5,
        probability_larger: Some(1.0),
        minimum_detectable: Some(0.06),
        seeds_needed: Some(5),
    }
}

/// One arm is not done, so nothing is said about it.
pub fn refused() -> Comparison {
    let mut comparison = comparison();
    comparison.contrasts.clear();
    for run in &mut comparison.arms[1].runs {
        (run.metrics, run.epochs_trained) = (Metrics::default(), 2 + run.seed as u32);
    }
    comparison.arms[1].summary = Summary::default();
    comparison.refused.push(Refusal {
        arms: vec!["frozen".to_owned(), "finetuned".to_owned()],
        reason: Reason::UnequalBudgets,
        message: "\"frozen\" was trained for 4 epochs and \"finetuned\" for 2 to 3 epochs".to_owned(),
        fields: vec![RefusedField {
            field: "epochs_trained".to_owned(),
            values: BTreeMap::from([("frozen".to_owned(), 4.into()), ("finetuned".to_owned(), vec![2, 3].into())]),
        }],
    });
    comparison
}

/// One that holds, and one that was made up afterwards.
pub fn claims() -> Claims {
    let claim = |says: &str, status, because: &str| CheckedClaim {
        says: says.parse().expect("a claim"),
        experiment: experiment_id(),
        name: "kermany".to_owned(),
        at: Epoch(4),
        judgement: Judgement { status, because: because.to_owned() },
    };
    Claims::new(vec![
        claim(
            "finetuned > frozen in val.auc at 4 epochs by >= 0.005",
            Status::Holds,
            "the 95 % interval of the claimed difference begins at 0.0082, not below 0.005; the verdict on \"finetuned\" against \
             \"frozen\" is better: differs by 0.015, 95 % interval 0.0082 to 0.0218 over 8 seeds and 181 patients; p = 0.0021 (exact \
             sign-flip over seeds: p = 0.00781)",
        ),
        claim(
            "finetuned > frozen in val.f1",
            Status::NotDeclared,
            "it was fixed before training that arms are judged on val.auc, and the claim is about val.f1",
        ),
    ])
}

pub fn three_classes() -> Comparison {
    let mut comparison = Comparison { positive_class: None, ..comparison() };
    comparison.classes = ["a", "bacterial", "viral"].map(str::to_owned).into();
    for run in comparison.arms.iter_mut().flat_map(|arm| &mut arm.runs) {
        let confusion = vec![vec![9, 1, 0], vec![2, 1200, 3], vec![0, 0, 7]];
        run.metrics.test = Some(Scores { confusion, threshold: None, ..scores(0.0) });
    }
    comparison
}

pub fn summary() -> DatasetSummary {
    let split = |split, normal, pneumonia, patients, without_patient| SplitSummary {
        split,
        samples: normal + pneumonia,
        classes: BTreeMap::from([("NORMAL".to_owned(), normal), ("PNEUMONIA".to_owned(), pneumonia)]),
        patients,
        without_patient,
    };
    let group = |files: [(&str, Split); 2], classes_differ| DuplicateGroup {
        pixels: Digest::of(b"pixels"),
        classes_differ,
        files: files
            .map(|(file, split)| DuplicateFile { file: file.to_owned(), split, class: "NORMAL".to_owned() })
            .into(),
    };
    DatasetSummary {
        schema: SCHEMA,
        digest: Digest::of(b"dataset"),
        image_size: 224,
        classes: vec!["NORMAL".to_owned(), "PNEUMONIA".to_owned()],
        samples: 700,
        patients: 512,
        splits: vec![
            split(Split::Train, 200, 300, 400, 0),
            split(Split::Val, 50, 50, 0, 100),
            split(Split::Test, 50, 50, 90, 3),
        ],
        patients_in_several_splits: vec![SharedPatient {
            patient: "person7".to_owned(),
            splits: BTreeMap::from([(Split::Train, 2), (Split::Test, 1)]),
        }],
        duplicates: Duplicates {
            within_splits: vec![group([("a.png", Split::Train), ("b.png", Split::Train)], false); 6],
            across_splits: vec![group([("a.png", Split::Train), ("c.png", Split::Test)], true)],
        },
    }
}

pub fn import() -> Import {
    let refused = |file: &str, reason: &str| ImportRefusal { file: file.to_owned(), reason: reason.to_owned() };
    Import {
        name: "kermany".to_owned(),
        dataset: summary(),
        refused: vec![refused("train/NORMAL/x.jpg", "it is empty"), refused("val/y.dcm", "it is DICOM")],
        narrow_range: vec!["train/NORMAL/z.png".to_owned()],
    }
}

/// Two models of twelve samples of nine patients, with three seeds.
pub fn models() -> Models {
    let predictions = |shift: f64| {
        let one = move |(seed, index): (u64, u32)| {
            let positive = index % 2 == 1;
            let noise = f64::from((index * 7 + 3 * seed as u32) % 12) / 30.0;
            Prediction {
                sample: format!("{index:02}.png"),
                patient: Some(format!("p{}", index % 9)),
                label: if positive { "PNEUMONIA" } else { "NORMAL" }.to_owned(),
                score: 0.3 + noise + if positive { shift } else { 0.0 },
                seed,
                subgroup: Some(if index < 8 { "AP" } else { "PA" }.to_owned()),
            }
        };
        (0..3).flat_map(|seed| (0..12).map(move |index| (seed, index))).map(one).collect::<Vec<Prediction>>()
    };
    let model = |name: &str, shift| PredictedModel { name: name.to_owned(), predictions: predictions(shift) };
    let compare = Compare { margin: Some(0.02), ..Compare::default() };
    let rules = Rules { metric: Score::Auc, threshold: 0.5, positive: None, compare, draws: 200 };
    compare_models(&[model("old", 0.05), model("new", 0.2)], &rules).expect("they are of the same samples")
}
