//! Batches against the plain definition, their order, and shards that are not what the manifest says.

use std::{fs, path::Path, thread};

use ceteris_shared::{
    augment::{Canvas, Look, Mix, Policy},
    dataset::{SCHEMA, Sample, Shard, TRANSFORM},
    ids::Epoch,
};

use super::*;

const SIZE: usize = 7;
/// More than a shard holds.
const SAMPLES: u32 = SAMPLES_PER_SHARD as u32 + 30;

/// Writes a data set of two shards whose pixels take every value.
fn files(folder: &Path) -> DatasetFiles {
    let pixels: Vec<u8> = (0..SAMPLES as usize * SIZE * SIZE).map(|at| (at * 31 + at / 49) as u8).collect();
    let shards: Vec<&[u8]> = pixels.chunks(SAMPLES_PER_SHARD * SIZE * SIZE).collect();
    let sample = |number: u32| Sample {
        file: format!("{number:05}.png"),
        split: Split::Train,
        class: u32::from(number >= SAMPLES / 2),
        patient: None,
        source: Digest::of(b""),
        pixels: Digest::of(b""),
    };
    let manifest = Manifest {
        schema: SCHEMA.to_owned(),
        transform: TRANSFORM.to_owned(),
        image_size: SIZE as u32,
        classes: vec!["NORMAL".to_owned(), "SICK".to_owned()],
        samples: (0..SAMPLES).map(sample).collect(),
        shards: shards
            .iter()
            .map(|shard| Shard { digest: Digest::of(shard), samples: (shard.len() / SIZE / SIZE) as u32 })
            .collect(),
    };
    let given = DatasetFiles {
        manifest: folder.join("manifest.json"),
        shards: (0..shards.len()).map(|number| folder.join(format!("shard-{number}"))).collect(),
    };
    fs::write(&given.manifest, manifest.to_bytes()).unwrap();
    for (file, shard) in given.shards.iter().zip(shards) {
        fs::write(file, shard).unwrap();
    }
    given
}

fn plan(augment: Policy, threads: usize) -> Plan {
    let samples: Vec<u32> = (0..50).map(|number| (number * 389) % SAMPLES).collect();
    Plan {
        batches: batches(samples.len(), 8),
        samples,
        rows: 9,
        augment,
        partners: (0..SAMPLES).collect(),
        seed: 5,
        epoch: Epoch(2),
        threads,
    }
}

/// The grey values of a sample, as its look says.
fn shown(dataset: &Dataset, plan: &Plan, sample: u32) -> Vec<f32> {
    let mut shown = vec![0.0; SIZE * SIZE];
    let look = Look::draw(&plan.augment, plan.seed, plan.epoch, sample);
    Canvas::new(SIZE).show(&look, dataset.pixels(sample), &mut shown);
    shown
}

fn normalised(grey: &[f32]) -> Vec<f32> {
    let channels = [(0.485f32, 0.229f32), (0.456, 0.224), (0.406, 0.225)];
    grey.iter().flat_map(|grey| channels.map(|(mean, deviation)| (grey - mean) / deviation)).collect()
}

#[test]
fn batches_have_the_bits_of_the_plain_definition() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = Dataset::open(&files(folder.path())).unwrap();
    let flip = Policy { flip: 0.5, ..Policy::NONE };
    for policy in [Policy::NONE, flip, Policy::LIGHT, Policy::STRONG] {
        let plan = plan(policy, 1);
        let mut assembler = Assembler::new(&dataset);
        for range in &plan.batches {
            let batch = assembler.assemble(&plan, range.clone());
            let samples = &plan.samples[range.clone()];
            let mut images: Vec<f32> =
                samples.iter().flat_map(|sample| normalised(&shown(&dataset, &plan, *sample))).collect();
            images.resize(9 * 3 * SIZE * SIZE, 0.0);
            assert_eq!((&batch.images[..], batch.rows, batch.size), (&images[..], 9, SIZE), "{policy:?}");
            assert_eq!((&batch.samples[..], &batch.mixed), (samples, &None));
            assert!(batch.labels.iter().zip(samples).all(|(label, sample)| *label == dataset.label(*sample)));
        }
    }
}

#[test]
fn mixup_blends_images_and_says_with_what() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = Dataset::open(&files(folder.path())).unwrap();
    let plan = plan(Policy { mixup: 1.0, flip: 0.5, ..Policy::NONE }, 1);
    let batch = Assembler::new(&dataset).assemble(&plan, 3..7);
    let mixed = batch.mixed.as_ref().expect("mixup");
    assert!(mixed.labels.iter().zip(&mixed.samples).all(|(label, sample)| *label == dataset.label(*sample)));
    for (row, sample) in plan.samples[3..7].iter().enumerate() {
        let mix = Mix::draw(&plan.augment, 5, Epoch(2), *sample, SAMPLES as usize).unwrap();
        let (partner, own) = (mixed.samples[row], f64::from(mixed.weights[row]));
        assert_eq!((partner as usize, mixed.weights[row]), (mix.partner, mix.weight));
        let blended = shown(&dataset, &plan, *sample)
            .iter()
            .zip(shown(&dataset, &plan, partner))
            .map(|(a, b)| (own * f64::from(*a) + (1.0 - own) * f64::from(b)) as f32)
            .collect::<Vec<f32>>();
        let image = &batch.images[row * 3 * SIZE * SIZE..][..3 * SIZE * SIZE];
        assert!(image.iter().zip(normalised(&blended)).all(|(a, b)| (a - b).abs() < 1e-5));
    }
    let alone = Plan { partners: Vec::new(), ..plan };
    assert_eq!(Assembler::new(&dataset).assemble(&alone, 3..7).mixed, None);
}

#[test]
fn batches_arrive_in_order_and_do_not_depend_on_threads() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = Dataset::open(&files(folder.path())).unwrap();
    let loaded =
        |threads| thread::scope(|scope| load(scope, &dataset, plan(Policy::MIXUP, threads)).collect::<Vec<Batch>>());
    let alone = loaded(1);
    assert_eq!(alone.iter().flat_map(|batch| batch.samples.clone()).collect::<Vec<_>>(), plan(Policy::NONE, 1).samples);
    for threads in [0, 2, 3, 20] {
        assert_eq!(loaded(threads), alone, "{threads} threads");
    }
    assert_eq!(
        thread::scope(|scope| load(scope, &dataset, Plan { batches: Vec::new(), ..plan(Policy::NONE, 2) }).count()),
        0
    );
}

#[test]
fn a_loader_that_nobody_listens_to_ends() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = Dataset::open(&files(folder.path())).unwrap();
    let first = thread::scope(|scope| load(scope, &dataset, plan(Policy::LIGHT, 2)).next());
    assert_eq!(first.unwrap().samples, plan(Policy::LIGHT, 1).samples[..8]);
}

#[test]
fn reading_goes_round_until_told_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = Dataset::open(&files(folder.path())).unwrap();
    let plan = plan(Policy::NONE, 1);
    let mut left = plan.batches.len() + 2;
    let read = read_repeatedly(&dataset, &plan, || {
        left -= 1;
        left > 0
    });
    assert_eq!(read, 50 + 16);
    assert_eq!(read_repeatedly(&dataset, &Plan { batches: Vec::new(), ..plan }, || true), 0);
}

#[test]
fn a_damaged_shard_is_named_with_its_place_and_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let given = files(folder.path());
    Dataset::open(&given).unwrap().verify().unwrap();
    let mut bytes = fs::read(&given.shards[1]).unwrap();
    bytes[17] ^= 1;
    fs::write(&given.shards[1], &bytes).unwrap();
    let error = Dataset::open(&given).unwrap().verify().unwrap_err().to_string();
    for part in [given.shards[1].to_str().unwrap(), "shard 1 ", &Digest::of(&bytes).to_string(), "delete the file"] {
        assert!(error.contains(part), "{error}");
    }
    fs::write(&given.shards[1], &bytes[1..]).unwrap();
    let error = Dataset::open(&given).unwrap_err().to_string();
    assert!(error.contains("shard-1: 1469 bytes") && error.contains("has 1470: delete the file"), "{error}");
}
