//! The networks: DenseNet-121, -169 and -201 and ResNet-50 with torchvision's structure, names and numbers.
//!
//! Nothing here knows a device library or a file format. [`Unit`]s say what is computed, on [`Operations`] that a backend
//! gives; [`Network`] holds the tensors and cuts them where training begins.

mod init;
mod network;
mod operations;
mod unit;

pub use init::{head, random};
pub use network::Network;
pub use operations::{EPSILON, MOMENTUM, Mode, Norm, Operations};
pub use unit::{Unit, units};

use ceteris_shared::architecture::{Arch, Part};

use crate::tensors::StateDict;

/// Splits a whole state of `arch` at `first`: what is before it, and it with all after it. A tensor that is none of the
/// network's stays with the former, where a check finds it.
pub fn split(state: StateDict, arch: Arch, classes: usize, first: Part) -> (StateDict, StateDict) {
    let above: std::collections::BTreeSet<String> =
        arch.layout(classes).into_iter().filter(|entry| entry.part >= first).map(|entry| entry.name).collect();
    let (trained, frozen) = state.0.into_iter().partition(|(name, _)| above.contains(name));
    (StateDict(frozen), StateDict(trained))
}
