//! Nothing is trained twice, and nobody can tell from the results: real training, shared and not, again and longer.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use ceteris_shared::{
    checkpoint::{Part, Role},
    dataset::Split,
    digest::Digest,
    document::{
        Checkpoint, Checkpoints, Comparison, Document, Experiment, Garbage, Metrics, Run, State, Storage, Verification,
    },
    ids::Epoch,
    lineage::LineageKey,
    predictions::Predictions,
};
use ceteris_tests::{Cluster, Images, Place, Spec};

/// What must not depend on who trained an epoch: key and files of each checkpoint, measured values, scores.
#[derive(Debug, PartialEq)]
struct Trace {
    checkpoints: Vec<(Epoch, LineageKey, Vec<Part>)>,
    values: BTreeMap<(Epoch, Split, String), f64>,
    scores: Metrics,
}

/// Of each run, by arm and seed.
fn traces(cluster: &Cluster, experiment: &str) -> BTreeMap<(String, u64), Trace> {
    let comparison: Comparison = cluster.document(&["compare", experiment]);
    let scores: BTreeMap<(String, u64), Metrics> = comparison
        .arms
        .into_iter()
        .flat_map(|arm| arm.runs.into_iter().map(move |run| ((arm.name.clone(), run.seed), run.metrics)))
        .collect();
    let runs = cluster.experiment(experiment).arms.into_iter().flat_map(|arm| arm.runs);
    runs.map(|run| {
        let saved: Checkpoints = cluster.document(&["checkpoint", "ls", &run.run.to_string()]);
        let values = run.series.into_iter().map(|point| ((point.epoch, point.split, point.name), point.value));
        let name = (run.arm, run.seed);
        let trace = Trace {
            checkpoints: saved.epochs.into_iter().map(|saved| (saved.epoch, saved.key, saved.parts)).collect(),
            values: values.collect(),
            scores: scores[&name].clone(),
        };
        (name, trace)
    })
    .collect()
}

fn attempts(experiment: &Experiment) -> u32 {
    experiment.segments.iter().map(|segment| segment.attempts).sum()
}

#[test]
fn shared_repeated_and_extended_training_is_that_of_runs_on_their_own() {
    let cluster = Cluster::with_data(&Place::Folder, Images::TINY);
    let spec = Spec::frozen_and_finetuned();
    cluster.train(&spec);
    let shared = traces(&cluster, spec.name);
    assert_eq!(shared.len(), 4);

    // Again: nothing is trained.
    let file = cluster.write("again.toml", &spec.text().replace(spec.name, "again"));
    let plan = cluster.ceteris(&["plan", &file, "-o", "json"]).ok().json();
    assert_eq!((&plan["epochs_in_store"], &plan["epochs_to_train"]), (&8.into(), &0.into()));
    let noted = cluster.ceteris(&["submit", &file, "--follow"]).ok().stderr;
    assert!(noted.contains("8 of 8 epochs are trained already"), "{noted}");
    let again = cluster.experiment("again");
    assert_eq!((again.state, again.epochs_done, again.epochs_reused, attempts(&again)), (State::Done, 8, 8, 0));
    assert_eq!(traces(&cluster, "again"), shared);

    // Each run on its own, sharing nothing.
    let alone = format!("{}\n[execution]\nshare = false\n", spec.text().replace(spec.name, "alone"));
    cluster.ceteris(&["submit", &cluster.write("alone.toml", &alone), "--follow"]).ok();
    let experiment = cluster.experiment("alone");
    assert_eq!((experiment.epochs_to_train, experiment.epochs_done, experiment.epochs_reused), (12, 12, 0));
    assert_eq!(traces(&cluster, "alone"), shared);

    // Longer: two epochs more of each run, and the same as if it had been as long from the beginning.
    cluster.ceteris(&["extend", spec.name, "--epochs", "5", "--name", "longer", "--follow"]).ok();
    let longer = cluster.experiment("longer");
    assert_eq!((longer.budget, longer.extends), (5, Some(cluster.experiment(spec.name).id)));
    assert_eq!((longer.epochs_to_train, longer.epochs_done, longer.epochs_reused), (16, 16, 8));
    let fresh = Spec {
        name: "fresh",
        epochs: 5,
        arms: vec![
            ("frozen", r#"{ epochs = 5, train = "head" }"#),
            ("finetuned", r#"{ epochs = 2, train = "head" }, { epochs = 3, train = "denseblock4", lr = 1e-4 }"#),
        ],
        ..spec
    };
    let fresh = format!("{}\n[execution]\nshare = false\n", fresh.text());
    cluster.ceteris(&["submit", &cluster.write("fresh.toml", &fresh), "--follow"]).ok();
    assert_eq!(cluster.experiment("fresh").epochs_reused, 0);
    assert_eq!(traces(&cluster, "longer"), traces(&cluster, "fresh"));
}

#[test]
fn a_fork_is_what_the_run_would_have_been() {
    let cluster = Cluster::with_data(&Place::Folder, Images::TINY);
    let spec = Spec::frozen_and_finetuned();
    cluster.train(&spec);
    let run = cluster.experiment(spec.name).arms[0].runs[1].run.to_string();
    let both = "{ epochs = 2, train = \"head\" }, { epochs = 2, train = \"denseblock4\", lr = 2e-4 }";
    let (_, later) = both.split_once("}, ").expect("two stages");
    let seeds = |text: &str, seeds: &str| text.replace("count = 2", &format!("values = {seeds}"));
    let fork = Spec { name: "fork", epochs: 4, arms: vec![("deeper", later)], ..spec.clone() };
    let from = |epoch: u32| fork.text().replace("\"random\"", &format!("\"run:{}@{epoch}\"", &run[..8]));
    let file = cluster.write("fork.toml", &seeds(&from(2), "[1, 5]"));
    let plan = cluster.ceteris(&["plan", &file, "-o", "json"]).ok().json();
    assert_eq!((&plan["epochs_asked"], &plan["epochs_to_train"]), (&8.into(), &4.into()));
    cluster.ceteris(&["submit", &file, "--follow"]).ok();
    let forked = cluster.experiment("fork");
    assert_eq!((forked.init.name, forked.epochs_reused, forked.epochs_done), (format!("run:{run}@2"), 2, 6));
    assert!(
        forked.arms[0].runs.iter().all(|run| (run.epochs, run.spent.epochs) == (4, 4)),
        "what is inherited is charged"
    );

    // With the run's seed it is the run of both stages, bit for bit; with another it goes its own way.
    let whole = Spec { name: "whole", epochs: 4, arms: vec![("deeper", both)], ..spec.clone() }.text();
    let whole = format!("{}\n[execution]\nshare = false\n", seeds(&whole, "[1]"));
    cluster.ceteris(&["submit", &cluster.write("whole.toml", &whole), "--follow"]).ok();
    let (traced, whole) = (traces(&cluster, "fork"), traces(&cluster, "whole"));
    let of = |seed: u64| &traced[&("deeper".to_owned(), seed)];
    assert_eq!(of(1), &whole[&("deeper".to_owned(), 1)]);
    assert_eq!(of(1).checkpoints[..2], of(5).checkpoints[..2]);
    assert!(of(1).checkpoints[2..].iter().zip(&of(5).checkpoints[2..]).all(|(one, other)| one.2 != other.2));

    // It is extended, verified from the beginning on, and forked like any other.
    cluster.ceteris(&["extend", "fork", "--epochs", "5", "--name", "longer", "--follow"]).ok();
    let longer = cluster.experiment("longer");
    assert_eq!((longer.epochs_done - longer.epochs_reused, longer.state), (2, State::Done));
    let other = forked.arms[0].runs[1].run.to_string();
    let verified = cluster.document::<Verification>(&["verify", "run", &other]);
    assert_eq!((verified.equal, verified.epochs.len()), (Some(true), 4));
    let again = from(2).replace(&run[..8], &other).replace("@2", "@3").replace("name = \"fork\"", "name = \"again\"");
    let again = seeds(&again.replace("{ epochs = 2", "{ epochs = 1"), "[5]");
    cluster.ceteris(&["submit", &cluster.write("again.toml", &again), "--follow"]).ok();
    assert_eq!(cluster.experiment("again").epochs_reused, 3);

    for (text, words) in [
        (from(2).replace(&run[..8], "00000000"), vec!["00000000"]),
        (from(2).replace("@2", "@two"), vec!["run:RUN@EPOCH"]),
        (from(3), vec!["3 inherited + 2", "budget.epochs"]),
        (from(4).replace("epochs = 4", "epochs = 6"), vec!["has 3 epochs", "no epoch 4"]),
        (from(2).replace("densenet121", "resnet50").replace("denseblock4", "layer4"), vec!["densenet121", "resnet50"]),
    ] {
        let path = cluster.write("refused.toml", &text);
        cluster.ceteris(&["submit", &path]).refused(2, &words);
        cluster.ceteris(&["plan", &path]).refused(2, &words);
    }
    cluster.ceteris(&["plan", &file, "--offline"]).refused(2, &["model.init", "coordinator"]);
}

/// The file of an object in the store's folder.
fn object(cluster: &Cluster, digest: &Digest) -> PathBuf {
    let name = digest.to_string();
    Path::new(cluster.store()).join("blobs/sha256").join(&name[..2]).join(name)
}

/// All predictions in the store's folder.
fn predictions(cluster: &Cluster) -> Vec<Digest> {
    let folders = fs::read_dir(Path::new(cluster.store()).join("blobs/sha256")).expect("the store's folder");
    let files = folders.flat_map(|folder| fs::read_dir(folder.expect("it is listed").path()).expect("a folder"));
    let read = files.map(|file| fs::read(file.expect("it is listed").path()).expect("it is stored"));
    read.filter(|bytes| Predictions::from_bytes(bytes).is_ok()).map(|bytes| Digest::of(&bytes)).collect()
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("it is stored");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(path, bytes).expect("it is damaged");
}

#[test]
fn damaged_checkpoints_are_trained_again_and_come_out_as_they_were() {
    let cluster = Cluster::with_data(&Place::Folder, Images::TINY);
    let spec = Spec::frozen_and_finetuned();
    cluster.train(&spec);
    let before = traces(&cluster, spec.name);
    let runs: Vec<Run> = cluster.experiment(spec.name).arms.into_iter().flat_map(|arm| arm.runs).collect();
    let saved = |run: &Run| cluster.document::<Checkpoints>(&["checkpoint", "ls", &run.run.to_string()]).epochs;
    let part = |checkpoint: &Checkpoint, role: Role| {
        checkpoint.parts.iter().find(|part| part.role == role).expect("there is one of each").digest
    };
    // The worker's own copies would do, as far as they go.
    for file in fs::read_dir(cluster.worker_state(0).join("cache")).expect("it lists") {
        fs::remove_file(file.expect("it is listed").path()).expect("it is removed");
    }
    // Of the first run a bit of the last weights; of another the last manifest is gone; of a third the optimizer is cut,
    // and so it is where its arm left the shared beginning, so that this is trained again too.
    let checkpoints: Vec<Vec<Checkpoint>> = runs.iter().map(saved).collect();
    flip(&object(&cluster, &part(&checkpoints[0][2], Role::Trained)));
    fs::remove_file(object(&cluster, &checkpoints[1][2].manifest)).expect("it is stored");
    for checkpoint in &checkpoints[2][1..] {
        let optimizer = object(&cluster, &part(checkpoint, Role::Optimizer));
        let bytes = fs::read(&optimizer).expect("it is stored");
        fs::write(&optimizer, &bytes[..bytes.len() / 2]).expect("it is cut");
    }

    cluster.ceteris(&["extend", spec.name, "--epochs", "4", "--name", "longer", "--follow"]).ok();
    let longer = cluster.experiment("longer");
    assert_eq!((longer.state, longer.epochs_reused, longer.epochs_done), (State::Done, 8, 12));
    assert!(attempts(&longer) >= 4 + 3, "{} attempts", attempts(&longer));
    assert_eq!(longer.ledger.replayed.epochs, 4, "{:?}", longer.ledger);
    assert_eq!(traces(&cluster, spec.name), before, "what was trained again is what it was, bit for bit");
    for run in &runs {
        let to = cluster.folder().join(format!("{}.safetensors", run.run));
        let (id, to) = (run.run.to_string(), to.to_string_lossy().into_owned());
        cluster.ceteris(&["checkpoint", "get", &id, "--epoch", "3", "--to", &to]).ok();
    }
    let fresh = Spec {
        name: "fresh",
        epochs: 4,
        arms: vec![
            ("frozen", r#"{ epochs = 4, train = "head" }"#),
            ("finetuned", r#"{ epochs = 2, train = "head" }, { epochs = 2, train = "denseblock4", lr = 1e-4 }"#),
        ],
        ..spec
    };
    let fresh = format!("{}\n[execution]\nshare = false\n", fresh.text());
    cluster.ceteris(&["submit", &cluster.write("fresh.toml", &fresh), "--follow"]).ok();
    assert_eq!(traces(&cluster, "longer"), traces(&cluster, "fresh"));
}

#[test]
fn a_run_is_verified_and_what_was_lost_of_it_is_there_again() {
    let cluster = Cluster::with_data(&Place::Folder, Images::TINY);
    let spec = Spec::frozen_and_finetuned();
    cluster.train(&spec);
    let before = traces(&cluster, spec.name);
    let experiment = cluster.experiment(spec.name);
    let run = experiment.arms[1].runs[0].run;
    let id = run.to_string();
    // Predictions that are lost: nothing reads them to go on, so only training again brings them back.
    let lost = predictions(&cluster).into_iter().find(|digest| {
        let (path, aside) = (object(&cluster, digest), cluster.folder().join("aside"));
        fs::rename(&path, &aside).expect("they are stored");
        let needed = cluster.ceteris(&["compare", spec.name]).stderr.contains(&digest.to_string());
        fs::rename(&aside, &path).expect("they are put back");
        needed
    });
    let lost = lost.expect("some are of an endpoint");
    fs::remove_file(object(&cluster, &lost)).expect("they are stored");
    cluster.ceteris(&["compare", spec.name]).refused(2, &[&lost.to_string()]);

    for run in experiment.arms.iter().flat_map(|arm| &arm.runs) {
        let verified = cluster.document::<Verification>(&["verify", "run", &run.run.to_string()]);
        assert_eq!((verified.equal, verified.first_difference.as_deref()), (Some(true), None));
        assert_eq!(verified.epochs.iter().map(|epoch| epoch.epoch.0).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(verified.epochs.iter().all(|epoch| epoch.equal && epoch.recorded.is_some()));
    }
    let later = cluster.document::<Verification>(&["verify", "run", &id[..8], "--from", "2"]);
    assert_eq!((later.equal, later.epochs.len()), (Some(true), 1));
    assert_eq!(traces(&cluster, spec.name), before);
    let by = later.by.to_string();
    assert_eq!(cluster.document::<Verification>(&["verify", "show", &by]), later);
    cluster.ceteris(&["verify", "run", &id, "--from", "3"]).refused(2, &["nothing", "before 3"]);
    cluster.ceteris(&["verify", "show", spec.name]).refused(2, &["verifies nothing"]);
    cluster.ceteris(&["extend", &by, "--epochs", "5"]).refused(2, &["verification of a run"]);
    cluster.ceteris(&["compare", &by]).refused(2, &["verification of a run"]);
}

/// What the store is said to hold, whatever is wrong with it.
fn check_only(cluster: &Cluster) -> Storage {
    Storage::from_json(&cluster.ceteris(&["storage", "check", "-o", "json"]).stdout).expect("a document")
}

#[test]
fn what_is_given_up_makes_room_and_is_trained_again_when_it_is_needed() {
    let cluster = Cluster::with_data(&Place::Folder, Images::TINY);
    let spec = Spec::frozen_and_finetuned();
    let keep = |text: String| format!("{text}\n[keep]\nbest = 0\nlast = 1\nbranch_points = \"none\"\n");
    cluster.ceteris(&["submit", &cluster.write("kept.toml", &keep(spec.text())), "--follow"]).ok();
    let before = traces(&cluster, spec.name);
    let garbage =
        |arguments: &[&str]| cluster.document::<Garbage>(&[&["gc", "--older-than", "0s"], arguments].concat());
    let check = || cluster.document::<Storage>(&["storage", "check", "--read"]);
    assert_eq!((check().unusable_in_all, check().unnamed.objects), (0, 0));

    // Of 2 seeds × (2 shared epochs + 2 ends), the last of each run stays. Saying so changes nothing.
    let would = garbage(&["--dry-run"]);
    assert_eq!((would.checkpoints_given_up, would.checkpoints_kept), (4, 4));
    assert!(would.deleted.objects > 0);
    assert_eq!(garbage(&["--dry-run"]), would);
    let did = garbage(&[]);
    assert_eq!(did, Garbage { dry_run: false, ..would });
    assert_eq!(garbage(&[]).deleted.objects, 0, "there is nothing left to give up");
    assert_eq!((check().unusable_in_all, check().unnamed.objects), (0, 0));
    assert_eq!(traces(&cluster, spec.name), before, "manifests, values and scores stay");
    let run = cluster.experiment(spec.name).arms[0].runs[0].run.to_string();
    let to = cluster.folder().join("model.safetensors").to_string_lossy().into_owned();
    cluster.ceteris(&["checkpoint", "get", &run, "--epoch", "3", "--to", &to]).ok();
    cluster.ceteris(&["checkpoint", "get", &run, "--epoch", "1", "--to", &to, "--force"]).refused(2, &["no object"]);

    // Another arm parts where nothing is kept any more.
    let more = Spec {
        name: "more",
        arms: vec![("deeper", r#"{ epochs = 2, train = "head" }, { epochs = 1, train = "denseblock3" }"#)],
        ..spec
    };
    cluster.train(&more);
    let experiment = cluster.experiment("more");
    assert_eq!((experiment.epochs_reused, experiment.epochs_done), (4, 6));
    assert_eq!(experiment.ledger.replayed.epochs, 4, "both seeds train their two epochs again");
    let fresh = format!("{}\n[execution]\nshare = false\n", Spec { name: "fresh", ..more }.text());
    cluster.ceteris(&["submit", &cluster.write("fresh.toml", &fresh), "--follow"]).ok();
    assert_eq!(traces(&cluster, "more"), traces(&cluster, "fresh"));

    // What is missing is told, and ends with an exit code.
    let saved = cluster.document::<Checkpoints>(&["checkpoint", "ls", &run]).epochs;
    let part = saved[2].parts.iter().find(|part| part.role == Role::Trained).expect("there is one").digest;
    fs::remove_file(object(&cluster, &part)).expect("it is stored");
    let told = cluster.ceteris(&["storage", "check"]).refused(5, &["1 object cannot be used"]).stdout;
    assert_eq!(told.matches("part of checkpoint").count(), 1, "{told}");
    assert!([&part.short(), "not in the store", "part of checkpoint"].iter().all(|word| told.contains(word)), "{told}");

    // What a data set is made of is not thrown away because nobody can read its manifest.
    let dataset = cluster.experiment(spec.name).dataset.digest.expect("it is pinned");
    flip(&object(&cluster, &dataset));
    let before = check_only(&cluster);
    cluster.ceteris(&["gc", "--older-than", "0s"]).refused(5, &["nothing is deleted", "data set"]);
    assert_eq!(check_only(&cluster), before);
}

#[test]
fn what_cannot_be_extended_or_retried_is_refused() {
    let cluster = Cluster::start(&Place::Folder);
    cluster.import(Images::TINY);
    let spec = Spec::frozen_and_finetuned();
    let text = spec.text();
    let cosine = text.replace(spec.name, "cosine").replace("[seeds]", "schedule = \"cosine\"\n\n[seeds]");
    assert_ne!(cosine, text);
    cluster.ceteris(&["submit", &cluster.write("cosine.toml", &cosine)]).ok();
    cluster
        .ceteris(&["extend", "cosine", "--epochs", "5"])
        .refused(2, &["cosine", "frozen", "horizon", "budget.epochs = 5"]);
    cluster.submit(&spec);
    cluster.ceteris(&["extend", spec.name, "--epochs", "3"]).refused(2, &["budget.epochs", "3"]);
    cluster.ceteris(&["extend", "nothing", "--epochs", "5"]).refused(2, &["nothing", "ceteris ls"]);
    cluster.ceteris(&["retry", spec.name, "--failed"]).refused(2, &["failed"]);
    cluster.ceteris(&["cancel", spec.name]).ok();
    cluster.ceteris(&["extend", spec.name, "--epochs", "5"]).refused(2, &["cancelled"]);
}
