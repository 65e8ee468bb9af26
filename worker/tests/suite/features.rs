//! Features of frozen parts: made by one worker's trainer, had by another's.

use std::{fs, time::Duration};

use crate::support::{
    World, attempt, story,
    trainer::{Behaviour, feature_key},
};
use ceteris_proto::fleet::CoordinatorMessage;
use ceteris_shared::{
    digest::Digest,
    features::{MANIFEST_FILE, NAMESPACE},
    ids::Epoch,
};
use ceteris_worker::Config;

fn using(name: &str) -> Behaviour {
    Behaviour { features: Some(name.to_owned()), ..Behaviour::default() }
}

async fn finishes(world: &World, number: u32) {
    world.coordinator.say(CoordinatorMessage::Start(Box::new(world.start(number, 1..=1)))).await;
    let events = world.coordinator.ended(attempt(number)).await;
    assert_eq!(story(&events), ["started", "3 points of 1", "committed 1", "finished"]);
}

async fn shared(world: &World, name: &str) -> Option<Digest> {
    world.blobs.get_name(NAMESPACE, &feature_key(name).folder()).await.expect("the store answers")
}

/// Sharing goes on beside everything else.
async fn until_shared(world: &World, name: &str) {
    let there = async {
        while shared(world, name).await.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), there).await.expect("it is shared");
}

#[tokio::test]
async fn what_one_worker_makes_another_does_not_make_again() {
    let world = World::new().await;
    world.trainer.behave(&using("a"));
    let agent = world.agent();
    finishes(&world, 1).await;
    until_shared(&world, "a").await;
    finishes(&world, 2).await;
    assert_eq!(world.trainer.features(), "made\nfound\n", "the second time it lies in the folder");
    agent.stop().await.expect("it ends in good order");

    // As on another worker: its folder is empty.
    let folder = world.state().join("features");
    fs::remove_dir_all(&folder).expect("it is there");
    let agent = world.agent();
    world.coordinator.registered(2).await;
    finishes(&world, 3).await;
    assert_eq!(world.trainer.features(), "made\nfound\nfound\n", "it comes from the store");
    agent.stop().await.expect("it ends in good order");

    fs::remove_dir_all(&folder).expect("it is there");
    fs::write(world.object(&Digest::of(&[7; 40])), [8; 40]).expect("it is damaged");
    let agent = world.agent();
    world.coordinator.registered(3).await;
    finishes(&world, 4).await;
    assert_eq!(world.trainer.features(), "made\nfound\nfound\nmade\n", "what is damaged is made again");
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn sharing_that_was_cut_off_is_made_up_for() {
    let world = World::new().await;
    world.trainer.behave(&using("a"));
    let agent = world.agent();
    finishes(&world, 1).await;
    until_shared(&world, "a").await;
    fs::remove_dir_all(world.folder.path().join("store/names")).expect("it is there");
    finishes(&world, 2).await;
    until_shared(&world, "a").await;
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn a_worker_that_keeps_none_tells_its_trainers_of_none() {
    let world = World::new().await;
    world.trainer.behave(&using("a"));
    let agent = world.agent_with(Config { features_bytes: 0, ..world.config() });
    finishes(&world, 1).await;
    assert_eq!(world.trainer.features(), "none\n");
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn a_set_that_a_running_attempt_uses_is_not_removed() {
    let world = World::new().await;
    let config = world.config();
    let slots = vec![config.slots[0].clone(); 2];
    let set = |name: &str| config.state.join("features").join(feature_key(name).folder()).join(MANIFEST_FILE);
    // The first attempt stays in epoch 1; the others train epoch 2 alone.
    world.trainer.behave(&Behaviour { hold_in: Some(1), ..using("a") });
    let agent = world.agent_with(Config { features_bytes: 1, slots, ..world.config() });
    world.coordinator.say(CoordinatorMessage::Start(Box::new(world.start(1, 1..=1)))).await;
    let first = |p: &ceteris_proto::fleet::Progress| p.attempt == attempt(1) && p.epoch == Epoch(1);
    world.coordinator.heartbeat(|running| running.iter().any(first)).await;
    world.trainer.behave(&Behaviour { hold_in: Some(1), ..using("b") });
    world.coordinator.say(CoordinatorMessage::Start(Box::new(world.start(2, 2..=2)))).await;
    world.coordinator.ended(attempt(2)).await;
    until_shared(&world, "a").await;
    until_shared(&world, "b").await;
    assert!(set("a").exists(), "the first attempt uses it, though there is no room");

    world.trainer.behave(&using("c"));
    world.coordinator.ended(attempt(1)).await;
    world.coordinator.say(CoordinatorMessage::Start(Box::new(world.start(3, 2..=2)))).await;
    world.coordinator.ended(attempt(3)).await;
    until_shared(&world, "c").await;
    assert_eq!(["a", "b", "c"].map(|name| set(name).exists()), [false, false, true]);
    agent.stop().await.expect("it ends in good order");
}
