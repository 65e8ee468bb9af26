//! Mistakes that are planted in the code, to show that the simulation finds them.
//!
//! `planted!(Name)` stands where the mistake would be made. Without the feature `planted-bugs` it is the constant
//! `false`; with it, it is true while exactly this mistake is selected, one for the whole process.

#[cfg(feature = "planted-bugs")]
use std::sync::atomic::{AtomicUsize, Ordering};

macro_rules! bugs {
    ($($name:ident: $sentence:literal,)*) => {
        /// A mistake that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Bug {
            $(#[doc = $sentence] $name,)*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name in the code.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// What it does.
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* }
            }
        }
    };
}

bugs! {
    // Driver.
    SpeaksBeforeCommit: "The driver sends its messages before the commit.",
    RepliesBeforeCommit: "A submission is answered before it is committed.",
    GoesOnAfterFailedCommit: "A failed commit is logged, and the driver goes on.",
    SequenceAlone: "An event's sequence number is committed before, and apart from, what the event leads to.",
    StaleReportRecorded: "The sequence number of an event from a replaced connection is recorded, and the event is not.",
    OldDisconnectDropsNew: "The end of a replaced connection removes the connection that replaced it.",
    CollectAnswersAll: "All checkpoints that were asked for are said to be given up.",
    RefusedSubmissionDropsWork: "What is given to workers at the moment in which a submission is refused is dropped.",
    EpochsOfUnboundTaken: "An experiment that is bound to a class takes epochs that rest on weights of another one.",
    // Sessions.
    AckBeforeStore: "An event is acknowledged before it is stored.",
    AckOneTooMany: "One event more than is stored is acknowledged.",
    SessionForgetsLast: "A new session takes events again that are stored.",
    UnstoredMetricsAcknowledged: "Metrics that could not be stored are acknowledged.",
    // Store.
    MetricsOverwritten: "A measured value that is there already is replaced.",
    MetricsOfAnyone: "Measured values are taken from a worker that never had the attempt.",
    LogTwice: "Log lines that are received twice are stored twice.",
    SnapshotForgetsPause: "A restart resumes what is paused.",
    SnapshotForgetsCancel: "A restart goes on with what is cancelled.",
    SnapshotForgetsDamage: "A restart goes on from checkpoints that are known to be damaged.",
    SnapshotForgetsReplay: "A restart forgets one epoch that is still to be trained again.",
    // Workers.
    WorkerIgnoresRevoke: "A worker goes on with an attempt that is revoked.",
    SpoolNotResent: "What is not acknowledged is not sent again on a new connection.",
    SpoolForgetsOneMore: "The spool forgets one event more than is acknowledged.",
    SpoolForgetsNumbering: "An empty spool begins its numbering anew after a restart.",
    SpoolKeepsTornTail: "Half an event at the end of the spool is left there, before the next one.",
    DrainOutlivesConnection: "A drain that is lifted while the worker is not connected lasts as long as its agent.",
    HeartbeatOnlyOnce: "A connection carries one heartbeat and no more.",
    // Scheduler.
    SpooledStopMeansLeaving: "A worker that started again is given nothing, because its last agent stopped in good order.",
    StaleAttemptAccepted: "An attempt that was superseded may still commit.",
    OtherWorkerAccepted: "A worker may report about an attempt that is another worker's.",
    StaleSessionAccepted: "What a replaced connection says is still taken.",
    HeartbeatRenewsNothing: "A heartbeat does not renew leases.",
    HeartbeatRenewsAnyone: "A heartbeat renews the lease of another worker's attempt.",
    LostBeforeItsTime: "An attempt is lost the moment its worker connects without listing it.",
    AdoptedNotRenewed: "An attempt that is adopted keeps its old lease.",
    RestoredLeaseInPast: "After a restart live attempts have the leases that were stored.",
    LineageNotChecked: "An epoch is committed whatever its lineage key is.",
    OrderNotChecked: "Any epoch of the plan is committed as the next one.",
    RepeatedEpochFails: "An epoch that is committed again ends its attempt.",
    ReleasedOneEpochEarly: "What continues a segment is released before its last epoch.",
    NeverReleased: "What continues a segment waits for ever.",
    FailuresNeverReset: "Failures are counted on through committed epochs.",
    StoreFailureIsFinal: "A segment has failed when the object store was away once.",
    FailuresNeverCapped: "A segment is tried again for ever.",
    NoBackoff: "A segment is tried again at once, however often it failed.",
    DeadlineIgnoresBackoff: "Nobody wakes up when a back-off ends.",
    DeadlineIgnoresLeases: "Nobody wakes up when a lease ends.",
    PauseLeavesRunning: "What is paused goes on to its end.",
    PausedIsAssigned: "What is paused is given to workers after its attempt ends.",
    CancelLeavesQueued: "What is queued when its experiment is cancelled is trained all the same.",
    StopNotRepeated: "A worker that reconnects is not told again to stop.",
    BeyondSlots: "A worker is given one attempt more than it has slots.",
    OtherClassUsed: "An experiment that is bound to an environment class is trained in another one.",
    DamagedResumedFrom: "A checkpoint that is known to be damaged is gone on from.",
    StepOfOtherClassUsed: "A checkpoint within an epoch is gone on from in another environment class.",
    ReplayCountedTwice: "An epoch that is trained again counts as two.",
    ReplayNotChecked: "An epoch that is trained again may be another one.",
    NeededCollected: "A checkpoint that something still goes on from is given up.",
    RetryLeavesBlocked: "Trying again leaves what was blocked as it is.",
    RevokeForgotten: "An attempt that is over is not revoked.",
}

#[cfg(feature = "planted-bugs")]
static SELECTED: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Selects the mistake that is made from now on, or none.
#[cfg(feature = "planted-bugs")]
pub fn select(bug: Option<Bug>) {
    SELECTED.store(bug.map_or(usize::MAX, |bug| bug as usize), Ordering::SeqCst);
}

/// Whether this mistake is being made.
#[cfg(feature = "planted-bugs")]
pub fn is_selected(bug: Bug) -> bool {
    SELECTED.load(Ordering::Relaxed) == bug as usize
}

/// True where a planted mistake is to be made.
#[cfg(feature = "planted-bugs")]
#[macro_export]
macro_rules! planted {
    ($name:ident) => {
        $crate::planted::is_selected($crate::planted::Bug::$name)
    };
}

/// True where a planted mistake is to be made: nowhere, in this build.
#[cfg(not(feature = "planted-bugs"))]
#[macro_export]
macro_rules! planted {
    ($name:ident) => {{
        const _: $crate::planted::Bug = $crate::planted::Bug::$name;
        false
    }};
}
