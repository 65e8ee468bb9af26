//! Reports of a small experiment whose predictions are made up: two arms with a common beginning, three seeds, forty patients.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde_json::Value;

use super::*;
use crate::{
    checkpoint::Environment,
    compare::{DataSets, Outcome},
    dataset::{self, Manifest, Sample, Shard, Split},
    digest::Digest,
    document::{
        Declared, Document, Evidence, EvidenceEpoch, EvidenceRun, Ledger, PlateauState, PredictionFile, Report,
        Timestamp, Verdict,
    },
    ids::ExperimentId,
    lineage::LineageKey,
    plan::{self, Pins},
    predictions::Predictions,
    spec::{ExperimentSpec, Format, Metric, Score, parse},
    stats::Influence,
    trainer::{Scored, Spent},
};

const EXPERIMENT: ExperimentId = ExperimentId(uuid::Uuid::from_u128(0x3f0c_9a52_7d51_4c0e_9a6e_51f2_6c8d_0b17));

fn spec(more: &str) -> ExperimentSpec {
    let text = format!(
        r#"
        name = "small"
        data = {{ dataset = "made-up", external = ["elsewhere"] }}
        model.init = "random"
        budget.epochs = 6
        seeds.count = 3
        endpoint = {{ metric = "test.auc", threshold = "youden" }}
        {more}
        [[arm]]
        name = "frozen"
        stages = [{{ epochs = 6, train = "head" }}]
        [[arm]]
        name = "finetuned"
        stages = [{{ epochs = 2, train = "head" }}, {{ epochs = 4, train = "denseblock4", lr = 1e-4 }}]
    "#
    );
    parse(&text, Format::Toml).expect("a valid spec")
}

/// Forty samples of val and forty of test, half of them positive, two of each patient of a class.
fn manifest(name: &str) -> Manifest {
    let sample = |(index, split): (u32, Split)| Sample {
        file: format!("{name}/{split}/{index:03}.png"),
        split,
        class: index / 20,
        patient: Some(format!("{name}-{split}-{}", index / 2)),
        source: Digest::of(b"file"),
        pixels: Digest::of(b"pixels"),
    };
    let of = |split: Split| (0..40).map(move |index| (index, split));
    Manifest {
        schema: dataset::SCHEMA.to_owned(),
        transform: dataset::TRANSFORM.to_owned(),
        image_size: 32,
        classes: ["NORMAL", "PNEUMONIA"].map(str::to_owned).to_vec(),
        samples: of(Split::Val).chain(of(Split::Test)).map(sample).collect(),
        shards: vec![Shard { digest: Digest::of(b"shard"), samples: 80 }],
    }
}

fn data() -> DataSets {
    DataSets::new(manifest("made-up"), [("elsewhere".to_owned(), manifest("elsewhere"))].into())
}

/// Files by digest.
type Store = HashMap<Digest, Vec<u8>>;

/// Predictions that separate the classes the better the larger `skill` is.
fn predictions(first: u32, count: u32, skill: f64, salt: u64) -> Predictions {
    let samples: Vec<u32> = (first..first + count).collect();
    let probability = |sample: &u32| {
        let noise = crate::seed::draw(salt, Epoch(0), u64::from(*sample), crate::seed::Purpose::Order).below(1000)
            as f64
            / 1000.0;
        let positive = f64::from(u8::from(sample % 40 >= 20));
        ((1.0 - skill) * noise + skill * positive) as f32
    };
    let probabilities = samples.iter().map(probability).flat_map(|p| [1.0 - p, p]).collect();
    Predictions { samples, probabilities, classes: 2 }
}

fn evidence(spec: &ExperimentSpec) -> (Evidence, Store) {
    let pins = Pins {
        dataset: Some(Digest::of(&manifest("made-up").to_bytes())),
        init: None,
        external: vec![("elsewhere".to_owned(), Digest::of(&manifest("elsewhere").to_bytes()))],
        inherited: Vec::new(),
    };
    let plan = plan::plan(EXPERIMENT, spec, &pins).expect("a valid spec");
    let mut store = Store::new();
    let mut epoch = |run: &plan::PlannedRun, epoch: Epoch, key: LineageKey| {
        let finetuned = run.arm == 1 && epoch.0 > 2;
        let skill = 0.10 + 0.03 * f64::from(epoch.0) + if finetuned { 0.25 } else { 0.0 };
        // What is shared is the same.
        let salt = run.seed * 100 + u64::from(epoch.0) + if finetuned { 50 } else { 0 };
        let mut add = |scored: Scored, predictions: Predictions| {
            let bytes = predictions.to_bytes();
            let digest = Digest::of(&bytes);
            store.insert(digest, bytes);
            PredictionFile { scored, digest }
        };
        let mut files = vec![add(Scored::Split(Split::Val), predictions(0, 40, skill, salt))];
        if epoch.0 == spec.budget.epochs {
            files.push(add(Scored::Split(Split::Test), predictions(40, 40, skill, salt + 7)));
            files.push(add(Scored::External("elsewhere".to_owned()), predictions(0, 80, skill / 2.0, salt + 9)));
        }
        let seconds = if finetuned { 3.0 } else { 1.0 };
        EvidenceEpoch {
            key,
            environment: 0,
            frozen: None,
            spent: Spent { steps: 10, samples: 320, seconds },
            measured: BTreeMap::new(),
            predictions: files,
        }
    };
    let runs = plan.runs.iter().map(|run| EvidenceRun {
        run: run.id,
        arm: plan.arms[run.arm].name.clone(),
        seed: run.seed,
        outcome: Outcome::Done,
        epochs: plan.keys(run).map(|(number, key)| epoch(run, number, key)).collect(),
    });
    let runs = runs.collect();
    let [engine, libtorch, device, instructions, determinism] =
        ["2", "2.9.1", "cpu", "AVX512", "deterministic"].map(str::to_owned);
    let evidence = Evidence {
        experiment: EXPERIMENT,
        submitted_at: Timestamp(1_763_825_400_000),
        spec: spec.clone(),
        pins,
        ledger: Ledger::default(),
        environments: vec![Environment { engine, libtorch, device, instructions, threads: 2, determinism }],
        earlier_looks: Vec::new(),
        runs,
    };
    (evidence, store)
}

fn report(evidence: &Evidence, store: &Store, at: Option<Epoch>) -> Result<Report, Error> {
    of_data(&data(), evidence, store, at)
}

fn of_data(data: &DataSets, evidence: &Evidence, store: &Store, at: Option<Epoch>) -> Result<Report, Error> {
    let mut builder = Builder::new(evidence, data, at, false)?;
    let mut last = BTreeMap::new();
    for epoch in builder.epochs() {
        let mut read = BTreeMap::new();
        for wanted in builder.wanted(epoch)? {
            let files = wanted.files.iter().map(|file| (file.scored.clone(), store[&file.digest].clone()));
            let predicted = data.label(files)?;
            let facts = Arc::new(builder.reader(epoch).read(predicted, data, &evidence.spec));
            read.extend(wanted.runs.iter().map(|run| (*run, facts.clone())));
        }
        builder.add(epoch, &read);
        last = read;
    }
    builder.finish(&last, "1.0")
}

fn values(report: &Report) -> Value {
    serde_json::to_value(report).expect("plain data")
}

#[test]
fn a_report_says_what_its_parts_say() {
    let (evidence, store) = evidence(&spec(""));
    let report = report(&evidence, &store, None).expect("a report");
    let [contrast] = &report.comparison.contrasts[..] else { panic!("one contrast") };
    assert_eq!((contrast.verdict, contrast.difference.pairs.len()), (Verdict::Better, 3));
    insta::assert_snapshot!(
        report.answer.iter().chain(&report.caveats).map(|line| format!("{line}\n")).collect::<String>()
    );

    let [sweep] = &report.sweeps[..] else { panic!("one contrast") };
    let same: Vec<bool> = sweep.points.iter().map(|point| point.same).collect();
    assert_eq!(same, [true, true, false, false, false, false]);
    assert!(sweep.points[..2].iter().all(|point| point.difference == Some(0.0) && point.interval.is_none()));
    for point in &sweep.points[2..] {
        let ([low, high], [lowest, highest]) =
            (point.interval.expect("it varies"), point.simultaneous.expect("it varies"));
        assert!(lowest < low && low < high && high < highest, "all epochs together are less sure than one");
    }
    assert_eq!(sweep.crossing, None, "it was ahead from the first epoch that differs");

    let finetuned = &report.arms[1];
    assert_eq!((finetuned.spent.epochs, finetuned.spent.seconds), (6, 2.0 + 4.0 * 3.0));
    let [drop] = &finetuned.external[..] else { panic!("one external data set") };
    assert!(drop.difference < 0.0 && drop.uncertainty.is_some());
    assert_eq!(drop.uncertainty.expect("it varies").patients, 20 + 40);
    assert_eq!(report.tree.iter().map(|segment| segment.parent).collect::<Vec<_>>(), [None, Some(0), Some(0)]);
    let scored: Vec<&str> = finetuned.shapes.iter().map(|shapes| shapes.scored.as_str()).collect();
    assert_eq!(scored, ["val", "test", "elsewhere"]);
}

#[test]
fn equal_seconds_are_read_at_evaluated_epochs() {
    let (evidence, store) = evidence(&spec(""));
    let report = report(&evidence, &store, None).expect("a report");
    let by = |axis: &str| report.matched.iter().find(|matched| matched.axis == axis).expect("an axis");
    assert_eq!((by("steps").baseline_epochs, by("steps").arm_epochs), ([Epoch(6); 2], [Epoch(6); 2]));
    // The baseline spends 6 s in all; the other arm 1 + 1 + 3 by its third epoch and 8 by its fourth.
    let seconds = by("seconds");
    assert_eq!((seconds.amount, seconds.baseline_epochs, seconds.arm_epochs), (6.0, [Epoch(6); 2], [Epoch(3); 2]));
    let at_equal_epochs = report.sweeps[0].points[5].difference;
    assert_eq!(by("samples").difference, at_equal_epochs);
    assert_ne!(seconds.difference, at_equal_epochs);
}

#[test]
fn an_early_look_is_on_val_and_says_so() {
    let (evidence, store) = evidence(&spec(""));
    let report = report(&evidence, &store, Some(Epoch(4))).expect("a report");
    assert!(report.declared == Declared::PostHoc && report.comparison.truncated);
    // What is spent after the epoch that is read is not there.
    let steps = report.matched.iter().find(|matched| matched.axis == "steps").expect("an axis");
    assert_eq!((steps.amount, steps.baseline_epochs, steps.arm_epochs), (40.0, [Epoch(4); 2], [Epoch(4); 2]));
    assert!(
        report.arms.iter().all(|arm| arm.external.is_empty() && arm.shapes.iter().all(|shapes| shapes.scored == "val"))
    );
    assert_eq!(report.sweeps[0].points.len(), 4);
    insta::assert_snapshot!(report.answer.join("\n"));
}

/// Facts whose primary score on val is `value`, and patients contribute the same whatever it is.
fn facts_of(value: f64, influence: &Influence) -> Facts {
    Facts { value: Some(value), val: Some(influence.clone()), ..Facts::default() }
}

#[test]
fn slopes_tell_what_still_improves() {
    let (evidence, store) = evidence(&spec(""));
    let data = data();
    let files = [(Scored::Split(Split::Val), store[&evidence.runs[0].epochs[0].predictions[0].digest].clone())];
    let metric = |score| Metric { split: Split::Val, score };
    let auc = metric(Score::Auc);
    let influence =
        data.label(files).expect("predictions").influence(&data.patients, evidence.spec.endpoint.threshold, auc);
    let influence = influence.expect("both classes").times(1e-6);
    let plan = plan::plan(EXPERIMENT, &evidence.spec, &evidence.pins).expect("a valid spec");
    let told = Told::up_to(Epoch(6));
    let window = curves::Window::of(&plan.arms[1], &told, 0).expect("four epochs in the last stage");
    let state = |score: Score, step: f64| {
        let of_seed = |seed: u32| {
            let mut slope = curves::Slope::default();
            for epoch in &told.epochs {
                let value = 0.5 + step * f64::from(epoch.0) * (1.0 + 0.01 * f64::from(seed));
                slope.add(&window, *epoch, &facts_of(value, &influence));
            }
            slope
        };
        let slopes: Vec<curves::Slope> = (0..3).map(of_seed).collect();
        let plateau = curves::plateau(metric(score), &window, &slopes.iter().collect::<Vec<_>>(), 0.05);
        let plateau = plateau.expect("all epochs");
        assert_eq!((plateau.first, plateau.last), (Epoch(4), Epoch(6)));
        assert!((plateau.slope - 1.01 * step).abs() < 1e-12);
        plateau.state
    };
    assert_eq!(state(Score::Auc, 0.01), PlateauState::StillImproving);
    assert_eq!(state(Score::Auc, -0.01), PlateauState::Worsening);
    assert_eq!(state(Score::Loss, -0.01), PlateauState::StillImproving);
    assert_eq!(state(Score::Loss, 0.01), PlateauState::Worsening);
    assert_eq!(state(Score::Auc, 0.0), PlateauState::NoChangeSeen);
}

#[test]
fn nothing_is_told_of_what_is_refused() {
    let (mut evidence, store) = evidence(&spec(""));
    let other = Environment { threads: 8, ..evidence.environments[0].clone() };
    evidence.environments.push(other);
    evidence.runs.iter_mut().skip(3).flat_map(|run| &mut run.epochs).for_each(|epoch| epoch.environment = 1);
    let report = report(&evidence, &store, None).expect("a report");
    assert_eq!(report.comparison.refused.len(), 1);
    assert!(report.comparison.contrasts.is_empty() && report.sweeps.is_empty() && report.matched.is_empty());
    assert!(report.ensembles.is_empty() && report.subgroups.is_empty());
    assert!(report.arms.iter().all(|arm| arm.curves.is_empty() && arm.shapes.is_empty() && arm.external.is_empty()));
    insta::assert_snapshot!(
        report.answer.iter().chain(&report.caveats).map(|line| format!("{line}\n")).collect::<String>()
    );
}

#[test]
fn when_the_endpoint_was_declared_is_told() {
    let (mut evidence, store) = evidence(&spec(""));
    let declared = |evidence: &Evidence| report(evidence, &store, None).expect("a report").declared;
    assert_eq!(declared(&evidence), Declared::BeforeTraining);
    evidence.earlier_looks.push(ExperimentId(uuid::Uuid::nil()));
    assert_eq!(declared(&evidence), Declared::AfterSomeTraining);
    evidence.earlier_looks.clear();
    evidence.ledger.reused.epochs = 2;
    assert_eq!(declared(&evidence), Declared::AfterSomeTraining);
    let text = report(&evidence, &store, None).expect("a report").answer.join(" ");
    assert!(text.contains("when 2 of the epochs had been trained by earlier experiments"), "{text}");
}

#[test]
fn a_patient_or_an_image_in_two_parts_is_told() {
    let (evidence, store) = evidence(&spec(""));
    let clean = report(&evidence, &store, None).expect("a report");
    // All made-up images have the same pixels.
    assert_eq!((clean.data[0].patients_in_two_parts, clean.data[0].pixels_in_two_parts), (0, 80));
    let mut data = data();
    data.own.samples[0].patient = data.own.samples[40].patient.clone();
    data.own
        .samples
        .iter_mut()
        .enumerate()
        .for_each(|(index, sample)| sample.pixels = Digest::of(&index.to_le_bytes()));
    let leaking = of_data(&data, &evidence, &store, None).expect("a report");
    assert_eq!((leaking.data[0].patients_in_two_parts, leaking.data[0].pixels_in_two_parts), (1, 0));
    assert!(leaking.caveats.iter().any(|caveat| caveat.starts_with("1 of the patients of made-up")));
}

#[test]
fn subgroups_are_contrasts_within_a_value() {
    let (evidence, store) = evidence(&spec(""));
    let mut data = data();
    // By sample: half of each class is F; of the positives half are bacteria and half virus; too few are old.
    let each = |of: fn(usize) -> Option<&'static str>| {
        (0..80).map(|index| of(index % 40).map(str::to_owned)).collect::<Vec<_>>()
    };
    data.attributes.own = [
        ("sex".to_owned(), each(|place| Some(if place % 2 == 0 { "F" } else { "M" }))),
        ("kind".to_owned(), each(|place| (place >= 20).then_some(if place < 30 { "bacteria" } else { "virus" }))),
        ("age".to_owned(), each(|place| (place < 5).then_some("old"))),
    ]
    .into();
    let report = of_data(&data, &evidence, &store, None).expect("a report");
    let told: Vec<_> = report
        .subgroups
        .iter()
        .map(|group| (group.attribute.as_str(), group.value.as_str(), group.widened, group.samples, group.patients))
        .collect();
    let expected = [
        ("kind", "bacteria", true, 30, 15),
        ("kind", "virus", true, 30, 15),
        ("sex", "F", false, 20, 20),
        ("sex", "M", false, 20, 20),
    ];
    assert_eq!(told, expected);
    // The two kinds share out the positives, so that the whole area lies between theirs, and is their mean here.
    let of = |value: &str| report.subgroups.iter().find(|group| group.value == value).expect("a group");
    let whole = report.comparison.contrasts[0].difference.mean_difference;
    assert!((f64::midpoint(of("bacteria").difference, of("virus").difference) - whole).abs() < 1e-12);
    for group in &report.subgroups {
        let [low, high] = group.uncertainty.expect("it varies").interval;
        assert!(
            low <= group.difference
                && group.difference <= high
                && group.of_arm - group.of_baseline - group.difference < 1e-12
        );
    }
    assert_eq!(report.attributes, Some(data.attributes.digest()));
    assert!(super::tests::report(&evidence, &store, None).expect("a report").subgroups.is_empty());
}

#[test]
fn ensembles_are_charged_the_sum_of_their_members() {
    let (evidence, store) = evidence(&spec(""));
    let report = report(&evidence, &store, None).expect("a report");
    let told: Vec<_> =
        report.ensembles.iter().map(|each| (each.name.as_str(), each.combination, each.members, each.epochs)).collect();
    insta::assert_debug_snapshot!(told);
    let auc = |ensemble: &crate::document::Ensemble| {
        ensemble.metrics.test.as_ref().and_then(|scores| scores.auc).expect("two classes")
    };
    let best = report.comparison.arms[1].runs.iter().map(|run| run.metrics.test.as_ref().and_then(|scores| scores.auc));
    let finetuned = &report.ensembles[2];
    assert!(auc(finetuned) >= best.flatten().fold(1.0, f64::min), "no worse than its worst member");
    let [low, high] = finetuned.interval.unwrap_or([auc(finetuned); 2]);
    assert!(low <= auc(finetuned) && auc(finetuned) <= high);
}

#[test]
fn the_same_evidence_gives_the_same_report() {
    let (evidence, store) = evidence(&spec(""));
    let one = report(&evidence, &store, None).expect("a report");
    assert_eq!(Report::from_json(&one.to_json()), Ok(one.clone()), "every number is read as it was written");
    assert_eq!(report(&evidence, &store, None).expect("a report"), one);
}

/// The paths of the numbers that differ from those of the evidence as it was.
fn changed(change: impl FnOnce(&mut Evidence, &mut Store)) -> Vec<String> {
    let (mut evidence, mut store) = evidence(&spec(""));
    let before = values(&report(&evidence, &store, None).expect("a report"));
    change(&mut evidence, &mut store);
    let after = values(&report(&evidence, &store, None).expect("a report"));
    differences(&before, &after, &["evidence"]).found.into_iter().map(|found| found.path).collect()
}

#[test]
fn a_changed_prediction_changes_a_number() {
    let changed = changed(|evidence, store| {
        let file =
            evidence.runs[4].epochs[5].predictions.iter_mut().find(|file| file.scored == Scored::Split(Split::Test));
        let file = file.expect("test is predicted at the endpoint");
        let mut predictions = Predictions::from_bytes(&store[&file.digest]).expect("a file");
        // One patient of forty is called otherwise.
        predictions.probabilities.swap(2 * 25, 2 * 25 + 1);
        let bytes = predictions.to_bytes();
        file.digest = Digest::of(&bytes);
        store.insert(file.digest, bytes);
    });
    assert!(changed.iter().any(|path| path.starts_with("comparison.arms[1].runs[1].metrics.test.loss")), "{changed:?}");
    assert!(changed.iter().any(|path| path.starts_with("comparison.contrasts[0].mean_difference")), "{changed:?}");
}

#[test]
fn swapped_predictions_of_two_runs_change_numbers() {
    let changed = changed(|evidence, _| {
        let of = |evidence: &Evidence, run: usize| evidence.runs[run].epochs[5].predictions.clone();
        let (one, other) = (of(evidence, 0), of(evidence, 3));
        (evidence.runs[0].epochs[5].predictions, evidence.runs[3].epochs[5].predictions) = (other, one);
    });
    assert!(changed.iter().any(|path| path.starts_with("comparison.arms[0].runs[0].metrics")), "{changed:?}");
    assert!(changed.iter().any(|path| path.starts_with("comparison.arms[1].runs[0].metrics")), "{changed:?}");
}

#[test]
fn swapped_runs_have_another_lineage_than_the_spec_says() {
    let (mut evidence, store) = evidence(&spec(""));
    let (one, other) = (evidence.runs[0].epochs.clone(), evidence.runs[1].epochs.clone());
    (evidence.runs[0].epochs, evidence.runs[1].epochs) = (other, one);
    let refused = report(&evidence, &store, None).expect_err("seeds are swapped");
    assert!(matches!(refused, Error::Lineage { seed: 0, epoch: Epoch(1), .. }), "{refused}");
    let (mut evidence, store) = self::evidence(&spec(""));
    evidence.runs.swap(0, 1);
    assert!(matches!(report(&evidence, &store, None), Err(Error::Runs(_))));
    // A spec that says something else than what was trained.
    let (mut evidence, store) = self::evidence(&spec(""));
    evidence.spec.controls.batch_size = 64;
    assert!(matches!(report(&evidence, &store, None), Err(Error::Lineage { epoch: Epoch(1), .. })));
}

#[test]
fn long_budgets_are_told_in_sixty_epochs() {
    let told = Told::up_to(Epoch(1000)).epochs;
    assert_eq!((told.len(), told[0], told[59]), (60, Epoch(16), Epoch(1000)));
    assert_eq!(Told::up_to(Epoch(3)).epochs, [Epoch(1), Epoch(2), Epoch(3)]);
}

#[test]
fn fields_say_what_is_treatment_and_what_is_held_equal() {
    let (evidence, store) = evidence(&spec(""));
    let report = report(&evidence, &store, None).expect("a report");
    let of = |wanted: crate::document::FieldClass| {
        report.fields.iter().filter(|field| field.class == wanted).map(|field| field.field.as_str()).collect::<Vec<_>>()
    };
    insta::assert_debug_snapshot!((
        of(crate::document::FieldClass::Treatment),
        of(crate::document::FieldClass::Controlled),
        of(crate::document::FieldClass::Incidental)
    ));
}
