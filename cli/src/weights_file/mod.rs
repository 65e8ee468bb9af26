//! Reading a weights file that someone else made and writing the canonical one: a known network with torchvision's
//! names, fp32, little-endian safetensors, sorted by name, without `num_batches_tracked`. The same weights give the same
//! bytes whatever container and precision-preserving format they came in.
//!
//! A `.pth` file is a pickle, which is a program. `pickle` runs the few instructions that a state dict needs and
//! knows no function but those that describe tensors; anything else is refused by name. Names and shapes are compared
//! with the known architectures before any tensor's data is touched, so a file cannot make this read or allocate more
//! than such a network needs.

mod error;
mod names;
mod network;
mod pickle;
mod safe;
mod tensor;
mod torch;

use std::{collections::BTreeMap, fs::File, io::Read, io::Write, path::Path};

use ceteris_shared::{architecture::Arch, digest::Digest};
use safetensors::tensor::TensorView;

pub use error::{Differences, Error};
pub use network::{MAX_CLASSES, shapes};
use tensor::Tensor;

/// The largest file that is read: a checkpoint with an optimizer's state is some hundred megabytes.
pub const MAX_FILE_BYTES: u64 = 1 << 30;

/// The canonical form of a weights file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical {
    /// A safetensors file.
    pub bytes: Vec<u8>,
    /// The network that it is of.
    pub arch: Arch,
    /// How many tensors it holds.
    pub tensors: usize,
    /// Outputs of its classifier, if it has one.
    pub classes: Option<usize>,
}

/// What [`convert`] wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Converted {
    /// The digest of the file that was read.
    pub source: Digest,
    /// The digest of the file that was written.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
    /// The network that it is of.
    pub arch: Arch,
    /// How many tensors it holds.
    pub tensors: usize,
    /// Outputs of its classifier, if it has one.
    pub classes: Option<usize>,
}

/// Converts the file `input` into the file `output`, which appears only when it is complete.
///
/// # Errors
/// When `input` cannot be read or is refused, or when `output` cannot be written. See [`Error`].
pub fn convert(input: &Path, output: &Path) -> Result<Converted, Error> {
    let bytes = read(input)?;
    let canonical = canonical(&bytes)?;
    let broken = |source| Error::Write { path: output.to_owned(), source };
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut aside = tempfile::NamedTempFile::new_in(folder).map_err(broken)?;
    aside.write_all(&canonical.bytes).map_err(broken)?;
    aside.as_file().sync_all().map_err(broken)?;
    aside.persist(output).map_err(|error| broken(error.error))?;
    Ok(Converted {
        source: Digest::of(&bytes),
        digest: Digest::of(&canonical.bytes),
        bytes: canonical.bytes.len() as u64,
        arch: canonical.arch,
        tensors: canonical.tensors,
        classes: canonical.classes,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let broken = |source| Error::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(broken)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(broken)?;
    if bytes.len() as u64 > MAX_FILE_BYTES { Err(Error::TooLarge) } else { Ok(bytes) }
}

/// The canonical form of the weights in `bytes`: safetensors, or a `.pth` of either of PyTorch's containers.
///
/// # Errors
/// When `bytes` are neither, are damaged or hostile, or do not hold exactly a known network's tensors with finite
/// values.
pub fn canonical(bytes: &[u8]) -> Result<Canonical, Error> {
    if safe::is_safetensors(bytes) {
        build(safe::tensors(bytes)?)
    } else if bytes.starts_with(b"PK\x03\x04") {
        torch::with_zip(bytes, build)
    } else if bytes.starts_with(&[0x80]) {
        torch::with_legacy(bytes, build)
    } else {
        Err(Error::NotWeights)
    }
}

/// Finds out which network the tensors are of and writes them.
fn build(tensors: Vec<(String, Tensor<'_>)>) -> Result<Canonical, Error> {
    let mut named = BTreeMap::new();
    for (name, tensor) in tensors {
        let name = names::canonical(&name);
        if name.ends_with(".num_batches_tracked") {
            continue;
        }
        if named.contains_key(&name) {
            return Err(Error::Repeated(name));
        }
        named.insert(name, tensor);
    }
    let (arch, classes) = network::recognise(&named)?;
    let mut values = Vec::with_capacity(named.len());
    for (name, tensor) in &named {
        values.push((name.as_str(), tensor.shape.as_slice(), tensor.to_f32(name)?));
    }
    let views = values.iter().map(|(name, shape, data)| {
        let view = TensorView::new(safetensors::Dtype::F32, shape.to_vec(), data);
        (*name, view.expect("to_f32 gives four bytes for each element of the shape"))
    });
    let bytes = safetensors::serialize(views, None).map_err(|error| Error::Damaged(error.to_string()))?;
    Ok(Canonical { bytes, arch, tensors: named.len(), classes })
}

#[cfg(test)]
mod tests;
