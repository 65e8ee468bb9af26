//! Between which bounds looks are drawn: the named policies, and what a policy that is written out may hold.

use serde::{Deserialize, Serialize};

use crate::spec::{Augment, CustomPolicy, PolicyName};

/// An augmentation policy. [`Policy::NONE`] changes nothing; each field widens one change, independently of the others.
///
/// The order in which changes are made is fixed: flip, then rotation, zoom, elastic displacement and translation in one
/// bilinear resampling with black outside, brightness, blur, contrast, gamma, noise, erasing, and at last mixup.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Probability of mirroring left to right.
    pub flip: f64,
    /// Rotation is uniform within ± this many degrees.
    pub rotation: f64,
    /// Translation along each axis is uniform within ± this share of the image's size.
    pub translation: f64,
    /// Magnification is uniform between these.
    pub zoom: [f64; 2],
    /// No point is displaced elastically by more than this share of the image's size along an axis. A smooth field as in
    /// Simard et al., "Best practices for convolutional neural networks", ICDAR 2003, here a cubic B-spline.
    pub elastic: f64,
    /// The factor on every pixel, cut off at white, is uniform within 1 ± this.
    pub brightness: f64,
    /// The factor on every pixel's distance from the image's mean is uniform within 1 ± this.
    pub contrast: f64,
    /// The exponent of every pixel's value, the full range being 0 to 1, is log-uniform between these.
    pub gamma: [f64; 2],
    /// Gaussian noise has a deviation that is uniform between 0 and this share of the full range.
    pub noise: f64,
    /// Gaussian blur has a deviation that is uniform between 0 and this many pixels.
    pub blur: f64,
    /// Probability that a rectangle becomes the image's mean (Zhong et al., "Random Erasing Data Augmentation", AAAI
    /// 2020): 2 % to 33 % of the area, aspect ratio 0.3 to 3.3, as in torchvision's `RandomErasing`.
    pub erase: f64,
    /// Alpha of mixup (Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018): the share of a sample in
    /// its blend with another is Beta(alpha, alpha). 0 is no mixup.
    pub mixup: f64,
}

impl Default for Policy {
    fn default() -> Self {
        Self::NONE
    }
}

/// The named policies, with their version: a policy that changes gets a new one.
pub const NAMED: [(&str, Policy); 4] =
    [("none", Policy::NONE), ("light@1", Policy::LIGHT), ("strong@1", Policy::STRONG), ("mixup@1", Policy::MIXUP)];

/// Why a policy is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("augmentation: {field} is {found}; it must be {allowed}")]
pub struct Error {
    /// The field.
    pub field: &'static str,
    /// What it holds.
    pub found: String,
    /// What it may hold.
    pub allowed: String,
}

impl From<&Augment> for Policy {
    fn from(augment: &Augment) -> Self {
        match augment {
            Augment::Named(PolicyName::None) => Self::NONE,
            Augment::Named(PolicyName::Light) => Self::LIGHT,
            Augment::Named(PolicyName::Strong) => Self::STRONG,
            Augment::Named(PolicyName::Mixup) => Self::MIXUP,
            Augment::Custom(written) => Self::written_out(written),
        }
    }
}

impl Policy {
    /// The images as they are.
    pub const NONE: Self = Self {
        flip: 0.0,
        rotation: 0.0,
        translation: 0.0,
        zoom: [1.0, 1.0],
        elastic: 0.0,
        brightness: 0.0,
        contrast: 0.0,
        gamma: [1.0, 1.0],
        noise: 0.0,
        blur: 0.0,
        erase: 0.0,
        mixup: 0.0,
    };

    /// `light@1`: flip, small rotation, translation and zoom, brightness.
    pub const LIGHT: Self =
        Self { flip: 0.5, rotation: 10.0, translation: 0.05, zoom: [0.9, 1.1], brightness: 0.1, ..Self::NONE };

    /// `strong@1`: everything but mixup, about as wide as radiographs stay readable.
    pub const STRONG: Self = Self {
        flip: 0.5,
        rotation: 20.0,
        translation: 0.1,
        zoom: [0.8, 1.25],
        elastic: 0.05,
        brightness: 0.2,
        contrast: 0.3,
        gamma: [0.7, 1.4],
        noise: 0.04,
        blur: 1.2,
        erase: 0.25,
        mixup: 0.0,
    };

    /// `mixup@1`: `light@1`, then mixup with the alpha that its paper found best on ImageNet. Both samples of a blend
    /// are shown in their own look of the epoch, as the paper blends images that are augmented already.
    pub const MIXUP: Self = Self { mixup: 0.2, ..Self::LIGHT };

    /// What is written, over [`Policy::NONE`].
    fn written_out(written: &CustomPolicy) -> Self {
        let none = Self::NONE;
        Self {
            flip: written.flip.unwrap_or(none.flip),
            rotation: written.rotation.unwrap_or(none.rotation),
            translation: written.translation.unwrap_or(none.translation),
            zoom: written.zoom.unwrap_or(none.zoom),
            elastic: written.elastic.unwrap_or(none.elastic),
            brightness: written.brightness.unwrap_or(none.brightness),
            contrast: written.contrast.unwrap_or(none.contrast),
            gamma: written.gamma.unwrap_or(none.gamma),
            noise: written.noise.unwrap_or(none.noise),
            blur: written.blur.unwrap_or(none.blur),
            erase: written.erase.unwrap_or(none.erase),
            mixup: written.mixup.unwrap_or(none.mixup),
        }
    }

    /// The policy called `name`, with its version or without.
    pub fn named(name: &str) -> Option<Self> {
        let unversioned = |known: &'static str| known.split('@').next().unwrap_or(known);
        NAMED.into_iter().find(|(known, _)| *known == name || unversioned(known) == name).map(|(_, policy)| policy)
    }

    /// Whether every look of this policy is the image itself, or its mirror image.
    pub fn only_flips(&self) -> bool {
        Self { flip: 0.0, ..*self } == Self::NONE
    }

    /// Refuses what cannot be drawn from, or would leave nothing of an image.
    ///
    /// # Errors
    /// With the first field that is out of its bounds.
    pub fn check(&self) -> Result<(), Error> {
        let single = [
            ("flip", self.flip, 0.0, 1.0),
            ("rotation", self.rotation, 0.0, 180.0),
            ("translation", self.translation, 0.0, 1.0),
            ("elastic", self.elastic, 0.0, 0.5),
            ("brightness", self.brightness, 0.0, 1.0),
            ("contrast", self.contrast, 0.0, 1.0),
            ("noise", self.noise, 0.0, 1.0),
            ("blur", self.blur, 0.0, 32.0),
            ("erase", self.erase, 0.0, 1.0),
            ("mixup", self.mixup, 0.0, 100.0),
        ];
        for (field, value, low, high) in single {
            if !(low..=high).contains(&value) {
                return Err(Error { field, found: value.to_string(), allowed: format!("between {low} and {high}") });
            }
        }
        for (field, [low, high]) in [("zoom", self.zoom), ("gamma", self.gamma)] {
            if !(0.1 <= low && low <= high && high <= 10.0) {
                let allowed = "two numbers between 0.1 and 10, the smaller one first".to_owned();
                return Err(Error { field, found: format!("[{low}, {high}]"), allowed });
            }
        }
        Ok(())
    }
}
