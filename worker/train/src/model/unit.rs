//! The architectures as lists of units: the stretches between which activations are handed on, and the grain at which
//! they may be computed again in backward instead of being kept.
//!
//! A unit reads the activations that are alive, which in a dense block are the outputs of all layers so far, and makes
//! one. DenseNet: Huang et al., "Densely Connected Convolutional Networks", CVPR 2017. ResNet: He et al., "Deep Residual
//! Learning for Image Recognition", CVPR 2016.

use std::{ops::Range, slice::Iter};

use ceteris_shared::architecture::{Arch, Family, Part};

use super::operations::{Norm, Operations};

/// A stretch of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The part that it belongs to.
    pub part: Part,
    /// Its tensors: positions in the architecture's layout.
    pub entries: Range<usize>,
    /// Whether its output joins the activations that are alive, or replaces them.
    pub joins: bool,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// 7×7 convolution, BN, ReLU, maximum.
    Stem,
    /// BN, ReLU, 1×1 convolution, BN, ReLU, 3×3 convolution.
    DenseLayer,
    /// BN, ReLU, mean over 2×2, 1×1 convolution.
    Transition,
    /// BN, ReLU, global mean: the end of DenseNet's features.
    DenseEnd,
    /// 1×1, 3×3, 1×1 convolution and a short cut; the 3×3 one strides.
    Bottleneck { stride: usize, projects: bool },
    /// Global mean: the end of ResNet's features.
    Pool,
    /// The classifier.
    Head,
}

impl Kind {
    /// How many tensors of the layout it has.
    fn tensors(self) -> usize {
        const NORM: usize = 4;
        match self {
            Self::Stem | Self::Transition => 1 + NORM,
            Self::DenseLayer => 2 * (1 + NORM),
            Self::DenseEnd => NORM,
            Self::Bottleneck { projects, .. } => (3 + usize::from(projects)) * (1 + NORM),
            Self::Pool => 0,
            Self::Head => 2,
        }
    }
}

/// All units of an architecture, in forward order.
pub fn units(arch: Arch) -> Vec<Unit> {
    let mut units = List(Vec::new());
    units.push(Part::Stem, Kind::Stem);
    match arch.family() {
        Family::DenseNet(layers) => {
            for (part, count) in Part::BLOCKS.into_iter().zip(layers) {
                (0..count).for_each(|_| units.push(part, Kind::DenseLayer));
                units.push(part, if part == Part::Block4 { Kind::DenseEnd } else { Kind::Transition });
            }
        }
        Family::ResNet(blocks) => {
            for (part, count) in Part::BLOCKS.into_iter().zip(blocks) {
                for block in 0..count {
                    let stride = if block == 0 && part != Part::Block1 { 2 } else { 1 };
                    units.push(part, Kind::Bottleneck { stride, projects: block == 0 });
                }
            }
            units.push(Part::Block4, Kind::Pool);
        }
    }
    units.push(Part::Head, Kind::Head);
    units.0
}

struct List(Vec<Unit>);

impl List {
    fn push(&mut self, part: Part, kind: Kind) {
        let start = self.0.last().map_or(0, |unit| unit.entries.end);
        let entries = start..start + kind.tensors();
        self.0.push(Unit { part, entries, joins: kind == Kind::DenseLayer, kind });
    }
}

/// Hands out a unit's tensors in the layout's order.
struct Tensors<'a, T>(Iter<'a, T>);

impl<'a, T> Tensors<'a, T> {
    fn one(&mut self) -> &'a T {
        self.0.next().expect("a unit has as many tensors as its kind")
    }

    fn norm(&mut self) -> Norm<'a, T> {
        Norm { weight: self.one(), bias: self.one(), mean: self.one(), variance: self.one() }
    }
}

impl Unit {
    /// Computes the output from the activations that are alive; `tensors` are those of [`Self::entries`].
    pub fn run<O: Operations>(&self, o: &O, tensors: &[O::Tensor], inputs: &[&O::Tensor]) -> O::Tensor {
        let mut next = Tensors(tensors.iter());
        let last = inputs[inputs.len() - 1];
        match self.kind {
            Kind::Stem => {
                let x = o.convolution(last, next.one(), 2, 3);
                o.max_pool(&o.norm_relu(&[&x], next.norm()))
            }
            Kind::DenseLayer => {
                let norm = next.norm();
                let x = o.norm_relu_convolution(inputs, norm, next.one(), 0);
                let norm = next.norm();
                o.norm_relu_convolution(&[&x], norm, next.one(), 1)
            }
            Kind::Transition => {
                // The mean of a 1×1 convolution is the convolution of the mean, which costs a quarter.
                let x = o.average_pool(&o.norm_relu(inputs, next.norm()));
                o.convolution(&x, next.one(), 1, 0)
            }
            Kind::DenseEnd => o.global_pool(&o.norm_relu(inputs, next.norm())),
            Kind::Bottleneck { stride, projects } => bottleneck(o, &mut next, last, stride, projects),
            Kind::Pool => o.global_pool(last),
            Kind::Head => {
                let weight = next.one();
                o.linear(last, weight, next.one())
            }
        }
    }
}

fn bottleneck<O: Operations>(
    o: &O,
    next: &mut Tensors<'_, O::Tensor>,
    input: &O::Tensor,
    stride: usize,
    projects: bool,
) -> O::Tensor {
    let x = o.convolution(input, next.one(), 1, 0);
    let x = o.norm_relu(&[&x], next.norm());
    let x = o.convolution(&x, next.one(), stride, 1);
    let norm = next.norm();
    let x = o.norm_relu_convolution(&[&x], norm, next.one(), 0);
    let x = o.norm(&x, next.norm());
    if !projects {
        return o.add_relu(x, input);
    }
    let short_cut = o.convolution(input, next.one(), stride, 0);
    o.add_relu(x, &o.norm(&short_cut, next.norm()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_cover_the_layout_part_by_part() {
        for arch in Arch::ALL {
            let (units, layout) = (units(arch), arch.layout(2));
            assert_eq!(units.last().map(|unit| unit.entries.end), Some(layout.len()), "{arch:?}");
            for unit in &units {
                assert!(layout[unit.entries.clone()].iter().all(|entry| entry.part == unit.part), "{arch:?} {unit:?}");
            }
            assert!(units.is_sorted_by_key(|unit| unit.part), "{arch:?}");
        }
    }
}
