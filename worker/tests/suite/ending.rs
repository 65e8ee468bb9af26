//! An agent that ends: by itself, in time, or because it is asked. What it has is handed back first.

use std::time::{Duration, Instant};

use crate::support::{Agent, World, attempt, story, trainer::Behaviour};
use ceteris_proto::fleet::{CoordinatorMessage, EventKind};
use ceteris_worker::config::{Config, OnTerminate};

fn start(world: &World, number: u32, epochs: std::ops::RangeInclusive<u32>) -> CoordinatorMessage {
    CoordinatorMessage::Start(Box::new(world.start(number, epochs)))
}

/// Holds in epoch 1 at step 3, whatever is asked but to stop now.
fn patient() -> Behaviour {
    Behaviour { hold_in: Some(1), hold_at: 3, patient: true, ..Behaviour::default() }
}

/// Waits until the agent ends by itself, in good order.
async fn ends(agent: Agent) {
    let ended = tokio::time::timeout(Duration::from_secs(20), agent.task).await.expect("it ends by itself");
    ended.expect("no panic").expect("in good order");
}

/// An agent that finishes epochs when it is asked to end.
fn finishing(world: &World, grace: Duration) -> Agent {
    let config = Config { on_terminate: OnTerminate::FinishEpoch, terminate_grace: grace, ..world.config() };
    world.agent_with(config)
}

fn ask(agent: &Agent) {
    agent.ask.send_modify(|times| *times += 1);
}

#[tokio::test]
async fn an_agent_with_nothing_to_do_ends_and_not_before() {
    let world = World::new().await;
    world.trainer.behave(&patient());
    let agent = world.agent_with(Config { idle_timeout: Some(Duration::from_secs(2)), ..world.config() });
    world.coordinator.say(start(&world, 1, 1..=1)).await;
    world.holds(1, 1).await;
    world.coordinator.acknowledge(false);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(!agent.task.is_finished(), "it has an attempt");
    world.trainer.behave(&Behaviour::default());
    world.coordinator.ended(attempt(1)).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(!agent.task.is_finished(), "its events are not acknowledged");
    world.coordinator.acknowledge(true);
    world.coordinator.disconnect().await;
    world.coordinator.registered(2).await;
    ends(agent).await;
}

#[tokio::test]
async fn what_runs_is_handed_back_before_the_time_limit() {
    let world = World::new().await;
    world.trainer.behave(&patient());
    let mut config = Config { time_limit: Some(Duration::from_secs(6)), ..world.config() };
    config.limits.upload_grace = Duration::from_millis(1000);
    config.limits.last_words = Duration::from_millis(500);
    let (began, agent) = (Instant::now(), world.agent_with(config));
    world.coordinator.say(start(&world, 1, 1..=2)).await;
    ends(agent).await;
    let took = began.elapsed();
    assert!((Duration::from_millis(4000)..Duration::from_millis(6000)).contains(&took), "{took:?}");
    assert_eq!(story(&world.coordinator.ended(attempt(1)).await), ["started", "step 3 of 1", "stopped"]);
}

#[tokio::test]
async fn nothing_is_begun_that_could_not_commit_an_epoch_before_the_time_limit() {
    let world = World::new().await;
    world.trainer.behave(&Behaviour { seconds: Some(1e4), ..Behaviour::default() });
    let agent = world.agent_with(Config { time_limit: Some(Duration::from_secs(3600)), ..world.config() });
    world.coordinator.say(start(&world, 1, 1..=1)).await;
    let first = story(&world.coordinator.ended(attempt(1)).await);
    assert_eq!(first, ["started", "3 points of 1", "committed 1", "finished"], "nothing was known yet");
    world.coordinator.say(start(&world, 2, 2..=2)).await;
    assert_eq!(story(&world.coordinator.ended(attempt(2)).await), ["stopped"]);
    // It has nothing any more and will take nothing: the rest of its time is not waited for.
    ends(agent).await;
}

#[tokio::test]
async fn an_agent_that_finishes_epochs_takes_nothing_new() {
    let world = World::new().await;
    world.trainer.behave(&Behaviour { hold_in: Some(1), patient: true, ..Behaviour::default() });
    let agent = finishing(&world, Duration::from_secs(60));
    world.coordinator.say(start(&world, 1, 1..=3)).await;
    world.holds(1, 1).await;
    ask(&agent);
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.coordinator.say(start(&world, 2, 1..=1)).await;
    assert_eq!(story(&world.coordinator.ended(attempt(2)).await), ["stopped"]);
    world.trainer.behave(&Behaviour::default());
    let events = world.coordinator.ended(attempt(1)).await;
    assert_eq!(story(&events), ["started", "3 points of 1", "committed 1", "stopped"]);
    ends(agent).await;
    let last = world.coordinator.arrivals().into_iter().map(|event| event.sequence).max();
    assert!(last.is_some(), "everything was told");
}

#[tokio::test]
async fn an_epoch_that_takes_longer_than_the_grace_is_checkpointed() {
    let world = World::new().await;
    world.trainer.behave(&patient());
    let agent = finishing(&world, Duration::from_millis(300));
    world.coordinator.say(start(&world, 1, 1..=3)).await;
    world.holds(1, 1).await;
    ask(&agent);
    ends(agent).await;
    assert_eq!(story(&world.coordinator.ended(attempt(1)).await), ["started", "step 3 of 1", "stopped"]);
}

#[tokio::test]
async fn who_asks_twice_does_not_wait_for_the_epoch() {
    let world = World::new().await;
    world.trainer.behave(&patient());
    let agent = finishing(&world, Duration::from_secs(60));
    world.coordinator.say(start(&world, 1, 1..=3)).await;
    world.holds(1, 1).await;
    ask(&agent);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!agent.task.is_finished());
    ask(&agent);
    ends(agent).await;
    assert_eq!(story(&world.coordinator.ended(attempt(1)).await), ["started", "step 3 of 1", "stopped"]);
}

#[tokio::test]
async fn what_the_coordinator_did_not_hear_at_the_end_it_hears_after_the_next_start() {
    let world = World::new().await;
    world.trainer.behave(&patient());
    let mut config = world.config();
    config.limits.last_words = Duration::from_millis(200);
    let agent = world.agent_with(config);
    world.coordinator.say(start(&world, 1, 1..=3)).await;
    world.holds(1, 1).await;
    world.coordinator.refuse(Some(tonic::Status::unavailable("down")));
    world.coordinator.disconnect().await;
    agent.stop().await.expect("it ends in good order");
    assert!(!world.coordinator.arrivals().iter().any(|event| event.kind == EventKind::Stopped));
    world.coordinator.refuse(None);
    let agent = world.agent();
    assert_eq!(story(&world.coordinator.ended(attempt(1)).await), ["started", "step 3 of 1", "stopped"]);
    agent.stop().await.expect("it ends in good order");
}
