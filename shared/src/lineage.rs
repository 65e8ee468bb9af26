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
    spec::{Arch, Optimizer, Precision, Schedule, Trainable},
};

/// Version of the encoding. Raise it when a link's lines change.
pub const ENCODING: &str = "ceteris.lineage/1";
/// Version of the training engine's arithmetic. Raise it when the same link would give other weights.
pub const ENGINE: &str = "1";

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
    /// The update rule and its settings.
    pub optimizer: &'a Optimizer,
    /// True in the first epoch of a stage, where the optimizer's moments are zero.
    pub optimizer_starts: bool,
    /// Learning rate; with a constant schedule, of every step.
    pub lr: f64,
    /// How it moves.
    pub schedule: Schedule,
    /// Augmentation policy with its version.
    pub augment: &'a str,
    /// Samples in a step.
    pub batch_size: u32,
    /// Arithmetic.
    pub precision: Precision,
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

impl Link<'_> {
    /// The key after this epoch, from the key before it.
    pub fn key(&self, epoch: Epoch, before: LineageKey) -> LineageKey {
        let schedule = match self.schedule {
            Schedule::Constant => "constant",
        };
        let precision = match self.precision {
            Precision::Fp32 => "fp32",
        };
        let optimizer = match self.optimizer.name {
            crate::spec::OptimizerName::Adam => "adam",
        };
        let [beta1, beta2] = self.optimizer.betas;
        // Floats are written as their bits: no formatting can blur two values or split one.
        LineageKey(Digest::of(
            format!(
                "{ENCODING}\nbefore={before}\nepoch={epoch}\ntrain={}\noptimizer={optimizer}\nbeta1={:016x}\nbeta2={:016x}\nepsilon={:016x}\n\
                 optimizer_starts={}\nlr={:016x}\nschedule={schedule}\naugment={}\nbatch_size={}\nprecision={precision}\n",
                self.train.name(),
                beta1.to_bits(),
                beta2.to_bits(),
                self.optimizer.epsilon.to_bits(),
                self.optimizer_starts,
                self.lr.to_bits(),
                self.augment,
                self.batch_size,
            )
            .as_bytes(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::OptimizerName;

    const ADAM: Optimizer = Optimizer { name: OptimizerName::Adam, betas: [0.9, 0.999], epsilon: 1e-8 };

    fn root() -> Root<'static> {
        Root { arch: Arch::Densenet121, init: "random", dataset: "name:kermany", seed: 0 }
    }

    fn link() -> Link<'static> {
        Link {
            train: Trainable::Head,
            optimizer: &ADAM,
            optimizer_starts: true,
            lr: 1e-3,
            schedule: Schedule::Constant,
            augment: "none",
            batch_size: 32,
            precision: Precision::Fp32,
        }
    }

    #[test]
    fn golden_keys_never_change() {
        assert_eq!(root().key().to_string(), "9a25e725e581a18154467a1abd2afe263e821268a94a0e56af70d4cda468e34e");
        assert_eq!(
            link().key(Epoch(1), root().key()).to_string(),
            "f1d6d2552bea0b04039086ea9227e33d9f798b147cb87406fad453c7bf29267d"
        );
    }

    #[test]
    fn every_field_of_the_root_changes_the_key() {
        let changed =
            [Root { init: "other", ..root() }, Root { dataset: "other", ..root() }, Root { seed: 1, ..root() }];
        assert!(changed.iter().all(|other| other.key() != root().key()));
    }

    #[test]
    fn every_field_of_a_link_changes_the_key() {
        let before = root().key();
        let key = link().key(Epoch(1), before);
        let slower = Optimizer { betas: [0.8, 0.999], ..ADAM };
        let steadier = Optimizer { betas: [0.9, 0.99], ..ADAM };
        let coarser = Optimizer { epsilon: 1e-7, ..ADAM };
        let changed = [
            Link { train: Trainable::All, ..link() },
            Link { optimizer: &slower, ..link() },
            Link { optimizer: &steadier, ..link() },
            Link { optimizer: &coarser, ..link() },
            Link { optimizer_starts: false, ..link() },
            Link { lr: 1e-3 + f64::EPSILON, ..link() },
            Link { augment: "light@1", ..link() },
            Link { batch_size: 16, ..link() },
        ];
        assert!(changed.iter().all(|other| other.key(Epoch(1), before) != key));
        assert_ne!(link().key(Epoch(2), before), key);
        assert_ne!(link().key(Epoch(1), key), key);
    }
}
