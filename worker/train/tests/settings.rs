//! What the settings of a run do to training, and what they leave alone.

mod common;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use burn::tensor::{DType, Tensor, TensorData};
use ceteris_shared::{
    architecture::{Arch, Part},
    dataset::Split,
    plan::{EpochWork, Work},
    predictions::Predictions,
    spec::{
        Memory, Precision, Trainable,
        optimization::{ClassWeighting, ClassWeights, Optimization},
    },
    trainer::{DatasetFiles, EpochReport, FailureCause, Report},
};
use ceteris_train::{
    backend::{self, Compute, DeviceName, Float},
    data::Dataset,
    engine::{Meter, Step, predict},
    loss::{CrossEntropy, Targets},
    model::{Network, random},
    tensors::{Contents, StateDict},
};
use common::{bytes, dataset, epoch, epochs, request, small_dataset, train};

const ARCH: Arch = Arch::Densenet121;

/// Runs on one small data set.
struct Bench {
    folder: tempfile::TempDir,
    data: DatasetFiles,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = small_dataset(&folder.path().join("data"));
        Self { folder, data }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The epochs of a run whose work `change` changes.
    fn run(&self, name: &str, stage: Vec<EpochWork>, change: impl FnOnce(&mut Work)) -> Vec<EpochReport> {
        let mut request = request(&self.path(name), &self.data, stage);
        change(&mut request.work);
        let (_, reports) = train(&request).unwrap();
        let epoch = |report| if let Report::Epoch(epoch) = report { Some(*epoch) } else { None };
        reports.into_iter().filter_map(epoch).collect()
    }
}

fn stage(trainable: Trainable, count: u32) -> Vec<EpochWork> {
    (1..=count).map(|number| epoch(number, trainable, number == 1)).collect()
}

fn losses(report: &EpochReport, split: Split, name: &str) -> Vec<f64> {
    let of = report.metrics.iter().filter(|point| point.split == split && point.name == name);
    of.map(|point| point.value).collect()
}

fn tensors(file: &Path) -> StateDict {
    Contents::read(file).unwrap().tensors
}

/// ‖got − expected‖ / ‖expected‖.
fn relative(got: &[f64], expected: &[f64]) -> f64 {
    let norm = |values: Vec<f64>| values.into_iter().map(|value| value * value).sum::<f64>().sqrt();
    norm(got.iter().zip(expected).map(|(a, b)| a - b).collect()) / norm(expected.to_vec())
}

#[test]
fn parts_of_a_batch_add_up_to_its_gradient_and_loss() {
    const CLASSES: usize = 3;
    const LABELS: [u32; 7] = [0, 2, 1, 1, 0, 2, 2];
    let device = backend::open(DeviceName::default(), 1).unwrap().device;
    let state = random(ARCH, 3, CLASSES);
    let settings = Optimization {
        label_smoothing: 0.1,
        class_weights: ClassWeights::Listed(vec![0.5, 2.0, 1.25]),
        ..Optimization::default()
    };
    let loss = CrossEntropy::new(&settings, &[1; CLASSES]);
    let pooled: Vec<f32> = (0..LABELS.len() * ARCH.features()).map(|at| ((at * 37 % 101) as f32) / 50.0).collect();
    let pooled = TensorData::new(pooled, [LABELS.len(), ARCH.features(), 1, 1]);
    for (float, bound) in [(Float::Fp64, 1e-13), (Float::Fp32, 1e-6)] {
        let compute = Compute::new(float);
        let gradient = |accumulate| {
            let mut network = Network::new(&state, ARCH, CLASSES, Part::Head, compute, &device).unwrap();
            let input: Tensor<4> = Tensor::from_data(pooled.clone(), &device);
            let input = if float == Float::Fp64 { input.cast(DType::F64) } else { input };
            let step = Step { loss: &loss, accumulate, lr: 0.0 };
            let (value, gradient) = step.gradient(&mut network, input, &Targets::new(&LABELS)).unwrap();
            (value, gradient.into_data().convert::<f64>().try_into_vec::<f64>().unwrap())
        };
        let (whole_value, whole) = gradient(1);
        for accumulate in [2, 3, 7] {
            let (value, parts) = gradient(accumulate);
            assert!((value - whole_value).abs() <= bound * whole_value, "{float:?} in {accumulate}: {value}");
            let off = relative(&parts, &whole);
            assert!(off <= bound, "{float:?} in {accumulate}: the gradient differs by {off:e}");
        }
    }
}

#[test]
fn an_accumulated_run_has_the_losses_of_a_whole_one_where_nothing_is_normalised() {
    let bench = Bench::new();
    let whole = bench.run("whole", stage(Trainable::Head, 2), |_| {});
    let parts = bench.run("parts", stage(Trainable::Head, 2), |work| work.optimization.accumulate = 2);
    for (whole, parts) in whole.iter().zip(&parts) {
        let (expected, got) = (losses(whole, Split::Train, "step_loss"), losses(parts, Split::Train, "step_loss"));
        assert_eq!(got.len(), 3, "as many steps");
        assert!(relative(&got, &expected) < 1e-5, "{got:?} are not {expected:?}");
    }
}

#[test]
fn an_average_predicts_and_moves_nothing() {
    let bench = Bench::new();
    let plain = bench.run("plain", stage(Trainable::Denseblock4, 2), |_| {});
    let averaged =
        bench.run("averaged", stage(Trainable::Denseblock4, 2), |work| work.optimization.average = Some(0.5));
    let data = Dataset::open(&bench.data).unwrap();
    let device = backend::open(DeviceName::default(), 1).unwrap().device;
    let compute = Compute::new(Float::Fp32);
    for (plain, averaged) in plain.iter().zip(&averaged) {
        let (one, other) = (bytes(plain), bytes(averaged));
        assert!(one["trained.safetensors"] == other["trained.safetensors"], "the trajectory is the same");
        assert!(one["predictions-val.safetensors"] != other["predictions-val.safetensors"]);

        // The predictions are those of the averages that the optimizer's file holds.
        let mut state = tensors(&averaged.frozen).join(tensors(&averaged.trained)).unwrap();
        let averages = tensors(&averaged.optimizer).0.into_iter();
        let averages: BTreeMap<_, _> =
            averages.filter_map(|(name, tensor)| Some((name.strip_suffix(".average")?.to_owned(), tensor))).collect();
        let parameters = ARCH.layout(2).into_iter().filter(|e| e.part >= Part::Block4 && e.is_parameter()).count();
        assert_eq!(averages.len(), parameters);
        state.0.extend(averages);
        let network = Network::new(&state, ARCH, 2, Part::Block4, compute, &device).unwrap();
        let expected =
            predict(&network, &data, &data.split(Split::Val), None, &device, &Meter::default(), || true).unwrap();
        let got = Predictions::from_bytes(&other["predictions-val.safetensors"]).unwrap();
        assert_eq!(got, expected);
    }
}

#[test]
fn class_weights_and_smoothing_change_the_loss() {
    let bench = Bench::new();
    let run = |name: &str, change: &dyn Fn(&mut Optimization)| {
        let mut epochs = bench.run(name, stage(Trainable::Head, 1), |work| change(&mut work.optimization));
        epochs.pop().unwrap()
    };
    let plain = run("plain", &|_| {});
    // As many samples of one class as of the other.
    let balanced = run("balanced", &|o| o.class_weights = ClassWeights::Named(ClassWeighting::Balanced));
    let even = run("even", &|o| o.class_weights = ClassWeights::Listed(vec![1.0, 1.0]));
    assert!(bytes(&balanced) == bytes(&plain) && bytes(&even) == bytes(&plain));
    let weighted = run("weighted", &|o| o.class_weights = ClassWeights::Listed(vec![4.0, 0.5]));
    let smoothed = run("smoothed", &|o| o.label_smoothing = 0.2);
    for other in [&weighted, &smoothed] {
        assert!(bytes(other)["trained.safetensors"] != bytes(&plain)["trained.safetensors"]);
        assert!(losses(other, Split::Train, "step_loss")[0] != losses(&plain, Split::Train, "step_loss")[0]);
    }

    let mut unfit = request(&bench.path("unfit"), &bench.data, stage(Trainable::Head, 1));
    unfit.work.optimization.class_weights = ClassWeights::Listed(vec![1.0, 1.0, 1.0]);
    let error = train(&unfit).unwrap_err();
    assert_eq!(error.cause(), FailureCause::User);
    assert_eq!(error.to_string(), "class_weights lists 3 numbers, and the data set has 2 classes: NORMAL, PNEUMONIA");
}

#[test]
fn balanced_weights_are_those_of_the_training_split() {
    let bench = Bench::new();
    // Two of each class, and the first class's are taken away from the training split by their weight.
    let run = |name: &str, weights: ClassWeights| {
        let mut request = request(&bench.path(name), &bench.data, stage(Trainable::Head, 1));
        request.dataset = uneven(&bench.path("uneven"));
        request.work.optimization.class_weights = weights;
        bytes(epochs(&train(&request).unwrap().1)[0])
    };
    let balanced = run("balanced", ClassWeights::Named(ClassWeighting::Balanced));
    // 8 samples, 2 of class 0 and 6 of class 1.
    let listed = run("listed", ClassWeights::Listed(vec![8.0 / (2.0 * 2.0), 8.0 / (2.0 * 6.0)]));
    let none = run("none", ClassWeights::default());
    assert!(balanced == listed && balanced["trained.safetensors"] != none["trained.safetensors"]);
}

/// Two training samples of the first class and six of the second.
fn uneven(folder: &Path) -> DatasetFiles {
    let files = dataset(folder, [(Split::Train, 4), (Split::Val, 2), (Split::Test, 0)]);
    let bytes = std::fs::read(&files.manifest).unwrap();
    let mut manifest = ceteris_shared::dataset::Manifest::from_bytes(&bytes).unwrap();
    for sample in &mut manifest.samples[2..4] {
        // Sorted by class, then file: a name before those of class 1.
        sample.class = 1;
        sample.file = sample.file.replace("train/0/", "train/0-moved/");
    }
    std::fs::write(&files.manifest, manifest.to_bytes()).unwrap();
    files
}

#[test]
fn low_memory_trains_alike() {
    if !cfg!(feature = "libtorch") {
        return eprintln!("skipped: low_memory_trains_alike needs libtorch");
    }
    let bench = Bench::new();
    let normal = bench.run("normal", stage(Trainable::All, 1), |_| {});
    let low = bench.run("low", stage(Trainable::All, 1), |work| work.memory = Memory::Low);
    let [normal, low] = [&normal, &low].map(|epochs| losses(&epochs[0], Split::Train, "step_loss"));
    assert_eq!(low.len(), 3);
    assert!(relative(&low, &normal) < 1e-4, "{low:?} are not {normal:?}");
}

#[test]
fn bf16_learns_and_keeps_its_weights_in_single_precision() {
    if !cfg!(feature = "libtorch") {
        return eprintln!("skipped: bf16_learns_and_keeps_its_weights_in_single_precision needs libtorch");
    }
    let bench = Bench::new();
    for (name, trainable) in [("head", Trainable::Head), ("block", Trainable::Denseblock4), ("all", Trainable::All)] {
        let epochs = bench.run(name, stage(trainable, 4), |work| work.precision = Precision::Bf16);
        let losses: Vec<f64> = epochs.iter().flat_map(|epoch| losses(epoch, Split::Train, "loss")).collect();
        assert!(losses[3] < 0.8 * losses[0], "{name}: {losses:?}");
        let trained = tensors(&epochs[3].trained);
        let rounded = |value: &f32| value.to_bits() & 0xffff == 0;
        assert!(trained.0.values().any(|tensor| !tensor.values.iter().all(rounded)), "{name}: weights are not rounded");
    }
}
