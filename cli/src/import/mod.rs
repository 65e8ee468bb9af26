//! Importing a folder of images: from files on disk to a packed data set in a temporary folder.
//!
//! The steps are `tree` (what files there are), `layout` or `listing` (which split and class each belongs to),
//! `patients`, `splits`, and `pack` (decode, resize, write shards). All but the first and the last are pure functions.
//! A file that cannot be used is refused by name and reason and the import goes on; a folder that cannot become a data
//! set is an error. Nothing is uploaded here.
//!
//! Importing the same bytes twice gives the same manifest: files are taken in the order of (split, class, name), the
//! pixels are made with integer arithmetic only, and splits are drawn from a seed.

mod decode;
mod error;
mod huffman;
mod jpeg;
mod layout;
mod listing;
mod pack;
mod patients;
mod peek;
mod splits;
pub mod summary;
mod tree;

use std::path::PathBuf;

use ceteris_shared::dataset::{Manifest, Split};
use tempfile::TempDir;

pub use decode::{MAX_PIXELS, Picture, decode};
pub use error::{Error, Refusal, Refused};
pub use listing::attributes;
pub use patients::{Patients, Pattern};
pub use peek::{Peeked, in_turn, peek};
pub use splits::{Fractions, assign};

/// The largest image file that is read.
pub const MAX_FILE_BYTES: u64 = 256 << 20;
/// The most images in one data set.
pub const MAX_SAMPLES: usize = 1_000_000;
/// The largest CSV file that is read.
pub const MAX_CSV_BYTES: u64 = 256 << 20;

/// What to import and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Holds `train|val|test/CLASS/*` or `CLASS/*`; with [`Self::csv`], any tree of images.
    pub folder: PathBuf,
    /// Lists the images, instead of the folder's layout: columns `file` and `class`, and where known `split`,
    /// `patient` and `sha256` (of the file, which is then verified); others are ignored. `file` is a path below the
    /// folder, or the end of one: `DIR/file`, `DIR/split/class/file` and `DIR/class/file` are tried in this order,
    /// then the one file in the folder whose path ends so.
    pub csv: Option<PathBuf>,
    /// Whose image each is.
    pub patients: Patients,
    /// Who decides which image is in which split.
    pub split: SplitChoice,
    /// Height and width of the packed images, 1 to 4096 pixels. The aspect ratio is not kept.
    pub image_size: u32,
    /// Where shards are written before they are uploaded; by default the system's temporary folder.
    pub scratch: Option<PathBuf>,
}

/// Who decides which image is in which split.
#[derive(Clone, Debug, PartialEq)]
pub enum SplitChoice {
    /// The folder's `train`, `val` and `test`, or the CSV's column `split`.
    Published,
    /// Patients are dealt at random, class by class; see [`assign`].
    Drawn {
        /// Shares of train, val and test.
        fractions: Fractions,
        /// Another seed is another deal.
        seed: u64,
    },
    /// A CSV with columns `file` and `split` that lists every image.
    File(PathBuf),
}

/// How far an import is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Images decoded or refused.
    pub done: u64,
    /// All images.
    pub total: u64,
}

/// A packed data set on this machine's disk. Dropping it deletes the shards.
#[derive(Debug)]
pub struct Imported {
    /// What the data set is.
    pub manifest: Manifest,
    /// The shards' files, in the manifest's order.
    pub shards: Vec<PathBuf>,
    /// Files that are not in the data set, sorted by name.
    pub refused: Vec<Refused>,
    /// Imported 16-bit images whose values all fit into 12 bits, sorted by name. They come out nearly black, because
    /// 16-bit images are taken to use their full range: stretch them first.
    pub narrow_range: Vec<String>,
    _folder: TempDir,
}

/// An image that was found, before its split is settled.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    /// The path below the folder, with `/` between its parts.
    file: String,
    class: String,
    split: Option<Split>,
    patient: Option<String>,
    /// What the CSV says the file's digest is.
    digest: Option<ceteris_shared::digest::Digest>,
}

/// Reads `options.folder` and packs it. `progress` is called from several threads, once an image.
///
/// # Errors
/// When the folder, the CSV or the split cannot make a data set, when a class is empty, or when the scratch folder
/// cannot be written. See [`Error`].
pub fn import(options: &Options, progress: &(dyn Fn(Progress) + Sync)) -> Result<Imported, Error> {
    if !(1..=4096).contains(&options.image_size) {
        return Err(Error::ImageSize(options.image_size));
    }
    let tree = tree::read(&options.folder)?;
    let (mut candidates, mut refused) = match &options.csv {
        Some(csv) => (listing::candidates(csv, &tree)?, Vec::new()),
        None => layout::candidates(tree)?,
    };
    if candidates.len() > MAX_SAMPLES {
        return Err(Error::TooManySamples(candidates.len()));
    }
    patients::fill(&mut candidates, &options.patients)?;
    let classes = classes(&candidates, &refused)?;
    let splits = settle_splits(&candidates, &classes, &options.split)?;
    let mut placed: Vec<pack::Placed> = candidates
        .into_iter()
        .zip(splits)
        .map(|(candidate, split)| {
            let class = classes.binary_search(&candidate.class).expect("classes are those of the candidates") as u32;
            pack::Placed { candidate, split, class }
        })
        .collect();
    placed.sort_by(|a, b| a.key().cmp(&b.key()));
    let packed = pack::pack(&placed, &classes, options, progress)?;
    refused.extend(packed.refused);
    refused.sort_by(|a, b| a.file.cmp(&b.file));
    let mut narrow_range = packed.narrow_range;
    narrow_range.sort();
    check_classes(&packed.manifest, &refused)?;
    Ok(Imported { manifest: packed.manifest, shards: packed.shards, refused, narrow_range, _folder: packed.folder })
}

/// The class names, sorted.
fn classes(candidates: &[Candidate], refused: &[Refused]) -> Result<Vec<String>, Error> {
    let mut classes: Vec<String> = candidates.iter().map(|candidate| candidate.class.clone()).collect();
    classes.sort();
    classes.dedup();
    match classes.len() {
        0 => Err(Error::NoImages { refused: refused.len() }),
        1 => Err(Error::OneClass(classes.remove(0))),
        _ => Ok(classes),
    }
}

fn settle_splits(candidates: &[Candidate], classes: &[String], choice: &SplitChoice) -> Result<Vec<Split>, Error> {
    match choice {
        SplitChoice::Published => candidates
            .iter()
            .map(|candidate| candidate.split.ok_or_else(|| Error::NoSplit(candidate.file.clone())))
            .collect(),
        SplitChoice::Drawn { fractions, seed } => {
            let members: Vec<splits::Member<'_>> = candidates
                .iter()
                .map(|candidate| splits::Member {
                    file: &candidate.file,
                    patient: candidate.patient.as_deref(),
                    class: &candidate.class,
                })
                .collect();
            Ok(assign(&members, classes, *fractions, *seed)?)
        }
        SplitChoice::File(path) => listing::splits(path, candidates),
    }
}

/// Every class has an image, and a training image where anything is for training.
fn check_classes(manifest: &Manifest, refused: &[Refused]) -> Result<(), Error> {
    let counts = manifest.counts();
    for (index, class) in manifest.classes.iter().enumerate() {
        if counts.values().all(|per_class| per_class[index] == 0) {
            let first = refused.first().map(Refused::to_string).unwrap_or_default();
            return Err(Error::EmptyClass { class: class.clone(), refused: refused.len(), first });
        }
        if counts.get(&Split::Train).is_some_and(|per_class| per_class[index] == 0) {
            return Err(Error::NotInTraining(class.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
