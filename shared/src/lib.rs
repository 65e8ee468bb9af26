//! What ceteris is about, without any machinery: the spec, the plan, lineage, randomness, statistics and comparison.
//!
//! Everything here is a pure function of its arguments: no I/O, no async, no clock, no entropy. Every other crate
//! depends on this one and it depends on none of them.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod architecture;
pub mod augment;
pub mod checkpoint;
pub mod compare;
pub mod dataset;
pub mod digest;
pub mod document;
pub mod features;
pub mod flops;
pub mod ids;
pub mod lineage;
pub mod plan;
pub mod planted;
pub mod predictions;
pub mod report;
pub mod seed;
pub mod spec;
pub mod stats;
pub mod trainer;
