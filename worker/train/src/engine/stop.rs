//! A wish to stop, set by the thread that listens and read by the thread that trains.

use std::sync::{Arc, Mutex, PoisonError};

use ceteris_shared::ids::Attempt;

/// What is wished of an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing.
    GoOn,
    /// Stop after the epoch in flight.
    AfterEpoch,
    /// Stop before the next step.
    Now,
}

/// The last wish. It names an execution, so that one that comes late does not stop the next.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Mutex<Option<(Attempt, Wish)>>>);

impl Stop {
    /// Asks `attempt` to stop, at once or after its epoch. A wish to stop at once is not taken back.
    pub fn request(&self, attempt: Attempt, now: bool) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != Some((attempt, Wish::Now)) {
            *last = Some((attempt, if now { Wish::Now } else { Wish::AfterEpoch }));
        }
    }

    /// What is wished of `attempt`.
    pub fn wish(&self, attempt: Attempt) -> Wish {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.filter(|(whose, _)| *whose == attempt).map_or(Wish::GoOn, |(_, wish)| wish)
    }
}

#[cfg(test)]
mod tests {
    use ceteris_shared::ids::SegmentId;

    use super::*;

    #[test]
    fn a_wish_concerns_one_execution() {
        let attempt = |number| Attempt { segment: SegmentId(uuid::Uuid::nil()), number };
        let stop = Stop::default();
        assert_eq!(stop.wish(attempt(1)), Wish::GoOn);
        stop.request(attempt(1), true);
        stop.request(attempt(1), false);
        assert_eq!((stop.wish(attempt(1)), stop.wish(attempt(2))), (Wish::Now, Wish::GoOn));
        stop.request(attempt(2), false);
        assert_eq!(stop.wish(attempt(2)), Wish::AfterEpoch);
    }
}
