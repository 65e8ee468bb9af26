//! Faults without end on a fleet that trains: whatever of it is killed, stopped or cut off, nothing that was shown is lost,
//! nothing is there twice, and the weights are those of a fleet of peace.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use crate::{Fleet, Program, Signal, eventually, fleet::LEASE, proxy::Direction, signal, work::Work};

/// Workers of the fleet.
const WORKERS: usize = 2;
/// Longest peace before a fault.
const PEACE: Duration = Duration::from_millis(700);
/// Longest time in which a killed store is away.
const STORE_AWAY: Duration = Duration::from_secs(1);
/// Most seconds by which a clock goes wrong. Object stores refuse who is wrong by a quarter of an hour.
const WRONG: i64 = 300;
/// Longer than a lease.
const PAST_LEASE: Duration = Duration::from_secs(LEASE as u64 + 1);

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A trainer is killed; its agent starts another.
    KillTrainer,
    /// An agent is killed, its trainer ends with it, and it is started again on the same state.
    KillAgent,
    /// The coordinator that leads is killed, and started again: the other one takes over.
    KillLeader,
    /// The coordinator that stands by is killed, and started again.
    KillStandby,
    /// The object store is killed, and started again a moment later.
    KillStore,
    /// The coordinator that leads is stopped until the other one has taken over, and wakes up.
    StopLeader,
    /// An agent is stopped for longer than its lease, while its trainer trains, and wakes up.
    StopAgent,
    /// The connections of the coordinator that leads to its database are cut: it ends, and the other one takes over.
    CutDatabase,
    /// What the coordinator that leads says to its database, or hears from it, does not arrive until another one leads.
    StallDatabase,
    /// The clock of a machine, a coordinator's or a worker's, is set forward or back.
    SetClock,
    /// All connections of a worker to coordinators are cut, and refused for a moment.
    CutLink,
    /// What a worker says does not arrive for longer than its lease; what it is told does.
    StallToCoordinator,
    /// What a worker is told does not arrive for longer than its lease; what it says does.
    StallToWorker,
}

impl Fault {
    /// All, as often as they are drawn: kills more than what takes long.
    const DRAWN: [Self; 29] = [
        Self::KillTrainer,
        Self::KillTrainer,
        Self::KillTrainer,
        Self::KillTrainer,
        Self::KillTrainer,
        Self::KillAgent,
        Self::KillAgent,
        Self::KillAgent,
        Self::KillAgent,
        Self::KillAgent,
        Self::KillLeader,
        Self::KillLeader,
        Self::KillLeader,
        Self::KillLeader,
        Self::KillStandby,
        Self::KillStandby,
        Self::KillStore,
        Self::KillStore,
        Self::KillStore,
        Self::StopLeader,
        Self::StopAgent,
        Self::CutDatabase,
        Self::CutDatabase,
        Self::StallDatabase,
        Self::SetClock,
        Self::SetClock,
        Self::CutLink,
        Self::StallToCoordinator,
        Self::StallToWorker,
    ];

    /// What it does, in a few words.
    pub fn name(self) -> &'static str {
        match self {
            Self::KillTrainer => "kill -9 of a trainer",
            Self::KillAgent => "kill -9 of an agent",
            Self::KillLeader => "kill -9 of the leading coordinator",
            Self::KillStandby => "kill -9 of the coordinator that stands by",
            Self::KillStore => "kill -9 of the object store",
            Self::StopLeader => "SIGSTOP of the leading coordinator until another one leads",
            Self::StopAgent => "SIGSTOP of an agent past its lease",
            Self::CutDatabase => "the leading coordinator's connections to its database cut",
            Self::StallDatabase => {
                "nothing from the leading coordinator to its database, or back, until another one leads"
            }
            Self::SetClock => "a machine's clock set forward or back",
            Self::CutLink => "a worker's connections cut",
            Self::StallToCoordinator => "nothing from a worker to coordinators, past its lease",
            Self::StallToWorker => "nothing from coordinators to a worker, past its lease",
        }
    }
}

/// How much is disturbed.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Faults, one after the other.
    pub cycles: u32,
    /// Decides which, of whom, and when. When exactly depends on the machine too.
    pub seed: u64,
}

/// One fault.
#[derive(Clone, Copy, Debug)]
pub struct Cycle {
    /// Which one, from 1.
    pub number: u32,
    /// What happened.
    pub fault: Fault,
    /// Seconds from the fault to the first epoch that was committed after it and after everything was started again.
    pub seconds: f64,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Seconds of each cycle, by fault.
    pub seconds: BTreeMap<Fault, Vec<f64>>,
    /// Experiments that were trained, their epochs and measured values.
    pub done: (usize, usize, usize),
    /// Checkpoints and values that were shown once and were gone or others later.
    pub lost: u32,
    /// Checkpoints and values that were there more than once.
    pub doubled: u32,
    /// Experiments whose weights or values are not those of a fleet that nobody disturbed.
    pub differing: usize,
}

/// Disturbs a fleet, tells of each cycle, and compares with one that nobody disturbs. None where the tests are given no
/// servers.
///
/// # Panics
/// When training does not go on after a fault, or a process ends that had no reason to.
pub fn soak(test: &str, options: Options, mut tell: impl FnMut(&Cycle)) -> Option<Outcome> {
    let mut fleet = Fleet::start(test, WORKERS)?;
    fleet.import(crate::Images::TINY);
    let mut random = ChaCha8Rng::seed_from_u64(options.seed);
    let (mut work, mut outcome) = (Work::default(), Outcome::default());
    work.supply(&fleet);
    eventually("a first epoch", || (fleet.epochs() > 0).then_some(()));
    for number in 1..=options.cycles {
        work.look(&fleet);
        work.supply(&fleet);
        thread::sleep(up_to(&mut random, PEACE));
        let fault = draw(&fleet, &mut random);
        let began = Instant::now();
        disturb(&mut fleet, fault, &mut random);
        let before = fleet.epochs();
        eventually(&format!("an epoch after {}", fault.name()), || {
            fleet.revive();
            if fleet.epochs() > before {
                return Some(());
            }
            // Everything may have been trained during the fault.
            fleet.leader();
            work.look(&fleet);
            work.supply(&fleet);
            None
        });
        let cycle = Cycle { number, fault, seconds: began.elapsed().as_secs_f64() };
        outcome.seconds.entry(fault).or_default().push(cycle.seconds);
        tell(&cycle);
    }
    work.finish(&fleet);
    drop(fleet);
    let peaceful = Fleet::start(test, WORKERS)?;
    peaceful.import(crate::Images::TINY);
    outcome.differing = work.differing(&peaceful);
    Some(Outcome { done: work.done(), lost: work.lost, doubled: work.doubled, ..outcome })
}

fn below(random: &mut ChaCha8Rng, limit: usize) -> usize {
    (random.next_u64() % limit as u64) as usize
}

fn up_to(random: &mut ChaCha8Rng, longest: Duration) -> Duration {
    longest.mul_f64(f64::from(random.next_u32()) / f64::from(u32::MAX))
}

/// What happens next, of what can happen here.
fn draw(fleet: &Fleet, random: &mut ChaCha8Rng) -> Fault {
    loop {
        let fault = Fault::DRAWN[below(random, Fault::DRAWN.len())];
        if fault != Fault::SetClock || !fleet.clocks().is_empty() {
            return fault;
        }
    }
}

/// Does it, and undoes what can be undone.
fn disturb(fleet: &mut Fleet, fault: Fault, random: &mut ChaCha8Rng) {
    let worker = below(random, fleet.workers());
    match fault {
        Fault::KillTrainer => {
            fleet.agent(worker).children(Program::Trainer).into_iter().for_each(|id| signal(id, Signal::KILL));
        }
        Fault::KillAgent => fleet.kill_agent(worker),
        Fault::KillLeader => fleet.kill_coordinator(fleet.leader()),
        Fault::KillStandby => fleet.kill_coordinator(1 - fleet.leader()),
        Fault::KillStore => {
            let store = fleet.store();
            store.kill().unwrap_or_else(|error| panic!("{error:#}"));
            thread::sleep(up_to(random, STORE_AWAY));
            store.start_again().unwrap_or_else(|error| panic!("{error:#}"));
        }
        Fault::StopLeader => {
            let leader = fleet.leader();
            signal(fleet.coordinator(leader).id(), Signal::STOP);
            eventually("the other coordinator to lead", || (fleet.leader() != leader).then_some(()));
            signal(fleet.coordinator(leader).id(), Signal::CONT);
            fleet.restart_deposed(leader);
        }
        Fault::StopAgent => {
            let agent = fleet.agent(worker).id();
            signal(agent, Signal::STOP);
            thread::sleep(PAST_LEASE);
            signal(agent, Signal::CONT);
        }
        Fault::CutDatabase => {
            let leader = fleet.leader();
            fleet.database_link(leader).cut();
            fleet.restart_deposed(leader);
        }
        Fault::StallDatabase => {
            let leader = fleet.leader();
            fleet.database_link(leader).stall(Direction::BOTH[below(random, 2)]);
            eventually("the other coordinator to lead", || (fleet.leader() != leader).then_some(()));
            fleet.database_link(leader).flow();
            fleet.restart_deposed(leader);
        }
        Fault::SetClock => {
            let clocks = fleet.clocks();
            let seconds = below(random, 2 * WRONG as usize + 1) as i64 - WRONG;
            clocks[below(random, clocks.len())].set(seconds);
        }
        Fault::CutLink => {
            let links = fleet.links(worker);
            links.iter().for_each(crate::Proxy::refuse);
            thread::sleep(up_to(random, PAST_LEASE));
            links.iter().for_each(crate::Proxy::admit);
        }
        Fault::StallToCoordinator | Fault::StallToWorker => {
            let direction = if fault == Fault::StallToWorker { Direction::ToClient } else { Direction::ToServer };
            let links = fleet.links(worker);
            links.iter().for_each(|link| link.stall(direction));
            thread::sleep(PAST_LEASE);
            links.iter().for_each(crate::Proxy::flow);
        }
    }
}
