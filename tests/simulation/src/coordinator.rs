//! One life of a coordinator: the real driver and the real fleet service over the world's store, until it is killed.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use ceteris_coordinator::{
    driver::{Clock, Driver, Failure, Handle, SimulatedTime},
    fleet::Service,
};
use ceteris_scheduler::{Config, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::{
    executor::Tasks,
    oracle::{Oracle, Watcher},
    store::{LifeStore, Shared},
    trace::Trace,
};

/// The object store that workers and coordinator share.
pub const STORE: &str = "simulated";

/// How far a life is.
#[derive(Debug)]
pub enum Stage {
    /// It reads what is stored.
    Restoring,
    /// It works.
    Ready(Handle, Box<Service>),
    /// It ended by itself.
    Ended(Option<Failure>),
}

/// One process of the coordinator.
#[derive(Debug)]
pub struct Life {
    pub number: u64,
    pub tasks: Tasks,
    /// It stands still until then, by the world's time.
    pub stalled_until: u64,
    driver: u64,
    stage: Arc<Mutex<Stage>>,
    stop: CancellationToken,
    time: Arc<SimulatedTime>,
    /// What its clock showed, and the world's time then.
    began: (Timestamp, u64),
    /// How fast its clock runs: of a thousand.
    rate: u64,
    alarm: Option<Timestamp>,
    /// The world's time at which the alarm wakes its driver.
    wakes_at: u64,
}

impl Life {
    /// Starts one whose clock shows `clock` at the world's time `now`.
    #[allow(clippy::too_many_arguments)]
    pub fn start(
        number: u64,
        config: Config,
        heartbeat: Duration,
        shared: &Arc<Shared>,
        oracle: &Oracle,
        trace: &Trace,
        world: &Arc<AtomicU64>,
        (now, clock, rate): (u64, Timestamp, u64),
    ) -> Self {
        let time = Arc::new(SimulatedTime::new(clock));
        let store = Arc::new(LifeStore { shared: Arc::clone(shared), life: number });
        let watcher = Arc::new(Watcher {
            oracle: oracle.clone(),
            life: number,
            store: Arc::clone(&shared.memory),
            trace: trace.clone(),
            now: Arc::clone(world),
        });
        let stage = Arc::new(Mutex::new(Stage::Restoring));
        let stop = CancellationToken::new();
        let mut tasks = Tasks::default();
        let driver = tasks.spawn({
            let (stage, stop, clock) = (Arc::clone(&stage), stop.clone(), Clock::simulated(Arc::clone(&time)));
            let set = move |to| *stage.lock().unwrap_or_else(PoisonError::into_inner) = to;
            async move {
                let (driver, handle) = match Driver::restore(store.clone(), config, clock).await {
                    Ok(restored) => restored,
                    Err(failure) => return set(Stage::Ended(Some(failure))),
                };
                let driver = driver.observed_by(watcher);
                let blobs = STORE.to_owned();
                let service = Service::new(store, handle.clone(), blobs, config.lease, heartbeat, stop.clone());
                set(Stage::Ready(handle, Box::new(service)));
                let ended = driver.run(stop).await;
                set(Stage::Ended(ended.err()));
            }
        });
        Self {
            number,
            tasks,
            stalled_until: 0,
            driver,
            stage,
            stop,
            time,
            began: (clock, now),
            rate,
            alarm: None,
            wakes_at: 0,
        }
    }

    /// Whether it does anything at the world's time `now`.
    pub fn goes_on(&self, now: u64) -> bool {
        self.stalled_until <= now
    }

    /// How far it is.
    pub fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How to reach it, if it works.
    pub fn reach(&self) -> Option<(Handle, Service)> {
        match &*self.stage() {
            Stage::Ready(handle, service) => Some((handle.clone(), (**service).clone())),
            Stage::Restoring | Stage::Ended(_) => None,
        }
    }

    /// Tells it to end in good order.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Moves its clock to where it is at the world's time `now`.
    pub fn tell_time(&self, now: u64) {
        let (clock, then) = self.began;
        self.time.set(Timestamp(clock.0 + (now - then) * self.rate / 1000));
        if self.wakes_at <= now && self.time.alarm().is_some_and(|alarm| alarm <= self.time.now()) {
            self.tasks.wake(self.driver);
        }
    }

    /// What its driver sleeps until.
    pub fn sleeps_until(&self) -> Option<Timestamp> {
        self.time.alarm()
    }

    /// What its clock shows.
    pub fn clock(&self) -> Timestamp {
        self.time.now()
    }

    /// The world's time at which it is woken, where it did not say before that it wants to be: so many milliseconds late.
    pub fn next_alarm(&mut self, late: impl FnOnce() -> u64) -> Option<u64> {
        let (clock, then) = self.began;
        let alarm = self.time.alarm();
        if alarm.is_none() || std::mem::replace(&mut self.alarm, alarm) == alarm {
            return None;
        }
        self.wakes_at = then + (alarm?.0.saturating_sub(clock.0) * 1000).div_ceil(self.rate) + late();
        Some(self.wakes_at)
    }
}
