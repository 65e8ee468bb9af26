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

/// A column of a table. From a text: a name, which a table shows in capitals; one that begins with `>` is a column of
/// numbers, set to the right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    name: String,
    title: String,
    numbers: bool,
}

impl From<&str> for Column {
    fn from(text: &str) -> Self {
        let name = text.trim_start_matches('>').to_owned();
        Self { title: name.to_uppercase(), name, numbers: text.starts_with('>') }
    }
}

impl Column {
    /// Numbers that belong to a class, whose name is shown as it is.
    pub fn of_class(before: &str, class: &str) -> Self {
        Self { name: format!("{before}{class}"), title: format!("{}{class}", before.to_uppercase()), numbers: true }
    }
}

/// Rows under a header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    header: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub fn new<T: Into<Column>>(header: impl IntoIterator<Item = T>) -> Self {
        Self { header: header.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row, with one cell for each column.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().collect();
        debug_assert_eq!(cells.len(), self.header.len());
        self.rows.push(cells);
    }

    /// Aligned columns, two spaces apart; nothing at the ends of lines.
    pub fn text(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(self.header.iter().map(|column| &column.title));
        for row in &self.rows {
            table.add_row(row);
        }
        for (shown, column) in table.column_iter_mut().zip(&self.header) {
            shown.set_padding((0, 2));
            if column.numbers {
                shown.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }

    /// RFC 4180, with a header.
    pub fn csv(&self) -> String {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let header = self.header.iter().map(|column| column.name.replace(' ', "_"));
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
        Format::Table => printable(&document.text()),
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

/// Text that cannot steer the terminal that shows it: file names and what programs print come from anywhere.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c }).collect()
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
        insta::assert_snapshot!(example().text(), @r#"
        ARM        VAL AUC  NOTE
        frozen        0.98  a, "b"
        finetuned   0.9853
        "#);
        assert!(example().text().lines().all(|line| line == line.trim_end()));
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        assert_eq!(example().csv(), "arm,val_auc,note\nfrozen,0.98,\"a, \"\"b\"\"\"\nfinetuned,0.9853,\n");
    }

    #[test]
    fn escapes_do_not_reach_the_terminal() {
        assert_eq!(printable("a\tb \x1b[31mred\r\n"), "a\tb \u{fffd}[31mred\u{fffd}\n");
    }

    #[test]
    fn nouns_follow_their_count() {
        assert_eq!((count(1, "epoch"), count(0, "epoch")), ("1 epoch".to_owned(), "0 epochs".to_owned()));
    }
}
