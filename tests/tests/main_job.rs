//! The main job, end to end: import, train two arms for the same number of epochs, compare, take a checkpoint away.

use std::{collections::BTreeMap, env, path::Path, process::Command};

use ceteris_shared::{
    dataset::Split,
    document::{Comparison, Document, Reason, Run, State},
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
