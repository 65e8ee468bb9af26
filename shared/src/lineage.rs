//! Lineage: a hash chain with one link an epoch, over everything that can influence the weights and nothing else.
//!
//! Two epochs with one key end in the same weights (in one environment class), so they are trained once. The canonical
//! encoding of a link is lines of `name=value`, in the order written here, under a version line; it is documented in
//! `docs/lineage.md` and pinned by golden tests, because a changed encoding silently changes what is shared.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    dataset::Split,
    digest::{self, Digest},
    ids::Epoch,
    spec::{Arch, ClassWeighting, ClassWeights, Memory, Optimization, Precision, Rates, Trainable, UpdateRule},
};

/// Version of the encoding. Raise it when a link's lines change.
pub const ENCODING: &str = "ceteris.lineage/2";
/// Version of the training engine's arithmetic. Raise it when the same link would give other weights.
pub const ENGINE: &str = "2";

/// The state of a run after some epoch, by everything that led to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LineageKey(pub Digest);

impl LineageKey {
    /// The first twelve hexadecimal digits: what tables show.
    pub fn short(&self) -> String {
        self.0.short()
    }
}

impl fmt::Display for LineageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for LineageKey {
    type Err = digest::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// What a chain starts from.
#[derive(Clone, Debug, PartialEq)]
pub struct Root<'a> {
    /// The network.
    pub arch: Arch,
    /// Digest of the initial weights, `random`, or where neither is known yet `name:NAME`.
    pub init: &'a str,
    /// Digest of the data set's manifest, or `name:NAME`.
    pub dataset: &'a str,
    /// The run's seed: data order, augmentation draws, new parameters.
    pub seed: u64,
}

/// What one epoch adds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link<'a> {
    /// What is trainable.
    pub train: Trainable,
    /// How weights move.
    pub optimization: &'a Optimization,
    /// True in the first epoch of a stage, where the optimizer's moments are zero.
    pub optimizer_starts: bool,
    /// The epoch's learning rate.
    pub lr: f64,
    /// Its course within the epoch.
    pub rates: Rates,
    /// [`crate::spec::Augment::canonical`].
    pub augment: &'a str,
    /// Samples in a step.
    pub batch_size: u32,
    /// Arithmetic.
    pub precision: Precision,
    /// What is kept from forward for backward: what is computed again may be summed in another order.
    pub memory: Memory,
}

impl Root<'_> {
    /// The key of epoch 0: the initial weights.
    pub fn key(&self) -> LineageKey {
        let arch = self.arch.name();
        LineageKey(Digest::of(
            format!(
                "{ENCODING}\nengine={ENGINE}\narch={arch}\ninit={}\ndataset={}\nsplit={}\nseed={}\n",
                self.init,
                self.dataset,
                Split::Train,
                self.seed
            )
            .as_bytes(),
        ))
    }
}

/// A link of one epoch, written out but for the key before it: the same for every seed of an arm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written(String);

impl Written {
    /// The key after the epoch, from the key before it.
    pub fn key(&self, before: LineageKey) -> LineageKey {
        let Self(lines) = self;
        LineageKey(Digest::of(format!("{ENCODING}\nbefore={before}\n{lines}").as_bytes()))
    }
}

impl Link<'_> {
    /// The key after this epoch, from the key before it.
    pub fn key(&self, epoch: Epoch, before: LineageKey) -> LineageKey {
        self.written(epoch).key(before)
    }

    /// The link as that of `epoch`.
    pub fn written(&self, epoch: Epoch) -> Written {
        let mut lines = Lines(String::new());
        lines.push("epoch", epoch);
        lines.push("train", self.train.name());
        lines.optimization(self.optimization, self.train);
        lines.push("optimizer_starts", self.optimizer_starts);
        lines.bits("lr", self.lr);
        lines.rates(self.rates);
        lines.push("augment", self.augment);
        lines.push("batch_size", self.batch_size);
        lines.push("precision", self.precision.name());
        lines.push("memory", self.memory.name());
        Written(lines.0)
    }
}

/// `name=value`, line after line. Floats are written as their bits: no formatting can blur two values or split one.
struct Lines(String);

impl Lines {
    fn push(&mut self, name: &str, value: impl fmt::Display) {
        self.0 += &format!("{name}={value}\n");
    }

    fn bits(&mut self, name: &str, value: f64) {
        self.push(name, bits(value));
    }

    fn optional(&mut self, name: &str, value: Option<f64>) {
        self.push(name, value.map_or_else(|| "none".to_owned(), bits));
    }

    fn optimization(&mut self, optimization: &Optimization, train: Trainable) {
        match optimization.rule {
            UpdateRule::Adam { betas, epsilon } => self.adam("adam", betas, epsilon),
            UpdateRule::Adamw { betas, epsilon } => self.adam("adamw", betas, epsilon),
            UpdateRule::Sgd { momentum, dampening, nesterov } => {
                self.push("rule", "sgd");
                self.bits("momentum", momentum);
                self.bits("dampening", dampening);
                self.push("nesterov", nesterov);
            }
        }
        self.bits("weight_decay", optimization.weight_decay);
        self.push("decay_norms_and_biases", optimization.decay_norms_and_biases);
        self.optional("clip_norm", optimization.clip_norm);
        self.bits("label_smoothing", optimization.label_smoothing);
        match &optimization.class_weights {
            ClassWeights::Named(ClassWeighting::None) => self.push("class_weights", "none"),
            ClassWeights::Named(ClassWeighting::Balanced) => self.push("class_weights", "balanced"),
            ClassWeights::Listed(weights) => {
                let weights: Vec<String> = weights.iter().map(|weight| bits(*weight)).collect();
                self.push("class_weights", weights.join(","));
            }
        }
        // The head has the rate itself: where nothing else is trained the factor is not used.
        let decay = if train == Trainable::Head { 1.0 } else { optimization.lr_decay_per_block };
        self.bits("lr_decay_per_block", decay);
        self.push("accumulate", optimization.accumulate);
        self.optional("average", optimization.average);
    }

    fn adam(&mut self, rule: &str, [beta1, beta2]: [f64; 2], epsilon: f64) {
        self.push("rule", rule);
        self.bits("beta1", beta1);
        self.bits("beta2", beta2);
        self.bits("epsilon", epsilon);
    }

    fn rates(&mut self, rates: Rates) {
        match rates {
            Rates::Constant => self.push("rates", "constant"),
            Rates::WarmUp { done, epochs } => {
                self.push("rates", "warm-up");
                self.push("done", done);
                self.push("epochs", epochs);
            }
            Rates::OneCycle { done, epochs, rise, start_divisor, end_divisor } => {
                self.push("rates", "one-cycle");
                self.push("done", done);
                self.push("epochs", epochs);
                self.bits("rise", rise);
                self.bits("start_divisor", start_divisor);
                self.bits("end_divisor", end_divisor);
            }
        }
    }
}

fn bits(value: f64) -> String {
    format!("{:016x}", value.to_bits())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Root<'static> {
        Root { arch: Arch::Densenet121, init: "random", dataset: "name:kermany", seed: 0 }
    }

    fn adam() -> Optimization {
        Optimization::default()
    }

    fn link(optimization: &Optimization) -> Link<'_> {
        Link {
            train: Trainable::Denseblock4,
            optimization,
            optimizer_starts: true,
            lr: 1e-3,
            rates: Rates::Constant,
            augment: "none",
            batch_size: 32,
            precision: Precision::Fp32,
            memory: Memory::Normal,
        }
    }

    /// What a link says, one change at a time.
    fn optimizations() -> Vec<Optimization> {
        let (betas, epsilon, momentum, dampening) = ([0.9, 0.999], 1e-8, 0.9, 0.1);
        let rules = [
            UpdateRule::Adam { betas: [0.8, 0.999], epsilon },
            UpdateRule::Adam { betas: [0.9, 0.99], epsilon },
            UpdateRule::Adam { betas, epsilon: 1e-7 },
            UpdateRule::Adamw { betas, epsilon },
            UpdateRule::Sgd { momentum: 0.0, dampening: 0.0, nesterov: false },
            UpdateRule::Sgd { momentum, dampening: 0.0, nesterov: false },
            UpdateRule::Sgd { momentum, dampening, nesterov: false },
            UpdateRule::Sgd { momentum, dampening: 0.0, nesterov: true },
        ];
        let listed = |weights: &[f64]| ClassWeights::Listed(weights.to_vec());
        let others = [
            adam(),
            Optimization { weight_decay: 1e-4, ..adam() },
            Optimization { weight_decay: 1e-4, decay_norms_and_biases: true, ..adam() },
            Optimization { clip_norm: Some(1.0), ..adam() },
            Optimization { clip_norm: Some(0.5), ..adam() },
            Optimization { label_smoothing: 0.1, ..adam() },
            Optimization { class_weights: ClassWeights::Named(ClassWeighting::Balanced), ..adam() },
            Optimization { class_weights: listed(&[1.0, 2.0]), ..adam() },
            Optimization { class_weights: listed(&[2.0, 1.0]), ..adam() },
            Optimization { lr_decay_per_block: 0.5, ..adam() },
            Optimization { accumulate: 2, ..adam() },
            Optimization { average: Some(0.99), ..adam() },
        ];
        rules.into_iter().map(|rule| Optimization { rule, ..adam() }).chain(others).collect()
    }

    #[test]
    fn golden_keys_never_change() {
        let root = root().key();
        let one_cycle = Rates::OneCycle { done: 1, epochs: 4, rise: 0.3, start_divisor: 25.0, end_divisor: 1e4 };
        let sgd = Optimization {
            rule: UpdateRule::Sgd { momentum: 0.9, dampening: 0.0, nesterov: true },
            clip_norm: Some(1.0),
            class_weights: ClassWeights::Listed(vec![1.0, 3.0]),
            ..adam()
        };
        let keys = [
            root,
            link(&adam()).key(Epoch(1), root),
            Link { rates: Rates::WarmUp { done: 0, epochs: 2 }, ..link(&adam()) }.key(Epoch(1), root),
            Link { rates: one_cycle, augment: "strong@1", memory: Memory::Low, ..link(&sgd) }.key(Epoch(2), root),
        ];
        let golden = [
            "56814419eb2a3cdcac0b2b5f13180ddab3439cb5e23c890be63c5b24ba09cdb1",
            "42d444a07196ab3158ef990aa9d81b447775327e5dc890a1b9484a8a8b7bb362",
            "da2eb61d01805cdd2a418c41096df4b1252476915738501e023070124b95830d",
            "327177edf10021716b94d2ca6c9164f76ac0fd0a925ada7a236e672db2af37b6",
        ];
        assert_eq!(keys.map(|key| key.to_string()), golden);
    }

    #[test]
    fn every_field_of_the_root_changes_the_key() {
        let changed = [
            Root { arch: Arch::Resnet50, ..root() },
            Root { init: "other", ..root() },
            Root { dataset: "other", ..root() },
            Root { seed: 1, ..root() },
        ];
        assert!(changed.iter().all(|other| other.key() != root().key()));
    }

    #[test]
    fn every_field_of_a_link_changes_the_key() {
        let (before, adam) = (root().key(), adam());
        let cycle = |done, epochs, rise, start_divisor, end_divisor| Link {
            rates: Rates::OneCycle { done, epochs, rise, start_divisor, end_divisor },
            ..link(&adam)
        };
        let changed = [
            Link { train: Trainable::All, ..link(&adam) },
            Link { optimizer_starts: false, ..link(&adam) },
            Link { lr: 1e-3 + f64::EPSILON, ..link(&adam) },
            Link { rates: Rates::WarmUp { done: 0, epochs: 4 }, ..link(&adam) },
            Link { rates: Rates::WarmUp { done: 1, epochs: 4 }, ..link(&adam) },
            Link { rates: Rates::WarmUp { done: 0, epochs: 5 }, ..link(&adam) },
            cycle(0, 4, 0.3, 25.0, 1e4),
            cycle(1, 4, 0.3, 25.0, 1e4),
            cycle(0, 5, 0.3, 25.0, 1e4),
            cycle(0, 4, 0.4, 25.0, 1e4),
            cycle(0, 4, 0.3, 20.0, 1e4),
            cycle(0, 4, 0.3, 25.0, 1e3),
            Link { augment: "light@1", ..link(&adam) },
            Link { batch_size: 16, ..link(&adam) },
            Link { precision: Precision::Tf32, ..link(&adam) },
            Link { precision: Precision::Bf16, ..link(&adam) },
            Link { memory: Memory::Low, ..link(&adam) },
        ];
        let optimizations = optimizations();
        let links = changed.into_iter().chain(optimizations.iter().map(link));
        let mut keys: Vec<LineageKey> = links.map(|link| link.key(Epoch(1), before)).collect();
        let key = link(&adam).key(Epoch(1), before);
        keys.extend([link(&adam).key(Epoch(2), before), link(&adam).key(Epoch(1), key)]);
        let distinct: std::collections::HashSet<&LineageKey> = keys.iter().collect();
        assert!(distinct.contains(&key));
        assert_eq!(distinct.len(), keys.len());
    }

    #[test]
    fn the_factor_below_the_head_does_not_matter_to_the_head() {
        let (adam, slower) = (adam(), Optimization { lr_decay_per_block: 0.5, ..adam() });
        let head = |optimization| Link { train: Trainable::Head, ..link(optimization) }.key(Epoch(1), root().key());
        assert_eq!(head(&adam), head(&slower));
    }
}
