//! The agent, whole: in this process and as its own, against a fake coordinator and a fake trainer.

mod agent;
mod features;
mod process;
mod steps;
mod support;
