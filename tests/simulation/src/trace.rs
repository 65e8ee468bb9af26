//! What happened in a world: a running hash of every line, and the lines themselves as far as they are wanted.

use std::{
    collections::VecDeque,
    fmt::{Arguments, Write as _},
    sync::{Arc, Mutex, PoisonError},
};

use ceteris_shared::digest::{Digest, Hasher};

/// Lines that a failing world shows.
const KEPT: usize = 80;

#[derive(Debug, Default)]
struct Lines {
    hasher: Hasher,
    text: String,
    kept: VecDeque<String>,
    print: bool,
    count: u64,
}

/// The trace of one world; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Trace(Arc<Mutex<Lines>>);

impl Trace {
    /// An empty one; with `print` every line goes to stdout too.
    pub fn new(print: bool) -> Self {
        Self(Arc::new(Mutex::new(Lines { print, ..Lines::default() })))
    }

    /// Adds a line.
    pub fn line(&self, now: u64, what: Arguments<'_>) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Lines { hasher, text, kept, print, count } = &mut *lines;
        text.clear();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:>9}.{:03} {what}", now / 1000, now % 1000);
        hasher.update(text.as_bytes());
        *count += 1;
        if *print {
            print!("{text}");
        }
        let mut oldest = if kept.len() == KEPT { kept.pop_front().unwrap_or_default() } else { String::new() };
        oldest.clear();
        oldest.push_str(text);
        kept.push_back(oldest);
    }

    /// The hash of all lines so far.
    pub fn hash(&self) -> Digest {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).hasher.clone().finish()
    }

    /// How many lines there are.
    pub fn count(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).count
    }

    /// The last lines.
    pub fn last(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).kept.iter().cloned().collect()
    }
}
