//! The store as a life of the coordinator has it: commits are refused, or made and reported as failed, or slow, and none
//! is made any more once another life leads.

use std::{
    collections::{BTreeMap, HashMap},
    future::poll_fn,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Poll, Waker},
};

use async_trait::async_trait;
use ceteris_coordinator::store::{
    Change, DatasetRecord, Error, ExperimentRecord, ExperimentSummary, LogBatch, Memory, References, RunRef,
    SegmentRecord, SeriesPoint, SeriesQuery, Store, TrainedEpoch, WeightsRecord, WorkerRecord,
};
use ceteris_scheduler::Snapshot;
use ceteris_shared::{
    digest::Digest,
    ids::{Attempt, Epoch, ExperimentId, SegmentId, WorkerId},
    lineage::LineageKey,
    trainer::{MetricPoint, Scored},
};

use crate::{oracle::Oracle, random::Random, trace::Trace, weather::Weather};

/// Waits of commits: the world opens each gate in its time.
#[derive(Debug, Default)]
struct Gates {
    next: u64,
    /// Open ones are true.
    gates: BTreeMap<u64, (bool, Option<Waker>)>,
    /// New ones, and how long each stays shut.
    shut: Vec<(u64, u64)>,
}

/// What all lives share: what is stored, and who may write.
#[derive(Debug)]
pub struct Shared {
    pub memory: Arc<Memory>,
    leader: AtomicU64,
    faulty: AtomicBool,
    gates: Mutex<Gates>,
    random: Random,
    weather: Weather,
    oracle: Oracle,
    trace: Trace,
    now: Arc<AtomicU64>,
}

impl Shared {
    pub fn new(random: Random, weather: Weather, oracle: Oracle, trace: Trace, now: Arc<AtomicU64>) -> Self {
        Self {
            memory: Arc::new(Memory::new()),
            leader: AtomicU64::new(0),
            faulty: AtomicBool::new(true),
            gates: Mutex::default(),
            random,
            weather,
            oracle,
            trace,
            now,
        }
    }

    fn gates(&self) -> MutexGuard<'_, Gates> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Only this life writes from now on.
    pub fn lead(&self, life: u64) {
        self.leader.store(life, Ordering::SeqCst);
        self.oracle.lead(life);
    }

    /// Nothing fails from now on.
    pub fn settle(&self) {
        self.faulty.store(false, Ordering::SeqCst);
    }

    /// Gates that were shut since this was asked last, and for how many milliseconds.
    pub fn shut(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.gates().shut)
    }

    /// Whether a transaction is held back.
    pub fn is_held(&self) -> bool {
        self.gates().gates.values().any(|(open, _)| !open)
    }

    /// Opens a gate.
    pub fn open(&self, gate: u64) {
        if let Some((open, waker)) = self.gates().gates.get_mut(&gate) {
            *open = true;
            if let Some(waker) = waker.take() {
                waker.wake();
            }
        }
    }

    async fn wait(&self, milliseconds: u64) {
        if milliseconds == 0 {
            return;
        }
        let gate = {
            let mut gates = self.gates();
            gates.next += 1;
            let gate = gates.next;
            gates.gates.insert(gate, (false, None));
            gates.shut.push((gate, milliseconds));
            gate
        };
        poll_fn(|context| {
            let mut gates = self.gates();
            match gates.gates.get_mut(&gate) {
                Some((true, _)) | None => {
                    gates.gates.remove(&gate);
                    Poll::Ready(())
                }
                Some((false, waker)) => {
                    *waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await;
    }

    fn delay(&self) -> u64 {
        if self.random.per_mille(self.weather.slow) { self.random.wait(400) + 1 } else { 0 }
    }

    fn line(&self, what: std::fmt::Arguments<'_>) {
        self.trace.line(self.now.load(Ordering::SeqCst), what);
    }
}

/// The store of one life.
#[derive(Clone, Debug)]
pub struct LifeStore {
    pub shared: Arc<Shared>,
    pub life: u64,
}

fn failed(cause: &str) -> Error {
    Error::Database { place: PathBuf::from("simulated"), cause: cause.to_owned() }
}

impl LifeStore {
    /// Makes one transaction with `work`, or does what the weather wants instead.
    async fn write<T>(&self, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
        let shared = &self.shared;
        let faulty = || shared.faulty.load(Ordering::SeqCst);
        if faulty() {
            shared.wait(shared.delay()).await;
        }
        if faulty() && shared.random.per_mille(shared.weather.refused) {
            shared.line(format_args!("life {}: a transaction is refused", self.life));
            return Err(failed("the disk is full"));
        }
        if shared.leader.load(Ordering::SeqCst) != self.life {
            shared.line(format_args!("life {}: a transaction is fenced off", self.life));
            return Err(failed("another coordinator leads"));
        }
        let made = work()?;
        if faulty() && shared.random.per_mille(shared.weather.unknown) {
            shared.line(format_args!("life {}: a transaction is made and reported as failed", self.life));
            return Err(failed("the connection broke"));
        }
        if faulty() {
            shared.wait(shared.delay()).await;
        }
        Ok(made)
    }

    fn memory(&self) -> &Memory {
        &self.shared.memory
    }
}

fn now<T>(future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    futures::FutureExt::now_or_never(future).unwrap_or_else(|| Err(failed("memory never waits")))
}

#[async_trait]
impl Store for LifeStore {
    async fn commit(&self, changes: &[Change]) -> Result<(), Error> {
        self.write(|| {
            let made = now(self.memory().commit(changes));
            match &made {
                Ok(()) => self.shared.oracle.committed(self.life, changes),
                Err(error) => self.shared.oracle.report("what is decided can be stored", error),
            }
            made
        })
        .await
    }

    async fn snapshot(&self) -> Result<Snapshot, Error> {
        self.memory().snapshot().await
    }

    async fn trained(&self, keys: &[LineageKey]) -> Result<HashMap<LineageKey, Vec<TrainedEpoch>>, Error> {
        self.memory().trained(keys).await
    }

    async fn references(&self) -> Result<References, Error> {
        self.memory().references().await
    }

    async fn last_sequence(&self, worker: WorkerId) -> Result<u64, Error> {
        self.memory().last_sequence(worker).await
    }

    async fn append_metrics(
        &self,
        worker: WorkerId,
        sequence: u64,
        attempt: Attempt,
        points: &[MetricPoint],
    ) -> Result<bool, Error> {
        self.write(|| {
            let made = now(self.memory().append_metrics(worker, sequence, attempt, points))?;
            self.shared.oracle.measured(worker, sequence, attempt, points);
            Ok(made)
        })
        .await
    }

    async fn append_log(
        &self,
        worker: WorkerId,
        sequence: u64,
        attempt: Attempt,
        lines: &[String],
    ) -> Result<bool, Error> {
        self.write(|| {
            let made = now(self.memory().append_log(worker, sequence, attempt, lines))?;
            self.shared.oracle.logged(worker, sequence, attempt);
            Ok(made)
        })
        .await
    }

    async fn register_dataset(&self, dataset: &DatasetRecord) -> Result<DatasetRecord, Error> {
        self.memory().register_dataset(dataset).await
    }

    async fn datasets(&self) -> Result<Vec<DatasetRecord>, Error> {
        self.memory().datasets().await
    }

    async fn find_dataset(&self, name: &str) -> Result<DatasetRecord, Error> {
        self.memory().find_dataset(name).await
    }

    async fn register_weights(&self, weights: &WeightsRecord) -> Result<WeightsRecord, Error> {
        self.memory().register_weights(weights).await
    }

    async fn weights(&self) -> Result<Vec<WeightsRecord>, Error> {
        self.memory().weights().await
    }

    async fn find_weights(&self, name: &str) -> Result<WeightsRecord, Error> {
        self.memory().find_weights(name).await
    }

    async fn experiments(&self) -> Result<Vec<ExperimentSummary>, Error> {
        self.memory().experiments().await
    }

    async fn find_experiment(&self, text: &str) -> Result<ExperimentRecord, Error> {
        self.memory().find_experiment(text).await
    }

    async fn find_run(&self, text: &str) -> Result<RunRef, Error> {
        self.memory().find_run(text).await
    }

    async fn segments(&self, experiment: ExperimentId) -> Result<Vec<SegmentRecord>, Error> {
        self.memory().segments(experiment).await
    }

    async fn series(&self, query: &SeriesQuery) -> Result<Vec<SeriesPoint>, Error> {
        self.memory().series(query).await
    }

    async fn predictions(&self, segment: SegmentId, epoch: Epoch, scored: &Scored) -> Result<Option<Digest>, Error> {
        self.memory().predictions(segment, epoch, scored).await
    }

    async fn logs(&self, segments: &[SegmentId], after: i64, limit: u32) -> Result<Vec<LogBatch>, Error> {
        self.memory().logs(segments, after, limit).await
    }

    async fn workers(&self) -> Result<Vec<WorkerRecord>, Error> {
        self.memory().workers().await
    }

    async fn close(&self) {}
}
