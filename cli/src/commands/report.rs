//! `ceteris report`

use std::{path::PathBuf, sync::Arc};

use ceteris_shared::{
    compare::DataSets,
    document::{Evidence, Report},
    ids::Epoch,
};
use clap::Args;

use super::compare;
use crate::{
    attributes::AttributeOptions,
    context::Global,
    evidence::{self, Objects},
    failure::Failure,
    file,
    output::{self, Format},
    report::Form,
};

/// Make the report of an experiment: the answer, and everything that it rests on, in one file.
///
/// The HTML file is self-contained: it needs no network, prints, and holds the numbers as JSON too, so that `ceteris verify --report`
/// can compute every one of them again. Everything is computed here from stored predictions.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris report kermany -o report.html
  ceteris report kermany -o report.md
  ceteris report kermany -o json | jq .answer
  ceteris report kermany --attributes kermany.csv --attributes nih=nih.csv -o report.html    with subgroups
  ceteris report bundle.zip -o report.html           without a coordinator
  ceteris report kermany --at 5 -o early.html        a look at epoch 5, on val alone: no verdict

Exit codes: 0 made · 3 made, and something is refused as not comparable.")]
pub struct Options {
    /// The experiment's id, the beginning of one, a name (the newest of that name), or the path of a bundle.
    pub experiment: String,
    /// A file to write, by its extension as html, md, json or csv; or one of those words, for stdout.
    #[arg(short = 'o', long, value_name = "FILE|FORM")]
    pub to: Option<String>,
    /// Read all runs at this epoch instead of the endpoint.
    #[arg(long, value_name = "EPOCH", value_parser = clap::value_parser!(u32).range(1..))]
    pub at: Option<u32>,
    /// Report what is not comparable, with a warning on everything.
    #[arg(long)]
    pub exploratory: bool,
    #[command(flatten)]
    attributes: AttributeOptions,
    /// Overwrite the file if it exists.
    #[arg(long)]
    pub force: bool,
    /// What to print on stdout without -o: Markdown for people, JSON with a schema name, or CSV. Here without its short form.
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

impl Options {
    /// # Errors
    /// When the experiment is not known, its predictions cannot be read, or the file cannot be written; and when something is refused,
    /// after the report was made.
    pub async fn run(self, global: &Global) -> Result<(), Failure> {
        let (form, file) = self.target()?;
        if let Some(path) = file.as_ref().filter(|path| !self.force && path.exists()) {
            return Err(file::exists(path));
        }
        let (objects, evidence) = evidence::open(global, &self.experiment).await?;
        let mut data = objects.data_sets(&evidence).await?;
        self.attributes.add_to(&mut data, &evidence, global)?;
        let report = made(global, &objects, &evidence, data, self.at, self.exploratory).await?;
        let text = form.render(&report);
        match file {
            None => output::print_text(&text)?,
            Some(path) => {
                let bytes = file::write(&path, text.as_bytes(), self.force)?;
                global.note(report.answer.join("\n"));
                global.note(format!("wrote {} ({})", path.display(), output::bytes(bytes)));
            }
        }
        compare::judge(&report.comparison, false)
    }

    fn target(&self) -> Result<(Form, Option<PathBuf>), Failure> {
        let Some(to) = &self.to else {
            let form = match self.format {
                Format::Table => Form::Markdown,
                Format::Json => Form::Json,
                Format::Csv => Form::Csv,
            };
            return Ok((form, None));
        };
        if let Some(form) = Form::named(to) {
            return Ok((form, None));
        }
        let path = PathBuf::from(to);
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        match extension.as_deref().and_then(Form::named) {
            Some(form) => Ok((form, Some(path))),
            None => Err(Failure::usage(format!("{} has no extension that says its form", path.display()))
                .help("name it .html, .md, .json or .csv")),
        }
    }
}

/// The report of `evidence`, where everything that it rests on can be read.
///
/// # Errors
/// When something cannot be read.
pub async fn made(
    global: &Global,
    objects: &Objects,
    evidence: &Evidence,
    data: DataSets,
    at: Option<u32>,
    exploratory: bool,
) -> Result<Report, Failure> {
    let made = evidence::make_report(global, objects, evidence, Arc::new(data), at.map(Epoch), exploratory).await?;
    let count = made.unreadable.len();
    made.report.ok_or_else(|| {
        let first = made
            .unreadable
            .into_iter()
            .next()
            .map(|unreadable| format!("{}: {}", unreadable.place, unreadable.problem));
        Failure::infrastructure(format!(
            "{} cannot be read, first {}",
            output::count(count as u64, "set of predictions").replace("predictionss", "predictions"),
            first.unwrap_or_default()
        ))
        .help("`ceteris verify run RUN` trains a run again and makes its predictions whole")
    })
}
