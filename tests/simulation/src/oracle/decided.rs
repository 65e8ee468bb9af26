//! What the scheduler makes of an event, as one life of the coordinator decides it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use ceteris_coordinator::{
    driver::Observer,
    store::{Memory, Store as _},
};
use ceteris_scheduler::{
    AttemptEnd, Change, CommittedEpoch, CommittedStep, Effect, Event, Message, Report, SavedSegment, Scheduler,
    Snapshot, Start, State, Timestamp,
};
use ceteris_shared::{
    digest::Digest,
    ids::{Attempt, SegmentId, SessionId, WorkerId},
    spec::EnvironmentRule,
};
use futures::FutureExt as _;

use super::{
    Oracle, Record,
    brief::{Brief, BriefEffect},
};
use crate::trace::Trace;

/// How often what the scheduler knows is compared with what is stored: it costs more than all other rules together.
const COMPARED_EVERY: u64 = 24;

/// Watches the driver of one life.
#[derive(Debug)]
pub struct Watcher {
    pub oracle: Oracle,
    pub life: u64,
    pub store: Arc<Memory>,
    pub trace: Trace,
    /// The world's time, for the trace.
    pub now: Arc<std::sync::atomic::AtomicU64>,
}

impl Watcher {
    fn line(&self, what: fmt::Arguments<'_>) {
        self.trace.line(self.now.load(std::sync::atomic::Ordering::SeqCst), what);
    }
}

impl Observer for Watcher {
    fn decided(&self, now: Timestamp, event: &Event, effects: &[Effect], scheduler: &Scheduler) {
        self.line(format_args!("life {} at {} {}", self.life, now.0, Brief(event)));
        for effect in effects {
            self.line(format_args!("    {}", BriefEffect(effect)));
        }
        let mut books = self.oracle.lock();
        let books = &mut *books;
        let record = &mut books.ahead;
        if record.leader != self.life {
            return;
        }
        if let Err(violation) = scheduler.check_invariants() {
            record.broken("the scheduler's invariants", violation);
        }
        if let Event::AttemptReported { worker, session, .. } = event
            && record.is_current(self.life, *worker, *session)
        {
            books.heard.insert(*worker);
        }
        record.decided(self.life, now, event, effects);
        let changes = effects.iter().filter_map(|effect| match effect {
            Effect::Persist(change) => Some(change.clone()),
            _ => None,
        });
        let changes: Vec<Change> = changes.collect();
        if let Event::ExperimentSubmitted(submission) = event
            && changes.iter().any(|change| matches!(change, Change::SegmentAdded { .. }))
        {
            record.submit(submission);
        }
        record.apply(self.life, &changes);
        books.pending.extend(changes);
        let known: BTreeMap<WorkerId, SessionId> = scheduler.connections().collect();
        record.check_connections(self.life, &known, "scheduler");
        record.check_idle(self.life, now, |worker| scheduler.set_aside_until(worker).is_some());
    }

    fn carried_out(&self, now: Timestamp, scheduler: &Scheduler, connections: &[(WorkerId, SessionId)]) {
        let mut books = self.oracle.lock();
        let unmade = !books.pending.is_empty();
        let record = &mut books.ahead;
        if record.leader != self.life {
            return;
        }
        record.require(!unmade, "one event is one transaction", || "what was decided is not stored".to_owned());
        let lease = now.after(record.config.lease);
        let Some(life) = record.lives.get_mut(&self.life) else { return };
        let first = !std::mem::replace(&mut life.restored, true);
        life.carried_out += 1;
        let compared = first || life.carried_out.is_multiple_of(COMPARED_EVERY);
        let known = connections.iter().copied().collect();
        record.check_connections(self.life, &known, "driver");
        if compared {
            let Some(Ok(snapshot)) = self.store.snapshot().now_or_never() else { return };
            record.compare(scheduler, &snapshot);
        }
        if first {
            record.restored(self.life, scheduler, lease);
            let waits = record.lives.get(&self.life).map(|life| life.waits.clone()).unwrap_or_default();
            books.stored.lives.entry(self.life).or_default().waits = waits;
        }
    }
}

impl Record {
    fn check_connections(&mut self, life: u64, known: &BTreeMap<WorkerId, SessionId>, whose: &str) {
        let Some(life) = self.lives.get(&life) else { return };
        let expected: BTreeMap<_, _> = life.connections.iter().map(|(worker, open)| (*worker, open.session)).collect();
        self.require(expected == *known, "connections are the workers' last ones", || {
            format!("the {whose} has {known:?} where {expected:?} are open")
        });
    }

    /// What the scheduler knows is what is stored.
    fn compare(&mut self, scheduler: &Scheduler, snapshot: &Snapshot) {
        let stored = snapshot.experiments.iter().flat_map(|experiment| {
            experiment.submission.plan.segments.iter().map(|segment| segment.id).zip(&experiment.segments)
        });
        let stored: BTreeMap<SegmentId, &SavedSegment> = stored.collect();
        let mut count = 0;
        for (id, live) in scheduler.saved() {
            count += 1;
            let Some(stored) = stored.get(&id) else {
                return self.broken("the store is the scheduler's", format!("{id} is not stored"));
            };
            let (mut live, stored) = (self.comparable(id, live), self.comparable(id, (*stored).clone()));
            // What a clock that was ahead wrote is waited for no longer than by this one.
            if let (State::Queued { not_before: own }, State::Queued { not_before }) = (&mut live.state, &stored.state)
            {
                *own = (*own).max(*not_before);
            }
            self.require(live == stored, "the store is the scheduler's", || {
                format!("{id} is stored as {stored:?}, and is {live:?}")
            });
        }
        self.require(count == stored.len(), "the store is the scheduler's", || "more is stored".to_owned());
        for experiment in &snapshot.experiments {
            let id = experiment.submission.experiment;
            let known = (scheduler.is_cancelled(id), scheduler.is_paused(id));
            let stored = (Some(experiment.cancelled), experiment.paused);
            self.require(known == stored, "the store is the scheduler's", || {
                format!("experiment {id} is stored as {stored:?}, and is {known:?} (cancelled, paused)")
            });
        }
    }

    /// Leases are not stored, and what was trained again may be known by either checkpoint.
    fn comparable(&self, id: SegmentId, mut saved: SavedSegment) -> SavedSegment {
        match &mut saved.state {
            State::Assigned { lease, .. } | State::Running { lease, .. } => *lease = Timestamp(0),
            State::Stopping { deadline, .. } => *deadline = Timestamp(0),
            State::Waiting { .. } | State::Queued { .. } | State::Done(_) => saved.replays = 0,
        }
        let Some(own) = self.segments.get(&id) else { return saved };
        let rule = self.experiments.get(&own.experiment).map(|known| known.rule);
        for ((_, key), epoch) in own.epochs.iter().zip(&mut saved.committed) {
            if self.replayed.contains(key) {
                (epoch.manifest, epoch.replayed) = (Digest([0; 32]), false);
                // In another class other weights come out, which count until the coordinator starts anew.
                epoch.weights = epoch.weights.filter(|_| rule == Some(EnvironmentRule::Same));
            }
        }
        let next = own.epochs.get(saved.committed.len()).map(|(epoch, _)| *epoch);
        saved.step = saved.step.filter(|step| Some(step.epoch) == next);
        saved
    }

    fn decided(&mut self, life: u64, now: Timestamp, event: &Event, effects: &[Effect]) {
        self.check_told(life, event, effects);
        match event {
            Event::WorkerConnected(connected) => self.connect(life, now, connected),
            Event::WorkerDisconnected { worker, session } => {
                let Some(life) = self.lives.get_mut(&life) else { return };
                if life.connections.get(worker).is_some_and(|open| open.session == *session) {
                    life.connections.remove(worker);
                }
            }
            Event::Heartbeat { worker, session, running } => {
                let current = self.is_current(life, *worker, *session);
                let renewed = running.iter().filter(|_| current);
                renewed.for_each(|attempt| self.renew(life, now, *worker, *attempt));
            }
            Event::HeldUp => {
                let until = now.after(self.config.lease);
                if let Some(life) = self.lives.get_mut(&life) {
                    life.until.values_mut().for_each(|lease| *lease = until);
                }
            }
            Event::AttemptReported { worker, session, attempt, report } => {
                self.renew_over(life, now, *worker, *session);
                self.check_report(life, (*worker, *session), *attempt, report, effects);
            }
            _ => {}
        }
        for effect in effects {
            match effect {
                Effect::Persist(change) => self.check_change(life, now, event, change),
                Effect::Send { message: Message::Start(start), .. } => self.check_start(start),
                Effect::Send { .. } | Effect::Reject(_) => {}
            }
        }
        if *event == Event::Tick {
            let Some(record) = self.lives.get(&life) else { return };
            let late = record.until.iter().find(|(_, until)| **until <= now).map(|(attempt, _)| *attempt);
            if let Some(late) = late {
                self.broken("leases end", format!("{late} is believed alive, and its lease is over"));
            }
        }
    }

    /// Who speaks of an attempt that is over is told so, and who comes back with one that is to stop is told again.
    fn check_told(&mut self, life: u64, event: &Event, effects: &[Effect]) {
        let (worker, about, connects) = match event {
            Event::WorkerConnected(connected) => (connected.worker, connected.running.clone(), true),
            Event::Heartbeat { worker, session, running } if self.is_current(life, *worker, *session) => {
                (*worker, running.clone(), false)
            }
            Event::AttemptReported { worker, session, attempt, .. } if self.is_current(life, *worker, *session) => {
                (*worker, vec![*attempt], false)
            }
            _ => return,
        };
        for attempt in about {
            let told = |wanted: fn(&Message) -> Option<Attempt>| {
                effects.iter().any(|effect| match effect {
                    Effect::Send { worker: to, message, .. } => *to == worker && wanted(message) == Some(attempt),
                    _ => false,
                })
            };
            let live = self.live(attempt).filter(|live| live.worker == worker).map(|live| live.stopping);
            let revoked = told(|message| match message {
                Message::Revoke { attempt, .. } => Some(*attempt),
                _ => None,
            });
            let stopped = told(|message| match message {
                Message::Stop(attempt) => Some(*attempt),
                _ => None,
            });
            self.require(live.is_some() || revoked, "what is over is revoked", || {
                format!("{worker} speaks of {attempt}, which is not its own, and is not told")
            });
            self.require(!connects || live != Some(true) || stopped, "a stop is said again", || {
                format!("{worker} comes back with {attempt}, which is to stop, and is not told")
            });
        }
    }

    pub(super) fn is_current(&self, life: u64, worker: WorkerId, session: SessionId) -> bool {
        let open = self.lives.get(&life).and_then(|life| life.connections.get(&worker));
        open.is_some_and(|open| open.session == session)
    }

    pub(super) fn live(&self, attempt: Attempt) -> Option<&super::Live> {
        self.segments.get(&attempt.segment)?.live.as_ref().filter(|live| live.attempt == attempt)
    }

    /// What an attempt says counts if, and only if, it is live, its worker's, and said on that worker's connection.
    fn check_report(
        &mut self,
        life: u64,
        (worker, session): (WorkerId, SessionId),
        attempt: Attempt,
        report: &Report,
        effects: &[Effect],
    ) {
        let about = |effect: &&Effect| match effect {
            Effect::Persist(
                Change::AttemptStarted { attempt: of, .. }
                | Change::AttemptEnded { attempt: of, .. }
                | Change::StepCommitted { attempt: of, .. }
                | Change::EpochCommitted { attempt: of, .. }
                | Change::EpochReplayed { attempt: of, .. }
                | Change::CheckpointDamaged { attempt: of, .. },
            ) => *of == attempt,
            _ => false,
        };
        let persisted = effects.iter().filter(about).count();
        let counts = self.is_current(life, worker, session) && self.live(attempt).is_some_and(|l| l.worker == worker);
        if !counts {
            return self.require(persisted == 0, "only the live attempt counts", || {
                format!("{worker} reported {report:?} of {attempt}, and it led to changes")
            });
        }
        match report {
            Report::Stopped => self.note_leaving(life, worker, attempt),
            Report::HandedBack => self.check_handed_back(attempt),
            _ => {}
        }
        if let Report::EpochCommitted(committed) = report {
            self.check_epoch(attempt, committed, effects);
        } else if let Report::StepCommitted(step) = report {
            self.check_step(attempt, step, effects);
        } else if matches!(
            report,
            Report::Finished | Report::Stopped | Report::HandedBack | Report::Failed { .. } | Report::Damaged { .. }
        ) {
            self.require(ends(attempt, effects), "what is reported counts", || {
                format!("{attempt} reported its end, and goes on")
            });
        }
    }

    fn check_epoch(&mut self, attempt: Attempt, committed: &CommittedEpoch, effects: &[Effect]) {
        let Some(own) = self.segments.get(&attempt.segment) else { return };
        let replays = own.live.as_ref().map_or(0, |live| live.replays);
        if replays > 0 {
            return;
        }
        let expected = own.epochs.get(own.committed) == Some(&(committed.epoch, committed.key));
        let mut scored: Vec<_> = committed.predictions.iter().map(|(scored, _)| scored).collect();
        scored.sort();
        scored.dedup();
        let expected = expected && scored.len() == committed.predictions.len();
        let counted = effects.iter().any(
            |effect| matches!(effect, Effect::Persist(Change::EpochCommitted { attempt: of, .. }) if *of == attempt),
        );
        self.require(counted == expected, "what is reported counts", || {
            format!("{attempt} reported epoch {}; it counted: {counted}, and should have: {expected}", committed.epoch)
        });
        let before = committed.epoch.0.checked_sub(own_start(&self.segments[&attempt.segment]) + 1);
        let again = before.is_some_and(|index| (index as usize) < self.segments[&attempt.segment].committed);
        let ends = ends(attempt, effects);
        // Where it was trained again, what was said first is not what is stored any more.
        let same = self.manifests.get(&(attempt.segment, committed.epoch)) == Some(&committed.manifest)
            && !self.replayed.contains(&committed.key);
        self.require(!(again && same && ends), "saying something twice changes nothing", || {
            format!("{attempt} ended because it reported epoch {} again", committed.epoch)
        });
    }

    fn check_step(&mut self, attempt: Attempt, committed: &CommittedStep, effects: &[Effect]) {
        let again = self.segments.get(&attempt.segment).is_some_and(|own| own.step == Some((attempt, *committed)));
        self.require(!(again && ends(attempt, effects)), "saying something twice changes nothing", || {
            format!("{attempt} ended because it reported step {} again", committed.step)
        });
    }

    fn check_change(&mut self, life: u64, now: Timestamp, event: &Event, change: &Change) {
        match change {
            Change::AttemptAssigned { attempt, .. } => {
                let until = now.after(self.config.lease);
                if let Some(life) = self.lives.get_mut(&life) {
                    life.until.insert(*attempt, until);
                }
            }
            Change::SegmentChanged { segment, state: State::Stopping { attempt, .. }, .. } => {
                let attempt = Attempt { segment: *segment, number: *attempt };
                let stopping = self.live(attempt).is_some_and(|live| live.stopping);
                let until = now.after(self.config.lease);
                if let Some(life) = self.lives.get_mut(&life).filter(|_| !stopping) {
                    life.until.insert(attempt, until);
                }
            }
            Change::AttemptEnded { attempt, end, .. } => {
                let until = self.lives.get_mut(&life).and_then(|life| life.until.remove(attempt));
                let silent = until.is_some_and(|until| until <= now) && *event == Event::Tick;
                self.require(*end != AttemptEnd::Lost || silent, "only what is silent is lost", || {
                    format!("{attempt} is lost at {now}, and was to be believed alive until {until:?}")
                });
            }
            Change::CheckpointCollected { manifest, .. } => self.check_collected(*manifest),
            _ => {}
        }
    }

    /// What is given up is nothing that something open goes on from.
    fn check_collected(&mut self, manifest: Digest) {
        let open = self.segments.iter().filter(|(_, own)| !own.state.as_ref().is_some_and(State::is_done));
        let needed = open.map(|(id, _)| *id).find(|id| self.deepest(*id) == Some(manifest));
        self.require(needed.is_none(), "what is needed is kept", || {
            format!("{} is given up, and {needed:?} goes on from it", manifest.short())
        });
    }

    /// The checkpoint that the next attempt of a segment goes on from, where there is one at an epoch's end and only one
    /// that it can be.
    fn deepest(&self, id: SegmentId) -> Option<Digest> {
        let mut at = Some(id);
        while let Some((id, own)) = at.and_then(|id| Some((id, self.segments.get(&id)?))) {
            for (epoch, key) in own.epochs.iter().take(own.committed).rev() {
                let manifest = self.manifests.get(&(id, *epoch))?;
                if self.replayed.contains(key) {
                    return None;
                }
                if !self.damaged.contains(manifest) && !self.collected.contains(manifest) {
                    return Some(*manifest);
                }
            }
            at = own.parent;
        }
        None
    }

    fn check_start(&mut self, start: &ceteris_scheduler::StartAttempt) {
        let Start::Checkpoint(manifest) = start.start else { return };
        let unusable = self.damaged.contains(&manifest) || self.collected.contains(&manifest);
        self.require(!unusable, "nothing goes on from what is damaged", || {
            format!("{} goes on from {}, which is damaged or given up", start.attempt, manifest.short())
        });
    }
}

/// Whether an attempt is over with this.
fn ends(attempt: Attempt, effects: &[Effect]) -> bool {
    let ended =
        |effect: &Effect| matches!(effect, Effect::Persist(Change::AttemptEnded { attempt: of, .. }) if *of == attempt);
    effects.iter().any(ended)
}

fn own_start(own: &super::Planned) -> u32 {
    own.epochs.first().map_or(0, |(epoch, _)| epoch.0 - 1)
}
