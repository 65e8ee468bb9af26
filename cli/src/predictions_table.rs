//! Predictions as a table for other tools: one row for each sample of each run, as CSV or as Parquet.

use std::{io::Write, sync::Arc};

use ceteris_shared::{
    dataset::Manifest,
    ids::{Epoch, ExperimentId, RunId},
    predictions::Predictions,
};
use parquet::{
    basic::{Compression, LogicalType, Repetition, Type as Physical},
    data_type::{ByteArray, ByteArrayType, DoubleType, FloatType, Int32Type, Int64Type},
    errors::ParquetError,
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::types::Type,
};

/// The predictions of one run on one part of the data.
#[derive(Clone, Debug)]
pub struct Part<'a> {
    /// Which experiment.
    pub experiment: ExperimentId,
    /// Which run.
    pub run: RunId,
    /// Its arm.
    pub arm: &'a str,
    /// Its seed.
    pub seed: u64,
    /// After which epoch.
    pub epoch: Epoch,
    /// `val`, `test` or the name of an external data set.
    pub scored: &'a str,
    /// Of the data set, whose samples the predictions are of.
    pub manifest: &'a Manifest,
    /// The probabilities.
    pub predictions: &'a Predictions,
}

/// One sample in a part.
struct Row<'a> {
    sample: &'a str,
    patient: Option<&'a str>,
    label: &'a str,
    probabilities: &'a [f32],
}

impl<'a> Part<'a> {
    /// # Errors
    /// When the predictions are not of the manifest's samples and classes.
    fn rows(&self) -> Result<Vec<Row<'a>>, String> {
        let (manifest, predictions) = (self.manifest, self.predictions);
        if predictions.classes != manifest.classes.len() {
            return Err(format!("the predictions of run {} have other classes than the data set", self.run.short()));
        }
        let probabilities = predictions.probabilities.chunks_exact(predictions.classes);
        let row = |(&index, probabilities): (&u32, &'a [f32])| {
            let sample = manifest.samples.get(index as usize)?;
            let label = manifest.classes.get(sample.class as usize)?;
            Some(Row { sample: &sample.file, patient: sample.patient.as_deref(), label, probabilities })
        };
        let rows: Option<Vec<Row<'a>>> = predictions.samples.iter().zip(probabilities).map(row).collect();
        rows.ok_or_else(|| {
            format!("the predictions of run {} are of samples that the data set lacks", self.run.short())
        })
    }
}

/// Columns before the probabilities of the classes. `score` is the positive class's probability, where there are two.
const COLUMNS: [&str; 10] =
    ["sample", "patient", "label", "score", "seed", "arm", "run", "experiment", "epoch", "scored"];

fn of_class(class: &str) -> String {
    format!("probability {class}")
}

/// The positive class's probability.
fn score(row: &Row<'_>) -> Option<f64> {
    if let [_, positive] = row.probabilities { Some(f64::from(*positive)) } else { None }
}

/// A file that parts are added to; all of them have the same classes.
pub enum Writer<W: Write + Send> {
    /// Comma-separated values.
    Csv(Box<csv::Writer<W>>),
    /// Apache Parquet, a row group for each part.
    Parquet(Box<SerializedFileWriter<W>>),
}

impl<W: Write + Send> Writer<W> {
    /// A CSV file.
    ///
    /// # Errors
    /// When the header cannot be written.
    pub fn csv(to: W, classes: &[String]) -> Result<Self, String> {
        let mut writer = csv::Writer::from_writer(to);
        let header = COLUMNS.map(str::to_owned).into_iter().chain(classes.iter().map(|class| of_class(class)));
        writer.write_record(header).map_err(|error| error.to_string())?;
        Ok(Self::Csv(Box::new(writer)))
    }

    /// A Parquet file.
    ///
    /// # Errors
    /// When the header cannot be written.
    pub fn parquet(to: W, classes: &[String]) -> Result<Self, String> {
        let make = || -> Result<Self, ParquetError> {
            let text = Some(LogicalType::String);
            let (needed, optional) = (Repetition::REQUIRED, Repetition::OPTIONAL);
            let leaf = |name: &str, physical, logical: Option<LogicalType>, repetition| {
                let built = Type::primitive_type_builder(name, physical).with_logical_type(logical);
                built.with_repetition(repetition).build().map(Arc::new)
            };
            let mut fields = vec![
                leaf("sample", Physical::BYTE_ARRAY, text.clone(), needed)?,
                leaf("patient", Physical::BYTE_ARRAY, text.clone(), optional)?,
                leaf("label", Physical::BYTE_ARRAY, text.clone(), needed)?,
                leaf("score", Physical::DOUBLE, None, optional)?,
                leaf("seed", Physical::INT64, None, needed)?,
                leaf("arm", Physical::BYTE_ARRAY, text.clone(), needed)?,
                leaf("run", Physical::BYTE_ARRAY, text.clone(), needed)?,
                leaf("experiment", Physical::BYTE_ARRAY, text.clone(), needed)?,
                leaf("epoch", Physical::INT32, None, needed)?,
                leaf("scored", Physical::BYTE_ARRAY, text, needed)?,
            ];
            for class in classes {
                fields.push(leaf(&of_class(class), Physical::FLOAT, None, needed)?);
            }
            let schema = Arc::new(Type::group_type_builder("predictions").with_fields(fields).build()?);
            let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
            Ok(Self::Parquet(Box::new(SerializedFileWriter::new(to, schema, Arc::new(properties))?)))
        };
        make().map_err(|error| error.to_string())
    }

    /// Adds the predictions of a run.
    ///
    /// # Errors
    /// When they are not of the data set, a seed is beyond what the format holds, or the disk refuses.
    pub fn add(&mut self, part: &Part<'_>) -> Result<(), String> {
        let rows = part.rows()?;
        match self {
            Self::Csv(writer) => write_csv(writer, part, &rows).map_err(|error| error.to_string()),
            Self::Parquet(writer) => {
                let seed = i64::try_from(part.seed)
                    .map_err(|_| format!("Parquet holds no seed as large as {}; export CSV", part.seed))?;
                write_parquet(writer, part, seed, &rows).map_err(|error| error.to_string())
            }
        }
    }

    /// Ends the file.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn finish(self) -> Result<(), String> {
        match self {
            Self::Csv(mut writer) => writer.flush().map_err(|error| error.to_string()),
            Self::Parquet(writer) => {
                writer.into_inner().and_then(|mut to| Ok(to.flush()?)).map_err(|error| error.to_string())
            }
        }
    }
}

fn write_csv<W: Write>(writer: &mut csv::Writer<W>, part: &Part<'_>, rows: &[Row<'_>]) -> Result<(), csv::Error> {
    let (seed, epoch) = (part.seed.to_string(), part.epoch.to_string());
    let (run, experiment) = (part.run.to_string(), part.experiment.to_string());
    for row in rows {
        let score = score(row).map(|score| score.to_string()).unwrap_or_default();
        let fixed = [
            row.sample,
            row.patient.unwrap_or_default(),
            row.label,
            &score,
            &seed,
            part.arm,
            &run,
            &experiment,
            &epoch,
            part.scored,
        ];
        let probabilities = row.probabilities.iter().map(|p| f64::from(*p).to_string());
        writer.write_record(fixed.map(str::to_owned).into_iter().chain(probabilities))?;
    }
    Ok(())
}

fn write_parquet<W: Write + Send>(
    writer: &mut SerializedFileWriter<W>,
    part: &Part<'_>,
    seed: i64,
    rows: &[Row<'_>],
) -> Result<(), ParquetError> {
    let text = |text: &str| ByteArray::from(text);
    let same = |value: &str| vec![text(value); rows.len()];
    let present: Vec<i16> = rows.iter().map(|row| i16::from(row.patient.is_some())).collect();
    let scored: Vec<i16> = rows.iter().map(|row| i16::from(score(row).is_some())).collect();
    let epoch = i32::try_from(part.epoch.0).unwrap_or(i32::MAX);
    let mut group = writer.next_row_group()?;
    let mut column = 0;
    while let Some(mut to) = group.next_column()? {
        match column {
            0 => to.typed::<ByteArrayType>().write_batch(
                &rows.iter().map(|row| text(row.sample)).collect::<Vec<_>>(),
                None,
                None,
            )?,
            1 => to.typed::<ByteArrayType>().write_batch(
                &rows.iter().filter_map(|row| row.patient.map(text)).collect::<Vec<_>>(),
                Some(&present),
                None,
            )?,
            2 => to.typed::<ByteArrayType>().write_batch(
                &rows.iter().map(|row| text(row.label)).collect::<Vec<_>>(),
                None,
                None,
            )?,
            3 => to.typed::<DoubleType>().write_batch(
                &rows.iter().filter_map(score).collect::<Vec<_>>(),
                Some(&scored),
                None,
            )?,
            4 => to.typed::<Int64Type>().write_batch(&vec![seed; rows.len()], None, None)?,
            5 => to.typed::<ByteArrayType>().write_batch(&same(part.arm), None, None)?,
            6 => to.typed::<ByteArrayType>().write_batch(&same(&part.run.to_string()), None, None)?,
            7 => to.typed::<ByteArrayType>().write_batch(&same(&part.experiment.to_string()), None, None)?,
            8 => to.typed::<Int32Type>().write_batch(&vec![epoch; rows.len()], None, None)?,
            9 => to.typed::<ByteArrayType>().write_batch(&same(part.scored), None, None)?,
            class => {
                let of = |row: &Row<'_>| row.probabilities[class - COLUMNS.len()];
                to.typed::<FloatType>().write_batch(&rows.iter().map(of).collect::<Vec<f32>>(), None, None)?
            }
        };
        to.close()?;
        column += 1;
    }
    group.close()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use ceteris_shared::{
        dataset::{self, Sample, Shard, Split},
        digest::Digest,
    };
    use parquet::{
        file::reader::{FileReader, SerializedFileReader},
        record::Field,
    };

    use super::*;
    use crate::predictions_file;

    fn manifest(classes: &[&str]) -> Manifest {
        let sample = |index: u32| Sample {
            file: format!("{index}.png"),
            split: Split::Val,
            class: index % 2,
            patient: (index > 0).then(|| format!("p{index}")),
            source: Digest([0; 32]),
            pixels: Digest([0; 32]),
        };
        Manifest {
            schema: dataset::SCHEMA.to_owned(),
            transform: dataset::TRANSFORM.to_owned(),
            image_size: 32,
            classes: classes.iter().map(|class| (*class).to_owned()).collect(),
            samples: (0..3).map(sample).collect(),
            shards: vec![Shard { digest: Digest([0; 32]), samples: 3 }],
        }
    }

    fn part<'a>(manifest: &'a Manifest, predictions: &'a Predictions) -> Part<'a> {
        let id = uuid::Uuid::from_u128(1);
        let (experiment, run, epoch) = (ExperimentId(id), RunId(id), Epoch(4));
        Part { experiment, run, arm: "frozen, \"all\"", seed: 7, epoch, scored: "val", manifest, predictions }
    }

    #[test]
    fn csv_has_a_row_for_each_sample_with_all_digits() {
        let (two, three) = (manifest(&["NORMAL", "PNEUMONIA"]), manifest(&["A", "B", "C"]));
        let of_two = Predictions { samples: vec![0, 2], probabilities: vec![0.7, 0.3, 1.0, 0.0], classes: 2 };
        let of_three = Predictions { samples: vec![1], probabilities: vec![0.5, 0.25, 0.25], classes: 3 };
        let mut told = String::new();
        for (manifest, predictions) in [(&two, &of_two), (&three, &of_three)] {
            let mut bytes = Vec::new();
            let mut writer = Writer::csv(&mut bytes, &manifest.classes).expect("it is written");
            writer.add(&part(manifest, predictions)).expect("it is written");
            writer.finish().expect("it is written");
            told += &String::from_utf8(bytes).expect("UTF-8");
        }
        insta::assert_snapshot!(told, @r#"
        sample,patient,label,score,seed,arm,run,experiment,epoch,scored,probability NORMAL,probability PNEUMONIA
        0.png,,NORMAL,0.30000001192092896,7,"frozen, ""all""",00000000-0000-0000-0000-000000000001,00000000-0000-0000-0000-000000000001,4,val,0.699999988079071,0.30000001192092896
        2.png,p2,NORMAL,0,7,"frozen, ""all""",00000000-0000-0000-0000-000000000001,00000000-0000-0000-0000-000000000001,4,val,1,0
        sample,patient,label,score,seed,arm,run,experiment,epoch,scored,probability A,probability B,probability C
        1.png,p1,B,,7,"frozen, ""all""",00000000-0000-0000-0000-000000000001,00000000-0000-0000-0000-000000000001,4,val,0.5,0.25,0.25
        "#);
    }

    #[test]
    fn parquet_is_read_back_with_its_types() {
        let manifest = manifest(&["NORMAL", "PNEUMONIA"]);
        let predictions = Predictions { samples: vec![0, 2], probabilities: vec![0.7, 0.3, 1.0, 0.0], classes: 2 };
        let mut bytes = Vec::new();
        let mut writer = Writer::parquet(&mut bytes, &manifest.classes).expect("it is written");
        writer.add(&part(&manifest, &predictions)).expect("it is written");
        writer.add(&part(&manifest, &predictions)).expect("it is written");
        writer.finish().expect("it is written");
        let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).expect("it is Parquet");
        assert_eq!((reader.metadata().num_row_groups(), reader.metadata().file_metadata().num_rows()), (2, 4));
        let first = reader.get_row_iter(None).expect("rows").next().expect("one").expect("it is whole");
        let columns: Vec<(String, Field)> = first.into_columns();
        let get = |name: &str| columns.iter().find(|(column, _)| column == name).map(|(_, field)| field.clone());
        let text = |text: &str| Some(Field::Str(text.to_owned()));
        assert_eq!((get("sample"), get("patient"), get("label")), (text("0.png"), Some(Field::Null), text("NORMAL")));
        assert_eq!((get("score"), get("seed")), (Some(Field::Double(f64::from(0.3f32))), Some(Field::Long(7))));
        assert_eq!((get("epoch"), get("probability NORMAL")), (Some(Field::Int(4)), Some(Field::Float(0.7))));
        assert_eq!(columns.len(), COLUMNS.len() + 2);
    }

    #[test]
    fn both_forms_are_read_back_to_the_same_predictions() {
        let manifest = manifest(&["NORMAL", "PNEUMONIA"]);
        let predictions =
            Predictions { samples: vec![0, 2, 1], probabilities: vec![0.7, 0.3, 1.0, 0.0, 0.1, 0.9], classes: 2 };
        let folder = tempfile::tempdir().expect("a folder");
        let [csv, parquet] = ["a.csv", "a.Parquet"].map(|name| folder.path().join(name));
        let create = |path| std::fs::File::create(path).expect("a file");
        let writers =
            [Writer::csv(create(&csv), &manifest.classes), Writer::parquet(create(&parquet), &manifest.classes)];
        for mut writer in writers.map(|writer| writer.expect("it is written")) {
            writer.add(&part(&manifest, &predictions)).expect("it is written");
            writer.add(&Part { seed: 8, ..part(&manifest, &predictions) }).expect("it is written");
            writer.finish().expect("it is written");
        }
        let read = |path| predictions_file::read(path, "a").expect("it is well-formed");
        let (of_csv, of_parquet) = (read(&csv), read(&parquet));
        assert_eq!(of_csv.model.predictions, of_parquet.model.predictions);
        assert_eq!(of_csv.unused, of_parquet.unused);
        assert_eq!(of_csv.unused[..3], ["run", "experiment", "epoch"]);
        let [first, ..] = &of_parquet.model.predictions[..] else { panic!("six rows") };
        assert_eq!(of_parquet.model.predictions.len(), 6);
        assert_eq!((first.sample.as_str(), first.patient.as_deref(), first.seed), ("0.png", None, 7));
        assert_eq!(first.score, f64::from(0.3f32));
    }

    #[test]
    fn several_arms_or_parts_are_no_predictions_of_one_model() {
        let (two, three) = (manifest(&["NORMAL", "PNEUMONIA"]), manifest(&["A", "B", "C"]));
        let of_two = Predictions { samples: vec![0], probabilities: vec![0.7, 0.3], classes: 2 };
        let of_three = Predictions { samples: vec![1], probabilities: vec![0.5, 0.25, 0.25], classes: 3 };
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("all.parquet");
        let told = |manifest: &Manifest, parts: &[Part<'_>]| {
            let file = std::fs::File::create(&path).expect("a file");
            let mut writer = Writer::parquet(file, &manifest.classes).expect("it is written");
            parts.iter().for_each(|part| writer.add(part).expect("it is written"));
            writer.finish().expect("it is written");
            let told = predictions_file::read(&path, "all").expect_err("it is not one model's").to_string();
            told.replace(&folder.path().display().to_string(), "FOLDER")
        };
        let frozen = part(&two, &of_two);
        let told = [
            told(&two, &[frozen.clone(), Part { arm: "finetuned", ..frozen.clone() }]),
            told(&two, &[frozen.clone(), Part { scored: "test", ..frozen.clone() }]),
            told(&three, &[part(&three, &of_three)]),
        ];
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn what_is_not_of_the_data_set_is_refused() {
        let manifest = manifest(&["NORMAL", "PNEUMONIA"]);
        let beyond = Predictions { samples: vec![3], probabilities: vec![0.5, 0.5], classes: 2 };
        let others = Predictions { samples: vec![0], probabilities: vec![0.5, 0.25, 0.25], classes: 3 };
        for predictions in [&beyond, &others] {
            let mut writer = Writer::csv(Vec::new(), &manifest.classes).expect("it is written");
            assert!(writer.add(&part(&manifest, predictions)).is_err(), "{predictions:?}");
        }
        let good = Predictions { samples: vec![0], probabilities: vec![0.5, 0.5], classes: 2 };
        let mut writer = Writer::parquet(Vec::new(), &manifest.classes).expect("it is written");
        let told = writer.add(&Part { seed: u64::MAX, ..part(&manifest, &good) }).expect_err("no such integer");
        assert!(told.contains("18446744073709551615"), "{told}");
    }
}
