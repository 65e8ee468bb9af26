//! Predictions of models that were trained elsewhere, from CSV files: one row for each sample and seed.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use ceteris_shared::compare::{PredictedModel, Prediction};

use crate::failure::Failure;

/// Columns that a file must have.
const REQUIRED: [&str; 3] = ["sample", "label", "score"];
/// Columns that it may have.
const OPTIONAL: [&str; 3] = ["patient", "seed", "subgroup"];
/// Most rows of one file.
const MAX_ROWS: usize = 5_000_000;
/// Largest file, in bytes.
const MAX_BYTES: u64 = 1 << 30;

/// A file's predictions, and names of its columns that nothing is made of.
#[derive(Debug)]
pub struct Loaded {
    /// Called by the file's name without what follows the last dot.
    pub model: PredictedModel,
    /// Columns that are not used.
    pub unused: Vec<String>,
}

/// Reads a file; `name` is what its model is called.
///
/// # Errors
/// When the file cannot be read, lacks a column, or a row is not what its columns say; the line is named.
pub fn read(path: &Path, name: &str) -> Result<Loaded, Failure> {
    let place = path.display().to_string();
    let cannot = |error: io::Error| {
        Failure::usage(format!("{place}: {error}")).help("name CSV files with the columns sample, label and score")
    };
    let file = File::open(path).map_err(cannot)?;
    if file.metadata().map_err(cannot)?.len() > MAX_BYTES {
        return Err(Failure::usage(format!("{place} is larger than {MAX_BYTES} bytes; leave out columns or seeds")));
    }
    parse(BufReader::new(file), &place, name)
}

fn parse(text: impl Read, place: &str, name: &str) -> Result<Loaded, Failure> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text);
    let malformed = |error: csv::Error| Failure::usage(format!("{place}: {error}"));
    let header: Vec<String> = reader
        .headers()
        .map_err(malformed)?
        .iter()
        .map(|name| name.trim_start_matches('\u{feff}').to_owned())
        .collect();
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
    let mut predictions = Vec::new();
    for row in reader.records() {
        let row = row.map_err(malformed)?;
        let line = row.position().map_or(0, csv::Position::line);
        let refuse = |cause: String| Failure::usage(format!("{place} line {line}: {cause}"));
        let cell = |index: usize| row.get(index).unwrap_or_default();
        let named = |index: usize, what: &str| match cell(index) {
            "" => Err(refuse(format!("{what} is empty"))),
            text => Ok(text.to_owned()),
        };
        let optional = |index: Option<usize>| index.map(cell).filter(|text| !text.is_empty()).map(str::to_owned);
        let number: f64 =
            cell(score).parse().map_err(|_| refuse(format!("the score {:?} is no number", cell(score))))?;
        if !(0.0..=1.0).contains(&number) {
            return Err(refuse(format!("the score {number} is no probability of the positive class, between 0 and 1"))
                .help("put scores of another scale through a sigmoid, or divide them by the largest possible one"));
        }
        let seed = match optional(seed) {
            Some(text) => text.parse().map_err(|_| refuse(format!("the seed {text:?} is no whole number from 0")))?,
            None => 0,
        };
        predictions.push(Prediction {
            sample: named(sample, "the sample")?,
            patient: optional(patient),
            label: named(label, "the label")?,
            score: number,
            seed,
            subgroup: optional(subgroup),
        });
        if predictions.len() > MAX_ROWS {
            return Err(refuse(format!("there are more than {MAX_ROWS} rows")));
        }
    }
    let known = |name: &&String| REQUIRED.iter().chain(&OPTIONAL).any(|known| known == name);
    let unused = header.iter().filter(|name| !known(name)).cloned().collect();
    Ok(Loaded { model: PredictedModel { name: name.to_owned(), predictions }, unused })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        parse(text.as_bytes(), "a.csv", "a").expect_err("it cannot be meant").to_string()
    }

    #[test]
    fn columns_may_come_in_any_order_and_some_be_absent() {
        let text = "\u{feff}score,label,sample,patient,site\n0.25, NORMAL ,a.png,p1,x\n1,PNEUMONIA,b.png,,y\n";
        let read = parse(text.as_bytes(), "a.csv", "a").expect("it is well-formed");
        assert_eq!(read.unused, ["site"]);
        let [first, second] = &read.model.predictions[..] else { panic!("two rows") };
        assert_eq!((first.sample.as_str(), first.label.as_str(), first.score), ("a.png", "NORMAL", 0.25));
        assert_eq!((first.patient.as_deref(), first.seed, first.subgroup.as_deref()), (Some("p1"), 0, None));
        assert_eq!((second.patient.as_deref(), second.score), (None, 1.0));
    }

    #[test]
    fn what_cannot_be_meant_is_told_with_its_line() {
        let head = "sample,label,score,seed\n";
        let told = [
            told(""),
            told("sample,score\na,0.5\n"),
            told("sample,label,score,label\na,1,0.5,1\n"),
            told(&format!("{head}a,1,0.5,0\nb,0,high,0\n")),
            told(&format!("{head}a,1,1.5,0\n")),
            told(&format!("{head}a,1,NaN,0\n")),
            told(&format!("{head}a,,0.5,0\n")),
            told(&format!("{head},1,0.5,0\n")),
            told(&format!("{head}a,1,0.5,-1\n")),
            told(&format!("{head}a,1,0.5\n")),
        ];
        insta::assert_snapshot!(told.join("\n"), @r#"
        error: a.csv: there is no column "sample"; columns are none
        help: a file has the columns sample, label and score, and may have patient, seed and subgroup
        error: a.csv: there is no column "label"; columns are sample, score
        help: a file has the columns sample, label and score, and may have patient, seed and subgroup
        error: a.csv: the column "label" is there twice
        error: a.csv line 3: the score "high" is no number
        error: a.csv line 2: the score 1.5 is no probability of the positive class, between 0 and 1
        help: put scores of another scale through a sigmoid, or divide them by the largest possible one
        error: a.csv line 2: the score NaN is no probability of the positive class, between 0 and 1
        help: put scores of another scale through a sigmoid, or divide them by the largest possible one
        error: a.csv line 2: the label is empty
        error: a.csv line 2: the sample is empty
        error: a.csv line 2: the seed "-1" is no whole number from 0
        error: a.csv: CSV error: record 1 (line: 2, byte: 24): found record with 3 fields, but the previous record has 4 fields
        "#);
    }
}
