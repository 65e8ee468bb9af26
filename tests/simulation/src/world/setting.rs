//! How a world is set up.

use super::Fault;
use crate::{experiments, random::Random, weather::Weather};

/// What is decided of a world before it begins.
#[derive(Clone, Debug)]
pub struct Setting {
    pub weather: Weather,
    /// Slots and environment class of each machine.
    pub machines: Vec<(u32, u32)>,
    /// The kind of each experiment, and when it is submitted.
    pub experiments: Vec<(usize, u64)>,
    /// Mean milliseconds between two requests of users.
    pub requests: u64,
    /// Mean milliseconds between two submissions of a plan that contradicts itself, by someone who waits for no answer.
    pub senseless: u64,
    /// Size from which a spool is full.
    pub spool_bytes: u64,
    /// How long coordinators are away between two lives: at least and at most.
    pub away: (u64, u64),
    /// What goes wrong whatever the weather is, and when.
    pub script: Vec<(u64, Fault)>,
}

/// Longer than any world lasts.
const NEVER: u64 = 1 << 40;

impl Setting {
    /// Draws one.
    pub fn draw(random: &Random) -> Self {
        let weather = Weather::draw(random);
        let classes = if random.per_mille(400) { 2 } else { 1 };
        let count = random.between(classes, 6);
        let number = |value: u64| u32::try_from(value).unwrap_or(1);
        let machines = (0..count)
            .map(|index| {
                (number(random.between(1, 3)), number(if index < classes { index } else { random.below(classes) }))
            })
            .collect();
        let experiments = (0..random.between(1, 4))
            .map(|_| (random.index(experiments::VARIANTS), random.below(weather.until / 2)))
            .collect();
        Self {
            machines,
            experiments,
            requests: if random.per_mille(700) { random.between(2_000, 300_000) } else { NEVER },
            senseless: if random.per_mille(300) { random.between(1_000, 10_000) } else { NEVER },
            spool_bytes: if random.per_mille(200) { random.between(2_000, 20_000) } else { 1 << 30 },
            away: (100, random.between(200, 80_000)),
            script: Vec::new(),
            weather,
        }
    }
}
