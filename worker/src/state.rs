//! The agent's folder: who it is, and everything that outlives its process.
//!
//! ```text
//! lock        held while an agent runs
//! worker-id   who it is to the coordinator; its event numbers go with it
//! spool/      events not yet acknowledged
//! cache/      data sets, weights and checkpoints, by digest; no more than its limit
//! features/   what frozen parts of networks give, by key; no more than its limit
//! attempts/   what trainers write; emptied at start, since no trainer outlives its agent for long
//! logs/       what trainers print
//! ```

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use ceteris_shared::ids::WorkerId;
use uuid::Uuid;

use crate::spool::{self, Spool};

/// How long a trainer may take to notice that its agent is gone.
const NOTICES: Duration = Duration::from_secs(30);

/// An open state folder. Only one process has it.
#[derive(Debug)]
pub struct State {
    root: PathBuf,
    worker: WorkerId,
    _lock: File,
}

/// Why a state folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("the state folder {}: {source}; make it writable for this user, or choose another with --state", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("another agent already runs on the state folder {}; give each agent its own with --state", .0.display())]
    Locked(PathBuf),
    #[error(
        "{} does not hold a worker's id although events of one are spooled; restore it, or start with an empty state folder (--state)",
        .0.display()
    )]
    NoId(PathBuf),
    #[error(transparent)]
    Spool(#[from] spool::Error),
}

impl State {
    /// Opens and locks the folder, made if absent, and its spool; throws away what dead trainers left.
    ///
    /// # Errors
    /// When it is not writable, damaged, or another agent's.
    pub fn open(root: &Path, spool_bytes: u64) -> Result<(Self, Spool), Error> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { path, source }
        };
        for folder in ["spool", "cache", "features", "attempts", "logs"] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).map_err(at(&folder))?;
        }
        let root = root.canonicalize().map_err(at(root))?;
        let lock = root.join("lock");
        let file = File::options().create(true).write(true).truncate(false).open(&lock).map_err(at(&lock))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked(root)),
            Err(TryLockError::Error(source)) => return Err(at(&lock)(source)),
        }
        empty(&root.join("attempts")).map_err(at(&root.join("attempts")))?;

        // Event numbers belong to a worker's id: a new spool begins at 1, so it needs a new id, drawn first.
        let (spool_folder, id) = (root.join("spool"), root.join("worker-id"));
        let worker = if Spool::exists(&spool_folder)? {
            let text = fs::read_to_string(&id).map_err(|_| Error::NoId(id.clone()))?;
            text.trim().parse().map_err(|_| Error::NoId(id.clone()))?
        } else {
            let worker = WorkerId(Uuid::new_v4());
            write_durably(&id, &format!("{worker}\n")).map_err(at(&id))?;
            ceteris_crash::here(ceteris_crash::Point::WorkerIdWritten);
            worker
        };
        let spool = Spool::open(&spool_folder, spool_bytes)?;
        Ok((Self { root, worker, _lock: file }, spool))
    }

    /// Who this agent is.
    pub fn worker(&self) -> WorkerId {
        self.worker
    }

    /// Where the cache lies.
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// Where sets of features lie.
    pub fn features(&self) -> PathBuf {
        self.root.join("features")
    }

    /// Where attempts have their folders.
    pub fn attempts(&self) -> PathBuf {
        self.root.join("attempts")
    }

    /// Where what trainers print is kept.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }
}

/// Removes what is in a folder in which a trainer whose agent was killed may write until it has noticed.
fn empty(folder: &Path) -> io::Result<()> {
    let deadline = Instant::now() + NOTICES;
    loop {
        match remove_all(folder) {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound)
                    && Instant::now() < deadline =>
            {
                thread::sleep(Duration::from_millis(20));
            }
            ended => return ended,
        }
    }
}

fn remove_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(())
}

fn write_durably(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut aside = tempfile::NamedTempFile::new_in(folder)?;
    aside.write_all(text.as_bytes())?;
    aside.as_file().sync_all()?;
    aside.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dying_trainer_still_writes_keeps_no_agent_from_starting() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let epoch = folder.path().join("attempts/some-1/epoch-1");
        let (writes, until) = (epoch.clone(), Instant::now() + Duration::from_millis(500));
        let trainer = thread::spawn(move || {
            for number in 0_u32.. {
                // As it is removed meanwhile, this fails now and then.
                let _ = fs::create_dir_all(&writes).and_then(|()| fs::write(writes.join(number.to_string()), ""));
                if Instant::now() > until {
                    return;
                }
            }
        });
        while !epoch.exists() {
            thread::yield_now();
        }
        while !trainer.is_finished() {
            drop(State::open(folder.path(), 1 << 20).expect("it opens"));
        }
        trainer.join().expect("no panic");
    }

    #[test]
    fn an_id_is_kept_and_a_second_agent_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (state, spool) = State::open(folder.path(), 1 << 20).expect("it opens");
        let id = state.worker();
        let refused = State::open(folder.path(), 1 << 20).expect_err("it is locked");
        assert!(refused.to_string().contains("another agent"), "{refused}");
        fs::create_dir(folder.path().join("attempts/left")).expect("a leftover");
        drop((state, spool));

        let (state, spool) = State::open(folder.path(), 1 << 20).expect("it opens again");
        assert_eq!(state.worker(), id);
        assert_eq!(fs::read_dir(state.attempts()).expect("it lists").count(), 0);
        drop((state, spool));

        fs::remove_dir_all(folder.path().join("spool")).expect("the spool is lost");
        let (state, _spool) = State::open(folder.path(), 1 << 20).expect("it opens anew");
        assert_ne!(state.worker(), id, "numbers begin anew, so the worker is another one");
    }

    #[test]
    fn a_spool_without_its_worker_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        drop(State::open(folder.path(), 1 << 20).expect("it opens"));
        fs::write(folder.path().join("worker-id"), "nonsense").expect("it is written");
        assert!(matches!(State::open(folder.path(), 1 << 20), Err(Error::NoId(_))));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let error = State::open(&file.path().join("state"), 1 << 20).expect_err("a file is no folder");
        assert!(error.to_string().contains("choose another with --state"), "{error}");
    }
}
