//! `[endpoint]`: on what arms are judged. A metric, the epoch that is read, and how a probability becomes a decision, all
//! fixed before anything is trained.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::dataset::Split;

/// `[endpoint]`: fixed before anything is trained.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Endpoint {
    /// The primary metric.
    pub metric: Metric,
    /// Which epoch is read.
    pub epoch: EndpointEpoch,
    /// How a probability becomes a decision.
    pub threshold: Threshold,
}

impl Default for Endpoint {
    fn default() -> Self {
        Self {
            metric: Metric { split: Split::Val, score: Score::Auc },
            epoch: EndpointEpoch::Last,
            threshold: Threshold::Fixed(0.5),
        }
    }
}

/// The epoch at which arms are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointEpoch {
    /// The last one of the budget.
    Last,
}

/// A score on a split, written `val.auc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Where it is measured: `val` or `test`.
    pub split: Split,
    /// What is measured.
    pub score: Score,
}

/// A score of predictions against labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Score {
    Accuracy,
    Auc,
    BalancedAccuracy,
    Brier,
    Ece,
    F1,
    Loss,
    PrAuc,
    Precision,
    Recall,
    Specificity,
}

impl Score {
    /// All of them, by name.
    pub const ALL: [Self; 11] = [
        Self::Accuracy,
        Self::Auc,
        Self::BalancedAccuracy,
        Self::Brier,
        Self::Ece,
        Self::F1,
        Self::Loss,
        Self::PrAuc,
        Self::Precision,
        Self::Recall,
        Self::Specificity,
    ];

    /// The name in specs and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Auc => "auc",
            Self::BalancedAccuracy => "balanced_accuracy",
            Self::Brier => "brier",
            Self::Ece => "ece",
            Self::F1 => "f1",
            Self::Loss => "loss",
            Self::PrAuc => "pr_auc",
            Self::Precision => "precision",
            Self::Recall => "recall",
            Self::Specificity => "specificity",
        }
    }

    /// Whether a larger value is a better one.
    pub fn larger_is_better(self) -> bool {
        !matches!(self, Self::Brier | Self::Ece | Self::Loss)
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.split, self.score.name())
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Score::ALL.map(Score::name).join(", ");
        let refuse = || format!("{text:?} is not a metric: write val.SCORE or test.SCORE with a score of {names}");
        let (split, score) = text.split_once('.').ok_or_else(refuse)?;
        let split = split.parse().map_err(|_| refuse())?;
        let score = Score::ALL.into_iter().find(|known| known.name() == score).ok_or_else(refuse)?;
        if split == Split::Train { Err(refuse()) } else { Ok(Self { split, score }) }
    }
}

impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// How a probability of the positive class becomes a decision. Chosen on val, frozen, applied to test and external.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    /// This value.
    Fixed(f64),
    /// Maximises sensitivity + specificity on val (Youden, "Index for rating diagnostic tests", 1950).
    Youden,
    /// Maximises F1 on val.
    F1,
}

impl Serialize for Threshold {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fixed(value) => serializer.serialize_f64(*value),
            Self::Youden => serializer.serialize_str("youden"),
            Self::F1 => serializer.serialize_str("f1"),
        }
    }
}

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Threshold;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a probability between 0 and 1, \"youden\" or \"f1\"")
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Threshold, E> {
                if (0.0..=1.0).contains(&value) {
                    Ok(Threshold::Fixed(value))
                } else {
                    Err(E::invalid_value(de::Unexpected::Float(value), &self))
                }
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Threshold, E> {
                self.visit_f64(value as f64)
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Threshold, E> {
                self.visit_f64(value as f64)
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Threshold, E> {
                match value {
                    "youden" => Ok(Threshold::Youden),
                    "f1" => Ok(Threshold::F1),
                    _ => Err(E::invalid_value(de::Unexpected::Str(value), &self)),
                }
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}
