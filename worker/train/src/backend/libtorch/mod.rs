//! The networks on libtorch: forward passes on burn's tensors with libtorch's kernels, and the one differentiable
//! operation that trains them ([`region`]).

mod adam;
mod context;
mod memory;
mod norm_relu;
mod operations;
mod region;

use std::{ffi::c_void, mem::MaybeUninit, slice, sync::Arc};

use burn::{
    backend::LibTorch,
    tensor::{Device, Tensor},
};
use burn_tch::TchTensor;
use ceteris_shared::architecture::Part;

use crate::{
    backend::{Buffers, Compute, Error, Moved},
    model::{Mode, Unit},
};
pub(super) use adam::Rates;
pub(super) use context::Context;
pub(super) use memory::of_gpu as memory_of_gpu;
use operations::{Libtorch, Pass};
use region::{Program, Stage};

/// The version of the libtorch that was linked.
const VERSION: &str = env!("CETERIS_LIBTORCH_VERSION");

/// The GPU of that place, or the processor; libtorch's version, and the threads within an operation that it took.
pub(super) fn open(gpu: Option<usize>, threads: u32) -> Result<(Device, &'static str, u32), Error> {
    tch::set_num_threads(i32::try_from(threads.max(1)).unwrap_or(i32::MAX));
    if let Some(index) = gpu {
        let count = usize::try_from(tch::Cuda::device_count()).unwrap_or(0);
        if index >= count {
            return Err(Error::NoSuchGpu { index, count, libtorch: VERSION });
        }
    }
    Context { deterministic: true, tf32: false }.set().map_err(Error::Context)?;
    let device = gpu.map_or_else(Device::libtorch, Device::libtorch_cuda);
    Ok((device, VERSION, u32::try_from(tch::get_num_threads()).unwrap_or(1)))
}

/// Whether libtorch computes on `device`.
pub(super) fn is_libtorch(device: &Device) -> bool {
    Tensor::<1>::zeros([1], device).without_autodiff().try_into_primitive::<LibTorch>().is_ok()
}

/// Whether `device` is the processor, with libtorch.
pub(super) fn is_processor(device: &Device) -> bool {
    let probe = Tensor::<1>::zeros([1], device).without_autodiff().try_into_primitive::<LibTorch>();
    probe.is_ok_and(|probe| probe.tensor.device() == tch::Device::Cpu)
}

/// A flat tensor in the processor's memory with the `count` values that `fill` writes.
#[allow(unsafe_code)]
pub(super) fn filled<E>(
    count: usize,
    fill: impl FnOnce(&mut [MaybeUninit<f32>]) -> Result<(), E>,
) -> Result<Tensor<1>, E> {
    let tensor = tch::Tensor::empty([count as i64], (tch::Kind::Float, tch::Device::Cpu));
    if count > 0 {
        ask_for_large_pages(tensor.data_ptr(), count * size_of::<f32>());
        // SAFETY: a new tensor of so many fp32 values lies in one piece of memory, aligned by libtorch, which nobody
        // else knows yet; it may be anything, as the type says, and outlives the slice.
        fill(unsafe { slice::from_raw_parts_mut(tensor.data_ptr().cast(), count) })?;
    }
    Ok(Tensor::from_primitive::<LibTorch>(TchTensor::new(tensor)))
}

/// Asks for memory in large pages: the system gives memory out when it is first written, and page by page that takes
/// longer than to copy values there. Where it has none to give, nothing changes.
#[allow(unsafe_code)]
fn ask_for_large_pages(start: *mut c_void, bytes: usize) {
    #[cfg(target_os = "linux")]
    {
        let page = rustix::param::page_size();
        // The pages that belong to this memory alone.
        let before = start.addr().next_multiple_of(page) - start.addr();
        let length = bytes.saturating_sub(before) / page * page;
        if length > 0 {
            // SAFETY: the pages lie within memory that libtorch has just allocated, and the advice changes no byte.
            let advised =
                unsafe { rustix::mm::madvise(start.byte_add(before), length, rustix::mm::Advice::LinuxHugepage) };
            if let Err(error) = advised {
                tracing::debug!(%error, "no large pages");
            }
        }
    }
}

/// The activation after `units`, in inference mode, from `input` `[batch, channels, height, width]`. `buffers` hold the
/// tensors of exactly these units.
pub(super) fn infer<const D: usize>(
    units: &[Unit],
    buffers: &Buffers,
    compute: Compute,
    input: Tensor<4>,
) -> Tensor<D> {
    let _guard = tch::no_grad_guard();
    let o = Libtorch { compute, mode: Mode::Inference, pass: Pass::First };
    let tensors = merge(buffers, cut(&raw(&buffers.parameters), &buffers.shapes.parameters), {
        cut(&raw(&buffers.statistics), &buffers.shapes.statistics)
    });
    let start = units.first().map_or(0, |unit| unit.entries.start);
    let mut alive = vec![enter(&o, units, &raw(&input))];
    for unit in units {
        let inputs: Vec<&tch::Tensor> = alive.iter().collect();
        let own = &tensors[unit.entries.start - start..unit.entries.end - start];
        let output = unit.run(&o, own, &inputs);
        if !unit.joins {
            alive.clear();
        }
        alive.push(output);
    }
    let output = alive.pop().expect("there is at least the input");
    Tensor::from_primitive::<LibTorch>(TchTensor::new(output))
}

/// Logits of `units`, differentiable in `parameters` and, where it is tracked, in `input`. In training mode the running
/// statistics in `buffers` are updated in place.
pub(super) fn train(
    units: Vec<Unit>,
    buffers: &Buffers,
    parameters: Tensor<1>,
    compute: Compute,
    mode: Mode,
    input: Tensor<4>,
) -> Tensor<2> {
    let program = NetworkProgram::new(units, buffers, compute, mode);
    region::run(input, parameters, Arc::new(program))
}

/// Adam's direction and moments, see [`super::adam`]; the tensors as they came where it cannot be computed in place.
pub(super) fn adam(moments: [Tensor<1>; 2], gradient: Tensor<1>, rates: Rates) -> Moved {
    let [first, second] = moments.map(own);
    let gradient = own(gradient);
    let done = adam::direction(&first, &second, &gradient, rates);
    let [first, second, gradient] = [first, second, gradient].map(Tensor::from_primitive::<LibTorch>);
    Moved { moments: [first, second], gradient, done: done.is_some() }
}

fn own(tensor: Tensor<1>) -> TchTensor {
    tensor.try_into_primitive::<LibTorch>().expect("callers have asked whether this is libtorch's")
}

/// Puts values on a device with one copy.
pub(super) fn upload(values: &[f32], shape: [usize; 4], device: &Device) -> Tensor<4> {
    let target = raw(&Tensor::<1>::zeros([1], device)).device();
    let tensor = tch::Tensor::from_slice(values).view(signed(&shape).as_slice()).to_device(target);
    Tensor::from_primitive::<LibTorch>(TchTensor::new(tensor))
}

/// What the first of `units` reads. The classifier reads pooled features, which are in the weights' float type.
fn enter(o: &Libtorch, units: &[Unit], input: &tch::Tensor) -> tch::Tensor {
    match units.first() {
        Some(unit) if unit.part == Part::Head => input.shallow_clone(),
        _ => o.input(input),
    }
}

fn raw<const D: usize>(tensor: &Tensor<D>) -> tch::Tensor {
    let primitive = tensor.clone().try_into_primitive::<LibTorch>();
    primitive.expect("callers have asked whether this is libtorch's").tensor
}

fn cut(flat: &tch::Tensor, shapes: &[Vec<usize>]) -> Vec<tch::Tensor> {
    let shapes: Vec<Vec<i64>> = shapes.iter().map(|shape| signed(shape)).collect();
    region::cut(flat, &shapes)
}

fn signed(shape: &[usize]) -> Vec<i64> {
    shape.iter().map(|extent| *extent as i64).collect()
}

/// Parameters and statistics in the layout's order.
fn merge(buffers: &Buffers, parameters: Vec<tch::Tensor>, statistics: Vec<tch::Tensor>) -> Vec<tch::Tensor> {
    let (mut parameters, mut statistics) = (parameters.into_iter(), statistics.into_iter());
    let next = |is_parameter: &bool| if *is_parameter { parameters.next() } else { statistics.next() };
    buffers.shapes.is_parameter.iter().filter_map(next).collect()
}

/// The last part that is computed again where memory is short.
const LAST_REPLAYED: Part = Part::Block2;

/// The trained part of a network as a region's program.
#[derive(Debug)]
struct NetworkProgram {
    units: Vec<Unit>,
    stages: Vec<Stage>,
    shapes: Vec<Vec<i64>>,
    /// For each entry, whether it is a parameter.
    is_parameter: Vec<bool>,
    /// The running statistics, one after the other; burn's handle, because raw tensors are not shared between threads.
    statistics: TchTensor,
    statistics_shapes: Vec<Vec<i64>>,
    compute: Compute,
    mode: Mode,
}

impl NetworkProgram {
    fn new(units: Vec<Unit>, buffers: &Buffers, compute: Compute, mode: Mode) -> Self {
        let start = units.first().map_or(0, |unit| unit.entries.start);
        let before = |at: usize| buffers.shapes.is_parameter[..at - start].iter().filter(|is| **is).count();
        let stage =
            |unit: &Unit| Stage { parameters: before(unit.entries.start)..before(unit.entries.end), joins: unit.joins };
        Self {
            stages: units.iter().map(stage).collect(),
            shapes: buffers.shapes.parameters.iter().map(|shape| signed(shape)).collect(),
            is_parameter: buffers.shapes.is_parameter.clone(),
            statistics: TchTensor::new(raw(&buffers.statistics)),
            statistics_shapes: buffers.shapes.statistics.iter().map(|shape| signed(shape)).collect(),
            units,
            compute,
            mode,
        }
    }

    fn operations(&self, pass: Pass) -> Libtorch {
        Libtorch { compute: self.compute, mode: self.mode, pass }
    }
}

impl Program for NetworkProgram {
    fn shapes(&self) -> &[Vec<i64>] {
        &self.shapes
    }

    fn stages(&self) -> &[Stage] {
        &self.stages
    }

    fn replays(&self, stage: usize) -> bool {
        // Maps of a quarter of the size follow a quarter as large: what lies above is little to keep and much to compute.
        self.compute.low_memory && self.units[stage].part <= LAST_REPLAYED
    }

    fn input(&self, input: &tch::Tensor) -> tch::Tensor {
        enter(&self.operations(Pass::First), &self.units, input)
    }

    fn run(&self, stage: usize, inputs: &[&tch::Tensor], parameters: &[tch::Tensor], pass: Pass) -> tch::Tensor {
        let unit = &self.units[stage];
        let start = self.units[0].entries.start;
        let own = &self.is_parameter[unit.entries.start - start..unit.entries.end - start];
        let before = self.is_parameter[..unit.entries.start - start].iter().filter(|is| !**is).count();
        let count = own.iter().filter(|is| !**is).count();
        let skipped: i64 = self.statistics_shapes[..before].iter().map(|shape| shape.iter().product::<i64>()).sum();
        let shapes = &self.statistics_shapes[before..before + count];
        let length: i64 = shapes.iter().map(|shape| shape.iter().product::<i64>()).sum();
        let statistics = region::cut(&self.statistics.tensor.narrow(0, skipped, length), shapes);
        let (mut parameters, mut statistics) = (parameters.iter(), statistics.iter());
        let next = |is: &bool| if *is { parameters.next() } else { statistics.next() };
        let tensors: Vec<tch::Tensor> = own.iter().filter_map(next).map(tch::Tensor::shallow_clone).collect();
        unit.run(&self.operations(pass), &tensors, inputs)
    }
}
