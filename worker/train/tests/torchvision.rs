//! The same networks in PyTorch: torchvision's on the same weights and inputs, in inference mode.
//!
//! Needs a Python with torch, torchvision and safetensors: the one that CETERIS_REFERENCE_PYTHON names, else `python3`.
#![cfg(feature = "libtorch")]

mod common;
#[path = "common/reference.rs"]
mod reference;

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData, activation::softmax};
use ceteris_shared::{
    architecture::{Arch, Part},
    spec::Trainable,
};
use ceteris_train::{
    backend::{self, Compute, DeviceName, Float},
    model::Network,
    tensors::{Contents, HostTensor, StateDict},
};
use common::{epoch, epochs, request, small_dataset, train};
use reference::python;

const FP32: Compute = Compute::new(Float::Fp32);

fn ask(python: &str, what: &str, arch: Arch, folder: &Path) {
    reference::run(python, "reference.py", &[what.as_ref(), arch.name().as_ref(), folder.as_os_str()]);
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

fn logits_are_torchvisions(arch: Arch) {
    let Some(python) = python(&format!("logits of {}", arch.name())) else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    ask(&python, "make", arch, folder);
    let device = backend::open(DeviceName::Cpu, 1).unwrap().device;
    let weights = read(folder, "weights");
    let expected = &read(folder, "forward").0["logits"];
    // Where training begins only moves tensors from one buffer to the other.
    for (first, channels_last) in [(Part::Head, true), (Part::Block3, false), (Part::Stem, true)] {
        let compute = Compute { channels_last, ..FP32 };
        let network = Network::new(&weights, arch, 1000, first, compute, &device).unwrap();
        let off = difference(&HostTensor::of(network.logits(images(folder, &device))), expected);
        eprintln!("{} from {first:?} on: logits differ by {off:e}", arch.name());
        assert!(off < 1e-4, "{} from {first:?} on: logits differ by {off}", arch.name());
    }
}

#[test]
fn logits_of_densenet121_are_torchvisions() {
    logits_are_torchvisions(Arch::Densenet121);
}

#[test]
fn logits_of_densenet169_are_torchvisions() {
    logits_are_torchvisions(Arch::Densenet169);
}

#[test]
fn logits_of_densenet201_are_torchvisions() {
    logits_are_torchvisions(Arch::Densenet201);
}

#[test]
fn logits_of_resnet50_are_torchvisions() {
    logits_are_torchvisions(Arch::Resnet50);
}

#[test]
fn imported_weights_files_give_torchvisions_logits() {
    let Some(python) = python("imported_weights_files_give_torchvisions_logits") else { return };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    ask(&python, "make", Arch::Densenet121, folder);
    let device = backend::open(DeviceName::Cpu, 1).unwrap().device;
    let expected = &read(folder, "forward").0["logits"];
    for file in ["zip.pth", "legacy.pth", "old-names.pth", "weights.safetensors"] {
        let imported = folder.join("imported.safetensors");
        ceteris::weights_file::convert(&folder.join(file), &imported).unwrap();
        let state = Contents::read(&imported).unwrap().tensors;
        let network = Network::new(&state, Arch::Densenet121, 1000, Part::Head, FP32, &device).unwrap();
        let off = difference(&HostTensor::of(network.logits(images(folder, &device))), expected);
        eprintln!("{file}: logits differ by {off:e}");
        assert!(off < 1e-4, "{file}: logits differ by {off}");
    }
}

#[test]
fn a_checkpoint_loads_into_torchvision() {
    let Some(python) = python("a_checkpoint_loads_into_torchvision") else { return };
    for (arch, trainable) in [(Arch::Densenet121, Trainable::Denseblock4), (Arch::Resnet50, Trainable::Layer4)] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        ask(&python, "make", arch, folder);
        let data = small_dataset(&folder.join("data"));
        let mut request = request(&folder.join("out"), &data, vec![epoch(1, trainable, true)]);
        request.work.arch = arch;
        let (_, reports) = train(&request).unwrap();
        let report = epochs(&reports)[0];
        let read_part = |file| Contents::read(file).unwrap().tensors;
        let state = read_part(&report.frozen).join(read_part(&report.trained)).unwrap();
        let network_state = state.clone();
        Contents { tensors: state, step: None }.write(&folder.join("checkpoint.safetensors")).unwrap();
        ask(&python, "load", arch, folder);

        let device = backend::open(DeviceName::Cpu, 1).unwrap().device;
        let network = Network::new(&network_state, arch, 2, Part::Head, FP32, &device).unwrap();
        let got = HostTensor::of(softmax(network.logits(images(folder, &device)), 1));
        let off = difference(&got, &read(folder, "probabilities").0["probabilities"]);
        eprintln!("{}: probabilities differ by {off:e}", arch.name());
        assert!(off < 1e-4, "{}: probabilities differ by {off}", arch.name());
    }
}
