//! Segments as files of a folder, named by the number of their first record.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::{Disk, Error};

/// A folder that holds one queue and nothing else of that kind.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    open: BTreeMap<u64, File>,
}

impl Folder {
    /// The folder at `path`; it must exist.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), open: BTreeMap::new() }
    }

    fn file(&self, segment: u64) -> Result<&File, Error> {
        let missing = || at(&self.place(segment))(io::ErrorKind::NotFound.into());
        self.open.get(&segment).ok_or_else(missing)
    }
}

impl Disk for Folder {
    fn segments(&self) -> Result<Vec<u64>, Error> {
        Ok(segment_files(&self.path)?.into_iter().map(|(first, _)| first).collect())
    }

    fn create(&mut self, segment: u64) -> Result<(), Error> {
        let path = self.place(segment);
        let file = File::options().create_new(true).read(true).append(true).open(&path).map_err(at(&path))?;
        let durable = file.sync_all().and_then(|()| File::open(&self.path)?.sync_all());
        if let Err(source) = durable {
            // The next try creates it anew.
            if let Err(error) = fs::remove_file(&path) {
                tracing::error!(file = %path.display(), %error, "an empty spool file cannot be removed");
            }
            return Err(at(&path)(source));
        }
        self.open.insert(segment, file);
        ceteris_crash::here(ceteris_crash::Point::SpoolFileMade);
        Ok(())
    }

    fn open(&mut self, segment: u64) -> Result<Vec<u8>, Error> {
        let path = self.place(segment);
        let mut file = File::options().read(true).append(true).open(&path).map_err(at(&path))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(at(&path))?;
        self.open.insert(segment, file);
        Ok(bytes)
    }

    fn append(&mut self, segment: u64, bytes: &[u8]) -> Result<(), Error> {
        let mut file = self.file(segment)?;
        file.write_all(bytes).and_then(|()| file.sync_data()).map_err(at(&self.place(segment)))?;
        ceteris_crash::here(ceteris_crash::Point::EventSpooled);
        Ok(())
    }

    fn read(&self, segment: u64, offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        self.file(segment)?.read_exact_at(bytes, offset).map_err(at(&self.place(segment)))
    }

    fn cut(&mut self, segment: u64, length: u64) -> Result<(), Error> {
        let file = self.file(segment)?;
        file.set_len(length).and_then(|()| file.sync_all()).map_err(at(&self.place(segment)))
    }

    fn remove(&mut self, segment: u64) -> Result<(), Error> {
        self.open.remove(&segment);
        let path = self.place(segment);
        fs::remove_file(&path).map_err(at(&path))?;
        ceteris_crash::here(ceteris_crash::Point::SpoolFileRemoved);
        Ok(())
    }

    fn place(&self, segment: u64) -> PathBuf {
        self.path.join(format!("{segment:020}.log"))
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}

/// Segment files with the number of their first record, oldest first.
pub(super) fn segment_files(folder: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let path = entry.map_err(at(folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".log"));
        if let Some(first) = name.and_then(|name| name.parse().ok()) {
            files.push((first, path));
        }
    }
    files.sort_unstable();
    Ok(files)
}
