//! Tensors in memory by name, and their files: safetensors, fp32, names and shapes checked before anything is computed.

mod mapped;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    mem::MaybeUninit,
    path::{Path, PathBuf},
};

use burn::tensor::Tensor;
use safetensors::{Dtype, tensor::TensorView};

pub use mapped::{Joined, Mapped};

use crate::files;

/// The largest file that is read: DenseNet-121 with its optimizer is 64 MB.
pub const MAX_FILE_BYTES: u64 = 1 << 30;
/// The one integer that a file may hold: the optimizer's steps.
const STEP: &str = "step";

/// A tensor's shape and its values in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// As many as the product of the extents.
    pub values: Vec<f32>,
}

/// Tensors by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateDict(pub BTreeMap<String, HostTensor>);

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// All fp32 tensors.
    pub tensors: StateDict,
    /// The optimizer's steps, in an optimizer's file.
    pub step: Option<u64>,
}

/// Why a file or a state is refused.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error(transparent)]
    File(#[from] files::Error),
    #[error("{}: not a safetensors file: {cause}", file.display())]
    Malformed { file: PathBuf, cause: String },
    #[error("{}: tensor {name} is {found}, not {expected}; import the weights again", file.display())]
    Type { file: PathBuf, name: String, found: String, expected: &'static str },
    #[error("tensor {name} is missing")]
    Missing { name: String },
    #[error("tensor {name} is none of the network's")]
    Unexpected { name: String },
    #[error("tensor {name} has shape {found:?}; the network's is {expected:?}")]
    Shape { name: String, found: Vec<usize>, expected: Vec<usize> },
    #[error("tensor {name} holds a value that is not a finite number")]
    NotFinite { name: String },
    #[error("tensor {name} is in two files")]
    Twice { name: String },
    #[error("the optimizer's `step` is missing or negative")]
    Step,
}

impl Error {
    /// The system's error, where it was one: not the content but the disk is at fault.
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            Self::File(error) => error.io(),
            _ => None,
        }
    }
}

impl HostTensor {
    /// A copy of a tensor's values.
    pub fn of<const D: usize>(tensor: Tensor<D>) -> Self {
        let shape = tensor.dims().to_vec();
        let values = tensor.into_data().try_into_vec().expect("everything is computed in fp32");
        Self { shape, values }
    }
}

/// Tensors by name, wherever they lie.
pub trait Source {
    /// All names.
    fn names(&self) -> Vec<&str>;

    /// Extents of a tensor, outermost first. None where there is no such tensor.
    fn shape(&self, name: &str) -> Option<&[usize]>;

    /// The optimizer's steps, where it is an optimizer's state.
    fn step(&self) -> Option<u64>;

    /// Copies the values of a tensor, in row-major order, to `values`, which are as many: all of them are written when
    /// this returns without an error.
    ///
    /// # Errors
    /// When there is no such tensor, or a value is not finite.
    fn copy(&self, name: &str, values: &mut [MaybeUninit<f32>]) -> Result<(), Error>;
}

/// Checks that exactly the `expected` tensors are in `source`, well-shaped. Values are checked where they are copied.
///
/// # Errors
/// The first tensor that is not so, in the order of `expected`; then one that is too many.
pub fn check(source: &dyn Source, expected: &[(String, &[usize])]) -> Result<(), Error> {
    for (name, shape) in expected {
        let found = source.shape(name).ok_or_else(|| Error::Missing { name: name.clone() })?;
        if found != *shape {
            return Err(Error::Shape { name: name.clone(), found: found.to_vec(), expected: shape.to_vec() });
        }
    }
    let known: HashSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
    let surplus = source.names().into_iter().find(|name| !known.contains(name));
    surplus.map_or(Ok(()), |name| Err(Error::Unexpected { name: name.to_owned() }))
}

/// Copies the tensors `named`, one after the other, to `values`, which are as many as all of theirs.
///
/// # Errors
/// As [`Source::copy`].
pub fn copy_all<'a>(
    source: &dyn Source,
    named: impl Iterator<Item = (String, &'a [usize])>,
    values: &mut [MaybeUninit<f32>],
) -> Result<(), Error> {
    let mut rest = values;
    for (name, shape) in named {
        let (own, after) = rest.split_at_mut(shape.iter().product());
        source.copy(&name, own)?;
        rest = after;
    }
    assert!(rest.is_empty(), "the values are as many as the tensors'");
    Ok(())
}

impl Source for StateDict {
    fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.0.get(name).map(|tensor| tensor.shape.as_slice())
    }

    fn step(&self) -> Option<u64> {
        None
    }

    fn copy(&self, name: &str, values: &mut [MaybeUninit<f32>]) -> Result<(), Error> {
        let tensor = self.0.get(name).ok_or_else(|| Error::Missing { name: name.to_owned() })?;
        if tensor.values.iter().any(|value| !value.is_finite()) {
            return Err(Error::NotFinite { name: name.to_owned() });
        }
        values.write_copy_of_slice(&tensor.values);
        Ok(())
    }
}

impl Source for Contents {
    fn names(&self) -> Vec<&str> {
        self.tensors.names()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.shape(name)
    }

    fn step(&self) -> Option<u64> {
        self.step
    }

    fn copy(&self, name: &str, values: &mut [MaybeUninit<f32>]) -> Result<(), Error> {
        self.tensors.copy(name, values)
    }
}

impl StateDict {
    /// Puts two states together.
    ///
    /// # Errors
    /// When a tensor is in both.
    pub fn join(mut self, other: Self) -> Result<Self, Error> {
        for (name, tensor) in other.0 {
            if self.0.contains_key(&name) {
                return Err(Error::Twice { name });
            }
            self.0.insert(name, tensor);
        }
        Ok(self)
    }
}

impl Contents {
    /// The file's bytes: equal contents give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let step = self.step.map(|step| step.to_le_bytes());
        let bytes: Vec<(&String, Vec<u8>)> = self
            .tensors
            .0
            .iter()
            .map(|(name, tensor)| (name, tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect()))
            .collect();
        let mut views: Vec<(&str, TensorView<'_>)> = Vec::with_capacity(bytes.len() + 1);
        for ((name, bytes), tensor) in bytes.iter().zip(self.tensors.0.values()) {
            let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytes).expect("the shape is the data's own");
            views.push((name, view));
        }
        if let Some(step) = &step {
            views.push((STEP, TensorView::new(Dtype::I64, Vec::new(), step).expect("a scalar has eight bytes")));
        }
        safetensors::serialize(views, None::<HashMap<String, String>>)
            .expect("well-formed tensors with their own names")
    }

    /// Writes a file, complete and on disk when this returns.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, file: &Path) -> Result<(), files::Error> {
        files::write(file, &self.to_bytes())
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is too large, is no safetensors file, or holds anything but fp32 tensors and `step`.
    pub fn read(file: &Path) -> Result<Self, Error> {
        let mapped = Mapped::open(file)?;
        let tensor = |name: &str| {
            let (shape, values) = (mapped.shape(name)?.to_vec(), mapped.values(name)?);
            Some((name.to_owned(), HostTensor { shape, values }))
        };
        let tensors = mapped.names().into_iter().filter_map(tensor).collect();
        Ok(Self { tensors: StateDict(tensors), step: mapped.step() })
    }
}
