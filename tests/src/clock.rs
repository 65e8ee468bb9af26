//! Clocks of processes that can be set while they run, by libfaketime, which `CETERIS_TEST_FAKETIME` names. Only the time of
//! day jumps; what measures how long something takes goes on evenly, as it does where an administrator sets a clock.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::skip;

/// What makes clocks of its own.
#[derive(Clone, Debug)]
pub struct Clocks {
    library: PathBuf,
}

impl Clocks {
    /// None, and a line that says so, where the tests are not given the library.
    pub fn find(test: &str) -> Option<Self> {
        let library = env::var_os("CETERIS_TEST_FAKETIME").map(PathBuf::from);
        if library.is_none() {
            skip(test, "CETERIS_TEST_FAKETIME, the path of libfaketime");
        }
        library.map(|library| Self { library })
    }

    /// A machine's clock, which goes right at first; its file is made in `folder`.
    ///
    /// # Panics
    /// When the folder is not writable.
    pub fn make(&self, machine: &str, folder: &Path) -> Clock {
        let clock = Clock { library: self.library.clone(), file: folder.join(format!("{machine}.clock")) };
        clock.set(0);
        clock
    }
}

/// A machine's clock.
#[derive(Clone, Debug)]
pub struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// Has a process, and those that it starts, go by this clock.
    pub fn apply(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("FAKETIME_TIMESTAMP_FILE", &self.file);
        // The file is looked at each time that somebody looks at the clock.
        command.env("FAKETIME_NO_CACHE", "1");
        // As the kernel's: neither stopwatches nor the times of files are touched.
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("NO_FAKE_STAT", "1");
    }

    /// Sets it to so many seconds after the right time; negative: before.
    ///
    /// # Panics
    /// When the folder is not writable.
    pub fn set(&self, seconds: i64) {
        // Whole, or as before: a process may read it meanwhile.
        let aside = self.file.with_extension("aside");
        fs::write(&aside, format!("{seconds:+}\n"))
            .and_then(|()| fs::rename(&aside, &self.file))
            .expect("it is writable");
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        process::Stdio,
        thread,
        time::{Duration, SystemTime},
    };

    use super::*;

    /// Seconds that `date` in a process of this clock is ahead.
    fn ahead(clock: &Clock) -> i64 {
        let mut date = Command::new("date");
        clock.apply(date.arg("+%s").stderr(Stdio::inherit()));
        let output = date.output().expect("there is date");
        let told: i64 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("it is a number");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970");
        told - i64::try_from(now.as_secs()).expect("it is before the year 292,277,026,596")
    }

    #[test]
    fn a_clock_is_set_forward_and_back() {
        let Some(clocks) = Clocks::find("a_clock_is_set_forward_and_back") else { return };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let clock = clocks.make("here", folder.path());
        for seconds in [0, 86_400, -3600] {
            clock.set(seconds);
            assert!((ahead(&clock) - seconds).abs() <= 2, "{} instead of {seconds}", ahead(&clock));
        }
        // A process that runs already.
        let mut python = Command::new("python3");
        clock.apply(python.args(["-c", "import time; time.time(); input(); print(time.time())"]));
        let mut process = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("there is python3");
        thread::sleep(Duration::from_millis(500));
        clock.set(7200);
        process.stdin.take().expect("it is piped").write_all(b"\n").expect("it reads");
        let output = process.wait_with_output().expect("it is a child of this process");
        let told: f64 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("it is a number");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970").as_secs_f64();
        assert!((told - now - 7200.0).abs() < 5.0, "{} s ahead", told - now);
    }
}
