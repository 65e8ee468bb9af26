//! Every place at which a process may die right after it made something durable: it dies there, is started again, and
//! everything goes on as if it had not.

use std::process::Command;

use ceteris_crash::Point;
use ceteris_tests::{Cluster, Fleet, Images, Place, Spec, Work, eventually};

/// How a process is brought to a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By training.
    Training,
    /// By a worker that is new.
    NewWorker,
    /// By a coordinator that takes over from one that was killed.
    TakingOver,
    /// By a command of a user, which may fail and is given again.
    Command,
    /// By `ceteris backup` or `ceteris restore`.
    Copy,
}

fn way(point: Point) -> Way {
    match point {
        Point::DecisionsCommitted
        | Point::ObservationsStored
        | Point::EventSpooled
        | Point::SpoolFileRemoved
        | Point::PredictionsStored
        | Point::CheckpointPartStored
        | Point::CheckpointManifestStored
        | Point::FileWritten
        | Point::CheckpointWritten => Way::Training,
        Point::WorkerIdWritten | Point::SpoolFileMade | Point::ObjectFetched => Way::NewWorker,
        Point::DatabaseMigrated | Point::LeadershipTaken => Way::TakingOver,
        Point::UploadStored
        | Point::DatasetNamed
        | Point::WeightsNamed
        | Point::CheckpointsGivenUp
        | Point::ObjectDeleted => Way::Command,
        Point::BackupCopied | Point::BackupNamed | Point::LogOfReplacedRemoved | Point::RestoreNamed => Way::Copy,
    }
}

fn points(of: impl Fn(Way) -> bool) -> impl Iterator<Item = Point> {
    Point::ALL.iter().copied().filter(move |point| of(way(*point)))
}

/// Waits until a process died at the point that was asked for, and everything runs again.
fn dies(fleet: &mut Fleet, point: Point) {
    eventually(&format!("a process to die at {}", point.name()), || {
        // Trainers are started again by their agents.
        fleet.revive();
        fleet.has_crashed().then_some(())
    });
    let before = fleet.epochs();
    eventually(&format!("an epoch after a death at {}", point.name()), || {
        fleet.revive();
        (fleet.epochs() > before).then_some(())
    });
}

#[test]
fn training_goes_on_after_a_death_at_every_point() {
    let test = "training_goes_on_after_a_death_at_every_point";
    let Some(mut fleet) = Fleet::start(test, 1) else { return };
    fleet.import(Images::TINY);
    let mut work = Work::default();
    for point in points(|way| matches!(way, Way::Training | Way::NewWorker | Way::TakingOver)) {
        work.supply(&fleet);
        fleet.crash_at(point.name());
        match way(point) {
            Way::NewWorker => fleet.add_worker(),
            Way::TakingOver => fleet.kill_coordinator(fleet.leader()),
            Way::Training | Way::Command | Way::Copy => {}
        }
        dies(&mut fleet, point);
        work.look(&fleet);
    }
    work.finish(&fleet);
    drop(fleet);
    let Some(peaceful) = Fleet::start(test, 1) else { return };
    peaceful.import(Images::TINY);
    assert_eq!((work.lost, work.doubled, work.differing(&peaceful)), (0, 0, 0), "lost, doubled, differing");
}

#[test]
fn a_command_is_given_again_after_a_death_at_every_point() {
    let test = "a_command_is_given_again_after_a_death_at_every_point";
    let Some(mut fleet) = Fleet::start(test, 1) else { return };
    fleet.import(Images::TINY);
    let keep = "\n[keep]\nbest = 0\nlast = 1\nbranch_points = \"none\"\n";
    let train = |fleet: &Fleet, name: &str| {
        // Of another rate each: no two have a checkpoint in common.
        let stages = format!("{{ epochs = 3, train = \"head\", lr = 1e-{} }}", name.len());
        let spec = Spec { name, epochs: 3, arms: vec![("only", &stages)], ..Spec::long() };
        fleet.ceteris(&["submit", &fleet.write(name, &(spec.text() + keep)), "--follow"]).ok();
    };
    train(&fleet, "aa");
    let run = fleet.only_run("aa");
    let weights = fleet.folder().join("weights.safetensors").to_string_lossy().into_owned();
    fleet.ceteris(&["checkpoint", "get", &run.run.to_string(), "--to", &weights]).ok();
    // Other images for each: what is stored already is not sent again.
    for (number, point) in points(|way| way == Way::Command).enumerate() {
        let folder = format!("images-{number}");
        let images = Images { size: 40 + 8 * number as u32, ..Images::TINY };
        images.write(&fleet.folder().join(&folder));
        let (size, name) = (images.size.to_string(), format!("named-{number}"));
        let arguments: Vec<&str> = match point {
            Point::WeightsNamed => vec!["weights", "import", &weights, "--name", &name],
            Point::CheckpointsGivenUp => vec!["gc", "--older-than", "0s"],
            Point::ObjectDeleted => {
                train(&fleet, "bbb");
                vec!["gc", "--older-than", "0s"]
            }
            _ => vec!["data", "import", &folder, "--name", &name, "--image-size", &size],
        };
        fleet.crash_at(point.name());
        // It may fail, or be done by the coordinator that takes over.
        let first = fleet.ceteris(&arguments);
        assert!(fleet.has_crashed(), "{}: {first:?}", point.name());
        eventually("what died to be started again", || (!fleet.revive().is_empty()).then_some(()));
        fleet.leader();
        fleet.ceteris(&arguments).ok();
    }
    fleet.ceteris(&["storage", "check", "--read"]).ok();
    for name in ["aa", "bbb"] {
        assert_eq!(fleet.checkpoints(name).epochs.len(), 3, "what was trained is known still");
    }
    let left: serde_json::Value = fleet.ceteris(&["gc", "--older-than", "0s", "--dry-run", "-o", "json"]).ok().json();
    assert_eq!(left["deleted"]["objects"], 0, "{left}");
}

#[test]
fn a_copy_is_made_again_after_a_death_at_every_point() {
    let mut cluster = Cluster::start(&Place::Folder);
    cluster.import(Images::TINY);
    let database = cluster.folder().join("coordinator.db").to_string_lossy().into_owned();
    let crash = cluster.folder().join("crash");
    let copy = cluster.folder().join("copy.db").to_string_lossy().into_owned();
    let names = |cluster: &Cluster| cluster.ceteris(&["data", "ls", "-o", "json"]).ok().stdout;
    let known = names(&cluster);
    let dies_at = |point: Point, command: &mut Command| {
        std::fs::write(&crash, point.name()).expect("the test's folder is writable");
        let status = command.env("CETERIS_CRASH_FILE", &crash).output().expect("it starts").status;
        assert!(status.code().is_none() && !crash.exists(), "{}: {status}", point.name());
    };
    let command = |cluster: &Cluster, arguments: &[&str]| {
        let mut command = cluster.command();
        command.args(arguments);
        command
    };
    let backup = ["backup", "--database", &database, "--to", &copy, "--force"];
    let mut in_backup = known;
    for point in points(|way| way == Way::Copy) {
        match point {
            Point::BackupCopied | Point::BackupNamed => {
                dies_at(point, &mut command(&cluster, &backup));
                cluster.ceteris(&backup).ok();
                in_backup = names(&cluster);
            }
            _ => {
                let images = cluster.folder().join("images").to_string_lossy().into_owned();
                cluster.ceteris(&["data", "import", &images, "--name", point.name(), "--image-size", "32"]).ok();
                let before = names(&cluster);
                cluster.kill_coordinator();
                // What is only in the log must not be lost when the log is removed.
                assert!(cluster.folder().join("coordinator.db-wal").metadata().is_ok_and(|log| log.len() > 0));
                dies_at(point, &mut command(&cluster, &["restore", &copy, "--database", &database, "--force"]));
                cluster.start_coordinator();
                let expected = if point == Point::RestoreNamed { &in_backup } else { &before };
                assert_eq!(&names(&cluster), expected, "{}", point.name());
            }
        }
    }
}
