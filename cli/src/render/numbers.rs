//! `ceteris.numbers/1`: what came of computing every number again.

use ceteris_shared::{digest::Digest, ids::ExperimentId};
use serde::Serialize;
use serde_json::Value;

use crate::output::{ReadOut, Table, count};

/// The most differences that a table shows.
const SHOWN: usize = 20;
/// The most characters of a value in a table.
const WIDEST: usize = 48;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "schema", rename = "ceteris.numbers/1")]
pub struct Numbers {
    /// Whose numbers.
    pub experiment: ExperimentId,
    /// What people call it.
    pub name: String,
    /// Digest of the evidence.
    pub evidence: Digest,
    /// Whether everything can be read and nothing differs.
    pub equal: bool,
    /// Files of predictions that were read.
    pub files: u64,
    /// What was held against what is computed, and how many values.
    pub compared: Vec<(String, u64)>,
    /// Fields that this version computes and that the report does not have: an older version wrote it.
    pub unsaid: u64,
    /// What was not checked.
    pub notes: Vec<String>,
    /// What cannot be read, and why.
    pub unreadable: Vec<String>,
    /// What differs.
    pub differences: Vec<Difference>,
}

/// A value that is not what is computed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Who says it.
    pub of: String,
    /// Where.
    pub path: String,
    /// What is said.
    pub said: Value,
    /// What is computed.
    pub computed: Value,
}

impl Numbers {
    /// In a sentence.
    pub fn verdict(&self) -> String {
        let numbers: u64 = self.compared.iter().map(|(_, compared)| compared).sum();
        match (self.unreadable.len(), self.differences.len()) {
            (0, 0) => format!("all {numbers} values are what the predictions say"),
            (0, different) => format!("{different} of {numbers} values are not what the predictions say"),
            (unreadable, 0) => {
                format!("{} cannot be read, so not everything was computed", count(unreadable as u64, "object"))
            }
            (unreadable, different) => format!(
                "{} cannot be read, and {different} of {numbers} values are not what the predictions say",
                count(unreadable as u64, "object")
            ),
        }
    }
}

/// A value for a table: sentences are cut.
fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= WIDEST { text } else { text.chars().take(WIDEST - 1).chain(['…']).collect() }
}

impl ReadOut for Numbers {
    fn text(&self) -> String {
        let mut text = format!("{} ({}), evidence {}\n", self.name, self.experiment, self.evidence.short());
        text += &format!("{} of predictions read, lineages are those of the spec\n", count(self.files, "file"));
        for (what, compared) in &self.compared {
            let different = self.differences.iter().filter(|difference| difference.of == *what).count();
            let verdict = if different == 0 { "all the same".to_owned() } else { format!("{different} DIFFER") };
            text += &format!("{what}: {}, {verdict}\n", count(*compared, "value"));
        }
        if self.unsaid > 0 {
            text += &format!("{} not in it, which an older version wrote\n", count(self.unsaid, "computed field"));
        }
        for note in &self.notes {
            text += &format!("{note}\n");
        }
        for unreadable in &self.unreadable {
            text += &format!("CANNOT BE READ: {unreadable}\n");
        }
        if !self.differences.is_empty() {
            let mut table = Table::new(["of", "value", ">said", ">computed"]);
            for difference in self.differences.iter().take(SHOWN) {
                let Difference { of, path, said, computed } = difference;
                table.row([of.clone(), path.clone(), short(said), short(computed)]);
            }
            text += &format!("\n{}", table.text());
            if self.differences.len() > SHOWN {
                text += &format!("… and {} more; -o json lists all\n", self.differences.len() - SHOWN);
            }
        }
        text
    }

    fn csv(&self) -> Table {
        let mut table = Table::new(["of", "value", "said", "computed"]);
        for Difference { of, path, said, computed } in &self.differences {
            table.row([of.clone(), path.clone(), said.to_string(), computed.to_string()]);
        }
        for unreadable in &self.unreadable {
            table.row(["unreadable".to_owned(), unreadable.clone(), String::new(), String::new()]);
        }
        table
    }
}
