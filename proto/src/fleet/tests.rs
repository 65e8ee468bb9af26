//! What goes through the wire comes out as it was; what no domain type can mean is refused by field.

use ceteris_shared::{
    dataset::Split,
    ids::SegmentId,
    spec::{Arch, Augment, Optimizer, Precision, Schedule, Trainable},
};
use proptest::prelude::*;
use prost::Message as _;
use uuid::Uuid;

use super::*;
use crate::v1;

fn attempt() -> Attempt {
    Attempt { segment: SegmentId(Uuid::from_u128(7)), number: 3 }
}

fn start() -> StartAttempt {
    let epoch = |epoch| ceteris_shared::plan::EpochWork {
        epoch: Epoch(epoch),
        key: LineageKey(Digest::of(&[epoch as u8])),
        train: Trainable::Denseblock4,
        optimizer_starts: epoch == 3,
        lr: 1e-5,
        schedule: Schedule::Constant,
        augment: Augment::Light,
    };
    StartAttempt {
        attempt: attempt(),
        work: Work {
            arch: Arch::Densenet121,
            seed: u64::MAX,
            batch_size: 32,
            optimizer: Optimizer::default(),
            precision: Precision::Fp32,
            epochs: vec![epoch(3), epoch(4)],
            endpoint: true,
        },
        dataset: Digest::of(b"dataset"),
        external: vec![("nih".to_owned(), Digest::of(b"nih"))],
        start: Start::Checkpoint(Digest::of(b"checkpoint")),
    }
}

fn step() -> StepCommitted {
    let (key, manifest) = (LineageKey(Digest::of(b"key")), Digest::of(b"manifest"));
    StepCommitted { epoch: Epoch(3), step: 12, key, manifest }
}

fn to_worker() -> Vec<CoordinatorMessage> {
    let starts = [Start::Random, Start::Weights(Digest::of(b"w")), Start::Checkpoint(Digest::of(b"c"))];
    let starts = starts.map(|from| CoordinatorMessage::Start(Box::new(StartAttempt { start: from, ..start() })));
    let others = [
        CoordinatorMessage::Welcome { lease: Duration::from_secs(30), heartbeat: Duration::from_millis(2500) },
        CoordinatorMessage::Stop { attempt: attempt(), now: true },
        CoordinatorMessage::Revoke { attempt: attempt(), reason: "its lease ended".to_owned() },
        CoordinatorMessage::Ack(9),
    ];
    starts.into_iter().chain(others).collect()
}

fn to_coordinator() -> Vec<WorkerMessage> {
    let environment = Environment {
        engine: "1".to_owned(),
        libtorch: "2.9.1".to_owned(),
        device: "cpu".to_owned(),
        instructions: "AVX512".to_owned(),
        threads: 2,
    };
    let register = Register {
        worker: WorkerId(Uuid::from_u128(1)),
        name: "host".to_owned(),
        session: SessionId(Uuid::from_u128(2)),
        version: "0.1.0".to_owned(),
        slots: 2,
        environment,
        store: "store".to_owned(),
        running: vec![attempt()],
    };
    let progress = Progress { attempt: attempt(), epoch: Epoch(2), step: 5, steps: 9, loss: None };
    let committed = EpochCommitted {
        epoch: Epoch(3),
        key: LineageKey(Digest::of(b"key")),
        manifest: Digest::of(b"manifest"),
        predictions: vec![
            (Scored::Split(Split::Test), Digest::of(b"test")),
            (Scored::External("nih".to_owned()), Digest::of(b"nih")),
        ],
        spent: Spent { steps: 47, samples: 1500, seconds: 93.5 },
    };
    let point = MetricPoint { epoch: Epoch(3), step: 47, split: Split::Val, name: "auc".to_owned(), value: 0.97 };
    let kinds = [
        EventKind::Started,
        EventKind::Metrics(vec![point]),
        EventKind::StepCommitted(step()),
        EventKind::EpochCommitted(committed),
        EventKind::Finished,
        EventKind::Stopped,
        EventKind::Failed { cause: FailureCause::Diverged, message: "the loss is infinite".to_owned() },
        EventKind::Log(vec!["a line".to_owned()]),
    ];
    let events =
        (1..).zip(kinds).map(|(sequence, kind)| WorkerMessage::Event(Event { sequence, attempt: attempt(), kind }));
    [
        WorkerMessage::Register(register),
        WorkerMessage::Heartbeat(vec![Progress { loss: Some(0.5), ..progress }, progress]),
    ]
    .into_iter()
    .chain(events)
    .collect()
}

#[test]
fn messages_survive_the_wire() {
    for message in to_worker() {
        let bytes = v1::CoordinatorMessage::from(message.clone()).encode_to_vec();
        let decoded = v1::CoordinatorMessage::decode(bytes.as_slice()).expect("what was encoded");
        assert_eq!(CoordinatorMessage::try_from(decoded), Ok(message));
    }
    for message in to_coordinator() {
        let bytes = v1::WorkerMessage::from(message.clone()).encode_to_vec();
        let decoded = v1::WorkerMessage::decode(bytes.as_slice()).expect("what was encoded");
        assert_eq!(WorkerMessage::try_from(decoded), Ok(message));
    }
}

#[test]
fn refusals_name_the_field() {
    let refused = |change: fn(&mut v1::StartAttempt)| {
        let mut wire = v1::StartAttempt::from(start());
        change(&mut wire);
        StartAttempt::try_from(wire).expect_err("the change means nothing").field
    };
    let of_step = |wire: v1::StepCommitted| StepCommitted::try_from(wire).expect_err("the change means nothing").field;
    assert_eq!(of_step(v1::StepCommitted { step: 0, ..step().into() }), "step_committed.step");
    assert_eq!(of_step(v1::StepCommitted { key: String::new(), ..step().into() }), "step_committed.key");
    assert_eq!(refused(|wire| wire.attempt = None), "start.attempt");
    assert_eq!(refused(|wire| wire.attempt.as_mut().unwrap().number = 0), "start.attempt");
    assert_eq!(refused(|wire| wire.dataset = "x".to_owned()), "start.dataset");
    assert_eq!(refused(|wire| wire.start = None), "start.start");
    assert_eq!(refused(|wire| wire.work.as_mut().unwrap().arch = "vgg".to_owned()), "work.arch");
    assert_eq!(refused(|wire| wire.work.as_mut().unwrap().batch_size = 0), "work.batch_size");
    assert_eq!(refused(|wire| wire.work.as_mut().unwrap().epochs.swap(0, 1)), "work.epochs");
    assert_eq!(refused(|wire| wire.work.as_mut().unwrap().epochs.clear()), "work.epochs");
    assert_eq!(refused(|wire| wire.work.as_mut().unwrap().epochs[0].lr = f64::NAN), "epoch_work.lr");
}

proptest! {
    #[test]
    fn no_bytes_panic(seed in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte: u8) {
        let messages = to_coordinator();
        let mut bytes = v1::WorkerMessage::from(messages[seed.index(messages.len())].clone()).encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(wire) = v1::WorkerMessage::decode(bytes.as_slice()) {
            let _ = WorkerMessage::try_from(wire);
        }
    }
}
