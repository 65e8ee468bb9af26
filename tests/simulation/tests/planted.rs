//! Planted mistakes are found, every one within a bounded number of seeds.
#![cfg(feature = "planted-bugs")]

use std::collections::BTreeSet;

use ceteris_shared::planted::{self, Bug};
use ceteris_simulation::run;

/// The first seed that finds a mistake.
fn found(bug: Bug, seeds: u64) {
    planted::select(Some(bug));
    for seed in 0..seeds {
        if let Some(violation) = run(seed, false).violation {
            return println!("{} is found by seed {seed}: {violation}", bug.name());
        }
    }
    panic!("{} is not found within {seeds} seeds: {}", bug.name(), bug.sentence());
}

macro_rules! found {
    ($($bug:ident within $seeds:literal,)*) => {
        $(
            #[test]
            #[allow(non_snake_case)]
            fn $bug() {
                found(Bug::$bug, $seeds);
            }
        )*

        #[test]
        fn every_mistake_is_to_be_found() {
            let named: BTreeSet<Bug> = [$(Bug::$bug,)*].into();
            assert_eq!(named, Bug::ALL.iter().copied().collect());
        }
    };
}

found! {
    SpeaksBeforeCommit within 2000,
    RepliesBeforeCommit within 2000,
    GoesOnAfterFailedCommit within 2000,
    SequenceAlone within 2000,
    StaleReportRecorded within 2000,
    OldDisconnectDropsNew within 2000,
    CollectAnswersAll within 2000,
    RefusedSubmissionDropsWork within 2000,
    EpochsOfUnboundTaken within 2000,
    AckBeforeStore within 2000,
    AckOneTooMany within 2000,
    SessionForgetsLast within 2000,
    UnstoredMetricsAcknowledged within 2000,
    MetricsOverwritten within 2000,
    MetricsOfAnyone within 2000,
    LogTwice within 2000,
    SnapshotForgetsPause within 2000,
    SnapshotForgetsCancel within 2000,
    SnapshotForgetsDamage within 2000,
    SnapshotForgetsReplay within 2000,
    WorkerIgnoresRevoke within 2000,
    SpoolNotResent within 2000,
    SpoolForgetsOneMore within 2000,
    SpoolForgetsNumbering within 2000,
    SpoolKeepsTornTail within 2000,
    DrainOutlivesConnection within 2000,
    HeartbeatOnlyOnce within 2000,
    SpooledStopMeansLeaving within 2000,
    StaleAttemptAccepted within 2000,
    OtherWorkerAccepted within 2000,
    StaleSessionAccepted within 2000,
    HeartbeatRenewsNothing within 2000,
    HeartbeatRenewsAnyone within 2000,
    LostBeforeItsTime within 2000,
    AdoptedNotRenewed within 2000,
    RestoredLeaseInPast within 2000,
    LineageNotChecked within 2000,
    OrderNotChecked within 2000,
    RepeatedEpochFails within 2000,
    ReleasedOneEpochEarly within 2000,
    NeverReleased within 2000,
    FailuresNeverReset within 2000,
    StoreFailureIsFinal within 200,
    FailuresNeverCapped within 2000,
    NoBackoff within 2000,
    DeadlineIgnoresBackoff within 2000,
    DeadlineIgnoresLeases within 2000,
    PauseLeavesRunning within 2000,
    PausedIsAssigned within 2000,
    CancelLeavesQueued within 2000,
    StopNotRepeated within 2000,
    BeyondSlots within 2000,
    OtherClassUsed within 2000,
    DamagedResumedFrom within 2000,
    StepOfOtherClassUsed within 2000,
    ReplayCountedTwice within 2000,
    ReplayNotChecked within 2000,
    NeededCollected within 2000,
    RetryLeavesBlocked within 2000,
    RevokeForgotten within 2000,
}
