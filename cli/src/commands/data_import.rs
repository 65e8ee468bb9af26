//! `ceteris data import`

use std::{path::PathBuf, sync::Arc};

use ceteris::import::{self, Fractions, Imported, Patients, Pattern, SplitChoice, summary::summary};
use ceteris_proto::v1;
use ceteris_shared::{document::Datasets, spec::validate_name};
use clap::{Args, ValueEnum};

use crate::{
    client::{self, Client, Source},
    context::Global,
    failure::Failure,
    output,
    progress::{Progress, Unit},
    render::{Import, ImportRefusal},
};

/// Import a folder of images as a data set.
///
/// The folder holds train|val|test/CLASS/* or CLASS/*, or a CSV lists the images. JPEG, PNG, BMP, TIFF and WebP of 8 or
/// 16 bits are read, turned as their EXIF orientation says, resized with antialiasing, and stored once as 8-bit grey.
/// Importing the same bytes twice gives the same digest; what is stored already is not sent again. A file that cannot
/// be read is refused by name and reason, and the import goes on without it.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris data import chest_xray --name kermany --group-by patient
  ceteris data import images --name mine --split 0.7,0.1,0.2 --patient-pattern '([0-9]+)_[^/]*$'
  ceteris data import kermany --name subset --csv kermany-subset.csv
  ceteris data import nih --name nih --split 0,0,1     a set for external testing
  ceteris data import DIR --name checked --strict      nothing, if any file is refused

--group-by patient keeps all images of a patient in one drawn split. The patient is the CSV's column
`patient`, or what the one group of --patient-pattern matches in the file's path. Without a pattern
that of the Kermany data set is used (person12_virus_3.jpeg, IM-0001-0001.jpeg).")]
pub struct Options {
    /// The folder.
    pub folder: PathBuf,
    /// What specs call it; a name always means the same data.
    #[arg(long)]
    pub name: String,
    /// List the images instead of the folders: columns file and class, and where known split, patient and sha256.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Keep together what belongs together.
    #[arg(long, value_name = "WHAT")]
    pub group_by: Option<GroupBy>,
    /// A regular expression with one group, the patient, that is searched in each file's path.
    #[arg(long, value_name = "RE")]
    pub patient_pattern: Option<String>,
    /// Draw the split: shares of train, val and test; stratified by class, grouped by patient.
    #[arg(long, value_name = "SHARES")]
    pub split: Option<String>,
    /// Another seed is another draw.
    #[arg(long, default_value_t = 0, requires = "split")]
    pub seed: u64,
    /// A CSV with the columns file and split that lists every image.
    #[arg(long, value_name = "FILE", conflicts_with = "split")]
    pub split_file: Option<PathBuf>,
    /// Height and width of the stored images, in pixels.
    #[arg(long, value_name = "PIXELS", default_value_t = 224)]
    pub image_size: u32,
    /// Fail, and import nothing, if any file is refused.
    #[arg(long)]
    pub strict: bool,
    /// Where images are packed before they are uploaded; by default the system's temporary folder.
    #[arg(long, value_name = "FOLDER")]
    pub scratch: Option<PathBuf>,
}

/// What can be kept together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GroupBy {
    /// All images of a patient.
    Patient,
}

impl Options {
    /// # Errors
    /// When the folder cannot become a data set, when the name is taken, or when the coordinator cannot be reached.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let options = self.import_options()?;
        let mut client = global.connect().await?;
        let imported = import(global, options).await?;
        let told = Import {
            name: self.name.clone(),
            dataset: summary(&imported.manifest),
            refused: imported
                .refused
                .iter()
                .map(|refused| ImportRefusal { file: refused.file.clone(), reason: refused.reason.to_string() })
                .collect(),
            narrow_range: imported.narrow_range.clone(),
        };
        if !global.quiet {
            eprint!("{}", output::printable(&told.warnings()));
        }
        if self.strict && !told.refused.is_empty() {
            let refused = output::count(told.refused.len() as u64, "file");
            let first = &told.refused[0];
            return Err(Failure::usage(format!("{refused} refused, {} first ({})", first.file, first.reason))
                .help("mend or remove them, or import the rest without --strict; nothing was imported"));
        }
        upload(global, &mut client, &imported).await?;
        let manifest = imported.manifest.digest().to_string();
        let request = v1::RegisterDatasetRequest { name: self.name, manifest };
        client::parse::<Datasets>(client.rpc.register_dataset(request).await?)?;
        output::print(&told, global.output)
    }

    /// Everything that can be wrong on the command line, before anything is read.
    fn import_options(&self) -> Result<import::Options, Failure> {
        validate_name("--name", &self.name).map_err(|error| Failure::usage(error.to_string()))?;
        let patients = match (self.group_by, &self.patient_pattern) {
            (_, Some(pattern)) => Patients::Required(Pattern::new(pattern).map_err(|error| refused(&error))?),
            (Some(GroupBy::Patient), None) => Patients::Required(Pattern::kermany()),
            (None, None) => Patients::AsListed,
        };
        let split = match (&self.split, &self.split_file) {
            (Some(shares), _) => {
                let fractions =
                    shares.parse::<Fractions>().map_err(|error| Failure::usage(format!("--split: {error}")))?;
                SplitChoice::Drawn { fractions, seed: self.seed }
            }
            (None, Some(file)) => SplitChoice::File(file.clone()),
            (None, None) => SplitChoice::Published,
        };
        Ok(import::Options {
            folder: self.folder.clone(),
            csv: self.csv.clone(),
            patients,
            split,
            image_size: self.image_size,
            scratch: self.scratch.clone(),
        })
    }
}

async fn import(global: &Global, options: import::Options) -> Result<Imported, Failure> {
    let progress = Progress::new(global, "reading", Unit::Items("images"), 0);
    let telling = progress.clone();
    let reading =
        tokio::task::spawn_blocking(move || import::import(&options, &|now| telling.set(now.done, now.total)));
    let imported = reading.await.map_err(|error| Failure::infrastructure(format!("the import ended: {error}")))?;
    progress.finish();
    imported.map_err(|error| refused(&error))
}

/// Who must act on a folder that cannot be read.
pub(super) fn refused(error: &import::Error) -> Failure {
    match error {
        import::Error::Read { path, source } => Failure::io(format!("read {}", path.display()), source),
        import::Error::Scratch { path, source } => Failure::io(format!("write {}", path.display()), source)
            .help("free some space, or choose another folder with --scratch"),
        error => Failure::usage(error.to_string()),
    }
}

/// Sends shards, then the manifest that names them.
async fn upload(global: &Global, client: &mut Client, imported: &Imported) -> Result<(), Failure> {
    let manifest = &imported.manifest;
    let sample = manifest.sample_bytes() as u64;
    let total: u64 = manifest.shards.iter().map(|shard| u64::from(shard.samples) * sample).sum();
    let progress = Progress::new(global, "uploading", Unit::Bytes, total);
    for (shard, path) in manifest.shards.iter().zip(&imported.shards) {
        let counting = progress.clone();
        let on = Arc::new(move |more| counting.add(more));
        let bytes = u64::from(shard.samples) * sample;
        client.put_blob(shard.digest, bytes, Source::File(path.clone()), on).await?;
    }
    let bytes = manifest.to_bytes();
    let length = bytes.len() as u64;
    client.put_blob(manifest.digest(), length, Source::Bytes(bytes.into()), client::ignore_bytes()).await?;
    progress.finish();
    Ok(())
}
