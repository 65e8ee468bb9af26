//! The coordinator: the async shell around the scheduler.
//!
//! `driver` decides, commits and speaks; `fleet` is the workers' door and `rpc` the users'; `store` remembers; `serve`
//! puts them on one port.

mod auth;
pub mod config;
pub mod driver;
pub mod fleet;
pub mod rpc;
pub mod serve;
pub mod store;

pub use config::{Config, Token};
pub use serve::{Running, serve, start};
pub use store::Database;
