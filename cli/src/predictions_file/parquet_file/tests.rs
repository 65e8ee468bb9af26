//! Files that others write are read, and what is no such file is refused by its place.

use std::sync::Arc;

use bytes::Bytes;
use ceteris_shared::compare::Prediction;
use parquet::{
    basic::Compression,
    data_type::{BoolType, ByteArrayType, DoubleType, FloatType, Int32Type, Int64Type},
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};
use proptest::prelude::*;

use super::*;

/// What a test writes into a column: values, and which rows have one.
enum Wrote<'a> {
    Text(&'a [&'a str]),
    Int32(&'a [i32]),
    Int64(&'a [i64]),
    Float(&'a [f32]),
    Double(&'a [f64]),
    Bool(&'a [bool]),
}
use Wrote::{Bool, Double, Float, Int32, Int64, Text};

type Written<'a> = (&'a str, Wrote<'a>, Option<&'a [i16]>);

fn file(columns: &[Written<'_>]) -> Bytes {
    let fields: Vec<&str> = columns.iter().map(|(field, ..)| *field).collect();
    let schema = parse_message_type(&format!("message predictions {{ {} }}", fields.join(" "))).expect("a schema");
    let mut bytes = Vec::new();
    let properties =
        Arc::new(WriterProperties::builder().set_dictionary_enabled(columns.len().is_multiple_of(2)).build());
    let mut writer = SerializedFileWriter::new(&mut bytes, Arc::new(schema), properties).expect("a file");
    let mut group = writer.next_row_group().expect("a row group");
    for (_, values, present) in columns {
        let mut column = group.next_column().expect("a column").expect("one more");
        match values {
            Text(values) => {
                let values: Vec<ByteArray> = values.iter().map(|text| ByteArray::from(*text)).collect();
                column.typed::<ByteArrayType>().write_batch(&values, *present, None)
            }
            Int32(values) => column.typed::<Int32Type>().write_batch(values, *present, None),
            Int64(values) => column.typed::<Int64Type>().write_batch(values, *present, None),
            Float(values) => column.typed::<FloatType>().write_batch(values, *present, None),
            Double(values) => column.typed::<DoubleType>().write_batch(values, *present, None),
            Bool(values) => column.typed::<BoolType>().write_batch(values, *present, None),
        }
        .expect("it is written");
        column.close().expect("it is written");
    }
    group.close().expect("it is written");
    writer.close().expect("it is written");
    Bytes::from(bytes)
}

const SAMPLE: Written<'_> = ("required binary sample (UTF8);", Text(&[" a.png", "b.png"]), None);
const LABEL: Written<'_> = ("required binary label (UTF8);", Text(&["NORMAL", "PNEUMONIA"]), None);
const SCORE: Written<'_> = ("required double score;", Double(&[0.25, 1.0]), None);

fn told(columns: &[Written<'_>]) -> String {
    parse(file(columns), "a.parquet", "a").expect_err("it cannot be meant").to_string()
}

#[test]
fn integers_and_short_floats_are_read_and_nulls_are_left_out() {
    let columns = [
        ("optional float score;", Float(&[0.25, 0.5, 1.0]), Some(&[1, 1, 1][..])),
        ("required int32 label (INTEGER(8,true));", Int32(&[0, 1, -1]), None),
        ("required int64 sample;", Int64(&[10, 11, 12]), None),
        ("optional int32 patient (INTEGER(32,false));", Int32(&[-1, 7]), Some(&[1, 0, 1])),
        ("optional int64 seed;", Int64(&[3, 4]), Some(&[0, 1, 1])),
        ("optional binary subgroup;", Text(&["x", " "]), Some(&[1, 1, 0])),
        ("required int64 site;", Int64(&[1, 1, 1]), None),
    ];
    let read = parse(file(&columns), "a.parquet", "a").expect("it is well-formed");
    assert_eq!((read.model.name.as_str(), &read.unused[..]), ("a", &["site".to_owned()][..]));
    let row = |row: &Prediction| {
        let (patient, subgroup) = (row.patient.as_deref(), row.subgroup.as_deref());
        format!("{} {patient:?} {} {} {} {subgroup:?}", row.sample, row.label, row.score, row.seed)
    };
    let rows: Vec<String> = read.model.predictions.iter().map(row).collect();
    let expected =
        [r#"10 Some("4294967295") 0 0.25 0 Some("x")"#, "11 None 1 0.5 3 None", r#"12 Some("7") -1 1 4 None"#];
    assert_eq!(rows, expected);
}

#[test]
fn what_cannot_be_meant_is_told_with_its_row_or_its_type() {
    let score = |values: &'static [f64]| ("required double score;", Double(values), None);
    let seed = |values: &'static [i64]| ("required int64 seed;", Int64(values), None);
    let text = |field: &'static str, values: &'static [&'static str]| (field, Text(values), None);
    let told = [
        parse(Bytes::from_static(b"sample,label,score\n"), "a.parquet", "a").expect_err("no Parquet").to_string(),
        told(&[SAMPLE, SCORE]),
        told(&[SAMPLE, LABEL, SCORE, ("required int32 label;", Int32(&[0, 1]), None)]),
        told(&[SAMPLE, LABEL, text("required binary score (UTF8);", &["0.5", "0.5"])]),
        told(&[SAMPLE, LABEL, SCORE, ("required double seed;", Double(&[0.0, 1.0]), None)]),
        told(&[SAMPLE, ("required boolean label;", Bool(&[true, false]), None), SCORE]),
        told(&[SAMPLE, ("required int32 label (DATE);", Int32(&[1, 2]), None), SCORE]),
        told(&[("required group sample { required binary name (UTF8); }", Text(&["a", "b"]), None), LABEL, SCORE]),
        told(&[SAMPLE, ("optional binary label (UTF8);", Text(&["NORMAL"]), Some(&[1, 0])), SCORE]),
        told(&[SAMPLE, LABEL, ("optional double score;", Double(&[0.5]), Some(&[0, 1]))]),
        told(&[SAMPLE, text("required binary label (UTF8);", &["NORMAL", " "]), SCORE]),
        told(&[SAMPLE, LABEL, score(&[0.5, 1.5])]),
        told(&[SAMPLE, LABEL, score(&[f64::NAN, 0.5])]),
        told(&[SAMPLE, LABEL, SCORE, seed(&[0, -1])]),
        told(&[SAMPLE, LABEL, SCORE, text("required binary arm (UTF8);", &["frozen", "finetuned"])]),
        told(&[SAMPLE, LABEL, SCORE, text("required binary scored (UTF8);", &["val", "test"])]),
    ];
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_compression_that_is_not_built_in_is_named() {
    let reader = SerializedFileReader::new(file(&[SAMPLE, LABEL, SCORE])).expect("it is Parquet");
    let metadata = reader.metadata();
    let group = metadata.row_group(0).clone();
    let compressed = |column: &ColumnChunkMetaData| {
        column.clone().into_builder().set_compression(Compression::ZSTD(Default::default())).build()
    };
    let columns = group.columns().iter().map(compressed).collect::<Result<Vec<_>, _>>().expect("column chunks");
    let group = group.into_builder().set_column_metadata(columns).build().expect("a row group");
    let compressed = ParquetMetaData::new(metadata.file_metadata().clone(), vec![group]);
    let fields = [Some(Field { leaf: 0, kind: Kind::Text }), None, None, None, None, None, None, None];
    assert_eq!(check(metadata, &fields, "a.parquet"), Ok(()));
    insta::assert_snapshot!(check(&compressed, &fields, "a.parquet").expect_err("not built in"));
}

#[test]
fn more_rows_than_a_batch_are_read_in_order() {
    let count = 2 * BATCH + 7;
    let names: Vec<String> = (0..count).map(|row| format!("{row}.png")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let labels: Vec<i32> = (0..count as i32).map(|row| row % 2).collect();
    let scores: Vec<f64> = (0..count).map(|row| row as f64 / count as f64).collect();
    let present: Vec<i16> = (0..count).map(|row| i16::from(row % 3 == 0)).collect();
    let patients = names.iter().zip(&present).filter(|(_, present)| **present == 1).map(|(name, _)| *name);
    let patients: Vec<&str> = patients.collect();
    let columns = [
        ("required binary sample (UTF8);", Text(&names), None),
        ("required int32 label;", Int32(&labels), None),
        ("required double score;", Double(&scores), None),
        ("optional binary patient (UTF8);", Text(&patients), Some(&present[..])),
    ];
    let read = parse(file(&columns), "a.parquet", "a").expect("it is well-formed");
    assert_eq!(read.model.predictions.len(), count);
    for (row, prediction) in read.model.predictions.iter().enumerate() {
        assert_eq!((prediction.sample.as_str(), prediction.score), (names[row], scores[row]));
        assert_eq!(prediction.patient.as_deref(), (row % 3 == 0).then_some(names[row]));
    }
}

proptest! {
    #[test]
    fn damage_is_an_error_or_not_seen(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let patient = ("optional binary patient (UTF8);", Text(&["p"]), Some(&[1, 0][..]));
        let mut bytes = file(&[SAMPLE, LABEL, SCORE, patient]).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = parse(Bytes::from(bytes), "a.parquet", "a");
    }
}
