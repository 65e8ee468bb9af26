//! What machines, coordinators and the network have in common: time, chance, objects, connections, and what comes next.

use std::{
    collections::BTreeMap,
    fmt::Arguments,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use ceteris_shared::ids::Attempt;

use crate::{
    network::{Connection, Down, Up},
    objects::Objects,
    oracle::Oracle,
    random::Random,
    trace::Trace,
    weather::Weather,
};

/// Something that happens at a time.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Happening {
    /// The next message of a connection reaches the coordinator.
    Up(usize),
    /// The next message of a connection reaches the worker.
    Down(usize),
    /// A store's gate opens.
    Gate(u64),
    /// A life's clock reaches what its driver waits for.
    Alarm(u64),
    /// A coordinator starts.
    StartLife,
    /// One that does not lead any more finds out.
    Fenced(u64),
    /// An agent starts.
    Boot(usize),
    /// Something of one run of an agent.
    Agent { machine: usize, generation: u64, what: Task },
    /// A fault, as the weather wants it.
    Fault,
    /// A fault that was ordered.
    Scripted(crate::weather::Fault),
    /// A user asks for something.
    User,
    /// A machine that is being looked at reaches nobody for a while.
    Unplug(usize),
    /// It is to be used again.
    UseAgain(usize),
    /// Someone submits what contradicts itself.
    Senseless,
    /// Faults end.
    Calm,
    /// Whether everything has ended.
    Check,
}

/// Something that an agent does at a time.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Task {
    Connect,
    /// The connection was not welcomed in time.
    Unwelcome(usize),
    /// Nothing came on the connection for so long that it is given up.
    Silent(usize),
    /// It has something to say.
    Speak,
    Execution(Attempt, Step),
    /// It ends in good order.
    Leave,
}

/// How far an execution is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Inputs are there.
    Prepared,
    /// A checkpoint within the epoch of this index is stored.
    Stepped(usize),
    /// The epoch of this index is trained.
    Trained(usize),
    /// The oldest epoch that is trained is stored.
    Uploaded,
    /// And is to be committed.
    Committed,
    /// A stop is obeyed.
    Halted,
}

/// What is shared in a world.
#[derive(Debug)]
pub struct Scene {
    /// The world's time in milliseconds.
    pub now: u64,
    /// The same, for who only reads it.
    pub clock: Arc<AtomicU64>,
    pub random: Random,
    pub weather: Weather,
    pub objects: Objects,
    pub oracle: Oracle,
    pub trace: Trace,
    pub connections: Vec<Connection>,
    /// Nothing goes wrong any more.
    pub calm: bool,
    queue: BTreeMap<(u64, u64), Happening>,
    sequence: u64,
}

impl Scene {
    pub fn new(random: Random, weather: Weather, oracle: Oracle, trace: Trace) -> Self {
        Self {
            now: 0,
            clock: Arc::default(),
            random,
            weather,
            objects: Objects::default(),
            oracle,
            trace,
            connections: Vec::new(),
            calm: false,
            queue: BTreeMap::new(),
            sequence: 0,
        }
    }

    /// Adds a line to the trace.
    pub fn line(&self, what: Arguments<'_>) {
        self.trace.line(self.now, what);
    }

    /// Lets something happen at a time.
    pub fn at(&mut self, time: u64, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((time.max(self.now), self.sequence), happening);
    }

    /// Lets something happen after a while.
    pub fn after(&mut self, milliseconds: u64, happening: Happening) {
        self.at(self.now + milliseconds, happening);
    }

    /// When something happens next.
    pub fn next_at(&self) -> Option<u64> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// Goes to what comes next.
    pub fn take_next(&mut self) -> Option<Happening> {
        let ((time, _), happening) = self.queue.pop_first()?;
        self.now = time;
        self.clock.store(time, Ordering::SeqCst);
        Some(happening)
    }

    fn latency(&self) -> u64 {
        self.random.wait(self.weather.latency) + 1
    }

    /// Sends something to the coordinator; false where the worker does not use the connection any more.
    pub fn send_up(&mut self, connection: usize, up: Up) {
        let latency = self.latency();
        let now = self.now;
        let Some(open) = self.connections.get_mut(connection) else { return };
        open.up_until = open.up_until.max(now + latency);
        let at = open.up_until;
        open.up.push_back(up);
        self.at(at, Happening::Up(connection));
    }

    /// Sends something to a worker.
    pub fn send_down(&mut self, connection: usize, down: Down) {
        let latency = self.latency();
        let now = self.now;
        let Some(open) = self.connections.get_mut(connection) else { return };
        open.down_until = open.down_until.max(now + latency);
        let at = open.down_until;
        open.down.push_back(down);
        self.at(at, Happening::Down(connection));
    }

    /// The worker's side of a connection is over. What is on its way may arrive in part; the coordinator sees the end
    /// later.
    pub fn hang_up(&mut self, connection: usize) {
        let Some(open) = self.connections.get_mut(connection).filter(|open| open.heard) else { return };
        open.heard = false;
        let kept = self.random.index(open.up.len() + 1);
        open.up.truncate(kept);
        let late = if self.random.per_mille(300) { 20_000 } else { 0 };
        open.up_until = open.up_until.max(self.now) + late;
        self.send_up(connection, Up::End);
    }

    /// Everything on its way on a connection stands still for a while.
    pub fn stall(&mut self, connection: usize, milliseconds: u64) {
        if let Some(open) = self.connections.get_mut(connection) {
            // What is on its way already arrives; what is sent from now on waits.
            open.up_until = open.up_until.max(self.now + milliseconds);
            open.down_until = open.down_until.max(self.now + milliseconds);
        }
    }
}
