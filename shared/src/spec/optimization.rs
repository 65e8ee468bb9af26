//! How weights move: the update rule, the course of the learning rate, and what is done to the loss and the gradient.
//!
//! [`Optimizer`] and [`Schedule`](super::Schedule) are what a spec writes; [`Optimization`] and [`Rates`] are what they
//! mean for one run and one epoch, with every default filled in. Semantics and defaults are PyTorch's (`torch.optim`,
//! `torch.optim.lr_scheduler`).

use std::{f64::consts::PI, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{SeqAccess, Visitor, value},
};

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

impl OptimizerName {
    /// The name in specs, lineage and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Adam => "adam",
            Self::Adamw => "adamw",
            Self::Sgd => "sgd",
        }
    }
}

impl Optimizer {
    /// The rule, the weight decay and whether biases and BatchNorm's parameters decay too, with defaults filled in.
    /// `weight_decay`, where it is given, stands in the place of what is written. A setting that has no effect is told
    /// as its default, so that optimizers that do the same are the same.
    pub fn resolve(&self, weight_decay: Option<f64>) -> (UpdateRule, f64, bool) {
        let (betas, epsilon) = (self.betas.unwrap_or([0.9, 0.999]), self.epsilon.unwrap_or(1e-8));
        let (rule, usual) = match self.name {
            OptimizerName::Adam => (UpdateRule::Adam { betas, epsilon }, 0.0),
            OptimizerName::Adamw => (UpdateRule::Adamw { betas, epsilon }, 0.01),
            OptimizerName::Sgd => {
                let momentum = self.momentum.unwrap_or(0.0);
                let dampening = self.dampening.unwrap_or(0.0);
                (UpdateRule::Sgd { momentum, dampening, nesterov: self.nesterov.unwrap_or(false) }, 0.0)
            }
        };
        let weight_decay = weight_decay.or(self.weight_decay).unwrap_or(usual);
        (rule, weight_decay, weight_decay != 0.0 && self.decay_norms_and_biases.unwrap_or(false))
    }

    /// Checks ranges, and that each setting is one of the rule's.
    ///
    /// # Errors
    /// The first thing that is wrong, with the way out.
    pub(super) fn check(&self) -> Result<(), String> {
        let of_adam = [("betas", self.betas.is_some()), ("epsilon", self.epsilon.is_some())];
        let of_sgd = [
            ("momentum", self.momentum.is_some()),
            ("dampening", self.dampening.is_some()),
            ("nesterov", self.nesterov.is_some()),
        ];
        let (others, owner) = match self.name {
            OptimizerName::Adam | OptimizerName::Adamw => (&of_sgd[..], "sgd"),
            OptimizerName::Sgd => (&of_adam[..], "adam and adamw"),
        };
        if let Some((setting, _)) = others.iter().find(|(_, written)| *written) {
            let name = self.name.name();
            return Err(format!(
                "`{setting}` is a setting of {owner} and not of {name}; leave it out or change `name`"
            ));
        }
        let within = |name: &str, value: Option<f64>, good: fn(f64) -> bool, range: &str| match value {
            Some(value) if !good(value) => Err(format!("`{name}` {value} is not {range}")),
            _ => Ok(()),
        };
        let fraction = |value: f64| (0.0..1.0).contains(&value);
        for beta in self.betas.iter().flatten() {
            within("betas", Some(*beta), fraction, "in [0, 1)")?;
        }
        within("epsilon", self.epsilon, |value| value > 0.0 && value < 1.0, "between 0 and 1")?;
        within("momentum", self.momentum, fraction, "in [0, 1)")?;
        within("dampening", self.dampening, |value| (0.0..=1.0).contains(&value), "between 0 and 1")?;
        check_weight_decay(self.weight_decay.unwrap_or(0.0))?;
        let (has_momentum, dampening) = (self.momentum.unwrap_or(0.0) > 0.0, self.dampening.unwrap_or(0.0));
        if self.nesterov == Some(true) && !(has_momentum && dampening == 0.0) {
            return Err("`nesterov` needs `momentum` above 0 and no `dampening`, as in PyTorch".to_owned());
        }
        if dampening > 0.0 && !has_momentum {
            return Err("`dampening` has no effect without `momentum`; write both or leave it out".to_owned());
        }
        Ok(())
    }
}

/// Checks a weight decay on its own.
pub(super) fn check_weight_decay(value: f64) -> Result<(), String> {
    if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(format!("`weight_decay` {value} is not between 0 and 1")) }
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
    /// Equal parts that a batch is cut into; their gradients add up to the batch's before the one step.
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

/// The name, with the settings that are not the defaults in parentheses: `sgd(momentum=0.9,nesterov=true)`.
impl fmt::Display for UpdateRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = super::number;
        let of_adam = |betas: [f64; 2], epsilon: f64| {
            let [first, second] = betas.map(number);
            vec![
                (betas != [0.9, 0.999]).then(|| format!("betas={first}:{second}")),
                (epsilon != 1e-8).then(|| format!("epsilon={}", number(epsilon))),
            ]
        };
        let (name, settings) = match *self {
            Self::Adam { betas, epsilon } => ("adam", of_adam(betas, epsilon)),
            Self::Adamw { betas, epsilon } => ("adamw", of_adam(betas, epsilon)),
            Self::Sgd { momentum, dampening, nesterov } => {
                let set = |name: &str, value: f64| (value != 0.0).then(|| format!("{name}={}", number(value)));
                let nesterov = nesterov.then(|| "nesterov=true".to_owned());
                ("sgd", vec![set("momentum", momentum), set("dampening", dampening), nesterov])
            }
        };
        let told: Vec<String> = settings.into_iter().flatten().collect();
        if told.is_empty() { f.write_str(name) } else { write!(f, "{name}({})", told.join(",")) }
    }
}

/// Weights of the classes in the loss: the weighted mean of `torch.nn.CrossEntropyLoss(weight=…)`.
#[derive(Clone, Debug, PartialEq, Serialize)]
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

impl<'de> Deserialize<'de> for ClassWeights {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrList;

        impl<'de> Visitor<'de> for NameOrList {
            type Value = ClassWeights;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"none\", \"balanced\", or a list with a weight for each class")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<ClassWeights, E> {
                ClassWeighting::deserialize(value::StrDeserializer::new(name)).map(ClassWeights::Named)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<ClassWeights, A::Error> {
                Vec::deserialize(value::SeqAccessDeserializer::new(list)).map(ClassWeights::Listed)
            }
        }

        deserializer.deserialize_any(NameOrList)
    }
}

impl ClassWeights {
    /// Checks listed weights; that there is one for each class can be checked only where the data set is known.
    ///
    /// # Errors
    /// What is out of range, with the range.
    pub(super) fn check(&self) -> Result<(), String> {
        let Self::Listed(weights) = self else { return Ok(()) };
        if weights.len() < 2 {
            return Err("needs \"none\", \"balanced\" or one weight for each class".to_owned());
        }
        match weights.iter().find(|weight| !(0.0..=1e6).contains(*weight)) {
            Some(weight) => Err(format!("{weight} is not a weight between 0 and 1,000,000")),
            None if weights.iter().all(|weight| *weight == 0.0) => Err("all weights are 0".to_owned()),
            None => Ok(()),
        }
    }
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
                if peak > 0.0 && position(done) <= peak {
                    cosine(first, lr, position(done) / peak)
                } else {
                    let fall = total - 1.0 - peak;
                    cosine(lr, first / end_divisor, (position(done) - peak) / fall)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_pytorchs_but_for_biases_and_norms() {
        let resolved = |name| Optimizer { name, ..Optimizer::default() }.resolve(None);
        let (betas, epsilon) = ([0.9, 0.999], 1e-8);
        assert_eq!(resolved(OptimizerName::Adam), (UpdateRule::Adam { betas, epsilon }, 0.0, false));
        assert_eq!(resolved(OptimizerName::Adamw), (UpdateRule::Adamw { betas, epsilon }, 0.01, false));
        let sgd = UpdateRule::Sgd { momentum: 0.0, dampening: 0.0, nesterov: false };
        assert_eq!(resolved(OptimizerName::Sgd), (sgd, 0.0, false));
        let decaying = Optimizer { decay_norms_and_biases: Some(true), ..Optimizer::default() };
        assert!(!decaying.resolve(None).2 && decaying.resolve(Some(1e-4)).2);
    }

    #[test]
    fn a_rule_tells_what_is_not_the_default() {
        let rules = [
            UpdateRule::Adam { betas: [0.9, 0.999], epsilon: 1e-8 },
            UpdateRule::Adamw { betas: [0.9, 0.99], epsilon: 1e-6 },
            UpdateRule::Sgd { momentum: 0.0, dampening: 0.0, nesterov: false },
            UpdateRule::Sgd { momentum: 0.9, dampening: 0.0, nesterov: true },
        ];
        let told = rules.map(|rule| rule.to_string());
        assert_eq!(told, ["adam", "adamw(betas=0.9:0.99,epsilon=1e-6)", "sgd", "sgd(momentum=0.9,nesterov=true)"]);
    }

    #[test]
    fn one_cycle_has_a_rate_for_every_step_however_short_it_is() {
        for rise in [0.01, 0.25, 0.5, 0.99] {
            for (epochs, steps) in [(1, 1), (1, 2), (1, 4), (2, 2), (3, 7)] {
                for (done, step) in (0..epochs).flat_map(|done| (0..steps).map(move |step| (done, step))) {
                    let rates = Rates::OneCycle { done, epochs, rise, start_divisor: 25.0, end_divisor: 1e4 };
                    let rate = rates.at(0.1, step, steps);
                    assert!(rate > 0.0 && rate <= 0.1, "{rates:?} {step} of {steps}: {rate}");
                }
            }
        }
    }
}
