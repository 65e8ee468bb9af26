//! A machine with an agent: the real spool, the real list of attempts and the real protocol, around trainers that are
//! only simulated.

mod attempts;
mod lies;

use std::{collections::BTreeMap, time::Duration};

use ceteris_proto::{
    fleet::{CoordinatorMessage, Register, WorkerMessage},
    v1,
};
use ceteris_shared::{
    checkpoint::Environment,
    ids::{Attempt, SessionId, WorkerId},
};
use ceteris_worker::{
    attempts::Attempts,
    session::protocol::{Heard, Listener, Next, Speaker, decode},
    spool::Spool,
};
use tonic::{Code, Status};

use crate::{
    coordinator::STORE,
    disk::SimulatedDisk,
    execution::Execution,
    network::{Down, Up},
    scene::{Happening, Scene, Task},
};

/// How long a coordinator may take to answer `Register`.
const WELCOME: u64 = 15_000;
/// Messages that a stream takes before who sends them has to wait.
const WINDOW: usize = 24;
/// How long nothing may come on a connection, at least and at most, before it is given up.
const KEEP_ALIVE: (u64, u64) = (10_000, 20_000);
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
    /// It reaches nobody until then.
    pub cut_off_until: u64,
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
            cut_off_until: 0,
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
            Task::Silent(connection) => {
                if self.agent.as_ref().is_some_and(|agent| agent.connection() == Some(connection)) {
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
        let reached = if self.cut_off_until > scene.now { None } else { reach(scene, self.index) };
        let Some(connection) = reached else {
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

    /// Stands still for a while, like a process that is not given the processor.
    pub fn stall(&mut self, scene: &mut Scene, milliseconds: u64) {
        scene.line(format_args!("machine {} stands still for {milliseconds} ms", self.index));
        self.stalled_until = self.stalled_until.max(scene.now + milliseconds);
        for at in self.agent.iter_mut().flat_map(|agent| agent.revoked.values_mut()) {
            *at += milliseconds;
        }
    }

    /// Reaches nobody for a while: what is said on its connection meanwhile arrives late, if at all.
    pub fn cut_off(&mut self, scene: &mut Scene, milliseconds: u64) {
        scene.line(format_args!("machine {} is cut off for {milliseconds} ms", self.index));
        self.cut_off_until = self.cut_off_until.max(scene.now + milliseconds);
        if let Some(connection) = self.agent.as_ref().and_then(|agent| agent.connection()) {
            scene.stall(connection, milliseconds);
            self.hear_nothing(scene, connection);
        }
    }

    /// Nothing can come on its connection from now on, and it will notice.
    pub fn hear_nothing(&mut self, scene: &mut Scene, connection: usize) {
        let wait = self.lasts(scene.random.between(KEEP_ALIVE.0, KEEP_ALIVE.1));
        scene.after(wait, self.task(Task::Silent(connection)));
    }

    /// Whether it is connected and was welcomed.
    pub fn is_open(&self) -> bool {
        matches!(self.agent.as_ref().map(|agent| &agent.link), Some(Link::Open { .. }))
    }
}
