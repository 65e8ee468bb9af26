//! Pixels as a look shows them.

use super::{Look, noise, resample::Resampler, soften::Softener, tone::Curve};

/// Shows square grey images of one size. It keeps buffers between images: one for each thread.
#[derive(Clone, Debug)]
pub struct Canvas {
    size: usize,
    resampler: Resampler,
    softener: Softener,
}

impl Canvas {
    /// A canvas for images of `size × size` pixels.
    pub fn new(size: usize) -> Self {
        Self { size, resampler: Resampler::new(size), softener: Softener::new(size) }
    }

    /// Shows `pixels`, 8-bit grey, row by row: values in [0, 1] into `shown`.
    ///
    /// # Panics
    /// When one of them does not have `size × size` values.
    pub fn show(&mut self, look: &Look, pixels: &[u8], shown: &mut [f32]) {
        assert_eq!([pixels.len(), shown.len()], [self.size * self.size; 2], "pixels that do not fit the canvas");
        if look.only_flips() {
            return show_exactly(look.flip, self.size, pixels, shown);
        }
        self.resampler.show(look, pixels, shown);
        self.softener.blur(look.blur, shown);
        let mean = (mean(pixels) * look.brightness).min(1.0);
        if let Some(curve) = Curve::of(look, mean) {
            curve.apply(shown);
        }
        if look.noise > 0.0 {
            noise::add(look, shown);
        }
        if let Some(erasing) = look.erasing {
            let (columns, rows) = (erasing.span(0, self.size), erasing.span(1, self.size));
            for row in shown.chunks_exact_mut(self.size).take(rows.end).skip(rows.start) {
                row[columns.clone()].fill(mean as f32);
            }
        }
    }
}

fn show_exactly(flip: bool, size: usize, pixels: &[u8], shown: &mut [f32]) {
    let grey = |pixel: &u8| f32::from(*pixel) / 255.0;
    for (pixels, shown) in pixels.chunks_exact(size).zip(shown.chunks_exact_mut(size)) {
        if flip {
            shown.iter_mut().zip(pixels.iter().rev()).for_each(|(value, pixel)| *value = grey(pixel));
        } else {
            shown.iter_mut().zip(pixels).for_each(|(value, pixel)| *value = grey(pixel));
        }
    }
}

/// The mean of the source in [0, 1], exact until its one division.
fn mean(pixels: &[u8]) -> f64 {
    let sum: u64 = pixels.iter().map(|pixel| u64::from(*pixel)).sum();
    sum as f64 / (255 * pixels.len().max(1)) as f64
}
