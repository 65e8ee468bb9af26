//! The cache's folder, as files: each has its digest's name, and its time is when it was used last.

use std::{
    fs::{self, File},
    io,
    path::Path,
    time::SystemTime,
};

use ceteris_shared::digest::Digest;

use super::{Error, at};

/// Before the name of a file that is being fetched.
const UNFINISHED: &str = ".";

/// An object that lies here.
#[derive(Debug)]
pub(super) struct Cached {
    pub digest: Digest,
    pub bytes: u64,
    /// When it was used last.
    pub used: SystemTime,
}

/// Marks a file as used now.
pub(super) fn touch(path: &Path) -> io::Result<()> {
    File::open(path)?.set_modified(SystemTime::now())
}

/// All objects.
pub(super) fn list(folder: &Path) -> Result<Vec<Cached>, Error> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let entry = entry.map_err(at(folder))?;
        let digest = entry.file_name().to_str().and_then(|name| name.parse().ok());
        // What is removed meanwhile is no file any more.
        if let (Some(digest), Ok(file)) = (digest, entry.metadata()) {
            files.push(Cached { digest, bytes: file.len(), used: file.modified().map_err(at(&entry.path()))? });
        }
    }
    Ok(files)
}

/// Removes what was being fetched when an agent ended.
pub(super) fn remove_unfinished(folder: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let entry = entry.map_err(at(folder))?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            fs::remove_file(entry.path()).map_err(at(&entry.path()))?;
        }
    }
    Ok(())
}

/// Gives a file a second name, or where the file system has no such thing, makes a copy of that name.
pub(super) fn link_or_copy(from: &Path, to: &Path) -> Result<(), Error> {
    if fs::hard_link(from, to).is_err() {
        fs::copy(from, to).map_err(at(to))?;
    }
    Ok(())
}
