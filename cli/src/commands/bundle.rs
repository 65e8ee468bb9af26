//! `ceteris bundle`

use std::{collections::BTreeSet, io::Write, path::PathBuf};

use ceteris_shared::{
    dataset::MAX_MANIFEST_BYTES,
    digest::Digest,
    document::{Document, Evidence},
    predictions,
};
use clap::Args;
use zip::{CompressionMethod, write::SimpleFileOptions};

use super::{compare, report};
use crate::{
    attributes::AttributeOptions,
    context::Global,
    evidence::{self, ATTRIBUTES, EVIDENCE, PAGE, REPORT, object_name},
    failure::Failure,
    file::{self, Aside},
    output,
    progress::{Progress, Unit},
    report::Form,
};

/// Put an experiment's evidence, its report, and the predictions and labels that they rest on into one file.
///
/// `ceteris verify FILE` computes every number in it again, on any machine, without a coordinator. Images and weights are not in it; the
/// names of image files, and patients as the import knew them, are: see whom you give it to.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris bundle kermany kermany.zip
  ceteris verify kermany.zip

Exit codes: 0 made · 3 made, and something is refused as not comparable.")]
pub struct Options {
    /// The experiment's id, the beginning of one, a name (the newest of that name), or the path of another bundle, which is made again by
    /// this version.
    pub experiment: String,
    /// The zip file to write.
    pub file: PathBuf,
    #[command(flatten)]
    attributes: AttributeOptions,
    /// Overwrite the file if it exists.
    #[arg(long)]
    pub force: bool,
}

impl Options {
    /// # Errors
    /// When the experiment is not known, something that it rests on cannot be read, or the file cannot be written.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        if !self.force && self.file.exists() {
            return Err(file::exists(&self.file));
        }
        let (objects, evidence) = evidence::open(global, &self.experiment).await?;
        let mut data = objects.data_sets(&evidence).await?;
        self.attributes.add_to(&mut data, &evidence, global)?;
        let attributes = data.attributes.clone();
        let report = report::made(global, &objects, &evidence, data, None, false).await?;
        let writing = |cause: String| Failure::infrastructure(format!("cannot write {}: {cause}", self.file.display()));
        let mut aside = Aside::begin(&self.file, self.force)?;
        let digests = objects_of(&evidence);
        let progress = Progress::new(global, "bundling", Unit::Items("objects"), digests.len() as u64);
        let mut archive = zip::ZipWriter::new(aside.writer());
        // The same evidence gives the same bytes: no times in it.
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(zip::DateTime::default())
            .large_file(true);
        let add = |archive: &mut zip::ZipWriter<_>, name: &str, bytes: &[u8]| {
            archive.start_file(name, options).map_err(|error| writing(error.to_string()))?;
            archive.write_all(bytes).map_err(|error| Failure::io(format!("write {}", self.file.display()), &error))
        };
        add(&mut archive, EVIDENCE, evidence.to_json().as_bytes())?;
        add(&mut archive, REPORT, Form::Json.render(&report).as_bytes())?;
        add(&mut archive, PAGE, Form::Html.render(&report).as_bytes())?;
        if !attributes.is_empty() {
            add(&mut archive, ATTRIBUTES, &serde_json::to_vec(&attributes).unwrap_or_default())?;
        }
        for (digest, limit) in digests {
            let bytes = objects.get(digest, limit).await?;
            add(&mut archive, &object_name(&digest), &bytes)?;
            progress.add(1);
        }
        let mut writer = archive.finish().map_err(|error| writing(error.to_string()))?;
        writer.flush().map_err(|error| Failure::io(format!("write {}", self.file.display()), &error))?;
        drop(writer);
        progress.finish();
        let bytes = aside.commit()?;
        global.note(format!(
            "wrote {} ({}); it holds names of image files and patients, and no images",
            self.file.display(),
            output::bytes(bytes)
        ));
        compare::judge(&report.comparison, false)
    }
}

/// Everything that the evidence names and the report reads, with the length that each may have.
fn objects_of(evidence: &Evidence) -> Vec<(Digest, u64)> {
    let manifests = evidence.pins.dataset.into_iter().chain(evidence.pins.external.iter().map(|(_, digest)| *digest));
    let manifests: BTreeSet<(Digest, u64)> = manifests.map(|digest| (digest, MAX_MANIFEST_BYTES)).collect();
    let files = evidence.runs.iter().flat_map(|run| &run.epochs).flat_map(|epoch| &epoch.predictions);
    let files: BTreeSet<(Digest, u64)> = files.map(|file| (file.digest, predictions::MAX_BYTES)).collect();
    manifests.into_iter().chain(files).collect()
}
