//! Where the weights come from: drawn, imported, or the state of another run.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::ids::Epoch;

/// Where the weights come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Init {
    /// torchvision's initialisation, drawn from the run's seed.
    Random,
    /// Imported weights; the classifier is always new and drawn from the run's seed.
    Weights(String),
    /// The state of a run after one of its epochs, classifier included. Its epochs are inherited: they count for the budget.
    Run(ForkPoint),
}

/// `run:RUN@EPOCH`: where a run is gone on from in another experiment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForkPoint {
    /// The run's id, or, before it is submitted, the beginning of it.
    pub run: String,
    /// After which of its epochs, 1 or more.
    pub epoch: Epoch,
}

impl Init {
    /// Epochs that every arm inherits.
    pub fn inherited_epochs(&self) -> u32 {
        if let Self::Run(ForkPoint { epoch, .. }) = self { epoch.0 } else { 0 }
    }
}

impl FromStr for Init {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "random" {
            return Ok(Self::Random);
        }
        let Some(state) = text.strip_prefix("run:") else { return Ok(Self::Weights(text.to_owned())) };
        let point = state.split_once('@').and_then(|(run, epoch)| {
            let good = (4..=36).contains(&run.len()) && run.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
            let epoch = epoch.parse().ok().filter(|epoch| *epoch > 0)?;
            good.then(|| ForkPoint { run: run.to_owned(), epoch: Epoch(epoch) })
        });
        point.map(Self::Run).ok_or_else(|| {
            format!("{text:?} names no state of a run; write \"run:RUN@EPOCH\" with a run's id and an epoch from 1, like run:1f0c92ab@10")
        })
    }
}

impl fmt::Display for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random => f.write_str("random"),
            Self::Weights(name) => f.write_str(name),
            Self::Run(ForkPoint { run, epoch }) => write!(f, "run:{run}@{epoch}"),
        }
    }
}

impl Serialize for Init {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Init {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_read_as_what_prints_it() {
        for text in ["random", "imagenet", "run:1f0c92ab@10", "run:1f0c92ab-0000-5000-8000-000000000000@1"] {
            assert_eq!(text.parse::<Init>().map(|init| init.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("run:1f0c92ab@10".parse::<Init>().map(|init| init.inherited_epochs()), Ok(10));
    }

    #[test]
    fn what_names_no_state_is_refused() {
        for text in [
            "run:",
            "run:1f0c",
            "run:1f0c@",
            "run:1f0c@0",
            "run:1f0c@-1",
            "run:@3",
            "run:xyzw@3",
            "run:1f0c@4294967296",
        ] {
            let told = text.parse::<Init>().expect_err(text);
            assert!(told.starts_with(&format!("{text:?} names no state of a run; write")), "{told}");
        }
    }
}
