//! Weights and images that benchmarks are given.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use burn::tensor::{Device, Tensor, TensorData};
use ceteris_shared::architecture::{Arch, Part};
use safetensors::{Dtype, SafeTensors};

use crate::{
    backend::{self, Compute},
    model::Network,
    tensors::Contents,
};

/// Outputs of the networks that are measured.
pub const CLASSES: usize = 2;

/// DenseNet121 with the weights of `file`, trained from `first` on.
pub fn network(file: &Path, first: Part, compute: Compute, device: &Device) -> Result<Network> {
    backend::check(device, compute)?;
    let state = Contents::read(file)?.tensors;
    Ok(Network::new(&state, Arch::Densenet121, CLASSES, first, compute, device)?)
}

/// Images with their labels.
#[derive(Clone, Debug)]
pub struct Images {
    /// `[n, 3, height, width]`
    pub images: Tensor<4>,
    /// One for each.
    pub labels: Vec<u32>,
}

/// The first `count` images of `file`, in the float type of `compute`'s weights.
pub fn images(file: &Path, count: usize, compute: Compute, device: &Device) -> Result<Images> {
    let bytes = fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let found =
        SafeTensors::deserialize(&bytes).with_context(|| format!("{} is no safetensors file", file.display()))?;
    let (images, labels) = (found.tensor("images")?, found.tensor("labels")?);
    let (Dtype::F32, &[all, channels, height, width]) = (images.dtype(), images.shape()) else {
        bail!("`images` in {} are not fp32 with four dimensions", file.display());
    };
    if all < count || labels.dtype() != Dtype::I64 || labels.shape() != [all] {
        bail!("{} does not hold {count} images with int64 labels", file.display());
    }
    let values: Vec<f32> = images.data()[..count * channels * height * width * 4]
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    let labels = labels.data().chunks_exact(8).take(count).map(|bytes| u32::from(bytes[0])).collect();
    let images: Tensor<4> = Tensor::from_data(TensorData::new(values, [count, channels, height, width]), device);
    Ok(Images { images: in_float(images, compute), labels })
}

/// Images in the float type of `compute`'s weights.
pub fn in_float(images: Tensor<4>, compute: Compute) -> Tensor<4> {
    images.cast(compute.float.of_weights())
}
