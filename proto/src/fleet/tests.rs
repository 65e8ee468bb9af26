//! What goes through the wire comes out as it was; what no domain type can mean is refused by field.

use ceteris_shared::{
    dataset::Split,
    ids::SegmentId,
    plan::{EpochSettings, EpochWork},
    spec::{
        Arch, Augment, ClassWeighting, ClassWeights, CustomPolicy, Memory, Optimization, PolicyName, Precision, Rates,
        Trainable, UpdateRule,
    },
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
    let epoch = |epoch| {
        EpochWork::new(
            LineageKey(Digest::of(&[epoch as u8])),
            EpochSettings {
                epoch: Epoch(epoch),
                train: Trainable::Denseblock4,
                optimizer_starts: epoch == 3,
                lr: 1e-5,
                rates: Rates::Constant,
                augment: Augment::Named(PolicyName::Light),
            },
        )
    };
    StartAttempt {
        attempt: attempt(),
        work: Work {
            arch: Arch::Densenet121,
            seed: u64::MAX,
            batch_size: 32,
            optimization: Optimization::default(),
            precision: Precision::Fp32,
            memory: Memory::Normal,
            checkpoint_every_steps: None,
            epochs: vec![epoch(3), epoch(4)],
            endpoint: true,
        },
        dataset: Digest::of(b"dataset"),
        external: vec![("nih".to_owned(), Digest::of(b"nih"))],
        start: Start::Checkpoint(Digest::of(b"checkpoint")),
    }
}

/// Work in which every setting of the engine has a value of its own, and its alternatives.
fn works() -> Vec<Work> {
    let work = start().work;
    let betas = [0.85, 0.99];
    let rules = [
        UpdateRule::Adam { betas, epsilon: 1e-7 },
        UpdateRule::Adamw { betas, epsilon: 1e-6 },
        UpdateRule::Sgd { momentum: 0.9, dampening: 0.0, nesterov: true },
        UpdateRule::Sgd { momentum: 0.8, dampening: 0.1, nesterov: false },
    ];
    let weights = [ClassWeights::Named(ClassWeighting::Balanced), ClassWeights::Listed(vec![1.0, 3.0])];
    let settings = rules.into_iter().zip(weights.into_iter().cycle());
    let optimizations = settings.map(|(rule, class_weights)| Optimization {
        rule,
        weight_decay: 0.01,
        decay_norms_and_biases: true,
        clip_norm: Some(1.5),
        label_smoothing: 0.1,
        class_weights,
        lr_decay_per_block: 0.7,
        accumulate: 4,
        average: Some(0.999),
    });
    let rates = [
        Rates::WarmUp { done: 1, epochs: 3 },
        Rates::OneCycle { done: 2, epochs: 9, rise: 0.25, start_divisor: 10.0, end_divisor: 1e3 },
    ];
    let written_out = CustomPolicy {
        flip: Some(0.5),
        rotation: Some(10.0),
        translation: Some(0.05),
        zoom: Some([0.9, 1.1]),
        elastic: Some(0.02),
        brightness: Some(0.1),
        contrast: Some(0.2),
        gamma: Some([0.8, 1.25]),
        noise: Some(0.01),
        blur: Some(1.5),
        erase: Some(0.25),
        mixup: Some(0.2),
    };
    let augment = [Augment::Custom(Box::new(written_out)), Augment::Custom(Box::default())];
    let epochs = |index: usize| {
        let mut epochs = work.epochs.clone();
        epochs[0].rates = rates[index % 2];
        epochs[0].augment = augment[index % 2].clone();
        epochs[1].augment = Augment::Named(PolicyName::ALL[index % 4]);
        epochs
    };
    let all = optimizations.enumerate().map(|(index, optimization)| Work {
        optimization,
        precision: [Precision::Tf32, Precision::Bf16][index % 2],
        memory: Memory::Low,
        checkpoint_every_steps: Some(50),
        arch: Arch::ALL[index],
        epochs: epochs(index),
        ..work.clone()
    });
    all.collect()
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
        CoordinatorMessage::Drain { slots: vec![0, 3] },
        CoordinatorMessage::Revoke { attempt: attempt(), reason: "its lease ended".to_owned() },
        CoordinatorMessage::Ack(9),
    ];
    let works = works().into_iter().map(|work| CoordinatorMessage::Start(Box::new(StartAttempt { work, ..start() })));
    starts.into_iter().chain(works).chain(others).collect()
}

fn to_coordinator() -> Vec<WorkerMessage> {
    let environment = Environment {
        engine: "1".to_owned(),
        libtorch: "2.9.1".to_owned(),
        device: "cpu".to_owned(),
        instructions: "AVX512".to_owned(),
        threads: 2,
        determinism: "default".to_owned(),
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
        slot_memory_bytes: Some(80 << 30),
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
        weights: Some(Digest::of(b"weights")),
    };
    let point = MetricPoint { epoch: Epoch(3), step: 47, split: Split::Val, name: "auc".to_owned(), value: 0.97 };
    let kinds = [
        EventKind::Started,
        EventKind::Metrics(vec![point]),
        EventKind::StepCommitted(step()),
        EventKind::EpochCommitted(EpochCommitted { weights: None, ..committed.clone() }),
        EventKind::EpochCommitted(committed),
        EventKind::Finished,
        EventKind::Stopped,
        EventKind::HandedBack,
        EventKind::Failed { cause: FailureCause::Diverged, message: "the loss is infinite".to_owned() },
        EventKind::Damaged { checkpoint: Digest::of(b"manifest"), message: "a part is gone".to_owned() },
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
}

#[test]
fn a_workers_memory_may_be_unknown_and_not_beyond_measure() {
    let WorkerMessage::Register(register) = to_coordinator().remove(0) else { panic!("the first message registers") };
    let read = |slot_memory_bytes| {
        Register::try_from(v1::Register { slot_memory_bytes, ..register.clone().into() })
            .map(|register| register.slot_memory_bytes)
    };
    assert_eq!(read(0), Ok(None), "as an older worker's message reads");
    assert_eq!(read(MAX_MEMORY_BYTES), Ok(Some(MAX_MEMORY_BYTES)));
    assert_eq!(read(MAX_MEMORY_BYTES + 1).expect_err("no machine has it").field, "register.slot_memory_bytes");
}

#[test]
fn refusals_of_work_name_the_field() {
    let refused = |change: &dyn Fn(&mut v1::Work)| {
        let mut wire = v1::Work::from(works()[3].clone());
        change(&mut wire);
        Work::try_from(wire).expect_err("the change means nothing").field
    };
    assert_eq!(refused(&|work| work.optimization = None), "work.optimization");
    assert_eq!(refused(&|work| work.precision = "fp8".to_owned()), "work.precision");
    assert_eq!(refused(&|work| work.memory = "tiny".to_owned()), "work.memory");
    assert_eq!(refused(&|work| work.checkpoint_every_steps = Some(0)), "work.checkpoint_every_steps");
    assert_eq!(refused(&|work| work.batch_size = 30), "optimization.accumulate");

    let optimization = |change: &dyn Fn(&mut v1::Optimization)| {
        refused(&|work| change(work.optimization.as_mut().expect("it has one")))
    };
    use v1::optimization::Rule;
    let adam = |beta1, beta2, epsilon| Some(Rule::Adam(v1::Adam { beta1, beta2, epsilon }));
    let sgd = |momentum, dampening| Some(Rule::Sgd(v1::Sgd { momentum, dampening, nesterov: false }));
    let infinite = f64::INFINITY;
    assert_eq!(optimization(&|o| o.rule = None), "optimization.rule");
    assert_eq!(optimization(&|o| o.rule = adam(infinite, 0.9, 1e-8)), "adam.beta1");
    assert_eq!(optimization(&|o| o.rule = adam(0.9, infinite, 1e-8)), "adam.beta2");
    assert_eq!(optimization(&|o| o.rule = adam(0.9, 0.9, infinite)), "adam.epsilon");
    assert_eq!(optimization(&|o| o.rule = sgd(infinite, 0.0)), "sgd.momentum");
    assert_eq!(optimization(&|o| o.rule = sgd(0.9, infinite)), "sgd.dampening");
    assert_eq!(optimization(&|o| o.weight_decay = infinite), "optimization.weight_decay");
    assert_eq!(optimization(&|o| o.clip_norm = Some(infinite)), "optimization.clip_norm");
    assert_eq!(optimization(&|o| o.label_smoothing = infinite), "optimization.label_smoothing");
    assert_eq!(optimization(&|o| o.class_weights = None), "optimization.class_weights");
    assert_eq!(optimization(&|o| o.lr_decay_per_block = infinite), "optimization.lr_decay_per_block");
    assert_eq!(optimization(&|o| o.accumulate = 0), "optimization.accumulate");
    assert_eq!(optimization(&|o| o.average = Some(infinite)), "optimization.average");
    use v1::class_weights::{List, Weights};
    let weights =
        |weights| optimization(&|o| o.class_weights = Some(v1::ClassWeights { weights: Clone::clone(&weights) }));
    assert_eq!(weights(None), "class_weights.weights");
    assert_eq!(weights(Some(Weights::Named("square".to_owned()))), "class_weights.named");
    assert_eq!(weights(Some(Weights::Listed(List { weights: vec![infinite] }))), "class_weights.listed");
}

#[test]
fn refusals_of_an_epoch_name_the_field() {
    let refused = |change: &dyn Fn(&mut v1::EpochWork)| {
        let mut wire = v1::EpochWork::from(works()[2].epochs[0].clone());
        change(&mut wire);
        EpochWork::try_from(wire).expect_err("the change means nothing").field
    };
    assert_eq!(refused(&|epoch| epoch.epoch = 0), "epoch_work.epoch");
    assert_eq!(refused(&|epoch| epoch.key.clear()), "epoch_work.key");
    assert_eq!(refused(&|epoch| epoch.train = "denseblock5".to_owned()), "epoch_work.train");
    assert_eq!(refused(&|epoch| epoch.lr = f64::NAN), "epoch_work.lr");
    assert_eq!(refused(&|epoch| epoch.rates = None), "epoch_work.rates");
    assert_eq!(refused(&|epoch| epoch.augment = None), "epoch_work.augment");
    use v1::rates::{OneCycle, Rates as Course, WarmUp};
    let rates = |rates| refused(&|epoch| epoch.rates = Some(v1::Rates { rates }));
    let cycle = OneCycle { done: 0, epochs: 2, rise: 0.3, start_divisor: 25.0, end_divisor: 1e4 };
    assert_eq!(rates(None), "rates.rates");
    assert_eq!(rates(Some(Course::WarmUp(WarmUp { done: 2, epochs: 2 }))), "warm_up.done");
    assert_eq!(rates(Some(Course::OneCycle(OneCycle { done: 2, ..cycle }))), "one_cycle.done");
    assert_eq!(rates(Some(Course::OneCycle(OneCycle { rise: f64::NAN, ..cycle }))), "one_cycle.rise");
    assert_eq!(rates(Some(Course::OneCycle(OneCycle { start_divisor: f64::NAN, ..cycle }))), "one_cycle.start_divisor");
    assert_eq!(rates(Some(Course::OneCycle(OneCycle { end_divisor: f64::NAN, ..cycle }))), "one_cycle.end_divisor");
    use v1::augment::{Custom, Policy, Range};
    let augment =
        |policy: Option<Policy>| refused(&|epoch| epoch.augment = Some(v1::Augment { policy: policy.clone() }));
    let (nan, range) = (Some(f64::NAN), Some(Range { low: 0.5, high: f64::NAN }));
    assert_eq!(augment(None), "augment.policy");
    assert_eq!(augment(Some(Policy::Named("light@9".to_owned()))), "augment.named");
    let custom = |custom| augment(Some(Policy::Custom(custom)));
    assert_eq!(custom(Custom { flip: nan, ..Custom::default() }), "augment.flip");
    assert_eq!(custom(Custom { rotation: nan, ..Custom::default() }), "augment.rotation");
    assert_eq!(custom(Custom { translation: nan, ..Custom::default() }), "augment.translation");
    assert_eq!(custom(Custom { zoom: range, ..Custom::default() }), "augment.zoom");
    assert_eq!(custom(Custom { elastic: nan, ..Custom::default() }), "augment.elastic");
    assert_eq!(custom(Custom { brightness: nan, ..Custom::default() }), "augment.brightness");
    assert_eq!(custom(Custom { contrast: nan, ..Custom::default() }), "augment.contrast");
    assert_eq!(custom(Custom { gamma: range, ..Custom::default() }), "augment.gamma");
    assert_eq!(custom(Custom { noise: nan, ..Custom::default() }), "augment.noise");
    assert_eq!(custom(Custom { blur: nan, ..Custom::default() }), "augment.blur");
    assert_eq!(custom(Custom { erase: nan, ..Custom::default() }), "augment.erase");
    assert_eq!(custom(Custom { mixup: nan, ..Custom::default() }), "augment.mixup");
}

proptest! {
    #[test]
    fn no_bytes_panic(seed in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte: u8) {
        let change = |mut bytes: Vec<u8>| {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        };
        let messages = to_coordinator();
        let bytes = change(v1::WorkerMessage::from(messages[seed.index(messages.len())].clone()).encode_to_vec());
        if let Ok(wire) = v1::WorkerMessage::decode(bytes.as_slice()) {
            let _ = WorkerMessage::try_from(wire);
        }
        let messages = to_worker();
        let bytes = change(v1::CoordinatorMessage::from(messages[seed.index(messages.len())].clone()).encode_to_vec());
        if let Ok(wire) = v1::CoordinatorMessage::decode(bytes.as_slice()) {
            let _ = CoordinatorMessage::try_from(wire);
        }
    }
}
