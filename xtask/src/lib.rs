//! The part of the set-up that other crates use too: the tests train on the same synthetic radiographs as the demo, and
//! some of them have an object store of their own, to kill it.

pub mod command;
pub mod radiographs;
pub mod seaweedfs;
