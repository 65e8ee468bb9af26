//! Predictions of models that were trained elsewhere, from CSV and Parquet files: one row for each sample and seed.
//!
//! Both forms have the same columns and the same rules. A file is read once, row by row, and kept is only what is compared.

mod csv_file;
mod parquet_file;

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufReader},
    path::Path,
};

use ceteris_shared::compare::{PredictedModel, Prediction};

use crate::failure::Failure;

/// Columns that a file must have.
const REQUIRED: [&str; 3] = ["sample", "label", "score"];
/// Columns that it may have.
const OPTIONAL: [&str; 3] = ["patient", "seed", "subgroup"];
/// Columns that `ceteris export` writes and that have one value in the predictions of one model.
const SAME: [&str; 2] = ["arm", "scored"];
/// Most rows of one file.
const MAX_ROWS: usize = 5_000_000;
/// Largest file, in bytes; what is written in it once and meant in many rows counts in each.
const MAX_BYTES: u64 = 1 << 30;

/// A file's predictions, and names of its columns that nothing is made of.
#[derive(Debug)]
pub struct Loaded {
    /// Called by the file's name without what follows the last dot.
    pub model: PredictedModel,
    /// Columns that are not used.
    pub unused: Vec<String>,
}

/// Reads a file, as Parquet if its name ends in `.parquet` and as CSV if not; `name` is what its model is called.
///
/// # Errors
/// When the file cannot be read, lacks a column, has predictions of several arms or on several parts of the data, or a row is not
/// what its columns say; the row is named.
pub fn read(path: &Path, name: &str) -> Result<Loaded, Failure> {
    let place = path.display().to_string();
    let cannot = |error: io::Error| {
        Failure::usage(format!("{place}: {error}"))
            .help("name CSV or Parquet files with the columns sample, label and score")
    };
    let file = File::open(path).map_err(cannot)?;
    if file.metadata().map_err(cannot)?.len() > MAX_BYTES {
        return Err(Failure::usage(format!("{place} is larger than {MAX_BYTES} bytes; leave out columns or seeds")));
    }
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet")) {
        parquet_file::parse(file, &place, name)
    } else {
        csv_file::parse(BufReader::new(file), &place, name)
    }
}

/// Where the columns are that something is made of.
#[derive(Debug)]
struct Columns {
    sample: usize,
    label: usize,
    score: usize,
    patient: Option<usize>,
    seed: Option<usize>,
    subgroup: Option<usize>,
    arm: Option<usize>,
    scored: Option<usize>,
    unused: Vec<String>,
}

impl Columns {
    fn of(header: &[String], place: &str) -> Result<Self, Failure> {
        let mut seen = HashSet::new();
        if let Some(twice) = header.iter().find(|name| !seen.insert(name.as_str())) {
            return Err(Failure::usage(format!("{place}: the column {twice:?} is there twice")));
        }
        let column = |name: &str| header.iter().position(|known| known == name);
        let required = |name: &'static str| {
            column(name).ok_or_else(|| {
                let has = if header.is_empty() { "none".to_owned() } else { header.join(", ") };
                Failure::usage(format!("{place}: there is no column {name:?}; columns are {has}"))
                    .help("a file has the columns sample, label and score, and may have patient, seed and subgroup")
            })
        };
        let [sample, label, score] = [required(REQUIRED[0])?, required(REQUIRED[1])?, required(REQUIRED[2])?];
        let [patient, seed, subgroup] = OPTIONAL.map(column);
        let [arm, scored] = SAME.map(column);
        let known = |name: &&String| REQUIRED.iter().chain(&OPTIONAL).chain(&SAME).any(|known| known == name);
        let unused = header.iter().filter(|name| !known(name)).cloned().collect();
        Ok(Self { sample, label, score, patient, seed, subgroup, arm, scored, unused })
    }
}

/// A row as it stands in a file.
#[derive(Clone, Copy, Debug)]
struct Row<'a> {
    sample: &'a str,
    label: &'a str,
    score: f64,
    patient: Option<&'a str>,
    seed: Option<u64>,
    subgroup: Option<&'a str>,
    arm: Option<&'a str>,
    scored: Option<&'a str>,
}

/// The rows of a file so far.
#[derive(Debug, Default)]
struct Rows {
    predictions: Vec<Prediction>,
    /// Values of the columns `arm` and `scored`.
    same: [Values; 2],
}

/// Different values of a column, the first few.
#[derive(Debug, Default)]
struct Values {
    some: Vec<String>,
    more: bool,
}

impl Values {
    fn add(&mut self, value: Option<&str>) {
        const KEPT: usize = 6;
        match value {
            Some(value) if self.some.iter().any(|known| known == value) => {}
            Some(_) if self.some.len() == KEPT => self.more = true,
            Some(value) => self.some.push(value.to_owned()),
            None => {}
        }
    }

    fn list(&self) -> String {
        self.some.join(", ") + if self.more { " and more" } else { "" }
    }
}

impl Rows {
    /// `refuse` says where the row is.
    fn add(&mut self, row: Row<'_>, refuse: impl Fn(String) -> Failure) -> Result<(), Failure> {
        let Row { sample, label, score, patient, seed, subgroup, arm, scored } = row;
        if !(0.0..=1.0).contains(&score) {
            return Err(refuse(format!("the score {score} is no probability of the positive class, between 0 and 1"))
                .help("put scores of another scale through a sigmoid, or divide them by the largest possible one"));
        }
        for (what, text) in [("sample", sample), ("label", label)] {
            if text.is_empty() {
                return Err(refuse(format!("the {what} is empty")));
            }
        }
        if self.predictions.len() == MAX_ROWS {
            return Err(refuse(format!("there are more than {MAX_ROWS} rows")));
        }
        for (values, value) in self.same.iter_mut().zip([arm, scored]) {
            values.add(value);
        }
        self.predictions.push(Prediction {
            sample: sample.to_owned(),
            patient: patient.map(str::to_owned),
            label: label.to_owned(),
            score,
            seed: seed.unwrap_or(0),
            subgroup: subgroup.map(str::to_owned),
        });
        Ok(())
    }

    fn finish(self, place: &str, name: &str, unused: Vec<String>) -> Result<Loaded, Failure> {
        let [arms, parts] = &self.same;
        let several = [("several arms", arms), ("predictions on several parts of the data", parts)];
        if let Some((what, values)) = several.into_iter().find(|(_, values)| values.some.len() > 1) {
            return Err(Failure::usage(format!("{place} has {what}: {}", values.list())).help(
                "one file is one model's: `ceteris export EXPERIMENT FILE --arm ARM --on test` writes one arm on one part",
            ));
        }
        let model = PredictedModel { name: name.to_owned(), predictions: self.predictions };
        Ok(Loaded { model, unused })
    }
}
