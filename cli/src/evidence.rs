//! Where evidence comes from, and how a report is made of it: from a coordinator, or from a bundle, a file that has everything in it.
//! Every object is verified against its digest, wherever it lies.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use ceteris_proto::v1;
use ceteris_shared::{
    compare::DataSets,
    dataset::{MAX_MANIFEST_BYTES, Manifest},
    digest::Digest,
    document::{Document, Evidence, EvidenceRun, Report},
    ids::Epoch,
    predictions,
    report::{Attributes, Builder, Facts, Reader, Wanted},
    trainer::Scored,
};
use futures::StreamExt;

use crate::{
    client::{self, Client},
    context::Global,
    failure::Failure,
    progress::{Progress, Unit},
};

/// Sets of files that are read at once.
const READS: usize = 8;
/// The longest evidence or report that is read from a bundle.
pub const MAX_DOCUMENT_BYTES: u64 = 256 << 20;
/// In a bundle.
pub const EVIDENCE: &str = "evidence.json";
/// In a bundle.
pub const REPORT: &str = "report.json";
/// In a bundle.
pub const PAGE: &str = "report.html";
/// In a bundle whose report has subgroups.
pub const ATTRIBUTES: &str = "attributes.json";

/// The name of an object in a bundle.
pub fn object_name(digest: &Digest) -> String {
    format!("objects/{digest}")
}

/// Where objects lie. Cloning it is cheap.
#[derive(Clone, Debug)]
pub enum Objects {
    /// In a coordinator's store.
    Coordinator(Client),
    /// In a file.
    Bundle(Bundle),
}

impl Objects {
    /// An object, which is what its digest says.
    ///
    /// # Errors
    /// When it is not there, is damaged, or is longer than `limit`.
    pub async fn get(&self, digest: Digest, limit: u64) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Coordinator(client) => client.clone().get_bytes(digest, limit).await,
            Self::Bundle(bundle) => {
                let bytes = bundle.read(&object_name(&digest), limit)?;
                if Digest::of(&bytes) == digest {
                    Ok(bytes)
                } else {
                    Err(Failure::infrastructure(format!("the object {digest} has other bytes than its digest says")))
                }
            }
        }
    }

    /// The data sets that predictions are held against, with what the bundle has of their samples' attributes.
    ///
    /// # Errors
    /// As [`Self::get`], and when a manifest is none.
    pub async fn data_sets(&self, evidence: &Evidence) -> Result<DataSets, Failure> {
        let own = evidence.pins.dataset.ok_or_else(|| Failure::infrastructure("the evidence names no data set"))?;
        let own = self.manifest(own, &evidence.spec.data.dataset).await?;
        let mut external = BTreeMap::new();
        for (name, digest) in &evidence.pins.external {
            external.insert(name.clone(), self.manifest(*digest, name).await?);
        }
        let mut data = DataSets::new(own, external);
        if let Self::Bundle(bundle) = self {
            data.attributes = bundle.attributes()?;
        }
        Ok(data)
    }

    async fn manifest(&self, digest: Digest, name: &str) -> Result<Manifest, Failure> {
        let unreadable = |cause: String| Failure::infrastructure(format!("the labels of data set {name:?}: {cause}"));
        let bytes =
            self.get(digest, MAX_MANIFEST_BYTES).await.map_err(|failure| unreadable(failure.cause().to_owned()))?;
        Manifest::from_bytes(&bytes).map_err(|error| unreadable(error.to_string()))
    }
}

/// Evidence, a report and all objects that they rest on, in one zip file.
#[derive(Clone, Debug)]
pub struct Bundle {
    path: PathBuf,
    archive: Arc<Mutex<zip::ZipArchive<File>>>,
}

impl Bundle {
    /// Opens a bundle.
    ///
    /// # Errors
    /// When it cannot be read, or is no zip file.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| Failure::io(format!("read {}", path.display()), &error))?;
        let archive = zip::ZipArchive::new(file).map_err(|error| {
            Failure::usage(format!("{} is no bundle: {error}", path.display())).help("`ceteris bundle` makes one")
        })?;
        Ok(Self { path: path.to_owned(), archive: Arc::new(Mutex::new(archive)) })
    }

    /// A file of it.
    ///
    /// # Errors
    /// When it is not there, cannot be read, or is longer than `limit`.
    pub fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, Failure> {
        let place = self.path.display();
        let mut archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
        let file = archive.by_name(name).map_err(|error| {
            Failure::infrastructure(format!("{place} has no {name}: {error}"))
                .help("it is no whole bundle: make it again")
        })?;
        let mut bytes = Vec::new();
        let unreadable = |cause: String| Failure::infrastructure(format!("{name} in {place} cannot be read: {cause}"));
        file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
        if bytes.len() as u64 > limit { Err(unreadable(format!("it is longer than {limit} bytes"))) } else { Ok(bytes) }
    }

    /// What it has of samples' attributes; nothing, where it was made without.
    fn attributes(&self) -> Result<Attributes, Failure> {
        let there = {
            let archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
            archive.file_names().flatten().any(|name| name == ATTRIBUTES)
        };
        if !there {
            return Ok(Attributes::default());
        }
        let bytes = self.read(ATTRIBUTES, MAX_DOCUMENT_BYTES)?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Failure::infrastructure(format!("{ATTRIBUTES} in {} cannot be read: {error}", self.path.display()))
        })
    }

    /// A document of it.
    ///
    /// # Errors
    /// As [`Self::read`], and when it is another document.
    pub fn document<T: Document>(&self, name: &str) -> Result<T, Failure> {
        let bytes = self.read(name, MAX_DOCUMENT_BYTES)?;
        let text = String::from_utf8_lossy(&bytes);
        T::from_json(&text)
            .map_err(|error| Failure::infrastructure(format!("{name} in {}: {error}", self.path.display())))
    }
}

/// The evidence that `reference` names, and where its objects lie: an experiment's at the coordinator, or a bundle's.
///
/// # Errors
/// When there is no such experiment or bundle.
pub async fn open(global: &Global, reference: &str) -> Result<(Objects, Evidence), Failure> {
    let path = Path::new(reference);
    if path.is_file() {
        let bundle = Bundle::open(path)?;
        let evidence = bundle.document(EVIDENCE)?;
        return Ok((Objects::Bundle(bundle), evidence));
    }
    let mut client = global.connect().await?;
    let evidence = of_experiment(&mut client, reference).await?;
    Ok((Objects::Coordinator(client), evidence))
}

/// Asks the coordinator for the evidence of an experiment.
///
/// # Errors
/// When the experiment is not known, or the coordinator cannot be asked.
pub async fn of_experiment(client: &mut Client, experiment: &str) -> Result<Evidence, Failure> {
    let request = v1::ExperimentRequest { experiment: experiment.to_owned() };
    client::parse(client.rpc.get_evidence(request).await?)
}

/// Predictions that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Whose, after which epoch, on what.
    pub place: String,
    /// Why.
    pub problem: String,
}

/// What was read, with what could not be.
#[derive(Debug)]
pub struct Made {
    /// The report; none where something could not be read.
    pub report: Option<Report>,
    /// What each run says after each epoch that was read, as a comparison with what its worker measured wants it.
    pub measured: Vec<Measured>,
    /// Distinct files of predictions.
    pub files: u64,
    /// What could not be read.
    pub unreadable: Vec<Unreadable>,
}

/// Scores on val, as computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Index into the evidence's runs.
    pub run: usize,
    /// After which epoch.
    pub epoch: Epoch,
    /// By name.
    pub scores: BTreeMap<&'static str, f64>,
}

/// Computes the report of `evidence` from predictions and labels.
///
/// # Errors
/// When the evidence contradicts itself, or there is no such epoch.
pub async fn make_report(
    global: &Global,
    objects: &Objects,
    evidence: &Evidence,
    data: Arc<DataSets>,
    at: Option<Epoch>,
    exploratory: bool,
) -> Result<Made, Failure> {
    let refuse = |error: ceteris_shared::report::Error| Failure::infrastructure(error.to_string());
    let mut builder = Builder::new(evidence, &data, at, exploratory).map_err(|error| match error {
        ceteris_shared::report::Error::Compare(error) => Failure::usage(error.to_string()),
        error => refuse(error),
    })?;
    let epochs = builder.epochs();
    let progress = Progress::new(global, "reading predictions", Unit::Items("epochs"), epochs.len() as u64);
    let (mut made, mut last) = (Made::new(), BTreeMap::new());
    for epoch in epochs {
        let reader = builder.reader(epoch);
        let wanted = builder.wanted(epoch).map_err(refuse)?;
        let reads = wanted.iter().map(|wanted| read(objects, evidence, data.clone(), wanted, epoch, &reader));
        let read: Vec<_> = futures::stream::iter(reads).buffered(READS).collect().await;
        let mut facts = BTreeMap::new();
        for (wanted, read) in wanted.iter().zip(read) {
            made.files += wanted.files.len() as u64;
            match read {
                Ok(read) => {
                    let read = Arc::new(read);
                    facts.extend(wanted.runs.iter().map(|run| (*run, read.clone())));
                }
                Err(unreadable) => made.unreadable.push(unreadable),
            }
        }
        made.measure(evidence, epoch, &facts);
        builder.add(epoch, &facts);
        last = facts;
        progress.add(1);
    }
    progress.finish();
    if made.unreadable.is_empty() {
        made.report = Some(builder.finish(&last, env!("CARGO_PKG_VERSION")).map_err(refuse)?);
    }
    Ok(made)
}

impl Made {
    fn new() -> Self {
        Self { report: None, measured: Vec::new(), files: 0, unreadable: Vec::new() }
    }

    fn measure(&mut self, evidence: &Evidence, epoch: Epoch, facts: &BTreeMap<usize, Arc<Facts>>) {
        for (&run, facts) in facts {
            let Some(val) = facts.metrics().val.as_ref() else { continue };
            if evidence.runs[run].epochs.len() < epoch.0 as usize {
                continue;
            }
            let scores = [("auc", val.auc), ("loss", val.loss)];
            let scores = scores.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            self.measured.push(Measured { run, epoch, scores });
        }
    }
}

async fn read(
    objects: &Objects,
    evidence: &Evidence,
    data: Arc<DataSets>,
    wanted: &Wanted<'_>,
    epoch: Epoch,
    reader: &Reader,
) -> Result<Facts, Unreadable> {
    let mut files = Vec::with_capacity(wanted.files.len());
    for file in &wanted.files {
        let bytes = objects.get(file.digest, predictions::MAX_BYTES).await;
        let place = || place(evidence, wanted, epoch, Some(&file.scored));
        let bytes = bytes.map_err(|failure| Unreadable { place: place(), problem: failure.cause().to_owned() })?;
        files.push((file.scored.clone(), bytes));
    }
    let (spec, reader) = (evidence.spec.clone(), reader.clone());
    let reading = move || {
        let predicted = data.label(files).map_err(|error| error.to_string())?;
        Ok::<_, String>(reader.read(predicted, &data, &spec))
    };
    let read = tokio::task::spawn_blocking(reading).await.unwrap_or_else(|error| Err(error.to_string()));
    read.map_err(|problem| Unreadable { place: place(evidence, wanted, epoch, None), problem })
}

fn place(evidence: &Evidence, wanted: &Wanted<'_>, at: Epoch, scored: Option<&Scored>) -> String {
    let run = |run: &EvidenceRun| format!("run {} ({}, seed {})", run.run.short(), run.arm, run.seed);
    let first = wanted.runs.first().map(|&index| run(&evidence.runs[index])).unwrap_or_default();
    let more = match wanted.runs.len() {
        0 | 1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let on = match scored {
        None => String::new(),
        Some(Scored::Split(split)) => format!(" on {split}"),
        Some(Scored::External(name)) => format!(" on {name}"),
    };
    format!("{first}{more}, epoch {at}{on}")
}
