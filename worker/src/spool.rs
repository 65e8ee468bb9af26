//! An append-only queue on disk: numbered records that are durable before they are sent, and kept until acknowledged.
//!
//! Records lie in segment files named by the number of their first record. A record is its length (u32, little endian),
//! the first eight bytes of its SHA-256, and its bytes. What a kill or a power cut leaves half-written at the end of the
//! last segment was never sent, so it is cut off at the next opening. A segment is deleted when all of it is
//! acknowledged; the last one is then replaced by an empty one, whose name remembers the numbering. After a restart some
//! acknowledged records may be sent again: receiving twice changes nothing.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use ceteris_shared::digest::Digest;

/// A segment that is longer takes no more records.
const SEGMENT_BYTES: u64 = 4 << 20;
/// Bytes before a record's own.
const HEADER_BYTES: usize = 12;
/// Longest record.
pub const MAX_RECORD_BYTES: usize = 16 << 20;

/// An open queue.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    limit: u64,
    /// Oldest first; never empty.
    segments: VecDeque<Segment>,
    /// Number of the oldest record kept.
    first: u64,
    /// Where the records are, from `first` on.
    records: VecDeque<Record>,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    file: File,
    first: u64,
    bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    /// The first number of the segment that holds it.
    segment: u64,
    offset: u64,
    bytes: u32,
}

/// Why the queue cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("the spool file {}: {source}{}", path.display(), way_out(source))]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "the spool file {} is damaged at byte {offset}: events in it would be lost; check the disk, and move the file away to go on without them",
        path.display()
    )]
    Damaged { path: PathBuf, offset: u64 },
    #[error("the spool lacks events {from} to {to}: a file of {} is missing; move the state folder away to start anew", folder.display())]
    Gap { folder: PathBuf, from: u64, to: u64 },
    #[error("an event of {0} bytes is longer than any may be")]
    TooLong(usize),
}

fn way_out(source: &io::Error) -> &'static str {
    if is_no_room(source) {
        "; free some space on its disk"
    } else {
        "; check the disk and the folder's owner, and start the agent again"
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}

impl Error {
    /// Whether it passes when there is room on the disk again.
    pub fn is_no_room(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_no_room(source))
    }
}

fn is_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Spool {
    /// True where the folder holds a queue.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn exists(folder: &Path) -> Result<bool, Error> {
        Ok(!segment_files(folder)?.is_empty())
    }

    /// Opens the queue, or begins one at number 1. `limit` is the size in bytes from which [`Self::is_full`].
    ///
    /// # Errors
    /// When a file cannot be read or written, or one before the last is damaged.
    pub fn open(folder: &Path, limit: u64) -> Result<Self, Error> {
        let files = segment_files(folder)?;
        let (mut segments, mut records) = (VecDeque::new(), VecDeque::new());
        let last = files.len().saturating_sub(1);
        let first = files.first().map_or(1, |(first, _)| *first);
        for (index, (number, path)) in files.into_iter().enumerate() {
            let next = first + records.len() as u64;
            if number != next {
                return Err(Error::Gap { folder: folder.to_owned(), from: next, to: number });
            }
            segments.push_back(Segment::recover(path, number, index == last, &mut records)?);
        }
        if segments.is_empty() {
            segments.push_back(Segment::create(folder, first)?);
        }
        Ok(Self { folder: folder.to_owned(), limit, segments, first, records })
    }

    /// Adds the record that `encode` makes from its number; it is on disk on return.
    ///
    /// # Errors
    /// When the disk refuses; then nothing was added.
    pub fn append(&mut self, encode: impl FnOnce(u64) -> Vec<u8>) -> Result<u64, Error> {
        let number = self.next();
        let bytes = encode(number);
        let length = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= MAX_RECORD_BYTES);
        let length = length.ok_or(Error::TooLong(bytes.len()))?;
        if self.last_segment().bytes >= SEGMENT_BYTES {
            self.segments.push_back(Segment::create(&self.folder, number)?);
        }
        let segment = self.segments.back_mut().expect("there is always one");
        let mut record = Vec::with_capacity(HEADER_BYTES + bytes.len());
        record.extend_from_slice(&length.to_le_bytes());
        record.extend_from_slice(&checksum(&bytes));
        record.extend_from_slice(&bytes);
        segment.append(&record)?;
        let offset = segment.bytes - bytes.len() as u64;
        self.records.push_back(Record { segment: segment.first, offset, bytes: length });
        Ok(number)
    }

    /// The record of that number; none where it is acknowledged or not yet there.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(&self, number: u64) -> Result<Option<Vec<u8>>, Error> {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let Some(record) = index.and_then(|index| self.records.get(index)) else { return Ok(None) };
        let Some(segment) = self.segments.iter().find(|segment| segment.first == record.segment) else {
            return Ok(None);
        };
        let mut bytes = vec![0; record.bytes as usize];
        segment.file.read_exact_at(&mut bytes, record.offset).map_err(at(&segment.path))?;
        Ok(Some(bytes))
    }

    /// Forgets all records up to `number`.
    ///
    /// # Errors
    /// When the disk refuses; the records are forgotten all the same.
    pub fn acknowledge(&mut self, number: u64) -> Result<(), Error> {
        let through = number.min(self.next() - 1);
        while self.first <= through {
            self.records.pop_front();
            self.first += 1;
        }
        self.remove_old()?;
        if self.records.is_empty() && self.last_segment().bytes > 0 {
            // The new segment is durable before the old one goes: the numbering is never forgotten.
            match Segment::create(&self.folder, self.first) {
                Ok(segment) => self.segments.push_back(segment),
                // The old one stays until a later acknowledgement finds room.
                Err(error) if error.is_no_room() => tracing::warn!(%error, "acknowledged events stay on the disk"),
                Err(error) => return Err(error),
            }
            self.remove_old()?;
        }
        Ok(())
    }

    /// Removes the segments of which everything is acknowledged, but never the last one.
    fn remove_old(&mut self) -> Result<(), Error> {
        while self.segments.len() > 1 && self.segments[1].first <= self.first {
            if let Some(segment) = self.segments.pop_front() {
                fs::remove_file(&segment.path).map_err(at(&segment.path))?;
            }
        }
        Ok(())
    }

    /// Number of the oldest record kept, or of the next one.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Number that the next record gets.
    pub fn next(&self) -> u64 {
        self.first + self.records.len() as u64
    }

    /// True from the limit on. Records are still taken: what is under way has to be told to its end.
    pub fn is_full(&self) -> bool {
        self.segments.iter().map(|segment| segment.bytes).sum::<u64>() >= self.limit
    }

    fn last_segment(&self) -> &Segment {
        self.segments.back().expect("there is always one")
    }
}

impl Segment {
    fn create(folder: &Path, first: u64) -> Result<Self, Error> {
        let path = folder.join(format!("{first:020}.log"));
        let file = File::options().create_new(true).read(true).append(true).open(&path).map_err(at(&path))?;
        let durable = file.sync_all().and_then(|()| File::open(folder)?.sync_all());
        if let Err(source) = durable {
            // The next try creates it anew.
            if let Err(error) = fs::remove_file(&path) {
                tracing::error!(file = %path.display(), %error, "an empty spool file cannot be removed");
            }
            return Err(at(&path)(source));
        }
        Ok(Self { path, file, first, bytes: 0 })
    }

    /// Reads all records of a file; cuts a torn end off if it is the last file.
    fn recover(path: PathBuf, first: u64, last: bool, records: &mut VecDeque<Record>) -> Result<Self, Error> {
        let mut file = File::options().read(true).append(true).open(&path).map_err(at(&path))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(at(&path))?;
        let mut offset = 0;
        while let Some(length) = record_at(&bytes, offset) {
            let start = offset + HEADER_BYTES;
            records.push_back(Record { segment: first, offset: start as u64, bytes: length });
            offset = start + length as usize;
        }
        if offset < bytes.len() {
            if !last {
                return Err(Error::Damaged { path, offset: offset as u64 });
            }
            tracing::warn!(file = %path.display(), bytes = bytes.len() - offset, "a half-written event is cut off");
            file.set_len(offset as u64).and_then(|()| file.sync_all()).map_err(at(&path))?;
        }
        Ok(Self { path, file, first, bytes: offset as u64 })
    }

    fn append(&mut self, record: &[u8]) -> Result<(), Error> {
        let written = io::Write::write_all(&mut self.file, record).and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            // Half a record must not stand before the next one.
            if let Err(error) = self.file.set_len(self.bytes) {
                tracing::error!(file = %self.path.display(), %error, "a half-written event cannot be cut off");
            }
            return Err(at(&self.path)(source));
        }
        self.bytes += record.len() as u64;
        Ok(())
    }
}

/// The length of the intact record at `offset`.
fn record_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let rest = bytes.get(offset..)?;
    let length = u32::from_le_bytes(rest.get(..4)?.try_into().ok()?);
    let body = rest.get(HEADER_BYTES..)?.get(..length as usize)?;
    (rest.get(4..HEADER_BYTES)? == checksum(body)).then_some(length)
}

fn checksum(bytes: &[u8]) -> [u8; 8] {
    let Digest([a, b, c, d, e, f, g, h, ..]) = Digest::of(bytes);
    [a, b, c, d, e, f, g, h]
}

/// Segment files with the number of their first record, oldest first.
fn segment_files(folder: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
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

#[cfg(test)]
mod tests;
