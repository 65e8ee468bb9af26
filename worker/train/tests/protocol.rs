//! The real program on a real socket.

mod common;

use std::{io::Write, process::Command};

use ceteris_shared::{
    spec::{Augment, Trainable},
    trainer::{FailureCause, Report, Request, Start, Train},
};
use common::{
    attempt, epoch, feature_folder, request, small_dataset,
    trainer::{PROGRAM, Trainer},
};

fn train(request: Train) -> Request {
    Request::Train(Box::new(request))
}

#[test]
fn a_trainer_trains_fails_goes_on_and_exits() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_dataset(&folder.path().join("data"));
    let mut trainer = Trainer::start(folder.path());

    let stage = vec![epoch(1, Trainable::Head, true), epoch(2, Trainable::Head, false)];
    trainer.say(&train(request(&folder.path().join("a"), &data, stage.clone())));
    let reports = trainer.hear_all();
    assert!(matches!(reports.first(), Some(Report::Started { .. })), "{reports:?}");
    assert!(matches!(reports.last(), Some(Report::Finished { attempt: a }) if *a == attempt(1)), "{reports:?}");
    assert_eq!(common::epochs(&reports).len(), 2);
    assert!(reports.iter().any(|report| matches!(report, Report::Progress { step: 3, steps: 3, .. })));

    let mut broken = request(&folder.path().join("b"), &data, stage.clone());
    broken.attempt = attempt(2);
    broken.start = Start::Weights { file: data.manifest.clone() };
    trainer.say(&train(broken));
    let Some(Report::Failed { attempt: failed, cause, message }) = trainer.hear_all().pop() else {
        panic!("a manifest is no weights file")
    };
    assert_eq!((failed, cause), (attempt(2), FailureCause::User));
    assert!(message.contains("not a safetensors file"), "{message}");

    let mut again = request(&folder.path().join("c"), &data, stage);
    again.attempt = attempt(3);
    trainer.say(&train(again));
    let again = trainer.hear_all();
    let same =
        common::epochs(&again).iter().zip(common::epochs(&reports)).all(|(a, b)| common::bytes(a) == common::bytes(b));
    assert!(same, "a warm trainer gives the bytes of a fresh one");

    trainer.say(&Request::Exit);
    let (status, log) = trainer.end();
    assert!(status.success(), "{status}: {log}");
}

#[test]
fn a_stop_is_heard_while_training() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_dataset(&folder.path().join("data"));
    let mut trainer = Trainer::start(folder.path());
    let forever: Vec<_> = (1..1000).map(|number| epoch(number, Trainable::Head, number == 1)).collect();
    for (number, now) in [(1, false), (2, true)] {
        let mut request = request(&folder.path().join(number.to_string()), &data, forever.clone());
        request.attempt = attempt(number);
        trainer.say(&train(request));
        while !matches!(trainer.hear(), Report::Epoch(_)) {}
        trainer.say(&Request::Stop { attempt: attempt(number), now });
        let last = trainer.hear_all().pop();
        assert!(matches!(last, Some(Report::Stopped { attempt: a }) if a == attempt(number)), "{last:?}");
    }
}

#[test]
fn a_trainer_ends_when_its_agent_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_dataset(&folder.path().join("data"));
    let mut trainer = Trainer::start(folder.path());
    let forever: Vec<_> = (1..1000).map(|number| epoch(number, Trainable::Head, number == 1)).collect();
    trainer.say(&train(request(&folder.path().join("out"), &data, forever)));
    while !matches!(trainer.hear(), Report::Epoch(_)) {}
    trainer.writer.shutdown(std::net::Shutdown::Both).unwrap();
    trainer.end();
}

#[test]
fn features_are_asked_for_and_an_answer_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let data = small_dataset(&folder.path().join("data"));
    let mut trainer = Trainer::start(folder.path());
    let mut stage = epoch(1, Trainable::Head, true);
    stage.augment = Augment::NONE;
    let mut files = Vec::new();
    for (number, found) in [(1, false), (2, true)] {
        let mut request = request(&folder.path().join(number.to_string()), &data, vec![stage.clone()]);
        request.attempt = attempt(number);
        request.features = Some(feature_folder(&folder.path().join("features")));
        trainer.say(&train(request));
        let (mut wanted, mut made) = (Vec::new(), Vec::new());
        loop {
            match trainer.hear() {
                Report::FeaturesWanted { attempt: whose, key } => {
                    assert_eq!(whose, attempt(number));
                    // Answers to another execution concern nobody.
                    trainer.say(&Request::Features { attempt: attempt(9), key, found: !found });
                    trainer.say(&Request::Features { attempt: whose, key, found });
                    wanted.push(key);
                }
                Report::FeaturesMade { key, .. } => made.push(key),
                Report::Epoch(report) => files.push(common::bytes(&report)),
                Report::Finished { .. } => break,
                _ => {}
            }
        }
        assert_eq!(wanted.len(), 2, "train and val");
        assert_eq!(made, if found { Vec::new() } else { wanted });
    }
    assert!(files[0] == files[1]);
}

#[test]
fn what_is_no_request_ends_the_trainer_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = Trainer::start(folder.path());
    trainer.writer.write_all(b"{\"type\":\"dance\"}\n").unwrap();
    let (status, log) = trainer.end();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("a line that is no request of this version") && log.contains("dance"), "{log}");
}

#[test]
fn check_prints_the_environment_as_json() {
    let output =
        Command::new(PROGRAM).args(["check", "--threads", "1"]).env_remove("LD_LIBRARY_PATH").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let environment: ceteris_shared::checkpoint::Environment = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(environment.threads, 1);

    let output = Command::new(PROGRAM).args(["check", "--device", "cuda:99"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cuda:99 was asked for"));
}
