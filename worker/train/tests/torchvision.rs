//! The same network in PyTorch: torchvision's densenet121 on the same weights and inputs.
//!
//! Needs a Python with torch, torchvision and safetensors: the one that CETERIS_REFERENCE_PYTHON names, else `python3`.

mod common;
#[path = "common/reference.rs"]
mod reference;

use std::path::Path;

use burn::{
    module::Module,
    optim::GradientsParams,
    tensor::{Device, Tensor, TensorData, activation::softmax},
};
use ceteris_shared::spec::{Optimizer, Trainable};
use ceteris_train::{
    adam::Adam,
    backend::{self, DeviceName},
    engine::cross_entropy,
    model::{DenseNet121, Mode, Part},
    tensors::{Contents, HostTensor, StateDict},
};
use common::{epoch, epochs, request, small_dataset, train};
use reference::python;

const LABELS: [u32; 4] = [3, 0, 999, 500];

fn ask(python: &str, what: &str, folder: &Path) {
    reference::run(python, "reference.py", &[what.as_ref(), folder.as_os_str()]);
}

fn read(folder: &Path, name: &str) -> StateDict {
    Contents::read(&folder.join(format!("{name}.safetensors"))).unwrap().tensors
}

fn images(folder: &Path, device: &Device) -> Tensor<4> {
    let HostTensor { shape, values } = read(folder, "forward").0.remove("images").unwrap();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// The largest difference of any two values.
fn difference(a: &HostTensor, b: &HostTensor) -> f32 {
    assert_eq!(a.shape, b.shape);
    a.values.iter().zip(&b.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn logits_statistics_and_adam_steps_are_torchvisions() {
    let Some(python) = python("logits_statistics_and_adam_steps_are_torchvisions") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    ask(&python, "make", folder);
    let device = backend::open(DeviceName::Cpu, 1).unwrap();
    let load = || DenseNet121::from_file(&folder.join("weights.safetensors"), 1000, &device).unwrap();

    let logits = HostTensor::of(load().forward(images(folder, &device)));
    let off = difference(&logits, &read(folder, "forward").0["logits"]);
    eprintln!("logits differ by {off:e}");
    assert!(off < 1e-4, "logits differ by {off}");

    let network = load().trained_from(Part::Block4);
    network.forward_training(images(folder, &device), Part::Block4);
    let (got, expected) = (network.state(), read(folder, "statistics"));
    for (name, statistic) in &expected.0 {
        let off = difference(&got.0[name], statistic);
        assert!(off < 1e-4, "{name} differs by {off}");
    }

    adam_steps(load().trained_from(Part::Block4), folder, &device);
}

#[test]
fn imported_weights_files_give_torchvisions_logits() {
    let Some(python) = python("imported_weights_files_give_torchvisions_logits") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    ask(&python, "make", folder);
    let device = backend::open(DeviceName::Cpu, 1).unwrap();
    let expected = &read(folder, "forward").0["logits"];
    for file in ["zip.pth", "legacy.pth", "old-names.pth", "weights.safetensors"] {
        let imported = folder.join("imported.safetensors");
        ceteris::weights_file::convert(&folder.join(file), &imported).unwrap();
        let network = DenseNet121::from_file(&imported, 1000, &device).unwrap();
        let off = difference(&HostTensor::of(network.forward(images(folder, &device))), expected);
        eprintln!("{file}: logits differ by {off:e}");
        assert!(off < 1e-4, "{file}: logits differ by {off}");
    }
}

/// Four steps on the last block with BatchNorm in inference mode: what single precision can compare.
fn adam_steps(mut network: DenseNet121, folder: &Path, device: &Device) {
    let mut expected = read(folder, "trained");
    let losses = expected.0.remove("losses").unwrap();
    let mut adam = Adam::new(Optimizer::default());
    for expected in losses.values {
        let below = network.forward_below(images(folder, device), Part::Block4).autodiff();
        let loss = cross_entropy(network.forward_from(below, Part::Block4, Mode::Inference), &LABELS);
        let value = loss.clone().into_scalar::<f32>();
        assert!((value - expected).abs() < 1e-4 * expected.abs().max(1.0), "{value} is not {expected}");
        let gradients = GradientsParams::from_grads(loss.backward(), &network);
        network = adam.step(1e-3, network, gradients);
    }
    let got = network.valid().state();
    let mut all = Vec::new();
    for (name, expected) in &expected.0 {
        all.extend(got.0[name].values.iter().zip(&expected.values).map(|(a, b)| (a - b).abs()));
    }
    // A gradient of almost zero may have either sign, and Adam then moves a full step of 1e-3 this way or that.
    let close = all.iter().filter(|off| **off < 1e-5).count() as f64 / all.len() as f64;
    let worst = all.iter().copied().fold(0.0, f32::max);
    eprintln!("weights after four steps: {close} within 1e-5, worst {worst:e}");
    assert!(close > 0.999 && worst < 8.1e-3, "{close} of the weights agree, the worst is off by {worst}");
}

#[test]
fn a_checkpoint_loads_into_torchvision() {
    let Some(python) = python("a_checkpoint_loads_into_torchvision") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    ask(&python, "make", folder);
    let data = small_dataset(&folder.join("data"));
    let (_, reports) =
        train(&request(&folder.join("out"), &data, vec![epoch(1, Trainable::Denseblock4, true)])).unwrap();
    let report = epochs(&reports)[0];
    let read_part = |file| Contents::read(file).unwrap().tensors;
    let state = read_part(&report.frozen).join(read_part(&report.trained)).unwrap();
    let file = folder.join("checkpoint.safetensors");
    Contents { tensors: state, step: None }.write(&file).unwrap();
    ask(&python, "load", folder);

    let device = backend::open(DeviceName::Cpu, 1).unwrap();
    let network = DenseNet121::from_file(&file, 2, &device).unwrap();
    let got = HostTensor::of(softmax(network.forward(images(folder, &device)), 1));
    let off = difference(&got, &read(folder, "probabilities").0["probabilities"]);
    eprintln!("probabilities differ by {off:e}");
    assert!(off < 1e-4, "probabilities differ by {off}");
}
