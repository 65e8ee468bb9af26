//! How long to wait before trying again.

use std::time::Duration;

/// The wait before try `failures + 1`: doubles from `first` up to `most`, and is then cut by up to a half, by `entropy`,
/// so that many who failed together do not come back together ("equal jitter": M. Brooker, "Exponential Backoff And
/// Jitter", 2015).
pub(crate) fn delay(failures: u32, first: Duration, most: Duration, entropy: u64) -> Duration {
    let full = first.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX)).min(most);
    full / 2 + (full / 2).mul_f64(entropy as f64 / u64::MAX as f64)
}

/// Entropy for [`delay`].
pub(crate) fn entropy() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn waits_grow_and_stay_bounded(failures: u32, entropy: u64) {
            let (first, most) = (Duration::from_millis(200), Duration::from_secs(30));
            let wait = delay(failures, first, most, entropy);
            proptest::prop_assert!(wait >= first / 2 && wait <= most);
            proptest::prop_assert!(delay(failures, first, most, 0) <= delay(failures.saturating_add(1), first, most, 0));
        }
    }
}
