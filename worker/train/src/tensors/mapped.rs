//! A file of tensors mapped into memory: its header is read and checked, its values are copied once, to where they are
//! used.

use std::{
    collections::BTreeMap,
    fs::File,
    mem::MaybeUninit,
    ops::Range,
    path::{Path, PathBuf},
};

use memmap2::{Mmap, MmapOptions};
use safetensors::{Dtype, SafeTensors, tensor::TensorInfo};

use super::{Error, MAX_FILE_BYTES, STEP, Source};
use crate::files;

/// All bits of the exponent: set in infinities and in what is no number.
const EXPONENT: u32 = 0x7f80_0000;

/// A file's tensors.
#[derive(Debug)]
pub struct Mapped {
    bytes: Mmap,
    tensors: BTreeMap<String, Place>,
    step: Option<u64>,
}

#[derive(Debug)]
struct Place {
    shape: Vec<usize>,
    bytes: Range<usize>,
}

impl Mapped {
    /// Maps a file.
    ///
    /// # Errors
    /// When it cannot be read, is too large, is no safetensors file, or holds anything but fp32 tensors and `step`.
    pub fn open(file: &Path) -> Result<Self, Error> {
        let bytes = map(file)?;
        let malformed = |cause: String| Error::Malformed { file: file.to_owned(), cause };
        let (header, found) = SafeTensors::read_metadata(&bytes).map_err(|error| malformed(error.to_string()))?;
        // The header's length stands before it.
        let start = header + size_of::<u64>();
        let (mut tensors, mut step) = (BTreeMap::new(), None);
        for (name, info) in found.tensors() {
            let place = start + info.data_offsets.0..start + info.data_offsets.1;
            if name == STEP {
                step = Some(steps(file, info, &bytes[place])?);
            } else if info.dtype == Dtype::F32 {
                tensors.insert(name, Place { shape: info.shape.clone(), bytes: place });
            } else {
                return Err(wrong(file, &name, info, "32-bit floating point"));
            }
        }
        Ok(Self { bytes, tensors, step })
    }

    /// The values of a tensor as they are, finite or not. None where there is no such tensor.
    pub fn values(&self, name: &str) -> Option<Vec<f32>> {
        let place = self.tensors.get(name)?;
        Some(words(&self.bytes[place.bytes.clone()]).map(f32::from_bits).collect())
    }
}

/// The 32-bit words of little-endian bytes.
fn words(bytes: &[u8]) -> impl ExactSizeIterator<Item = u32> {
    bytes.chunks_exact(size_of::<u32>()).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

impl Source for Mapped {
    fn names(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|place| place.shape.as_slice())
    }

    fn step(&self) -> Option<u64> {
        self.step
    }

    fn copy(&self, name: &str, values: &mut [MaybeUninit<f32>]) -> Result<(), Error> {
        let place = self.tensors.get(name).ok_or_else(|| Error::Missing { name: name.to_owned() })?;
        let words = words(&self.bytes[place.bytes.clone()]);
        assert_eq!(words.len(), values.len(), "the shape was checked");
        let mut wrong = 0;
        for (value, bits) in values.iter_mut().zip(words) {
            // No branch, so that it is done in vectors.
            wrong |= u32::from(bits & EXPONENT == EXPONENT);
            value.write(f32::from_bits(bits));
        }
        if wrong == 0 { Ok(()) } else { Err(Error::NotFinite { name: name.to_owned() }) }
    }
}

/// The optimizer's steps.
fn steps(file: &Path, info: &TensorInfo, bytes: &[u8]) -> Result<u64, Error> {
    match (info.dtype, info.shape.as_slice(), bytes.try_into()) {
        (Dtype::I64, [], Ok(bytes)) => u64::try_from(i64::from_le_bytes(bytes)).map_err(|_| Error::Step),
        _ => Err(wrong(file, STEP, info, "one 64-bit integer")),
    }
}

fn wrong(file: &Path, name: &str, info: &TensorInfo, expected: &'static str) -> Error {
    let found = format!("{:?} of shape {:?}", info.dtype, info.shape);
    Error::Type { file: file.to_owned(), name: name.to_owned(), found, expected }
}

#[allow(unsafe_code)]
fn map(file: &Path) -> Result<Mmap, files::Error> {
    let opened = File::open(file).map_err(files::at(file, "cannot be opened"))?;
    let length = opened.metadata().map_err(files::at(file, "cannot be read"))?.len();
    if length > MAX_FILE_BYTES {
        return Err(files::Error::TooLarge { file: PathBuf::from(file), limit: MAX_FILE_BYTES });
    }
    // All pages at once: every byte is about to be read.
    let options = MmapOptions::new().populate().to_owned();
    // SAFETY: checkpoints and the agent's cache are renamed into place when they are complete and never written to
    // again; other files are those of the person who starts this program, and truncating one meanwhile ends it.
    unsafe { options.map(&opened) }.map_err(files::at(file, "cannot be mapped"))
}

/// Files that hold one state together.
#[derive(Debug)]
pub struct Joined(Vec<Mapped>);

impl Joined {
    /// Maps all of `files`.
    ///
    /// # Errors
    /// As [`Mapped::open`], and when a tensor is in two of them.
    pub fn open(files: &[&Path]) -> Result<Self, Error> {
        let mapped = files.iter().map(|file| Mapped::open(file)).collect::<Result<Vec<_>, _>>()?;
        for (index, one) in mapped.iter().enumerate() {
            let twice = |name: &&str| mapped[..index].iter().any(|other| other.tensors.contains_key(*name));
            if let Some(name) = one.names().into_iter().find(twice) {
                return Err(Error::Twice { name: name.to_owned() });
            }
        }
        Ok(Self(mapped))
    }

    fn holder(&self, name: &str) -> Option<&Mapped> {
        self.0.iter().find(|mapped| mapped.tensors.contains_key(name))
    }
}

impl Source for Joined {
    fn names(&self) -> Vec<&str> {
        self.0.iter().flat_map(Mapped::names).collect()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.holder(name)?.shape(name)
    }

    fn step(&self) -> Option<u64> {
        self.0.iter().find_map(Mapped::step)
    }

    fn copy(&self, name: &str, values: &mut [MaybeUninit<f32>]) -> Result<(), Error> {
        let holder = self.holder(name).ok_or_else(|| Error::Missing { name: name.to_owned() })?;
        holder.copy(name, values)
    }
}
