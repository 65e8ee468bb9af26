//! A contact sheet: what augmentation makes of a few samples. Pure: pixels in, one picture out.

use ceteris_shared::{
    augment::{Canvas, Look, Mix, Policy},
    ids::Epoch,
};
use image::GrayImage;

/// White pixels around and between images.
const GAP: usize = 4;

/// An image that is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its number in the data set, which draws depend on.
    pub sample: u32,
    /// 8-bit grey, row by row.
    pub pixels: Vec<u8>,
}

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draws {
    /// Between which bounds.
    pub policy: Policy,
    /// The run's seed.
    pub seed: u64,
    /// The first epoch.
    pub epoch: Epoch,
    /// Epochs, one after the other.
    pub epochs: u32,
}

/// A row for each sample of `size × size` pixels: the image itself, then as each epoch shows it. Mixup chooses partners
/// among the samples shown.
pub fn contact_sheet(samples: &[Shown], size: usize, draws: &Draws) -> GrayImage {
    let columns = 1 + draws.epochs as usize;
    let [width, height] = [columns, samples.len()].map(|images| GAP + images * (size + GAP));
    let mut sheet = GrayImage::from_pixel(width as u32, height as u32, image::Luma([255]));
    let mut canvas = Canvas::new(size);
    for (row, own) in samples.iter().enumerate() {
        paste(&mut sheet, &own.pixels, size, 0, row);
        for column in 1..columns {
            let epoch = Epoch(draws.epoch.0.saturating_add(column as u32 - 1));
            let pixels = shown(samples, own, size, draws, epoch, &mut canvas);
            paste(&mut sheet, &pixels, size, column, row);
        }
    }
    sheet
}

/// One sample as one epoch shows it.
fn shown(samples: &[Shown], own: &Shown, size: usize, draws: &Draws, epoch: Epoch, canvas: &mut Canvas) -> Vec<u8> {
    let mut show = |shown: &Shown| {
        let mut values = vec![0.0; size * size];
        let look = Look::draw(&draws.policy, draws.seed, epoch, shown.sample);
        canvas.show(&look, &shown.pixels, &mut values);
        values
    };
    let mut values = show(own);
    if let Some(mix) = Mix::draw(&draws.policy, draws.seed, epoch, own.sample, samples.len()) {
        mix.blend(&mut values, &show(&samples[mix.partner]));
    }
    values.into_iter().map(|value| (value * 255.0).round() as u8).collect()
}

fn paste(sheet: &mut GrayImage, pixels: &[u8], size: usize, column: usize, row: usize) {
    let [left, top] = [column, row].map(|images| GAP + images * (size + GAP));
    let width = sheet.width() as usize;
    for (y, line) in pixels.chunks_exact(size).enumerate() {
        sheet.as_mut()[(top + y) * width + left..][..size].copy_from_slice(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_holds_the_image_and_what_each_epoch_makes_of_it() {
        let samples: Vec<Shown> =
            [3, 9].map(|sample| Shown { sample, pixels: (0..64).map(|at| at * 3).collect() }).into();
        let sheet = |policy| {
            let draws = Draws { policy, seed: 1, epoch: Epoch(2), epochs: 3 };
            contact_sheet(&samples, 8, &draws)
        };
        let image = |sheet: &GrayImage, column: u32, row: u32| {
            image::imageops::crop_imm(sheet, 4 + column * 12, 4 + row * 12, 8, 8).to_image().into_raw()
        };
        let plain = sheet(Policy::NONE);
        assert_eq!(plain.dimensions(), (4 * 12 + 4, 2 * 12 + 4));
        assert!((0..4).all(|column| image(&plain, column, 1) == samples[1].pixels));
        let strong = sheet(Policy::STRONG);
        assert_eq!(image(&strong, 0, 0), samples[0].pixels);
        let all: Vec<Vec<u8>> = (0..2)
            .flat_map(|row| (1..4).map(move |column| (column, row)))
            .map(|(column, row)| image(&strong, column, row))
            .collect();
        assert!(
            all.iter().enumerate().all(|(at, one)| !all[..at].contains(one)),
            "every sample and epoch is drawn anew"
        );
        assert_ne!(sheet(Policy::MIXUP), sheet(Policy::LIGHT));
    }
}
