//! Burn's own kernels in the place of libtorch: they train, go on where they stopped, and, where a build has both, find
//! what libtorch finds.
#![cfg(feature = "flex")]

mod common;

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use ceteris_shared::{
    architecture::{Arch, Part},
    dataset::Split,
    plan::EpochWork,
    spec::{Memory, Optimization, Precision, Trainable},
    trainer::{EpochReport, FailureCause, Train},
};
use ceteris_train::{
    backend::{self, Compute, DeviceName, Float, host},
    engine::{self, Control, Outcome, Step},
    loss::{CrossEntropy, Targets},
    model::{Network, random},
    optimizer::Optimizer,
    tensors::StateDict,
};
use common::{bytes, checkpoint, dataset, epoch, epochs, request};

const CLASSES: usize = 2;
const LABELS: [u32; 4] = [0, 1, 1, 0];

/// What a step finds and leaves.
#[cfg_attr(not(feature = "libtorch"), allow(dead_code))]
struct Found {
    /// Before the step, in inference mode.
    logits: Vec<f32>,
    loss: f64,
    /// By all trained parameters.
    gradient: Vec<f32>,
    /// All tensors after it.
    state: StateDict,
}

fn flex() -> Device {
    backend::open(DeviceName::Flex, 1).unwrap().device
}

/// Images whose values are spread evenly over [-1, 1], without a pattern.
fn images(size: usize, device: &Device) -> Tensor<4> {
    let count = LABELS.len() * 3 * size * size;
    let values: Vec<f32> = (0..count as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 8) as f32).collect();
    let values: Vec<f32> = values.into_iter().map(|value| value / (1 << 23) as f32 - 1.0).collect();
    Tensor::from_data(TensorData::new(values, [LABELS.len(), 3, size, size]), device)
}

/// Trains `arch` from `first` on for one step, on images of `size` pixels.
fn step(arch: Arch, first: Part, float: Float, size: usize, device: &Device) -> Found {
    let compute = Compute::new(float);
    let initial = random(arch, 5, CLASSES);
    let new = || Network::new(&initial, arch, CLASSES, first, compute, device).unwrap();
    // Two, because a copy of a network shares the statistics, and libtorch updates them in place.
    let (mut network, mut same) = (new(), new());
    let settings = Optimization::default();
    let loss = CrossEntropy::new(&settings, &[1; CLASSES]);
    let step = Step { loss: &loss, accumulate: 1, lr: 1e-3 };
    let images = images(size, device).cast(float.of_weights());
    let logits = network.logits(images.clone()).flatten::<1>(0, 1);
    let features = network.features(images);
    let (value, gradient) =
        step.gradient(&mut same, features.clone(), &Targets::new(&LABELS)).expect("the loss is finite");
    let mut optimizer = Optimizer::new(&settings, &network.trained_parameters());
    let made = step.make(&mut network, &mut optimizer, features, &Targets::new(&LABELS));
    assert!((made - value).abs() <= 1e-6 * value.abs(), "{made} and {value}");
    Found { logits: host(&logits), loss: value, gradient: host(&gradient), state: network.state() }
}

#[test]
fn gradients_point_where_the_loss_grows() {
    let device = flex();
    let found = step(Arch::Resnet50, Part::Block4, Float::Fp32, 64, &device);
    let squared: f64 = found.gradient.iter().map(|value| f64::from(*value).powi(2)).sum();
    let compute = Compute::new(Float::Fp32);
    let initial = random(Arch::Resnet50, 5, CLASSES);
    let mut network = Network::new(&initial, Arch::Resnet50, CLASSES, Part::Block4, compute, &device).unwrap();
    let features = network.features(images(64, &device));
    let loss = CrossEntropy::new(&Optimization::default(), &[1; CLASSES]);
    let step = Step { loss: &loss, accumulate: 1, lr: 0.0 };
    let gradient = Tensor::<1>::from_data(TensorData::new(found.gradient.clone(), [found.gradient.len()]), &device);
    let start = network.parameters();
    // A move of this length changes the loss by about a hundredth, half of it to either side.
    let length = 0.01 / squared;
    let mut at = |sign: f64| {
        network.set_parameters(start.clone().add(gradient.clone().mul_scalar(0.5 * sign * length)));
        step.gradient(&mut network, features.clone(), &Targets::new(&LABELS)).unwrap().0
    };
    let slope = (at(1.0) - at(-1.0)) / length;
    assert!((slope / squared - 1.0).abs() < 0.02, "the loss grows by {slope}, and the gradient says {squared}");
}

/// With libtorch in the build, everything that one step finds and leaves is compared with what libtorch does.
#[cfg(feature = "libtorch")]
mod beside_libtorch {
    use ceteris_train::tensors::HostTensor;

    use super::*;

    fn pair(arch: Arch, first: Part, float: Float, size: usize) -> [Found; 2] {
        let libtorch = backend::open(DeviceName::Cpu, 1).unwrap().device;
        [step(arch, first, float, size, &flex()), step(arch, first, float, size, &libtorch)]
    }

    /// ‖got − expected‖ / ‖expected‖.
    fn relative(got: &[f32], expected: &[f32]) -> f64 {
        assert_eq!(got.len(), expected.len());
        let square = |value: f32| f64::from(value).powi(2);
        let off: f64 = got.iter().zip(expected).map(|(got, expected)| square(got - expected)).sum();
        (off / expected.iter().map(|value| square(*value)).sum::<f64>().max(f64::MIN_POSITIVE)).sqrt()
    }

    /// Of tensors whose names `which` picks, all values in order.
    fn values(state: &StateDict, which: impl Fn(&str) -> bool) -> Vec<f32> {
        let picked = state.0.iter().filter(|(name, _)| which(name));
        picked.flat_map(|(_, HostTensor { values, .. })| values.iter().copied()).collect()
    }

    /// `bounds` are those of gradients, and of statistics.
    fn compare(arch: Arch, first: Part, float: Float, size: usize, [gradients, statistics]: [f64; 2]) {
        let [got, expected] = pair(arch, first, float, size);
        let label = format!("{} from {first:?} in {float:?}", arch.name());
        for (got, expected) in got.logits.iter().zip(&expected.logits) {
            assert!((got - expected).abs() <= 1e-4 * expected.abs().max(1.0), "{label}: logit {got} and {expected}");
        }
        assert!((got.loss - expected.loss).abs() <= 1e-4, "{label}: loss {} and {}", got.loss, expected.loss);
        let off = relative(&got.gradient, &expected.gradient);
        assert!(off <= gradients, "{label}: gradients differ by {off:e}");
        let is_statistic = |name: &str| name.contains("running");
        let off = relative(&values(&got.state, is_statistic), &values(&expected.state, is_statistic));
        assert!(off <= statistics, "{label}: statistics differ by {off:e}");
        // Adam's first step moves a parameter by the learning rate, whatever its gradient is; a gradient of nearly
        // nothing may have either sign.
        let (got, expected) = (values(&got.state, |n| !is_statistic(n)), values(&expected.state, |n| !is_statistic(n)));
        let near = got.iter().zip(&expected).filter(|(got, expected)| (*got - *expected).abs() <= 1e-5).count();
        assert!(near as f64 >= 0.99 * got.len() as f64, "{label}: {near} of {} parameters are the same", got.len());
        assert!(got.iter().zip(&expected).all(|(got, expected)| (got - expected).abs() <= 2.1e-3), "{label}");
    }

    #[test]
    fn a_step_of_the_last_block_is_libtorchs() {
        compare(Arch::Densenet121, Part::Block4, Float::Fp32, 64, [1e-3, 1e-5]);
        // Its last maps have four pixels: in single precision one value on the other side of a ReLU's kink, as on some
        // processors, is 2 % of the gradient.
        compare(Arch::Resnet50, Part::Block4, Float::Fp64, 64, [1e-6, 1e-6]);
    }

    #[test]
    fn a_step_of_everything_in_double_precision_is_libtorchs() {
        compare(Arch::Densenet121, Part::Stem, Float::Fp64, 32, [1e-6, 1e-6]);
    }
}

fn train(request: &Train) -> Result<Vec<EpochReport>, engine::Error> {
    let opened = backend::open(DeviceName::Flex, 2).unwrap();
    let mut reports = Vec::new();
    let outcome = engine::train(request, &opened, &Control::alone(), &mut |report| reports.push(report))?;
    assert_eq!(outcome, Outcome::Finished);
    Ok(epochs(&reports).into_iter().cloned().collect())
}

fn head_then_block() -> Vec<EpochWork> {
    vec![
        epoch(1, Trainable::Head, true),
        epoch(2, Trainable::Denseblock4, true),
        epoch(3, Trainable::Denseblock4, false),
    ]
}

fn in_folder(folder: &Path, name: &str, epochs: Vec<EpochWork>) -> Train {
    let data = dataset(&folder.join("data"), [(Split::Train, 5), (Split::Val, 2), (Split::Test, 0)]);
    request(&folder.join(name), &data, epochs)
}

#[test]
fn training_goes_on_at_an_epochs_end_with_the_same_bytes_and_learns() {
    let folder = tempfile::tempdir().unwrap();
    let whole = train(&in_folder(folder.path(), "whole", head_then_block())).unwrap();
    assert_eq!(whole.len(), 3);
    for done in 1..3 {
        let mut rest = in_folder(folder.path(), &format!("after-{done}"), head_then_block().split_off(done));
        rest.start = checkpoint(&whole[done - 1]);
        let rest = train(&rest).unwrap();
        assert_eq!(rest.len(), 3 - done);
        for (again, first) in rest.iter().zip(&whole[done..]) {
            assert!(bytes(again) == bytes(first), "epoch {} differs when resumed after {done}", first.epoch);
            assert_eq!(again.metrics, first.metrics);
        }
    }
    let loss = |report: &EpochReport| {
        let points = report.metrics.iter().filter(|point| point.split == Split::Train && point.name == "loss");
        points.map(|point| point.value).next().unwrap()
    };
    assert!(loss(&whole[2]) < 0.8 * loss(&whole[0]), "{} after {}", loss(&whole[2]), loss(&whole[0]));
}

#[test]
fn what_flex_cannot_do_is_refused_with_the_setting_to_change() {
    let folder = tempfile::tempdir().unwrap();
    let refusal = |change: fn(&mut Train)| {
        let mut request = in_folder(folder.path(), "out", vec![epoch(1, Trainable::Head, true)]);
        change(&mut request);
        let error = train(&request).unwrap_err();
        assert!(matches!(error, engine::Error::Unfit(_)), "{error:?}");
        assert_eq!(error.cause(), FailureCause::User);
        error.to_string()
    };
    assert_eq!(
        refusal(|request| request.work.precision = Precision::Bf16),
        "the device flex has no bf16 training: set precision to fp32, or train with libtorch (--device cpu)"
    );
    assert_eq!(
        refusal(|request| request.work.memory = Memory::Low),
        "the device flex has no low-memory training: set memory to normal, or train with libtorch (--device cpu)"
    );
}

#[test]
fn the_environment_tells_flex_from_libtorch() {
    let environment = backend::open(DeviceName::Flex, 8).unwrap().environment;
    assert_eq!((environment.device.as_str(), environment.libtorch.as_str()), ("flex", "none"));
    assert_eq!(environment.threads, 1, "flex computes on the thread that trains");
}
