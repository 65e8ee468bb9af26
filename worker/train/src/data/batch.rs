//! From samples to what the network reads: three channels, ImageNet's mean and deviation.
//!
//! An image that is shown as it is, or mirrored, is 8-bit grey: each channel has 256 possible values, which a table
//! holds. Its bits are those of the division and subtraction that torchvision's `ToTensor` and `Normalize` do. A pixel's
//! channels lie next to each other, as libtorch likes them best and as they are written fastest.

use std::{array, ops::Range};

use ceteris_shared::augment::{Canvas, Look, Mix};

use super::{Buffer, Dataset, Plan};

/// Mean of ImageNet's channels, as torchvision's transforms have it.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Deviation of ImageNet's channels.
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];
/// What each 8-bit grey becomes in each channel; a fourth number makes a pixel one piece to be copied.
static NORMALISED: [[f32; 4]; 256] = normalised();

const fn normalised() -> [[f32; 4]; 256] {
    let mut table = [[0.0; 4]; 256];
    let mut grey = 0;
    while grey < 256 {
        let mut channel = 0;
        while channel < 3 {
            table[grey][channel] = normalise(grey as f32 / 255.0, channel);
            channel += 1;
        }
        grey += 1;
    }
    table
}

const fn normalise(value: f32, channel: usize) -> f32 {
    (value - MEAN[channel]) / DEVIATION[channel]
}

/// Samples ready for the network.
#[derive(Debug, PartialEq)]
pub struct Batch {
    /// Shape `[rows, size, size, 3]`; rows beyond the samples are 0. Goes back to the data set's pool when dropped.
    pub images: Buffer,
    /// Number of images, padding included.
    pub rows: usize,
    /// Height and width in pixels.
    pub size: usize,
    /// The samples.
    pub samples: Vec<u32>,
    /// Their classes.
    pub labels: Vec<u32>,
    /// What is blended into each of them; None where the policy has no mixup.
    pub mixed: Option<Mixed>,
}

/// The other half of a batch under mixup. The loss of a sample is `weight` times that of its own label plus
/// `1 - weight` times that of its partner's label; its image is blended alike.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mixed {
    /// The partner of each sample.
    pub samples: Vec<u32>,
    /// The partners' classes.
    pub labels: Vec<u32>,
    /// Each sample's own share, in [0, 1].
    pub weights: Vec<f32>,
}

/// How `count` samples are cut into batches: all of `batch_size` but the last.
///
/// BatchNorm cannot learn from a single value, and on the smallest maps a batch of one sample gives it no more: where one
/// sample would remain, it joins the batch before it, so that no sample is left out and no step is made on one.
pub fn batches(count: usize, batch_size: usize) -> Vec<Range<usize>> {
    let batch_size = batch_size.max(1);
    let mut batches: Vec<Range<usize>> =
        (0..count).step_by(batch_size).map(|start| start..count.min(start + batch_size)).collect();
    if batch_size > 1 && batches.len() > 1 && count % batch_size == 1 {
        batches.pop();
        if let Some(last) = batches.last_mut() {
            last.end = count;
        }
    }
    batches
}

/// Makes batches of a data set; one for each thread, as it keeps buffers.
#[derive(Debug)]
pub struct Assembler<'a> {
    dataset: &'a Dataset,
    canvas: Canvas,
    /// One image as it is shown, and the partner that is blended into it.
    shown: [Vec<f32>; 2],
}

impl<'a> Assembler<'a> {
    /// For the batches of `dataset`.
    pub fn new(dataset: &'a Dataset) -> Self {
        let size = dataset.image_size();
        let plane = vec![0.0; size * size];
        Self { dataset, canvas: Canvas::new(size), shown: [plane.clone(), plane] }
    }

    /// Puts `plan.samples[range]` together, shown as the plan says, and padded with zeros to at least `plan.rows` images.
    pub fn assemble(&mut self, plan: &Plan, range: Range<usize>) -> Batch {
        let samples = &plan.samples[range];
        let (size, rows) = (self.dataset.image_size(), plan.rows.max(samples.len()));
        let image = 3 * size * size;
        let mut images = self.dataset.pool().take(rows * image);
        let (filled, padding) = images.values_mut().split_at_mut(samples.len() * image);
        padding.fill(0.0);
        let mut mixed = (plan.augment.mixup > 0.0 && !plan.partners.is_empty()).then(Mixed::default);
        for (sample, image) in samples.iter().zip(filled.chunks_exact_mut(image)) {
            match Mix::draw(&plan.augment, plan.seed, plan.epoch, *sample, plan.partners.len()) {
                Some(mix) => {
                    let partner = plan.partners[mix.partner];
                    self.blend(plan, *sample, partner, mix, image);
                    mixed.get_or_insert_default().push(partner, self.dataset.label(partner), mix.weight);
                }
                None => self.show(plan, *sample, image),
            }
        }
        let labels = samples.iter().map(|sample| self.dataset.label(*sample)).collect();
        Batch { images, rows, size, samples: samples.to_vec(), labels, mixed }
    }

    fn show(&mut self, plan: &Plan, sample: u32, image: &mut [f32]) {
        let look = plan.look(sample);
        let pixels = self.dataset.pixels(sample);
        if look.only_flips() {
            return channels_of_pixels(pixels, self.dataset.image_size(), look.flip, image);
        }
        let [shown, _] = &mut self.shown;
        self.canvas.show(&look, pixels, shown);
        channels_of_values(shown, image);
    }

    fn blend(&mut self, plan: &Plan, sample: u32, partner: u32, mix: Mix, image: &mut [f32]) {
        let [own, other] = &mut self.shown;
        self.canvas.show(&plan.look(sample), self.dataset.pixels(sample), own);
        self.canvas.show(&plan.look(partner), self.dataset.pixels(partner), other);
        mix.blend(own, other);
        channels_of_values(own, image);
    }
}

impl Mixed {
    fn push(&mut self, sample: u32, label: u32, weight: f32) {
        self.samples.push(sample);
        self.labels.push(label);
        self.weights.push(weight);
    }
}

impl Plan {
    /// How a sample is shown.
    fn look(&self, sample: u32) -> Look {
        Look::draw(&self.augment, self.seed, self.epoch, sample)
    }
}

/// The three channels of 8-bit grey pixels, mirrored left to right if `flip`.
fn channels_of_pixels(pixels: &[u8], size: usize, flip: bool, image: &mut [f32]) {
    for (row, pixels) in image.chunks_exact_mut(3 * size).zip(pixels.chunks_exact(size)) {
        if flip {
            put(pixels.iter().rev(), row);
        } else {
            put(pixels.iter(), row);
        }
    }
}

/// Each pixel is copied with a number too much, which the next one overwrites.
#[inline(always)]
fn put<'a>(greys: impl Iterator<Item = &'a u8>, mut row: &mut [f32]) {
    for grey in greys {
        let pixel = &NORMALISED[usize::from(*grey)];
        match row.first_chunk_mut::<4>() {
            Some(four) => *four = *pixel,
            None => return row.copy_from_slice(&pixel[..3]),
        }
        row = &mut row[3..];
    }
}

/// The three channels of grey values in [0, 1].
fn channels_of_values(values: &[f32], image: &mut [f32]) {
    for (pixel, value) in image.as_chunks_mut::<3>().0.iter_mut().zip(values) {
        *pixel = array::from_fn(|channel| normalise(*value, channel));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_remaining_sample_joins_the_batch_before() {
        assert_eq!(batches(10, 4), [0..4, 4..8, 8..10]);
        assert_eq!(batches(9, 4), [0..4, 4..9]);
        assert_eq!(batches(1, 4), batches(1, 1));
        assert_eq!(batches(3, 1), [0..1, 1..2, 2..3]);
        assert!(batches(0, 4).is_empty());
    }

    proptest::proptest! {
        #[test]
        fn every_sample_is_in_one_batch(count in 0usize..500, batch_size in 1usize..40) {
            let batches = batches(count, batch_size);
            let all: Vec<usize> = batches.iter().cloned().flatten().collect();
            proptest::prop_assert_eq!(all, (0..count).collect::<Vec<_>>());
            let fits = |b: &Range<usize>| b.len() <= batch_size + 1 && (b.len() > 1 || batch_size == 1 || count == 1);
            proptest::prop_assert!(batches.iter().all(fits));
        }
    }
}
