//! How one sample looks in one epoch. The parameters are a pure function of (seed, epoch, sample), so arms with one seed
//! see the same images whatever worker or restart they run on.

use ceteris_shared::{
    ids::Epoch,
    seed::{Purpose, draw},
    spec::{Augment, PolicyName},
};

/// How a sample is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Look {
    /// As it is.
    Plain,
    /// Changed by policy `light@1`.
    Light(Light),
}

/// One draw of policy `light@1`. Every field is drawn from its own place in the stream, so none shifts another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Light {
    /// Mirrored left to right; probability 1/2.
    pub flip: bool,
    /// Degrees, counter-clockwise; uniform within ±10.
    pub rotation: f64,
    /// To the right and down, as a share of the image's size; uniform within ±0.05.
    pub translation: [f64; 2],
    /// Magnification; uniform within 0.9 to 1.1.
    pub zoom: f64,
    /// Factor on every pixel, cut off at white; uniform within 0.9 to 1.1.
    pub brightness: f64,
}

impl Look {
    /// The look of `sample` in `epoch` under `policy`.
    pub fn draw(policy: &Augment, seed: u64, epoch: Epoch, sample: u32) -> Self {
        match policy {
            Augment::Named(PolicyName::None) => Self::Plain,
            _ => {
                let mut draws = draw(seed, epoch, u64::from(sample), Purpose::Augment);
                Self::Light(Light {
                    flip: draws.chance(0.5),
                    rotation: draws.between(-10.0, 10.0),
                    translation: [draws.between(-0.05, 0.05), draws.between(-0.05, 0.05)],
                    zoom: draws.between(0.9, 1.1),
                    brightness: draws.between(0.9, 1.1),
                })
            }
        }
    }

    /// Shows a square image of `size × size` grey pixels: values in [0, 1], row by row, into `shown`.
    pub fn show(&self, pixels: &[u8], size: usize, shown: &mut [f32]) {
        match self {
            Self::Plain => {
                for (value, pixel) in shown.iter_mut().zip(pixels) {
                    *value = f32::from(*pixel) / 255.0;
                }
            }
            Self::Light(light) => light.show(pixels, size, shown),
        }
    }
}

impl Light {
    /// One bilinear pass over the inverse map; what lies outside the source is black.
    fn show(&self, pixels: &[u8], size: usize, shown: &mut [f32]) {
        let centre = (size as f64 - 1.0) / 2.0;
        let (sin, cos) = self.rotation.to_radians().sin_cos();
        let mirror = if self.flip { -1.0 } else { 1.0 };
        let [right, down] = self.translation.map(|share| share * size as f64);
        for (y, row) in shown.chunks_exact_mut(size).enumerate() {
            for (x, value) in row.iter_mut().enumerate() {
                let (dx, dy) = (x as f64 - centre - right, y as f64 - centre - down);
                // Rows go downwards, so turning the source clockwise turns the picture counter-clockwise.
                let source_x = (cos * dx - sin * dy) / self.zoom * mirror + centre;
                let source_y = (sin * dx + cos * dy) / self.zoom + centre;
                let grey = bilinear(pixels, size, source_x, source_y);
                *value = (grey * self.brightness / 255.0).min(1.0) as f32;
            }
        }
    }
}

/// The image's value between pixel centres.
fn bilinear(pixels: &[u8], size: usize, x: f64, y: f64) -> f64 {
    let (left, top) = (x.floor(), y.floor());
    let at = |column: f64, row: f64| {
        let last = size as f64 - 1.0;
        let inside = (0.0..=last).contains(&column) && (0.0..=last).contains(&row);
        if inside { f64::from(pixels[row as usize * size + column as usize]) } else { 0.0 }
    };
    let (across, along) = (x - left, y - top);
    let upper = at(left, top) * (1.0 - across) + at(left + 1.0, top) * across;
    let lower = at(left, top + 1.0) * (1.0 - across) + at(left + 1.0, top + 1.0) * across;
    upper * (1.0 - along) + lower * along
}

#[cfg(test)]
mod tests {
    use super::*;

    const STILL: Light = Light { flip: false, rotation: 0.0, translation: [0.0, 0.0], zoom: 1.0, brightness: 1.0 };
    const IMAGE: [u8; 9] = [10, 20, 30, 40, 50, 60, 70, 80, 250];

    fn shown(light: Light) -> Vec<u8> {
        let mut shown = [0.0; 9];
        Look::Light(light).show(&IMAGE, 3, &mut shown);
        shown.iter().map(|value| (value * 255.0).round() as u8).collect()
    }

    #[test]
    fn no_change_shows_the_image_itself() {
        assert_eq!(shown(STILL), IMAGE);
        let mut plain = [0.0; 9];
        Look::Plain.show(&IMAGE, 3, &mut plain);
        assert_eq!(plain[8], 250.0 / 255.0);
    }

    #[test]
    fn each_change_does_what_its_name_says() {
        assert_eq!(shown(Light { flip: true, ..STILL }), [30, 20, 10, 60, 50, 40, 250, 80, 70]);
        assert_eq!(shown(Light { rotation: 90.0, ..STILL }), [30, 60, 250, 20, 50, 80, 10, 40, 70]);
        assert_eq!(shown(Light { translation: [1.0 / 3.0, 0.0], ..STILL }), [0, 10, 20, 0, 40, 50, 0, 70, 80]);
        assert_eq!(shown(Light { translation: [0.0, 1.0 / 3.0], ..STILL }), [0, 0, 0, 10, 20, 30, 40, 50, 60]);
        assert_eq!(shown(Light { zoom: 2.0, ..STILL }), [30, 35, 40, 45, 50, 55, 60, 65, 110]);
        assert_eq!(shown(Light { brightness: 1.1, ..STILL }), [11, 22, 33, 44, 55, 66, 77, 88, 255]);
    }

    #[test]
    fn a_look_never_changes() {
        // Golden: a change of these numbers changes every augmented result.
        let Look::Light(light) = Look::draw(&Augment::Named(PolicyName::Light), 7, Epoch(3), 11) else { panic!("light was asked for") };
        let numbers = [light.rotation, light.translation[0], light.translation[1], light.zoom, light.brightness];
        let rounded = numbers.map(|number| (number * 1e6).round() / 1e6);
        assert_eq!((light.flip, rounded), GOLDEN);
    }

    const GOLDEN: (bool, [f64; 5]) = (true, [-6.71135, 0.030565, 0.005847, 1.062759, 1.03424]);

    proptest::proptest! {
        #[test]
        fn looks_are_paired_and_within_bounds(seed: u64, epoch in 1u32..1000, sample: u32) {
            let look = Look::draw(&Augment::Named(PolicyName::Light), seed, Epoch(epoch), sample);
            proptest::prop_assert_eq!(look, Look::draw(&Augment::Named(PolicyName::Light), seed, Epoch(epoch), sample));
            proptest::prop_assert_ne!(look, Look::draw(&Augment::Named(PolicyName::Light), seed, Epoch(epoch + 1), sample));
            proptest::prop_assert_ne!(look, Look::draw(&Augment::Named(PolicyName::Light), seed, Epoch(epoch), sample ^ 1));
            let Look::Light(light) = look else { return Ok(()) };
            proptest::prop_assert!(light.rotation.abs() <= 10.0);
            proptest::prop_assert!(light.translation.iter().all(|share| share.abs() <= 0.05));
            proptest::prop_assert!((0.9..=1.1).contains(&light.zoom) && (0.9..=1.1).contains(&light.brightness));
        }

        #[test]
        fn shown_values_are_greys(pixels: [u8; 16], rotation in -10.0..10.0, zoom in 0.9..1.1, brightness in 0.9..1.1) {
            let mut shown = [f32::NAN; 16];
            Look::Light(Light { rotation, zoom, brightness, ..STILL }).show(&pixels, 4, &mut shown);
            proptest::prop_assert!(shown.iter().all(|value| (0.0..=1.0).contains(value)));
        }
    }
}
