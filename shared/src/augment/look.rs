//! What was drawn for one sample in one epoch.

use crate::{
    ids::Epoch,
    seed::{Draws, Purpose, draw},
};

use super::Policy;

/// How a sample is shown in one epoch. Every number has its own place in the stream of [`Purpose::Augment`]; new ones
/// are drawn after all others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// Mirrored left to right.
    pub flip: bool,
    /// Degrees, counter-clockwise.
    pub rotation: f64,
    /// To the right and down, as a share of the image's size.
    pub translation: [f64; 2],
    /// Magnification.
    pub zoom: f64,
    /// Factor on every pixel, cut off at white.
    pub brightness: f64,
    /// Factor on every pixel's distance from the image's mean.
    pub contrast: f64,
    /// Exponent of every pixel's value.
    pub gamma: f64,
    /// Deviation of the noise, as a share of the full range.
    pub noise: f64,
    /// Deviation of the blur in pixels.
    pub blur: f64,
    /// The rectangle that is erased.
    pub erasing: Option<Erasing>,
    /// Largest elastic displacement, as a share of the image's size.
    pub elastic: f64,
    /// Whose displacement field and noise.
    pub(super) whose: Whose,
}

/// The key of the streams that one sample draws from in one epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Whose {
    seed: u64,
    epoch: u32,
    sample: u32,
}

impl Whose {
    pub(super) fn draws(self, purpose: Purpose) -> Draws {
        draw(self.seed, Epoch(self.epoch), u64::from(self.sample), purpose)
    }
}

/// A rectangle, in shares of the image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Erasing {
    /// Width and height, as shares of the image's size.
    pub size: [f64; 2],
    /// Where it lies: 0 is at the left and the top, 1 at the right and the bottom.
    pub place: [f64; 2],
}

impl Look {
    /// The image itself.
    pub const PLAIN: Self = Self {
        flip: false,
        rotation: 0.0,
        translation: [0.0; 2],
        zoom: 1.0,
        brightness: 1.0,
        contrast: 1.0,
        gamma: 1.0,
        noise: 0.0,
        blur: 0.0,
        erasing: None,
        elastic: 0.0,
        whose: Whose { seed: 0, epoch: 0, sample: 0 },
    };

    /// The look of `sample` in `epoch` under `policy`, which [`Policy::check`] accepts.
    pub fn draw(policy: &Policy, seed: u64, epoch: Epoch, sample: u32) -> Self {
        if *policy == Policy::NONE {
            return Self::PLAIN;
        }
        let whose = Whose { seed, epoch: epoch.0, sample };
        let mut draws = whose.draws(Purpose::Augment);
        let flip = draws.chance(policy.flip);
        let mut within = |bound: f64| draws.between(-bound, bound);
        let rotation = within(policy.rotation);
        let translation = [within(policy.translation), within(policy.translation)];
        let zoom = draws.between(policy.zoom[0], policy.zoom[1]);
        let brightness = draws.between(1.0 - policy.brightness, 1.0 + policy.brightness);
        let contrast = draws.between(1.0 - policy.contrast, 1.0 + policy.contrast);
        let gamma = log_uniform(&mut draws, policy.gamma);
        let noise = draws.between(0.0, policy.noise);
        let blur = draws.between(0.0, policy.blur);
        let erases = draws.chance(policy.erase);
        let rectangle = Erasing::draw(&mut draws);
        let erasing = erases.then_some(rectangle);
        let elastic = policy.elastic;
        Self { flip, rotation, translation, zoom, brightness, contrast, gamma, noise, blur, erasing, elastic, whose }
    }

    /// Whether this is the image itself or its mirror image, which is shown without resampling.
    pub fn only_flips(&self) -> bool {
        Self { flip: false, whose: Whose::default(), ..*self } == Self::PLAIN
    }
}

/// Uniform on the logarithmic scale; exact where the bounds are equal.
fn log_uniform(draws: &mut Draws, [low, high]: [f64; 2]) -> f64 {
    let at = draws.uniform();
    if low == high { low } else { (low.ln() + (high.ln() - low.ln()) * at).exp() }
}

impl Erasing {
    /// Shares of the area, and aspect ratios, of torchvision's `RandomErasing`.
    const AREA: [f64; 2] = [0.02, 0.33];
    const ASPECT: [f64; 2] = [0.3, 3.3];

    fn draw(draws: &mut Draws) -> Self {
        let area = draws.between(Self::AREA[0], Self::AREA[1]);
        let aspect = log_uniform(draws, Self::ASPECT);
        let size = [(area * aspect).sqrt().min(1.0), (area / aspect).sqrt().min(1.0)];
        Self { size, place: [draws.uniform(), draws.uniform()] }
    }

    /// First pixel and the one after the last, along the axis `axis` of an image of `pixels`.
    pub(super) fn span(&self, axis: usize, pixels: usize) -> std::ops::Range<usize> {
        let length = (self.size[axis] * pixels as f64).round() as usize;
        let first = (self.place[axis] * (pixels.saturating_sub(length) + 1) as f64) as usize;
        first.min(pixels)..(first + length).min(pixels)
    }
}
