//! What goes to stdout: documents as JSON, as tables for people, or as CSV for other programs. Nothing else goes there.
//!
//! A read-out is turned into a [`Table`] once; the same cells then make the text and the CSV. Tables are not fitted to
//! the terminal, so that what a pipe receives is what a person sees.

use std::io::Write;

use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, presets};
use serde::Serialize;

use crate::failure::Failure;

/// The form of what is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// A document with a schema name; stable.
    Json,
    /// Rows under one header, for spreadsheets and data frames.
    Csv,
}

/// Rows under a header. A header that begins with `>` is a column of numbers, set to the right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub fn new<const N: usize>(header: [&'static str; N]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, with one cell for each column.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.header.len());
        self.rows.push(cells.to_vec());
    }

    /// Aligned columns, two spaces apart; nothing at the ends of lines.
    pub fn text(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(self.header.iter().map(|name| name.trim_start_matches('>').to_uppercase()));
        for row in &self.rows {
            table.add_row(row);
        }
        for (column, name) in table.column_iter_mut().zip(&self.header) {
            column.set_padding((0, 2));
            if name.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }

    /// RFC 4180, with a header.
    pub fn csv(&self) -> String {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let header = self.header.iter().map(|name| name.trim_start_matches('>').replace(' ', "_"));
        writer.write_record(header).expect("memory takes every write");
        for row in &self.rows {
            writer.write_record(row).expect("rows have the header's length");
        }
        String::from_utf8(writer.into_inner().expect("memory takes every write")).expect("cells are text")
    }
}

/// Something that can be read in all three forms.
pub trait ReadOut: Serialize {
    /// For people; ends with a line break.
    fn text(&self) -> String;
    /// For spreadsheets.
    fn csv(&self) -> Table;
}

/// A document in the form that was asked for.
pub fn render(document: &impl ReadOut, format: Format) -> String {
    match format {
        Format::Table => document.text(),
        Format::Json => {
            serde_json::to_string_pretty(document).expect("documents are plain data with string keys") + "\n"
        }
        Format::Csv => document.csv().csv(),
    }
}

/// Prints a document.
///
/// # Errors
/// When stdout takes no more, other than because its reader has gone.
pub fn print(document: &impl ReadOut, format: Format) -> Result<(), Failure> {
    print_text(&render(document, format))
}

/// Prints text as it is.
///
/// # Errors
/// When stdout takes no more, other than because its reader has gone.
pub fn print_text(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // `ceteris ls | head` is not a mistake.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::io("write to stdout", &error)),
        _ => Ok(()),
    }
}

/// A number of bytes for people.
pub fn bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// `1 epoch`, `2 epochs`.
pub fn count(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Table {
        let mut table = Table::new(["arm", ">val auc", "note"]);
        table.row(["frozen".to_owned(), "0.98".to_owned(), "a, \"b\"".to_owned()]);
        table.row(["finetuned".to_owned(), "0.9853".to_owned(), String::new()]);
        table
    }

    #[test]
    fn text_is_aligned_and_has_no_trailing_spaces() {
        insta::assert_snapshot!(example().text(), @"");
        assert!(example().text().lines().all(|line| line == line.trim_end()));
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        assert_eq!(example().csv(), "arm,val_auc,note\nfrozen,0.98,\"a, \"\"b\"\"\"\nfinetuned,0.9853,\n");
    }

    #[test]
    fn nouns_follow_their_count() {
        assert_eq!((count(1, "epoch"), count(0, "epoch")), ("1 epoch".to_owned(), "0 epochs".to_owned()));
    }
}
