//! `ceteris export`

use std::{
    collections::{BTreeMap, btree_map::Entry},
    path::PathBuf,
};

use ceteris_proto::v1;
use ceteris_shared::{
    dataset::{MAX_MANIFEST_BYTES, Manifest},
    digest::Digest,
    document::{PredictedRun, PredictionFile, PredictionFiles},
    predictions::{self, Predictions},
    trainer::Scored,
};
use clap::{Args, ValueEnum};

use crate::{
    client::{self, Client},
    context::Global,
    failure::Failure,
    file::Aside,
    output,
    predictions_table::{Part, Writer},
    progress::{Progress, Unit},
};

/// Write the predictions of an experiment's runs to a file for other tools, one row for each sample of each run.
///
/// Columns are sample, patient, label, score (the probability of the positive class, where there are two), seed, arm, run,
/// experiment, epoch, scored (val, test or the name of an external data set), and the probability of every class. Predictions on
/// test and external data are there at the endpoint only.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris export kermany predictions.parquet
  ceteris export kermany frozen.csv --arm frozen --on test
  ceteris export kermany early.csv --at 5             after epoch 5, on val alone

A file of one arm on one part of the data is what `ceteris compare --predictions` reads.")]
pub struct Options {
    /// The experiment's id, the beginning of one, or a name (the newest of that name).
    pub experiment: String,
    /// Where to write.
    pub file: PathBuf,
    /// The form; without it, by the file's extension.
    #[arg(long, value_name = "FORM")]
    pub to: Option<Form>,
    /// After this epoch instead of the endpoint.
    #[arg(long, value_name = "EPOCH", value_parser = clap::value_parser!(u32).range(1..))]
    pub at: Option<u32>,
    /// Of this arm alone; can be given several times.
    #[arg(long, value_name = "ARM")]
    pub arm: Vec<String>,
    /// On this part of the data alone: val, test or the name of an external data set.
    #[arg(long, value_name = "PART")]
    pub on: Option<String>,
    /// Overwrite the file.
    #[arg(long)]
    pub force: bool,
}

/// What a file is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Comma-separated values.
    Csv,
    /// Apache Parquet.
    Parquet,
}

impl Options {
    /// # Errors
    /// When the experiment is not known, nothing of it is what was asked for, or the file cannot be written.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let form = self.form()?;
        if !self.force && self.file.exists() {
            return Err(crate::file::exists(&self.file));
        }
        let mut client = global.connect().await?;
        let (experiment, at) = (self.experiment.clone(), self.at.unwrap_or_default());
        let answer = client.rpc.list_predictions(v1::PredictionsRequest { experiment, at }).await?;
        let found = client::parse::<PredictionFiles>(answer)?;
        let wanted = self.choose(&found)?;
        let manifests = manifests(&mut client, &found, &wanted).await?;
        let cannot = |cause: String| Failure::infrastructure(format!("cannot write {}: {cause}", self.file.display()));
        let mut aside = Aside::begin(&self.file, self.force)?;
        let classes = manifests[&found.dataset].classes.clone();
        let to = aside.writer();
        let writer = match form {
            Form::Csv => Writer::csv(to, &classes),
            Form::Parquet => Writer::parquet(to, &classes),
        };
        let mut writer = writer.map_err(cannot)?;
        let progress = Progress::new(global, "exporting", Unit::Items("files"), wanted.len() as u64);
        let mut rows = 0;
        for (run, file) in &wanted {
            let bytes = client.get_bytes(file.digest, predictions::MAX_BYTES).await?;
            let predictions = Predictions::from_bytes(&bytes)
                .map_err(|error| Failure::infrastructure(format!("run {}: {error}", run.run.short())))?;
            let manifest = &manifests[&manifest_of(&found, &file.scored)?];
            let (experiment, epoch, scored) = (found.experiment, found.at, name_of(&file.scored));
            let (run, arm, seed) = (run.run, run.arm.as_str(), run.seed);
            let part = Part { experiment, run, arm, seed, epoch, scored: &scored, manifest, predictions: &predictions };
            writer.add(&part).map_err(cannot)?;
            rows += predictions.samples.len() as u64;
            progress.add(1);
        }
        writer.finish().map_err(cannot)?;
        progress.finish();
        let bytes = aside.commit()?;
        if !found.missing.is_empty() {
            global.note(format!(
                "{} had not trained epoch {}",
                output::count(found.missing.len() as u64, "run"),
                found.at
            ));
        }
        global.note(format!(
            "wrote {} ({}): {} of {} after epoch {}",
            self.file.display(),
            output::bytes(bytes),
            output::count(rows, "row"),
            found.name,
            found.at
        ));
        Ok(())
    }

    fn form(&self) -> Result<Form, Failure> {
        let extension = self.file.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        match (self.to, extension.as_deref()) {
            (Some(form), _) => Ok(form),
            (None, Some("csv")) => Ok(Form::Csv),
            (None, Some("parquet")) => Ok(Form::Parquet),
            (None, _) => Err(Failure::usage(format!("{} has no extension that says its form", self.file.display()))
                .help("name it .csv or .parquet, or say --to csv or --to parquet")),
        }
    }

    /// The files that were asked for.
    fn choose<'a>(&self, found: &'a PredictionFiles) -> Result<Vec<(&'a PredictedRun, &'a PredictionFile)>, Failure> {
        let arms: Vec<&str> = found.runs.iter().map(|run| run.arm.as_str()).collect();
        if let Some(arm) = self.arm.iter().find(|arm| !arms.contains(&arm.as_str())) {
            let mut known = arms.clone();
            known.dedup();
            return Err(Failure::usage(format!("no run of an arm {arm:?} has trained epoch {}", found.at))
                .help(format!("arms that have: {}", known.join(", "))));
        }
        let of_arm = found.runs.iter().filter(|run| self.arm.is_empty() || self.arm.contains(&run.arm));
        let files = of_arm.flat_map(|run| run.files.iter().map(move |file| (run, file)));
        let on = |file: &PredictionFile| self.on.as_ref().is_none_or(|on| *on == name_of(&file.scored));
        let wanted: Vec<_> = files.filter(|(_, file)| on(file)).collect();
        if wanted.is_empty() {
            let what = self.on.as_ref().map(|on| format!(" on {on}")).unwrap_or_default();
            return Err(Failure::usage(format!("{} has no predictions{what} after epoch {}", found.name, found.at))
                .help("val is predicted after each epoch, test and external data at the endpoint only: `ceteris show` says how far runs are"));
        }
        Ok(wanted)
    }
}

fn name_of(scored: &Scored) -> String {
    match scored {
        Scored::Split(split) => split.to_string(),
        Scored::External(name) => name.clone(),
    }
}

fn manifest_of(found: &PredictionFiles, scored: &Scored) -> Result<Digest, Failure> {
    match scored {
        Scored::Split(_) => Ok(found.dataset),
        Scored::External(name) => found.external.get(name).copied().ok_or_else(|| {
            Failure::infrastructure(format!(
                "the experiment has predictions on {name:?}, which is none of its data sets"
            ))
        }),
    }
}

/// The manifests that the files' samples are in, and the data set's own.
async fn manifests(
    client: &mut Client,
    found: &PredictionFiles,
    wanted: &[(&PredictedRun, &PredictionFile)],
) -> Result<BTreeMap<Digest, Manifest>, Failure> {
    let mut manifests = BTreeMap::new();
    let needed = wanted.iter().map(|(_, file)| manifest_of(found, &file.scored)).collect::<Result<Vec<_>, _>>()?;
    for digest in needed.into_iter().chain([found.dataset]) {
        let Entry::Vacant(place) = manifests.entry(digest) else { continue };
        let bytes = client.get_bytes(digest, MAX_MANIFEST_BYTES).await?;
        place.insert(Manifest::from_bytes(&bytes).map_err(|error| Failure::infrastructure(error.to_string()))?);
    }
    Ok(manifests)
}
