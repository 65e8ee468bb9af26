//! Processes that end with the test.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
};

use rustix::process::{Pid, kill_process};

pub use rustix::process::Signal;

/// One of the programs under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The command line, and the coordinator.
    Ceteris,
    /// The agent.
    Worker,
    /// The trainer.
    Trainer,
}

impl Program {
    /// Its file's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ceteris => "ceteris",
            Self::Worker => "ceteris-worker",
            Self::Trainer => "ceteris-train",
        }
    }

    /// Where it was built: beside the folder of the running test.
    ///
    /// # Panics
    /// When it was not built.
    pub fn path(self) -> PathBuf {
        let test = env::current_exe().expect("the running test has a path");
        let folder = test.parent().and_then(Path::parent).expect("tests lie in TARGET/PROFILE/deps");
        let path = folder.join(self.name());
        assert!(
            path.is_file(),
            "there is no {}: `cargo xtask test` builds the programs before it tests",
            path.display()
        );
        path
    }

    /// A command that starts it. What the environment says to these programs is taken out, so that a developer's own
    /// settings change no test.
    pub fn command(self) -> Command {
        let mut command = Command::new(self.path());
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("CETERIS_") {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::null());
        command
    }
}

/// A running process whose output goes to a file.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it prints is appended to `log`.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Self {
        let output = File::options().create(true).append(true).open(log).expect("the test's folder is writable");
        let error = output.try_clone().expect("a file can be opened twice");
        let child = command.stdout(output).stderr(error).spawn();
        let child = child.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All it has printed, and whatever ran before it with the same log.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is a child of this process")
    }

    /// Ends it at once: SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it is a child of this process");
    }

    /// Asks it to end and waits until it does.
    pub fn stop(mut self) -> ExitStatus {
        signal(self.id(), Signal::TERM);
        crate::eventually(&format!("{} to stop", self.name), || self.ended())
    }

    /// The ids of its direct children that run `program`.
    pub fn children(&self, program: Program) -> Vec<u32> {
        let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
        processes
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|id| {
                let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
                // PID (NAME) STATE PARENT …; a name has at most 15 characters, ours are shorter. A dead one is no child.
                let Some((head, tail)) = stat.split_once(") ") else { return false };
                let mut fields = tail.split(' ');
                head.ends_with(&format!("({}", program.name()))
                    && fields.next() != Some("Z")
                    && fields.next() == Some(&self.id().to_string())
            })
            .collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- the last lines of {}:", self.name);
            lines[lines.len().saturating_sub(60)..].iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// Sends a signal to a process that may have ended.
///
/// # Panics
/// When `id` is no process id.
pub fn signal(id: u32, signal: Signal) {
    let id = Pid::from_raw(id.cast_signed()).expect("process ids are positive");
    let _ = kill_process(id, signal);
}
