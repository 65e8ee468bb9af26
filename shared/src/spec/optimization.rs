//! How weights move: the update rule, the course of the learning rate, and what is done to the loss and the gradient.
//!
//! [`Optimizer`] and [`Schedule`] are what a spec writes; [`Optimization`] and [`Rates`] are what they mean for one run
//! and one epoch, with every default filled in. Semantics and defaults are PyTorch's (`torch.optim`,
//! `torch.optim.lr_scheduler`).

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// The update rule and its settings, as written. What is absent has PyTorch's default for the rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimizer {
    /// The rule.
    pub name: OptimizerName,
    /// Adam and AdamW: decay rates of the first and second moment; 0.9 and 0.999.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub betas: Option<[f64; 2]>,
    /// Adam and AdamW: added to the denominator; 1e-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// SGD: share of the last change that is kept; 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// SGD: share of the gradient that momentum does not take in; 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dampening: Option<f64>,
    /// SGD: look ahead along the momentum; false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nesterov: Option<bool>,
    /// Pull towards zero: added to the gradient by Adam and SGD (0), taken off the weight by AdamW (0.01).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// Whether biases and BatchNorm's scale and shift decay too; false, where PyTorch's default is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay_norms_and_biases: Option<bool>,
}

/// A known update rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerName {
    /// Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.
    #[default]
    Adam,
    /// Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
    Adamw,
    /// Stochastic gradient descent, with Polyak's or Nesterov's momentum (Sutskever et al., ICML 2013).
    Sgd,
}

/// How a run's weights move, every setting decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimization {
    /// The update rule.
    pub rule: UpdateRule,
    /// See [`Optimizer::weight_decay`].
    pub weight_decay: f64,
    /// See [`Optimizer::decay_norms_and_biases`].
    pub decay_norms_and_biases: bool,
    /// The gradient is scaled down to this L2 norm over all trained parameters where it is larger
    /// (`torch.nn.utils.clip_grad_norm_`).
    pub clip_norm: Option<f64>,
    /// Share of each target that is spread evenly over all classes (Szegedy et al., CVPR 2016), in [0, 1).
    pub label_smoothing: f64,
    /// Weights of the classes in the loss.
    pub class_weights: ClassWeights,
    /// Factor on the learning rate for each block below the head: the head has the rate itself, `denseblock4` this
    /// factor of it, `denseblock3` its square, and so on (discriminative fine-tuning, Howard and Ruder, ACL 2018).
    pub lr_decay_per_block: f64,
    /// Equal parts that a batch is cut into; their gradients are averaged before the one step.
    pub accumulate: u32,
    /// Decay of an exponential moving average of the trained weights, with which predictions are made.
    pub average: Option<f64>,
}

/// An update rule with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase", deny_unknown_fields)]
pub enum UpdateRule {
    /// See [`OptimizerName::Adam`]; weight decay is added to the gradient.
    Adam {
        /// Decay rates of the first and second moment.
        betas: [f64; 2],
        /// Added to the denominator.
        epsilon: f64,
    },
    /// See [`OptimizerName::Adamw`]; weight decay is taken off the weight.
    Adamw {
        /// Decay rates of the first and second moment.
        betas: [f64; 2],
        /// Added to the denominator.
        epsilon: f64,
    },
    /// See [`OptimizerName::Sgd`]; weight decay is added to the gradient.
    Sgd {
        /// Share of the last change that is kept.
        momentum: f64,
        /// Share of the gradient that momentum does not take in.
        dampening: f64,
        /// Look ahead along the momentum.
        nesterov: bool,
    },
}

/// Weights of the classes in the loss: the weighted mean of `torch.nn.CrossEntropyLoss(weight=…)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ClassWeights {
    /// `"none"` or `"balanced"`.
    Named(ClassWeighting),
    /// One for each class, in the data set's order.
    Listed(Vec<f64>),
}

impl Default for ClassWeights {
    fn default() -> Self {
        Self::Named(ClassWeighting::None)
    }
}

/// A named choice of class weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassWeighting {
    /// All 1.
    #[default]
    None,
    /// Samples / (classes × samples of the class), over the training split (scikit-learn's `balanced`).
    Balanced,
}

impl Default for Optimization {
    fn default() -> Self {
        Self {
            rule: UpdateRule::Adam { betas: [0.9, 0.999], epsilon: 1e-8 },
            weight_decay: 0.0,
            decay_norms_and_biases: false,
            clip_norm: None,
            label_smoothing: 0.0,
            class_weights: ClassWeights::default(),
            lr_decay_per_block: 1.0,
            accumulate: 1,
            average: None,
        }
    }
}

/// The learning rate's course within one epoch: what is left of a schedule once the epoch is known. A schedule that
/// moves from epoch to epoch (step, exponential, cosine) is a constant rate here, so epochs that look alike are alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Rates {
    /// The epoch's rate at every step.
    #[default]
    Constant,
    /// Linear from 0 (not reached) to the epoch's rate, over the first `epochs` epochs of a stage; horizon-free.
    WarmUp {
        /// Epochs of the stage before this one.
        done: u32,
        /// Over how many epochs the rate grows.
        epochs: u32,
    },
    /// `torch.optim.lr_scheduler.OneCycleLR` with cosine annealing over a stage; the epoch's rate is the peak
    /// (Smith and Topin, "Super-Convergence", 2018).
    OneCycle {
        /// Epochs of the stage before this one.
        done: u32,
        /// Epochs of the stage: the horizon.
        epochs: u32,
        /// Share of the steps in which the rate grows (`pct_start`; 0.3).
        rise: f64,
        /// The first rate is the peak divided by this (`div_factor`; 25).
        start_divisor: f64,
        /// The last rate is the first divided by this (`final_div_factor`; 1e4).
        end_divisor: f64,
    },
}

impl Rates {
    /// The learning rate of step `step` (from 0) of an epoch of `steps` steps whose rate is `lr`.
    pub fn at(&self, lr: f64, step: u32, steps: u32) -> f64 {
        let position = |done: u32| f64::from(done) * f64::from(steps) + f64::from(step);
        match *self {
            Self::Constant => lr,
            Self::WarmUp { done, epochs } => lr * (position(done) + 1.0) / (f64::from(epochs) * f64::from(steps)),
            Self::OneCycle { done, epochs, rise, start_divisor, end_divisor } => {
                let total = f64::from(epochs) * f64::from(steps);
                let first = lr / start_divisor;
                let peak = rise * total - 1.0;
                let cosine = |from: f64, to: f64, share: f64| to + (from - to) / 2.0 * (1.0 + (share * PI).cos());
                if position(done) <= peak {
                    cosine(first, lr, position(done) / peak)
                } else {
                    let fall = total - 1.0 - peak;
                    cosine(lr, first / end_divisor, (position(done) - peak) / fall)
                }
            }
        }
    }
}
