//! What can happen next in a random schedule.

use ceteris_shared::trainer::FailureCause;
use proptest::prelude::*;

use super::WORKERS;
use crate::{Drain, Sharing};

#[derive(Clone, Debug)]
pub(super) enum Step {
    Submit(u8),
    Cancel(u8),
    Pause(u8),
    Resume(u8),
    Retry(u8),
    Share {
        index: u8,
        sharing: Sharing,
    },
    Drain {
        worker: usize,
        drain: Option<Drain>,
    },
    HandBack {
        worker: usize,
    },
    Connect {
        worker: usize,
        slots: u32,
        threads: u32,
        forget: bool,
        claim: Vec<Pick>,
    },
    Disconnect {
        worker: usize,
        current: bool,
    },
    Heartbeat {
        worker: usize,
        claim: Vec<Pick>,
    },
    Work {
        worker: usize,
        fail: Option<FailureCause>,
    },
    Checkpoint {
        worker: usize,
    },
    Damage {
        worker: usize,
    },
    /// A quarter of all checkpoints.
    Collect(u8),
    Lie {
        worker: usize,
        about: Pick,
        kind: u8,
        epoch: u32,
        right_key: bool,
    },
    Wait(u64),
    Restart,
}

/// Any attempt: of a known segment or of none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pick {
    pub(super) segment: usize,
    pub(super) number: u32,
}

fn pick() -> impl Strategy<Value = Pick> {
    (0usize..18, 0u32..4).prop_map(|(segment, number)| Pick { segment, number })
}

fn sharing() -> impl Strategy<Value = Sharing> {
    (-1i32..2, 1u32..4, prop::option::of(0u32..3), prop::sample::select(vec![0, 8, 16])).prop_map(
        |(priority, weight, max_concurrent, device_memory)| Sharing { priority, weight, max_concurrent, device_memory },
    )
}

fn drain() -> impl Strategy<Value = Option<Drain>> {
    prop_oneof![
        Just(None),
        Just(Some(Drain::Worker)),
        prop::collection::btree_set(0u32..4, 0..3).prop_map(|slots| Some(Drain::Slots(slots)))
    ]
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let cause = prop::option::weighted(
        0.2,
        prop_oneof![
            4 => Just(FailureCause::Infrastructure),
            2 => Just(FailureCause::Store),
            1 => Just(FailureCause::User),
            1 => Just(FailureCause::Diverged)
        ],
    );
    let worker = 0..WORKERS;
    let claims = || prop::collection::vec(pick(), 0..2);
    prop_oneof![
        2 => (0u8..2).prop_map(Step::Submit),
        1 => (0u8..20).prop_map(Step::Cancel),
        2 => (0u8..4).prop_map(Step::Retry),
        2 => (0u8..4).prop_map(Step::Pause),
        1 => (0u8..4).prop_map(Step::Resume),
        4 => (worker.clone(), 0u32..4, 1u32..3, any::<bool>(), claims())
            .prop_map(|(worker, slots, threads, forget, claim)| Step::Connect { worker, slots, threads, forget, claim }),
        1 => (worker.clone(), any::<bool>()).prop_map(|(worker, current)| Step::Disconnect { worker, current }),
        3 => (worker.clone(), claims()).prop_map(|(worker, claim)| Step::Heartbeat { worker, claim }),
        16 => (worker.clone(), cause).prop_map(|(worker, fail)| Step::Work { worker, fail }),
        6 => worker.clone().prop_map(|worker| Step::Checkpoint { worker }),
        4 => worker.clone().prop_map(|worker| Step::Damage { worker }),
        1 => (0u8..4).prop_map(Step::Collect),
        3 => (0u8..4, sharing()).prop_map(|(index, sharing)| Step::Share { index, sharing }),
        2 => (worker.clone(), drain()).prop_map(|(worker, drain)| Step::Drain { worker, drain }),
        1 => worker.clone().prop_map(|worker| Step::HandBack { worker }),
        3 => (worker, pick(), 0u8..8, 0u32..6, any::<bool>())
            .prop_map(|(worker, about, kind, epoch, right_key)| Step::Lie { worker, about, kind, epoch, right_key }),
        3 => (0u64..40_000).prop_map(Step::Wait),
        1 => Just(Step::Restart),
    ]
}
