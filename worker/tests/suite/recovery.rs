//! Trainers that are gone, and how soon there is another; what an attempt need not fetch again.

use std::{fs, time::Duration};

use crate::support::{World, attempt, story, trainer::Behaviour};
use ceteris_proto::fleet::{CoordinatorMessage, EventKind, Start};
use ceteris_shared::{checkpoint::Manifest, ids::Epoch};

fn start(world: &World, number: u32, epochs: std::ops::RangeInclusive<u32>) -> CoordinatorMessage {
    CoordinatorMessage::Start(Box::new(world.start(number, epochs)))
}

#[tokio::test]
async fn the_next_trainer_is_started_as_soon_as_one_is_gone() {
    let world = World::new().await;
    world.trainer.behave(&Behaviour { hold_in: Some(1), ..Behaviour::default() });
    let mut config = world.config();
    // A wait would not pass within this test.
    config.limits.restart = Duration::from_secs(600);
    let agent = world.agent_with(config);
    world.coordinator.say(start(&world, 1, 1..=1)).await;
    world.holds(1, 1).await;
    let pid = world.trainer.pid();
    world.trainer.kill();
    assert_eq!(story(&world.coordinator.ended(attempt(1)).await), ["started", "failed Infrastructure"]);
    let next = world.trainer.another(pid).await;
    world.trainer.behave(&Behaviour::default());
    world.coordinator.say(start(&world, 2, 1..=1)).await;
    assert_eq!(story(&world.coordinator.ended(attempt(2)).await).last().expect("an end"), "finished");
    assert_eq!(world.trainer.pid(), next, "it was there already");
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn an_idle_trainer_that_dies_is_replaced_and_costs_no_attempt() {
    let world = World::new().await;
    let agent = world.agent();
    world.coordinator.registered(1).await;
    let pid = world.trainer.pid();
    world.trainer.kill();
    world.trainer.another(pid).await;
    world.coordinator.say(start(&world, 1, 1..=1)).await;
    assert_eq!(story(&world.coordinator.ended(attempt(1)).await).last().expect("an end"), "finished");
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn every_crash_is_told_as_this_machines() {
    let world = World::new().await;
    world.trainer.behave(&Behaviour { hold_in: Some(1), ..Behaviour::default() });
    let agent = world.agent();
    for number in 1..=4 {
        world.coordinator.say(start(&world, number, 1..=1)).await;
        world.holds(number, 1).await;
        let pid = world.trainer.pid();
        world.trainer.kill();
        let events = world.coordinator.ended(attempt(number)).await;
        assert_eq!(story(&events), ["started", "failed Infrastructure"]);
        world.trainer.another(pid).await;
    }
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn a_trainer_that_cannot_be_started_any_more_is_told_as_this_machines_failure() {
    let world = World::new().await;
    let agent = world.agent();
    world.coordinator.registered(1).await;
    fs::write(world.trainer.program(), "#!/bin/sh\necho the device is gone >&2\nexit 3\n").expect("it is written");
    world.trainer.kill();
    world.coordinator.say(start(&world, 1, 1..=1)).await;
    let events = world.coordinator.ended(attempt(1)).await;
    assert_eq!(story(&events), ["failed Infrastructure"]);
    let message = crate::support::failure(&events);
    assert!(message.contains("exited with status 3") && message.contains("the device is gone"), "{message}");
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn a_trainer_without_work_gives_its_memory_back() {
    let world = World::new().await;
    let mut config = world.config();
    config.limits.trainer_idle = Duration::from_millis(300);
    let agent = world.agent_with(config);
    world.coordinator.registered(1).await;
    let pid = world.trainer.pid();
    world.trainer.gone(pid).await;
    for number in 1..=2 {
        world.coordinator.say(start(&world, number, 1..=1)).await;
        assert_eq!(story(&world.coordinator.ended(attempt(number)).await).last().expect("an end"), "finished");
        let now = world.trainer.pid();
        assert_ne!(now, pid);
        world.trainer.gone(now).await;
    }
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn the_coordinator_is_told_how_much_memory_a_slot_has() {
    let world = World::new().await;
    let agent = world.agent();
    let shared = world.coordinator.registered(1).await.slot_memory_bytes.expect("a machine has some");
    agent.stop().await.expect("it ends in good order");
    world.trainer.behave(&Behaviour { memory_bytes: Some(80 << 30), ..Behaviour::default() });
    let agent = world.agent();
    assert_eq!(world.coordinator.registered(2).await.slot_memory_bytes, Some(80 << 30));
    agent.stop().await.expect("it ends in good order");
    world.trainer.behave(&Behaviour::default());
    let mut config = world.config();
    config.slots.push(config.slots[0].clone());
    let agent = world.agent_with(config);
    assert_eq!(world.coordinator.registered(3).await.slot_memory_bytes, Some(shared / 2));
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn what_this_worker_checkpointed_is_here_and_given_back_to_a_store_that_lost_it() {
    let world = World::new().await;
    let agent = world.agent();
    world.coordinator.say(start(&world, 1, 1..=3)).await;
    let events = world.coordinator.ended(attempt(1)).await;
    let committed = |epoch| {
        let manifest = |event: &ceteris_proto::fleet::Event| match &event.kind {
            EventKind::EpochCommitted(committed) if committed.epoch == Epoch(epoch) => Some(committed.manifest),
            _ => None,
        };
        events.iter().find_map(manifest).expect("it was committed")
    };
    let part = async |epoch| {
        let bytes = world.blobs.get_bytes(&committed(epoch), 1 << 20).await.expect("the manifest is stored");
        Manifest::from_bytes(&bytes).expect("it is one").parts[1].digest
    };
    let (earlier, last) = (part(2).await, part(3).await);
    let cached = |digest: ceteris_shared::digest::Digest| world.state().join("cache").join(digest.to_string());
    assert!(cached(last).exists() && !cached(earlier).exists(), "the newest checkpoint's parts are kept");

    fs::remove_file(world.object(&last)).expect("the store loses it");
    let mut next = world.start(2, 4..=4);
    next.start = Start::Checkpoint(committed(3));
    world.coordinator.say(CoordinatorMessage::Start(Box::new(next))).await;
    assert_eq!(story(&world.coordinator.ended(attempt(2)).await).last().expect("an end"), "finished");
    assert!(world.object(&last).exists(), "the store has it again");
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn a_store_that_is_away_is_told_as_the_stores_failure() {
    let world = World::new().await;
    let (store, aside) = (world.folder.path().join("store"), world.folder.path().join("aside"));
    world.trainer.behave(&Behaviour { hold_in: Some(1), ..Behaviour::default() });
    let agent = world.agent();
    world.coordinator.say(start(&world, 1, 1..=1)).await;
    world.holds(1, 1).await;
    // A mount that is gone, and what is there instead.
    fs::rename(&store, &aside).and_then(|()| fs::write(&store, "")).expect("it is moved");
    world.trainer.behave(&Behaviour::default());
    let events = world.coordinator.ended(attempt(1)).await;
    assert_eq!(story(&events).last().expect("an end"), "failed Store");
    let message = crate::support::failure(&events);
    assert!(message.contains("epoch 1 cannot be stored"), "{message}");

    world.forget();
    world.coordinator.say(start(&world, 2, 1..=1)).await;
    let events = world.coordinator.ended(attempt(2)).await;
    assert_eq!(story(&events).last().expect("an end"), "failed Store");
    let message = crate::support::failure(&events);
    assert!(message.contains("data set"), "{message}");

    fs::remove_file(&store).and_then(|()| fs::rename(&aside, &store)).expect("it is back");
    // What is there and lacks something is another matter.
    fs::remove_file(world.object(&world.shard)).expect("the store loses it");
    world.coordinator.say(start(&world, 3, 1..=1)).await;
    assert_eq!(story(&world.coordinator.ended(attempt(3)).await).last().expect("an end"), "failed Infrastructure");
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn a_trainer_that_says_nothing_any_more_is_killed_and_the_attempt_told_as_this_machines_failure() {
    let world = World::new().await;
    world.trainer.behave(&Behaviour { hold_in: Some(1), deaf: true, ..Behaviour::default() });
    let mut config = world.config();
    config.limits.trainer_silence = Duration::from_secs(2);
    let agent = world.agent_with(config);
    world.coordinator.say(start(&world, 1, 1..=1)).await;
    world.holds(1, 1).await;
    let pid = world.trainer.pid();
    let events = world.coordinator.ended(attempt(1)).await;
    assert_eq!(story(&events), ["started", "failed Infrastructure"]);
    let message = crate::support::failure(&events);
    assert!(message.contains("reported nothing for 2s") && message.contains("--trainer-silence"), "{message}");
    world.trainer.behave(&Behaviour::default());
    world.trainer.another(pid).await;
    world.coordinator.say(start(&world, 2, 1..=1)).await;
    assert_eq!(story(&world.coordinator.ended(attempt(2)).await).last().expect("an end"), "finished");
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn a_drain_that_is_lifted_before_the_epochs_end_is_no_sign_of_leaving() {
    let world = World::new().await;
    world.trainer.behave(&Behaviour { hold_in: Some(1), hold_at: 2, patient: true, ..Behaviour::default() });
    let agent = world.agent();
    world.coordinator.say(start(&world, 1, 1..=2)).await;
    world.holds(1, 1).await;
    world.coordinator.say(CoordinatorMessage::Drain { slots: vec![0] }).await;
    world.coordinator.say(CoordinatorMessage::Drain { slots: vec![] }).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.trainer.behave(&Behaviour::default());
    let events = world.coordinator.ended(attempt(1)).await;
    assert_eq!(story(&events).last().expect("an end"), "handed back", "{events:?}");
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn a_state_folder_that_is_behind_what_the_coordinator_knows_is_refused() {
    let world = World::new().await;
    let agent = world.agent();
    world.coordinator.registered(1).await;
    world.coordinator.say(CoordinatorMessage::Ack(7)).await;
    let error = agent.task.await.expect("no panic").expect_err("its events would be taken for others").to_string();
    assert!(error.contains("up to number 7") && error.contains("--state"), "{error}");
}

#[tokio::test]
async fn what_runs_when_a_coordinator_refuses_a_worker_it_knows_is_kept() {
    let world = World::new().await;
    world.trainer.behave(&Behaviour { hold_in: Some(1), hold_at: 3, ..Behaviour::default() });
    let agent = world.agent();
    world.coordinator.say(start(&world, 1, 1..=2)).await;
    world.holds(1, 1).await;
    world
        .coordinator
        .refuse(Some(tonic::Status::failed_precondition("version 9 and this one do not understand each other")));
    world.coordinator.disconnect().await;
    let error = agent.task.await.expect("no panic").expect_err("it is refused").to_string();
    assert!(error.contains("do not understand each other"), "{error}");
    world.coordinator.refuse(None);
    let agent = world.agent();
    assert_eq!(story(&world.coordinator.ended(attempt(1)).await), ["started", "step 3 of 1", "stopped"]);
    agent.stop().await.expect("it ends in good order");
}
