//! What a slot's trainers print: all of it in a file on this machine, the attempt's part of it, within limits, for the
//! coordinator.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{ChildStderr, ChildStdout},
    sync::watch,
};

use super::lines::Lines;

/// Lines that are remembered for an error's message.
const TAIL_LINES: usize = 8;
/// Lines of one attempt between two collections.
const LINES_AT_ONCE: usize = 500;
/// Bytes of one attempt that reach the coordinator.
const BYTES_PER_ATTEMPT: usize = 4 << 20;
/// Size from which the file is put aside and a new one begun.
const FILE_BYTES: u64 = 16 << 20;

/// A slot's log.
#[derive(Debug)]
pub struct TrainerLog {
    path: PathBuf,
    inner: Mutex<Inner>,
    /// How many of the trainer's streams are still read.
    open_streams: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Inner {
    file: Option<(File, u64)>,
    tail: VecDeque<String>,
    attempt: Option<Collected>,
}

/// The part of the log that an attempt has.
#[derive(Debug, Default)]
struct Collected {
    waiting: Vec<String>,
    taken_bytes: usize,
    dropped: usize,
    /// Its trainer is gone: what comes is another's.
    sealed: bool,
}

impl Collected {
    fn add(&mut self, line: &str) {
        if self.sealed {
            return;
        }
        if self.waiting.len() >= LINES_AT_ONCE || self.taken_bytes + line.len() > BYTES_PER_ATTEMPT {
            self.dropped += 1;
        } else {
            self.taken_bytes += line.len();
            self.waiting.push(line.to_owned());
        }
    }

    fn take(&mut self, file: &Path, last: bool) -> Vec<String> {
        let mut lines = std::mem::take(&mut self.waiting);
        // Once nothing more is taken, one note is enough, and it stands at the end.
        let exhausted = self.taken_bytes + super::lines::MAX_LINE_BYTES > BYTES_PER_ATTEMPT;
        if self.dropped > 0 && (last || !exhausted) {
            lines.push(format!(
                "({} lines left out; all of them are in {} on the worker)",
                self.dropped,
                file.display()
            ));
            self.dropped = 0;
        }
        lines
    }
}

impl TrainerLog {
    /// A log that writes to `path`.
    pub fn new(path: PathBuf) -> Arc<Self> {
        Arc::new(Self { path, inner: Mutex::default(), open_streams: watch::channel(0).0 })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a process's streams until they end.
    pub(super) fn follow(self: &Arc<Self>, stdout: Option<ChildStdout>, stderr: Option<ChildStderr>) {
        if let Some(stdout) = stdout {
            self.read(stdout);
        }
        if let Some(stderr) = stderr {
            self.read(stderr);
        }
    }

    fn read(self: &Arc<Self>, mut stream: impl AsyncRead + Send + Unpin + 'static) {
        let log = Arc::clone(self);
        log.open_streams.send_modify(|open| *open += 1);
        tokio::spawn(async move {
            let (mut lines, mut buffer) = (Lines::default(), vec![0; 16 << 10]);
            while let Ok(bytes @ 1..) = stream.read(&mut buffer).await {
                log.add(&lines.feed(&buffer[..bytes]));
            }
            log.add(lines.finish().as_slice());
            log.open_streams.send_modify(|open| *open -= 1);
        });
    }

    fn add(&self, lines: &[String]) {
        let mut inner = self.lock();
        for line in lines {
            tracing::debug!(target: "trainer", "{line}");
            inner.tail.push_back(line.clone());
            if inner.tail.len() > TAIL_LINES {
                inner.tail.pop_front();
            }
            if let Some(attempt) = &mut inner.attempt {
                attempt.add(line);
            }
        }
        if let Err(error) = self.write(&mut inner, lines) {
            // Training does not end because its log cannot be written.
            tracing::warn!(file = %self.path.display(), %error, "the trainer's log is not written");
            inner.file = None;
        }
    }

    fn write(&self, inner: &mut Inner, lines: &[String]) -> std::io::Result<()> {
        if inner.file.as_ref().is_some_and(|(_, bytes)| *bytes >= FILE_BYTES) {
            inner.file = None;
            fs::rename(&self.path, self.path.with_extension("old.log"))?;
        }
        let mut text = lines.join("\n");
        if text.is_empty() {
            return Ok(());
        }
        text.push('\n');
        if inner.file.is_none() {
            let file = File::options().create(true).append(true).open(&self.path)?;
            let bytes = file.metadata()?.len();
            inner.file = Some((file, bytes));
        }
        if let Some((file, bytes)) = &mut inner.file {
            file.write_all(text.as_bytes())?;
            *bytes += text.len() as u64;
        }
        Ok(())
    }

    /// From now on lines are an attempt's.
    pub(crate) fn begin(&self) {
        self.lock().attempt = Some(Collected::default());
    }

    /// The attempt's lines since the last time.
    pub(crate) fn take(&self) -> Vec<String> {
        self.lock().attempt.as_mut().map(|attempt| attempt.take(&self.path, false)).unwrap_or_default()
    }

    /// From now on lines are no attempt's, though it has not ended: its trainer has.
    pub(crate) fn seal(&self) {
        if let Some(attempt) = &mut self.lock().attempt {
            attempt.sealed = true;
        }
    }

    /// From now on lines are no attempt's; the last ones of the one that ends.
    pub(crate) fn end(&self) -> Vec<String> {
        self.lock().attempt.take().map(|mut attempt| attempt.take(&self.path, true)).unwrap_or_default()
    }

    pub(super) fn clear_tail(&self) {
        self.lock().tail.clear();
    }

    /// The last words of a process that ended, once its streams did too.
    pub(super) async fn farewell(&self, wait: Duration) -> String {
        let mut open = self.open_streams.subscribe();
        // Streams stay open where a grandchild holds them; then what came so far is all.
        let _ = tokio::time::timeout(wait, open.wait_for(|open| *open == 0)).await;
        let text = self.lock().tail.iter().map(String::as_str).collect::<Vec<_>>().join(" | ");
        text.chars().take(2000).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_has_a_bounded_part_and_the_file_has_all() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = TrainerLog::new(folder.path().join("slot-0.log"));
        let lines = |count: usize| vec!["x".repeat(999); count];
        log.add(&lines(1));
        log.begin();
        log.add(&lines(LINES_AT_ONCE + 3));
        let taken = log.take();
        assert_eq!(taken.len(), LINES_AT_ONCE + 1);
        assert!(taken[LINES_AT_ONCE].starts_with("(3 lines left out"), "{}", taken[LINES_AT_ONCE]);

        let mut bytes = 0;
        for _ in 0..20 {
            log.add(&lines(LINES_AT_ONCE));
            bytes += log.take().iter().map(String::len).sum::<usize>();
        }
        assert!(bytes <= BYTES_PER_ATTEMPT, "{bytes}");
        log.add(&lines(1));
        let end = log.end();
        assert!(end.last().is_some_and(|note| note.contains("lines left out")), "{end:?}");
        let written = fs::metadata(folder.path().join("slot-0.log")).expect("the file is there").len();
        assert_eq!(written, 1000 * (2 + LINES_AT_ONCE as u64 * 21 + 3));
    }
}
