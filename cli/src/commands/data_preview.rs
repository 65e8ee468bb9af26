//! `ceteris data preview`

use std::{
    collections::BTreeMap,
    io::Cursor,
    path::{Path, PathBuf},
    sync::Arc,
};

use ceteris::import::{in_turn, peek};
use ceteris_proto::v1;
use ceteris_shared::{
    augment::{NAMED, Policy},
    dataset::{MAX_MANIFEST_BYTES, Manifest, SAMPLES_PER_SHARD, Split},
    ids::Epoch,
};
use clap::Args;
use image::ImageFormat;

use super::data_import::refused;
use crate::{
    client::Client,
    contact_sheet::{Draws, Shown, contact_sheet},
    context::Global,
    failure::Failure,
    file,
    output::{self, Format},
    progress::{Progress, Unit},
    render::{Preview, PreviewRow},
};

/// Draw a contact sheet of what augmentation makes of a few images.
///
/// Each row is one training image: first as it is stored, then as each epoch shows it, from --epoch on. A run of that
/// seed on that data set sees exactly these images; those of a folder are numbered as an import that
/// refuses none of them and keeps its splits would. mixup@1 blends images of the sheet with each other; a run chooses among all.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris data preview kermany --augment strong@1 -o sheet.png
  ceteris data preview chest_xray/ --augment light@1 --samples 12 -o sheet.png    before any import
  ceteris data preview kermany --augment mixup@1 --seed 3 --epoch 10 -o sheet.png

Policies: none, light@1, strong@1, mixup@1; without its version a name means the latest.")]
pub struct Options {
    /// An imported data set's name or digest, or a folder of images, which is not imported.
    #[arg(value_name = "NAME|DIR")]
    pub source: String,
    /// The augmentation policy.
    #[arg(long, value_name = "POLICY")]
    pub augment: String,
    /// The run's seed.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The first epoch that is shown.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub epoch: u32,
    /// How many epochs are shown.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub epochs: u32,
    /// How many images are shown; classes take turns.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub samples: u32,
    /// Height and width in pixels of the images of a folder; a data set has its own.
    #[arg(long, value_name = "PIXELS", default_value_t = 224, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub image_size: u32,
    /// The PNG file to write.
    #[arg(short = 'o', long, value_name = "FILE")]
    pub to: PathBuf,
    /// Overwrite the file if it exists.
    #[arg(long)]
    pub force: bool,
    /// What to print on stdout: a table for people, JSON with a schema name, or CSV. Here without its short form.
    // The same id as the global option, so that this one takes its place.
    #[arg(
        id = "output",
        long = "output",
        value_name = "FORMAT",
        default_value = "table",
        hide_possible_values = true,
        help_heading = "Global options"
    )]
    pub format: Format,
}

/// The images of a sheet, with what the read-out says of them.
struct Images {
    size: usize,
    shown: Vec<Shown>,
    rows: Vec<PreviewRow>,
}

impl Options {
    /// # Errors
    /// When there is no such policy, data set or folder, when the folder holds no image, or when the file exists or
    /// cannot be written.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let policy = Policy::named(&self.augment).ok_or_else(|| {
            let known = NAMED.map(|(name, _)| name).join(", ");
            Failure::usage(format!("--augment: there is no policy {:?}", self.augment)).help(format!("one of {known}"))
        })?;
        if self.to.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("png")) {
            return Err(Failure::usage(format!("{} does not end in .png", self.to.display()))
                .help("-o names the sheet here; the form of what is printed is --output table|json|csv"));
        }
        let folder = Path::new(&self.source);
        let images = if folder.is_dir() { self.of_folder(folder).await? } else { self.of_dataset(global).await? };
        let draws = Draws { policy, seed: self.seed, epoch: Epoch(self.epoch), epochs: self.epochs };
        let sheet = contact_sheet(&images.shown, images.size, &draws);
        let mut bytes = Cursor::new(Vec::new());
        sheet
            .write_to(&mut bytes, ImageFormat::Png)
            .map_err(|error| Failure::infrastructure(format!("the sheet cannot be made: {error}")))?;
        file::write(&self.to, bytes.get_ref(), self.force)?;
        let told = Preview {
            policy: NAMED
                .into_iter()
                .find(|(_, named)| *named == policy)
                .map_or(self.augment, |(name, _)| name.to_owned()),
            seed: self.seed,
            epoch: self.epoch,
            epochs: self.epochs,
            rows: images.rows,
            bytes: bytes.get_ref().len() as u64,
            file: self.to,
        };
        output::print(&told, self.format)
    }

    /// The first images of a folder.
    async fn of_folder(&self, folder: &Path) -> Result<Images, Failure> {
        let (folder, size, count) = (folder.to_owned(), self.image_size, self.samples as usize);
        let reading = tokio::task::spawn_blocking(move || peek(&folder, size, count));
        let peeked = reading.await.map_err(|error| Failure::infrastructure(format!("the reading ended: {error}")))?;
        let (mut shown, mut rows) = (Vec::new(), Vec::new());
        for peeked in peeked.map_err(|error| refused(&error))? {
            shown.push(Shown { sample: peeked.sample, pixels: peeked.pixels });
            rows.push(PreviewRow { sample: peeked.sample, class: peeked.class, file: peeked.file });
        }
        Ok(Images { size: size as usize, shown, rows })
    }

    /// Training samples of a data set, or any where it has none for training.
    async fn of_dataset(&self, global: &Global) -> Result<Images, Failure> {
        let mut client = global.connect().await?;
        let request = v1::ShowDatasetRequest { name: self.source.clone() };
        let found = client.rpc.show_dataset(request).await?.into_inner();
        let digest = found
            .manifest
            .parse()
            .map_err(|error| Failure::infrastructure(format!("the coordinator's answer is not understood: {error}")))?;
        let bytes = client.get_bytes(digest, MAX_MANIFEST_BYTES).await?;
        let manifest = Manifest::from_bytes(&bytes).map_err(|error| Failure::infrastructure(error.to_string()))?;
        let chosen = choose(&manifest, self.samples as usize);
        let shown = fetch(global, &mut client, &manifest, &chosen).await?;
        let row = |index: &u32| {
            let sample = &manifest.samples[*index as usize];
            let class = manifest.classes[sample.class as usize].clone();
            PreviewRow { sample: *index, class, file: sample.file.clone() }
        };
        Ok(Images { size: manifest.image_size as usize, shown, rows: chosen.iter().map(row).collect() })
    }
}

/// The first training samples of each class in turn: neighbours, so that few shards have to be fetched.
fn choose(manifest: &Manifest, count: usize) -> Vec<u32> {
    let mut samples: Vec<u32> = manifest.split(Split::Train).collect();
    if samples.is_empty() {
        samples = (0..).zip(&manifest.samples).map(|(index, _)| index).collect();
    }
    let mut chosen = in_turn(samples, |index| manifest.samples[*index as usize].class);
    chosen.truncate(count);
    chosen
}

/// The pixels of samples, in their order; each shard is fetched once.
async fn fetch(
    global: &Global,
    client: &mut Client,
    manifest: &Manifest,
    chosen: &[u32],
) -> Result<Vec<Shown>, Failure> {
    let mut of_shard: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
    for sample in chosen {
        of_shard.entry(*sample as usize / SAMPLES_PER_SHARD).or_default().push(*sample);
    }
    let one = manifest.sample_bytes();
    let length = |shard: usize| manifest.shards[shard].samples as usize * one;
    let total = of_shard.keys().map(|shard| length(*shard) as u64).sum();
    let progress = Progress::new(global, "fetching", Unit::Bytes, total);
    let mut pixels = BTreeMap::new();
    for (shard, samples) in of_shard {
        let (digest, length) = (manifest.shards[shard].digest, length(shard));
        let (mut bytes, counting) = (Cursor::new(Vec::new()), progress.clone());
        client.get_blob(digest, length as u64, &mut bytes, Arc::new(move |more| counting.add(more))).await?;
        let bytes = bytes.into_inner();
        if bytes.len() != length {
            let found = bytes.len();
            return Err(Failure::infrastructure(format!(
                "shard {shard} has {found} bytes, the manifest says {length}"
            ))
            .help("import the data set again from its images"));
        }
        for sample in samples {
            let place = sample as usize % SAMPLES_PER_SHARD * one;
            pixels.insert(sample, bytes[place..place + one].to_vec());
        }
    }
    progress.finish();
    let shown = chosen.iter().filter_map(|sample| Some(Shown { sample: *sample, pixels: pixels.remove(sample)? }));
    Ok(shown.collect())
}
