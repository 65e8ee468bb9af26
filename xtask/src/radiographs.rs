//! Synthetic chest radiographs: something to train on before anyone has asked for real data.
//!
//! They are drawn, not learned from anybody, so they carry no licence and no patient. They are also not medicine: a
//! thorax of ellipses whose size, pose, exposure and bones vary from patient to patient, and, in the class PNEUMONIA,
//! soft opacities so faint that some cannot be told from the vessels and the noise around them. Every image is a pure
//! function of (seed, split, class, patient, image); patients never cross splits.

use std::{f64::consts::TAU, fs, io, path::Path};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// The classes, in the order of their names.
pub const CLASSES: [&str; 2] = ["NORMAL", "PNEUMONIA"];

/// What to draw.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Every number drawn depends on it.
    pub seed: u64,
    /// Height and width in pixels.
    pub size: u32,
    /// Images of each class in train, val and test.
    pub per_class: [u32; 3],
    /// How bright the opacities are, as a part of the whole range of greys: the difficulty.
    pub opacity: f64,
}

impl Plan {
    /// What the demo trains on: AUC ends between chance and certainty.
    pub fn demo() -> Self {
        Self { seed: 0, size: 96, per_class: [120, 40, 40], opacity: 0.3 }
    }
}

/// Writes `SPLIT/CLASS/pPATIENT-IMAGE.png` below `directory`, which is created, and returns how many.
///
/// # Errors
/// When a folder or a file cannot be written.
pub fn write(plan: &Plan, directory: &Path) -> io::Result<usize> {
    let mut written = 0;
    let mut patient = 0;
    for (split, count) in ["train", "val", "test"].into_iter().zip(plan.per_class) {
        for (class, name) in CLASSES.into_iter().enumerate() {
            let folder = directory.join(split).join(name);
            fs::create_dir_all(&folder)?;
            let mut left = count;
            while left > 0 {
                patient += 1;
                let thorax = Thorax::of_patient(plan, patient);
                let images = left.min(thorax.images);
                for image in 1..=images {
                    let pixels = thorax.image(plan, class == 1, patient, image);
                    save(&folder.join(format!("p{patient:04}-{image}.png")), plan.size, &pixels)?;
                }
                left -= images;
                written += images as usize;
            }
        }
    }
    Ok(written)
}

fn save(path: &Path, size: u32, pixels: &[u8]) -> io::Result<()> {
    let mut encoder = png::Encoder::new(io::BufWriter::new(fs::File::create(path)?), size, size);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(())
}

/// A stream of numbers.
struct Draws(ChaCha8Rng);

impl Draws {
    fn new(seed: u64, patient: u32, image: u32) -> Self {
        let mut key = [0; 32];
        for (slot, value) in key.chunks_exact_mut(8).zip([seed, patient.into(), image.into(), 0]) {
            slot.copy_from_slice(&value.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * f64::from(self.0.next_u32()) / (f64::from(u32::MAX) + 1.0)
    }

    /// Mean 0 and variance 1, near enough to normal for film grain: the sum of twelve uniform draws.
    fn grain(&mut self) -> f64 {
        (0..12).map(|_| self.between(-0.5, 0.5)).sum()
    }
}

/// What stays the same in all images of one patient. Lengths are parts of the image's side.
struct Thorax {
    images: u32,
    width: f64,
    height: f64,
    heart: f64,
    ribs: f64,
    rib_contrast: f64,
    exposure: f64,
}

impl Thorax {
    fn of_patient(plan: &Plan, patient: u32) -> Self {
        let mut draws = Draws::new(plan.seed, patient, 0);
        Self {
            images: draws.between(1.0, 4.0) as u32,
            width: draws.between(0.145, 0.185),
            height: draws.between(0.28, 0.36),
            heart: draws.between(0.09, 0.15),
            ribs: draws.between(8.0, 11.0),
            rib_contrast: draws.between(0.03, 0.08),
            exposure: draws.between(-0.06, 0.06),
        }
    }

    /// Row-major 8-bit grey; bright is dense, as on film.
    fn image(&self, plan: &Plan, pneumonia: bool, patient: u32, image: u32) -> Vec<u8> {
        let mut draws = Draws::new(plan.seed, patient, image);
        let shift = (draws.between(-0.03, 0.03), draws.between(-0.03, 0.03));
        let tilt = draws.between(-0.06, 0.06);
        let exposure = self.exposure + draws.between(-0.03, 0.03);
        let vessels = self.spots(&mut draws, 14, (0.012, 0.03), (0.02, 0.09));
        let opacities = draws.between(1.0, 4.0) as usize;
        let strength = plan.opacity;
        let opacities = self.spots(&mut draws, opacities, (0.05, 0.1), (0.5 * strength, 1.5 * strength));
        let size = plan.size;
        let mut pixels = Vec::with_capacity((size * size) as usize);
        for row in 0..size {
            for column in 0..size {
                let x = (f64::from(column) + 0.5) / f64::from(size) - 0.5 - shift.0;
                let y = (f64::from(row) + 0.5) / f64::from(size) - 0.5 - shift.1;
                let (x, y) = (x + tilt * y, y - tilt * x);
                let mut density = self.anatomy(x, y) + exposure;
                let lung = self.lung(x, y);
                let seen = if pneumonia { &[&vessels[..], &opacities[..]][..] } else { &[&vessels[..]][..] };
                density += lung * seen.iter().copied().flatten().map(|spot| spot.density(x, y)).sum::<f64>();
                density += 0.025 * draws.grain();
                pixels.push((255.0 * density.clamp(0.0, 1.0)).round() as u8);
            }
        }
        pixels
    }

    /// 1 inside a lung, 0 outside, and soft between.
    fn lung(&self, x: f64, y: f64) -> f64 {
        let side = |centre: f64| {
            let narrowing = 1.0 + 0.35 * (y / self.height);
            let distance = ((x - centre) / (self.width * narrowing)).hypot((y + 0.02) / self.height);
            soft_step(1.0 - distance, 0.08)
        };
        side(-0.21).max(side(0.21))
    }

    /// Soft tissue, spine, heart and ribs around air.
    fn anatomy(&self, x: f64, y: f64) -> f64 {
        let body = 0.62 * soft_step(0.47 - x.abs() - 0.1 * (-y - 0.3).max(0.0), 0.04);
        let spine = 0.16 * (-(x / 0.05).powi(2)).exp();
        let heart = soft_step(1.0 - ((x - 0.06) / self.heart).hypot((y - 0.13) / 0.15), 0.12);
        let lung = self.lung(x, y) * (1.0 - 0.85 * heart);
        let ribs = ((y + 0.9 * x * x) * self.ribs * TAU).cos().max(0.0) * soft_step(0.44 - x.abs(), 0.05);
        body + spine - 0.42 * lung + 0.1 * heart + self.rib_contrast * ribs
    }

    /// `count` spots somewhere in the lungs, with radii and densities in the given ranges.
    fn spots(&self, draws: &mut Draws, count: usize, radius: (f64, f64), density: (f64, f64)) -> Vec<Spot> {
        (0..count)
            .map(|_| {
                let side = if draws.between(0.0, 1.0) < 0.5 { -0.21 } else { 0.21 };
                let (angle, reach) = (draws.between(0.0, TAU), draws.between(0.0, 0.8).sqrt());
                Spot {
                    x: side + self.width * reach * angle.cos(),
                    y: -0.02 + self.height * reach * angle.sin(),
                    radius: draws.between(radius.0, radius.1),
                    stretch: draws.between(0.7, 1.4),
                    density: draws.between(density.0, density.1),
                }
            })
            .collect()
    }
}

/// A patch with a soft edge.
struct Spot {
    x: f64,
    y: f64,
    radius: f64,
    stretch: f64,
    density: f64,
}

impl Spot {
    fn density(&self, x: f64, y: f64) -> f64 {
        let (dx, dy) = ((x - self.x) / self.radius, (y - self.y) / (self.radius * self.stretch));
        self.density * (-0.5 * (dx * dx + dy * dy)).exp()
    }
}

/// 0 well below zero, 1 well above, over about `width`.
fn soft_step(value: f64, width: f64) -> f64 {
    1.0 / (1.0 + (-4.0 * value / width).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Plan = Plan { seed: 0, size: 32, per_class: [5, 2, 2], opacity: 0.5 };

    fn image(plan: &Plan, pneumonia: bool) -> Vec<u8> {
        Thorax::of_patient(plan, 1).image(plan, pneumonia, 1, 1)
    }

    #[test]
    fn the_same_seed_draws_the_same_images_and_another_seed_others() {
        let other = Plan { seed: 1, ..SMALL };
        assert_eq!(image(&SMALL, true), image(&SMALL, true));
        assert_ne!(image(&SMALL, true), image(&other, true));
    }

    #[test]
    fn pneumonia_only_adds_density() {
        let (normal, pneumonia) = (image(&SMALL, false), image(&SMALL, true));
        assert!(normal.iter().zip(&pneumonia).all(|(without, with)| without <= with));
        assert_ne!(normal, pneumonia);
    }

    #[test]
    fn every_split_and_class_has_its_images_and_no_patient_is_in_two_folders() {
        let directory = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(write(&SMALL, directory.path()).expect("it is writable"), 18);
        let mut patients = Vec::new();
        for (split, count) in ["train", "val", "test"].into_iter().zip(SMALL.per_class) {
            for class in CLASSES {
                let names: Vec<String> = fs::read_dir(directory.path().join(split).join(class))
                    .expect("the folder exists")
                    .map(|entry| entry.expect("it can be listed").file_name().into_string().expect("ASCII"))
                    .collect();
                assert_eq!(names.len(), count as usize);
                let mut here: Vec<String> = names.iter().map(|name| name[..5].to_owned()).collect();
                here.sort();
                here.dedup();
                patients.extend(here);
            }
        }
        let folders = patients.len();
        patients.sort();
        patients.dedup();
        assert_eq!(patients.len(), folders);
    }
}
