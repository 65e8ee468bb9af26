//! A file of tensors mapped into memory: its header is read and checked, its values are copied once, to where they are
//! used.

use std::{
    collections::BTreeMap,
    fs,
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

/// A whole file of a bounded size; all pages at once, because every byte is about to be read.
fn map(file: &Path) -> Result<Mmap, files::Error> {
    let length = fs::metadata(file).map_err(files::at(file, "cannot be opened"))?.len();
    if length > MAX_FILE_BYTES {
        return Err(files::Error::TooLarge { file: PathBuf::from(file), limit: MAX_FILE_BYTES });
    }
    files::map(file, MmapOptions::new().populate())
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

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;
    use crate::tensors::{Contents, HostTensor, StateDict, check, copy_all};

    /// A file with a tensor `a` `[3]`, that ends with `last`, and a tensor `b` `[2, 1]`.
    fn file(folder: &Path, last: f32) -> PathBuf {
        let tensor = |shape: &[usize], values: &[f32]| HostTensor { shape: shape.to_vec(), values: values.to_vec() };
        let a = ("a".to_owned(), tensor(&[3], &[1.0, -2.0, last]));
        let b = ("b".to_owned(), tensor(&[2, 1], &[f32::MAX, -0.0]));
        let path = folder.join("f");
        Contents { tensors: StateDict([a, b].into()), step: Some(7) }.write(&path).expect("writable");
        path
    }

    fn copied(source: &dyn Source, names: &[&str]) -> Result<Vec<u32>, Error> {
        let named = || names.iter().map(|name| ((*name).to_owned(), source.shape(name).unwrap_or(&[3])));
        let count = named().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        let device = crate::backend::open(Default::default(), 1).expect("the processor is always there").device;
        let filled = crate::backend::filled(count, &device, |values| copy_all(source, named(), values))?;
        let values: Vec<f32> = filled.into_data().try_into_vec().expect("fp32");
        Ok(values.into_iter().map(f32::to_bits).collect())
    }

    #[test]
    fn values_come_to_the_bit_in_the_order_that_is_asked_for() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mapped = Mapped::open(&file(folder.path(), f32::MIN_POSITIVE / 2.0)).expect("well-formed");
        assert_eq!((mapped.names(), mapped.step()), (vec!["a", "b"], Some(7)));
        let expected = [f32::MAX, -0.0, 1.0, -2.0, f32::MIN_POSITIVE / 2.0].map(f32::to_bits);
        assert_eq!(copied(&mapped, &["b", "a"]).expect("finite"), expected);
        assert!(matches!(copied(&mapped, &["c"]), Err(Error::Missing { name }) if name == "c"));
    }

    #[test]
    fn what_is_not_finite_is_refused_where_it_is_copied_and_kept_where_it_is_read() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for value in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            let path = file(folder.path(), value);
            let mapped = Mapped::open(&path).expect("well-formed");
            assert!(matches!(copied(&mapped, &["b", "a"]), Err(Error::NotFinite { name }) if name == "a"));
            assert_eq!(mapped.values("a").expect("it is there")[2].to_bits(), value.to_bits());
        }
    }

    #[test]
    fn names_and_shapes_are_checked_in_the_expected_order() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mapped = Mapped::open(&file(folder.path(), 0.0)).expect("well-formed");
        let refused = |expected: &[(&str, &'static [usize])]| {
            let expected: Vec<_> = expected.iter().map(|(name, shape)| ((*name).to_owned(), *shape)).collect();
            check(&mapped, &expected).expect_err("it does not fit").to_string()
        };
        assert_eq!(refused(&[("c", &[1]), ("a", &[4])]), "tensor c is missing");
        assert_eq!(refused(&[("b", &[2]), ("c", &[1])]), "tensor b has shape [2, 1]; the network's is [2]");
        assert_eq!(refused(&[("a", &[3])]), "tensor b is none of the network's");
    }

    #[test]
    fn a_file_of_something_else_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = file(folder.path(), 0.0);
        let whole = std::fs::read(&path).expect("readable");
        for length in [0, 4, 40, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).expect("writable");
            assert!(matches!(Mapped::open(&path), Err(Error::Malformed { file, .. }) if file == path), "{length}");
        }
        let half = TensorView::new(Dtype::F16, vec![1], &[0, 0]).expect("two bytes");
        let bytes = safetensors::serialize([("h", half)], None).expect("one tensor");
        std::fs::write(&path, bytes).expect("writable");
        assert!(matches!(Mapped::open(&path), Err(Error::Type { name, .. }) if name == "h"));
        let absent = Mapped::open(&folder.path().join("absent")).expect_err("there is no such file");
        assert!(absent.io().is_some(), "{absent}");
    }

    #[test]
    fn a_tensor_in_two_files_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = file(folder.path(), 0.0);
        let error = Joined::open(&[&path, &path]).expect_err("all are there twice");
        assert_eq!(error.to_string(), "tensor a is in two files");
        assert_eq!(Joined::open(&[&path]).expect("well-formed").names(), ["a", "b"]);
    }
}
