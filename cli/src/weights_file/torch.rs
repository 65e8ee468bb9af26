//! PyTorch's two containers around a pickle: the zip archive of `torch.save` since 1.6, and the stream of pickles and
//! raw storages before it, in which torchvision's DenseNet weights are published.

use std::{
    collections::HashMap,
    io::{Cursor, Read},
    rc::Rc,
};

use zip::{CompressionMethod, ZipArchive};

use super::{
    Error,
    pickle::{self, Pickle, TensorRef, Value},
    tensor::Tensor,
};

/// The number that the old container begins with.
const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
/// The version of the old container.
const PROTOCOL: i128 = 1001;
/// Where checkpoints keep the state dict, beside other things.
const NESTED_UNDER: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// Reads the zip container and hands its tensors to `build`.
///
/// # Errors
/// When the archive is damaged, compressed or big-endian, when its pickle is refused, or when `build` fails.
pub fn with_zip<T>(
    bytes: &[u8],
    build: impl FnOnce(Vec<(String, Tensor<'_>)>) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut archive = Archive::open(bytes)?;
    let code = archive.read("data.pkl")?.ok_or(Error::NotWeights)?;
    if archive.read("byteorder")?.is_some_and(|order| order != b"little") {
        return Err(Error::BigEndian);
    }
    let pickle = pickle::read(&code)?;
    let described = state_dict(&pickle)?;
    let mut storages = HashMap::new();
    for (_, tensor) in &described {
        let key = &tensor.storage.key;
        if !storages.contains_key(key) {
            let storage = archive.read(&format!("data/{key}"))?;
            storages.insert(key.clone(), storage.ok_or_else(|| damaged(&format!("storage {key:?} is missing")))?);
        }
    }
    let slices = storages.iter().map(|(key, storage)| (key.clone(), storage.as_slice())).collect();
    build(attach(described, &slices)?)
}

/// Reads the old container and hands its tensors to `build`.
///
/// # Errors
/// When the stream is damaged or big-endian, when one of its pickles is refused, or when `build` fails.
pub fn with_legacy<T>(
    bytes: &[u8],
    build: impl FnOnce(Vec<(String, Tensor<'_>)>) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut rest = bytes;
    let mut next = || -> Result<Pickle, Error> {
        let pickle = pickle::read(rest)?;
        rest = &rest[pickle.length..];
        Ok(pickle)
    };
    if !matches!(next()?.root, Value::Int(MAGIC)) || !matches!(next()?.root, Value::Int(PROTOCOL)) {
        return Err(Error::NotWeights);
    }
    let system = next()?;
    if !matches!(system.get(&system.root, "little_endian"), Some(Value::Bool(true))) {
        return Err(Error::BigEndian);
    }
    let pickle = next()?;
    let keys = next()?;
    let mut slices = HashMap::new();
    for key in keys.sequence(&keys.root).ok_or_else(|| damaged("the list of storages is missing"))? {
        let Value::Text(key) = key else { return Err(damaged("a storage's key is no text")) };
        let storage = pickle.storages.get(key).ok_or_else(|| damaged("a storage is listed that no tensor uses"))?;
        let cut = || damaged("it ends inside a storage");
        let (count, data) = rest.split_first_chunk::<8>().ok_or_else(cut)?;
        if u64::from_le_bytes(*count) != storage.count as u64 {
            return Err(damaged("a storage's length is not what the pickle says"));
        }
        let length = storage.count.checked_mul(storage.dtype.size()).ok_or_else(cut)?;
        let (data, behind) = data.split_at_checked(length).ok_or_else(cut)?;
        slices.insert(key.clone(), data);
        rest = behind;
    }
    build(attach(state_dict(&pickle)?, &slices)?)
}

fn damaged(why: &str) -> Error {
    Error::Damaged(why.to_owned())
}

/// The tensors of the state dict that `pickle` is or holds.
fn state_dict(pickle: &Pickle) -> Result<Vec<(String, Rc<TensorRef>)>, Error> {
    let nested = NESTED_UNDER.iter().find_map(|key| pickle.get(&pickle.root, key).and_then(|dict| pickle.dict(dict)));
    let entries = nested.or_else(|| pickle.dict(&pickle.root)).ok_or(Error::NoStateDict)?;
    if !entries.iter().any(|(_, value)| matches!(value, Value::Tensor(_))) {
        return Err(Error::NoStateDict);
    }
    let tensor = |(key, value): &(Value, Value)| match (key, value) {
        (Value::Text(name), Value::Tensor(tensor)) => Ok((name.to_string(), tensor.clone())),
        (Value::Text(name), _) => Err(Error::NotATensor(name.to_string())),
        _ => Err(Error::NoStateDict),
    };
    entries.iter().map(tensor).collect()
}

fn attach<'file>(
    described: Vec<(String, Rc<TensorRef>)>,
    slices: &HashMap<Rc<str>, &'file [u8]>,
) -> Result<Vec<(String, Tensor<'file>)>, Error> {
    let attach = |(name, tensor): (String, Rc<TensorRef>)| {
        let storage = slices.get(&tensor.storage.key).ok_or_else(|| Error::OutOfBounds(name.clone()))?;
        let (shape, strides) = (tensor.shape.clone(), tensor.strides.clone());
        Ok((name, Tensor { dtype: tensor.storage.dtype, shape, strides, offset: tensor.offset, storage }))
    };
    described.into_iter().map(attach).collect()
}

/// A zip archive whose entries are all stored as they are and do not overlap, so that what is read from it is never
/// larger than the file.
struct Archive<'file> {
    zip: ZipArchive<Cursor<&'file [u8]>>,
    /// The folder that all entries lie in, with its `/`.
    folder: String,
    length: u64,
}

impl<'file> Archive<'file> {
    fn open(bytes: &'file [u8]) -> Result<Self, Error> {
        let broken = |error: zip::result::ZipError| Error::Damaged(error.to_string());
        let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
        if zip.has_overlapping_entries().map_err(broken)? {
            return Err(damaged("entries of the archive overlap"));
        }
        let mut folders = Vec::new();
        for name in zip.file_names() {
            let name = name.map_err(broken)?;
            folders.extend(name.strip_suffix("data.pkl").filter(|folder| folder.ends_with('/')).map(str::to_owned));
        }
        match <[String; 1]>::try_from(folders) {
            Ok([folder]) => Ok(Self { zip, folder, length: bytes.len() as u64 }),
            Err(_) => Err(Error::NotWeights),
        }
    }

    /// The content of an entry, if there is one of this name.
    fn read(&mut self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let broken = |error: zip::result::ZipError| Error::Damaged(error.to_string());
        let Some(index) = self.zip.index_for_name(&format!("{}{name}", self.folder)) else { return Ok(None) };
        let entry = self.zip.by_index(index).map_err(broken)?;
        if entry.compression() != CompressionMethod::Stored || entry.size() > self.length {
            return Err(Error::Damaged(format!("{name:?} is compressed, which torch.save never does")));
        }
        let mut content = Vec::with_capacity(entry.size() as usize);
        entry
            .take(self.length)
            .read_to_end(&mut content)
            .map_err(|error| Error::Damaged(format!("{name:?}: {error}")))?;
        Ok(Some(content))
    }
}
