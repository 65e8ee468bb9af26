//! What a benchmark leaves behind: raw rows as JSON lines, and a page in Markdown.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{checks::Checks, rounds::Row, text};

/// A table under a heading.
#[derive(Clone, Debug)]
pub struct Table {
    pub heading: String,
    /// Names of the columns.
    pub head: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
}

/// Everything that a benchmark found out.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What is said after `cargo xtask`.
    pub name: &'static str,
    /// The name of its files, without what follows the dot.
    pub file: &'static str,
    /// What is measured, in a sentence or two.
    pub about: &'static str,
    /// Where it was measured: name and value.
    pub machine: Vec<(&'static str, String)>,
    pub tables: Vec<Table>,
    pub checks: Checks,
    /// What a reader has to know besides: how it was measured, what was extrapolated.
    pub notes: Vec<String>,
    /// Raw measurements.
    pub raw: Vec<Value>,
}

impl Report {
    /// Keeps rows of rounds.
    pub fn keep(&mut self, rows: &[Row]) {
        self.raw.extend(rows.iter().map(Row::to_json));
    }

    /// Keeps a measurement that is not one of rounds.
    pub fn keep_fact(&mut self, setting: &str, program: &str, facts: Value) {
        self.raw.push(json!({ "setting": setting, "program": program, "facts": facts }));
    }

    /// The page.
    pub fn markdown(&self) -> String {
        let machine: String = self.machine.iter().map(|(name, value)| format!("- {name}: {value}\n")).collect();
        let tables = self.tables.iter().map(|table| {
            let body = text::table(&table.head, &table.rows);
            format!("\n## {}\n\n{body}", table.heading)
        });
        let tables: String = tables.collect();
        let notes: String = self.notes.iter().map(|note| format!("- {note}\n")).collect();
        let notes = if notes.is_empty() { notes } else { format!("\n## Notes\n\n{notes}") };
        format!(
            "# `cargo xtask {name}`\n\n{about}\n\nEvery value is the median, with the smallest and the largest \
             in brackets. Raw rows: [`{file}.jsonl`]({file}.jsonl).\n\n{machine}{tables}{notes}{figures}",
            name = self.name,
            file = self.file,
            about = self.about,
            figures = self.figures("\n## Figures\n\n"),
        )
    }

    /// The figures beside what is required of them; nothing where nothing is required.
    pub fn figures(&self, heading: &str) -> String {
        if self.checks.0.is_empty() {
            return String::new();
        }
        let head = ["figure", "required", "measured", "holds"];
        format!("{heading}{}", text::table(&head, &self.checks.rows()))
    }

    /// Writes both files below `directory`.
    pub fn write(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let machine: serde_json::Map<String, Value> =
            self.machine.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let lines = std::iter::once(json!({ "machine": machine })).chain(self.raw.iter().cloned());
        let raw: String = lines.map(|line| format!("{line}\n")).collect();
        for (extension, content) in [("md", self.markdown()), ("jsonl", raw)] {
            let path = directory.join(format!("{}.{extension}", self.file));
            fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        }
        eprintln!("wrote {0}.md and {0}.jsonl to {1}", self.file, directory.display());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{checks::Required, process::Answer, spread::Spread};

    fn example() -> Report {
        let mut report = Report {
            name: "bench train-step",
            file: "train-step",
            about: "Training steps of DenseNet121.",
            machine: vec![("processor", "one with 2 cores".to_owned()), ("date", "2026-01-02".to_owned())],
            ..Report::default()
        };
        let cells = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        report.tables.push(Table {
            heading: "Speed".to_owned(),
            head: vec!["batch", "program", "images/s"],
            rows: vec![cells(&["8", "ceteris", "10.5 (10–11)"]), cells(&["8", "PyTorch", "7"])],
        });
        let spread = Spread { low: 1.4, median: 1.5, high: 1.6 };
        report.checks.require("fp32: images/s against PyTorch", Required::AtLeast(1.0), spread, true);
        report.checks.stretch("the same", Required::AtLeast(1.75), spread, true);
        report.checks.require("peak memory against PyTorch", Required::AtMost(0.8), Spread::one(0.85), true);
        report.checks.require("bf16: images/s against PyTorch", Required::AtLeast(1.0), Spread::one(9.0), false);
        report.checks.require("losses in f64", Required::AtMost(1e-9), Spread::one(f64::NAN), true);
        report.notes.push("PyTorch's time is extrapolated from 3 epochs.".to_owned());
        report
    }

    #[test]
    fn a_page() {
        insta::assert_snapshot!(example().markdown());
    }

    #[test]
    fn raw_rows_are_kept_beside_the_page() {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let mut report = example();
        let answer = Answer { seconds: 2.0, images: 8.0, line: json!({ "seconds": 2.0, "images": 8 }) };
        let row = Row { setting: "batch 8".to_owned(), label: "PyTorch".to_owned(), round: 0, units: 1, answer };
        report.keep(&[row]);
        report.keep_fact("memory", "PyTorch", json!({ "peak_bytes": 5 }));
        report.write(directory.path()).expect("it is writable");
        let raw = fs::read_to_string(directory.path().join("train-step.jsonl")).expect("it was written");
        insta::assert_snapshot!(raw);
        let page = fs::read_to_string(directory.path().join("train-step.md")).expect("it was written");
        assert_eq!(page, report.markdown());
    }
}
