//! The same steps in PyTorch: a small network trained by every rule, along every schedule, with every loss, compared
//! after each of 50 steps.

#[path = "common/reference.rs"]
mod reference;

use std::{collections::BTreeMap, fs, path::Path};

use burn::tensor::{DType, Device, Tensor, TensorData};
use ceteris_shared::{
    architecture::{Entry, Part},
    spec::{
        Schedule,
        optimization::{ClassWeights, Optimization, UpdateRule},
    },
};
use ceteris_train::{
    backend::{self, DeviceName},
    loss::{CrossEntropy, Mixed, Targets},
    optimizer::Optimizer,
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::Serialize;

const EPOCHS: u32 = 5;
const STEPS: u32 = 10;
const SAMPLES: usize = 16;
const INPUTS: usize = 6;
const HIDDEN: usize = 5;
const CLASSES: usize = 3;
const PARAMETERS: usize = HIDDEN * INPUTS + HIDDEN + CLASSES * HIDDEN + CLASSES;

/// One training that both sides make.
#[derive(Clone, Debug, Serialize)]
struct Case {
    name: String,
    float: Float,
    lr: f64,
    optimization: Optimization,
    /// Of a stage of `epochs` epochs.
    schedule: Told,
    epochs: u32,
    steps: u32,
    mixed: bool,
}

/// A schedule with all its settings, defaults included.
#[derive(Clone, Debug, Serialize)]
struct Told {
    #[serde(flatten)]
    schedule: Schedule,
    warm_up: u32,
}

impl From<Schedule> for Told {
    fn from(schedule: Schedule) -> Self {
        Self { schedule, warm_up: schedule.warm_up() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Float {
    F32,
    F64,
}

/// What is found after each step.
#[derive(Default)]
struct Found {
    losses: Vec<f64>,
    rates: Vec<f64>,
    parameters: Vec<f64>,
    averages: Vec<f64>,
}

/// The network's start and what it is trained on, the same for both sides.
struct Data {
    start: Vec<f64>,
    inputs: Vec<f64>,
    labels: Vec<u32>,
    others: Vec<u32>,
    shares: Vec<f64>,
}

impl Data {
    fn new() -> Self {
        let wave = |count: usize, speed: f64| (0..count).map(move |at| (at as f64 * speed).sin());
        let classes = |step: usize| (0..SAMPLES).map(move |at| ((at * step) % 7 % CLASSES) as u32);
        Self {
            start: wave(PARAMETERS, 1.7).map(|value| value * 0.6).collect(),
            inputs: wave(SAMPLES * INPUTS, 2.3).collect(),
            labels: classes(3).collect(),
            others: classes(5).collect(),
            shares: wave(SAMPLES, 0.9).map(|value| (value + 1.0) / 2.0).collect(),
        }
    }

    fn write(&self, file: &Path) {
        let floats = |values: &[f64]| -> Vec<u8> { values.iter().flat_map(|value| value.to_le_bytes()).collect() };
        let integers =
            |values: &[u32]| -> Vec<u8> { values.iter().flat_map(|value| i64::from(*value).to_le_bytes()).collect() };
        let mut tensors = vec![
            ("inputs".to_owned(), Dtype::F64, vec![SAMPLES, INPUTS], floats(&self.inputs)),
            ("labels".to_owned(), Dtype::I64, vec![SAMPLES], integers(&self.labels)),
            ("others".to_owned(), Dtype::I64, vec![SAMPLES], integers(&self.others)),
            ("shares".to_owned(), Dtype::F64, vec![SAMPLES], floats(&self.shares)),
        ];
        let mut start = self.start.as_slice();
        for entry in entries() {
            let (own, rest) = start.split_at(entry.shape.iter().product());
            tensors.push((entry.name, Dtype::F64, entry.shape, floats(own)));
            start = rest;
        }
        let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
            (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).expect("the shape is the data's own"))
        });
        fs::write(file, safetensors::serialize(views, None).expect("names differ")).unwrap();
    }
}

/// The network's tensors, named as the script names them.
fn entries() -> Vec<Entry> {
    let entry = |name: &str, shape: &[usize], part| Entry { name: name.to_owned(), shape: shape.to_vec(), part };
    vec![
        entry("first.weight", &[HIDDEN, INPUTS], Part::Block4),
        entry("scale", &[HIDDEN], Part::Block4),
        entry("second.weight", &[CLASSES, HIDDEN], Part::Head),
        entry("second.bias", &[CLASSES], Part::Head),
    ]
}

fn adam() -> Optimization {
    Optimization::default()
}

fn adamw() -> Optimization {
    Optimization {
        rule: UpdateRule::Adamw { betas: [0.9, 0.999], epsilon: 1e-8 },
        weight_decay: 0.01,
        ..Optimization::default()
    }
}

fn sgd(momentum: f64, dampening: f64, nesterov: bool) -> Optimization {
    Optimization { rule: UpdateRule::Sgd { momentum, dampening, nesterov }, ..Optimization::default() }
}

fn rules() -> Vec<(&'static str, Optimization)> {
    let short_memory = UpdateRule::Adam { betas: [0.3, 0.6], epsilon: 1e-2 };
    vec![
        ("adam", adam()),
        ("adam-betas-epsilon", Optimization { rule: short_memory, ..adam() }),
        ("adam-decay", Optimization { weight_decay: 0.1, ..adam() }),
        ("adam-decay-of-all", Optimization { weight_decay: 0.1, decay_norms_and_biases: true, ..adam() }),
        ("adam-clipped", Optimization { clip_norm: Some(0.05), ..adam() }),
        ("adam-average", Optimization { average: Some(0.9), ..adam() }),
        ("adam-block-rates", Optimization { lr_decay_per_block: 0.3, ..adam() }),
        ("adamw", adamw()),
        ("adamw-decay-of-all", Optimization { weight_decay: 0.2, decay_norms_and_biases: true, ..adamw() }),
        ("adamw-block-rates", Optimization { weight_decay: 0.2, lr_decay_per_block: 0.3, ..adamw() }),
        ("sgd", sgd(0.0, 0.0, false)),
        ("sgd-decay", Optimization { weight_decay: 0.1, ..sgd(0.0, 0.0, false) }),
        ("sgd-momentum", sgd(0.9, 0.0, false)),
        ("sgd-dampening", sgd(0.9, 0.3, false)),
        ("sgd-nesterov", Optimization { weight_decay: 0.1, ..sgd(0.9, 0.0, true) }),
        ("sgd-clipped", Optimization { clip_norm: Some(0.1), ..sgd(0.9, 0.0, false) }),
        ("sgd-average", Optimization { average: Some(0.4), ..sgd(0.9, 0.0, false) }),
    ]
}

fn schedules() -> Vec<(&'static str, Schedule)> {
    let one_cycle = |rise, start_divisor, end_divisor| Schedule::OneCycle { rise, start_divisor, end_divisor };
    vec![
        ("warm-up", Schedule::Constant { warm_up: 4 }),
        ("step", Schedule::Step { every: 2, factor: 0.1, warm_up: 0 }),
        ("step-after-warm-up", Schedule::Step { every: 1, factor: 0.5, warm_up: 2 }),
        ("exponential", Schedule::Exponential { factor: 0.7, warm_up: 0 }),
        ("exponential-after-warm-up", Schedule::Exponential { factor: 0.9, warm_up: 1 }),
        ("cosine", Schedule::Cosine { minimum: 0.0, warm_up: 0 }),
        ("cosine-after-warm-up", Schedule::Cosine { minimum: 0.0, warm_up: 1 }),
        ("one-cycle", one_cycle(0.3, 25.0, 1e4)),
        ("one-cycle-late", one_cycle(0.65, 4.0, 10.0)),
    ]
}

fn cases() -> Vec<Case> {
    let constant = Schedule::default();
    let case = |name: &str, optimization: Optimization, schedule: Schedule, mixed: bool| Case {
        name: name.to_owned(),
        float: Float::F64,
        lr: if matches!(optimization.rule, UpdateRule::Sgd { .. }) { 0.1 } else { 0.01 },
        optimization,
        schedule: schedule.into(),
        epochs: EPOCHS,
        steps: STEPS,
        mixed,
    };
    let mut cases: Vec<_> = rules().into_iter().map(|(name, rule)| case(name, rule, constant, false)).collect();
    for (name, schedule) in schedules() {
        cases.push(case(&format!("adam-{name}"), adam(), schedule, false));
        let blocks = Optimization { lr_decay_per_block: 0.3, ..sgd(0.9, 0.0, true) };
        cases.push(case(&format!("sgd-{name}"), blocks, schedule, false));
    }
    // PyTorch's minimum is the same for every group; ours is a rate like any other, and smaller for blocks further down.
    cases.push(case("adam-cosine-minimum", adam(), Schedule::Cosine { minimum: 1e-3, warm_up: 0 }, false));
    let weights = || ClassWeights::Listed(vec![0.5, 2.0, 1.25]);
    let smoothed = Optimization { label_smoothing: 0.1, ..adam() };
    let weighted = Optimization { class_weights: weights(), ..adam() };
    let both = Optimization { class_weights: weights(), ..smoothed.clone() };
    cases.push(case("loss-smoothed", smoothed, constant, false));
    cases.push(case("loss-weighted", weighted, constant, false));
    cases.push(case("loss-smoothed-weighted", both.clone(), constant, false));
    cases.push(case("loss-mixed", adam(), constant, true));
    cases.push(case("loss-mixed-smoothed-weighted", both.clone(), constant, true));
    let everything = Optimization {
        clip_norm: Some(0.2),
        lr_decay_per_block: 0.3,
        average: Some(0.95),
        rule: adamw().rule,
        weight_decay: 0.1,
        ..both
    };
    cases.push(case(
        "everything",
        everything,
        Schedule::OneCycle { rise: 0.3, start_divisor: 25.0, end_divisor: 1e4 },
        true,
    ));
    let single =
        cases.iter().map(|case| Case { name: format!("{}-f32", case.name), float: Float::F32, ..case.clone() });
    cases.iter().cloned().chain(single).collect()
}

/// The case's training with what is tested.
fn train(case: &Case, data: &Data, device: &Device) -> Found {
    let dtype = if case.float == Float::F64 { DType::F64 } else { DType::F32 };
    let loss = CrossEntropy::new(&case.optimization, &[1; CLASSES]);
    let mixed = case.mixed.then_some(Mixed { labels: &data.others, shares: &data.shares });
    let targets = Targets { labels: &data.labels, mixed };
    let normaliser = loss.normaliser(&targets);
    let inputs = TensorData::new(data.inputs.clone(), [SAMPLES, INPUTS]);
    let inputs = Tensor::<2>::from_data(inputs, (device, dtype)).autodiff();
    let mut parameters = Tensor::from_data(TensorData::new(data.start.clone(), [PARAMETERS]), (device, dtype));
    let mut optimizer = Optimizer::new(&case.optimization, &entries());
    let mut found = Found::default();
    for step in 0..case.epochs * case.steps {
        let leaf: Tensor<1> = parameters.clone().autodiff().require_grad();
        let value = loss.loss(logits(&leaf, inputs.clone()), &targets, normaliser);
        found.losses.push(value.clone().into_scalar());
        let gradient = leaf.grad(&value.backward()).expect("it was asked for");
        let (rate, rates) = case.schedule.schedule.epoch(case.lr, step / case.steps, case.epochs);
        let rate = rates.at(rate, step % case.steps, case.steps);
        parameters = optimizer.step(rate, parameters, gradient);
        found.rates.push(rate);
        found.parameters.extend(values(&parameters));
        found.averages.extend(optimizer.averaged().iter().flat_map(values));
    }
    found
}

fn logits(parameters: &Tensor<1>, inputs: Tensor<2>) -> Tensor<2> {
    let mut start = 0;
    let mut next = |shape: [usize; 2]| {
        let end = start + shape[0] * shape[1];
        let tensor: Tensor<2> = parameters.clone().slice(start..end).reshape(shape);
        start = end;
        tensor
    };
    let (first, scale) = (next([HIDDEN, INPUTS]), next([1, HIDDEN]));
    let (second, bias) = (next([CLASSES, HIDDEN]), next([1, CLASSES]));
    (inputs.matmul(first.transpose()).tanh() * scale).matmul(second.transpose()) + bias
}

fn values(tensor: &Tensor<1>) -> Vec<f64> {
    tensor.clone().into_data().convert::<f64>().try_into_vec().expect("it was converted")
}

/// What PyTorch found.
fn read(file: &Path) -> Found {
    let bytes = fs::read(file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut all: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (name, view) in tensors.iter() {
        assert_eq!(view.dtype(), Dtype::F64, "{name}");
        let values = view.data().chunks_exact(8).map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap()));
        all.insert(name.to_owned(), values.collect());
    }
    let mut take = |name| all.remove(name).unwrap_or_default();
    Found { losses: take("losses"), rates: take("rates"), parameters: take("parameters"), averages: take("averages") }
}

/// The largest difference of any two values, as a share of the largest value.
fn difference(got: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let scale = expected.iter().copied().map(f64::abs).fold(f64::MIN_POSITIVE, f64::max);
    got.iter().zip(expected).map(|(got, expected)| (got - expected).abs()).fold(0.0, f64::max) / scale
}

#[test]
fn trajectories_are_pytorchs() {
    let Some(python) = reference::python("trajectories_are_pytorchs") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (cases, data) = (cases(), Data::new());
    data.write(&folder.join("data.safetensors"));
    let file = folder.join("cases.json");
    fs::write(&file, serde_json::to_vec(&cases).unwrap()).unwrap();
    reference::run(&python, "optimizers.py", &[file.as_os_str(), folder.as_os_str()]);

    let device = backend::open(DeviceName::default(), 1).unwrap().device;
    for case in &cases {
        let got = train(case, &data, &device);
        let expected = read(&folder.join(format!("{}.safetensors", case.name)));
        let first = &got.parameters[..PARAMETERS];
        assert!(difference(first, &got.parameters[got.parameters.len() - PARAMETERS..]) > 1e-3, "nothing moved");
        let bound = if case.float == Float::F64 { 1e-9 } else { 1e-6 };
        for (what, got, expected, bound) in [
            ("rates", &got.rates, &expected.rates, 1e-12),
            ("losses", &got.losses, &expected.losses, bound),
            ("parameters", &got.parameters, &expected.parameters, bound),
            ("averages", &got.averages, &expected.averages, bound),
        ] {
            let off = difference(got, expected);
            eprintln!("{}: {what} differ by {off:e}", case.name);
            assert!(off < bound, "{}: {what} differ by {off:e}", case.name);
        }
    }
}
