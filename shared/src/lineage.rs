//! Lineage: a hash chain with one link an epoch, over everything that can influence the weights and nothing else.
//!
//! Two epochs with one key end in the same weights (in one environment class), so they are trained once. The canonical
//! encoding is lines of `name=value`, in the order written here, under a version line; it is documented in
//! `docs/lineage.md` and pinned by golden tests, because a changed encoding silently changes what is shared.
//!
//! It has three layers, so that planning many runs writes out little: the settings of a stage, the link of an epoch (the same
//! for every seed), and the key, which is the digest of 55 bytes: the key before it and the beginning of the link's.

use std::{
    fmt::{self, Write as _},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::{
    dataset::Split,
    digest::{self, Digest, Hasher},
    ids::Epoch,
    spec::{Arch, ClassWeighting, ClassWeights, Memory, Optimization, Precision, Rates, Trainable, UpdateRule},
};

/// Version of the encoding. Raise it when a link's lines change.
pub const ENCODING: &str = "ceteris.lineage/3";
/// Version of the training engine's arithmetic. Raise it when the same link would give other weights.
pub const ENGINE: &str = "2";

/// How much of a link's digest a key is made of: with the key before it, as much as SHA-256 takes in one block. Plans are made of
/// keys, and 184 bits are far more than keep links apart.
const LINK_BYTES: usize = 23;

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

/// What all epochs of a stage have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings<'a> {
    /// What is trainable.
    pub train: Trainable,
    /// How weights move.
    pub optimization: &'a Optimization,
    /// [`crate::spec::Augment::canonical`].
    pub augment: &'a str,
    /// Samples in a step.
    pub batch_size: u32,
    /// Arithmetic.
    pub precision: Precision,
    /// What is kept from forward for backward: what is computed again may be summed in another order.
    pub memory: Memory,
}

/// What one epoch adds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// [`Settings::digest`].
    pub settings: Digest,
    /// Which epoch.
    pub epoch: Epoch,
    /// True in the first epoch of a stage, where the optimizer's moments are zero.
    pub optimizer_starts: bool,
    /// The epoch's learning rate.
    pub lr: f64,
    /// Its course within the epoch.
    pub rates: Rates,
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

impl Settings<'_> {
    /// What links name them by.
    pub fn digest(&self) -> Digest {
        let mut lines = Lines(format!("{ENCODING}\n"));
        lines.push("train", self.train.name());
        lines.optimization(self.optimization, self.train);
        lines.push("augment", self.augment);
        lines.push("batch_size", self.batch_size);
        lines.push("precision", self.precision.name());
        lines.push("memory", self.memory.name());
        Digest::of(lines.0.as_bytes())
    }
}

impl Link {
    /// What keys are made of: the same for every seed.
    pub fn digest(&self) -> Digest {
        let mut lines = Lines(String::with_capacity(256));
        lines.push("epoch", self.epoch);
        lines.push("optimizer_starts", self.optimizer_starts);
        lines.bits("lr", self.lr);
        lines.rates(self.rates);
        let mut digest = Hasher::default();
        digest.update(&self.settings.0);
        digest.update(lines.0.as_bytes());
        digest.finish()
    }
}

impl LineageKey {
    /// The key of the same state in a run with another seed: weights are equal, and what comes after is drawn from `seed`.
    pub fn with_seed(self, seed: u64) -> Self {
        Self(Digest::of(format!("{ENCODING}\nfork={self}\nseed={seed}\n").as_bytes()))
    }

    /// The key after an epoch, from the key before it.
    pub fn after(self, link: Digest) -> Self {
        let mut bytes = [0; 32 + LINK_BYTES];
        bytes[..32].copy_from_slice(&self.0.0);
        bytes[32..].copy_from_slice(&link.0[..LINK_BYTES]);
        Self(Digest::of(&bytes))
    }
}

/// `name=value`, line after line. Floats are written as their bits: no formatting can blur two values or split one.
struct Lines(String);

impl Lines {
    fn push(&mut self, name: &str, value: impl fmt::Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{name}={value}");
    }

    fn bits(&mut self, name: &str, value: f64) {
        self.push(name, format_args!("{:016x}", value.to_bits()));
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

    fn settings(optimization: &Optimization) -> Settings<'_> {
        Settings {
            train: Trainable::Denseblock4,
            optimization,
            augment: "none",
            batch_size: 32,
            precision: Precision::Fp32,
            memory: Memory::Normal,
        }
    }

    fn link() -> Link {
        let settings = settings(&adam()).digest();
        Link { settings, epoch: Epoch(1), optimizer_starts: true, lr: 1e-3, rates: Rates::Constant }
    }

    /// What settings say, one change at a time.
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
        let others = Settings { augment: "strong@1", memory: Memory::Low, ..settings(&sgd) }.digest();
        let keys = [
            root,
            root.after(link().digest()),
            root.after(Link { rates: Rates::WarmUp { done: 0, epochs: 2 }, ..link() }.digest()),
            root.after(Link { rates: one_cycle, settings: others, epoch: Epoch(2), ..link() }.digest()),
            root.with_seed(1),
        ];
        let golden = [
            "3e94f12b049655e38892c05331394c569c37adf0d8f82e1058bfc715a5295a40",
            "80d7050e853ebae6fc575994378db92f764542b225845bd0f09b7f99dbf7acd6",
            "34ee61de3fdba0ec3b536df175cb4f87626befbbd8835e7d6f75c1772ecc3d92",
            "83bf36d2f8f7cf3b591b2738cbb7d9fd42659fa10a89fc95fcae48279b622aab",
            "6afbedefa74b6a35822be63b18068b07b39fc289d07e3ba704ffd17ebe8f79b7",
        ];
        assert_eq!(keys.map(|key| key.to_string()), golden);
    }

    #[test]
    fn a_key_is_the_digest_of_the_key_before_it_and_the_beginning_of_the_link() {
        let (before, link) = (root().key(), link().digest());
        let bytes: Vec<u8> = before.0.0.into_iter().chain(link.0).take(55).collect();
        assert_eq!(before.after(link), LineageKey(Digest::of(&bytes)));
        assert_ne!(before.after(link), LineageKey(link).after(before.0));
        let mut lines = settings(&adam()).digest().0.to_vec();
        lines.extend(b"epoch=1\noptimizer_starts=true\nlr=3f50624dd2f1a9fc\nrates=constant\n");
        assert_eq!(link, Digest::of(&lines));
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
        let adam = adam();
        let cycle = |done, epochs, rise, start_divisor, end_divisor| Link {
            rates: Rates::OneCycle { done, epochs, rise, start_divisor, end_divisor },
            ..link()
        };
        let links = [
            link(),
            Link { epoch: Epoch(2), ..link() },
            Link { optimizer_starts: false, ..link() },
            Link { lr: 1e-3 + f64::EPSILON, ..link() },
            Link { rates: Rates::WarmUp { done: 0, epochs: 4 }, ..link() },
            Link { rates: Rates::WarmUp { done: 1, epochs: 4 }, ..link() },
            Link { rates: Rates::WarmUp { done: 0, epochs: 5 }, ..link() },
            cycle(0, 4, 0.3, 25.0, 1e4),
            cycle(1, 4, 0.3, 25.0, 1e4),
            cycle(0, 5, 0.3, 25.0, 1e4),
            cycle(0, 4, 0.4, 25.0, 1e4),
            cycle(0, 4, 0.3, 20.0, 1e4),
            cycle(0, 4, 0.3, 25.0, 1e3),
        ];
        let changed = [
            Settings { train: Trainable::All, ..settings(&adam) },
            Settings { augment: "light@1", ..settings(&adam) },
            Settings { batch_size: 16, ..settings(&adam) },
            Settings { precision: Precision::Tf32, ..settings(&adam) },
            Settings { precision: Precision::Bf16, ..settings(&adam) },
            Settings { memory: Memory::Low, ..settings(&adam) },
        ];
        let optimizations = optimizations();
        let others = optimizations.iter().filter(|other| **other != adam).map(settings);
        let settings = changed.into_iter().chain(others).map(|settings| Link { settings: settings.digest(), ..link() });
        let digests: Vec<Digest> = links.into_iter().chain(settings).map(|link| link.digest()).collect();
        let distinct: std::collections::HashSet<&Digest> = digests.iter().collect();
        assert_eq!(distinct.len(), digests.len());
    }

    #[test]
    fn the_factor_below_the_head_does_not_matter_to_the_head() {
        let (adam, slower) = (adam(), Optimization { lr_decay_per_block: 0.5, ..adam() });
        let head = |optimization| Settings { train: Trainable::Head, ..settings(optimization) }.digest();
        assert_eq!(head(&adam), head(&slower));
    }
}
