//! `ceteris verify`: every number that is told of an experiment, computed again.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use ceteris_proto::v1;
use ceteris_shared::{
    digest::Digest,
    document::{Comparison, Document, Evidence},
    ids::Epoch,
    report::{Differences, NumberDifference, differences},
};
use clap::Args;
use serde_json::Value;

use crate::{
    attributes::AttributeOptions,
    client::{self, Client},
    context::Global,
    evidence::{self, Bundle, EVIDENCE, MAX_DOCUMENT_BYTES, Made, Objects, PAGE, REPORT},
    failure::Failure,
    output,
    render::{Difference, Numbers},
    report::{self, Written},
};

/// What the report says of itself, which is not computed from the evidence.
const NOT_COMPUTED: [&str; 1] = ["version"];
/// This version.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How far what a worker measured may be from what is computed: it sums in another order.
const MEASURED_TOLERANCE: f64 = 1e-9;

/// What to compute again.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// The experiment's id, the beginning of one, a name (the newest of that name), or the path of a bundle.
    #[arg(required = true)]
    pub experiment: Option<String>,
    /// Hold this report against what is computed: an HTML or JSON file that `ceteris report` wrote.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// The digest of the evidence, as it was published: what was made up since has another one.
    #[arg(long, value_name = "DIGEST")]
    pub evidence: Option<Digest>,
    #[command(flatten)]
    attributes: AttributeOptions,
}

impl Options {
    /// # Errors
    /// When something differs, when something that numbers rest on cannot be read, or when the coordinator cannot be asked.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let said = self.report.as_deref().map(report::read).transpose()?;
        let reference = self.experiment.unwrap_or_default();
        let path = Path::new(&reference);
        let numbers = if path.is_file() {
            let bundle = Bundle::open(path)?;
            let evidence: Evidence = bundle.document(EVIDENCE)?;
            published(self.evidence, &evidence)?;
            let text = |name: &str| {
                let bytes = bundle.read(name, MAX_DOCUMENT_BYTES)?;
                Written::from_text(&String::from_utf8_lossy(&bytes))
                    .map_err(|error| Failure::infrastructure(format!("{name} in {reference}: {error}")))
            };
            let said = match said {
                Some(said) => vec![("the report", said)],
                None => vec![("the bundle's report", text(REPORT)?), ("the bundle's page", text(PAGE)?)],
            };
            let budget = evidence.spec.budget.epochs;
            if let Some((what, said)) = said.iter().find(|(_, said)| !(1..=budget).contains(&said.at.0)) {
                return Err(Failure::infrastructure(format!("{what} reads epoch {}, and there are {budget}", said.at)));
            }
            verify(global, &self.attributes, &Objects::Bundle(bundle.clone()), &evidence, &said, None).await?
        } else {
            let mut client = global.connect().await?;
            let evidence = evidence::of_experiment(&mut client, &reference).await?;
            let at = said.as_ref().map(|said| (said.at, said.exploratory));
            let comparison = comparison(&mut client, &evidence, at).await?;
            let said: Vec<_> = said.into_iter().map(|said| ("the report", said)).collect();
            published(self.evidence, &evidence)?;
            let objects = Objects::Coordinator(client);
            verify(global, &self.attributes, &objects, &evidence, &said, Some(comparison)).await?
        };
        output::print(&numbers, global.output)?;
        if numbers.equal {
            Ok(())
        } else {
            Err(Failure::infrastructure(numbers.verdict())
                .help("nothing that rests on what differs is to be trusted until it is known why"))
        }
    }
}

/// Refuses evidence that is not what was published.
fn published(digest: Option<Digest>, evidence: &Evidence) -> Result<(), Failure> {
    let found = Digest::of(evidence.to_json().as_bytes());
    match digest {
        Some(digest) if digest != found => Err(Failure::infrastructure(format!(
            "the evidence has digest {found}, and {digest} was published: it was changed or has grown since"
        ))),
        Some(_) | None => Ok(()),
    }
}

/// The comparison that the coordinator makes, at the epoch that the report reads.
async fn comparison(
    client: &mut Client,
    evidence: &Evidence,
    read: Option<(Epoch, bool)>,
) -> Result<Comparison, Failure> {
    let (at, exploratory) = read.unwrap_or((Epoch(evidence.spec.budget.epochs), false));
    let experiment = evidence.experiment.to_string();
    let request = v1::CompareRequest { experiment, at: at.0, exploratory };
    client::parse(client.rpc.compare_experiment(request).await?)
}

async fn verify(
    global: &Global,
    attributes: &AttributeOptions,
    objects: &Objects,
    evidence: &Evidence,
    said: &[(&'static str, Written)],
    comparison: Option<Comparison>,
) -> Result<Numbers, Failure> {
    let digest = Digest::of(evidence.to_json().as_bytes());
    let mut numbers = Numbers::new(evidence, digest);
    if let Some((what, said)) = said.iter().find(|(_, said)| said.experiment != evidence.experiment) {
        return Err(Failure::usage(format!(
            "{what} is of experiment {} ({}), and this is {} ({})",
            said.experiment, said.name, evidence.experiment, evidence.spec.name
        )));
    }
    let (at, exploratory) = match said.first() {
        Some((_, said)) => (Some(said.at), said.exploratory),
        None => (None, false),
    };
    let mut data = match objects.data_sets(evidence).await {
        Ok(data) => data,
        Err(failure) => {
            numbers.unreadable.push(failure.cause().to_owned());
            return Ok(numbers.judged());
        }
    };
    attributes.add_to(&mut data, evidence, global)?;
    let subgroups = !data.attributes.is_empty();
    let made = evidence::make_report(global, objects, evidence, Arc::new(data), at, exploratory).await?;
    numbers.files = made.files;
    numbers.unreadable = made.unreadable.iter().map(|bad| format!("{}: {}", bad.place, bad.problem)).collect();
    measured(evidence, &made, &mut numbers);
    if let Some(computed) = &made.report {
        let value = |document: Result<Value, serde_json::Error>| {
            document.map_err(|error| Failure::infrastructure(format!("a report cannot be written as JSON: {error}")))
        };
        if let Some(comparison) = &comparison {
            let (said, computed) =
                (value(serde_json::to_value(comparison))?, value(serde_json::to_value(&computed.comparison))?);
            numbers.against("the coordinator's comparison", differences(&said, &computed, &[]));
        }
        for (what, said) in said {
            let computed = value(serde_json::to_value(computed))?;
            if !subgroups && said.document.get("attributes").is_some_and(Value::is_string) {
                return Err(Failure::usage(format!(
                    "{what} has subgroups, and nothing is known here of what they are made of"
                ))
                .help("give the same --attributes as when it was made, or verify a bundle, which has them"));
            }
            let mut found = differences(&said.document, &computed, &NOT_COMPUTED);
            if said.version == VERSION {
                // What this version leaves out was taken out by somebody.
                found.found.extend(std::mem::take(&mut found.unsaid).into_iter().map(|path| NumberDifference {
                    path,
                    said: Value::Null,
                    computed: Value::from("a field of the report"),
                }));
            }
            numbers.against(what, found);
            numbers.page(what, said);
        }
    }
    Ok(numbers.judged())
}

/// Holds what workers measured on val, epoch by epoch, against what their predictions say.
fn measured(evidence: &Evidence, made: &Made, numbers: &mut Numbers) {
    let (mut compared, mut found) = (0, Vec::new());
    for measured in &made.measured {
        let run = &evidence.runs[measured.run];
        let Some(epoch) = run.epochs.get(measured.epoch.0 as usize - 1) else { continue };
        for (name, &computed) in &measured.scores {
            let Some(&said) = epoch.measured.get(*name) else { continue };
            compared += 1;
            if (said - computed).abs() > MEASURED_TOLERANCE * said.abs().max(1.0) {
                let path = format!(
                    "run {} ({}, seed {}), epoch {}: val {name}",
                    run.run.short(),
                    run.arm,
                    run.seed,
                    measured.epoch
                );
                found.push(NumberDifference { path, said: said.into(), computed: computed.into() });
            }
        }
    }
    numbers.against("what workers measured", Differences { found, compared, unsaid: Vec::new() });
}

impl Numbers {
    fn new(evidence: &Evidence, digest: Digest) -> Self {
        Self {
            experiment: evidence.experiment,
            name: evidence.spec.name.clone(),
            evidence: digest,
            equal: false,
            files: 0,
            compared: Vec::new(),
            unsaid: 0,
            notes: Vec::new(),
            unreadable: Vec::new(),
            differences: Vec::new(),
        }
    }

    fn against(&mut self, what: &str, differences: Differences) {
        let Differences { mut found, compared, unsaid } = differences;
        self.compared.push((what.to_owned(), compared));
        self.unsaid += unsaid.len() as u64;
        // What other numbers are made of first: runs before contrasts, and both before what is drawn.
        found.sort_by_key(|found| !found.path.starts_with("comparison."));
        self.differences.extend(found.into_iter().map(|found| Difference {
            of: what.to_owned(),
            path: found.path,
            said: found.said,
            computed: found.computed,
        }));
    }

    /// Whether a page shows the numbers that are in it.
    fn page(&mut self, what: &str, said: &Written) {
        let of = format!("what {what} shows");
        match said.page_is_its_documents(VERSION) {
            Some(true) => self.compared.push((of, 1)),
            Some(false) => {
                self.compared.push((of.clone(), 1));
                let path = "what is shown".to_owned();
                let (said, computed) = (Value::from("other text"), Value::from("what its JSON says"));
                self.differences.push(Difference { of, path, said, computed });
            }
            None if said.page.is_some() => self.notes.push(format!(
                "{of} was written by version {}: its numbers were checked where they are as JSON, and not what it shows",
                said.version
            )),
            None => {}
        }
    }

    fn judged(mut self) -> Self {
        self.equal = self.unreadable.is_empty() && self.differences.is_empty();
        self
    }
}
