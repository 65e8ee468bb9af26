//! The settings that arms may differ in, by the names that a spec and documents have for them.

use serde::{Deserialize, Serialize};

/// A setting that arms may differ in, or `stages`: how an arm spends the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Factor {
    Accumulate,
    Augment,
    Average,
    BatchSize,
    ClassWeights,
    ClipNorm,
    DecayNormsAndBiases,
    LabelSmoothing,
    Lr,
    LrDecayPerBlock,
    Memory,
    Optimizer,
    Precision,
    Schedule,
    Stages,
    WeightDecay,
}

impl Factor {
    /// All of them, sorted by name.
    pub const ALL: [Self; 16] = [
        Self::Accumulate,
        Self::Augment,
        Self::Average,
        Self::BatchSize,
        Self::ClassWeights,
        Self::ClipNorm,
        Self::DecayNormsAndBiases,
        Self::LabelSmoothing,
        Self::Lr,
        Self::LrDecayPerBlock,
        Self::Memory,
        Self::Optimizer,
        Self::Precision,
        Self::Schedule,
        Self::Stages,
        Self::WeightDecay,
    ];

    /// The name in specs and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accumulate => "accumulate",
            Self::Augment => "augment",
            Self::Average => "average",
            Self::BatchSize => "batch_size",
            Self::ClassWeights => "class_weights",
            Self::ClipNorm => "clip_norm",
            Self::DecayNormsAndBiases => "decay_norms_and_biases",
            Self::LabelSmoothing => "label_smoothing",
            Self::Lr => "lr",
            Self::LrDecayPerBlock => "lr_decay_per_block",
            Self::Memory => "memory",
            Self::Optimizer => "optimizer",
            Self::Precision => "precision",
            Self::Schedule => "schedule",
            Self::Stages => "stages",
            Self::WeightDecay => "weight_decay",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_factor_is_read_by_its_name_and_they_are_sorted() {
        for factor in Factor::ALL {
            assert_eq!(serde_json::from_str::<Factor>(&format!("{:?}", factor.name())).ok(), Some(factor));
        }
        assert!(Factor::ALL.is_sorted_by(|a, b| a < b && a.name() < b.name()));
    }
}
