//! Predictions from CSV. What is empty is not there, and spaces around a value do not count.

use std::io::Read;

use super::{Columns, Loaded, Row, Rows};
use crate::failure::Failure;

pub(super) fn parse(text: impl Read, place: &str, name: &str) -> Result<Loaded, Failure> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text);
    let malformed = |error: csv::Error| Failure::usage(format!("{place}: {error}"));
    let header: Vec<String> = reader
        .headers()
        .map_err(malformed)?
        .iter()
        .map(|name| name.trim_start_matches('\u{feff}').to_owned())
        .collect();
    let columns = Columns::of(&header, place)?;
    let mut rows = Rows::default();
    for record in reader.records() {
        let record = record.map_err(malformed)?;
        let line = record.position().map_or(0, csv::Position::line);
        let refuse = |cause: String| Failure::usage(format!("{place} line {line}: {cause}"));
        let cell = |index: usize| record.get(index).unwrap_or_default();
        let optional = |index: Option<usize>| index.map(cell).filter(|text| !text.is_empty());
        let score = cell(columns.score);
        let score = score.parse().map_err(|_| refuse(format!("the score {score:?} is no number")))?;
        let seed = optional(columns.seed)
            .map(|text| text.parse().map_err(|_| refuse(format!("the seed {text:?} is no whole number from 0"))))
            .transpose()?;
        let row = Row {
            sample: cell(columns.sample),
            label: cell(columns.label),
            score,
            patient: optional(columns.patient),
            seed,
            subgroup: optional(columns.subgroup),
            arm: optional(columns.arm),
            scored: optional(columns.scored),
        };
        rows.add(row, refuse)?;
    }
    rows.finish(place, name, columns.unused)
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
        let of_export = "sample,label,score,arm,scored\na,1,0.5,frozen,val\n";
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
            told(&format!("{of_export}a,1,0.5,finetuned,val\n")),
            told(&format!("{of_export}a,1,0.5,frozen,test\nb,1,0.5,frozen,nih\n")),
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
        error: a.csv has several arms: frozen, finetuned
        help: one file is one model's: `ceteris export EXPERIMENT FILE --arm ARM --on test` writes one arm on one part
        error: a.csv has predictions on several parts of the data: val, test, nih
        help: one file is one model's: `ceteris export EXPERIMENT FILE --arm ARM --on test` writes one arm on one part
        "#);
    }
}
