//! The report as files: one HTML page for people, Markdown for other documents, CSV for tables, JSON for programs. All are made of the
//! document alone, so they can be made again from it.

mod chart;
mod figures;
mod html;
mod markdown;
mod rows;
mod tables;
#[cfg(test)]
mod tests;

use std::path::Path;

use ceteris_shared::{
    document::{Document, Report},
    ids::{Epoch, ExperimentId},
};
use serde::Deserialize;
use serde_json::Value;

use crate::{evidence::MAX_DOCUMENT_BYTES, failure::Failure};

/// What a report is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A page that needs no network.
    Html,
    /// Text with tables.
    Markdown,
    /// The document.
    Json,
    /// A row for each number.
    Csv,
}

impl Form {
    /// By the name that is a file's extension.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "html" | "htm" => Some(Self::Html),
            "md" | "markdown" | "table" => Some(Self::Markdown),
            "json" => Some(Self::Json),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }

    /// The text.
    pub fn render(self, report: &Report) -> String {
        match self {
            Self::Html => html::page(report),
            Self::Markdown => markdown::text(report),
            Self::Json => {
                serde_json::to_string_pretty(report).expect("documents are plain data with string keys") + "\n"
            }
            Self::Csv => rows::table(report).csv(),
        }
    }
}

/// What stands before the document in a page, and after it.
const EMBEDDED: (&str, &str) = (r#"<script type="application/json" id="ceteris-report">"#, "</script>");

/// The document inside a page: `<` is escaped, so that no text of it ends the element.
fn embedded(report: &Report) -> String {
    report.to_json().replace('<', "\\u003c")
}

/// A report that was written, as it was written: what an older version wrote has fewer fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Of which experiment.
    pub experiment: ExperimentId,
    /// What people call it.
    pub name: String,
    /// The epoch that it reads.
    pub at: Epoch,
    /// Whether it compares what is not comparable.
    pub exploratory: bool,
    /// The version that wrote it.
    pub version: String,
    /// All of it.
    pub document: Value,
    /// The page that it was in.
    pub page: Option<String>,
}

impl Written {
    /// From HTML or JSON.
    ///
    /// # Errors
    /// When there is no report in it.
    pub fn from_text(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Head {
            schema: String,
            experiment: ExperimentId,
            name: String,
            version: String,
            comparison: HeadOfComparison,
        }
        #[derive(Deserialize)]
        struct HeadOfComparison {
            at: Epoch,
            exploratory: bool,
        }
        let inside =
            text.split_once(EMBEDDED.0).and_then(|(_, rest)| rest.split_once(EMBEDDED.1)).map(|(json, _)| json);
        let document: Value = serde_json::from_str(inside.unwrap_or(text)).map_err(|error| error.to_string())?;
        let head = Head::deserialize(&document).map_err(|error| error.to_string())?;
        if head.schema != Report::SCHEMA {
            return Err(format!("it is a {:?} document, and this version reads {:?}", head.schema, Report::SCHEMA));
        }
        let HeadOfComparison { at, exploratory } = head.comparison;
        let page = inside.map(|_| text.to_owned());
        let (experiment, name, version) = (head.experiment, head.name, head.version);
        Ok(Self { experiment, name, at, exploratory, version, document, page })
    }
}

impl Written {
    /// Whether the page says what the document inside says; none without a page, and where another version wrote it, whose pages look
    /// otherwise.
    pub fn page_is_its_documents(&self, version: &str) -> Option<bool> {
        let page = self.page.as_ref().filter(|_| self.version == version)?;
        let report: Report = serde_json::from_value(self.document.clone()).ok()?;
        Some(html::page(&report) == *page)
    }
}

/// Reads a report that was written as HTML or JSON.
///
/// # Errors
/// When the file cannot be read, or holds no report.
pub fn read(path: &Path) -> Result<Written, Failure> {
    let reading = |error: std::io::Error| Failure::io(format!("read {}", path.display()), &error);
    let bytes = std::fs::metadata(path).map_err(reading)?.len();
    if bytes > MAX_DOCUMENT_BYTES {
        return Err(Failure::usage(format!("{} is longer than {MAX_DOCUMENT_BYTES} bytes", path.display())));
    }
    let text = std::fs::read_to_string(path).map_err(reading)?;
    Written::from_text(&text).map_err(|error| {
        Failure::usage(format!("{} holds no report: {error}", path.display()))
            .help("give a file that `ceteris report -o FILE.html` or `-o FILE.json` wrote")
    })
}
