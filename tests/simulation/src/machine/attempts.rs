//! What becomes of an attempt on a machine: slots, trainers that are only simulated, and uploads.

use ceteris_proto::fleet::{EventKind, StartAttempt};
use ceteris_shared::{ids::Attempt, trainer::FailureCause};
use ceteris_worker::{
    attempts::{Take, Wish},
    session::protocol::encode,
};

use super::{Machine, PER_SLOT};
use crate::{
    execution::Execution,
    objects::Unusable,
    scene::{Happening, Scene, Step, Task},
};

impl Machine {
    pub(super) fn start(&mut self, scene: &mut Scene, start: StartAttempt) {
        let attempt = start.attempt;
        scene.oracle.told_to_start(self.id, attempt, start.work.epochs.first().map(|epoch| epoch.key));
        let Some(agent) = &mut self.agent else { return };
        if agent.leaving {
            return self.append(scene, attempt, EventKind::Stopped);
        }
        // Who asked about it before its time was told that it is not live.
        agent.revoked.remove(&attempt);
        let Take::New(wish) = agent.attempts.take(attempt) else { return };
        if agent.work.len() >= self.slots as usize * PER_SLOT {
            agent.attempts.end(attempt);
            let message = "all slots of this worker are taken".to_owned();
            return self.append(scene, attempt, EventKind::Failed { cause: FailureCause::Infrastructure, message });
        }
        agent.work.insert(attempt, Execution::new(start, wish));
        self.fill_slots(scene);
    }

    /// Begins what waits, as far as there are slots that may be used; where none may, it is handed back.
    pub(super) fn fill_slots(&mut self, scene: &mut Scene) {
        let Some(agent) = &mut self.agent else { return };
        let usable: Vec<usize> = (0..self.slots as usize).filter(|slot| !agent.attempts.is_drained(*slot)).collect();
        let taken: Vec<usize> = agent.work.values().filter_map(|execution| execution.slot).collect();
        let mut free = usable.iter().filter(|slot| !taken.contains(slot));
        let waiting = agent.work.values_mut().filter(|execution| execution.slot.is_none() && !execution.halting);
        let (mut begun, mut back) = (Vec::new(), Vec::new());
        for execution in waiting {
            if let Some(&slot) = free.next() {
                execution.slot = Some(slot);
                begun.push((execution.start.attempt, slot));
            } else if usable.is_empty() {
                back.push(execution.start.attempt);
            }
        }
        for (attempt, slot) in begun {
            agent.attempts.place(attempt, slot);
            let wait = scene.random.between(100, 3000) * 1000 / self.rate;
            let (machine, generation) = (self.index, self.generation);
            let what = Task::Execution(attempt, Step::Prepared);
            scene.after(wait, Happening::Agent { machine, generation, what });
        }
        for attempt in back {
            self.end(scene, attempt, Some(EventKind::HandedBack));
        }
    }

    /// Keeps an event, and says it if it can.
    pub(super) fn append(&mut self, scene: &mut Scene, attempt: Attempt, kind: EventKind) {
        let Some(agent) = &mut self.agent else { return };
        match agent.spool.append(|sequence| encode(sequence, attempt, kind)) {
            Ok(number) => {
                let expected = self.appended + 1;
                self.appended = number;
                if number != expected {
                    let detail = format!("event {expected} of machine {} got the number {number}", self.index);
                    scene.oracle.report("events are numbered on", detail);
                }
                self.speak(scene);
            }
            Err(error) => scene.oracle.report("the spool can be written", error),
        }
    }

    /// An attempt is over; what there is to say of it is said, unless it is someone else's.
    pub(super) fn end(&mut self, scene: &mut Scene, attempt: Attempt, kind: Option<EventKind>) {
        if let Some(kind) = kind {
            if scene.random.per_mille(200) {
                self.append(scene, attempt, EventKind::Log(vec![format!("the last words of {attempt}")]));
            }
            self.append(scene, attempt, kind);
        }
        let Some(agent) = &mut self.agent else { return };
        agent.work.remove(&attempt);
        agent.attempts.end(attempt);
        self.fill_slots(scene);
    }

    /// Something may be wished of an attempt.
    pub(super) fn wished(&mut self, scene: &mut Scene, attempt: Attempt) {
        let Some(agent) = &mut self.agent else { return };
        let Some(execution) = agent.work.get_mut(&attempt) else { return };
        let now = execution.wished() >= Wish::StopNow || (!execution.training && execution.wished() > Wish::Run);
        if now && !std::mem::replace(&mut execution.halting, true) {
            let wait = self.lasts(scene.random.between(0, 3000));
            scene.after(wait, self.task(Task::Execution(attempt, Step::Halted)));
        }
    }

    /// Stops everything at once and ends soon.
    pub fn leave(&mut self, scene: &mut Scene) {
        let Some(agent) = &mut self.agent else { return };
        scene.line(format_args!("machine {} leaves", self.index));
        agent.leaving = true;
        agent.attempts.wish_of_all(&Wish::StopNow);
        let all = agent.attempts.running();
        for attempt in all {
            self.wished(scene, attempt);
        }
        let wait = self.lasts(scene.random.between(3000, 6000));
        scene.after(wait, self.task(Task::Leave));
    }

    pub(super) fn go_on(&mut self, scene: &mut Scene, attempt: Attempt, step: Step) {
        let environment = self.environment.clone();
        let Some(agent) = &mut self.agent else { return };
        let Some(execution) = agent.work.get_mut(&attempt) else { return };
        if execution.halting && step != Step::Halted {
            return;
        }
        match step {
            Step::Prepared => self.prepared(scene, attempt),
            Step::Stepped(index) => {
                if execution.next == index && execution.uploads.is_empty() {
                    let by = u32::try_from(scene.random.between(1, 3)).unwrap_or(1);
                    if let Some(kind) = execution.store_step(&mut scene.objects, &environment, by) {
                        self.commit(scene, attempt, kind);
                    }
                }
            }
            Step::Trained(index) => self.trained(scene, attempt, index),
            Step::Uploaded => {
                // The points stand right before the commit.
                if let Some(kind) = execution.measure(&scene.random) {
                    self.append(scene, attempt, kind);
                    let wait =
                        if scene.random.per_mille(100) { scene.random.wait(1000) } else { scene.random.below(4) };
                    scene.after(wait, self.task(Task::Execution(attempt, Step::Committed)));
                }
            }
            Step::Committed => self.committed(scene, attempt),
            Step::Halted => self.halted(scene, attempt),
        }
    }

    pub(super) fn prepared(&mut self, scene: &mut Scene, attempt: Attempt) {
        let Some(agent) = &mut self.agent else { return };
        let full = agent.spool.is_full();
        let Some(execution) = agent.work.get_mut(&attempt) else { return };
        let infrastructure = |message: String| EventKind::Failed { cause: FailureCause::Infrastructure, message };
        if full {
            return self.end(scene, attempt, Some(infrastructure("the worker's spool is full".to_owned())));
        }
        let begun = scene.objects.begin(&execution.start.start, &execution.start.work, &self.environment);
        match begun {
            Ok(weights) => {
                (execution.weights, execution.training) = (weights, true);
                let drained = execution.wished() == Wish::StopAfterEpoch;
                if drained {
                    return self.end(scene, attempt, Some(EventKind::HandedBack));
                }
                self.append(scene, attempt, EventKind::Started);
                self.train(scene, attempt);
            }
            Err(Unusable::Lost(checkpoint)) => {
                let message = "it is gone".to_owned();
                self.end(scene, attempt, Some(EventKind::Damaged { checkpoint, message }));
            }
            Err(Unusable::Wrong(message)) => {
                scene.oracle.report("attempts start where they should", format!("{attempt}: {message}"));
                self.end(scene, attempt, Some(infrastructure(message)));
            }
        }
    }

    /// Begins the next epoch.
    pub(super) fn train(&mut self, scene: &mut Scene, attempt: Attempt) {
        let Some(execution) = self.agent.as_mut().and_then(|agent| agent.work.get_mut(&attempt)) else { return };
        let (index, steps) = (execution.next, execution.start.work.checkpoint_every_steps.is_some());
        let lasts =
            self.lasts(if scene.calm { scene.random.between(500, 2000) } else { scene.random.wait(8000) + 500 });
        if steps && scene.random.per_mille(700) {
            let within = scene.random.below(lasts);
            scene.after(within, self.task(Task::Execution(attempt, Step::Stepped(index))));
        }
        scene.after(lasts, self.task(Task::Execution(attempt, Step::Trained(index))));
    }

    pub(super) fn trained(&mut self, scene: &mut Scene, attempt: Attempt, index: usize) {
        let environment = self.environment.clone();
        let Some(execution) = self.agent.as_mut().and_then(|agent| agent.work.get_mut(&attempt)) else { return };
        let mut failure = execution.failure(index);
        if !scene.calm && scene.random.per_mille(scene.weather.infrastructure) {
            let (cause, message) = match attempt.number % 4 {
                3 => (FailureCause::Store, "the store does not answer"),
                _ => (FailureCause::Infrastructure, "the device fell off the bus"),
            };
            failure = Some(EventKind::Failed { cause, message: message.to_owned() });
        }
        if let Some(failure) = failure {
            // What is trained already is stored first.
            for _ in 0..execution.uploads.len() {
                self.store_now(scene, attempt);
            }
            return self.end(scene, attempt, Some(failure));
        }
        let idle = execution.uploads.is_empty();
        execution.trained(index, &environment);
        let (on, room) = (!execution.ends_here(), execution.has_room());
        execution.blocked = on && !room;
        if idle {
            self.upload(scene, attempt);
        }
        if on && room {
            self.train(scene, attempt);
        }
    }

    pub(super) fn upload(&mut self, scene: &mut Scene, attempt: Attempt) {
        let wait = self.lasts(scene.random.wait(1500));
        scene.after(wait, self.task(Task::Execution(attempt, Step::Uploaded)));
    }

    /// Tells the oldest epoch that is trained, without waiting for anything.
    pub(super) fn store_now(&mut self, scene: &mut Scene, attempt: Attempt) {
        let environment = self.environment.clone();
        let Some(execution) = self.agent.as_mut().and_then(|agent| agent.work.get_mut(&attempt)) else { return };
        let measured = execution.measure(&scene.random);
        let committed = execution.commit(&mut scene.objects, &environment);
        for kind in [measured, committed].into_iter().flatten() {
            self.append(scene, attempt, kind);
        }
    }

    pub(super) fn committed(&mut self, scene: &mut Scene, attempt: Attempt) {
        let environment = self.environment.clone();
        let Some(execution) = self.agent.as_mut().and_then(|agent| agent.work.get_mut(&attempt)) else { return };
        let Some(kind) = execution.commit(&mut scene.objects, &environment) else { return };
        let idle = execution.uploads.is_empty();
        let (ends, all) = (execution.ends_here(), execution.next >= execution.start.work.epochs.len());
        let resumes = std::mem::take(&mut execution.blocked) && !ends;
        let between_epochs = !resumes && ends;
        self.commit(scene, attempt, kind);
        if !idle {
            self.upload(scene, attempt);
        } else if all {
            return self.end(scene, attempt, Some(EventKind::Finished));
        } else if between_epochs && self.is_idle(attempt) {
            return self.end(scene, attempt, Some(EventKind::HandedBack));
        }
        if resumes {
            self.train(scene, attempt);
        }
    }

    /// Whether no epoch of an attempt is being trained: it was told to stop after the one that is committed.
    pub(super) fn is_idle(&self, attempt: Attempt) -> bool {
        let execution = self.agent.as_ref().and_then(|agent| agent.work.get(&attempt));
        execution.is_some_and(|execution| execution.wished() == Wish::StopAfterEpoch && execution.uploads.is_empty())
    }

    pub(super) fn halted(&mut self, scene: &mut Scene, attempt: Attempt) {
        let environment = self.environment.clone();
        let Some(execution) = self.agent.as_mut().and_then(|agent| agent.work.get_mut(&attempt)) else { return };
        if execution.wished() == Wish::Abandon {
            scene.line(format_args!("machine {} abandons {attempt}", self.index));
            return self.end(scene, attempt, None);
        }
        if execution.training && scene.random.per_mille(500) {
            for _ in 0..execution.uploads.len() {
                self.store_now(scene, attempt);
            }
            let execution = self.agent.as_mut().and_then(|agent| agent.work.get_mut(&attempt));
            let by = u32::try_from(scene.random.between(1, 4)).unwrap_or(1);
            let step = execution.and_then(|execution| execution.store_step(&mut scene.objects, &environment, by));
            if let Some(kind) = step {
                self.append(scene, attempt, kind);
            }
        }
        let all = self.agent.as_ref().and_then(|agent| agent.work.get(&attempt));
        let finished = all.is_some_and(|e| e.training && e.next >= e.start.work.epochs.len() && e.uploads.is_empty());
        let leaving = self.agent.as_ref().is_some_and(|agent| agent.leaving);
        self.end(
            scene,
            attempt,
            Some(match (finished, leaving) {
                (true, _) => EventKind::Finished,
                (false, true) => EventKind::Stopped,
                (false, false) => EventKind::HandedBack,
            }),
        );
    }
}
