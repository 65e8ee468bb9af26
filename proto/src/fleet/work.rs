//! What is to be trained, to the wire and back. The wire has typed messages all the way down, so that each number has a
//! field that a refusal can name.

use ceteris_shared::{
    ids::Epoch,
    plan::{EpochSettings, EpochWork, Work},
    spec::{Augment, ClassWeights, CustomPolicy, Optimization, Rates, UpdateRule},
};

use super::{
    Error,
    from_wire::{Result, all, finite, named, parsed, refuse, required},
    to_wire::name,
};
use crate::v1;

impl From<Work> for v1::Work {
    fn from(work: Work) -> Self {
        Self {
            arch: name(&work.arch),
            seed: work.seed,
            batch_size: work.batch_size,
            optimization: Some(work.optimization.into()),
            precision: name(&work.precision),
            epochs: work.epochs.into_iter().map(Into::into).collect(),
            endpoint: work.endpoint,
            memory: name(&work.memory),
            checkpoint_every_steps: work.checkpoint_every_steps,
        }
    }
}

impl TryFrom<v1::Work> for Work {
    type Error = Error;

    fn try_from(work: v1::Work) -> Result<Self> {
        let epochs = all("work.epochs", work.epochs, EpochWork::try_from)?;
        if epochs.is_empty() || epochs.windows(2).any(|pair| pair[1].epoch != pair[0].epoch.next()) {
            return refuse("work.epochs", "are not one or more consecutive epochs");
        }
        if work.batch_size == 0 {
            return refuse("work.batch_size", "is 0");
        }
        if work.checkpoint_every_steps == Some(0) {
            return refuse("work.checkpoint_every_steps", "is 0");
        }
        let optimization: Optimization = required("work.optimization", work.optimization)?.try_into()?;
        if !work.batch_size.is_multiple_of(optimization.accumulate) {
            return refuse("optimization.accumulate", "does not divide the batch size");
        }
        Ok(Self {
            arch: named("work.arch", work.arch)?,
            seed: work.seed,
            batch_size: work.batch_size,
            optimization,
            precision: named("work.precision", work.precision)?,
            memory: named("work.memory", work.memory)?,
            checkpoint_every_steps: work.checkpoint_every_steps,
            epochs,
            endpoint: work.endpoint,
        })
    }
}

impl From<Optimization> for v1::Optimization {
    fn from(optimization: Optimization) -> Self {
        use v1::optimization::Rule;
        let adam = |[beta1, beta2]: [f64; 2], epsilon| v1::Adam { beta1, beta2, epsilon };
        let rule = match optimization.rule {
            UpdateRule::Adam { betas, epsilon } => Rule::Adam(adam(betas, epsilon)),
            UpdateRule::Adamw { betas, epsilon } => Rule::Adamw(adam(betas, epsilon)),
            UpdateRule::Sgd { momentum, dampening, nesterov } => Rule::Sgd(v1::Sgd { momentum, dampening, nesterov }),
        };
        Self {
            rule: Some(rule),
            weight_decay: optimization.weight_decay,
            decay_norms_and_biases: optimization.decay_norms_and_biases,
            clip_norm: optimization.clip_norm,
            label_smoothing: optimization.label_smoothing,
            class_weights: Some(optimization.class_weights.into()),
            lr_decay_per_block: optimization.lr_decay_per_block,
            accumulate: optimization.accumulate,
            average: optimization.average,
        }
    }
}

impl TryFrom<v1::Optimization> for Optimization {
    type Error = Error;

    fn try_from(optimization: v1::Optimization) -> Result<Self> {
        use v1::optimization::Rule;
        let betas = |adam: &v1::Adam| -> Result<[f64; 2]> {
            Ok([finite("adam.beta1", adam.beta1)?, finite("adam.beta2", adam.beta2)?])
        };
        let rule = match required("optimization.rule", optimization.rule)? {
            Rule::Adam(adam) => {
                UpdateRule::Adam { betas: betas(&adam)?, epsilon: finite("adam.epsilon", adam.epsilon)? }
            }
            Rule::Adamw(adam) => {
                UpdateRule::Adamw { betas: betas(&adam)?, epsilon: finite("adam.epsilon", adam.epsilon)? }
            }
            Rule::Sgd(sgd) => UpdateRule::Sgd {
                momentum: finite("sgd.momentum", sgd.momentum)?,
                dampening: finite("sgd.dampening", sgd.dampening)?,
                nesterov: sgd.nesterov,
            },
        };
        if optimization.accumulate == 0 {
            return refuse("optimization.accumulate", "is 0");
        }
        Ok(Self {
            rule,
            weight_decay: finite("optimization.weight_decay", optimization.weight_decay)?,
            decay_norms_and_biases: optimization.decay_norms_and_biases,
            clip_norm: optional("optimization.clip_norm", optimization.clip_norm)?,
            label_smoothing: finite("optimization.label_smoothing", optimization.label_smoothing)?,
            class_weights: required("optimization.class_weights", optimization.class_weights)?.try_into()?,
            lr_decay_per_block: finite("optimization.lr_decay_per_block", optimization.lr_decay_per_block)?,
            accumulate: optimization.accumulate,
            average: optional("optimization.average", optimization.average)?,
        })
    }
}

fn optional(field: &'static str, value: Option<f64>) -> Result<Option<f64>> {
    value.map(|value| finite(field, value)).transpose()
}

impl From<ClassWeights> for v1::ClassWeights {
    fn from(weights: ClassWeights) -> Self {
        use v1::class_weights::{List, Weights};
        Self {
            weights: Some(match weights {
                ClassWeights::Named(weighting) => Weights::Named(name(&weighting)),
                ClassWeights::Listed(weights) => Weights::Listed(List { weights }),
            }),
        }
    }
}

impl TryFrom<v1::ClassWeights> for ClassWeights {
    type Error = Error;

    fn try_from(weights: v1::ClassWeights) -> Result<Self> {
        use v1::class_weights::Weights;
        Ok(match required("class_weights.weights", weights.weights)? {
            Weights::Named(weighting) => Self::Named(named("class_weights.named", weighting)?),
            Weights::Listed(list) => Self::Listed(all("class_weights.listed", list.weights, |weight| {
                finite("class_weights.listed", weight)
            })?),
        })
    }
}

impl From<EpochWork> for v1::EpochWork {
    fn from(work: EpochWork) -> Self {
        Self {
            epoch: work.epoch.0,
            key: work.key.to_string(),
            train: name(&work.train),
            optimizer_starts: work.optimizer_starts,
            lr: work.lr,
            rates: Some(work.rates.into()),
            augment: Some(work.augment.clone().into()),
        }
    }
}

impl TryFrom<v1::EpochWork> for EpochWork {
    type Error = Error;

    fn try_from(work: v1::EpochWork) -> Result<Self> {
        if work.epoch == 0 || work.epoch == u32::MAX {
            return refuse("epoch_work.epoch", "is no epoch; the first trained epoch is 1");
        }
        let key = parsed("epoch_work.key", &work.key)?;
        let settings = EpochSettings {
            epoch: Epoch(work.epoch),
            train: named("epoch_work.train", work.train)?,
            optimizer_starts: work.optimizer_starts,
            lr: finite("epoch_work.lr", work.lr)?,
            rates: required("epoch_work.rates", work.rates)?.try_into()?,
            augment: required("epoch_work.augment", work.augment)?.try_into()?,
        };
        Ok(Self::new(key, settings))
    }
}

impl From<Rates> for v1::Rates {
    fn from(rates: Rates) -> Self {
        use v1::rates::{Constant, OneCycle, Rates as Wire, WarmUp};
        let rates = match rates {
            Rates::Constant => Wire::Constant(Constant {}),
            Rates::WarmUp { done, epochs } => Wire::WarmUp(WarmUp { done, epochs }),
            Rates::OneCycle { done, epochs, rise, start_divisor, end_divisor } => {
                Wire::OneCycle(OneCycle { done, epochs, rise, start_divisor, end_divisor })
            }
        };
        Self { rates: Some(rates) }
    }
}

impl TryFrom<v1::Rates> for Rates {
    type Error = Error;

    fn try_from(rates: v1::Rates) -> Result<Self> {
        use v1::rates::Rates as Wire;
        let within = |field: &'static str, done: u32, epochs: u32| {
            if done < epochs { Ok(()) } else { refuse(field, format!("is {done} of {epochs} epochs")) }
        };
        Ok(match required("rates.rates", rates.rates)? {
            Wire::Constant(_) => Self::Constant,
            Wire::WarmUp(warm_up) => {
                within("warm_up.done", warm_up.done, warm_up.epochs)?;
                Self::WarmUp { done: warm_up.done, epochs: warm_up.epochs }
            }
            Wire::OneCycle(cycle) => {
                within("one_cycle.done", cycle.done, cycle.epochs)?;
                Self::OneCycle {
                    done: cycle.done,
                    epochs: cycle.epochs,
                    rise: finite("one_cycle.rise", cycle.rise)?,
                    start_divisor: finite("one_cycle.start_divisor", cycle.start_divisor)?,
                    end_divisor: finite("one_cycle.end_divisor", cycle.end_divisor)?,
                }
            }
        })
    }
}

impl From<Augment> for v1::Augment {
    fn from(augment: Augment) -> Self {
        use v1::augment::Policy;
        Self {
            policy: Some(match augment {
                Augment::Named(policy) => Policy::Named(policy.versioned().to_owned()),
                Augment::Custom(policy) => Policy::Custom((*policy).into()),
            }),
        }
    }
}

impl TryFrom<v1::Augment> for Augment {
    type Error = Error;

    fn try_from(augment: v1::Augment) -> Result<Self> {
        use v1::augment::Policy;
        Ok(match required("augment.policy", augment.policy)? {
            Policy::Named(policy) => named("augment.named", policy)?,
            Policy::Custom(policy) => Self::Custom(Box::new(policy.try_into()?)),
        })
    }
}

impl From<CustomPolicy> for v1::augment::Custom {
    fn from(policy: CustomPolicy) -> Self {
        let range = |range: Option<[f64; 2]>| range.map(|[low, high]| v1::augment::Range { low, high });
        Self {
            flip: policy.flip,
            rotation: policy.rotation,
            translation: policy.translation,
            zoom: range(policy.zoom),
            elastic: policy.elastic,
            brightness: policy.brightness,
            contrast: policy.contrast,
            gamma: range(policy.gamma),
            noise: policy.noise,
            blur: policy.blur,
            erase: policy.erase,
            mixup: policy.mixup,
        }
    }
}

impl TryFrom<v1::augment::Custom> for CustomPolicy {
    type Error = Error;

    fn try_from(policy: v1::augment::Custom) -> Result<Self> {
        let range = |field, range: Option<v1::augment::Range>| -> Result<Option<[f64; 2]>> {
            range.map(|range| Ok([finite(field, range.low)?, finite(field, range.high)?])).transpose()
        };
        Ok(Self {
            flip: optional("augment.flip", policy.flip)?,
            rotation: optional("augment.rotation", policy.rotation)?,
            translation: optional("augment.translation", policy.translation)?,
            zoom: range("augment.zoom", policy.zoom)?,
            elastic: optional("augment.elastic", policy.elastic)?,
            brightness: optional("augment.brightness", policy.brightness)?,
            contrast: optional("augment.contrast", policy.contrast)?,
            gamma: range("augment.gamma", policy.gamma)?,
            noise: optional("augment.noise", policy.noise)?,
            blur: optional("augment.blur", policy.blur)?,
            erase: optional("augment.erase", policy.erase)?,
            mixup: optional("augment.mixup", policy.mixup)?,
        })
    }
}
