//! `ceteris.preview/1`: what `data preview` drew.

use std::path::PathBuf;

use serde::Serialize;

use crate::output::{ReadOut, Table};

/// A contact sheet that lies in a file now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "schema", rename = "ceteris.preview/1")]
pub struct Preview {
    /// The policy, with its version.
    pub policy: String,
    /// The run's seed.
    pub seed: u64,
    /// The first epoch shown, in the second column.
    pub epoch: u32,
    /// How many are shown.
    pub epochs: u32,
    /// The rows, top to bottom.
    pub rows: Vec<PreviewRow>,
    /// Where the sheet was written.
    pub file: PathBuf,
    /// Its length.
    pub bytes: u64,
}

/// One row of the sheet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PreviewRow {
    /// The sample's number, which draws depend on.
    pub sample: u32,
    /// Its class.
    pub class: String,
    /// Where it came from.
    #[serde(rename = "source")]
    pub file: String,
}

impl ReadOut for Preview {
    fn text(&self) -> String {
        let last = self.epoch.saturating_add(self.epochs - 1);
        let columns = format!("original, then epochs {} to {last} of seed {}", self.epoch, self.seed);
        format!("{}: {} of {}\n{}", self.file.display(), self.policy, columns, self.csv().text())
    }

    fn csv(&self) -> Table {
        let mut table = Table::new([">row", ">sample", "class", "source"]);
        for (row, shown) in (1..).zip(&self.rows) {
            let row: u32 = row;
            table.row([row.to_string(), shown.sample.to_string(), shown.class.clone(), shown.file.clone()]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_of_the_sheet_are_told() {
        let row =
            |sample, class: &str| PreviewRow { sample, class: class.to_owned(), file: format!("{class}/{sample}.png") };
        let preview = Preview {
            policy: "strong@1".to_owned(),
            seed: 3,
            epoch: 2,
            epochs: 6,
            rows: vec![row(0, "NORMAL"), row(512, "PNEUMONIA")],
            file: "sheet.png".into(),
            bytes: 120_000,
        };
        insta::assert_snapshot!(preview.text());
        insta::assert_snapshot!(serde_json::to_string_pretty(&preview).unwrap());
    }
}
