//! `ceteris.fetched/1`: what `checkpoint get` wrote.

use std::path::PathBuf;

use ceteris_shared::{
    ids::{Epoch, RunId},
    lineage::LineageKey,
};
use serde::Serialize;

use crate::output::{ReadOut, Table};

/// A checkpoint that lies in a file now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "schema", rename = "ceteris.fetched/1")]
pub struct Fetched {
    /// Whose.
    pub run: RunId,
    /// The state after which epoch.
    pub epoch: Epoch,
    /// The lineage that leads to it.
    pub lineage: LineageKey,
    /// The classes, in the order of the head's outputs.
    pub classes: Vec<String>,
    /// Where it was written.
    pub file: PathBuf,
    /// Its length.
    pub bytes: u64,
}

impl ReadOut for Fetched {
    fn text(&self) -> String {
        format!("{}\n", self.file.display())
    }

    fn csv(&self) -> Table {
        let mut table = Table::new(["run", "epoch", "lineage", "file", "bytes"]);
        table.row([
            self.run.to_string(),
            self.epoch.to_string(),
            self.lineage.to_string(),
            self.file.display().to_string(),
            self.bytes.to_string(),
        ]);
        table
    }
}
