//! The one place that knows which tensor library computes: devices, threads, and what results depend on.
//!
//! Networks are written once (`model`) on the operations that a backend gives them. On libtorch they run with its own
//! kernels and its own autograd inside one operation of burn's (`libtorch`); on any other backend of burn's, with burn's
//! tensors and burn's autodiff (`portable`). burn's libtorch devices are deprecated upstream in favour of its own kernels;
//! a move to another of its backends is a change of this folder. Either is a feature of Cargo; a build has one at least.

pub mod allocator;
mod compute;
mod device;
mod environment;
// Deprecated upstream as a whole; the module is where a move to another backend would happen.
#[cfg(feature = "libtorch")]
#[allow(deprecated)]
mod libtorch;
mod portable;

use std::mem::MaybeUninit;

use burn::tensor::{Device, Tensor};
use ceteris_shared::checkpoint::Environment;

pub use compute::{Buffers, Compute, Float, Shapes, Ways, host};
pub use device::{DeviceName, Error};

use crate::model::{Mode, Unit};
#[cfg(feature = "libtorch")]
use libtorch::is_libtorch;

#[cfg(not(any(feature = "libtorch", feature = "flex")))]
compile_error!("the trainer needs something to compute with: enable the feature `libtorch`, `flex`, or both");

/// A device that this thread computes on, and what results computed there depend on.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The device, without autodiff.
    pub device: Device,
    /// What its results depend on.
    pub environment: Environment,
    /// Bytes of the device's own memory; none where it shares the machine's.
    pub memory_bytes: Option<u64>,
}

/// Opens a device for this thread, with `threads` threads within an operation; flex computes on one, whatever is said.
///
/// OpenMP keeps the thread count per calling thread: call this on the thread that will train, and on no other.
///
/// # Errors
/// When the device is not seen or not in this build, or cannot be told how to compute.
///
/// # Panics
/// When it is seen and does not compute.
pub fn open(name: DeviceName, threads: u32) -> Result<Opened, Error> {
    let opened = match name {
        DeviceName::Auto => open_best(threads),
        DeviceName::Flex => open_flex(),
        DeviceName::Cpu => open_libtorch(None, threads),
        DeviceName::Cuda(index) => open_libtorch(Some(index), threads),
    }?;
    // A device that is there but does not answer should say so now and not in the middle of a first epoch.
    Tensor::<1>::ones([1], &opened.device).into_data();
    Ok(opened)
}

/// The first GPU where libtorch sees one, else the processor.
fn open_best(threads: u32) -> Result<Opened, Error> {
    match open(DeviceName::Cuda(0), threads) {
        Err(Error::NoSuchGpu { .. } | Error::NoLibtorch { .. }) => open(DeviceName::default(), threads),
        opened => opened,
    }
}

#[cfg(feature = "libtorch")]
fn open_libtorch(gpu: Option<usize>, threads: u32) -> Result<Opened, Error> {
    let (device, version, threads) = libtorch::open(gpu, threads)?;
    let memory_bytes = gpu.and_then(libtorch::memory_of_gpu);
    Ok(Opened { device, environment: environment::of_libtorch(version, gpu, threads), memory_bytes })
}

#[cfg(not(feature = "libtorch"))]
fn open_libtorch(gpu: Option<usize>, _threads: u32) -> Result<Opened, Error> {
    Err(Error::NoLibtorch { device: gpu.map_or(DeviceName::Cpu, DeviceName::Cuda) })
}

#[cfg(feature = "flex")]
fn open_flex() -> Result<Opened, Error> {
    Ok(Opened { device: Device::flex(), environment: environment::of_flex(), memory_bytes: None })
}

#[cfg(not(feature = "flex"))]
fn open_flex() -> Result<Opened, Error> {
    Err(Error::NoFlex)
}

/// Tells a GPU how to compute: with kernels that give the same bits every time, where there are any, and whether fp32
/// products may be made of 10-bit mantissas. Without libtorch there is no GPU to tell.
///
/// # Errors
/// When libtorch refuses.
pub fn configure(deterministic: bool, tf32: bool) -> Result<(), Error> {
    #[cfg(feature = "libtorch")]
    libtorch::Context { deterministic, tf32 }.set().map_err(Error::Context)?;
    #[cfg(not(feature = "libtorch"))]
    let _ = (deterministic, tf32);
    Ok(())
}

/// Refuses what `device` cannot do: other backends than libtorch compute in the float type of the weights, and keep every
/// activation for backward.
///
/// # Errors
/// [`Error::Unsupported`], with the setting to change.
pub fn check(device: &Device, compute: Compute) -> Result<(), Error> {
    let refuse = |lack, way_out| Err(Error::Unsupported { lack, way_out });
    match compute {
        _ if is_libtorch(device) => Ok(()),
        Compute { float: Float::Bf16, .. } => refuse("has no bf16 training", "set precision to fp32"),
        Compute { low_memory: true, .. } => refuse("has no low-memory training", "set memory to normal"),
        _ => Ok(()),
    }
}

/// Whether libtorch computes on `device`.
#[cfg(not(feature = "libtorch"))]
fn is_libtorch(_device: &Device) -> bool {
    false
}

/// Puts `values`, in row-major order, on `device`.
pub(crate) fn upload(values: &[f32], shape: [usize; 4], device: &Device) -> Tensor<4> {
    #[cfg(feature = "libtorch")]
    if is_libtorch(device) {
        return libtorch::upload(values, shape, device);
    }
    Tensor::from_data(burn::tensor::TensorData::new(values.to_vec(), shape), device)
}

/// The maps after `units`, in inference mode, from `input` `[batch, channels, height, width]`. `buffers` hold the
/// tensors of exactly these units.
pub(crate) fn infer(units: &[Unit], buffers: &Buffers, compute: Compute, input: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "libtorch")]
    if compute.ways.one_operation && is_libtorch(&input.device()) {
        return libtorch::infer(units, buffers, compute, input);
    }
    portable::infer(units, buffers, compute, input)
}

/// The logits after `units`, which end with the classifier, in inference mode.
pub(crate) fn classify(units: &[Unit], buffers: &Buffers, compute: Compute, input: Tensor<4>) -> Tensor<2> {
    #[cfg(feature = "libtorch")]
    if compute.ways.one_operation && is_libtorch(&input.device()) {
        return libtorch::infer(units, buffers, compute, input);
    }
    portable::classify(units, buffers, compute, input)
}

/// A flat tensor on `device` with the `count` values that `fill` writes, in memory of its own: all of them, unless it
/// fails.
pub(crate) fn filled<E>(
    count: usize,
    device: &Device,
    fill: impl FnOnce(&mut [MaybeUninit<f32>]) -> Result<(), E>,
) -> Result<Tensor<1>, E> {
    #[cfg(feature = "libtorch")]
    if libtorch::is_processor(device) {
        return libtorch::filled(count, fill);
    }
    portable::filled(count, device, fill)
}

/// What came of [`adam`].
#[derive(Debug)]
pub(crate) struct Moved {
    /// Both moments.
    pub moments: [Tensor<1>; 2],
    /// The gradient, or, if it is done, what is taken off the parameters.
    pub gradient: Tensor<1>,
    /// Whether it was done.
    pub done: bool,
}

/// One step of Adam's moments, and in place of the gradient what is taken off the parameters once multiplied by the step
/// size: `moment1 / (√moment2 / correction + epsilon)`, all in one pass. Nothing is done where there is no such pass: on
/// other devices, or where memory has other owners.
pub(crate) fn adam(
    moments: [Tensor<1>; 2],
    gradient: Tensor<1>,
    betas: [f64; 2],
    epsilon: f64,
    correction: f64,
) -> Moved {
    #[cfg(feature = "libtorch")]
    if is_libtorch(&gradient.device()) {
        return libtorch::adam(moments, gradient, libtorch::Rates { betas, epsilon, correction });
    }
    let _ = (betas, epsilon, correction);
    Moved { moments, gradient, done: false }
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
    #[cfg(feature = "libtorch")]
    if compute.ways.one_operation && is_libtorch(&input.device()) {
        return libtorch::train(units, buffers, parameters, compute, mode, input);
    }
    let (logits, statistics) = portable::train(&units, buffers, parameters, compute, mode, input);
    buffers.statistics = statistics;
    logits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_tells_the_threads_that_compute() {
        let opened = open(DeviceName::default(), 1).expect("the processor is always there");
        assert_eq!(opened.environment.threads, 1);
    }

    #[test]
    fn auto_is_a_device_of_this_build() {
        let best = open(DeviceName::Auto, 1).expect("the processor is always there").environment;
        let default = open(DeviceName::default(), 1).expect("the processor is always there").environment;
        // Where there is a GPU, it is the best.
        if open(DeviceName::Cuda(0), 1).is_err() {
            assert_eq!(best, default);
        } else {
            assert_ne!(best, default);
        }
    }

    #[test]
    #[cfg(not(all(feature = "libtorch", feature = "flex")))]
    fn what_was_left_out_is_named_with_what_there_is() {
        if cfg!(feature = "flex") {
            for device in [DeviceName::Cpu, DeviceName::Cuda(1)] {
                assert_eq!(open(device, 1).unwrap_err(), Error::NoLibtorch { device });
            }
        } else {
            assert_eq!(open(DeviceName::Flex, 1).unwrap_err(), Error::NoFlex);
        }
    }
}
