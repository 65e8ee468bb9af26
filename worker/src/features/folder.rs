//! The folder of feature sets, as files.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use ceteris_shared::features::{FeatureKey, MANIFEST_FILE, MAX_MANIFEST_BYTES, Manifest, shard_file};

use super::{Error, at};

/// Before the name of a set that is being removed.
const ASIDE: &str = ".gone-";

/// A set, or what there is of one.
#[derive(Debug)]
pub(super) struct Set {
    pub key: FeatureKey,
    pub bytes: u64,
    /// When it was used last; where it is not complete, when it was written to.
    pub used: SystemTime,
}

/// Where a set goes that is being removed.
pub(super) fn aside(folder: &Path, key: FeatureKey) -> PathBuf {
    folder.join(format!("{ASIDE}{key}"))
}

/// The manifest, where every shard is there with its length. Marks the set as used now.
pub(super) fn complete(set: &Path, key: FeatureKey) -> Result<Manifest, Error> {
    let path = set.join(MANIFEST_FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::Incomplete),
        Err(error) => return Err(at(&path)(error)),
    };
    let mut bytes = Vec::new();
    (&file).take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut bytes).map_err(at(&path))?;
    let manifest = Manifest::from_bytes(&bytes, key)?;
    for (index, shard) in manifest.shards.iter().enumerate() {
        match fs::metadata(set.join(shard_file(index))) {
            Ok(found) if found.len() == shard.bytes => {}
            Ok(found) => return Err(Error::Length { index, found: found.len(), expected: shard.bytes }),
            Err(_) => return Err(Error::Incomplete),
        }
    }
    file.set_modified(SystemTime::now()).map_err(at(&path))?;
    Ok(manifest)
}

/// Writes the manifest, whole or not at all.
pub(super) fn write_manifest(set: &Path, bytes: &[u8]) -> Result<(), Error> {
    let path = set.join(MANIFEST_FILE);
    let write = || {
        let mut aside = tempfile::Builder::new().prefix(".manifest-").tempfile_in(set)?;
        aside.write_all(bytes)?;
        aside.as_file().sync_all()?;
        aside.persist(&path).map_err(|error| error.error)?;
        File::open(set)?.sync_all()
    };
    write().map_err(at(&path))
}

/// All sets, complete or not.
pub(super) fn list(folder: &Path) -> Result<Vec<Set>, Error> {
    let mut sets = Vec::new();
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let entry = entry.map_err(at(folder))?;
        if let Some(key) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            // What is removed meanwhile is no set any more.
            sets.extend(measure(&entry.path(), key).ok());
        }
    }
    Ok(sets)
}

fn measure(set: &Path, key: FeatureKey) -> io::Result<Set> {
    let mut bytes = 0;
    for entry in fs::read_dir(set)? {
        // A file that a trainer writes aside is renamed at any time.
        bytes += entry?.metadata().map_or(0, |file| file.len());
    }
    let marked = fs::metadata(set.join(MANIFEST_FILE)).or_else(|_| fs::metadata(set))?;
    Ok(Set { key, bytes, used: marked.modified()? })
}

/// Removes what was being made or removed when an agent ended: no trainer outlives its agent.
pub(super) fn remove_unfinished(folder: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let entry = entry.map_err(at(folder))?;
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let unfinished = name.parse::<FeatureKey>().is_ok() && !path.join(MANIFEST_FILE).exists();
        if unfinished || name.starts_with(ASIDE) {
            fs::remove_dir_all(&path).map_err(at(&path))?;
        }
    }
    Ok(())
}
