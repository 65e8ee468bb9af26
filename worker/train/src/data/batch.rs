//! From samples to what the network reads: three equal channels, ImageNet's mean and deviation.

use std::ops::Range;

use super::{Dataset, Look};

/// Mean of ImageNet's channels, as torchvision's transforms have it.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Deviation of ImageNet's channels.
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// Samples ready for the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Shape `[rows, 3, size, size]`; rows beyond the samples are 0.
    pub images: Vec<f32>,
    /// Number of images, padding included.
    pub rows: usize,
    /// Height and width in pixels.
    pub size: usize,
    /// The samples.
    pub samples: Vec<u32>,
    /// Their classes.
    pub labels: Vec<u32>,
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

/// Puts samples together, shown as `look` says, and padded with zeros to at least `rows` images.
pub fn assemble(dataset: &Dataset, samples: &[u32], look: impl Fn(u32) -> Look, rows: usize) -> Batch {
    let (size, rows) = (dataset.image_size(), rows.max(samples.len()));
    let plane = size * size;
    let mut images = vec![0.0; rows * 3 * plane];
    let mut grey = vec![0.0; plane];
    for (sample, image) in samples.iter().zip(images.chunks_exact_mut(3 * plane)) {
        look(*sample).show(dataset.pixels(*sample), size, &mut grey);
        for ((channel, mean), deviation) in image.chunks_exact_mut(plane).zip(MEAN).zip(DEVIATION) {
            for (value, grey) in channel.iter_mut().zip(&grey) {
                *value = (grey - mean) / deviation;
            }
        }
    }
    let labels = samples.iter().map(|sample| dataset.label(*sample)).collect();
    Batch { images, rows, size, samples: samples.to_vec(), labels }
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
