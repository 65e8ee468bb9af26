//! The files of a checkpoint: everything that the next step needs, and nothing of how this one was computed.

use std::path::{Path, PathBuf};

use ceteris_shared::{
    architecture::{Arch, Entry, Part},
    spec::optimization::Optimization,
    trainer::MetricPoint,
};
use serde::{Deserialize, Serialize};

use crate::{
    files,
    optimizer::Optimizer,
    tensors::{Error, Joined, Mapped},
};

/// The largest progress file that is read: a thousand points of some 150 bytes.
const MAX_PROGRESS_BYTES: u64 = 4 << 20;

/// Where the parts of a checkpoint lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// What was frozen.
    pub frozen: PathBuf,
    /// What was trained.
    pub trained: PathBuf,
    /// The optimizer's state.
    pub optimizer: PathBuf,
}

impl Parts {
    /// The parts in a checkpoint's folder.
    pub fn in_folder(folder: &Path) -> Self {
        let file = |role: &str| folder.join(format!("{role}.safetensors"));
        Self { frozen: file("frozen"), trained: file("trained"), optimizer: file("optimizer") }
    }

    /// The whole state of a network.
    ///
    /// # Errors
    /// When a file cannot be read, or a tensor is in both.
    pub fn state(&self) -> Result<Joined, Error> {
        Joined::open(&[&self.frozen, &self.trained])
    }

    /// Reads the optimizer of a network of `arch` with `classes` classes that is trained from `first` on.
    ///
    /// # Errors
    /// When the file does not hold the state of exactly these parameters under these settings.
    pub fn optimizer(
        &self,
        settings: &Optimization,
        arch: Arch,
        first: Part,
        classes: usize,
        device: &burn::tensor::Device,
    ) -> Result<Optimizer, Error> {
        let trained: Vec<Entry> =
            arch.layout(classes).into_iter().filter(|entry| entry.part >= first && entry.is_parameter()).collect();
        Optimizer::from_state(settings, &Mapped::open(&self.optimizer)?, &trained, device)
    }
}

/// What an epoch's figures are so far: the part of a checkpoint within an epoch that is no tensor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Optimizer steps of the epoch that are done.
    pub step: u32,
    /// Sum of the samples' losses.
    pub loss: f64,
    /// Samples seen.
    pub samples: u64,
    /// `step_loss` of the steps so far.
    pub points: Vec<MetricPoint>,
}

/// Why a progress file is refused.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ProgressError {
    #[error(transparent)]
    File(#[from] files::Error),
    #[error("{}: not the progress of an epoch: {cause}", file.display())]
    Malformed { file: PathBuf, cause: String },
}

impl Progress {
    /// Reads the progress of an epoch whose `step` steps are done.
    ///
    /// # Errors
    /// When the file cannot be read, or is of another step.
    pub fn read(file: &Path, step: u32) -> Result<Self, ProgressError> {
        let bytes = files::read(file, MAX_PROGRESS_BYTES)?;
        let malformed = |cause: String| ProgressError::Malformed { file: file.to_owned(), cause };
        let progress: Self = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
        if progress.step != step {
            return Err(malformed(format!("it is of step {}, where step {step} is gone on from", progress.step)));
        }
        Ok(progress)
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and text are plain data")
    }
}
