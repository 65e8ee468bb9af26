//! Schema names, times, the refusal of what is not meant, and the examples of `docs/guide/json.md`: they are what these
//! values serialise to, and with `UPDATE_DOCS=1` in the environment this test rewrites them.

use std::{collections::BTreeMap, path::Path};

use serde_json::json;

use super::*;
use crate::{
    checkpoint::{Environment, Part, Role},
    compare::{self, Input, Outcome, Predicted, PredictedModel, Prediction, Rules, RunFacts, compare_models},
    dataset::Split,
    digest::Digest,
    ids::{Attempt, Epoch, ExperimentId, RunId, SegmentId, WorkerId},
    lineage::LineageKey,
    plan::{self, Pins},
    spec::{Arch, Compare, ExperimentSpec, Format, Score, Threshold, parse},
    stats::{Clusters, Labelled},
    trainer::Scored,
};

#[test]
fn a_document_says_its_schema_and_is_read_again() {
    let document = Datasets { datasets: Vec::new() };
    assert_eq!(document.to_json(), r#"{"schema":"ceteris.datasets/1","datasets":[]}"#);
    assert_eq!(Datasets::from_json(&document.to_json()), Ok(document));
}

#[test]
fn another_schema_and_no_json_are_refused() {
    let workers = Workers { workers: Vec::new() }.to_json();
    assert!(matches!(Datasets::from_json(&workers), Err(Error::Schema { found, .. }) if found == "ceteris.workers/1"));
    assert!(matches!(Datasets::from_json("<html>"), Err(Error::Malformed { .. })));
    assert!(matches!(Datasets::from_json(r#"{"schema":"ceteris.datasets/1"}"#), Err(Error::Malformed { .. })));
}

#[test]
fn a_newer_field_is_skipped() {
    let text = r#"{"schema":"ceteris.workers/1","workers":[],"added_later":true}"#;
    assert_eq!(Workers::from_json(text), Ok(Workers { workers: Vec::new() }));
}

#[test]
fn times_are_written_as_rfc_3339_and_read_again() {
    let moment = Timestamp(1_732_292_100_250);
    assert_eq!(moment.to_string(), "2024-11-22T16:15:00.250Z");
    let text = serde_json::to_string(&moment).expect("a string");
    assert_eq!(serde_json::from_str::<Timestamp>(&text).expect("the same"), moment);
    assert_eq!(Timestamp(u64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
}

const EXPERIMENT: ExperimentId = ExperimentId(uuid::Uuid::from_u128(0x3f0c_9a52_7d51_4c0e_9a6e_51f2_6c8d_0b17));
const WORKER: WorkerId = WorkerId(uuid::Uuid::from_u128(0x8be1_04c7_2f6b_4d39_b0f4_77a1_90c3_52de));
const SUBMITTED: Timestamp = Timestamp(1_763_825_400_000);

fn spec() -> ExperimentSpec {
    let text = r#"
        name = "frozen-vs-finetuned"
        data.dataset = "kermany"
        model.init = "imagenet"
        budget.epochs = 2
        seeds.count = 1
        endpoint = { metric = "test.auc", threshold = "youden" }
        [[arm]]
        name = "frozen"
        stages = [{ epochs = 2, train = "head" }]
        [[arm]]
        name = "finetuned"
        stages = [{ epochs = 1, train = "head" }, { epochs = 1, train = "denseblock4", lr = 1e-4 }]
    "#;
    parse(text, Format::Toml).expect("a valid spec")
}

fn digest(of: &str) -> Digest {
    Digest::of(of.as_bytes())
}

fn pins() -> Pins {
    Pins {
        dataset: Some(digest("kermany")),
        init: Some(digest("imagenet")),
        external: Vec::new(),
        inherited: Vec::new(),
    }
}

fn planned() -> plan::Plan {
    plan::plan(EXPERIMENT, &spec(), &pins()).expect("a valid spec")
}

fn environment() -> Environment {
    let [engine, libtorch, device, instructions, determinism] =
        ["2", "2.9.1", "cpu", "AVX512", "default"].map(str::to_owned);
    Environment { engine, libtorch, device, instructions, threads: 2, determinism }
}

fn experiments() -> Experiments {
    Experiments {
        experiments: vec![ExperimentRow {
            id: EXPERIMENT,
            name: "frozen-vs-finetuned".to_owned(),
            state: State::Running,
            paused: false,
            submitted_at: SUBMITTED,
            runs: 2,
            epochs_done: 2,
            epochs_to_train: 3,
        }],
    }
}

/// The fine-tuned run in the middle of its second epoch; frozen is left out to keep the example short.
fn experiment() -> Experiment {
    let (spec, plan) = (spec(), planned());
    let (arm, run) = (&plan.arms[1], &plan.runs[1]);
    let point = |split, name: &str, value| SeriesPoint { epoch: Epoch(1), split, name: name.to_owned(), value };
    let val = BTreeMap::from([("accuracy", 0.9091), ("auc", 0.9677), ("loss", 0.2514)].map(|(n, v)| (n.to_owned(), v)));
    let series = val.iter().map(|(name, value)| point(Split::Val, name, *value));
    let run = Run {
        run: run.id,
        arm: arm.name.clone(),
        seed: run.seed,
        state: State::Running,
        epoch: Epoch(1),
        epochs: 2,
        live: Some(Live { epoch: Epoch(2), step: 17, steps: 63, loss: Some(0.2203) }),
        series: series.chain([point(Split::Train, "loss", 0.3127)]).collect(),
        val,
        spent: RunSpent { epochs: 1, steps: 63, samples: 2000, seconds: 41.7 },
        failure: None,
    };
    let segment = |index: usize, state, worker: Option<&str>| {
        let segment = &plan.segments[index];
        SegmentRow {
            id: segment.id,
            state,
            attempts: 1,
            worker: worker.map(str::to_owned),
            first: segment.work.epochs[0].epoch,
            last: segment.work.last_epoch(),
            runs: plan.runs.iter().filter(|run| run.path.contains(&index)).map(|run| run.id).collect(),
        }
    };
    Experiment {
        id: EXPERIMENT,
        name: spec.name.clone(),
        state: State::Running,
        paused: false,
        submitted_at: SUBMITTED,
        budget: 2,
        dataset: NamedDigest { name: "kermany".to_owned(), digest: pins().dataset },
        init: NamedDigest { name: "imagenet".to_owned(), digest: pins().init },
        external: Vec::new(),
        endpoint: spec.endpoint.into(),
        epochs_asked: 4,
        epochs_to_train: 3,
        epochs_reused: 0,
        extends: None,
        environment: Some(environment()),
        sharing: None,
        ledger: Ledger {
            charged: RunSpent { epochs: 3, steps: 189, samples: 6000, seconds: 125.1 },
            trained: RunSpent { epochs: 2, steps: 126, samples: 4000, seconds: 83.4 },
            reused: RunSpent::default(),
            replayed: RunSpent::default(),
            attempts: 1,
            attempt_seconds: 90.5,
        },
        epochs_done: 2,
        arms: vec![ExperimentArm {
            name: arm.name.clone(),
            levels: arm.levels.clone(),
            stages: arm.stages.clone(),
            runs: vec![run],
        }],
        segments: vec![segment(0, SegmentState::Done, None), segment(2, SegmentState::Running, Some("gpu-03"))],
    }
}

/// Two arms compared as the coordinator does it, on eight samples.
fn comparison() -> Comparison {
    let (spec, plan) = (spec(), planned());
    let predicted = |positives: [f32; 8]| {
        let labels = vec![0, 0, 0, 0, 1, 1, 1, 1];
        let probabilities = positives.into_iter().flat_map(|p| [1.0 - p, p]).collect();
        let labelled = Labelled::new(2, labels, probabilities).expect("well-formed");
        Predicted { val: Some(labelled.clone()), test: Some(labelled), external: BTreeMap::new() }
    };
    let of_arm = [
        predicted([0.0, 0.125, 0.25, 0.75, 0.5, 0.625, 0.875, 1.0]),
        predicted([0.0, 0.125, 0.25, 0.5, 0.375, 0.625, 0.875, 1.0]),
    ];
    let facts = |run: &plan::PlannedRun| {
        let predicted = &of_arm[run.arm];
        let metrics = compare::score(predicted, Threshold::Youden);
        let each = || Clusters::singletons(8);
        let patients = compare::Patients { val: each(), test: each(), external: BTreeMap::new() };
        let influence = predicted.influence(&patients, Threshold::Youden, spec.endpoint.metric);
        let (environments, frozen) = (vec![environment(); 2], vec![None; 2]);
        (run.id, RunFacts { outcome: Outcome::Done, environments, frozen, metrics, influence })
    };
    let runs: BTreeMap<RunId, RunFacts> = plan.runs.iter().map(facts).collect();
    let classes = ["NORMAL", "PNEUMONIA"].map(str::to_owned);
    let input = Input {
        experiment: EXPERIMENT,
        spec: &spec,
        plan: &plan,
        classes: &classes,
        runs: &runs,
        at: None,
        exploratory: false,
    };
    compare::compare(&input).expect("the endpoint")
}

fn refusal() -> Refusal {
    Refusal {
        arms: vec!["frozen".to_owned(), "finetuned".to_owned()],
        reason: Reason::UnequalBudgets,
        message: "\"frozen\" was trained for 2 epochs and \"finetuned\" for 1 epoch, so a difference could be one of \
                  training time; read both at an epoch that all runs have, with --at 1 or less, or look without a \
                  verdict with --exploratory"
            .to_owned(),
        fields: vec![RefusedField {
            field: "epochs_trained".to_owned(),
            values: [("finetuned", json!(1)), ("frozen", json!(2))].map(|(arm, value)| (arm.to_owned(), value)).into(),
        }],
    }
}

fn attempt() -> Attempt {
    Attempt { segment: planned().segments[2].id, number: 1 }
}

fn workers() -> Workers {
    Workers {
        workers: vec![Worker {
            id: WORKER,
            name: "gpu-03".to_owned(),
            state: WorkerState::Connected,
            slots: 1,
            attempts: vec![WorkerAttempt { attempt: attempt(), epoch: Some(Epoch(2)) }],
            version: "0.1.0".to_owned(),
            environment: environment(),
            last_seen: Timestamp(SUBMITTED.0 + 95_250),
            drained_slots: vec![1],
            set_aside_until: None,
        }],
    }
}

fn datasets() -> Datasets {
    let counts =
        |normal, pneumonia| [("NORMAL", normal), ("PNEUMONIA", pneumonia)].map(|(c, n)| (c.to_owned(), n)).into();
    Datasets {
        datasets: vec![Dataset {
            name: "kermany".to_owned(),
            digest: digest("kermany"),
            image_size: 224,
            classes: ["NORMAL", "PNEUMONIA"].map(str::to_owned).to_vec(),
            samples: 2624,
            patients: Some(1391),
            counts: [
                (Split::Train, counts(1000, 1000)),
                (Split::Val, counts(100, 100)),
                (Split::Test, counts(212, 212)),
            ]
            .into(),
            bytes: 2624 * 224 * 224,
            registered_at: Timestamp(SUBMITTED.0 - 300_000),
        }],
    }
}

fn weights() -> Weights {
    Weights {
        weights: vec![WeightsEntry {
            name: "imagenet".to_owned(),
            digest: digest("imagenet"),
            arch: Arch::Densenet121,
            registered_at: Timestamp(SUBMITTED.0 - 240_000),
        }],
    }
}

fn checkpoints() -> Checkpoints {
    let plan = planned();
    let run = &plan.runs[1];
    let (epoch, key): (Epoch, LineageKey) = plan.keys(run).next().expect("two epochs");
    let part = |role, of: &str, bytes| Part { role, digest: digest(of), bytes };
    let parts = vec![
        part(Role::Frozen, "frozen", 28_133_160),
        part(Role::Trained, "trained", 8_376),
        part(Role::Optimizer, "optimizer", 16_680),
    ];
    Checkpoints {
        run: run.id,
        experiment: EXPERIMENT,
        arm: "finetuned".to_owned(),
        seed: run.seed,
        epochs: vec![Checkpoint {
            epoch,
            key,
            manifest: digest("manifest"),
            weights: digest("weights"),
            attempt: Attempt { segment: SegmentId(plan.segments[0].id.0), number: 1 },
            bytes: parts.iter().map(|part| part.bytes).sum(),
            parts,
            environment: environment(),
        }],
    }
}

fn explanation() -> Explanation {
    Explanation {
        run: planned().runs[1].id,
        experiment: EXPERIMENT,
        arm: "finetuned".to_owned(),
        seed: 0,
        state: State::Queued,
        text: "0 of 2 epochs committed. Epoch 1: ready, but no worker is connected: start `ceteris-worker`.".to_owned(),
    }
}

fn verification() -> Verification {
    let epoch = |epoch, weights: &str| {
        let weights = Some(digest(weights));
        VerifiedEpoch { epoch: Epoch(epoch), recorded: weights, trained: weights, equal: true }
    };
    Verification {
        run: planned().runs[1].id,
        experiment: EXPERIMENT,
        by: ExperimentId(uuid::Uuid::from_u128(0x1c3a_6e5f)),
        state: State::Done,
        environment: Some(environment()),
        equal: Some(true),
        epochs: vec![epoch(1, "weights 1"), epoch(2, "weights 2")],
        first_difference: None,
    }
}

fn garbage() -> Garbage {
    Garbage {
        dry_run: false,
        older_than_seconds: 86_400,
        checkpoints_given_up: 18,
        checkpoints_kept: 6,
        deleted: Objects { objects: 36, bytes: 1_204_224 },
        kept: Objects { objects: 25, bytes: 84_690_000 },
        young: Objects { objects: 1, bytes: 33_448 },
    }
}

fn storage() -> Storage {
    Storage {
        read: true,
        named: Objects { objects: 25, bytes: 84_690_000 },
        unnamed: Objects { objects: 1, bytes: 33_448 },
        set_aside: Objects::default(),
        unusable_in_all: 1,
        unusable: vec![Unusable {
            digest: digest("part"),
            what: "part of checkpoint 05b3abf2579a".to_owned(),
            problem: "it is not in the store".to_owned(),
        }],
    }
}

fn prediction_files() -> PredictionFiles {
    let plan = planned();
    let file = |split: Split, name: &str| PredictionFile { scored: Scored::Split(split), digest: digest(name) };
    let run = &plan.runs[0];
    let files = vec![file(Split::Val, "on val"), file(Split::Test, "on test")];
    PredictionFiles {
        experiment: EXPERIMENT,
        name: "frozen-vs-finetuned".to_owned(),
        at: Epoch(2),
        budget: 2,
        dataset: digest("kermany"),
        external: BTreeMap::new(),
        runs: vec![PredictedRun { run: run.id, arm: "frozen".to_owned(), seed: run.seed, files }],
        missing: vec![plan.runs[1].id],
    }
}

/// Two models of four samples, with one seed.
fn models() -> Models {
    let model = |name: &str, scores: [f64; 4]| {
        let one = |(index, score): (usize, f64)| Prediction {
            sample: format!("{index}.png"),
            patient: None,
            label: ["NORMAL", "PNEUMONIA"][index % 2].to_owned(),
            score,
            seed: 0,
            subgroup: None,
        };
        let predictions = scores.into_iter().enumerate().map(one).collect();
        PredictedModel { name: name.to_owned(), predictions }
    };
    let (metric, threshold, compare) = (Score::Auc, 0.5, Compare::default());
    let rules = Rules { metric, threshold, positive: None, compare, draws: 100 };
    let (old, new) = (model("old", [0.25, 0.5, 0.625, 0.75]), model("new", [0.25, 0.75, 0.375, 0.875]));
    let mut models = compare_models(&[old, new], &rules).expect("of the same samples");
    // One of each is enough to see what is in them.
    models.models.truncate(1);
    models.models[0].summary.retain(|score, _| score == "auc");
    models.contrasts[0].differences.retain(|score, _| score == "auc");
    models
}

fn pretty<T: Document>(document: &T) -> (String, String) {
    assert_eq!(T::from_json(&document.to_json()).as_ref().map(Document::to_json), Ok(document.to_json()));
    (T::SCHEMA.to_owned(), serde_json::to_string_pretty(document).expect("a document"))
}

fn examples() -> Vec<(String, String)> {
    vec![
        pretty(&Plan::new(&spec(), &planned(), Some((&pins(), 0)))),
        pretty(&experiments()),
        pretty(&experiment()),
        pretty(&comparison()),
        ("refused".to_owned(), serde_json::to_string_pretty(&refusal()).expect("a refusal")),
        pretty(&workers()),
        pretty(&datasets()),
        pretty(&weights()),
        pretty(&checkpoints()),
        pretty(&explanation()),
        pretty(&verification()),
        pretty(&garbage()),
        pretty(&storage()),
        pretty(&models()),
        pretty(&prediction_files()),
    ]
}

#[test]
fn the_guide_shows_what_is_written() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide/json.md");
    let mut guide = std::fs::read_to_string(&path).expect("the guide");
    for (name, example) in examples() {
        let (open, close) = (format!("<!-- example: {name} -->\n```json\n"), "\n```\n");
        let start = guide.find(&open).unwrap_or_else(|| panic!("the guide has no example of {name}")) + open.len();
        let end = start + guide[start..].find(close).expect("an end of the example");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            guide.replace_range(start..end, &example);
            std::fs::write(&path, &guide).expect("the guide");
        } else {
            assert_eq!(&guide[start..end], example, "{name}: run this test with UPDATE_DOCS=1 and review the change");
        }
    }
}
