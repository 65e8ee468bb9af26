//! Augmentation as a spec writes it: a named, versioned policy, or one that is written out.
//!
//! What a policy does to an image and how its draws are made is the trainer's and `ceteris data preview`'s; here is
//! only what can be said about it, what it is called in the lineage, and what is refused.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

/// What is done to training images before a network sees them.
#[derive(Clone, Debug, PartialEq)]
pub enum Augment {
    /// A policy that has a name.
    Named(PolicyName),
    /// A policy that is written out.
    Custom(Box<CustomPolicy>),
}

/// A named policy. One that changes gets a new version, which is part of the lineage; a name without a version means
/// the newest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PolicyName {
    /// The images as they are.
    #[default]
    None,
    /// Flip, small rotation, translation and zoom, brightness.
    Light,
    /// Flip, affine and elastic deformation, brightness, contrast, gamma, noise, blur, random erasing.
    Strong,
    /// `light`, and images and targets mixed in pairs (Zhang et al., "mixup", ICLR 2018).
    Mixup,
}

/// A policy that is written out. What is absent is not done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustomPolicy {
    /// Probability of a horizontal flip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flip: Option<f64>,
    /// Largest rotation in degrees, to either side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<f64>,
    /// Largest translation as a share of the image's size, in either direction and axis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub translation: Option<f64>,
    /// Smallest and largest magnification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zoom: Option<[f64; 2]>,
    /// Largest displacement of an elastic deformation, as a share of the image's size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elastic: Option<f64>,
    /// Largest change of brightness as a share, to either side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brightness: Option<f64>,
    /// Largest change of contrast as a share, to either side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contrast: Option<f64>,
    /// Smallest and largest exponent of the intensities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gamma: Option<[f64; 2]>,
    /// Standard deviation of Gaussian noise as a share of the full range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<f64>,
    /// Largest standard deviation of a Gaussian blur, in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blur: Option<f64>,
    /// Probability that a rectangle is erased (Zhong et al., "Random Erasing Data Augmentation", AAAI 2020).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erase: Option<f64>,
    /// Both parameters of the Beta distribution from which the share of the other image is drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixup: Option<f64>,
}

/// A written setting: a number, or a lowest and a highest one.
#[derive(Clone, Copy)]
enum Setting {
    One(f64),
    Range([f64; 2]),
}

impl PolicyName {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::Light, Self::Strong, Self::Mixup];

    /// The name without the version.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Light => "light",
            Self::Strong => "strong",
            Self::Mixup => "mixup",
        }
    }

    /// The name with its version, as in the lineage. `none` can have only one meaning and has no version.
    pub fn versioned(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Light => "light@1",
            Self::Strong => "strong@1",
            Self::Mixup => "mixup@1",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| text == policy.name() || text == policy.versioned())
    }
}

impl Augment {
    /// The images as they are.
    pub const NONE: Self = Self::Named(PolicyName::None);

    /// Whether images stay as they are.
    pub fn changes_nothing(&self) -> bool {
        *self == Self::NONE
    }

    /// Whether images are mixed with others.
    pub fn mixes(&self) -> bool {
        match self {
            Self::Named(name) => *name == PolicyName::Mixup,
            Self::Custom(policy) => policy.mixup.is_some(),
        }
    }

    /// The text that stands for the policy in the lineage: `strong@1`, or `custom@1` and each setting that is written,
    /// sorted by name, as the bits of its numbers. Policies that differ have different texts, on one line.
    pub fn canonical(&self) -> String {
        let bits = |number: f64| format!("{:016x}", number.to_bits());
        match self {
            Self::Named(name) => name.versioned().to_owned(),
            Self::Custom(policy) => {
                let settings = policy.settings().into_iter().map(|(name, setting)| match setting {
                    Setting::One(number) => format!(" {name}={}", bits(number)),
                    Setting::Range([low, high]) => format!(" {name}={}:{}", bits(low), bits(high)),
                });
                format!("custom@1{}", settings.collect::<String>())
            }
        }
    }

    /// Checks the ranges of a policy that is written out.
    ///
    /// # Errors
    /// The first setting that is out of range, with the range.
    pub(super) fn check(&self) -> Result<(), String> {
        let Self::Custom(policy) = self else { return Ok(()) };
        let settings = policy.settings();
        if settings.is_empty() {
            return Err("the policy does nothing; write \"none\", or one of its settings".to_owned());
        }
        settings.into_iter().try_for_each(|(name, setting)| {
            let (low, high) = bounds(name);
            let good = match setting {
                Setting::One(number) => (low..=high).contains(&number),
                Setting::Range([from, to]) => low <= from && from <= to && to <= high,
            };
            let found = setting.text();
            match setting {
                _ if good => Ok(()),
                Setting::One(_) => Err(format!("`{name}` {found} is not between {low} and {high}")),
                Setting::Range(_) => {
                    Err(format!("`{name}` {found} is not a lowest and a highest value between {low} and {high}"))
                }
            }
        })
    }
}

/// The range of each setting.
fn bounds(name: &str) -> (f64, f64) {
    match name {
        "rotation" => (0.0, 180.0),
        "zoom" | "gamma" => (0.1, 10.0),
        "elastic" => (0.0, 0.5),
        "blur" => (0.0, 32.0),
        "mixup" => (0.01, 100.0),
        _ => (0.0, 1.0),
    }
}

impl CustomPolicy {
    /// What is written, sorted by name.
    fn settings(&self) -> Vec<(&'static str, Setting)> {
        let Self { flip, rotation, translation, zoom, elastic, brightness, contrast, gamma, noise, blur, erase, mixup } =
            *self;
        let (one, range) = (|value: Option<f64>| value.map(Setting::One), |value: Option<_>| value.map(Setting::Range));
        let all = [
            ("blur", one(blur)),
            ("brightness", one(brightness)),
            ("contrast", one(contrast)),
            ("elastic", one(elastic)),
            ("erase", one(erase)),
            ("flip", one(flip)),
            ("gamma", range(gamma)),
            ("mixup", one(mixup)),
            ("noise", one(noise)),
            ("rotation", one(rotation)),
            ("translation", one(translation)),
            ("zoom", range(zoom)),
        ];
        all.into_iter().filter_map(|(name, setting)| Some((name, setting?))).collect()
    }
}

impl Setting {
    fn text(self) -> String {
        match self {
            Self::One(number) => super::number(number),
            Self::Range([low, high]) => format!("{}:{}", super::number(low), super::number(high)),
        }
    }
}

impl Default for Augment {
    fn default() -> Self {
        Self::NONE
    }
}

/// What people are shown: the name as it is written, or `custom(flip=0.5,zoom=0.9:1.1)`.
impl fmt::Display for Augment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name.name()),
            Self::Custom(policy) => {
                let settings = policy.settings();
                let told: Vec<String> = settings.iter().map(|(name, s)| format!("{name}={}", s.text())).collect();
                write!(f, "custom({})", told.join(","))
            }
        }
    }
}

impl Serialize for Augment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Named(name) => serializer.serialize_str(name.versioned()),
            Self::Custom(policy) => policy.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Augment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrTable;

        impl<'de> Visitor<'de> for NameOrTable {
            type Value = Augment;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an augmentation policy's name, or a table of its settings")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Augment, E> {
                const NAMES: &[&str] = &["none", "light", "light@1", "strong", "strong@1", "mixup", "mixup@1"];
                PolicyName::parse(text).map(Augment::Named).ok_or_else(|| E::unknown_variant(text, NAMES))
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Augment, A::Error> {
                CustomPolicy::deserialize(MapAccessDeserializer::new(table)).map(|p| Augment::Custom(Box::new(p)))
            }
        }

        deserializer.deserialize_any(NameOrTable)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn read(text: &str) -> Augment {
        serde_json::from_str(text).expect("a policy")
    }

    #[test]
    fn names_have_versions_and_tables_do_not_need_any() {
        for (written, canonical) in [
            ("\"none\"", "none"),
            ("\"light\"", "light@1"),
            ("\"light@1\"", "light@1"),
            ("\"strong\"", "strong@1"),
            ("\"mixup@1\"", "mixup@1"),
            (r#"{"zoom":[0.5,2],"flip":1}"#, "custom@1 flip=3ff0000000000000 zoom=3fe0000000000000:4000000000000000"),
        ] {
            let policy = read(written);
            assert_eq!(policy.canonical(), canonical);
            assert_eq!(read(&serde_json::to_string(&policy).expect("a policy")), policy);
        }
        assert_eq!(read(r#"{"zoom":[0.5,2],"flip":0.5}"#).to_string(), "custom(flip=0.5,zoom=0.5:2)");
        let error = |text: &str| serde_json::from_str::<Augment>(text).expect_err("no policy").to_string();
        insta::assert_snapshot!(["\"light@2\"", "\"ligth\"", r#"{"flips":0.5}"#, "3"].map(error).join("\n"));
    }

    #[test]
    fn every_setting_has_a_canonical_text_of_its_own() {
        let written =
            ["flip", "rotation", "translation", "elastic", "brightness", "contrast", "noise", "blur", "erase"];
        let one = written.iter().chain(&["mixup"]).flat_map(|name| [0.25, 0.5].map(|v| format!("{{\"{name}\":{v}}}")));
        let ranges = ["zoom", "gamma"]
            .iter()
            .flat_map(|name| ["[0.5,1]", "[0.5,2]", "[1,2]"].map(|range| format!("{{\"{name}\":{range}}}")));
        let names = PolicyName::ALL.map(|name| format!("\"{}\"", name.name()));
        let all: Vec<String> = one.chain(ranges).chain(names).chain(["{}".to_owned()]).collect();
        let canonical: HashSet<String> = all.iter().map(|text| read(text).canonical()).collect();
        assert_eq!(canonical.len(), all.len());
        assert!(canonical.iter().all(|text| !text.contains('\n')));
    }

    #[test]
    fn what_is_out_of_range_is_refused_with_the_range() {
        let refused = ["{}", r#"{"flip":1.5}"#, r#"{"rotation":-3}"#, r#"{"zoom":[1.1,0.9]}"#, r#"{"mixup":0}"#]
            .map(|text| read(text).check().expect_err("out of range"));
        insta::assert_snapshot!(refused.join("\n"));
        assert_eq!(read(r#"{"flip":0.5,"gamma":[0.8,1.2]}"#).check(), Ok(()));
    }
}
