//! One seed's world, from its first coordinator to its quiet end.

mod faults;
mod lies;
mod lives;
mod people;
mod setting;

use std::{sync::Arc, time::Duration};

use ceteris_scheduler::Config;
use ceteris_shared::{
    checkpoint::Environment,
    digest::Digest,
    ids::{ExperimentId, WorkerId},
    lineage,
};
use tokio::sync::mpsc;

use crate::{
    coordinator::{Life, Stage},
    machine::Machine,
    network::{Connection, Down, Said, Up, converse},
    oracle::{Ending, Oracle, Violation},
    random::Random,
    scene::{Happening, Scene, Task},
    store::Shared,
    trace::Trace,
    users::{Answer, Answers, Ask},
    weather::Fault,
};

pub use setting::Setting;

/// How often workers are asked for a heartbeat.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long everything may take to end once nothing goes wrong any more.
const PATIENCE: u64 = 24 * 3600 * 1000;
/// How often it is looked whether everything has ended.
const CHECK: u64 = 20_000;
/// Steps of tasks at one point in time, from which on they go round in circles.
const STEPS: u32 = 200_000;

/// What became of a seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub seed: u64,
    /// The hash of everything that happened.
    pub hash: Digest,
    pub violation: Option<Violation>,
    /// The last lines of the trace.
    pub last: Vec<String>,
    pub ending: Ending,
    /// Lines of the trace.
    pub lines: u64,
    /// Simulated milliseconds.
    pub lasted: u64,
    /// Lives of coordinators.
    pub lives: u64,
}

/// A world.
#[derive(Debug)]
pub struct World {
    pub scene: Scene,
    pub machines: Vec<Machine>,
    lives: Vec<Life>,
    shared: Arc<Shared>,
    setting: Setting,
    config: Config,
    started: u64,
    /// What the clocks of coordinators show, less the world's time: it is set forward between lives, and seldom back.
    offset: u64,
    answers: Answers,
    /// The life that a user waits for an answer of.
    asked: Option<u64>,
    next_life: bool,
}

impl World {
    /// The world of a seed.
    pub fn of(seed: u64, print: bool) -> Self {
        let random = Random::new(seed);
        let setting = Setting::draw(&random);
        Self::new(random, setting, print)
    }

    /// A world with this setting.
    pub fn new(random: Random, setting: Setting, print: bool) -> Self {
        let config = Config { lease: Duration::from_secs(30), replay: HEARTBEAT, ..Config::default() };
        let (oracle, trace) = (Oracle::new(config), Trace::new(print));
        let mut scene = Scene::new(random, setting.weather.clone(), oracle.clone(), trace.clone());
        let clock = Arc::clone(&scene.clock);
        let shared = Arc::new(Shared::new(scene.random.clone(), setting.weather.clone(), oracle, trace, clock));
        let mut machines = Vec::new();
        for (index, &(slots, class)) in setting.machines.iter().enumerate() {
            let id = WorkerId(scene.random.uuid());
            let rate = scene.random.between(970, 1030);
            let mut machine = Machine::new(index, id, environment(class), slots, rate, setting.spool_bytes);
            machine.lies = index > 0 && setting.weather.has_lies() && scene.random.per_mille(350);
            machines.push(machine);
            let wait = scene.random.wait(5000);
            scene.after(wait, Happening::Boot(index));
        }
        scene.at(0, Happening::StartLife);
        let wait = scene.random.wait(setting.weather.every);
        scene.after(wait, Happening::Fault);
        for &(at, fault) in &setting.script {
            scene.at(at, Happening::Scripted(fault));
        }
        scene.after(1, Happening::User);
        let wait = scene.random.wait(setting.senseless);
        scene.after(wait, Happening::Senseless);
        scene.at(setting.weather.until, Happening::Calm);
        scene.line(format_args!("{setting:?}"));
        Self {
            scene,
            machines,
            lives: Vec::new(),
            shared,
            setting,
            config,
            started: 0,
            offset: 1_700_000_000_000,
            answers: Answers::default(),
            asked: None,
            next_life: true,
        }
    }

    /// Lets everything happen until a time.
    pub fn run_until(&mut self, time: u64) {
        while self.scene.oracle.violation().is_none() && self.scene.next_at().is_some_and(|at| at <= time) {
            if let Some(happening) = self.scene.take_next() {
                self.happen(happening);
                self.settle_tasks();
            }
        }
    }

    /// Lets everything happen, to the end or to the first rule that is broken.
    pub fn run(mut self, seed: u64) -> Outcome {
        let mut ending = Ending::default();
        while self.scene.oracle.violation().is_none() {
            let Some(happening) = self.scene.take_next() else {
                self.scene.oracle.report("nobody starves", "nothing happens any more");
                break;
            };
            if matches!(happening, Happening::Check) && self.has_ended() {
                self.scene.line(format_args!("everything has ended"));
                ending = self.scene.oracle.judge(&self.shared.memory);
                break;
            }
            self.happen(happening);
            self.settle_tasks();
        }
        let trace = &self.scene.trace;
        Outcome {
            seed,
            hash: trace.hash(),
            violation: self.scene.oracle.violation(),
            last: trace.last(),
            ending,
            lines: trace.count(),
            lasted: self.scene.now,
            lives: self.started,
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Up(connection) => self.arrive_up(connection),
            Happening::Down(connection) => self.arrive_down(connection),
            Happening::Gate(gate) => self.shared.open(gate),
            Happening::Alarm(_) => {}
            Happening::StartLife => self.start_life(),
            Happening::Fenced(number) => self.fence(number),
            Happening::Boot(index) => {
                let Some(machine) = self.machines.get_mut(index) else { return };
                if machine.agent.is_none() {
                    machine.boot(&mut self.scene);
                }
            }
            Happening::Agent { machine, generation, what } => self.act(machine, generation, what),
            Happening::Fault => self.fault(),
            Happening::Scripted(fault) => self.cause(fault),
            Happening::User => self.user(),
            Happening::Unplug(index) => self.unplug(index),
            Happening::UseAgain(index) => self.use_again(index),
            Happening::Senseless => self.submit_senseless(),
            Happening::Calm => self.calm(),
            Happening::Check => self.check(),
        }
    }

    /// Lets all tasks go on as far as they can, and takes in what comes of it.
    fn settle_tasks(&mut self) {
        let mut steps = 0;
        let now = self.scene.now;
        self.lives.iter().filter(|life| life.goes_on(now)).for_each(|life| life.tell_time(now));
        loop {
            let mut moved = false;
            for life in self.lives.iter_mut().filter(|life| life.goes_on(now)) {
                while life.tasks.step(&self.scene.random) {
                    moved = true;
                    steps += 1;
                    if steps > STEPS {
                        return self.scene.oracle.report("tasks come to rest", format!("life {}", life.number));
                    }
                }
            }
            for (gate, wait) in self.shared.shut() {
                self.scene.after(wait, Happening::Gate(gate));
            }
            moved |= self.take_in();
            if !moved {
                break;
            }
        }
        self.check_deadline();
        for index in 0..self.lives.len() {
            let life = &mut self.lives[index];
            let late = || self.scene.random.wait(self.setting.weather.late);
            if let Some(alarm) = life.next_alarm(late) {
                let number = life.number;
                self.scene.at(alarm, Happening::Alarm(number));
            }
        }
    }

    /// What sessions said, what users were answered, and who ended.
    fn take_in(&mut self) -> bool {
        let mut moved = false;
        for connection in 0..self.scene.connections.len() {
            let open = &self.scene.connections[connection];
            if open.inbound.is_none() && !open.heard {
                continue;
            }
            let said = open.said.take();
            for down in said {
                moved = true;
                if matches!(down, Down::End(_)) {
                    self.scene.connections[connection].inbound = None;
                }
                if self.scene.connections[connection].heard {
                    self.scene.send_down(connection, down);
                }
            }
        }
        for answer in self.answers.take() {
            moved = true;
            if !matches!(answer, Answer::SubmittedSenseless(..)) {
                self.asked = None;
            }
            self.scene.line(format_args!("users are told {answer:?}"));
            answer.check(&self.scene.oracle);
            if let Answer::Collected(Ok(given)) = &answer {
                given.iter().for_each(|manifest| self.scene.objects.collect(*manifest));
            }
        }
        let ended = |life: &Life| match &*life.stage() {
            Stage::Ended(failure) => Some((life.number, failure.as_ref().map(ToString::to_string))),
            Stage::Restoring | Stage::Ready(..) => None,
        };
        let ended: Vec<_> = self.lives.iter().filter_map(ended).collect();
        for (number, failure) in ended {
            moved = true;
            let why = failure.unwrap_or_else(|| "it was told to".to_owned());
            if why.contains("contradicts itself") {
                self.scene.oracle.report("what is stored can be restored", &why);
            }
            self.end_life(number, &why);
        }
        moved
    }

    // The network.

    fn arrive_up(&mut self, connection: usize) {
        let Some(open) = self.scene.connections.get_mut(connection) else { return };
        let Some(up) = open.up.pop_front() else { return };
        match (up, &open.inbound) {
            (Up::Message(message), Some(inbound)) => drop(inbound.send(Ok(message))),
            (Up::End, _) => drop(open.inbound.take()),
            (Up::Message(_), None) => {}
        }
        let (machine, heard) = (open.machine, open.heard);
        if heard && let Some(machine) = self.machines.get_mut(machine).filter(|m| m.stalled_until <= self.scene.now) {
            machine.speak_on(&mut self.scene, connection);
        }
    }

    fn arrive_down(&mut self, connection: usize) {
        let Some(open) = self.scene.connections.get_mut(connection) else { return };
        let Some(machine) = self.machines.get_mut(open.machine) else { return };
        if machine.stalled_until > self.scene.now {
            let until = machine.stalled_until;
            return self.scene.at(until, Happening::Down(connection));
        }
        if let Some(down) = open.down.pop_front() {
            machine.hear(&mut self.scene, connection, down);
        }
    }

    fn act(&mut self, index: usize, generation: u64, what: Task) {
        let Some(machine) = self.machines.get(index) else { return };
        if machine.generation != generation {
            return;
        }
        if machine.stalled_until > self.scene.now {
            let until = machine.stalled_until;
            return self.scene.at(until, Happening::Agent { machine: index, generation, what });
        }
        if let Task::Silent(connection) = what
            && !self.is_silent(index, connection)
        {
            return;
        }
        let (lives, Some(machine)) = (&mut self.lives, self.machines.get_mut(index)) else { return };
        machine.act(&mut self.scene, what, |scene, machine| open(scene, lives, machine));
    }

    /// Nothing can come on a connection, which is noticed after a while.
    fn is_silent(&self, machine: usize, connection: usize) -> bool {
        let now = self.scene.now;
        let cut_off = self.machines.get(machine).is_some_and(|machine| machine.cut_off_until > now);
        let life = self.scene.connections.get(connection).map(|open| open.life);
        cut_off || self.lives.iter().any(|other| Some(other.number) == life && !other.goes_on(now))
    }

    // The end.

    /// Nothing more goes wrong, and who was lost comes back. Who stands still or is cut off comes back in its time.
    fn calm(&mut self) {
        self.scene.line(format_args!("the weather is calm from now on"));
        self.scene.calm = true;
        self.shared.settle();
        for machine in &mut self.machines {
            if machine.lies {
                machine.kill(&mut self.scene);
            }
            if machine.agent.is_none() {
                let wait = self.scene.random.below(2000);
                self.scene.after(wait, Happening::Boot(machine.index));
            }
        }
        self.scene.after(CHECK, Happening::Check);
    }

    fn has_ended(&self) -> bool {
        let oracle = &self.scene.oracle;
        let submitted = (1..=self.setting.experiments.len())
            .all(|index| oracle.experiment(ExperimentId(uuid::Uuid::from_u128(index as u128))).is_some());
        submitted && oracle.all_ended() && !self.is_mendable() && self.machines.iter().all(Machine::is_drained)
    }

    fn is_mendable(&self) -> bool {
        !self.scene.oracle.mendable().is_empty()
    }

    fn check(&mut self) {
        if self.scene.now > self.setting.weather.until + PATIENCE {
            let backlog: Vec<u64> = self.machines.iter().map(Machine::backlog).collect();
            let detail = format!("{}; events that wait: {backlog:?}", self.scene.oracle.states());
            return self.scene.oracle.report("nobody starves", detail);
        }
        // Looking less and less often costs less where one waits for long.
        let since = self.scene.now - self.setting.weather.until;
        self.scene.after(CHECK.max(since / 10), Happening::Check);
        if self.asked.is_some() {
            return;
        }
        if let Some(ask) = self.due() {
            self.ask(ask);
        } else if let Some(drained) = self.machines.iter().find(|m| self.scene.oracle.is_drained(m.id)) {
            self.ask(Ask::Drain(drained.id, None));
        } else if let Some(paused) = self.scene.oracle.paused().first() {
            self.ask(Ask::Resume(*paused));
        } else if let Some(failed) = self.scene.oracle.mendable().first() {
            self.ask(Ask::Retry(*failed));
        }
    }
}

/// Opens a connection to a coordinator that works: mostly the newest.
fn open(scene: &mut Scene, lives: &mut [Life], machine: usize) -> Option<usize> {
    let count = lives.len();
    let old = count > 1 && scene.random.per_mille(200);
    let life = lives.get_mut(if old { 0 } else { count.checked_sub(1)? })?;
    let (_, service) = life.reach()?;
    let (sender, receiver) = mpsc::unbounded_channel();
    let said = Said::default();
    life.tasks.spawn(converse(service, receiver, said.clone()));
    scene.connections.push(Connection {
        machine,
        life: life.number,
        up: Default::default(),
        up_until: 0,
        down: Default::default(),
        down_until: 0,
        inbound: Some(sender),
        said,
        heard: true,
    });
    Some(scene.connections.len() - 1)
}

/// The environment class of this number.
pub fn environment(class: u32) -> Environment {
    Environment {
        engine: lineage::ENGINE.to_owned(),
        libtorch: "2".to_owned(),
        device: "cpu".to_owned(),
        instructions: "AVX2".to_owned(),
        threads: class + 1,
        determinism: "default".to_owned(),
    }
}
