//! How a network's tensors are held and computed with.

use burn::tensor::{DType, Device, Tensor, TensorData};
use ceteris_shared::architecture::Entry;

use crate::tensors::{HostTensor, StateDict};

/// The float type of activations. Master weights are fp32, except with [`Float::Fp64`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Float {
    /// 64 bits, weights included: for comparing with a reference.
    Fp64,
    /// 32 bits.
    Fp32,
    /// 16 bits with fp32's range; normalisation's arithmetic, sums and the classifier stay in fp32.
    Bf16,
}

/// How a network is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compute {
    /// Float type of activations.
    pub float: Float,
    /// Whether an activation's channels lie next to each other in memory, and not its columns.
    pub channels_last: bool,
    /// Whether backward computes activations inside a unit again instead of finding them kept.
    pub low_memory: bool,
}

/// The shapes of some consecutive entries of a layout, sorted into parameters and BatchNorm statistics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shapes {
    /// For each entry, whether it is a parameter.
    pub is_parameter: Vec<bool>,
    /// Of the parameters, in their order.
    pub parameters: Vec<Vec<usize>>,
    /// Of the statistics, in their order.
    pub statistics: Vec<Vec<usize>>,
}

/// Consecutive entries of a layout on a device: one flat tensor of parameters and one of statistics, so that what is
/// done to all of them is one operation.
#[derive(Clone, Debug)]
pub struct Buffers {
    /// All parameters, one after the other.
    pub parameters: Tensor<1>,
    /// All running means and variances, one after the other.
    pub statistics: Tensor<1>,
    /// How the two are cut.
    pub shapes: Shapes,
}

impl Buffers {
    /// Puts the `entries` of a checked `state` on `device`.
    pub fn load(state: &StateDict, entries: &[Entry], float: Float, device: &Device) -> Self {
        let (mut parameters, mut statistics) = (Vec::new(), Vec::new());
        let mut shapes = Shapes { is_parameter: Vec::new(), parameters: Vec::new(), statistics: Vec::new() };
        for entry in entries {
            let (values, list) = if entry.is_parameter() {
                (&mut parameters, &mut shapes.parameters)
            } else {
                (&mut statistics, &mut shapes.statistics)
            };
            values.extend_from_slice(&state.0[&entry.name].values);
            list.push(entry.shape.clone());
            shapes.is_parameter.push(entry.is_parameter());
        }
        let flat = |values: Vec<f32>| {
            let count = values.len();
            let tensor = Tensor::<1>::from_data(TensorData::new(values, [count]), device);
            if float == Float::Fp64 { tensor.cast(DType::F64) } else { tensor }
        };
        Self { parameters: flat(parameters), statistics: flat(statistics), shapes }
    }

    /// A copy in memory, by the names of `entries`, which are those that it was loaded with.
    pub fn state(&self, entries: &[Entry]) -> StateDict {
        let (parameters, statistics) = (host(&self.parameters), host(&self.statistics));
        let (mut parameters, mut statistics) = (parameters.as_slice(), statistics.as_slice());
        let mut take = |entry: &Entry| {
            let source = if entry.is_parameter() { &mut parameters } else { &mut statistics };
            let (values, rest) = source.split_at(entry.shape.iter().product());
            *source = rest;
            HostTensor { shape: entry.shape.clone(), values: values.to_vec() }
        };
        StateDict(entries.iter().map(|entry| (entry.name.clone(), take(entry))).collect())
    }
}

/// A flat tensor's values, in fp32.
pub fn host(flat: &Tensor<1>) -> Vec<f32> {
    flat.clone().without_autodiff().cast(DType::F32).into_data().try_into_vec().expect("it was cast to fp32")
}
