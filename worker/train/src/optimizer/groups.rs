//! Which stretches of the flat parameters have which learning rate and weight decay.
//!
//! Decayed kernels and undecayed norms alternate from tensor to tensor, so going through groups one at a time would be
//! a loop over parameters again. What differs between groups is therefore one factor per element, made once and
//! multiplied in as one operation; what is the same everywhere stays a number and costs no memory.

use std::ops::Range;

use burn::tensor::Tensor;
use ceteris_shared::{
    architecture::{Entry, Part},
    spec::optimization::Optimization,
};

/// A contiguous stretch of the flat parameters that are moved alike: a `param_group` of PyTorch's.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Elements of the flat tensors.
    pub range: Range<usize>,
    /// Learning rate, as a multiple of the step's.
    pub lr_factor: f64,
    /// Weight decay.
    pub weight_decay: f64,
}

/// All groups, in order and without gaps.
#[derive(Clone, Debug, PartialEq)]
pub struct Groups(Vec<Group>);

/// One factor for every element, or one for each.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // An optimizer has one.
pub(super) enum Factor {
    Uniform(f64),
    /// `[parameters]`.
    Each(Tensor<1>),
}

impl Groups {
    /// The groups of `parameters`, in their order.
    pub fn new(parameters: &[Entry], settings: &Optimization) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        let mut start = 0;
        for entry in parameters {
            let end = start + elements(entry);
            let group = Group {
                range: start..end,
                lr_factor: settings.lr_decay_per_block.powi(blocks_below_head(entry.part)),
                weight_decay: if decays(entry, settings) { settings.weight_decay } else { 0.0 },
            };
            match groups.last_mut() {
                Some(last) if (last.lr_factor, last.weight_decay) == (group.lr_factor, group.weight_decay) => {
                    last.range.end = end;
                }
                _ => groups.push(group),
            }
            start = end;
        }
        Self(groups)
    }

    /// The groups, in order.
    pub fn as_slice(&self) -> &[Group] {
        &self.0
    }

    /// A property of the groups as a factor on tensors like `like`.
    pub(super) fn factor(&self, of: impl Fn(&Group) -> f64, like: &Tensor<1>) -> Factor {
        let first = self.0.first().map_or(1.0, &of);
        if self.0.iter().all(|group| of(group) == first) {
            return Factor::Uniform(first);
        }
        let full = |group: &Group| Tensor::full([group.range.len()], of(group), (&like.device(), like.dtype()));
        Factor::Each(Tensor::cat(self.0.iter().map(full).collect(), 0))
    }
}

impl Factor {
    /// `tensor` times the factor times `number`: one operation, or two where the factor differs.
    pub(super) fn scale(&self, tensor: Tensor<1>, number: f64) -> Tensor<1> {
        match self {
            Self::Uniform(factor) => tensor.mul_scalar(factor * number),
            Self::Each(factors) => tensor.mul_scalar(number).mul(factors.clone()),
        }
    }

    pub(super) fn is_zero(&self) -> bool {
        matches!(self, Self::Uniform(0.0))
    }
}

/// How many elements a tensor has.
pub(super) fn elements(entry: &Entry) -> usize {
    entry.shape.iter().product()
}

/// The head is 0, the last block 1, the stem the most.
fn blocks_below_head(part: Part) -> i32 {
    Part::ALL.iter().rev().zip(0..).find_map(|(other, below)| (*other == part).then_some(below)).unwrap_or(0)
}

/// Biases and BatchNorm's scale and shift are the tensors of one dimension.
fn decays(entry: &Entry, settings: &Optimization) -> bool {
    settings.decay_norms_and_biases || entry.shape.len() > 1
}

#[cfg(test)]
mod tests {
    use ceteris_shared::architecture::Arch;

    use super::*;

    fn groups(settings: &Optimization) -> Vec<(Range<usize>, f64, f64)> {
        let layout: Vec<_> = Arch::Densenet121.layout(2).into_iter().filter(Entry::is_parameter).collect();
        let groups = Groups::new(&layout, settings);
        groups.as_slice().iter().map(|group| (group.range.clone(), group.lr_factor, group.weight_decay)).collect()
    }

    #[test]
    fn defaults_are_one_group() {
        let settings = Optimization { weight_decay: 0.1, decay_norms_and_biases: true, ..Optimization::default() };
        assert_eq!(groups(&settings), [(0..6_955_906, 1.0, 0.1)]);
        assert_eq!(groups(&Optimization::default()), [(0..6_955_906, 1.0, 0.0)]);
    }

    #[test]
    fn rates_fall_from_block_to_block() {
        let settings = Optimization { lr_decay_per_block: 0.5, ..Optimization::default() };
        let groups = groups(&settings);
        let factors: Vec<f64> = groups.iter().map(|(_, factor, _)| *factor).collect();
        assert_eq!(factors, [0.03125, 0.0625, 0.125, 0.25, 0.5, 1.0]);
        assert_eq!((&groups[0].0, &groups[5].0), (&(0..9_536), &(6_953_856..6_955_906)));
    }

    #[test]
    fn norms_and_biases_do_not_decay_unless_asked() {
        let settings = Optimization { weight_decay: 0.1, ..Optimization::default() };
        let groups = groups(&settings);
        assert_eq!(groups[..2], [(0..9_408, 1.0, 0.1), (9_408..9_664, 1.0, 0.0)]);
        assert_eq!(groups[groups.len() - 2..], [(6_953_856..6_955_904, 1.0, 0.1), (6_955_904..6_955_906, 1.0, 0.0)]);
    }
}
