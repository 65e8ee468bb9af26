//! Checkpoints within an epoch: stored beside epochs, made at a stop, and gone on from with the same bits.

use std::time::Duration;

use crate::support::{
    World, attempt, failure, key, story,
    trainer::{Behaviour, trained},
};
use ceteris_proto::fleet::{CoordinatorMessage, Event, EventKind, Start, StartAttempt, StepCommitted};
use ceteris_shared::{
    checkpoint::{Manifest, Role},
    digest::Digest,
    ids::Epoch,
};

fn begin(start: StartAttempt) -> CoordinatorMessage {
    CoordinatorMessage::Start(Box::new(start))
}

/// Waits in an epoch when so many steps of it are done.
fn holding(epoch: u32, step: u32) -> Behaviour {
    Behaviour { hold_in: Some(epoch), hold_at: step, ..Behaviour::default() }
}

fn steps(events: &[Event]) -> Vec<StepCommitted> {
    let step = |event: &Event| if let EventKind::StepCommitted(step) = event.kind { Some(step) } else { None };
    events.iter().filter_map(step).collect()
}

async fn manifest(world: &World, digest: Digest) -> Manifest {
    let bytes = world.blobs.get_bytes(&digest, 1 << 20).await.expect("the manifest is stored");
    Manifest::from_bytes(&bytes).expect("it is one")
}

async fn holds(world: &World, number: u32, epoch: u32) {
    let there = |p: &ceteris_proto::fleet::Progress| p.attempt == attempt(number) && p.epoch == Epoch(epoch);
    world.coordinator.heartbeat(|running| running.iter().any(there)).await;
}

/// The bytes that both epochs lead to from nothing, whatever happens between.
fn undisturbed(world: &World) -> Digest {
    let work = world.start(1, 1..=2).work;
    let first = String::from_utf8(trained("random", &work.epochs[0])).expect("text");
    Digest::of(&trained(&first, &work.epochs[1]))
}

/// Lets a second attempt go on from a step of epoch 1 to the end of epoch 2, and checks what it comes to.
async fn goes_on_from(world: &World, step: StepCommitted) {
    world.trainer.behave(&Behaviour::default());
    let start = StartAttempt { start: Start::Checkpoint(step.manifest), ..world.start(2, 1..=2) };
    world.coordinator.say(begin(start)).await;
    let events = world.coordinator.ended(attempt(2)).await;
    let expected = ["started", "3 points of 1", "committed 1", "3 points of 2", "committed 2", "finished"];
    assert_eq!(story(&events), expected, "an epoch's points are told once, when it is committed");
    let last = events.iter().rev().find_map(|event| match &event.kind {
        EventKind::EpochCommitted(committed) => Some(committed.manifest),
        _ => None,
    });
    let last = manifest(world, last.expect("it was committed")).await;
    assert_eq!((last.step, last.parts[1].digest), (None, undisturbed(world)), "the same bits as without interruption");
}

#[tokio::test]
async fn a_killed_trainer_costs_no_more_than_the_steps_since_the_last_checkpoint() {
    let world = World::new().await;
    world.trainer.behave(&Behaviour { checkpoint_every: Some(2), ..holding(1, 5) });
    let agent = world.agent();
    world.coordinator.say(begin(world.start(1, 1..=2))).await;
    let fourth = |event: &Event| matches!(event.kind, EventKind::StepCommitted(step) if step.step == 4);
    world.coordinator.event("the fourth step", fourth).await;
    world.trainer.kill();
    let events = world.coordinator.ended(attempt(1)).await;
    assert_eq!(story(&events).last().expect("an end"), "failed Infrastructure");
    let step = *steps(&events).last().expect("steps were committed");
    assert_eq!((step.epoch, step.step, step.key), (Epoch(1), 4, key(1)));

    let stored = manifest(&world, step.manifest).await;
    assert_eq!((stored.epoch, stored.step, stored.key, stored.attempt), (Epoch(1), Some(4), key(1), attempt(1)));
    assert_eq!(stored.parts.last().map(|part| part.role), Some(Role::Progress));
    goes_on_from(&world, step).await;
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn steps_stand_before_their_epochs_and_no_epoch_is_left_out() {
    let world = World::new().await;
    world.trainer.behave(&Behaviour { checkpoint_every: Some(1), ..Behaviour::default() });
    let agent = world.agent();
    world.coordinator.say(begin(world.start(1, 1..=6))).await;
    let events = world.coordinator.ended(attempt(1)).await;
    let mut committed = 0;
    let mut last = (0, 0);
    for event in &events {
        match &event.kind {
            EventKind::StepCommitted(step) => {
                assert_eq!(step.epoch, Epoch(committed + 1), "a step is of the epoch that comes next");
                assert!((step.epoch.0, step.step) > last);
                last = (step.epoch.0, step.step);
            }
            EventKind::EpochCommitted(epoch) => {
                committed += 1;
                assert_eq!(epoch.epoch, Epoch(committed));
            }
            _ => {}
        }
    }
    assert_eq!((committed, story(&events).last().map(String::as_str)), (6, Some("finished")));
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn a_stop_at_once_leaves_a_checkpoint() {
    let world = World::new().await;
    world.trainer.behave(&holding(1, 3));
    let agent = world.agent();
    world.coordinator.say(begin(world.start(1, 1..=2))).await;
    holds(&world, 1, 1).await;
    world.coordinator.say(CoordinatorMessage::Stop { attempt: attempt(1), now: true }).await;
    let events = world.coordinator.ended(attempt(1)).await;
    assert_eq!(story(&events), ["started", "step 3 of 1", "handed back"]);
    goes_on_from(&world, steps(&events)[0]).await;
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn an_agent_that_ends_leaves_a_checkpoint() {
    let world = World::new().await;
    world.trainer.behave(&holding(1, 3));
    let agent = world.agent();
    world.coordinator.say(begin(world.start(1, 1..=2))).await;
    holds(&world, 1, 1).await;
    agent.stop().await.expect("it ends in good order");
    let events = world.coordinator.ended(attempt(1)).await;
    assert_eq!(story(&events), ["started", "step 3 of 1", "stopped"]);
    let agent = world.agent();
    world.coordinator.registered(2).await;
    goes_on_from(&world, steps(&events)[0]).await;
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn a_step_of_a_later_epoch_waits_for_the_epochs_before_it() {
    let world = World::new().await;
    world.trainer.behave(&holding(2, 3));
    let agent = world.agent();
    world.coordinator.say(begin(world.start(1, 1..=3))).await;
    holds(&world, 1, 2).await;
    world.coordinator.say(CoordinatorMessage::Stop { attempt: attempt(1), now: true }).await;
    let events = world.coordinator.ended(attempt(1)).await;
    assert_eq!(story(&events), ["started", "3 points of 1", "committed 1", "step 3 of 2", "handed back"]);
    agent.stop().await.expect("it ends in good order");
}

/// Number of objects in the store's folder.
fn objects(world: &World) -> usize {
    let count = |folder: std::fs::DirEntry| std::fs::read_dir(folder.path()).expect("it lists").count();
    let folders = std::fs::read_dir(world.folder.path().join("store/blobs/sha256")).expect("it lists");
    folders.flatten().map(count).sum()
}

#[tokio::test]
async fn a_revoked_attempt_stores_nothing_more() {
    let world = World::new().await;
    world.trainer.behave(&holding(1, 3));
    let agent = world.agent();
    world.coordinator.say(begin(world.start(1, 1..=2))).await;
    holds(&world, 1, 1).await;
    let before = objects(&world);
    world.coordinator.say(CoordinatorMessage::Revoke { attempt: attempt(1), reason: "test".to_owned() }).await;
    let attempts = world.state().join("attempts");
    while std::fs::read_dir(&attempts).expect("it lists").count() > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(objects(&world), before);
    world.trainer.behave(&Behaviour::default());
    world.coordinator.say(begin(world.start(2, 1..=1))).await;
    world.coordinator.ended(attempt(2)).await;
    let of_first: Vec<_> = world.coordinator.arrivals().into_iter().filter(|e| e.attempt == attempt(1)).collect();
    assert_eq!(story(&of_first), ["started"]);
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn a_step_that_cannot_be_stored_costs_nothing() {
    let world = World::new().await;
    world.trainer.behave(&Behaviour { checkpoint_every: Some(2), forgetful: true, ..Behaviour::default() });
    let agent = world.agent();
    world.coordinator.say(begin(world.start(1, 1..=1))).await;
    let events = world.coordinator.ended(attempt(1)).await;
    assert_eq!(story(&events), ["started", "3 points of 1", "committed 1", "finished"]);
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn a_trainers_steps_are_not_believed() {
    let world = World::new().await;
    world.trainer.behave(&Behaviour { checkpoint_every: Some(2), lies: true, ..Behaviour::default() });
    let agent = world.agent();
    world.coordinator.say(begin(world.start(1, 1..=1))).await;
    let events = world.coordinator.ended(attempt(1)).await;
    assert_eq!(story(&events), ["started", "failed Infrastructure"]);
    let message = failure(&events);
    assert!(message.contains("step 2 of epoch 1 with lineage"), "{message}");
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn a_step_of_another_epoch_is_not_gone_on_from() {
    let world = World::new().await;
    world.trainer.behave(&holding(1, 3));
    let agent = world.agent();
    world.coordinator.say(begin(world.start(1, 1..=2))).await;
    holds(&world, 1, 1).await;
    world.coordinator.say(CoordinatorMessage::Stop { attempt: attempt(1), now: true }).await;
    let step = steps(&world.coordinator.ended(attempt(1)).await)[0];
    let start = StartAttempt { start: Start::Checkpoint(step.manifest), ..world.start(2, 2..=2) };
    world.coordinator.say(begin(start)).await;
    let events = world.coordinator.ended(attempt(2)).await;
    assert_eq!(story(&events), ["failed Infrastructure"]);
    let message = failure(&events);
    assert!(message.contains("it is of step 3 of epoch 1"), "{message}");
    agent.stop().await.expect("it ends in good order");
}
