//! The one place that knows which tensor library computes: devices, threads, and what results depend on.
//!
//! Networks are written once (`model`) on the operations that a backend gives them. On libtorch they run with its own
//! kernels and its own autograd inside one operation of burn's (`libtorch`); on any other backend of burn's, with burn's
//! tensors and burn's autodiff (`portable`). burn's libtorch devices are deprecated upstream in favour of its own kernels;
//! a move to another of its backends is a change of this folder.

// Deprecated upstream as a whole; the module is where a move to another backend would happen.
pub mod allocator;
mod compute;
#[allow(deprecated)]
mod libtorch;
mod portable;

use std::{fmt, mem::MaybeUninit, str::FromStr};

use burn::tensor::{Device, Tensor};
use ceteris_shared::{checkpoint::Environment, lineage};

pub use compute::{Buffers, Compute, Float, Shapes, host};

use crate::model::{Mode, Unit};

/// Where to compute, as written on the command line: `cpu` or `cuda:N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceName {
    /// The processor.
    #[default]
    Cpu,
    /// The n-th NVIDIA GPU that this process sees.
    Cuda(usize),
}

/// Why a device cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("{0:?} is not a device: write `cpu`, or `cuda:0` for the first GPU")]
    UnknownDevice(String),
    #[error(
        "cuda:{index} was asked for, but libtorch {libtorch} sees {count} GPUs: use --device cpu, or build with a libtorch for CUDA and check the driver"
    )]
    NoSuchGpu { index: usize, count: usize, libtorch: &'static str },
    #[error("libtorch cannot be told how to compute: {0}")]
    Context(String),
}

/// The version of the libtorch that was linked.
pub const LIBTORCH: &str = env!("CETERIS_LIBTORCH_VERSION");

impl FromStr for DeviceName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            Some(("cuda", index)) => index.parse().map(Self::Cuda).map_err(|_| Error::UnknownDevice(text.to_owned())),
            _ => Err(Error::UnknownDevice(text.to_owned())),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// A device that this thread computes on, and what results computed there depend on.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The device, without autodiff.
    pub device: Device,
    /// What its results depend on.
    pub environment: Environment,
}

/// Opens a device for this thread, with `threads` threads within an operation.
///
/// OpenMP keeps the thread count per calling thread: call this on the thread that will train, and on no other.
///
/// # Errors
/// When the device is not seen, or cannot be told how to compute.
///
/// # Panics
/// When it is seen and does not compute.
pub fn open(name: DeviceName, threads: u32) -> Result<Opened, Error> {
    tch::set_num_threads(i32::try_from(threads.max(1)).unwrap_or(i32::MAX));
    if let DeviceName::Cuda(index) = name {
        let count = usize::try_from(tch::Cuda::device_count()).unwrap_or(0);
        if index >= count {
            return Err(Error::NoSuchGpu { index, count, libtorch: LIBTORCH });
        }
    }
    configure(true, false)?;
    let device = device(name);
    // A device that is there but does not answer should say so now and not in the middle of a first epoch.
    Tensor::<1>::ones([1], &device).into_data();
    Ok(Opened { device, environment: environment(name) })
}

/// Tells a GPU how to compute: with kernels that give the same bits every time, where there are any, and whether fp32
/// products may be made of 10-bit mantissas.
///
/// # Errors
/// When libtorch refuses.
pub fn configure(deterministic: bool, tf32: bool) -> Result<(), Error> {
    libtorch::Context { deterministic, tf32 }.set().map_err(Error::Context)
}

/// The device of that name, whether or not it is there.
#[allow(deprecated)]
pub fn device(name: DeviceName) -> Device {
    match name {
        DeviceName::Cpu => Device::libtorch(),
        DeviceName::Cuda(index) => Device::libtorch_cuda(index),
    }
}

/// Puts `values`, in row-major order, on `device`.
pub(crate) fn upload(values: &[f32], shape: [usize; 4], device: &Device) -> Tensor<4> {
    if libtorch::is_libtorch(device) {
        libtorch::upload(values, shape, device)
    } else {
        Tensor::from_data(burn::tensor::TensorData::new(values.to_vec(), shape), device)
    }
}

/// The maps after `units`, in inference mode, from `input` `[batch, channels, height, width]`. `buffers` hold the
/// tensors of exactly these units.
pub(crate) fn infer(units: &[Unit], buffers: &Buffers, compute: Compute, input: Tensor<4>) -> Tensor<4> {
    if libtorch::is_libtorch(&input.device()) {
        libtorch::infer(units, buffers, compute, input)
    } else {
        portable::infer(units, buffers, input)
    }
}

/// The logits after `units`, which end with the classifier, in inference mode.
pub(crate) fn classify(units: &[Unit], buffers: &Buffers, compute: Compute, input: Tensor<4>) -> Tensor<2> {
    if libtorch::is_libtorch(&input.device()) {
        libtorch::infer(units, buffers, compute, input)
    } else {
        portable::classify(units, buffers, input)
    }
}

/// A flat tensor on `device` with the `count` values that `fill` writes, in memory of its own: all of them, unless it
/// fails.
pub(crate) fn filled<E>(
    count: usize,
    device: &Device,
    fill: impl FnOnce(&mut [MaybeUninit<f32>]) -> Result<(), E>,
) -> Result<Tensor<1>, E> {
    if libtorch::is_processor(device) { libtorch::filled(count, fill) } else { portable::filled(count, device, fill) }
}

/// Logits of `units`, which end with the classifier, differentiable in `parameters`. In training mode the statistics in
/// `buffers` are updated.
pub(crate) fn train(
    units: Vec<Unit>,
    buffers: &mut Buffers,
    parameters: Tensor<1>,
    compute: Compute,
    mode: Mode,
    input: Tensor<4>,
) -> Tensor<2> {
    if libtorch::is_libtorch(&input.device()) {
        return libtorch::train(units, buffers, parameters, compute, mode, input);
    }
    let (logits, statistics) = portable::train(&units, buffers, parameters, mode, input);
    buffers.statistics = statistics;
    logits
}

/// What results computed by this thread on `device` depend on.
fn environment(device: DeviceName) -> Environment {
    Environment {
        engine: lineage::ENGINE.to_owned(),
        libtorch: LIBTORCH.to_owned(),
        device: match device {
            DeviceName::Cpu => "cpu".to_owned(),
            DeviceName::Cuda(index) => gpu_model(index).unwrap_or_else(|| "cuda".to_owned()),
        },
        instructions: instructions(std::env::var("ATEN_CPU_CAPABILITY").ok().as_deref()).to_owned(),
        threads: u32::try_from(tch::get_num_threads()).unwrap_or(1),
        determinism: "deterministic".to_owned(),
    }
}

/// The instruction set that libtorch's own kernels are dispatched to, by its rule (`aten/src/ATen/native/DispatchStub.cpp`);
/// `wish` is its environment variable ATEN_CPU_CAPABILITY.
fn instructions(wish: Option<&str>) -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let avx512 = avx2
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq");
        match wish {
            Some("default") => "DEFAULT",
            Some("avx2") => "AVX2",
            Some("avx512") => "AVX512",
            _ if avx512 => "AVX512",
            _ if avx2 => "AVX2",
            _ => "DEFAULT",
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = wish;
        "DEFAULT"
    }
}

/// The model name that the NVIDIA driver tells, where it counts GPUs as this process does.
fn gpu_model(index: usize) -> Option<String> {
    if std::env::var_os("CUDA_VISIBLE_DEVICES").is_some() {
        return None;
    }
    let mut folders: Vec<_> =
        std::fs::read_dir("/proc/driver/nvidia/gpus").ok()?.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    let text = std::fs::read_to_string(folders.get(index)?.join("information")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Model:")).map(|model| model.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for name in [DeviceName::Cpu, DeviceName::Cuda(0), DeviceName::Cuda(11)] {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        for text in ["", "gpu", "cuda", "cuda:", "cuda:-1", "cpu:0"] {
            assert_eq!(text.parse::<DeviceName>(), Err(Error::UnknownDevice(text.to_owned())));
        }
    }

    #[test]
    fn the_environment_tells_the_threads_that_were_asked_for() {
        let opened = open(DeviceName::Cpu, 1).expect("the processor is always there");
        assert_eq!(opened.environment.threads, 1);
    }

    #[test]
    fn a_wish_decides_the_instruction_set() {
        if cfg!(target_arch = "x86_64") {
            assert_eq!(instructions(Some("default")), "DEFAULT");
            assert_eq!(instructions(Some("avx2")), "AVX2");
        }
    }
}
