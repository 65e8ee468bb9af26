//! The CSV files of an import: the one that lists the images, and the one that says which split each is in.
//!
//! Files are looked up among those that the folder was found to hold, never by opening a path from the CSV, so a
//! listing cannot reach out of the folder.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::File,
    path::{Path, PathBuf},
};

use ceteris_shared::{dataset::Split, digest::Digest};

use super::{Candidate, Error, MAX_CSV_BYTES, tree::Tree};

/// The images that the CSV at `path` lists, in its order.
///
/// # Errors
/// When the CSV cannot be read or lacks a column, when a row's file is missing, ambiguous or listed twice, or when a
/// row's split or digest is none. Errors name the line.
pub fn candidates(path: &Path, tree: &Tree) -> Result<Vec<Candidate>, Error> {
    let table = Table::read(path)?;
    let (file, class) = (table.column("file")?, table.column("class")?);
    let (split, patient, digest) = (table.find("split"), table.find("patient"), table.find("sha256"));
    let files = Files::of(tree);
    let mut seen = HashSet::new();
    let mut found = Vec::with_capacity(table.rows.len());
    for row in &table.rows {
        let text =
            |column: Option<usize>| column.map(|column| row.cells[column].trim()).filter(|cell| !cell.is_empty());
        let fault = |why: String| table.fault(row, why);
        let class = text(Some(class)).ok_or_else(|| fault("it has no class".to_owned()))?.to_owned();
        let name = text(Some(file)).ok_or_else(|| fault("it has no file".to_owned()))?;
        let split_text = text(split);
        let file = files.resolve(name, split_text, &class).map_err(fault)?;
        if !seen.insert(file) {
            return Err(fault(format!("{file} is listed twice")));
        }
        let split = split_text.map(str::parse::<Split>).transpose().map_err(|error| fault(error.to_string()))?;
        let digest = text(digest).map(str::parse::<Digest>).transpose().map_err(|error| fault(error.to_string()))?;
        let patient = text(patient).map(str::to_owned);
        found.push(Candidate { file: file.to_owned(), class, split, patient, digest });
    }
    Ok(found)
}

/// The split of each of `candidates`, in their order, from the CSV at `path`. Its `file` is a path below the imported
/// folder, or the end of exactly one.
///
/// # Errors
/// When the CSV cannot be read or lacks a column, names a file that is not imported or names one twice, or when an
/// image is not in it.
pub fn splits(path: &Path, candidates: &[Candidate]) -> Result<Vec<Split>, Error> {
    let table = Table::read(path)?;
    let (file, split) = (table.column("file")?, table.column("split")?);
    let files = Files::new(candidates.iter().map(|candidate| candidate.file.as_str()));
    let mut listed: BTreeMap<&str, Split> = BTreeMap::new();
    for row in &table.rows {
        let fault = |why: String| table.fault(row, why);
        let file = files.ending_in(row.cells[file].trim()).map_err(fault)?;
        let split = row.cells[split].trim().parse().map_err(|error| fault(format!("{error}")))?;
        if listed.insert(file, split).is_some() {
            return Err(fault(format!("{file} is listed twice")));
        }
    }
    let mut missing = candidates.iter().filter(|candidate| !listed.contains_key(candidate.file.as_str()));
    if let Some(first) = missing.next() {
        let why = format!(
            "{} of {} images are not in it, {} first; list every image, or import a part of the folder with --csv",
            1 + missing.count(),
            candidates.len(),
            first.file
        );
        return Err(Error::Csv { path: path.to_owned(), why });
    }
    Ok(candidates.iter().map(|candidate| listed[candidate.file.as_str()]).collect())
}

/// What the CSV at `path` says of images besides what an import reads: by column, of each of `images` in their order. Rows of other
/// images are left out, and so are columns that have no value.
///
/// # Errors
/// When the CSV cannot be read or has no column `file`, or a row's file may be several images or was there before.
pub fn attributes(path: &Path, images: &[&str]) -> Result<BTreeMap<String, Vec<Option<String>>>, Error> {
    const NOT_ATTRIBUTES: [&str; 6] = ["file", "class", "split", "patient", "sha256", "bytes"];
    let table = Table::read(path)?;
    let file = table.column("file")?;
    let (class, split) = (table.find("class"), table.find("split"));
    let files = Files::new(images.iter().copied());
    let places: HashMap<&str, usize> = images.iter().enumerate().map(|(place, image)| (*image, place)).collect();
    let columns: Vec<(usize, &str)> =
        table.headers.iter().enumerate().filter(|(_, name)| !NOT_ATTRIBUTES.contains(name)).collect();
    let mut found: Vec<Vec<Option<String>>> = vec![vec![None; images.len()]; columns.len()];
    let mut seen = HashSet::new();
    for row in &table.rows {
        let text = |column: Option<usize>| column.map(|column| row.cells[column].trim()).unwrap_or_default();
        let split = Some(text(split)).filter(|split| !split.is_empty());
        let name = text(Some(file));
        let Ok(image) = files.resolve(name, split, text(class)) else {
            if files.is_ambiguous(name) {
                return Err(table
                    .fault(row, format!("{name:?} may be several images; write its path below the folder in full")));
            }
            continue;
        };
        if !seen.insert(image) {
            return Err(table.fault(row, format!("{image} is listed twice")));
        }
        for ((column, _), values) in columns.iter().zip(&mut found) {
            let value = row.cells[*column].trim();
            values[places[image]] = (!value.is_empty()).then(|| value.to_owned());
        }
    }
    let named = columns.into_iter().map(|(_, name)| name.to_owned()).zip(found);
    Ok(named.filter(|(_, values)| values.iter().any(Option::is_some)).collect())
}

/// A CSV file with a header, in memory.
struct Table {
    path: PathBuf,
    headers: csv::StringRecord,
    rows: Vec<Row>,
}

struct Row {
    line: u64,
    cells: csv::StringRecord,
}

impl Table {
    fn read(path: &Path) -> Result<Self, Error> {
        let broken = |source| Error::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(broken)?;
        let bytes = file.metadata().map_err(broken)?.len();
        let refuse = |why: String| Error::Csv { path: path.to_owned(), why };
        if bytes > MAX_CSV_BYTES {
            return Err(refuse(format!("{bytes} bytes are more than the {MAX_CSV_BYTES} that are read")));
        }
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::Headers).from_reader(file);
        let mut headers = reader.headers().map_err(|error| refuse(error.to_string()))?.clone();
        if let Some(first) = headers.get(0).and_then(|first| first.strip_prefix('\u{feff}')) {
            headers = std::iter::once(first).chain(headers.iter().skip(1)).collect();
        }
        let rows = reader
            .into_records()
            .map(|record| {
                let cells = record.map_err(|error| refuse(error.to_string()))?;
                Ok(Row { line: cells.position().map_or(0, csv::Position::line), cells })
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self { path: path.to_owned(), headers, rows })
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.headers.iter().position(|header| header == name)
    }

    fn column(&self, name: &str) -> Result<usize, Error> {
        self.find(name).ok_or_else(|| Error::Csv {
            path: self.path.clone(),
            why: format!("it has no column {name:?}; its columns are {:?}", self.headers.iter().collect::<Vec<_>>()),
        })
    }

    fn fault(&self, row: &Row, why: String) -> Error {
        Error::CsvLine { path: self.path.clone(), line: row.line, why }
    }
}

/// Files by path and by name.
struct Files<'tree> {
    paths: HashSet<&'tree str>,
    by_name: HashMap<&'tree str, Vec<&'tree str>>,
}

impl<'tree> Files<'tree> {
    fn of(tree: &'tree Tree) -> Self {
        Self::new(tree.files.iter().map(String::as_str))
    }

    fn new(paths: impl Iterator<Item = &'tree str>) -> Self {
        let paths: HashSet<&str> = paths.collect();
        let mut by_name: HashMap<&str, Vec<&str>> = HashMap::new();
        for path in &paths {
            by_name.entry(name_of(path)).or_default().push(path);
        }
        Self { paths, by_name }
    }

    /// The file that a row means: `file`, `split/class/file`, `class/file`, or the one whose path ends in `file`.
    fn resolve(&self, file: &str, split: Option<&str>, class: &str) -> Result<&'tree str, String> {
        let in_split = split.map(|split| format!("{split}/{class}/{file}"));
        let in_class = format!("{class}/{file}");
        let tried = [Some(file), in_split.as_deref(), Some(in_class.as_str())];
        match tried.into_iter().flatten().find_map(|path| self.paths.get(path)) {
            Some(path) => Ok(path),
            None => self.ending_in(file),
        }
    }

    /// Whether several paths end in `/file`.
    fn is_ambiguous(&self, file: &str) -> bool {
        let end = format!("/{file}");
        self.by_name
            .get(name_of(file))
            .is_some_and(|paths| paths.iter().filter(|path| path.ends_with(&end)).count() > 1)
    }

    /// The file whose path is `file`, or the one whose path ends in `/file`.
    fn ending_in(&self, file: &str) -> Result<&'tree str, String> {
        if let Some(path) = self.paths.get(file) {
            return Ok(path);
        }
        let end = format!("/{file}");
        let named = self.by_name.get(name_of(file)).map_or(&[][..], Vec::as_slice);
        let mut matching: Vec<&str> = named.iter().copied().filter(|path| path.ends_with(&end)).collect();
        matching.sort_unstable();
        match matching.as_slice() {
            [] => Err(format!("there is no image {file:?}")),
            [path] => Ok(path),
            [first, second, ..] => {
                Err(format!("{file:?} may be {first} or {second}; write its path below the folder in full"))
            }
        }
    }
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let files = ["A/only.png", "k/train/A/x.png", "k/test/A/y.png", "k/train/B/y.png", "train/A/z.png", "z.png"];
        Tree { files: files.map(str::to_owned).to_vec(), ..Tree::default() }
    }

    fn write(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn attributes_are_of_the_images_that_there_are() {
        let images = ["train/A/x.png", "test/A/y.png", "test/B/y.png", "z.png"];
        let file = write(
            "file,class,split,sex,note\nx.png,A,train,F,\ny.png,B,test,M,\nother.png,A,train,F,\nz.png,A,,,\ntest/A/y.png,A,,F,\n",
        );
        let found = attributes(file.path(), &images).expect("a listing");
        let sex = [Some("F"), Some("F"), Some("M"), None].map(|value| value.map(str::to_owned)).to_vec();
        assert_eq!(found, BTreeMap::from([("sex".to_owned(), sex)]), "what is empty is no attribute");
        let told = |text: &str| attributes(write(text).path(), &images).map_err(|error| error.to_string());
        assert!(told("file,sex\ny.png,F\n").unwrap_err().contains("may be several images"));
        assert!(told("file,sex\nz.png,F\nz.png,F\n").unwrap_err().contains("listed twice"));
        assert!(told("name,sex\nz.png,F\n").unwrap_err().contains("no column \"file\""));
    }

    fn listed(text: &str) -> Result<Vec<Candidate>, String> {
        let file = write(text);
        candidates(file.path(), &tree()).map_err(|error| match error {
            Error::CsvLine { line, why, .. } => format!("{line}: {why}"),
            Error::Csv { why, .. } => why,
            other => other.to_string(),
        })
    }

    #[test]
    fn rows_are_resolved_in_the_documented_order() {
        let found = listed(
            "\u{feff}split, class,file,patient,extra\nval,A,x.png,p1,1\ntrain,A,z.png,,2\ntest,B,k/test/A/y.png,p2,3\n\
             test,B,B/y.png,p2,4\n,A,only.png,p3,5\n",
        )
        .unwrap();
        let rows: Vec<_> = found.iter().map(|c| (c.file.as_str(), c.split, c.patient.as_deref())).collect();
        assert_eq!(
            rows,
            [
                ("k/train/A/x.png", Some(Split::Val), Some("p1")),
                ("z.png", Some(Split::Train), None),
                ("k/test/A/y.png", Some(Split::Test), Some("p2")),
                ("k/train/B/y.png", Some(Split::Test), Some("p2")),
                ("A/only.png", None, Some("p3")),
            ]
        );
    }

    #[test]
    fn mistakes_name_their_line() {
        let cases = [
            ("split,file\n", r#"it has no column "class"; its columns are ["split", "file"]"#),
            ("class,file\nA,nothing.png\n", "2: there is no image \"nothing.png\""),
            ("class,file\nA,../z.png\n", "2: there is no image \"../z.png\""),
            (
                "class,file\nA,x.png\nC,y.png\n",
                "3: \"y.png\" may be k/test/A/y.png or k/train/B/y.png; write its path below the folder in full",
            ),
            ("class,file\nA,x.png\nA,x.png\n", "3: k/train/A/x.png is listed twice"),
            ("class,file,split\nA,x.png,valid\n", "2: \"valid\" is not a split; splits are train, val and test"),
            ("class,file\n,x.png\n", "2: it has no class"),
            ("class,file,sha256\nA,x.png,12\n", "2: a digest is 64 hexadecimal digits, not \"12\""),
        ];
        for (text, expected) in cases {
            assert_eq!(listed(text).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn a_split_file_lists_every_image_once() {
        let images = listed("class,file\nA,x.png\nB,B/y.png\n").unwrap();
        let split = |text: &str| {
            let file = write(text);
            splits(file.path(), &images).map_err(|error| error.to_string().split_once(": ").unwrap().1.to_owned())
        };
        assert_eq!(split("file,split\ny.png,val\nk/train/A/x.png,test\n"), Ok(vec![Split::Test, Split::Val]));
        let missing = split("file,split\nx.png,val\n").unwrap_err();
        assert!(missing.starts_with("1 of 2 images are not in it, k/train/B/y.png first"), "{missing}");
        assert_eq!(split("file,split\nq.png,val\n"), Err("there is no image \"q.png\"".to_owned()));
    }
}
