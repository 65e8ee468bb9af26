//! The main job, end to end: import, train two arms for the same number of epochs, compare, take a checkpoint away.

use std::{collections::BTreeMap, env, fs, path::Path, process::Command};

use ceteris_shared::{
    dataset::Split,
    document::{Comparison, Document, Models, Reason, Run, State},
    ids::Epoch,
};
use ceteris_tests::{Cluster, Images, Place, Spec, run, skip};

/// Every epoch has each metric of val once, and the numbers are finite by the document's own rule.
#[track_caller]
fn assert_complete_series(run: &Run) {
    let mut points: BTreeMap<(Epoch, Split, &str), u32> = BTreeMap::new();
    for point in &run.series {
        *points.entry((point.epoch, point.split, &point.name)).or_default() += 1;
    }
    assert!(points.values().all(|count| *count == 1), "repeated: {points:?}");
    for epoch in (1..=run.epochs).map(Epoch) {
        for name in ["loss", "accuracy", "auc"] {
            assert!(
                points.contains_key(&(epoch, Split::Val, name)),
                "val {name} of epoch {epoch} is not in {points:?}"
            );
        }
    }
}

fn compare(cluster: &Cluster, experiment: &str) -> Comparison {
    cluster.document(&["compare", experiment])
}

#[test]
fn two_arms_train_for_the_same_epochs_and_are_compared() {
    let cluster = Cluster::with_data(&Place::Folder, Images::TINY);
    let spec = Spec::frozen_and_finetuned();
    cluster.train(&spec);

    let experiment = cluster.experiment(spec.name);
    assert_eq!(experiment.state, State::Done);
    // Two seeds share the first two epochs between the arms: 2 × (3 + 1) of 2 × 2 × 3.
    assert_eq!((experiment.epochs_asked, experiment.epochs_to_train, experiment.epochs_done), (12, 8, 8));
    for run in experiment.arms.iter().flat_map(|arm| &arm.runs) {
        assert_eq!((run.state, run.epoch, run.spent.epochs), (State::Done, Epoch(3), 3));
        assert_complete_series(run);
    }

    let output = cluster.ceteris(&["compare", spec.name, "-o", "json"]).ok();
    let document = output.json();
    assert_eq!(document["schema"], "ceteris.compare/1");
    for run in document["arms"].as_array().expect("arms").iter().flat_map(|arm| arm["runs"].as_array().expect("runs")) {
        assert_eq!(run["epochs_trained"], 3);
        for split in ["val", "test"] {
            for score in ["auc", "accuracy", "loss"] {
                assert!(run["metrics"][split][score].is_f64(), "{split}.{score} in {run}");
            }
        }
    }
    let comparison = Comparison::from_json(&output.stdout).expect("it is a comparison");
    assert_eq!(
        comparison.arms.iter().map(|arm| (&*arm.name, arm.runs.len())).collect::<Vec<_>>(),
        [("frozen", 2), ("finetuned", 2)]
    );
    assert_eq!((comparison.contrasts.len(), comparison.refused.len()), (1, 0));

    // A look at epoch 1 is one at unfinished training: val only, and both arms are the same up to there.
    let early: Comparison = cluster.document(&["compare", spec.name, "--at", "1"]);
    assert!(early.truncated);
    let scores = |arm: usize| early.arms[arm].runs.iter().map(|run| run.metrics.val.clone()).collect::<Vec<_>>();
    assert_eq!(scores(0), scores(1));
    assert!(early.arms.iter().flat_map(|arm| &arm.runs).all(|run| run.metrics.test.is_none()));

    let table = cluster.ceteris(&["compare", spec.name]).ok().stdout;
    assert!(["frozen", "finetuned", "auc"].iter().all(|word| table.to_lowercase().contains(word)), "{table}");
}

#[test]
fn exported_predictions_give_the_same_numbers() {
    let cluster = Cluster::with_data(&Place::Folder, Images::TINY);
    let spec = Spec::frozen_and_finetuned();
    // The endpoint's metric is on test, and the threshold is what `--predictions` takes.
    let text = spec.text().replace("[endpoint]\n", "[endpoint]\nmetric = \"test.auc\"\nthreshold = 0.5\n");
    cluster.ceteris(&["submit", &cluster.write("spec.toml", &text), "--follow"]).ok();
    let path = |name: &str| cluster.folder().join(name).to_string_lossy().into_owned();
    let files = ["frozen", "finetuned"].map(|arm| {
        let file = path(&format!("{arm}.csv"));
        cluster.ceteris(&["export", spec.name, &file, "--arm", arm, "--on", "test"]).ok();
        file
    });
    let elsewhere: Models = cluster.document(&["compare", "--predictions", &files[0], &files[1], "--draws", "0"]);
    let here = compare(&cluster, spec.name);
    assert_eq!((elsewhere.samples, elsewhere.positive_class), (20, "PNEUMONIA".to_owned()));
    for (arm, model) in here.arms.iter().zip(&elsewhere.models) {
        let of_test = arm.runs.iter().map(|run| run.metrics.test.clone().expect("it is the endpoint"));
        for (ours, theirs) in of_test.zip(&model.seeds) {
            assert_eq!(
                (ours.auc, ours.brier, ours.confusion),
                (theirs.scores.auc, theirs.scores.brier, theirs.scores.confusion.clone())
            );
        }
    }
    let (ours, theirs) = (&here.contrasts[0].difference, &elsewhere.contrasts[0].differences["auc"].difference);
    assert_eq!((&ours.pairs, &ours.uncertainty, ours.p), (&theirs.pairs, &theirs.uncertainty, theirs.p));

    // Everything in one file: four runs, on val and test.
    let all = path("all.parquet");
    let noted = cluster.ceteris(&["export", spec.name, &all]).ok().stderr;
    assert!(noted.contains("160 rows"), "{noted}");
    let bytes = fs::read(&all).expect("it is written");
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    let early = path("early.csv");
    cluster.ceteris(&["export", spec.name, &early, "--at", "1"]).ok();
    let early = fs::read_to_string(early).expect("it is written");
    assert!(early.lines().count() == 1 + 80 && !early.contains(",test,"), "test is told of at the endpoint only");
    for (arguments, words) in [
        (["export", spec.name, &all], vec!["exists", "--force"]),
        (["export", spec.name, "x"], vec!["--to csv"]),
        (["export", "nothing", "x.csv"], vec!["nothing"]),
    ] {
        cluster.ceteris(&arguments).refused(2, &words);
    }
    cluster.ceteris(&["export", spec.name, "x.csv", "--arm", "none"]).refused(2, &["frozen, finetuned"]);
    cluster.ceteris(&["export", spec.name, "x.csv", "--on", "nih"]).refused(2, &["nih"]);
    cluster.ceteris(&["export", spec.name, "x.csv", "--at", "4"]).refused(2, &["from 1 to 3"]);
}

#[test]
fn what_is_not_trained_is_not_compared() {
    let cluster = Cluster::start(&Place::Folder);
    cluster.import(Images::TINY);
    let spec = Spec::frozen_and_finetuned();
    cluster.submit(&spec);

    let output = cluster.ceteris(&["compare", spec.name, "-o", "json"]);
    assert_eq!(output.code, 3, "{}", output.stderr);
    let comparison = Comparison::from_json(&output.stdout).expect("the refusal is a document too");
    let refusal = &comparison.refused[0];
    assert_eq!(refusal.reason, Reason::Unfinished);
    assert!(refusal.arms.contains(&"frozen".to_owned()) && refusal.message.contains("frozen"), "{refusal:?}");

    cluster.ceteris(&["cancel", spec.name]).ok();
    assert_eq!(cluster.experiment(spec.name).state, State::Cancelled);
    cluster.ceteris(&["compare", spec.name]).refused(3, &["frozen", "finetuned"]);
}

#[test]
fn an_s3_store_gives_the_same_comparison_as_a_folder() {
    let Ok(bucket) = env::var("CETERIS_TEST_S3_URL") else {
        return skip("an_s3_store_gives_the_same_comparison_as_a_folder", "CETERIS_TEST_S3_URL");
    };
    let place = Place::S3(format!("{}/main-job-{}", bucket.trim_end_matches('/'), std::process::id()));
    let spec = Spec::frozen_and_finetuned();
    let comparisons = [Place::Folder, place].map(|place| {
        let cluster = Cluster::with_data(&place, Images::TINY);
        cluster.train(&spec);
        compare(&cluster, spec.name)
    });
    let scores = comparisons.map(|comparison| {
        let runs =
            comparison.arms.into_iter().flat_map(|arm| arm.runs.into_iter().map(move |run| (arm.name.clone(), run)));
        runs.map(|(arm, run)| (arm, run.seed, run.epochs_trained, run.metrics)).collect::<Vec<_>>()
    });
    assert_eq!(scores[0].len(), 4);
    assert_eq!(scores[0], scores[1]);
}

#[test]
fn a_checkpoint_gives_the_same_probabilities_in_torchvision() {
    let python = env::var("CETERIS_REFERENCE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let imports = Command::new(&python).args(["-c", "import safetensors.torch, torchvision"]).output();
    if !imports.is_ok_and(|output| output.status.success()) {
        return skip(
            "a_checkpoint_gives_the_same_probabilities_in_torchvision",
            "a Python with torch, torchvision and safetensors (CETERIS_REFERENCE_PYTHON)",
        );
    }
    let cluster = Cluster::with_data(&Place::Folder, Images::TINY);
    let spec = Spec {
        name: "one",
        seeds: 1,
        arms: vec![Spec::frozen_and_finetuned().arms[1]],
        ..Spec::frozen_and_finetuned()
    };
    cluster.train(&spec);
    let run_id = cluster.only_run(spec.name).run.to_string();
    let file = cluster.folder().join("checkpoint.safetensors").to_string_lossy().into_owned();
    cluster.ceteris(&["checkpoint", "get", &run_id, "--to", &file]).ok();

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference.py");
    let output = run(Command::new(python).arg(script).args([&file, cluster.store()])).ok();
    // 20 samples of test, predicted after the last epoch only.
    assert_eq!(output.stdout.trim(), "20 predictions agree");
}
