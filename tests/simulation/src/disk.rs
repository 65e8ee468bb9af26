//! A machine's disk, as far as the spool needs one. It outlives the agent, and remembers half of what was being written
//! when the agent was killed.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ceteris_worker::spool::{Disk, Error};

/// Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimulatedDisk(Arc<Mutex<BTreeMap<u64, Vec<u8>>>>);

impl SimulatedDisk {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves `bytes` at the end of the last segment, as a kill in the middle of a write does.
    pub fn tear(&self, bytes: &[u8]) {
        if let Some((_, segment)) = self.lock().iter_mut().next_back() {
            segment.extend_from_slice(bytes);
        }
    }

    fn missing(&self, segment: u64) -> Error {
        Error::Io { path: self.place(segment), source: io::ErrorKind::NotFound.into() }
    }
}

impl Disk for SimulatedDisk {
    fn segments(&self) -> Result<Vec<u64>, Error> {
        Ok(self.lock().keys().copied().collect())
    }

    fn create(&mut self, segment: u64) -> Result<(), Error> {
        match self.lock().insert(segment, Vec::new()) {
            None => Ok(()),
            Some(_) => Err(Error::Io { path: self.place(segment), source: io::ErrorKind::AlreadyExists.into() }),
        }
    }

    fn open(&mut self, segment: u64) -> Result<Vec<u8>, Error> {
        self.lock().get(&segment).cloned().ok_or_else(|| self.missing(segment))
    }

    fn append(&mut self, segment: u64, bytes: &[u8]) -> Result<(), Error> {
        match self.lock().get_mut(&segment) {
            Some(there) => {
                there.extend_from_slice(bytes);
                Ok(())
            }
            None => Err(self.missing(segment)),
        }
    }

    fn read(&self, segment: u64, offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        let segments = self.lock();
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let there = segments.get(&segment).and_then(|there| there.get(from..)?.get(..bytes.len()));
        match there {
            Some(there) => {
                bytes.copy_from_slice(there);
                Ok(())
            }
            None => Err(Error::Io { path: self.place(segment), source: io::ErrorKind::UnexpectedEof.into() }),
        }
    }

    fn cut(&mut self, segment: u64, length: u64) -> Result<(), Error> {
        match self.lock().get_mut(&segment) {
            Some(there) => {
                there.truncate(usize::try_from(length).unwrap_or(usize::MAX));
                Ok(())
            }
            None => Err(self.missing(segment)),
        }
    }

    fn remove(&mut self, segment: u64) -> Result<(), Error> {
        self.lock().remove(&segment).map(drop).ok_or_else(|| self.missing(segment))
    }

    fn place(&self, segment: u64) -> PathBuf {
        PathBuf::from(format!("simulated/{segment:020}.log"))
    }
}
