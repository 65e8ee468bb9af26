//! The parts of the `ceteris` command that are worth testing and reusing without a terminal: reading images into a
//! packed data set and reading weights files. Neither talks to a coordinator; what they make is uploaded by commands.

pub mod import;
pub mod weights_file;
