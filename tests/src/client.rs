//! A person's side: `ceteris`, told where coordinators are.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use ceteris_shared::document::{Checkpoints, Document, Experiment, Run};
use serde_json::Value;

use crate::{Images, Program, Spec};

/// Who calls `ceteris`, in a folder of their own.
#[derive(Debug)]
pub struct Client {
    /// Where coordinators are, with commas between.
    pub(crate) urls: String,
    folder: PathBuf,
}

/// What a command left behind.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its exit code.
    pub code: i32,
    /// What it printed as data.
    pub stdout: String,
    /// What else it said.
    pub stderr: String,
}

impl Output {
    /// Itself, if the command succeeded.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Itself, if the command failed as it should: with this code, and in what it says all of `words`.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn refused(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not said in:\n{}", self.stderr);
        }
        assert!(self.stderr.lines().any(|line| line.starts_with("error: ")), "{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// The document on stdout.
    ///
    /// # Panics
    /// When it is not JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in:\n{}\n{}", self.stdout, self.stderr))
    }
}

impl Client {
    /// One that works in `folder` and asks the coordinators at `urls`, which have commas between.
    pub fn new(urls: &str, folder: &Path) -> Self {
        Self { urls: urls.to_owned(), folder: folder.to_owned() }
    }

    /// The folder of everything that it writes.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `ceteris` with these arguments, talking to these coordinators.
    pub fn command(&self) -> Command {
        let mut command = Program::Ceteris.command();
        command.args(["--coordinator", &self.urls]).current_dir(&self.folder);
        command
    }

    /// Runs `ceteris` to its end.
    pub fn ceteris(&self, arguments: &[&str]) -> Output {
        run(self.command().args(arguments))
    }

    /// The document that a command prints.
    #[track_caller]
    pub fn document<D: Document>(&self, arguments: &[&str]) -> D {
        let output = self.ceteris(&[arguments, &["-o", "json"]].concat()).ok();
        D::from_json(&output.stdout).unwrap_or_else(|error| panic!("{error} in:\n{}", output.stdout))
    }

    /// An experiment, by its name.
    #[track_caller]
    pub fn experiment(&self, name: &str) -> Experiment {
        self.document(&["show", name])
    }

    /// The checkpoints of the only run of an experiment.
    #[track_caller]
    pub fn checkpoints(&self, experiment: &str) -> Checkpoints {
        self.document(&["checkpoint", "ls", &self.only_run(experiment).run.to_string()])
    }

    /// The only run of an experiment.
    #[track_caller]
    pub fn only_run(&self, experiment: &str) -> Run {
        let arms = self.experiment(experiment).arms;
        let mut runs = arms.into_iter().flat_map(|arm| arm.runs);
        match (runs.next(), runs.next()) {
            (Some(run), None) => run,
            _ => panic!("{experiment} does not have one run"),
        }
    }

    /// Draws the images and imports them as the specs' data set.
    pub fn import(&self, images: Images) {
        let folder = self.folder.join("images");
        images.write(&folder);
        let (path, size) = (folder.to_string_lossy().into_owned(), images.size.to_string());
        self.ceteris(&["data", "import", &path, "--name", Spec::DATASET, "--image-size", &size]).ok();
    }

    /// Writes text to a file in its folder and returns the path.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.join(name);
        fs::write(&path, text).expect("the test's folder is writable");
        path.to_string_lossy().into_owned()
    }

    /// Submits a spec and does not wait.
    pub fn submit(&self, spec: &Spec<'_>) {
        let path = self.write(&format!("{}.toml", spec.name), &spec.text());
        self.ceteris(&["submit", &path]).ok();
    }

    /// Submits a spec and waits until the experiment has ended well.
    pub fn train(&self, spec: &Spec<'_>) {
        let path = self.write(&format!("{}.toml", spec.name), &spec.text());
        self.ceteris(&["submit", &path, "--follow"]).ok();
    }
}

/// Runs a command to its end.
///
/// # Panics
/// When it does not start, is ended by a signal, or does not print UTF-8.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    let output = command.output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("programs print UTF-8");
    let code = output.status.code().unwrap_or_else(|| panic!("{} of {command:?}", output.status));
    Output { code, stdout: text(output.stdout), stderr: text(output.stderr) }
}
