//! The agent, whole: in this process and as its own, against a fake coordinator and a fake trainer.

mod agent;
mod ending;
mod features;
mod process;
mod recovery;
mod room;
mod steps;
mod support;
