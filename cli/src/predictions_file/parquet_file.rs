//! Predictions from Parquet. Columns are read in step, some rows at a time, so that besides the predictions only a page of each
//! column is in memory. A null is what an empty cell is in CSV.

use std::{
    borrow::Cow,
    panic::{AssertUnwindSafe, catch_unwind},
};

use parquet::{
    basic::{CompressionCodec, LogicalType, Type as Physical},
    column::reader::{ColumnReader, ColumnReaderImpl},
    data_type::{ByteArray, DataType},
    errors::ParquetError,
    file::{
        metadata::{ColumnChunkMetaData, ParquetMetaData},
        reader::{ChunkReader, FileReader, RowGroupReader, SerializedFileReader},
    },
    schema::types::{ColumnDescriptor, SchemaDescriptor},
};

use super::{Columns, Loaded, MAX_BYTES, MAX_ROWS, Row, Rows};
use crate::failure::Failure;

/// Rows that are read at a time.
const BATCH: usize = 4096;

pub(super) fn parse(file: impl ChunkReader + 'static, place: &str, name: &str) -> Result<Loaded, Failure> {
    // The crate asserts some of what a damaged page breaks, and nobody can see that before a page is decoded.
    let read = AssertUnwindSafe(|| read(file, place, name));
    catch_unwind(read).unwrap_or_else(|_| Err(damaged(place, "a page cannot be decoded")))
}

fn damaged(place: &str, cause: &str) -> Failure {
    Failure::usage(format!("{place}: {cause}")).help("the file is damaged: write it again")
}

fn read(file: impl ChunkReader + 'static, place: &str, name: &str) -> Result<Loaded, Failure> {
    let malformed = |error: ParquetError| Failure::usage(format!("{place}: {error}"));
    let not_parquet = "a file is read as Parquet if its name ends in .parquet, and as CSV if not";
    let reader = SerializedFileReader::new(file).map_err(|error| malformed(error).help(not_parquet))?;
    let schema = reader.metadata().file_metadata().schema_descr();
    let header: Vec<String> = schema.root_schema().get_fields().iter().map(|field| field.name().to_owned()).collect();
    let columns = Columns::of(&header, place)?;
    let fields = fields(schema, &columns, place)?;
    check(reader.metadata(), &fields, place)?;
    let (mut rows, mut number, mut bytes) = (Rows::default(), 0_u64, 0_u64);
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(malformed)?;
        let mut table = Table::open(&*group, &fields).map_err(malformed)?;
        let mut left = usize::try_from(group.metadata().num_rows()).unwrap_or_default();
        while left > 0 {
            let batch = left.min(BATCH);
            table.read(batch).map_err(malformed)?;
            for index in 0..batch {
                number += 1;
                let refuse = |cause: String| Failure::usage(format!("{place} row {number}: {cause}"));
                bytes += table.add(index, &mut rows, refuse)?;
                if bytes > MAX_BYTES {
                    return Err(refuse(format!("the names and labels up to here take more than {MAX_BYTES} bytes"))
                        .help("give samples shorter names, or leave out seeds"));
                }
            }
            left -= batch;
        }
    }
    rows.finish(place, name, columns.unused)
}

/// What a column is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Names and labels: text or integers.
    Text,
    /// Scores: floating-point numbers or integers.
    Number,
    /// Seeds: integers.
    Whole,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Signed,
    Unsigned,
    Float,
}

/// A column that is read.
#[derive(Clone, Copy, Debug)]
struct Field {
    /// Its place among the columns that hold values.
    leaf: usize,
    kind: Kind,
}

/// In the order of [`Table`].
type Fields = [Option<Field>; 8];

fn fields(schema: &SchemaDescriptor, columns: &Columns, place: &str) -> Result<Fields, Failure> {
    let field = |root: usize, used: Use| {
        let leaf = (0..schema.num_columns()).find(|leaf| schema.get_column_root_idx(*leaf) == root);
        let column = leaf.map(|leaf| schema.column(leaf));
        let kind = column.as_ref().and_then(|column| kind(column));
        let (needed, fits) = match used {
            Use::Text => ("text or integers", matches!(kind, Some(Kind::Text | Kind::Signed | Kind::Unsigned))),
            Use::Number => ("numbers", matches!(kind, Some(Kind::Float | Kind::Signed | Kind::Unsigned))),
            Use::Whole => ("integers", matches!(kind, Some(Kind::Signed | Kind::Unsigned))),
        };
        match (leaf, kind) {
            (Some(leaf), Some(kind)) if fits => Ok(Field { leaf, kind }),
            _ => {
                let name = schema.root_schema().get_fields()[root].name();
                let of = column.map_or_else(|| "nothing".to_owned(), |column| type_name(&column));
                Err(Failure::usage(format!("{place}: the column {name:?} is of {of}, and {needed} are needed"))
                    .help("write the file again with another type for this column, or as CSV"))
            }
        }
    };
    let optional = |root: Option<usize>, used| root.map(|root| field(root, used)).transpose();
    Ok([
        Some(field(columns.sample, Use::Text)?),
        Some(field(columns.label, Use::Text)?),
        Some(field(columns.score, Use::Number)?),
        optional(columns.patient, Use::Text)?,
        optional(columns.seed, Use::Whole)?,
        optional(columns.subgroup, Use::Text)?,
        optional(columns.arm, Use::Text)?,
        optional(columns.scored, Use::Text)?,
    ])
}

/// None where it is nested, or not what predictions are written as.
fn kind(column: &ColumnDescriptor) -> Option<Kind> {
    use parquet::basic::ConvertedType as Converted;
    if is_nested(column) {
        return None;
    }
    let (logical, converted) = (column.logical_type_ref(), column.converted_type());
    match column.physical_type() {
        Physical::FLOAT | Physical::DOUBLE => Some(Kind::Float),
        Physical::BYTE_ARRAY => match (logical, converted) {
            (Some(LogicalType::String | LogicalType::Enum | LogicalType::Json), _) => Some(Kind::Text),
            (None, Converted::NONE | Converted::UTF8 | Converted::ENUM | Converted::JSON) => Some(Kind::Text),
            _ => None,
        },
        Physical::INT32 | Physical::INT64 => match (logical, converted) {
            (Some(LogicalType::Integer(integer)), _) if integer.is_signed => Some(Kind::Signed),
            (Some(LogicalType::Integer(_)), _) => Some(Kind::Unsigned),
            (None, Converted::NONE) => Some(Kind::Signed),
            (None, Converted::INT_8 | Converted::INT_16 | Converted::INT_32 | Converted::INT_64) => Some(Kind::Signed),
            (None, Converted::UINT_8 | Converted::UINT_16 | Converted::UINT_32 | Converted::UINT_64) => {
                Some(Kind::Unsigned)
            }
            _ => None,
        },
        Physical::BOOLEAN | Physical::INT96 | Physical::FIXED_LEN_BYTE_ARRAY => None,
    }
}

fn is_nested(column: &ColumnDescriptor) -> bool {
    column.path().parts().len() != 1 || column.max_rep_level() > 0
}

/// For people: `the type BYTE_ARRAY (String)`.
fn type_name(column: &ColumnDescriptor) -> String {
    let nested = if is_nested(column) { "a nested type over " } else { "the type " };
    // A logical type's own name is where its debug text begins.
    let logical = column.logical_type_ref().map(|logical| format!("{logical:?}"));
    let logical = logical.as_ref().and_then(|text| text.split(|c: char| !c.is_alphanumeric()).next());
    let logical = logical.map(|name| format!(" ({name})")).unwrap_or_default();
    format!("{nested}{}{logical}", column.physical_type())
}

/// What can be seen before anything is read: that it is whole, not too much, and that it can be unpacked.
fn check(metadata: &ParquetMetaData, fields: &Fields, place: &str) -> Result<(), Failure> {
    let mut rows = 0_usize;
    for group in metadata.row_groups() {
        let is_whole = |chunk: &ColumnChunkMetaData| {
            let begin = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
            begin >= 0 && chunk.compressed_size() >= 0
        };
        let whole = group.columns().len() == group.schema_descr().num_columns() && group.columns().iter().all(is_whole);
        let Some(counted) = usize::try_from(group.num_rows()).ok().filter(|_| whole) else {
            return Err(damaged(place, "a row group is not what the file says that it is"));
        };
        rows = rows.saturating_add(counted);
        for field in fields.iter().flatten() {
            let codec = group.column(field.leaf).compression_codec();
            if !matches!(codec, CompressionCodec::UNCOMPRESSED | CompressionCodec::SNAPPY) {
                return Err(Failure::usage(format!("{place}: its columns are compressed with {codec}")).help(
                    "write it with SNAPPY or without compression, such as with compression=\"snappy\" in pandas and polars",
                ));
            }
        }
    }
    if rows > MAX_ROWS {
        return Err(Failure::usage(format!("{place}: there are {rows} rows, more than {MAX_ROWS}"))
            .help("leave out seeds or samples"));
    }
    Ok(())
}

/// Cells of a column, of the rows that were read last.
enum Cells {
    Text(Vec<Option<ByteArray>>),
    Whole(Vec<Option<i128>>),
    Number(Vec<Option<f64>>),
}

struct Column {
    reader: ColumnReader,
    unsigned: bool,
    cells: Cells,
}

impl Column {
    fn open(group: &dyn RowGroupReader, field: Field) -> Result<Self, ParquetError> {
        let reader = group.get_column_reader(field.leaf)?;
        Ok(Self { reader, unsigned: field.kind == Kind::Unsigned, cells: Cells::Whole(Vec::new()) })
    }

    fn read(&mut self, rows: usize) -> Result<(), ParquetError> {
        let unsigned = self.unsigned;
        self.cells = match &mut self.reader {
            ColumnReader::ByteArrayColumnReader(reader) => Cells::Text(cells(reader, rows, |text| text)?),
            ColumnReader::Int32ColumnReader(reader) => Cells::Whole(cells(reader, rows, |value| {
                if unsigned { i128::from(value.cast_unsigned()) } else { i128::from(value) }
            })?),
            ColumnReader::Int64ColumnReader(reader) => Cells::Whole(cells(reader, rows, |value| {
                if unsigned { i128::from(value.cast_unsigned()) } else { i128::from(value) }
            })?),
            ColumnReader::FloatColumnReader(reader) => Cells::Number(cells(reader, rows, f64::from)?),
            ColumnReader::DoubleColumnReader(reader) => Cells::Number(cells(reader, rows, |value| value)?),
            ColumnReader::BoolColumnReader(_)
            | ColumnReader::Int96ColumnReader(_)
            | ColumnReader::FixedLenByteArrayColumnReader(_) => {
                return Err(ParquetError::General("a row group has other types than the file".to_owned()));
            }
        };
        Ok(())
    }

    /// As CSV has it: without spaces around it.
    fn text(&self, index: usize, what: &str) -> Result<Option<Cow<'_, str>>, String> {
        Ok(match &self.cells {
            Cells::Text(cells) => match &cells[index] {
                Some(bytes) => {
                    let text = std::str::from_utf8(bytes.data()).map_err(|_| format!("the {what} is no UTF-8 text"))?;
                    Some(Cow::Borrowed(text.trim()))
                }
                None => None,
            },
            Cells::Whole(cells) => cells[index].map(|value| Cow::Owned(value.to_string())),
            Cells::Number(cells) => cells[index].map(|value| Cow::Owned(value.to_string())),
        })
    }

    fn number(&self, index: usize) -> Option<f64> {
        match &self.cells {
            Cells::Text(_) => None,
            Cells::Whole(cells) => cells[index].map(|value| value as f64),
            Cells::Number(cells) => cells[index],
        }
    }

    fn whole(&self, index: usize) -> Option<i128> {
        if let Cells::Whole(cells) = &self.cells { cells[index] } else { None }
    }
}

fn text<'a>(column: &'a Option<Column>, index: usize, what: &str) -> Result<Option<Cow<'a, str>>, String> {
    column.as_ref().map_or(Ok(None), |column| column.text(index, what))
}

/// Exactly so many cells; a required column has no levels, and in an optional one level 0 is a null.
fn cells<T: DataType, V>(
    reader: &mut ColumnReaderImpl<T>,
    rows: usize,
    convert: impl Fn(T::T) -> V,
) -> Result<Vec<Option<V>>, ParquetError> {
    let (mut levels, mut values) = (Vec::new(), Vec::with_capacity(rows));
    reader.read_records(rows, Some(&mut levels), None, &mut values)?;
    let mut values = values.into_iter().map(convert);
    let cells: Vec<Option<V>> = if levels.is_empty() {
        values.map(Some).collect()
    } else {
        levels.into_iter().map(|level| if level > 0 { values.next() } else { None }).collect()
    };
    if cells.len() == rows {
        Ok(cells)
    } else {
        Err(ParquetError::EOF("a column has fewer rows than its row group".to_owned()))
    }
}

/// The columns sample, label, score, patient, seed, subgroup, arm and scored, those that are there.
struct Table([Option<Column>; 8]);

impl Table {
    fn open(group: &dyn RowGroupReader, fields: &Fields) -> Result<Self, ParquetError> {
        let mut columns = [const { None }; 8];
        for (column, field) in columns.iter_mut().zip(fields) {
            *column = field.map(|field| Column::open(group, field)).transpose()?;
        }
        Ok(Self(columns))
    }

    fn read(&mut self, rows: usize) -> Result<(), ParquetError> {
        self.0.iter_mut().flatten().try_for_each(|column| column.read(rows))
    }

    /// Adds a row of those that were read last, and says how many bytes its text has.
    fn add(&self, index: usize, rows: &mut Rows, refuse: impl Fn(String) -> Failure) -> Result<u64, Failure> {
        let [sample, label, score, patient, seed, subgroup, arm, scored] = &self.0;
        let text = |column, what| text(column, index, what).map_err(&refuse);
        let null = |what| refuse(format!("the {what} is null"));
        let sample = text(sample, "sample")?.ok_or_else(|| null("sample"))?;
        let label = text(label, "label")?.ok_or_else(|| null("label"))?;
        let score = score.as_ref().and_then(|column| column.number(index)).ok_or_else(|| {
            null("score").help(
                "`ceteris export` writes none where there are more than two classes: call a class's probability score",
            )
        })?;
        let seed = seed.as_ref().and_then(|column| column.whole(index));
        let seed = seed
            .map(|seed| u64::try_from(seed).map_err(|_| refuse(format!("the seed {seed} is no whole number from 0"))))
            .transpose()?;
        let optional =
            [text(patient, "patient")?, text(subgroup, "subgroup")?, text(arm, "arm")?, text(scored, "part")?];
        let [patient, subgroup, arm, scored] =
            optional.each_ref().map(|text| text.as_deref().filter(|text| !text.is_empty()));
        let bytes =
            [Some(&*sample), Some(&*label), patient, subgroup].into_iter().flatten().map(str::len).sum::<usize>();
        let row = Row { sample: &sample, label: &label, score, patient, seed, subgroup, arm, scored };
        rows.add(row, refuse)?;
        Ok(bytes as u64)
    }
}

#[cfg(test)]
mod tests;
