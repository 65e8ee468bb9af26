//! What must hold, told from outside: the oracle hears what is committed, decided and said, keeps its own simple record
//! of it, and names the first rule that is broken.
//!
//! `decided` judges what the scheduler makes of an event, `applied` what that changes and whether it reaches the store as a
//! whole, `idle` who is given work and who hands it back, `ending` how everything ends. A record runs ahead with what is
//! decided; what is stored is the record as it was at the last commit.

mod applied;
mod brief;
mod decided;
mod ending;
mod idle;
mod leases;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ceteris_scheduler::{CommittedStep, Config, Drain, State, Timestamp};
use ceteris_shared::{
    checkpoint::Environment,
    digest::Digest,
    ids::{Attempt, Epoch, ExperimentId, SegmentId, SessionId, WorkerId},
    lineage::LineageKey,
    plan::Plan,
    spec::EnvironmentRule,
};

pub use decided::Watcher;
pub use ending::Ending;

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {detail}")]
pub struct Violation {
    /// Which: a short name that stays.
    pub rule: &'static str,
    /// Where, and what was seen.
    pub detail: String,
}

/// An epoch and the key of the state after it.
pub type PlannedEpoch = (Epoch, LineageKey);

/// A segment as the oracle knows it.
#[derive(Clone, Debug)]
struct Planned {
    experiment: ExperimentId,
    parent: Option<SegmentId>,
    epochs: Arc<[(Epoch, LineageKey)]>,
    /// How many of them count.
    committed: usize,
    /// The last attempt's number.
    attempts: u32,
    live: Option<Live>,
    state: Option<State>,
    failures: u32,
    losses: u32,
    /// The last checkpoint within an epoch, and whose it is.
    step: Option<(Attempt, CommittedStep)>,
    /// It failed, and is not tried again before then.
    waits: Option<Timestamp>,
}

/// The attempt that has a segment.
#[derive(Clone, Debug)]
struct Live {
    attempt: Attempt,
    worker: WorkerId,
    /// Committed epochs that it still has to train again.
    replays: u32,
    stopping: bool,
    /// Its worker, or some slots of it, was not to be used at some time since it was given to it.
    drained: bool,
}

#[derive(Clone, Debug)]
struct Known {
    plan: Arc<Plan>,
    rule: EnvironmentRule,
    bound: Option<Environment>,
    /// Most of its segments that are trained at once.
    most: Option<u32>,
    cancelled: bool,
    paused: bool,
}

/// A worker's connection as one life of the coordinator has it.
#[derive(Clone, Debug)]
struct Connected {
    session: SessionId,
    slots: u32,
    environment: Environment,
    /// Live attempts that it listed, or was given since.
    here: BTreeSet<Attempt>,
    /// Attempts that it had no more when it connected, and may still tell of.
    over: BTreeSet<Attempt>,
    /// It stopped one of these unasked: it is shutting down.
    leaving: bool,
}

/// What a life of the coordinator keeps in memory, as the oracle follows it.
#[derive(Clone, Debug, Default)]
struct LifeRecord {
    connections: BTreeMap<WorkerId, Connected>,
    /// Until when each live attempt is believed alive.
    until: BTreeMap<Attempt, Timestamp>,
    /// Until when what is queued was to wait when it was stored, and until when it waits by this life's clock.
    waits: BTreeMap<SegmentId, (Timestamp, Timestamp)>,
    restored: bool,
    carried_out: u64,
}

type Point = (&'static str, String, Epoch, u32);

/// What was decided, what is stored, and what is to be stored next.
#[derive(Debug)]
struct Books {
    /// With everything that is decided.
    ahead: Record,
    /// With everything that is committed.
    stored: Record,
    /// What was decided since the last commit.
    pending: Vec<ceteris_scheduler::Change>,
    /// Who reported something on its own connection since then.
    heard: BTreeSet<WorkerId>,
    /// The last event of each worker that is stored.
    taken: BTreeMap<WorkerId, u64>,
    /// Values as they were received first.
    metrics: BTreeMap<Attempt, BTreeMap<Point, u64>>,
    /// Events whose log lines are stored.
    logs: BTreeMap<Attempt, BTreeSet<u64>>,
}

#[derive(Clone, Debug)]
struct Record {
    config: Config,
    violation: Option<Violation>,
    /// The life that may write.
    leader: u64,
    lives: BTreeMap<u64, LifeRecord>,
    experiments: BTreeMap<ExperimentId, Known>,
    segments: BTreeMap<SegmentId, Planned>,
    owners: BTreeMap<Attempt, WorkerId>,
    /// Keys of epochs that were trained again: their checkpoints are known under several names.
    replayed: BTreeSet<LineageKey>,
    damaged: BTreeSet<Digest>,
    collected: BTreeSet<Digest>,
    /// What of workers is not to be used.
    drains: BTreeMap<WorkerId, Drain>,
    /// Where each epoch that counts was trained.
    trained: BTreeMap<(SegmentId, Epoch), Attempt>,
    /// Epochs that count for a segment and were trained for another.
    reused: BTreeMap<(SegmentId, Epoch), SegmentId>,
    /// The first checkpoint of each epoch that counts for a segment.
    manifests: BTreeMap<(SegmentId, Epoch), Digest>,
}

/// The oracle of one world; clones are the same one.
#[derive(Clone, Debug)]
pub struct Oracle(Arc<Mutex<Books>>);

impl Oracle {
    /// One that has seen nothing, of a coordinator with this configuration.
    pub fn new(config: Config) -> Self {
        let record = Record {
            config,
            violation: None,
            leader: 0,
            lives: BTreeMap::new(),
            experiments: BTreeMap::new(),
            segments: BTreeMap::new(),
            owners: BTreeMap::new(),
            replayed: BTreeSet::new(),
            damaged: BTreeSet::new(),
            collected: BTreeSet::new(),
            drains: BTreeMap::new(),
            trained: BTreeMap::new(),
            reused: BTreeMap::new(),
            manifests: BTreeMap::new(),
        };
        Self(Arc::new(Mutex::new(Books {
            ahead: record.clone(),
            stored: record,
            pending: Vec::new(),
            heard: BTreeSet::new(),
            taken: BTreeMap::new(),
            metrics: BTreeMap::new(),
            logs: BTreeMap::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first rule that was broken, if one was.
    pub fn violation(&self) -> Option<Violation> {
        let books = self.lock();
        books.ahead.violation.clone().or(books.stored.violation.clone())
    }

    /// A rule that someone else saw broken.
    pub fn report(&self, rule: &'static str, detail: impl Display) {
        self.lock().ahead.broken(rule, detail);
    }

    /// Only what this life writes counts from now on.
    pub fn lead(&self, life: u64) {
        let mut books = self.lock();
        let books = &mut *books;
        let violation = books.ahead.violation.take().or(books.stored.violation.take());
        books.stored.violation = violation;
        books.stored.leader = life;
        books.stored.lives = BTreeMap::from([(life, LifeRecord::default())]);
        books.ahead = books.stored.clone();
        books.pending.clear();
        books.heard.clear();
    }

    /// An event of a worker was acknowledged.
    pub fn acknowledged(&self, worker: WorkerId, sequence: u64) {
        let mut books = self.lock();
        let taken = books.taken.get(&worker).copied().unwrap_or(0);
        if sequence > taken {
            let detail =
                format!("worker {worker} was told that event {sequence} is stored, but {taken} is the last one");
            books.stored.broken("acknowledged is stored", detail);
        }
    }

    /// The number of the last event of a worker that is stored.
    pub fn taken(&self, worker: WorkerId) -> u64 {
        self.lock().taken.get(&worker).copied().unwrap_or(0)
    }

    /// A worker was told to start an attempt.
    pub fn told_to_start(&self, worker: WorkerId, attempt: Attempt, first: Option<LineageKey>) {
        let mut books = self.lock();
        let record = &mut books.stored;
        match record.owners.get(&attempt) {
            Some(owner) if *owner == worker => {}
            owner => {
                let detail = format!("worker {worker} was told to start {attempt}; stored is {owner:?}");
                return record.broken("committed before said", detail);
            }
        }
        let on_path = first.is_some_and(|first| record.path(attempt.segment).iter().any(|(_, key)| *key == first));
        if !on_path {
            record.broken("work is the plan's", format!("{attempt} begins with an epoch that is not on its path"));
        }
    }

    /// Whether an experiment is stored, and whether it is cancelled and paused.
    pub fn experiment(&self, id: ExperimentId) -> Option<(bool, bool)> {
        self.lock().stored.experiments.get(&id).map(|known| (known.cancelled, known.paused))
    }

    /// Whether a checkpoint is stored as given up.
    pub fn is_collected(&self, manifest: &Digest) -> bool {
        self.lock().stored.collected.contains(manifest)
    }

    /// Whether a worker, or some slots of it, is not to be used.
    pub fn is_drained(&self, worker: WorkerId) -> bool {
        self.lock().stored.drains.contains_key(&worker)
    }

    /// Epochs that an attempt is not to commit where `said` is what it is to commit: the one after the next, and those that
    /// are committed, of its own segment or, where it trains some again, on its whole path. None where something else is
    /// to be stored first.
    pub fn out_of_turn(&self, attempt: Attempt, said: Epoch) -> Vec<(PlannedEpoch, Digest)> {
        let books = self.lock();
        let record = &books.stored;
        let replays = record.live(attempt).map_or(0, |live| live.replays as usize);
        let (mut others, mut at) = (Vec::new(), Some(attempt.segment));
        while let Some((id, own)) = at.and_then(|id| Some((id, record.segments.get(&id)?))) {
            let committed = own.epochs[..own.committed].iter().rev();
            others.extend(committed.filter_map(|epoch| Some((*epoch, *record.manifests.get(&(id, epoch.0))?))));
            at = own.parent.filter(|_| replays > 0);
        }
        let Some(own) = record.segments.get(&attempt.segment) else { return Vec::new() };
        let ahead = |ahead: usize| own.epochs.get(own.committed + ahead).copied();
        let turn = if (1..=others.len()).contains(&replays) { Some(others.remove(replays - 1).0) } else { ahead(0) };
        if turn.is_none_or(|turn| turn.0 != said) {
            return Vec::new();
        }
        others.extend(ahead(1).map(|later| (later, later.1.0)));
        others
    }

    /// An epoch on the way to the end of an attempt's segment, wherever.
    pub fn any_epoch(&self, attempt: Attempt, pick: impl FnOnce(usize) -> usize) -> Option<(Epoch, LineageKey)> {
        let path = self.lock().stored.path(attempt.segment);
        path.get(pick(path.len())).copied()
    }

    /// When the driver of a life has to be woken, by what is stored and what its workers said.
    pub fn next_deadline(&self, life: u64, now: Timestamp) -> Option<Timestamp> {
        let books = self.lock();
        let record = &books.ahead;
        let paused = |own: &Planned| record.experiments.get(&own.experiment).is_some_and(|known| known.paused);
        let until = |id: &SegmentId, stored| record.waits_until(life, *id, stored);
        let life = record.lives.get(&life);
        let delayed = record.segments.iter().filter_map(|(id, own)| match own.state {
            Some(State::Queued { not_before }) if until(id, not_before) > now && !paused(own) => {
                Some(until(id, not_before))
            }
            _ => None,
        });
        let leases = life.into_iter().flat_map(|life| life.until.values().copied());
        delayed.chain(leases).min()
    }

    /// The epoch that comes next for an attempt's segment, and the one after it.
    pub fn next_epochs(&self, attempt: Attempt) -> (Option<PlannedEpoch>, Option<PlannedEpoch>) {
        let books = self.lock();
        let own = books.stored.segments.get(&attempt.segment);
        let at = |ahead: usize| own.and_then(|own| own.epochs.get(own.committed + ahead).copied());
        (at(0), at(1))
    }

    /// The manifest of a committed epoch.
    pub fn manifest(&self, segment: SegmentId, epoch: Epoch) -> Option<Digest> {
        self.lock().stored.manifests.get(&(segment, epoch)).copied()
    }

    /// Manifests of all committed epochs.
    pub fn manifests(&self) -> Vec<Digest> {
        self.lock().stored.manifests.values().copied().collect()
    }

    /// The attempts that have segments, and who has them.
    pub fn live_attempts(&self) -> Vec<(Attempt, WorkerId)> {
        let books = self.lock();
        books
            .stored
            .segments
            .values()
            .filter_map(|segment| segment.live.as_ref())
            .map(|live| (live.attempt, live.worker))
            .collect()
    }

    /// Whether everything that is stored has ended.
    pub fn all_ended(&self) -> bool {
        self.lock().stored.segments.values().all(|segment| segment.state.as_ref().is_some_and(State::is_done))
    }

    /// Experiments of which something failed that trying again can mend.
    pub fn mendable(&self) -> Vec<ExperimentId> {
        let books = self.lock();
        let record = &books.stored;
        let mendable = |segment: &&Planned| ending::is_mendable(segment.state.as_ref());
        let failed: BTreeSet<_> = record.segments.values().filter(mendable).map(|segment| segment.experiment).collect();
        failed.into_iter().filter(|id| record.experiments.get(id).is_some_and(|known| !known.cancelled)).collect()
    }

    /// Experiments that are paused.
    pub fn paused(&self) -> Vec<ExperimentId> {
        let books = self.lock();
        books
            .stored
            .experiments
            .iter()
            .filter(|(_, known)| known.paused && !known.cancelled)
            .map(|(id, _)| *id)
            .collect()
    }

    /// Where everything is, one line a segment, for a world that does not end.
    pub fn states(&self) -> String {
        let books = self.lock();
        let record = &books.stored;
        let open = record.segments.iter().filter(|(_, s)| !s.state.as_ref().is_some_and(State::is_done));
        open.map(|(id, s)| format!("{}: {:?} with {} epochs", id.short(), s.state, s.committed))
            .collect::<Vec<_>>()
            .join("; ")
    }
}

impl Record {
    fn broken(&mut self, rule: &'static str, detail: impl Display) {
        if self.violation.is_none() {
            self.violation = Some(Violation { rule, detail: detail.to_string() });
        }
    }

    fn require(&mut self, holds: bool, rule: &'static str, detail: impl FnOnce() -> String) {
        if !holds {
            self.broken(rule, detail());
        }
    }

    /// Every epoch on the way to the end of a segment.
    fn path(&self, id: SegmentId) -> Vec<(Epoch, LineageKey)> {
        let Some(segment) = self.segments.get(&id) else { return Vec::new() };
        let mut path = segment.parent.map_or(Vec::new(), |parent| self.path(parent));
        path.extend(segment.epochs.iter());
        path
    }

    fn all_committed(&self, id: SegmentId) -> bool {
        self.segments.get(&id).is_some_and(|segment| segment.committed == segment.epochs.len())
    }

    fn held_by(&self, worker: WorkerId) -> usize {
        let live = self.segments.values().filter_map(|segment| segment.live.as_ref());
        live.filter(|live| live.worker == worker).count()
    }
}
