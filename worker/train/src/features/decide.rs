//! Whether a set of features is kept: bytes against seconds.

use std::fmt;

/// Bytes a second that a set is written and read with, disk and digest included: a modest disk.
const BYTES_PER_SECOND: f64 = 200e6;
/// Share of the folder's limit that one set may take, so that one does not push out all others.
const LARGEST_SHARE: u64 = 2;
/// How much faster reading has to be than computing before keeping pays for its disk.
const WORTH: f64 = 2.0;

/// What a set would cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// How many samples.
    pub samples: usize,
    /// Bytes of one sample's features.
    pub sample_bytes: u64,
    /// Seconds that computing one sample's features took.
    pub sample_seconds: f64,
    /// Bytes that the folder may hold.
    pub limit: u64,
}

/// What is done with a set, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decision {
    /// It is computed once and kept.
    Keep(Estimate),
    /// It is too large for the folder.
    TooLarge(Estimate),
    /// Reading it would take about as long as computing it.
    NotWorth(Estimate),
}

/// Decides about a set.
pub fn decide(estimate: Estimate) -> Decision {
    let bytes = estimate.bytes();
    if bytes > estimate.limit / LARGEST_SHARE {
        Decision::TooLarge(estimate)
    } else if estimate.read_seconds() * WORTH > estimate.compute_seconds() {
        Decision::NotWorth(estimate)
    } else {
        Decision::Keep(estimate)
    }
}

impl Estimate {
    fn bytes(&self) -> u64 {
        self.sample_bytes.saturating_mul(self.samples as u64)
    }

    fn compute_seconds(&self) -> f64 {
        self.sample_seconds * self.samples as f64
    }

    fn read_seconds(&self) -> f64 {
        self.bytes() as f64 / BYTES_PER_SECOND
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Keep(e) | Self::TooLarge(e) | Self::NotWorth(e)) = self;
        let what = format!(
            "features of {} samples, {:.1} MB, {:.1} s to compute and {:.1} s to read",
            e.samples,
            e.bytes() as f64 / 1e6,
            e.compute_seconds(),
            e.read_seconds()
        );
        match self {
            Self::Keep(_) => write!(f, "{what}: computed once and kept"),
            Self::TooLarge(_) => write!(
                f,
                "{what}: computed anew in each epoch, because a set may take half of the folder's limit of {:.1} MB",
                e.limit as f64 / 1e6
            ),
            Self::NotWorth(_) => {
                write!(f, "{what}: computed anew in each epoch, because keeping them would save too little")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Estimate = Estimate { samples: 5000, sample_bytes: 4096, sample_seconds: 0.06, limit: 20_000_000_000 };

    #[test]
    fn small_features_of_a_slow_backbone_are_kept() {
        assert_eq!(decide(HEAD), Decision::Keep(HEAD));
        assert_eq!(
            decide(HEAD).to_string(),
            "features of 5000 samples, 20.5 MB, 300.0 s to compute and 0.1 s to read: computed once and kept"
        );
    }

    #[test]
    fn large_or_cheap_features_are_not() {
        let large = Estimate { limit: 30_000_000, ..HEAD };
        assert_eq!(decide(large), Decision::TooLarge(large));
        let cheap = Estimate { sample_bytes: 800_000, sample_seconds: 0.004, ..HEAD };
        assert_eq!(decide(cheap), Decision::NotWorth(cheap));
        assert!(decide(cheap).to_string().ends_with("keeping them would save too little"));
    }

    #[test]
    fn absurd_sizes_are_only_too_large() {
        let absurd = Estimate { sample_bytes: u64::MAX, ..HEAD };
        assert_eq!(decide(absurd), Decision::TooLarge(absurd));
    }
}
