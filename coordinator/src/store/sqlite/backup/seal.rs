//! What tells a backup from any other SQLite file, and a whole one from one that is damaged.
//!
//! SQLite does not notice a changed digit in a row, so the first eight bytes of the file's SHA-256 stand in two fields of
//! its header that SQLite leaves to applications; they are zero in what is hashed, and in what is restored.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

use ceteris_shared::digest::{Digest, Hasher};

use super::{super::writer::beside, Error, doing};

const MAGIC: &[u8] = b"SQLite format 3\0";
/// Length of SQLite's header.
const HEADER: usize = 100;
/// Where the header has the size of a page (2 bytes, 1 for 65536) and the number of pages (4), big-endian.
const PAGE_SIZE: usize = 16;
const PAGES: usize = 28;
/// Where it has `user_version` and `application_id`, four bytes each: they hold the seal.
const SEAL: [usize; 2] = [60, 68];
/// Writes the seal into a file that has none.
pub(super) fn seal(place: &Path) -> Result<(), Error> {
    let (digest, _) = digest(place, |_| Ok(()))?;
    let file = File::options().write(true).open(place).map_err(doing("write", place))?;
    for (at, bytes) in SEAL.iter().zip(digest.0.chunks(4)) {
        file.write_all_at(bytes, *at as u64).map_err(doing("write", place))?;
    }
    file.sync_all().map_err(doing("write", place))
}

/// Holds a backup against its seal; returns its length.
pub(super) fn check(place: &Path) -> Result<u64, Error> {
    let no_backup = |what: &str| Error::NoBackup { place: place.to_owned(), what: what.to_owned() };
    let damaged = |what: &str| Error::Damaged { place: place.to_owned(), what: what.to_owned() };
    if !place.is_file() {
        return Err(no_backup("it is no file"));
    }
    let log = beside(place, "-wal");
    if fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
        return Err(no_backup("a log lies beside it, as beside a database that is used"));
    }
    let mut header = [0; HEADER];
    let file = File::open(place).map_err(doing("read", place))?;
    if file.read_exact_at(&mut header, 0).is_err() || !header.starts_with(MAGIC) {
        return Err(no_backup("it is no SQLite file"));
    }
    let sealed: Vec<u8> = SEAL.iter().flat_map(|&at| header[at..at + 4].to_vec()).collect();
    if sealed == [0; 8] {
        return Err(no_backup("it has no seal"));
    }
    let (digest, bytes) = digest(place, |_| Ok(()))?;
    let page = match u16::from_be_bytes([header[PAGE_SIZE], header[PAGE_SIZE + 1]]) {
        1 => 65_536,
        size => u64::from(size),
    };
    let pages = u32::from_be_bytes([header[PAGES], header[PAGES + 1], header[PAGES + 2], header[PAGES + 3]]);
    if page * u64::from(pages) != bytes {
        return Err(damaged("its length is another one than its first bytes say"));
    }
    if digest.0[..8] != sealed[..] {
        return Err(damaged("its bytes do not fit its seal"));
    }
    Ok(bytes)
}

/// Copies a backup without its seal, to the disk.
pub(super) fn unsealed(backup: &Path, to: &Path) -> Result<(), Error> {
    let mut copy = File::create(to).map_err(doing("write", to))?;
    digest(backup, |bytes| copy.write_all(bytes).map_err(doing("write", to)))?;
    copy.sync_all().map_err(doing("write", to))
}

/// The digest of a file, its seal taken for zeros, and its length. `also` gets what is hashed.
fn digest(place: &Path, mut also: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(Digest, u64), Error> {
    let mut file = File::open(place).map_err(doing("read", place))?;
    let (mut hasher, mut length) = (Hasher::default(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read(&mut buffer[filled..]).map_err(doing("read", place))? {
                0 => break,
                more => filled += more,
            }
        }
        if filled == 0 {
            return Ok((hasher.finish(), length));
        }
        if length == 0 {
            for at in SEAL.into_iter().flat_map(|at| at..at + 4).filter(|at| *at < filled) {
                buffer[at] = 0;
            }
        }
        hasher.update(&buffer[..filled]);
        also(&buffer[..filled])?;
        length += filled as u64;
    }
}
