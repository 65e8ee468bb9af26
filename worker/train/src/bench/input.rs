//! Passes over the training split: from packed pixels to the batches of an epoch, flipped and normalised.

use std::{path::PathBuf, thread, time::Instant};

use anyhow::Result;
use ceteris_shared::{augment::Policy, dataset::Split, ids::Epoch};
use clap::Args;
use serde_json::{Map, Value, json};

use super::{Machine, serve};
use crate::{
    data::{Batch, Dataset, Plan, load},
    local,
};

/// Mirrored in half of the cases, and nothing else.
pub(super) const FLIPS: Policy = Policy { flip: 0.5, ..Policy::NONE };

/// `bench input`
#[derive(Clone, Debug, Args)]
pub struct Options {
    #[command(flatten)]
    machine: Machine,
    /// A packed data set
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Images in a batch
    #[arg(long, value_name = "N")]
    batch: usize,
    /// Seed of order and flips
    #[arg(long, value_name = "N")]
    seed: u64,
}

pub(super) fn run(options: &Options) -> Result<()> {
    let machine = &options.machine;
    let opened = machine.open()?;
    let dataset = Dataset::open(&local::dataset(&options.data)?)?;
    let train = dataset.split(Split::Train);
    let mut epoch = Epoch(0);
    let mut pass = |see: &mut dyn FnMut(&Batch)| {
        epoch = epoch.next();
        let plan = Plan::of_epoch(&train, options.batch, FLIPS, options.seed, epoch);
        thread::scope(|scope| -> usize {
            let batches = load(scope, &dataset, plan);
            batches.inspect(|batch| see(batch)).map(|batch| batch.labels.len()).sum()
        })
    };
    let mut seen = Moments::default();
    pass(&mut |batch| seen.add(&dataset, batch));
    let mut first = machine.facts(&opened);
    first.extend(seen.facts());
    for _ in 0..machine.warm_up {
        pass(&mut |_| {});
    }
    serve(first, |passes| {
        let began = Instant::now();
        let images: usize = (0..passes).map(|_| pass(&mut |_| {})).sum();
        Ok(json!({ "seconds": began.elapsed().as_secs_f64(), "images": images }))
    })
}

/// Sums over the first channel of a pass that do not depend on order and flips; and how many images were flipped.
#[derive(Debug, Default)]
struct Moments {
    values: f64,
    squares: f64,
    by_row: f64,
    pixels: usize,
    images: usize,
    flipped: usize,
}

impl Moments {
    fn add(&mut self, dataset: &Dataset, batch: &Batch) {
        let (size, plane) = (batch.size, batch.size * batch.size);
        for (image, sample) in batch.images.chunks_exact(3 * plane).zip(&batch.samples) {
            let rows = image.chunks_exact(3 * size).zip(dataset.pixels(*sample).chunks_exact(size));
            let (mut straight, mut mirrored) = (0.0, 0.0);
            for (row, (values, pixels)) in rows.enumerate() {
                for (value, (pixel, other)) in values.iter().step_by(3).zip(pixels.iter().zip(pixels.iter().rev())) {
                    let value = f64::from(*value);
                    self.values += value;
                    self.squares += value * value;
                    self.by_row += value * row as f64;
                    straight += value * f64::from(*pixel);
                    mirrored += value * f64::from(*other);
                }
            }
            self.pixels += plane;
            self.images += 1;
            // Brighter pixels have larger values, so the sum of products is largest the way that was shown.
            self.flipped += usize::from(mirrored > straight);
        }
    }

    fn facts(&self) -> Map<String, Value> {
        let mean = |sum: f64| json!(sum / self.pixels as f64);
        [
            ("mean", mean(self.values)),
            ("mean_square", mean(self.squares)),
            ("row_moment", mean(self.by_row)),
            ("flipped", json!(self.flipped as f64 / self.images as f64)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
    }
}
