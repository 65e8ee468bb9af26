//! Reading with a limit, and writing so that a file is either complete and on disk or not there.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use memmap2::{Mmap, MmapOptions};

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("{}: {action}: {source}", file.display())]
    Io { file: PathBuf, action: &'static str, source: io::Error },
    #[error("{}: larger than the {limit} bytes that are read", file.display())]
    TooLarge { file: PathBuf, limit: u64 },
}

impl Error {
    /// The system's error, where it was one.
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::TooLarge { .. } => None,
        }
    }
}

/// Names the place and the action of a system error.
pub(crate) fn at(file: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Error {
    let file = file.to_owned();
    move |source| Error::Io { file, action, source }
}

/// Reads a whole file of at most `limit` bytes.
///
/// # Errors
/// When it cannot be read or is larger.
pub fn read(file: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(at(file, "cannot be opened"))?;
    opened.take(limit + 1).read_to_end(&mut bytes).map_err(at(file, "cannot be read"))?;
    if bytes.len() as u64 > limit {
        return Err(Error::TooLarge { file: file.to_owned(), limit });
    }
    Ok(bytes)
}

/// Maps a file into memory.
///
/// # Errors
/// When it cannot be opened or mapped.
#[allow(unsafe_code)]
pub(crate) fn map(file: &Path, options: &MmapOptions) -> Result<Mmap, Error> {
    let opened = File::open(file).map_err(at(file, "cannot be opened"))?;
    // SAFETY: shards, feature sets and checkpoints are renamed into place when they are complete and never written to
    // again, and the agent removes none of them while it is trained on; other files are those of the person who starts
    // this program, and truncating one meanwhile ends it.
    unsafe { options.map(&opened) }.map_err(at(file, "cannot be mapped"))
}

/// Writes `bytes` aside, forces them to disk and renames them to `file`.
///
/// # Errors
/// When the disk refuses; what was written aside is removed.
pub fn write(file: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut aside = file.as_os_str().to_owned();
    aside.push(".partial");
    let aside = PathBuf::from(aside);
    let written = File::create(&aside).and_then(|mut open| {
        open.write_all(bytes)?;
        open.sync_all()
    });
    written.and_then(|()| fs::rename(&aside, file)).map_err(|source| {
        // The first error is the one to tell; a leftover is swept with its folder.
        let _ = fs::remove_file(&aside);
        Error::Io { file: file.to_owned(), action: "cannot be written", source }
    })?;
    ceteris_crash::here(ceteris_crash::Point::FileWritten);
    Ok(())
}

/// Forces a folder's entries to disk.
///
/// # Errors
/// When the disk refuses.
pub fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|open| open.sync_all()).map_err(at(folder, "cannot be forced to disk"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_to_the_byte() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("f");
        write(&file, b"12345").expect("writable");
        assert_eq!(read(&file, 5).expect("within the limit"), b"12345");
        assert!(matches!(read(&file, 4), Err(Error::TooLarge { limit: 4, .. })));
    }

    #[test]
    fn a_failed_write_leaves_nothing_and_names_the_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("f");
        fs::create_dir(&file).expect("a folder in the way");
        fs::write(file.join("inside"), b"").expect("writable");
        let error = write(&file, b"1").expect_err("a folder is in the way");
        assert!(error.to_string().starts_with(&file.display().to_string()), "{error}");
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1);
    }
}
