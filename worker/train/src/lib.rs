//! The training engine: DenseNet and ResNet through burn, on libtorch or on burn's own kernels, one epoch after the other,
//! to the bit.
//!
//! It owns the network, the optimizer, the draws' use and the files of a checkpoint. It knows no credentials, no
//! coordinator and no store: `ceteris-train` is told which local files to read and which folder to write
//! ([`ceteris_shared::trainer`]). This is the only crate that names burn and tch, so that no other build needs libtorch.

pub mod backend;
pub mod bench;
pub mod by_hand;
pub mod checkpoint;
pub mod data;
pub mod engine;
pub mod features;
pub mod files;
pub mod local;
pub mod loss;
pub mod model;
pub mod optimizer;
pub mod serve;
pub mod tensors;
