//! Reports as people read them: a small one whose predictions are made up, written in every form.

use std::{collections::BTreeMap, sync::Arc};

use ceteris_shared::{
    checkpoint::Environment,
    compare::{DataSets, Outcome},
    dataset::{self, Manifest, Sample, Shard, Split},
    digest::Digest,
    document::{Evidence, EvidenceEpoch, EvidenceRun, Ledger, Metrics, PredictionFile, Timestamp},
    ids::{Epoch, ExperimentId},
    plan::{self, Pins},
    predictions::Predictions,
    report::Builder,
    spec::{Format, parse},
    trainer::{Scored, Spent},
};

use super::*;

const SPEC: &str = r#"
    name = "small <script>alert(1)</script>"
    data.dataset = "made-up"
    model.init = "random"
    budget.epochs = 4
    seeds.count = 3
    endpoint = { metric = "test.auc", threshold = "youden" }
    compare.margin = 0.02
    [[arm]]
    name = "frozen"
    stages = [{ epochs = 4, train = "head" }]
    [[arm]]
    name = "finetuned"
    stages = [{ epochs = 1, train = "head" }, { epochs = 3, train = "denseblock4", lr = 1e-4 }]
"#;

fn manifest() -> Manifest {
    let sample = |(index, split): (u32, Split)| Sample {
        file: format!("{split}/{index:03}.png"),
        split,
        class: index / 20,
        patient: None,
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

/// Multiples of 1/64, so that nothing depends on how a processor rounds.
fn predictions(first: u32, salt: u64, skill: u64) -> Predictions {
    let samples: Vec<u32> = (first..first + 40).collect();
    let probability = |sample: &u32| {
        let noise = (u64::from(*sample) * 37 + salt * 11) % 64;
        let positive = if sample % 40 >= 20 { 63 } else { 1 };
        (((8 - skill) * noise + skill * positive) / 8) as f32 / 64.0
    };
    let probabilities = samples.iter().map(probability).flat_map(|p| [1.0 - p, p]).collect();
    Predictions { samples, probabilities, classes: 2 }
}

/// A report of made-up predictions.
pub(crate) fn small() -> Report {
    let mut spec =
        parse(SPEC.replace("small <script>alert(1)</script>", "small").as_str(), Format::Toml).expect("a valid spec");
    spec.name = "small <script>alert(1)</script>".to_owned();
    let experiment = ExperimentId(uuid::Uuid::from_u128(7));
    let pins = Pins { dataset: Some(Digest::of(&manifest().to_bytes())), ..Pins::default() };
    let mut planned = spec.clone();
    planned.name = "small".to_owned();
    let plan = plan::plan(experiment, &planned, &pins).expect("a valid spec");
    let mut store: BTreeMap<Digest, Vec<u8>> = BTreeMap::new();
    let mut add = |scored: Scored, predictions: Predictions| {
        let bytes = predictions.to_bytes();
        let digest = Digest::of(&bytes);
        store.insert(digest, bytes);
        PredictionFile { scored, digest }
    };
    let mut runs = Vec::new();
    for run in &plan.runs {
        let mut epochs = Vec::new();
        for (epoch, key) in plan.keys(run) {
            let finetuned = u64::from(run.arm == 1 && epoch.0 > 1);
            let (salt, skill) = (run.seed * 5 + u64::from(epoch.0) + finetuned, 1 + u64::from(epoch.0) / 2 + finetuned);
            let mut predicted = vec![add(Scored::Split(Split::Val), predictions(0, salt, skill))];
            if epoch.0 == 4 {
                predicted.push(add(Scored::Split(Split::Test), predictions(40, salt, skill)));
            }
            let spent = Spent { steps: 10, samples: 320, seconds: 1.0 + 2.0 * finetuned as f64 };
            let (environment, frozen, measured) = (0, None, BTreeMap::new());
            epochs.push(EvidenceEpoch { key, environment, frozen, spent, measured, predictions: predicted });
        }
        let arm = plan.arms[run.arm].name.clone();
        runs.push(EvidenceRun { run: run.id, arm, seed: run.seed, outcome: Outcome::Done, epochs });
    }
    let [engine, libtorch, device, instructions, determinism] =
        ["2", "2.9.1", "cpu", "AVX512", "deterministic"].map(str::to_owned);
    let evidence = Evidence {
        experiment,
        submitted_at: Timestamp(1_763_825_400_000),
        spec: planned,
        pins,
        ledger: Ledger::default(),
        environments: vec![Environment { engine, libtorch, device, instructions, threads: 2, determinism }],
        earlier_looks: vec![ExperimentId(uuid::Uuid::from_u128(6))],
        runs,
    };
    let data = DataSets::new(manifest(), BTreeMap::new());
    let mut builder = Builder::new(&evidence, &data, None, false).expect("an endpoint");
    let mut last = BTreeMap::new();
    for epoch in builder.epochs() {
        let mut read = BTreeMap::new();
        for wanted in builder.wanted(epoch).expect("everything was predicted") {
            let files = wanted.files.iter().map(|file| (file.scored.clone(), store[&file.digest].clone()));
            let predicted = data.label(files).expect("predictions of this data set");
            let facts = Arc::new(builder.reader(epoch).read(predicted, &data, &evidence.spec));
            read.extend(wanted.runs.iter().map(|run| (*run, facts.clone())));
        }
        builder.add(epoch, &read);
        last = read;
    }
    let report = builder.finish(&last, "1.0.0").expect("a report");
    Report { name: spec.name, ..report }
}

#[test]
fn markdown_is_the_answer_and_the_tables() {
    insta::assert_snapshot!(Form::Markdown.render(&small()));
}

#[test]
fn a_page_needs_nothing_from_elsewhere_and_runs_nothing() {
    let page = Form::Html.render(&small());
    for foreign in ["http://", "https://", "<script>", "<link", "@import", "url(", "<img", "onload"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert!(page.contains("small &lt;script&gt;alert(1)&lt;/script&gt;"), "names are text");
    for section in
        ["Learning curves", "If the budget had been another", "Scores", "Thresholds", "Calibration", "What was spent"]
    {
        assert!(page.contains(&format!("<h2>{section}</h2>")), "{section}");
    }
    let verdict = page.find("class=\"verdict").expect("a verdict");
    assert!(verdict < page.find("Learning curves").expect("a section"), "the answer is first");
}

#[test]
fn a_page_holds_the_document_and_gives_it_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let report = small();
    for form in [Form::Html, Form::Json] {
        let path = folder.path().join("report");
        std::fs::write(&path, form.render(&report)).expect("a file");
        let written = read(&path).expect("it holds a report");
        let document: Report = serde_json::from_value(written.document).expect("all of it");
        assert_eq!((document, written.at), (report.clone(), Epoch(4)), "{form:?}");
    }
    let path = folder.path().join("other");
    std::fs::write(&path, "<html></html>").expect("a file");
    insta::assert_snapshot!(read(&path).unwrap_err().to_string().replace(&path.display().to_string(), "FILE"));
}

#[test]
fn a_page_that_shows_something_else_is_found_out() {
    let page = Form::Html.render(&small());
    let written = Written::from_text(&page).expect("a page");
    assert_eq!(written.page_is_its_documents("1.0.0"), Some(true));
    assert_eq!(written.page_is_its_documents("1.0.1"), None, "another version's pages look otherwise");
    let edited = page.replacen("is better than", "is worse than", 1);
    assert_eq!(Written::from_text(&edited).expect("a page").page_is_its_documents("1.0.0"), Some(false));
    let json = Written::from_text(&Form::Json.render(&small())).expect("a document");
    assert_eq!(json.page_is_its_documents("1.0.0"), None);
}

#[test]
fn a_report_without_curves_or_contrasts_is_a_page_all_the_same() {
    let mut report = small();
    report.comparison.contrasts.clear();
    for arm in &mut report.arms {
        arm.curves.clear();
        arm.plateau = None;
        // As of three classes, and of a part without positives.
        for shapes in &mut arm.shapes {
            (shapes.roc, shapes.precision_recall) = (None, None);
        }
    }
    assert!(Form::Html.render(&report).contains("<h2>Scores</h2>"));
    report.arms.iter_mut().for_each(|arm| arm.shapes.clear());
    report.tree.clear();
    report.comparison.arms.iter_mut().flat_map(|arm| &mut arm.runs).for_each(|run| run.metrics = Metrics::default());
    assert!(!Form::Html.render(&report).contains("<h2>Thresholds</h2>"));
    Form::Markdown.render(&report);
    Form::Csv.render(&report);
}

#[test]
fn csv_has_a_row_for_each_number() {
    let csv = Form::Csv.render(&small());
    let rows = |what: &str| csv.lines().filter(|line| line.starts_with(&format!("{what},"))).count();
    assert_eq!((rows("difference"), rows("difference of a seed"), rows("sweep")), (1, 3, 4));
    assert!(rows("mean") > 20 && rows("curve") > 20);
}

#[test]
fn what_is_exploratory_says_so_everywhere() {
    let mut report = small();
    report.comparison.exploratory = true;
    let page = Form::Html.render(&report);
    assert!(page.contains("<body class=\"exploratory\">") && page.contains("EXPLORATORY: what is not comparable"));
    let text = Form::Markdown.render(&report);
    let headings = text.lines().filter(|line| line.starts_with("## ") && !line.contains("believed"));
    assert!(headings.clone().count() > 5 && headings.clone().all(|line| line.ends_with("(exploratory)")), "{text}");
    assert!(Form::Csv.render(&report).lines().skip(1).all(|line| line.ends_with(",true")));
}
