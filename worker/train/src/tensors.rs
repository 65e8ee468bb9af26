//! Tensors in memory by name, and their files: safetensors, fp32, names and shapes checked before anything is computed.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::{Path, PathBuf},
};

use burn::tensor::Tensor;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::files;
use ceteris_shared::architecture::Entry;

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

impl StateDict {
    /// Checks that exactly the tensors of `layout` are here, well-shaped and finite.
    ///
    /// # Errors
    /// The first tensor that is not so, in the layout's order; then one that is too many.
    pub fn check(&self, layout: &[Entry]) -> Result<(), Error> {
        let expected: Vec<_> = layout.iter().map(|entry| (entry.name.clone(), entry.shape.as_slice())).collect();
        self.check_shapes(&expected)
    }

    /// As [`StateDict::check`], with names and shapes alone.
    ///
    /// # Errors
    /// As [`StateDict::check`].
    pub fn check_shapes(&self, expected: &[(String, &[usize])]) -> Result<(), Error> {
        for (name, shape) in expected {
            let tensor = self.0.get(name).ok_or_else(|| Error::Missing { name: name.clone() })?;
            if tensor.shape != *shape {
                return Err(Error::Shape { name: name.clone(), found: tensor.shape.clone(), expected: shape.to_vec() });
            }
            if tensor.values.iter().any(|value| !value.is_finite()) {
                return Err(Error::NotFinite { name: name.clone() });
            }
        }
        let surplus = self.0.keys().find(|name| !expected.iter().any(|(other, _)| other == *name));
        surplus.map_or(Ok(()), |name| Err(Error::Unexpected { name: name.clone() }))
    }

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
        let bytes = files::read(file, MAX_FILE_BYTES)?;
        let malformed = |cause: String| Error::Malformed { file: file.to_owned(), cause };
        let found = SafeTensors::deserialize(&bytes).map_err(|error| malformed(error.to_string()))?;
        let mut contents = Self::default();
        for (name, view) in found.iter() {
            let wrong = |expected| Error::Type {
                file: file.to_owned(),
                name: name.to_owned(),
                found: format!("{:?} of shape {:?}", view.dtype(), view.shape()),
                expected,
            };
            if name == STEP {
                let bytes: [u8; 8] = match (view.dtype(), view.shape(), view.data().try_into()) {
                    (Dtype::I64, [], Ok(bytes)) => bytes,
                    _ => return Err(wrong("one 64-bit integer")),
                };
                contents.step = Some(u64::try_from(i64::from_le_bytes(bytes)).map_err(|_| Error::Step)?);
            } else if view.dtype() == Dtype::F32 {
                let values =
                    view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
                let tensor = HostTensor { shape: view.shape().to_vec(), values };
                contents.tensors.0.insert(name.to_owned(), tensor);
            } else {
                return Err(wrong("32-bit floating point"));
            }
        }
        Ok(contents)
    }
}
