//! The files of a checkpoint: everything that the next epoch needs, and nothing of how this one was computed.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use ceteris_shared::spec::Optimizer;

use crate::{
    adam::Adam,
    files,
    model::{DenseNet121, Part, layout, split},
    tensors::{Contents, Error, StateDict},
};

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
    /// The parts in an epoch's folder.
    pub fn in_folder(folder: &Path) -> Self {
        let file = |role: &str| folder.join(format!("{role}.safetensors"));
        Self { frozen: file("frozen"), trained: file("trained"), optimizer: file("optimizer") }
    }

    /// Writes a state that was split where training began, and the optimizer's. All three are on disk on return.
    ///
    /// The frozen part is written from what the network holds now, not copied: that its bytes stay the same from epoch to
    /// epoch shows that nothing frozen moved.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, state: StateDict, first: Part, adam: &Adam) -> Result<(), files::Error> {
        let (frozen, trained) = split(state, first);
        let model = |tensors| Contents { tensors, step: None };
        model(frozen).write(&self.frozen)?;
        model(trained).write(&self.trained)?;
        adam.state().write(&self.optimizer)
    }

    /// Reads the network.
    ///
    /// # Errors
    /// When the files are not together the state of a network with `classes` classes.
    pub fn network(&self, classes: usize, device: &Device) -> Result<DenseNet121, Error> {
        let state = Contents::read(&self.frozen)?.tensors.join(Contents::read(&self.trained)?.tensors)?;
        DenseNet121::from_state(&state, classes, device)
    }

    /// Reads the optimizer, for a network with `classes` classes that is trained from `first` on.
    ///
    /// # Errors
    /// When the file does not hold the moments of exactly these parameters.
    pub fn optimizer(&self, settings: Optimizer, first: Part, classes: usize, device: &Device) -> Result<Adam, Error> {
        let trained: Vec<_> = layout(classes).into_iter().filter(|entry| entry.part >= first).collect();
        Adam::from_state(settings, &Contents::read(&self.optimizer)?, &trained, device)
    }
}
