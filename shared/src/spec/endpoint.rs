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
    /// Whether splits that are [too small](super::check_sizes) for what they are used for are taken all the same.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub accept_small_splits: bool,
}

impl Default for Endpoint {
    fn default() -> Self {
        Self {
            metric: Metric { split: Split::Val, score: Score::Auc },
            epoch: EndpointEpoch::Last,
            threshold: Threshold::Fixed(0.5),
            accept_small_splits: false,
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
///
/// Written as a number, as a name, or as a table with one key: `{ sensitivity = 0.95 }`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    /// This value.
    Fixed(f64),
    /// Maximises sensitivity + specificity on val (Youden, "Index for rating diagnostic tests", 1950).
    Youden,
    /// Maximises F1 on val.
    F1,
    /// Of those with at least this sensitivity on val, the one with the highest specificity; in (0, 1].
    Sensitivity(f64),
    /// Of those with at least this specificity on val, the one with the highest sensitivity; in (0, 1].
    Specificity(f64),
    /// Costs least on val where a missed positive costs this many times what a false alarm does; above 0.
    Cost(f64),
}

/// The key of a threshold that is written as a table.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Rule {
    Sensitivity,
    Specificity,
    Cost,
}

impl Rule {
    fn of(self, value: f64) -> Result<Threshold, String> {
        let is_share = value > 0.0 && value <= 1.0;
        match self {
            Self::Sensitivity if is_share => Ok(Threshold::Sensitivity(value)),
            Self::Specificity if is_share => Ok(Threshold::Specificity(value)),
            Self::Cost if value > 0.0 && value.is_finite() => Ok(Threshold::Cost(value)),
            Self::Sensitivity => Err(format!("`sensitivity` {value} is not above 0 and up to 1")),
            Self::Specificity => Err(format!("`specificity` {value} is not above 0 and up to 1")),
            Self::Cost => {
                Err(format!("`cost` {value} is not above 0 and finite: how many false alarms a missed positive costs"))
            }
        }
    }
}

impl Serialize for Threshold {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fixed(value) => serializer.serialize_f64(*value),
            Self::Youden => serializer.serialize_str("youden"),
            Self::F1 => serializer.serialize_str("f1"),
            Self::Sensitivity(least) => serializer.collect_map([("sensitivity", least)]),
            Self::Specificity(least) => serializer.collect_map([("specificity", least)]),
            Self::Cost(cost) => serializer.collect_map([("cost", cost)]),
        }
    }
}

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Threshold;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a probability between 0 and 1, \"youden\", \"f1\", or a table with one of `sensitivity`, \
                     `specificity` and `cost`",
                )
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

            fn visit_map<A: de::MapAccess<'de>>(self, mut table: A) -> Result<Threshold, A::Error> {
                let one = "one of `sensitivity`, `specificity` and `cost`";
                let Some(rule) = table.next_key::<Rule>()? else {
                    return Err(de::Error::custom(format!("the threshold's table is empty; write {one}")));
                };
                let threshold = rule.of(table.next_value()?).map_err(de::Error::custom)?;
                if table.next_key::<Rule>()?.is_some() {
                    return Err(de::Error::custom(format!("a threshold is chosen by one rule; write {one}")));
                }
                Ok(threshold)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{ExperimentSpec, Format, parse};

    fn spec(endpoint: &str) -> Result<ExperimentSpec, super::super::Error> {
        let text = format!(
            "name = \"x\"\ndata.dataset = \"d\"\nmodel.init = \"random\"\nbudget.epochs = 1\nseeds.count = 1\n\
             [[arm]]\nname = \"a\"\nstages = [{{ epochs = 1, train = \"head\" }}]\n[endpoint]\n{endpoint}\n"
        );
        parse(&text, Format::Toml)
    }

    #[test]
    fn thresholds_are_read_and_written_and_read_again() {
        let rules = [
            ("0.25", Threshold::Fixed(0.25)),
            ("1", Threshold::Fixed(1.0)),
            ("\"youden\"", Threshold::Youden),
            ("\"f1\"", Threshold::F1),
            ("{ sensitivity = 0.95 }", Threshold::Sensitivity(0.95)),
            ("{ specificity = 1 }", Threshold::Specificity(1.0)),
            ("{ cost = 5 }", Threshold::Cost(5.0)),
            ("{ cost = 1e-3 }", Threshold::Cost(0.001)),
        ];
        for (text, rule) in rules {
            let read = spec(&format!("threshold = {text}")).expect("a rule");
            assert_eq!(read.endpoint.threshold, rule);
            let json = serde_json::to_string(&read).expect("plain data");
            assert_eq!(parse(&json, Format::Json).expect("what was written"), read);
        }
        let yaml: Threshold = serde_saphyr::from_str("{specificity: 0.9}").expect("a rule");
        assert_eq!(yaml, Threshold::Specificity(0.9));
        assert_eq!(
            serde_json::to_string(&Threshold::Sensitivity(0.95)).expect("plain data"),
            r#"{"sensitivity":0.95}"#
        );
    }

    #[test]
    fn what_is_no_threshold_is_refused_with_the_way_out() {
        let refused = [
            "threshold = 1.5",
            "threshold = \"yuden\"",
            "threshold = { sensitivty = 0.95 }",
            "threshold = {}",
            "threshold = { sensitivity = 0.95, specificity = 0.9 }",
            "threshold = { sensitivity = 95 }",
            "threshold = { specificity = 0.0 }",
            "threshold = { cost = 0 }",
            "threshold = { cost = inf }",
            "threshold = { sensitivity = nan }",
            "threshold = { cost = \"high\" }",
            "accept_small = true",
        ];
        let told = refused.map(|text| spec(text).expect_err("no endpoint").to_string());
        insta::assert_snapshot!(told.join("\n\n"));
    }

    /// An older coordinator refuses keys that it does not know.
    #[test]
    fn small_splits_are_written_only_where_they_are_accepted() {
        let plain = spec("").expect("a spec");
        assert!(!serde_json::to_string(&plain).expect("plain data").contains("accept_small_splits"));
        let accepting = spec("accept_small_splits = true").expect("a spec");
        assert!(accepting.endpoint.accept_small_splits);
        assert_eq!(parse(&serde_json::to_string(&accepting).expect("plain data"), Format::Json), Ok(accepting));
    }
}
