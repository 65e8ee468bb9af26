//! The optimizer: how the trained parameters move, with the arithmetic of `torch.optim`.
//!
//! All trained parameters of a network are one flat tensor, and so are their gradient and everything remembered between
//! steps. A step is then a handful of operations over all parameters, with no loop over them: Adam takes 13, and 1 more
//! where learning rates differ between blocks; weight decay takes 2 more (Adam, SGD), or 1 to 3 (AdamW), clipping 3 and
//! the average 3. Written with burn's tensor operations only, it computes wherever burn does.
//!
//! burn's own optimizers round their decay rates to single precision and number their state by parameter ids that are
//! new in every process; here the state has torchvision's names, which is what a checkpoint stores.

mod groups;
mod rule;
mod state;

use burn::tensor::Tensor;
use ceteris_shared::{
    architecture::Entry,
    spec::optimization::{Optimization, UpdateRule},
};

pub use groups::{Group, Groups};

use self::{
    groups::Factor,
    rule::{Memory, direction, lerp, step_size},
};

/// Keeps the clipping coefficient finite; `torch.nn.utils.clip_grad_norm_`'s.
const NORM_EPSILON: f64 = 1e-6;

/// An update rule with everything that it remembers between steps.
#[derive(Clone, Debug)]
pub struct Optimizer {
    settings: Optimization,
    parameters: Vec<Entry>,
    groups: Groups,
    step: u64,
    /// Made at the first step, which tells the float type.
    factors: Option<Factors>,
    /// Absent before the first step.
    memory: Option<Memory>,
    /// Whether Adam may be one pass where the backend has it.
    one_pass: bool,
    /// `[parameters]`: the exponential moving average. Absent before the first step, and where none is asked for.
    average: Option<Tensor<1>>,
}

/// What differs from group to group.
#[derive(Clone, Debug)]
struct Factors {
    lr: Factor,
    decay: Factor,
}

impl Optimizer {
    /// The optimizer before its first step, for the tensors `parameters`, which follow one another in the flat ones.
    pub fn new(settings: &Optimization, parameters: &[Entry]) -> Self {
        Self {
            settings: settings.clone(),
            parameters: parameters.to_vec(),
            groups: Groups::new(parameters, settings),
            step: 0,
            factors: None,
            memory: None,
            one_pass: true,
            average: None,
        }
    }

    /// The same with Adam as one operation after the other, for a benchmark that shows what its one pass brings.
    pub fn in_single_operations(self) -> Self {
        Self { one_pass: false, ..self }
    }

    /// One step at learning rate `lr`: the new parameters. `parameters` and `gradient` are `[parameters]`, of one float
    /// type and without autodiff. Memory of theirs that nobody else holds is reused.
    pub fn step(&mut self, lr: f64, parameters: Tensor<1>, gradient: Tensor<1>) -> Tensor<1> {
        self.step += 1;
        let factors = self.factors.take().unwrap_or_else(|| self.factors(&parameters));
        let gradient = match self.settings.clip_norm {
            Some(max) => clip(gradient, max),
            None => gradient,
        };
        let (parameters, gradient) = self.decay(lr, &factors.decay, parameters, gradient);
        let (direction, memory) =
            direction(&self.settings.rule, self.step, self.one_pass, self.memory.take(), gradient);
        let change = factors.lr.scale(direction, step_size(&self.settings.rule, self.step, lr));
        let parameters = parameters.sub(change);
        (self.memory, self.factors) = (Some(memory), Some(factors));
        if let Some(decay) = self.settings.average {
            // As torch.optim.swa_utils.AveragedModel with get_ema_multi_avg_fn: the first update copies.
            self.average = Some(match self.average.take() {
                Some(average) => lerp(average, parameters.clone(), 1.0 - decay),
                None => parameters.clone(),
            });
        }
        parameters
    }

    /// The exponential moving average of the parameters, `[parameters]`, where one is asked for and a step was made.
    pub fn averaged(&self) -> Option<Tensor<1>> {
        self.average.clone()
    }

    fn factors(&self, like: &Tensor<1>) -> Factors {
        let decay = |of: &dyn Fn(&Group) -> f64| self.groups.factor(of, like);
        Factors {
            lr: self.groups.factor(|group| group.lr_factor, like),
            decay: match self.settings.rule {
                // Taken off the parameters at each group's own rate.
                UpdateRule::Adamw { .. } => decay(&|group| group.weight_decay * group.lr_factor),
                UpdateRule::Adam { .. } | UpdateRule::Sgd { .. } => decay(&|group| group.weight_decay),
            },
        }
    }

    /// Parameters and gradient with the weight decay in the one that the rule wants it in.
    fn decay(&self, lr: f64, factor: &Factor, parameters: Tensor<1>, gradient: Tensor<1>) -> (Tensor<1>, Tensor<1>) {
        if factor.is_zero() {
            return (parameters, gradient);
        }
        match (self.settings.rule, factor) {
            (UpdateRule::Adamw { .. }, Factor::Uniform(decay)) => (parameters.mul_scalar(1.0 - lr * decay), gradient),
            // Rounded to single precision, what is kept is a little wrong, and alike in every step: do as PyTorch does.
            (UpdateRule::Adamw { .. }, Factor::Each(decays)) => {
                let kept = decays.clone().mul_scalar(-lr).add_scalar(1.0);
                (parameters.mul(kept), gradient)
            }
            (UpdateRule::Adam { .. } | UpdateRule::Sgd { .. }, Factor::Uniform(decay)) => {
                let pull = parameters.clone().mul_scalar(*decay);
                (parameters, gradient.add(pull))
            }
            (UpdateRule::Adam { .. } | UpdateRule::Sgd { .. }, Factor::Each(decays)) => {
                let pull = parameters.clone().mul(decays.clone());
                (parameters, gradient.add(pull))
            }
        }
    }
}

/// The gradient, scaled down to the L2 norm `max` where it is larger. The norm stays on the device.
fn clip(gradient: Tensor<1>, max: f64) -> Tensor<1> {
    let norm = gradient.clone().mul(gradient.clone()).sum().sqrt();
    let coefficient = norm.add_scalar(NORM_EPSILON).recip().mul_scalar(max).clamp_max(1.0);
    gradient.mul(coefficient)
}

#[cfg(test)]
mod tests;
