//! The fleet as people see it: who is connected, who was, and what each one does.

use std::collections::BTreeMap;

use ceteris_shared::{
    document::{Worker, WorkerAttempt, WorkerState, Workers},
    ids::WorkerId,
};

use super::{Error, Service, moment};
use crate::{driver::LiveWorker, store::WorkerRecord};

impl Service {
    pub(super) async fn all_workers(&self) -> Result<Workers, Error> {
        let live = self.driver.workers().await?;
        Ok(workers(live, self.store.workers().await?))
    }
}

fn workers(live: Vec<LiveWorker>, known: Vec<WorkerRecord>) -> Workers {
    let mut gone: BTreeMap<WorkerId, WorkerRecord> = known.into_iter().map(|worker| (worker.id, worker)).collect();
    live.iter().for_each(|worker| drop(gone.remove(&worker.id)));
    let mut gone: Vec<Worker> = gone.into_values().map(disconnected).collect();
    gone.sort_by(|a, b| (b.last_seen, &a.name).cmp(&(a.last_seen, &b.name)));
    Workers { workers: live.into_iter().map(connected).chain(gone).collect() }
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
    }
}

fn disconnected(worker: WorkerRecord) -> Worker {
    let WorkerRecord { id, name, version, slots, environment, first_seen: _, last_seen } = worker;
    let (state, attempts, last_seen) = (WorkerState::Disconnected, Vec::new(), moment(last_seen));
    Worker { id, name, state, slots, attempts, version, environment, last_seen }
}
