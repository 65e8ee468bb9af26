//! The agent of a machine that trains: takes attempts from the coordinator, has its trainers execute them, and sees to
//! it that nothing they did is lost.
//!
//! [`agent`] wires the parts together. [`session`] is the one connection to the coordinator and the outbox behind it;
//! [`spool`] keeps events on disk until they are acknowledged. Each [`slot`] executes one attempt at a time: it fetches
//! and verifies the inputs ([`cache`]), tells its trainer process what to do ([`launcher`]), and stores what comes out;
//! what frozen parts of networks give is kept and shared (`features`).
//! The agent links no libtorch and trains nothing itself; whatever a trainer does to its process is an exit status here.

pub mod agent;
pub mod attempts;
mod backoff;
pub mod cache;
pub mod config;
mod features;
pub mod launcher;
mod memory;
pub mod session;
mod slot;
pub mod spool;
pub mod state;

pub use agent::{Asked, Error, run};
pub use config::Config;
