//! Why an import fails, and why one file is left out of it.

use std::path::PathBuf;

use super::{MAX_FILE_BYTES, MAX_PIXELS, MAX_SAMPLES, splits, tree};

/// The folder cannot become a data set.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} holds more than {} files; import a smaller folder", .0.display(), tree::MAX_ENTRIES)]
    TooManyFiles(PathBuf),
    #[error("{0} images are too many: one data set holds at most {MAX_SAMPLES}")]
    TooManySamples(usize),
    #[error("image size {0} is not between 1 and 4096 pixels")]
    ImageSize(u32),
    #[error(
        "the folder has {split}/ and beside it {other}/, which is no split; the layout is train|val|test/CLASS/*: \
         rename or move {other}/, or list the images in a CSV (--csv)"
    )]
    MixedLayout { split: String, other: String },
    #[error("class {class:?} has no file that can be read in {place}; put its images there, or remove the folder")]
    EmptyFolder { class: String, place: String },
    #[error(
        "there is no image to import ({refused} refused); the layout is train|val|test/CLASS/* or CLASS/*, \
         or a CSV that lists the images (--csv)"
    )]
    NoImages { refused: usize },
    #[error("there is only one class, {0:?}; images of at least two classes are needed")]
    OneClass(String),
    #[error("class {class:?} has no image that can be read; {refused} refused in all, first {first}")]
    EmptyClass { class: String, refused: usize, first: String },
    #[error("class {0:?} has no image in train, so it cannot be learned; change the split")]
    NotInTraining(String),
    #[error("{}: {why}", path.display())]
    Csv { path: PathBuf, why: String },
    #[error("{} line {line}: {why}", path.display())]
    CsvLine { path: PathBuf, line: u64, why: String },
    #[error(
        "nothing says which split {0} belongs to; ask for a split by patient with --split 0.7,0.1,0.2 (--split 0,0,1 \
         makes a set for testing only), or name a split file"
    )]
    NoSplit(String),
    #[error(
        "no patient is known of {count} image(s), {first} first; give a --patient-pattern that matches every file, or a CSV \
         with a column patient"
    )]
    NoPatient { count: usize, first: String },
    #[error("the patient pattern is refused: {0}")]
    Pattern(String),
    #[error(transparent)]
    Split(#[from] splits::Error),
    #[error("cannot write {}: {source}; free some space, or choose another scratch folder", path.display())]
    Scratch { path: PathBuf, source: std::io::Error },
}

/// A file that is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The path below the imported folder.
    pub file: String,
    /// Why.
    pub reason: Refusal,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.file, self.reason)
    }
}

/// Why a file is left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Refusal {
    #[error("its name is not valid UTF-8")]
    NameNotUtf8,
    #[error("it is a link that leads out of the folder or nowhere")]
    LeadsOut,
    #[error("it is a link to a folder, which is not followed")]
    LinkedFolder,
    #[error("it is neither a file nor a folder")]
    NotAFile,
    #[error("it lies deeper than {} folders", tree::MAX_DEPTH)]
    TooDeep,
    #[error("it lies in a split but in no class folder")]
    OutsideClasses,
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    #[error("it is larger than {} MB", MAX_FILE_BYTES >> 20)]
    TooLarge,
    #[error("it is not the file that the CSV lists: its SHA-256 differs")]
    WrongDigest,
    #[error("it is empty")]
    Empty,
    #[error("it is DICOM, which is not read; convert it to 8- or 16-bit PNG")]
    Dicom,
    #[error("it is not an image that is read (JPEG, PNG, BMP, TIFF, WebP)")]
    NotAnImage,
    #[error("its header says {width}×{height} pixels; at least one pixel is needed")]
    NoPixels { width: u32, height: u32 },
    #[error(
        "its header says {width}×{height} pixels; at most {} megapixels and {} pixels a side are read",
        MAX_PIXELS / 1_000_000, super::decode::MAX_SIDE
    )]
    TooManyPixels { width: u32, height: u32 },
    #[error("its pixels are {0}, which is not read; convert it to 8- or 16-bit integers")]
    PixelType(String),
    #[error("it is damaged: {0}")]
    Damaged(String),
}
