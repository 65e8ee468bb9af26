//! The networks' operations on burn's tensors, for every backend that burn has: differentiated by burn's own autodiff.
//!
//! Correct and without special kernels: activations have the float type of the weights, and lie and are kept as burn has
//! them. A batch normalisation in training mode writes down the new running statistics in
//! the order of the layout; who trains puts them in the place of the old ones.

use std::{cell::RefCell, mem::MaybeUninit};

use burn::tensor::{
    Device, Tensor, TensorData,
    activation::relu,
    module::{adaptive_avg_pool2d, avg_pool2d, batch_norm_train, conv2d, linear, max_pool2d},
    ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions},
};

use crate::{
    backend::{Buffers, Compute},
    model::{EPSILON, MOMENTUM, Mode, Norm, Operations, Unit},
};

/// A tensor of one of the ranks that networks have.
#[derive(Clone, Debug)]
enum Value {
    Vector(Tensor<1>),
    Matrix(Tensor<2>),
    Maps(Tensor<4>),
}

impl Value {
    fn vector(&self) -> Tensor<1> {
        match self {
            Self::Vector(tensor) => tensor.clone(),
            other => panic!("{other:?} is not a vector"),
        }
    }

    fn matrix(&self) -> Tensor<2> {
        match self {
            Self::Matrix(tensor) => tensor.clone(),
            other => panic!("{other:?} is not a matrix"),
        }
    }

    fn maps(&self) -> Tensor<4> {
        match self {
            Self::Maps(tensor) => tensor.clone(),
            other => panic!("{other:?} are not maps"),
        }
    }
}

#[derive(Debug)]
struct Portable {
    mode: Mode,
    /// New running means and variances, in the layout's order.
    statistics: RefCell<Vec<Tensor<1>>>,
}

impl Operations for Portable {
    type Tensor = Value;

    fn convolution(&self, input: &Value, weight: &Value, stride: usize, padding: usize) -> Value {
        let options = ConvOptions::new([stride, stride], [padding, padding], [1, 1], 1);
        Value::Maps(conv2d(input.maps(), weight.maps(), None, options))
    }

    fn norm(&self, input: &Value, norm: Norm<'_, Value>) -> Value {
        let input = input.maps();
        let (mean, variance) = (norm.mean.vector(), norm.variance.vector());
        if self.mode == Mode::Inference {
            let channels = mean.dims()[0];
            let scale = norm.weight.vector() / (variance + EPSILON).sqrt();
            let shift = norm.bias.vector() - mean * scale.clone();
            let [scale, shift] = [scale, shift].map(|values| values.reshape([1, channels, 1, 1]));
            return Value::Maps(input * scale + shift);
        }
        let [batch, _, height, width] = input.dims();
        let values = (batch * height * width) as f64;
        let result = batch_norm_train(input, norm.weight.vector(), norm.bias.vector(), EPSILON);
        let unbiased = result.variance.mul_scalar(values / (values - 1.0));
        let mut statistics = self.statistics.borrow_mut();
        for (old, new) in [(mean, result.mean), (variance, unbiased)] {
            let new = new.without_autodiff().mul_scalar(MOMENTUM);
            statistics.push(old.without_autodiff().mul_scalar(1.0 - MOMENTUM).add(new));
        }
        Value::Maps(result.output)
    }

    fn norm_relu(&self, inputs: &[&Value], norm: Norm<'_, Value>) -> Value {
        let input = Value::Maps(Tensor::cat(inputs.iter().map(|input| input.maps()).collect(), 1));
        Value::Maps(relu(self.norm(&input, norm).maps()))
    }

    fn add_relu(&self, one: Value, other: &Value) -> Value {
        Value::Maps(relu(one.maps() + other.maps()))
    }

    fn max_pool(&self, input: &Value) -> Value {
        let options = MaxPoolOptions::new([3, 3]).with_stride([2, 2]).with_padding([1, 1]);
        Value::Maps(max_pool2d(input.maps(), options))
    }

    fn average_pool(&self, input: &Value) -> Value {
        Value::Maps(avg_pool2d(input.maps(), AvgPoolOptions::new([2, 2]).with_stride([2, 2])))
    }

    fn global_pool(&self, input: &Value) -> Value {
        Value::Maps(adaptive_avg_pool2d(input.maps(), [1, 1]))
    }

    fn linear(&self, input: &Value, weight: &Value, bias: &Value) -> Value {
        Value::Matrix(linear(input.maps().flatten(1, 3), weight.matrix().transpose(), Some(bias.vector())))
    }
}

/// The maps after `units`, in inference mode.
pub(super) fn infer(units: &[Unit], buffers: &Buffers, compute: Compute, input: Tensor<4>) -> Tensor<4> {
    run(units, buffers, buffers.parameters.clone(), compute, Mode::Inference, input).0.maps()
}

/// The logits after `units`, which end with the classifier, in inference mode.
pub(super) fn classify(units: &[Unit], buffers: &Buffers, compute: Compute, input: Tensor<4>) -> Tensor<2> {
    run(units, buffers, buffers.parameters.clone(), compute, Mode::Inference, input).0.matrix()
}

/// A flat tensor on `device` with the `count` values that `fill` writes.
#[allow(unsafe_code)]
pub(super) fn filled<E>(
    count: usize,
    device: &Device,
    fill: impl FnOnce(&mut [MaybeUninit<f32>]) -> Result<(), E>,
) -> Result<Tensor<1>, E> {
    let mut values = Vec::with_capacity(count);
    fill(&mut values.spare_capacity_mut()[..count])?;
    // SAFETY: the capacity is at least `count`, and `fill` has written so many values.
    unsafe { values.set_len(count) };
    Ok(Tensor::from_data(TensorData::new(values, [count]), device))
}

/// Logits of `units`, differentiable in `parameters`; and the new running statistics.
pub(super) fn train(
    units: &[Unit],
    buffers: &Buffers,
    parameters: Tensor<1>,
    compute: Compute,
    mode: Mode,
    input: Tensor<4>,
) -> (Tensor<2>, Tensor<1>) {
    let input = if parameters.is_autodiff() { input.autodiff() } else { input };
    let (logits, statistics) = run(units, buffers, parameters, compute, mode, input);
    let statistics = if statistics.is_empty() { buffers.statistics.clone() } else { Tensor::cat(statistics, 0) };
    (logits.matrix(), statistics)
}

fn run(
    units: &[Unit],
    buffers: &Buffers,
    parameters: Tensor<1>,
    compute: Compute,
    mode: Mode,
    input: Tensor<4>,
) -> (Value, Vec<Tensor<1>>) {
    let o = Portable { mode, statistics: RefCell::default() };
    let statistics =
        if parameters.is_autodiff() { buffers.statistics.clone().autodiff() } else { buffers.statistics.clone() };
    let (mut parameters, mut statistics) =
        (cut(&parameters, &buffers.shapes.parameters), cut(&statistics, &buffers.shapes.statistics));
    let mut next = |is: &bool| if *is { parameters.next() } else { statistics.next() };
    let tensors: Vec<Value> = buffers.shapes.is_parameter.iter().filter_map(&mut next).collect();
    let start = units.first().map_or(0, |unit| unit.entries.start);
    let mut alive = vec![Value::Maps(input.cast(compute.float.of_weights()))];
    for unit in units {
        let inputs: Vec<&Value> = alive.iter().collect();
        let output = unit.run(&o, &tensors[unit.entries.start - start..unit.entries.end - start], &inputs);
        if !unit.joins {
            alive.clear();
        }
        alive.push(output);
    }
    (alive.pop().expect("there is at least the input"), o.statistics.into_inner())
}

/// Cuts a flat tensor.
fn cut<'a>(flat: &'a Tensor<1>, shapes: &'a [Vec<usize>]) -> impl Iterator<Item = Value> + use<'a> {
    let mut start = 0;
    shapes.iter().map(move |shape| {
        let end = start + shape.iter().product::<usize>();
        let piece = flat.clone().slice(start..end);
        start = end;
        match *shape.as_slice() {
            [rows, columns] => Value::Matrix(piece.reshape([rows, columns])),
            [a, b, c, d] => Value::Maps(piece.reshape([a, b, c, d])),
            _ => Value::Vector(piece),
        }
    })
}
