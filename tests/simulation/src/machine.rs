//! A machine with an agent: the real spool, the real list of attempts and the real protocol, around trainers that are
//! only simulated.

use std::{collections::BTreeMap, time::Duration};

use ceteris_proto::{
    fleet::{CoordinatorMessage, EventKind, Register, StartAttempt, WorkerMessage},
    v1,
};
use ceteris_shared::{
    checkpoint::Environment,
    ids::{Attempt, SessionId, WorkerId},
    trainer::FailureCause,
};
use ceteris_worker::{
    attempts::{Attempts, Take, Wish},
    session::protocol::{Heard, Listener, Next, Speaker, decode, encode},
    spool::Spool,
};
use tonic::{Code, Status};

use crate::{
    coordinator::STORE,
    disk::SimulatedDisk,
    execution::Execution,
    network::{Down, Up},
    objects::Unusable,
    scene::{Happening, Scene, Step, Task},
};

/// How long a coordinator may take to answer `Register`.
const WELCOME: u64 = 15_000;
/// Messages that a stream takes before who sends them has to wait.
const WINDOW: usize = 24;
/// How long an attempt may be spoken of after it was revoked.
const REVOKED: u64 = 20_000;
/// How long a connection may be without a heartbeat: twice what is asked for, and the difference of clocks.
const SILENCE: u64 = 21_000;
/// Attempts that wait or run, for each slot.
const PER_SLOT: usize = 5;

/// A machine. It outlives its agents.
#[derive(Debug)]
pub struct Machine {
    pub index: usize,
    pub id: WorkerId,
    pub slots: u32,
    pub environment: Environment,
    /// How fast its clock runs: of a thousand.
    pub rate: u64,
    /// It says what is not so, now and then.
    pub lies: bool,
    /// Its agent stands still until then.
    pub stalled_until: u64,
    /// Counts its agents.
    pub generation: u64,
    pub agent: Option<Agent>,
    disk: SimulatedDisk,
    spool_bytes: u64,
    /// The number of the last event that it kept.
    appended: u64,
}

/// One process of the agent.
#[derive(Debug)]
pub struct Agent {
    spool: Spool<SimulatedDisk>,
    pub attempts: Attempts,
    pub work: BTreeMap<Attempt, Execution>,
    link: Link,
    /// Attempts that were revoked, and when.
    revoked: BTreeMap<Attempt, u64>,
    leaving: bool,
    speaks_at: Option<u64>,
    /// When it said a heartbeat last.
    beat_at: u64,
}

/// How the agent is connected.
#[derive(Debug)]
enum Link {
    Down,
    Opening { connection: usize, listener: Listener },
    Open { connection: usize, listener: Listener, speaker: Speaker, since: u64 },
}

impl Agent {
    /// The connection that it uses.
    pub fn connection(&self) -> Option<usize> {
        match self.link {
            Link::Down => None,
            Link::Opening { connection, .. } | Link::Open { connection, .. } => Some(connection),
        }
    }

    fn kept(&self) -> (u64, u64) {
        (self.spool.first(), self.spool.next())
    }
}

impl Machine {
    pub fn new(index: usize, id: WorkerId, environment: Environment, slots: u32, rate: u64, spool_bytes: u64) -> Self {
        Self {
            index,
            id,
            slots,
            environment,
            rate,
            lies: false,
            stalled_until: 0,
            generation: 0,
            agent: None,
            disk: SimulatedDisk::default(),
            spool_bytes,
            appended: 0,
        }
    }

    fn task(&self, what: Task) -> Happening {
        Happening::Agent { machine: self.index, generation: self.generation, what }
    }

    /// So many of the machine's milliseconds in the world's.
    fn lasts(&self, milliseconds: u64) -> u64 {
        milliseconds * 1000 / self.rate
    }

    /// Everything that was said is stored, as far as the agent knows.
    pub fn is_drained(&self) -> bool {
        self.agent.as_ref().is_some_and(|agent| agent.kept().0 == agent.kept().1 && agent.work.is_empty())
    }

    /// Events that wait to be stored.
    pub fn backlog(&self) -> u64 {
        self.agent.as_ref().map_or(0, |agent| agent.kept().1 - agent.kept().0)
    }

    /// Starts an agent on what the last one left.
    pub fn boot(&mut self, scene: &mut Scene) {
        self.generation += 1;
        match Spool::on(self.disk.clone(), self.spool_bytes) {
            Ok(spool) => {
                scene.line(format_args!("machine {} boots, spool {}..{}", self.index, spool.first(), spool.next()));
                let (attempts, work, revoked) = (Attempts::default(), BTreeMap::new(), BTreeMap::new());
                let (link, leaving, speaks_at, beat_at) = (Link::Down, false, None, 0);
                self.agent = Some(Agent { spool, attempts, work, link, revoked, leaving, speaks_at, beat_at });
                let wait = scene.random.between(10, 2000);
                scene.after(wait, self.task(Task::Connect));
            }
            Err(error) => scene.oracle.report("the spool opens again", error),
        }
    }

    /// Kills the agent; half of an event may be left on the disk.
    pub fn kill(&mut self, scene: &mut Scene) {
        let Some(agent) = self.agent.take() else { return };
        scene.line(format_args!("machine {}: the agent is killed", self.index));
        if let Some(connection) = agent.connection() {
            scene.hang_up(connection);
        }
        if scene.random.per_mille(300) {
            let torn = scene.random.between(1, 40);
            self.disk.tear(&vec![7; usize::try_from(torn).unwrap_or(1)]);
        }
        self.generation += 1;
    }

    /// The state folder is lost with everything in it: the next agent is another worker.
    pub fn lose_state(&mut self, scene: &mut Scene) {
        self.kill(scene);
        self.disk = SimulatedDisk::default();
        self.id = WorkerId(scene.random.uuid());
        self.appended = 0;
        scene.line(format_args!("machine {} is worker {} from now on", self.index, self.id));
    }

    /// Something that the agent was to do now.
    pub fn act(&mut self, scene: &mut Scene, what: Task, reach: impl FnOnce(&mut Scene, usize) -> Option<usize>) {
        if self.agent.is_none() {
            return;
        }
        match what {
            Task::Connect => self.connect(scene, reach),
            Task::Unwelcome(connection) => {
                let opening = matches!(self.agent.as_ref().map(|agent| &agent.link),
                    Some(Link::Opening { connection: open, .. }) if *open == connection);
                if opening {
                    self.break_link(scene);
                }
            }
            Task::Speak => {
                if let Some(agent) = &mut self.agent {
                    agent.speaks_at = None;
                }
                self.speak(scene);
            }
            Task::Execution(attempt, step) => self.go_on(scene, attempt, step),
            Task::Leave => {
                self.kill(scene);
                let wait = scene.random.wait(20_000);
                scene.after(wait, Happening::Boot(self.index));
            }
        }
    }

    fn connect(&mut self, scene: &mut Scene, reach: impl FnOnce(&mut Scene, usize) -> Option<usize>) {
        let Some(agent) = self.agent.as_mut().filter(|agent| matches!(agent.link, Link::Down)) else { return };
        let Some(connection) = reach(scene, self.index) else {
            let wait = scene.random.between(200, 5000);
            return scene.after(wait, self.task(Task::Connect));
        };
        let session = SessionId(scene.random.uuid());
        let running = agent.attempts.running();
        scene.line(format_args!("machine {} opens connection {connection}", self.index));
        let register = Register {
            worker: self.id,
            name: format!("machine-{}", self.index),
            session,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            slots: self.slots,
            environment: self.environment.clone(),
            store: STORE.to_owned(),
            slot_memory_bytes: Some(8 << 30),
            running,
        };
        agent.link = Link::Opening { connection, listener: Listener::default() };
        scene.send_up(connection, Up::Message(WorkerMessage::Register(register).into()));
        let wait = self.lasts(WELCOME);
        scene.after(wait, self.task(Task::Unwelcome(connection)));
    }

    /// The connection is over, and is opened again after a while.
    pub fn break_link(&mut self, scene: &mut Scene) {
        let Some(agent) = self.agent.as_mut() else { return };
        let Some(connection) = agent.connection() else { return };
        scene.line(format_args!("machine {}: connection {connection} is over", self.index));
        agent.link = Link::Down;
        scene.hang_up(connection);
        let wait = scene.random.between(200, 10_000);
        scene.after(wait, self.task(Task::Connect));
    }

    /// Says what is to be said now, if it is connected so.
    pub fn speak_on(&mut self, scene: &mut Scene, connection: usize) {
        if self.agent.as_ref().is_some_and(|agent| agent.connection() == Some(connection)) {
            self.speak(scene);
        }
    }

    fn speak(&mut self, scene: &mut Scene) {
        let (rate, index) = (self.rate, self.index);
        loop {
            let Some(agent) = &mut self.agent else { return };
            let kept = agent.kept();
            let Link::Open { connection, speaker, since, .. } = &mut agent.link else { return };
            let (connection, since) = (*connection, *since);
            if scene.connections.get(connection).is_none_or(|open| open.up.len() >= WINDOW) {
                return;
            }
            let local = Duration::from_millis((scene.now - since) * rate / 1000);
            let message: Option<v1::WorkerMessage> = match speaker.next(local, kept) {
                Next::Heartbeat => {
                    agent.beat_at = scene.now;
                    let progress = agent.attempts.progress();
                    for progress in &progress {
                        let revoked = agent.revoked.get(&progress.attempt).copied();
                        if revoked.is_some_and(|at| at + REVOKED * 1000 / rate < scene.now) {
                            let detail = format!("machine {index} still has {}, which was revoked", progress.attempt);
                            scene.oracle.report("what is revoked ends", detail);
                        }
                    }
                    Some(WorkerMessage::Heartbeat(progress).into())
                }
                Next::Event(number) => match agent.spool.read(number) {
                    Ok(bytes) => bytes.and_then(|bytes| decode(&bytes)),
                    Err(error) => return scene.oracle.report("the spool can be read", error),
                },
                Next::Wait(until) => {
                    let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
                    let at = since + (until * 1000).div_ceil(rate);
                    if scene.now > agent.beat_at + SILENCE {
                        scene.oracle.report("leases are renewed", format!("machine {index} says no heartbeat"));
                    }
                    if agent.speaks_at.is_none_or(|before| at < before) {
                        agent.speaks_at = Some(at);
                        let task = self.task(Task::Speak);
                        scene.at(at, task);
                    }
                    return;
                }
            };
            if let Some(message) = message {
                scene.send_up(connection, Up::Message(message));
            }
        }
    }

    /// Hears what arrives on a connection.
    pub fn hear(&mut self, scene: &mut Scene, on: usize, down: Down) {
        let Some(agent) = self.agent.as_mut().filter(|agent| agent.connection() == Some(on)) else { return };
        let message = match down {
            Down::End(status) => return self.hear_end(scene, &status),
            Down::Message(message) => message,
        };
        let Ok(message) = CoordinatorMessage::try_from(message) else {
            return scene
                .oracle
                .report("the coordinator says what means something", format!("to machine {}", self.index));
        };
        if let CoordinatorMessage::Revoke { attempt, .. } = &message {
            agent.revoked.entry(*attempt).or_insert(scene.now);
        }
        let (Link::Opening { listener, .. } | Link::Open { listener, .. }) = &mut agent.link else { return };
        match listener.hear(message) {
            Heard::Welcome { heartbeat, .. } => {
                let (listener, speaker) = (listener.clone(), Speaker::new(heartbeat, agent.kept()));
                agent.link = Link::Open { connection: on, listener, speaker, since: scene.now };
                agent.attempts.welcomed();
                self.speak(scene);
            }
            Heard::Start(start) => self.start(scene, *start),
            Heard::Drain(slots) => {
                scene.line(format_args!("machine {} uses slots {slots:?} no longer", self.index));
                agent.attempts.drain(slots.iter().map(|slot| *slot as usize).collect());
                self.fill_slots(scene);
            }
            Heard::Wish { attempt, wish, reason } => {
                scene.line(format_args!("machine {} hears {wish:?} for {attempt}: {reason}", self.index));
                agent.attempts.wish(attempt, wish.clone());
                self.wished(scene, attempt);
            }
            Heard::Acknowledged(sequence) => {
                scene.oracle.acknowledged(self.id, sequence.min(agent.spool.next() - 1));
                if let Err(error) = agent.spool.acknowledge(sequence) {
                    scene.oracle.report("the spool can be written", error);
                }
                let (first, taken) = (agent.spool.first(), scene.oracle.taken(self.id));
                if first > taken + 1 {
                    let detail =
                        format!("machine {} forgot up to event {}, and {taken} is stored", self.index, first - 1);
                    scene.oracle.report("nothing is forgotten that is not stored", detail);
                }
                self.speak(scene);
            }
            Heard::Nonsense(why) => {
                scene.line(format_args!("machine {}: {why}", self.index));
                self.break_link(scene);
            }
        }
    }

    /// Tells what may pass from what will not: then the agent ends, and someone starts it again.
    fn hear_end(&mut self, scene: &mut Scene, status: &Status) {
        scene.line(format_args!("machine {} hears {:?}: {}", self.index, status.code(), status.message()));
        if matches!(status.code(), Code::FailedPrecondition | Code::InvalidArgument) {
            if !self.lies {
                let detail = format!("machine {}: {}", self.index, status.message());
                scene.oracle.report("honest workers are let in", detail);
            }
            self.kill(scene);
            let wait = scene.random.wait(10_000);
            scene.after(wait, Happening::Boot(self.index));
        } else {
            self.break_link(scene);
        }
    }

    fn start(&mut self, scene: &mut Scene, start: StartAttempt) {
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
    fn fill_slots(&mut self, scene: &mut Scene) {
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
    fn append(&mut self, scene: &mut Scene, attempt: Attempt, kind: EventKind) {
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
    fn end(&mut self, scene: &mut Scene, attempt: Attempt, kind: Option<EventKind>) {
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
    fn wished(&mut self, scene: &mut Scene, attempt: Attempt) {
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

    fn go_on(&mut self, scene: &mut Scene, attempt: Attempt, step: Step) {
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
                        self.append(scene, attempt, kind);
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

    fn prepared(&mut self, scene: &mut Scene, attempt: Attempt) {
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
    fn train(&mut self, scene: &mut Scene, attempt: Attempt) {
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

    fn trained(&mut self, scene: &mut Scene, attempt: Attempt, index: usize) {
        let environment = self.environment.clone();
        let Some(execution) = self.agent.as_mut().and_then(|agent| agent.work.get_mut(&attempt)) else { return };
        let mut failure = execution.failure(index);
        if !scene.calm && scene.random.per_mille(scene.weather.infrastructure) {
            let message = "the device fell off the bus".to_owned();
            failure = Some(EventKind::Failed { cause: FailureCause::Infrastructure, message });
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

    fn upload(&mut self, scene: &mut Scene, attempt: Attempt) {
        let wait = self.lasts(scene.random.wait(1500));
        scene.after(wait, self.task(Task::Execution(attempt, Step::Uploaded)));
    }

    /// Tells the oldest epoch that is trained, without waiting for anything.
    fn store_now(&mut self, scene: &mut Scene, attempt: Attempt) {
        let environment = self.environment.clone();
        let Some(execution) = self.agent.as_mut().and_then(|agent| agent.work.get_mut(&attempt)) else { return };
        let measured = execution.measure(&scene.random);
        let committed = execution.commit(&mut scene.objects, &environment);
        for kind in [measured, committed].into_iter().flatten() {
            self.append(scene, attempt, kind);
        }
    }

    fn committed(&mut self, scene: &mut Scene, attempt: Attempt) {
        let environment = self.environment.clone();
        let Some(execution) = self.agent.as_mut().and_then(|agent| agent.work.get_mut(&attempt)) else { return };
        let Some(kind) = execution.commit(&mut scene.objects, &environment) else { return };
        let idle = execution.uploads.is_empty();
        let (ends, all) = (execution.ends_here(), execution.next >= execution.start.work.epochs.len());
        let resumes = std::mem::take(&mut execution.blocked) && !ends;
        let between_epochs = !resumes && ends;
        self.append(scene, attempt, kind);
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
    fn is_idle(&self, attempt: Attempt) -> bool {
        let execution = self.agent.as_ref().and_then(|agent| agent.work.get(&attempt));
        execution.is_some_and(|execution| execution.wished() == Wish::StopAfterEpoch && execution.uploads.is_empty())
    }

    fn halted(&mut self, scene: &mut Scene, attempt: Attempt) {
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
        self.end(scene, attempt, Some(if finished { EventKind::Finished } else { EventKind::Stopped }));
    }

    /// Stands still for a while, like a process that is not given the processor.
    pub fn stall(&mut self, scene: &mut Scene, milliseconds: u64) {
        scene.line(format_args!("machine {} stands still for {milliseconds} ms", self.index));
        self.stalled_until = self.stalled_until.max(scene.now + milliseconds);
        for at in self.agent.iter_mut().flat_map(|agent| agent.revoked.values_mut()) {
            *at += milliseconds;
        }
    }

    /// Says an event that is not so.
    pub fn say_falsely(&mut self, scene: &mut Scene, attempt: Attempt, kind: EventKind) {
        scene.line(format_args!("machine {} lies about {attempt}: {kind:?}", self.index));
        self.append(scene, attempt, kind);
    }

    /// Sends a message past the protocol.
    pub fn send_raw(&mut self, scene: &mut Scene, message: v1::WorkerMessage) {
        let link = self.agent.as_ref().map(|agent| &agent.link);
        if let Some(&Link::Open { connection, .. }) = link {
            scene.line(format_args!("machine {} says what makes no sense", self.index));
            scene.send_up(connection, Up::Message(message));
        }
    }

    /// Whether it is connected and was welcomed.
    pub fn is_open(&self) -> bool {
        matches!(self.agent.as_ref().map(|agent| &agent.link), Some(Link::Open { .. }))
    }
}
