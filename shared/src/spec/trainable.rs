//! What of a network is trained in a stage. Parts have the names of the architecture's own modules, so a DenseNet's and a
//! ResNet's are different words for the same four blocks.

use serde::{Deserialize, Serialize};

use crate::architecture::{Arch, Family, Part};

/// The named part of the network and all after it; what comes before it is frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trainable {
    /// The classifier alone.
    Head,
    /// DenseNet: the last dense block, the final normalisation and the classifier.
    Denseblock4,
    /// DenseNet: from the third dense block on; the transition after a block belongs to it.
    Denseblock3,
    /// DenseNet: from the second dense block on.
    Denseblock2,
    /// DenseNet: from the first dense block on: all but the stem.
    Denseblock1,
    /// ResNet: the last stage and the classifier.
    Layer4,
    /// ResNet: from the third stage on.
    Layer3,
    /// ResNet: from the second stage on.
    Layer2,
    /// ResNet: from the first stage on: all but the stem.
    Layer1,
    /// Everything.
    All,
}

impl Trainable {
    /// All names, the shortest trained stretch first.
    pub const ALL: [Self; 10] = [
        Self::Head,
        Self::Denseblock4,
        Self::Denseblock3,
        Self::Denseblock2,
        Self::Denseblock1,
        Self::Layer4,
        Self::Layer3,
        Self::Layer2,
        Self::Layer1,
        Self::All,
    ];

    /// The name in specs, lineage and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Denseblock4 => "denseblock4",
            Self::Denseblock3 => "denseblock3",
            Self::Denseblock2 => "denseblock2",
            Self::Denseblock1 => "denseblock1",
            Self::Layer4 => "layer4",
            Self::Layer3 => "layer3",
            Self::Layer2 => "layer2",
            Self::Layer1 => "layer1",
            Self::All => "all",
        }
    }

    /// The first part that is trained.
    pub fn part(self) -> Part {
        match self {
            Self::Head => Part::Head,
            Self::Denseblock4 | Self::Layer4 => Part::Block4,
            Self::Denseblock3 | Self::Layer3 => Part::Block3,
            Self::Denseblock2 | Self::Layer2 => Part::Block2,
            Self::Denseblock1 | Self::Layer1 => Part::Block1,
            Self::All => Part::Stem,
        }
    }

    /// Whether the architecture has a part of this name.
    pub fn fits(self, arch: Arch) -> bool {
        match self {
            Self::Head | Self::All => true,
            Self::Denseblock4 | Self::Denseblock3 | Self::Denseblock2 | Self::Denseblock1 => {
                matches!(arch.family(), Family::DenseNet(_))
            }
            Self::Layer4 | Self::Layer3 | Self::Layer2 | Self::Layer1 => matches!(arch.family(), Family::ResNet(_)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_architecture_has_each_part_under_one_name() {
        for arch in Arch::ALL {
            let names: Vec<Trainable> = Trainable::ALL.into_iter().filter(|name| name.fits(arch)).collect();
            let mut parts: Vec<Part> = names.iter().map(|name| name.part()).collect();
            parts.reverse();
            assert_eq!(parts, Part::ALL, "{arch:?}");
        }
    }

    #[test]
    fn the_name_is_what_a_spec_writes() {
        for trainable in Trainable::ALL {
            assert_eq!(serde_json::to_value(trainable).expect("a name"), trainable.name());
        }
    }
}
