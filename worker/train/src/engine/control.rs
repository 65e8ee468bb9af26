//! What the listening thread tells the training thread: wishes to stop, and answers about features.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use ceteris_shared::{features::FeatureKey, ids::Attempt};

/// What is wished of an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing.
    GoOn,
    /// Stop after the epoch in flight.
    AfterEpoch,
    /// Stop before the next step, with a checkpoint of the last one.
    Now,
}

/// The last wish and the last answer. Each names an execution, so that one that comes late concerns no other.
#[derive(Clone, Debug, Default)]
pub struct Control(Arc<(Mutex<Heard>, Condvar)>);

#[derive(Debug, Default)]
struct Heard {
    wish: Option<(Attempt, Wish)>,
    features: Option<(Attempt, FeatureKey, bool)>,
    /// Nobody answers.
    alone: bool,
}

impl Control {
    /// A control that nobody answers questions on: for executions without an agent.
    pub fn alone() -> Self {
        let control = Self::default();
        control.heard().alone = true;
        control
    }

    /// Asks `attempt` to stop, at once or after its epoch. A wish to stop at once is not taken back.
    pub fn request(&self, attempt: Attempt, now: bool) {
        let mut heard = self.heard();
        if heard.wish != Some((attempt, Wish::Now)) {
            heard.wish = Some((attempt, if now { Wish::Now } else { Wish::AfterEpoch }));
        }
        self.0.1.notify_all();
    }

    /// What is wished of `attempt`.
    pub fn wish(&self, attempt: Attempt) -> Wish {
        self.heard().wish_of(attempt)
    }

    /// Tells `attempt` whether the set `key` is there.
    pub fn answer(&self, attempt: Attempt, key: FeatureKey, found: bool) {
        self.heard().features = Some((attempt, key, found));
        self.0.1.notify_all();
    }

    /// Waits until `attempt` is told whether the set `key` is there. False where nobody answers, or a stop is wished.
    pub(super) fn wait_for(&self, attempt: Attempt, key: FeatureKey) -> bool {
        let mut heard = self.heard();
        loop {
            match heard.features {
                Some((whose, what, found)) if (whose, what) == (attempt, key) => return found,
                _ if heard.alone || heard.wish_of(attempt) == Wish::Now => return false,
                _ => heard = self.0.1.wait(heard).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    fn wish_of(&self, attempt: Attempt) -> Wish {
        self.wish.filter(|(whose, _)| *whose == attempt).map_or(Wish::GoOn, |(_, wish)| wish)
    }
}

#[cfg(test)]
mod tests {
    use ceteris_shared::{digest::Digest, ids::SegmentId};

    use super::*;

    fn attempt(number: u32) -> Attempt {
        Attempt { segment: SegmentId(uuid::Uuid::nil()), number }
    }

    #[test]
    fn a_wish_concerns_one_execution() {
        let control = Control::default();
        assert_eq!(control.wish(attempt(1)), Wish::GoOn);
        control.request(attempt(1), true);
        control.request(attempt(1), false);
        assert_eq!((control.wish(attempt(1)), control.wish(attempt(2))), (Wish::Now, Wish::GoOn));
        control.request(attempt(2), false);
        assert_eq!(control.wish(attempt(2)), Wish::AfterEpoch);
    }

    #[test]
    fn an_answer_is_waited_for_and_concerns_one_question() {
        let keys = [b"one", b"two"].map(|name| FeatureKey(Digest::of(name)));
        let control = Control::default();
        control.answer(attempt(1), keys[0], true);
        assert!(control.wait_for(attempt(1), keys[0]));
        let other = control.clone();
        let waiting = std::thread::spawn(move || other.wait_for(attempt(1), keys[1]));
        control.answer(attempt(2), keys[1], false);
        control.answer(attempt(1), keys[1], true);
        assert!(waiting.join().expect("it does not panic"));
    }

    #[test]
    fn nobody_is_waited_for_in_vain() {
        let key = FeatureKey(Digest::of(b"one"));
        assert!(!Control::alone().wait_for(attempt(1), key));
        let control = Control::default();
        control.request(attempt(1), true);
        assert!(!control.wait_for(attempt(1), key));
    }
}
