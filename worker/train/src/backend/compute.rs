//! How a network's tensors are held and computed with.

use burn::tensor::{DType, Device, Tensor};
use ceteris_shared::architecture::Entry;

use crate::tensors::{self, Error, HostTensor, Source, StateDict};

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

impl Float {
    /// The float type of weights and statistics.
    pub fn of_weights(self) -> DType {
        if self == Self::Fp64 { DType::F64 } else { DType::F32 }
    }
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
    /// What makes the engine fast on libtorch.
    pub ways: Ways,
}

impl Compute {
    /// As training computes unless told otherwise.
    pub const fn new(float: Float) -> Self {
        Self { float, channels_last: true, low_memory: false, ways: Ways::ALL }
    }
}

/// Ways of the engine's own that libtorch's operations do not go; all of them, except where a benchmark shows what each
/// one brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ways {
    /// The network is one operation on libtorch's autograd, and not many of burn's on burn's autodiff.
    pub one_operation: bool,
    /// On the processor, normalisation, ReLU and the convolution after them are one pass, without concatenations.
    pub fused_norm: bool,
}

impl Ways {
    const ALL: Self = Self { one_operation: true, fused_norm: true };
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
    /// Puts the `entries` of a `source`, whose names and shapes are checked, on `device`.
    ///
    /// # Errors
    /// When a value is not finite.
    pub fn load(source: &dyn Source, entries: &[Entry], float: Float, device: &Device) -> Result<Self, Error> {
        let flat = |parameters: bool| {
            let of_kind = || entries.iter().filter(move |entry| entry.is_parameter() == parameters);
            let named = of_kind().map(|entry| (entry.name.clone(), entry.shape.as_slice()));
            let count = of_kind().map(|entry| entry.shape.iter().product::<usize>()).sum();
            let tensor = super::filled(count, device, |values| tensors::copy_all(source, named, values))?;
            Ok::<_, Error>(tensor.cast(float.of_weights()))
        };
        let shapes = |parameters: bool| {
            let of_kind = entries.iter().filter(move |entry| entry.is_parameter() == parameters);
            of_kind.map(|entry| entry.shape.clone()).collect()
        };
        Ok(Self {
            parameters: flat(true)?,
            statistics: flat(false)?,
            shapes: Shapes {
                is_parameter: entries.iter().map(Entry::is_parameter).collect(),
                parameters: shapes(true),
                statistics: shapes(false),
            },
        })
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
