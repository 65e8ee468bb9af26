//! The harness of the end-to-end suite: the real programs, as processes, on synthetic radiographs.
//!
//! A [`Cluster`] is a coordinator and workers with folders of their own, a [`Fleet`] all that a lab has; everything it starts ends with it, and when a
//! test fails, what they logged is printed. Faults are real: processes are killed with SIGKILL. Nothing here knows how
//! the programs work inside; it uses their command lines, exit codes and JSON, as a person's script would.
//!
//! A test that cannot run says `skipped: NAME needs …` on stderr and returns.

mod client;
mod clock;
mod cluster;
mod fleet;
mod material;
mod postgres;
mod process;
mod proxy;
pub mod soak;
mod standby;
mod trace;
mod work;

pub use client::{Client, Output, run};
pub use clock::{Clock, Clocks};
pub use cluster::{Cluster, Place, Unusual};
pub use fleet::Fleet;
pub use material::{Images, Spec};
pub use postgres::Database;
pub use process::{Process, Program, Signal, signal};
pub use proxy::{Direction, Proxy};
pub use standby::{Coordinator, Settings, free_address};
pub use trace::Trace;
pub use work::Work;

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long anything may take that ends by itself. Generous: machines are shared, and OpenMP suffers.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// Asks until there is an answer.
///
/// # Panics
/// When there is none after [`PATIENCE`], saying what was waited for.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {} s in vain for {what}", PATIENCE.as_secs());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Says that a test is not run, and why.
pub fn skip(test: &str, needs: &str) {
    eprintln!("skipped: {test} needs {needs}");
}
