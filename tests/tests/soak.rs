//! Fifty faults, one after the other, on a fleet of real processes that trains with libtorch; `cargo xtask soak` does a
//! thousand.

use ceteris_tests::soak::{Options, soak};

#[test]
fn whatever_is_killed_nothing_is_lost_and_the_weights_are_the_same() {
    let options = Options { cycles: 50, seed: 1 };
    let tell = |cycle: &ceteris_tests::soak::Cycle| {
        eprintln!("{:>3}: {}, {:.1} s to the next epoch", cycle.number, cycle.fault.name(), cycle.seconds);
    };
    let Some(outcome) = soak("whatever_is_killed_nothing_is_lost", options, tell) else { return };
    let (experiments, epochs, values) = outcome.done;
    eprintln!("{experiments} experiments of {epochs} epochs with {values} values");
    assert!(epochs >= 50, "each fault is followed by an epoch");
    assert_eq!((outcome.lost, outcome.doubled, outcome.differing), (0, 0, 0), "lost, doubled, differing");
}
