//! Documents from made-up records, and the service itself over a real database, object store and driver, with a worker
//! that makes its results up.

mod harness;
mod service;
mod train;
mod view;
