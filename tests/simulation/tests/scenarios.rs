//! Worlds that are set up to show one thing.

use ceteris_simulation::{
    random::Random,
    weather::{Fault, Weather},
    world::{Setting, World},
};

const SECOND: u64 = 1000;
const DAY: u64 = 24 * 3600 * SECOND;

fn fair() -> Setting {
    Setting {
        weather: Weather { until: 600 * SECOND, ..Weather::fair() },
        machines: vec![(1, 0)],
        experiments: vec![(1, 0)],
        requests: 1 << 40,
        senseless: 1 << 40,
        spool_bytes: 1 << 30,
        away: (1, 1),
        script: Vec::new(),
    }
}

#[test]
fn in_fair_weather_everything_is_trained_once() {
    let outcome = World::new(Random::new(1), fair(), false).run(1);
    assert_eq!(outcome.violation, None);
    // One attempt a segment: the beginning that all arms share, that of two, and the rest of each of the three.
    assert_eq!((outcome.ending.attempts, outcome.ending.completed, outcome.lives), (5, 5, 1));
    // Two that all arms share, two that two share, and then 1, 3 and 1 of their own.
    assert_eq!(outcome.ending.epochs, 9);
}

#[test]
fn a_day_without_coordinator_costs_nothing() {
    let setting = Setting {
        weather: Weather { until: 3 * DAY, ..Weather::fair() },
        script: vec![(20 * SECOND, Fault::KillCoordinator)],
        away: (DAY, DAY),
        ..fair()
    };
    let mut world = World::new(Random::new(7), setting, false);
    world.run_until(3600 * SECOND);
    let waiting = world.machines[0].backlog();
    assert!(waiting >= 3, "training goes on, and what it comes to waits: {waiting} events");
    let outcome = world.run(7);
    assert_eq!(outcome.violation, None, "nothing is lost, and no value of an epoch that counts is missing");
    assert_eq!(
        (outcome.ending.attempts, outcome.ending.completed, outcome.lives),
        (5, 5, 2),
        "and nothing is trained again"
    );
}

/// An experiment that is bound to one class took an epoch that was trained in it, but on weights of another class, by an
/// experiment that may be trained anywhere.
#[test]
fn what_is_taken_was_trained_in_one_class_from_its_beginning() {
    for seed in 0..20 {
        let setting = Setting {
            machines: vec![(1, 0), (1, 1)],
            experiments: vec![(2, 0), (2, 0), (0, 120 * SECOND)],
            weather: Weather { infrastructure: 300, until: 150 * SECOND, ..Weather::fair() },
            ..fair()
        };
        let outcome = World::new(Random::new(seed), setting, false).run(seed);
        assert_eq!(outcome.violation, None, "seed {seed}");
    }
}

/// A refused submission that came just when a back-off had ended kept to itself what was given to a worker at that moment:
/// the worker was not told, and the store neither.
#[test]
fn a_refused_submission_takes_nothing_with_it() {
    for seed in 0..40 {
        let setting = Setting {
            machines: vec![(2, 0)],
            experiments: vec![(1, 0), (5, 0)],
            senseless: SECOND,
            weather: Weather { infrastructure: 500, slow: 700, until: 400 * SECOND, ..Weather::fair() },
            ..fair()
        };
        let outcome = World::new(Random::new(seed), setting, false).run(seed);
        assert_eq!(outcome.violation, None, "seed {seed}");
    }
}

/// An agent that was told to end while the coordinator was away left word that it had stopped its attempt. Its successor
/// delivered that on its own connection, was taken for one that is shutting down, and was given nothing any more.
#[test]
fn an_agent_that_follows_one_that_ended_is_given_work() {
    for seed in 0..20 {
        let setting = Setting {
            weather: Weather { until: 120 * SECOND, ..Weather::fair() },
            script: vec![(15 * SECOND, Fault::KillCoordinator), (17 * SECOND, Fault::StopAgent)],
            away: (60 * SECOND, 60 * SECOND),
            ..fair()
        };
        let outcome = World::new(Random::new(seed), setting, false).run(seed);
        assert_eq!(outcome.violation, None, "seed {seed}");
    }
}
