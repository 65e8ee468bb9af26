//! Why a weights file is refused.

use std::{fmt, path::PathBuf};

use ceteris_shared::architecture::Arch;

use super::{MAX_FILE_BYTES, pickle};

/// The weights cannot be converted.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("the file is larger than the {} MB that are read", MAX_FILE_BYTES >> 20)]
    TooLarge,
    #[error("the file is neither safetensors nor a PyTorch file that torch.save writes (.pth, .pt)")]
    NotWeights,
    #[error("the file is damaged: {0}")]
    Damaged(String),
    #[error("the file is refused: {0}")]
    Pickle(#[from] pickle::Error),
    #[error("the file holds no state dict; save one with torch.save(model.state_dict(), …)")]
    NoStateDict,
    #[error("{0:?} in the state dict is not a tensor")]
    NotATensor(String),
    #[error("{0:?} is in the file twice")]
    Repeated(String),
    #[error("the file was written on a big-endian machine, which is not read; load it there and save as safetensors")]
    BigEndian,
    #[error("the weights are of no network that is known; the nearest is {}, but for {differences}", arch.name())]
    Differ { arch: Arch, differences: Box<Differences> },
    #[error("the file has none of the tensors of {}: it has {}", networks(), some(.0))]
    NoNetwork(Vec<String>),
    #[error("{name:?} holds {dtype}; fp16, bf16, fp32 and fp64 are read")]
    NotFloat { name: String, dtype: String },
    #[error("{0:?} reaches beyond the data that the file holds for it")]
    OutOfBounds(String),
    #[error("{0:?} holds a value that is no finite fp32 number; the weights have diverged or the file is damaged")]
    NotFinite(String),
}

/// How a set of tensors differs from the architecture's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Tensors that the file lacks.
    pub missing: Vec<String>,
    /// Tensors that the architecture does not have.
    pub unexpected: Vec<String>,
    /// Tensors of another shape: name, found, wanted.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl Differences {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.missing.len() + self.unexpected.len() + self.misshapen.len()
    }
}

/// The first few of each kind, with how many there are.
impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shapes: Vec<String> = self
            .misshapen
            .iter()
            .map(|(name, found, wanted)| format!("{name} is {found:?} and not {wanted:?}"))
            .collect();
        let kinds = [("missing", &self.missing), ("unexpected", &self.unexpected), ("of another shape", &shapes)];
        let mut first = true;
        for (kind, names) in kinds.into_iter().filter(|(_, names)| !names.is_empty()) {
            let gap = if first { "" } else { "; " };
            write!(f, "{gap}{} {kind} ({})", names.len(), some(names))?;
            first = false;
        }
        Ok(())
    }
}

/// The first few names.
fn some(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(3).map(String::as_str).collect();
    let more = if names.len() > shown.len() { ", …" } else { "" };
    if shown.is_empty() { "none at all".to_owned() } else { format!("{}{more}", shown.join(", ")) }
}

/// The networks that are known.
fn networks() -> String {
    Arch::ALL.map(Arch::name).join(", ")
}
