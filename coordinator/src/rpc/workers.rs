//! The fleet as people see it: who is connected, who was, what each one does, and what of it is not used.

use std::collections::BTreeMap;

use ceteris_scheduler::Drain;
use ceteris_shared::{
    document::{Worker, WorkerAttempt, WorkerState, Workers},
    ids::WorkerId,
};

use super::{Error, Service, moment};
use crate::{driver::LiveWorker, store::WorkerRecord};

/// How many workers an ambiguous reference is answered with.
const SHOWN: usize = 5;

impl Service {
    pub(super) async fn all_workers(&self) -> Result<Workers, Error> {
        let live = self.driver.workers().await?;
        Ok(workers(live, self.store.workers().await?, &self.driver.drains().await?))
    }

    /// Uses a worker, or some of its slots, no more; with `None` all of it again.
    pub(super) async fn drain(&self, reference: &str, drain: Option<Drain>) -> Result<Workers, Error> {
        let known = self.store.workers().await?;
        let worker = find(reference, &known)?;
        if let Some(Drain::Slots(slots)) = &drain
            && let Some(slot) = slots.iter().find(|slot| **slot >= worker.slots)
        {
            return Err(Error::invalid(
                format!("worker {} has no slot {slot}", worker.name),
                format!("it has {}, counted from 0", worker.slots),
            ));
        }
        self.driver.drain(worker.id, drain).await?;
        let mut shown = self.all_workers().await?;
        shown.workers.retain(|shown| shown.id == worker.id);
        Ok(shown)
    }
}

/// The worker with this name, this id or this beginning of one.
fn find<'a>(reference: &str, known: &'a [WorkerRecord]) -> Result<&'a WorkerRecord, Error> {
    let named: Vec<&WorkerRecord> = known.iter().filter(|worker| worker.name == reference).collect();
    let digits = reference.replace('-', "").to_ascii_lowercase();
    let begins = |worker: &&WorkerRecord| worker.id.0.simple().to_string().starts_with(&digits);
    let found = if named.is_empty() { known.iter().filter(begins).collect() } else { named };
    match found[..] {
        [] => Err(Error::Unknown {
            cause: format!("no worker is called {reference:?}, and no worker's id begins so"),
            help: "`ceteris workers` lists those that registered".to_owned(),
        }),
        [worker] => Ok(worker),
        _ => {
            let ids: Vec<String> = found.iter().take(SHOWN).map(|worker| worker.id.short()).collect();
            let cause = format!("{reference:?} means {} workers: {}", found.len(), ids.join(", "));
            Err(Error::invalid(cause, "give the id of one, or more digits of it"))
        }
    }
}

fn workers(live: Vec<LiveWorker>, known: Vec<WorkerRecord>, drains: &BTreeMap<WorkerId, Drain>) -> Workers {
    let mut gone: BTreeMap<WorkerId, WorkerRecord> = known.into_iter().map(|worker| (worker.id, worker)).collect();
    live.iter().for_each(|worker| drop(gone.remove(&worker.id)));
    let mut gone: Vec<Worker> = gone.into_values().map(disconnected).collect();
    gone.sort_by(|a, b| (b.last_seen, &a.name).cmp(&(a.last_seen, &b.name)));
    let mut workers: Vec<Worker> = live.into_iter().map(connected).chain(gone).collect();
    for worker in &mut workers {
        let drain = drains.get(&worker.id);
        worker.drained_slots = drain.map_or(Vec::new(), |drain| drain.slots(worker.slots as usize));
    }
    Workers { workers }
}

fn connected(worker: LiveWorker) -> Worker {
    let attempt = |live: &crate::driver::LiveAttempt| WorkerAttempt {
        attempt: live.attempt,
        epoch: live.progress.map(|progress| progress.epoch),
    };
    Worker {
        attempts: worker.attempts.iter().map(attempt).collect(),
        id: worker.id,
        name: worker.name,
        state: WorkerState::Connected,
        slots: worker.slots,
        version: worker.version,
        environment: worker.environment,
        last_seen: moment(worker.heard_at),
        drained_slots: Vec::new(),
        set_aside_until: worker.set_aside_until.map(moment),
    }
}

fn disconnected(worker: WorkerRecord) -> Worker {
    let WorkerRecord { id, name, version, slots, environment, first_seen: _, last_seen } = worker;
    let (state, attempts, last_seen) = (WorkerState::Disconnected, Vec::new(), moment(last_seen));
    let (drained_slots, set_aside_until) = (Vec::new(), None);
    Worker { id, name, state, slots, attempts, version, environment, last_seen, drained_slots, set_aside_until }
}
