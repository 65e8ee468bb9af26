//! Progress of what takes long, on stderr: a bar where stderr is a terminal, else a line now and then.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{context::Global, output};

/// Between two lines where no bar is drawn.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things, by their plural.
    Items(&'static str),
    /// Bytes.
    Bytes,
}

/// One thing in progress; cheap to clone and to share between threads.
#[derive(Clone, Debug)]
pub struct Progress {
    bar: ProgressBar,
    lines: Option<Arc<Lines>>,
}

#[derive(Debug)]
struct Lines {
    doing: &'static str,
    unit: Unit,
    done: AtomicU64,
    total: AtomicU64,
    last: Mutex<Instant>,
}

impl Progress {
    /// Begins to tell how far `doing` is.
    pub fn new(global: &Global, doing: &'static str, unit: Unit, total: u64) -> Self {
        if !global.draws() {
            let lines = (!global.quiet).then(|| {
                Arc::new(Lines {
                    doing,
                    unit,
                    done: AtomicU64::new(0),
                    total: AtomicU64::new(total),
                    last: Mutex::new(Instant::now()),
                })
            });
            return Self { bar: ProgressBar::hidden(), lines };
        }
        let counts = match unit {
            Unit::Items(plural) => format!("{{pos}}/{{len}} {plural}"),
            Unit::Bytes => "{binary_bytes}/{binary_total_bytes}".to_owned(),
        };
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        bar.set_style(style(&format!("{{msg}} [{{bar:30}}] {counts}, {{eta}} left")));
        bar.set_message(doing);
        Self { bar, lines: None }
    }

    /// This much is done of that much.
    pub fn set(&self, done: u64, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
        if let Some(lines) = &self.lines {
            lines.total.store(total, Ordering::Relaxed);
            lines.done.store(done, Ordering::Relaxed);
            lines.tell();
        }
    }

    /// So much more is done.
    pub fn add(&self, more: u64) {
        self.bar.inc(more);
        if let Some(lines) = &self.lines {
            lines.done.fetch_add(more, Ordering::Relaxed);
            lines.tell();
        }
    }

    /// It is over; the bar goes away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Lines {
    fn tell(&self) {
        // Another thread that is telling is enough.
        let Ok(mut last) = self.last.try_lock() else { return };
        if last.elapsed() < LINE_EVERY {
            return;
        }
        *last = Instant::now();
        let (done, total) = (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        match self.unit {
            Unit::Items(plural) => eprintln!("{}: {done} of {total} {plural}", self.doing),
            Unit::Bytes => eprintln!("{}: {} of {}", self.doing, output::bytes(done), output::bytes(total)),
        }
    }
}

/// A bar's style from a template of this crate.
pub fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("templates are this crate's own").progress_chars("=> ")
}
