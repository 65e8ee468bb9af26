//! A coordinator and its fleet, simulated: the real scheduler, driver, sessions, protocol and spool, in a world where one
//! seed decides time, order and everything that goes wrong.
//!
//! `world` runs a seed; `coordinator` holds one life of the coordinator, run by `executor` over `store`; `machine` is a
//! worker whose trainers are `execution`; `network` carries what they say. `oracle` knows what must hold. Nothing here
//! has a thread, a wall clock or a map without order, so a seed is a world, and always the same one.

pub mod coordinator;
mod disk;
mod execution;
mod executor;
pub mod experiments;
pub mod machine;
mod network;
pub mod objects;
pub mod oracle;
pub mod random;
pub mod scene;
mod store;
pub mod trace;
mod users;
pub mod weather;
pub mod world;

pub use world::{Outcome, World};

/// Runs the world of a seed; with `print` it writes every line of its trace to stdout.
pub fn run(seed: u64, print: bool) -> Outcome {
    World::of(seed, print).run(seed)
}
