//! The part of the set-up that other crates use too: the tests train on the same synthetic radiographs as the demo.

pub mod radiographs;
