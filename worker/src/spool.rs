//! An append-only queue on disk: numbered records that are durable before they are sent, and kept until acknowledged.
//!
//! Records lie in segment files named by the number of their first record. A record is its length (u32, little endian),
//! the first eight bytes of its SHA-256, and its bytes. What a kill or a power cut leaves half-written at the end of the
//! last segment was never sent, so it is cut off at the next opening. A segment is deleted when all of it is
//! acknowledged; the last one is then replaced by an empty one, whose name remembers the numbering. After a restart some
//! acknowledged records may be sent again: receiving twice changes nothing.

mod folder;

use std::{
    collections::VecDeque,
    fmt, io,
    path::{Path, PathBuf},
};

use ceteris_shared::{digest::Digest, planted};

pub use folder::Folder;

/// A segment that is longer takes no more records.
const SEGMENT_BYTES: u64 = 4 << 20;
/// Bytes before a record's own.
const HEADER_BYTES: usize = 12;
/// Longest record.
pub const MAX_RECORD_BYTES: usize = 16 << 20;

/// Where a queue keeps its segments, each under the number of its first record.
pub trait Disk: fmt::Debug + Send + 'static {
    /// The segments that are there, ascending.
    ///
    /// # Errors
    /// When they cannot be listed.
    fn segments(&self) -> Result<Vec<u64>, Error>;

    /// Begins a segment; it is there for good on return.
    ///
    /// # Errors
    /// When the disk refuses.
    fn create(&mut self, segment: u64) -> Result<(), Error>;

    /// All bytes of a segment that was not used since this was opened.
    ///
    /// # Errors
    /// When it cannot be read.
    fn open(&mut self, segment: u64) -> Result<Vec<u8>, Error>;

    /// Adds bytes to a segment; they are there for good on return.
    ///
    /// # Errors
    /// When the disk refuses; some of them may be there.
    fn append(&mut self, segment: u64, bytes: &[u8]) -> Result<(), Error>;

    /// Fills `bytes` with what is at `offset` of a segment.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&self, segment: u64, offset: u64, bytes: &mut [u8]) -> Result<(), Error>;

    /// Cuts a segment to its first `length` bytes.
    ///
    /// # Errors
    /// When the disk refuses.
    fn cut(&mut self, segment: u64, length: u64) -> Result<(), Error>;

    /// Removes a segment.
    ///
    /// # Errors
    /// When the disk refuses.
    fn remove(&mut self, segment: u64) -> Result<(), Error>;

    /// Where a segment is, for people.
    fn place(&self, segment: u64) -> PathBuf;
}

/// An open queue.
#[derive(Debug)]
pub struct Spool<D = Folder> {
    disk: D,
    limit: u64,
    /// Oldest first; never empty.
    segments: VecDeque<Segment>,
    /// Number of the oldest record kept.
    first: u64,
    /// Where the records are, from `first` on.
    records: VecDeque<Record>,
    /// Whether half a record stands at the end of the last segment.
    torn: bool,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
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
    #[error(
        "event {0} of the spool cannot be read back as it was written: check the disk, and move the state folder away to start anew"
    )]
    Unreadable(u64),
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
        Ok(!Folder::new(folder).segments()?.is_empty())
    }

    /// Opens the queue in a folder, or begins one at number 1. `limit` is the size in bytes from which [`Self::is_full`].
    ///
    /// # Errors
    /// When a file cannot be read or written, or one before the last is damaged.
    pub fn open(folder: &Path, limit: u64) -> Result<Self, Error> {
        Self::on(Folder::new(folder), limit)
    }
}

impl<D: Disk> Spool<D> {
    /// Opens the queue on a disk, or begins one at number 1.
    ///
    /// # Errors
    /// When the disk cannot be read or written, or a segment before the last is damaged.
    pub fn on(mut disk: D, limit: u64) -> Result<Self, Error> {
        let numbers = disk.segments()?;
        let (mut segments, mut records) = (VecDeque::new(), VecDeque::new());
        let last = numbers.len().saturating_sub(1);
        let first = numbers.first().map_or(1, |first| *first);
        for (index, number) in numbers.into_iter().enumerate() {
            let next = first + records.len() as u64;
            if number != next {
                let folder = disk.place(number).parent().map(Path::to_owned).unwrap_or_default();
                return Err(Error::Gap { folder, from: next, to: number });
            }
            segments.push_back(recover(&mut disk, number, index == last, &mut records)?);
        }
        if segments.is_empty() {
            disk.create(first)?;
            segments.push_back(Segment { first, bytes: 0 });
        }
        let first = if planted!(SpoolForgetsNumbering) && records.is_empty() { 1 } else { first };
        Ok(Self { disk, limit, segments, first, records, torn: false })
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
        if self.last_segment().bytes >= SEGMENT_BYTES && !self.torn {
            self.begin_segment(number)?;
        }
        let mut record = Vec::with_capacity(HEADER_BYTES + bytes.len());
        record.extend_from_slice(&length.to_le_bytes());
        record.extend_from_slice(&checksum(&bytes));
        record.extend_from_slice(&bytes);
        let segment = self.segments.back_mut().expect("there is always one");
        // Half a record must not stand before the next one.
        if self.torn {
            self.disk.cut(segment.first, segment.bytes)?;
            self.torn = false;
        }
        if let Err(error) = self.disk.append(segment.first, &record) {
            if let Err(error) = self.disk.cut(segment.first, segment.bytes) {
                tracing::error!(%error, "a half-written event cannot be cut off; no other is written until it can");
                self.torn = true;
            }
            return Err(error);
        }
        segment.bytes += record.len() as u64;
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
        let mut bytes = vec![0; record.bytes as usize];
        self.disk.read(record.segment, record.offset, &mut bytes)?;
        Ok(Some(bytes))
    }

    /// Forgets all records up to `number`.
    ///
    /// # Errors
    /// When the disk refuses; the records are forgotten all the same.
    pub fn acknowledge(&mut self, number: u64) -> Result<(), Error> {
        let number = if planted!(SpoolForgetsOneMore) { number.saturating_add(1) } else { number };
        let through = number.min(self.next() - 1);
        while self.first <= through {
            self.records.pop_front();
            self.first += 1;
        }
        self.remove_old()?;
        if self.records.is_empty() && self.last_segment().bytes > 0 {
            // The new segment is durable before the old one goes: the numbering is never forgotten.
            match self.begin_segment(self.first) {
                Ok(()) => {}
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
                self.disk.remove(segment.first)?;
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

    fn begin_segment(&mut self, first: u64) -> Result<(), Error> {
        self.disk.create(first)?;
        self.segments.push_back(Segment { first, bytes: 0 });
        self.torn = false;
        Ok(())
    }

    fn last_segment(&self) -> &Segment {
        self.segments.back().expect("there is always one")
    }
}

/// Reads all records of a segment; cuts a torn end off if it is the last one.
fn recover(disk: &mut impl Disk, first: u64, last: bool, records: &mut VecDeque<Record>) -> Result<Segment, Error> {
    let bytes = disk.open(first)?;
    let mut offset = 0;
    while let Some(length) = record_at(&bytes, offset) {
        let start = offset + HEADER_BYTES;
        records.push_back(Record { segment: first, offset: start as u64, bytes: length });
        offset = start + length as usize;
    }
    if offset < bytes.len() {
        let path = disk.place(first);
        // What was being written when the machine went down is the last of all.
        let follows = |offset| record_at(&bytes, offset).is_some_and(|length| length > 0);
        if !last || (offset + 1..bytes.len()).any(follows) {
            return Err(Error::Damaged { path, offset: offset as u64 });
        }
        tracing::warn!(file = %path.display(), bytes = bytes.len() - offset, "a half-written event is cut off");
        if planted!(SpoolKeepsTornTail) {
            return Ok(Segment { first, bytes: bytes.len() as u64 });
        }
        disk.cut(first, offset as u64)?;
    }
    Ok(Segment { first, bytes: offset as u64 })
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

#[cfg(test)]
mod tests;
