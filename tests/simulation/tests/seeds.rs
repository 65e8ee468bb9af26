//! Seeds that every change has to pass, and that a seed is one world.

use ceteris_simulation::{Outcome, run};

fn passes(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let Outcome { violation, last, .. } = run(seed, false);
        if let Some(violation) = violation {
            panic!(
                "{}seed {seed}: {violation}\nreplay: cargo run -p ceteris-simulation -- --seed {seed} --trace",
                last.concat()
            );
        }
    }
}

macro_rules! seeds {
    ($($name:ident: $range:expr,)*) => {
        $(
            #[test]
            fn $name() {
                passes($range);
            }
        )*
    };
}

seeds! {
    seeds_to_100: 0..100,
    seeds_to_200: 100..200,
    seeds_to_300: 200..300,
    seeds_to_400: 300..400,
}

#[test]
fn a_seed_is_always_the_same_world() {
    let once: Vec<_> = (0..24).map(|seed| run(seed, false).hash).collect();
    let mut again: Vec<_> = (0..24).rev().map(|seed| run(seed, false).hash).collect();
    again.reverse();
    assert_eq!(once, again);
    let mut different = once.clone();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), once.len(), "no two seeds are the same world");
}
