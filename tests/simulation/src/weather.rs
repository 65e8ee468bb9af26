//! What goes wrong in a world, and how often: every seed has its own mixture, and some have next to none of a kind.

use crate::random::Random;

/// Chances and frequencies of faults.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Mean milliseconds between two faults.
    pub every: u64,
    /// Weights of the kinds of faults, in the order of [`Fault::ALL`].
    pub weights: Vec<u64>,
    /// Of a thousand commits: refused.
    pub refused: u64,
    /// Of a thousand commits: made, and reported as failed.
    pub unknown: u64,
    /// Of a thousand commits: slow.
    pub slow: u64,
    /// Of a thousand epochs: the attempt fails for want of something.
    pub infrastructure: u64,
    /// Mean milliseconds by which coordinators wake up late.
    pub late: u64,
    /// Mean milliseconds of a message's way.
    pub latency: u64,
    /// Until when, in milliseconds, faults happen.
    pub until: u64,
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Fault {
    KillCoordinator,
    StopCoordinator,
    TakeOver,
    StallCoordinator,
    BreakStream,
    StallStream,
    CutOff,
    KillAgent,
    StopAgent,
    StallAgent,
    LoseState,
    Damage,
    Lie,
    DamageMany,
    LoseLatest,
}

impl Fault {
    const ALL: [(Self, u64); 15] = [
        (Self::KillCoordinator, 6),
        (Self::StopCoordinator, 2),
        (Self::TakeOver, 3),
        (Self::StallCoordinator, 4),
        (Self::BreakStream, 14),
        (Self::StallStream, 8),
        (Self::CutOff, 5),
        (Self::KillAgent, 8),
        (Self::StopAgent, 6),
        (Self::StallAgent, 8),
        (Self::LoseState, 2),
        (Self::Damage, 6),
        (Self::Lie, 12),
        (Self::DamageMany, 1),
        (Self::LoseLatest, 6),
    ];
}

impl Weather {
    /// Draws one.
    pub fn draw(random: &Random) -> Self {
        let some = |often: u64| if random.per_mille(500) { random.between(1, often) } else { 0 };
        let weights = Fault::ALL.iter().map(|(_, weight)| if random.per_mille(600) { *weight } else { 0 }).collect();
        Self {
            every: random.between(3_000, 90_000),
            weights,
            refused: some(4),
            unknown: some(4),
            slow: if random.per_mille(100) { random.between(200, 700) } else { some(200) },
            infrastructure: if random.per_mille(120) { random.between(300, 900) } else { some(120) },
            late: if random.per_mille(300) { random.between(100, 3_000) } else { random.below(20) },
            latency: random.between(1, 400),
            until: random.between(180_000, 1_500_000),
        }
    }

    /// One in which nothing goes wrong.
    pub fn fair() -> Self {
        Self {
            every: 1 << 40,
            weights: vec![0; Fault::ALL.len()],
            refused: 0,
            unknown: 0,
            slow: 0,
            infrastructure: 0,
            late: 0,
            latency: 20,
            until: 0,
        }
    }

    /// What goes wrong next; none where nothing can.
    pub fn fault(&self, random: &Random) -> Option<Fault> {
        let mut at = random.below(self.weights.iter().sum());
        for ((fault, _), weight) in Fault::ALL.into_iter().zip(&self.weights) {
            match at.checked_sub(*weight) {
                Some(rest) => at = rest,
                None => return Some(fault),
            }
        }
        None
    }

    /// Whether machines may lie in this weather.
    pub fn has_lies(&self) -> bool {
        let index = Fault::ALL.iter().position(|(fault, _)| *fault == Fault::Lie);
        index.and_then(|index| self.weights.get(index)).is_some_and(|weight| *weight > 0)
    }
}
