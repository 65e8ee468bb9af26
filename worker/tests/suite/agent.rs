//! The agent against a fake coordinator and a fake trainer: what it promises to lose nothing of.

use std::{fs, time::Duration};

use crate::support::{
    World, attempt, failure, key, story,
    trainer::{Behaviour, trained},
};
use ceteris_proto::fleet::{CoordinatorMessage, EventKind, Progress, Start};
use ceteris_shared::{checkpoint::Manifest, digest::Digest, ids::Epoch};
use ceteris_worker::config::{Arguments, Config, Machine};
use clap::Parser as _;

fn start(world: &World, number: u32, epochs: std::ops::RangeInclusive<u32>) -> CoordinatorMessage {
    CoordinatorMessage::Start(Box::new(world.start(number, epochs)))
}

fn holding(epoch: u32) -> Behaviour {
    Behaviour { hold_in: Some(epoch), ..Behaviour::default() }
}

/// The digest of the manifest that was committed for an epoch.
fn committed(events: &[ceteris_proto::fleet::Event], epoch: u32) -> Digest {
    let manifest = |event: &ceteris_proto::fleet::Event| match &event.kind {
        EventKind::EpochCommitted(committed) if committed.epoch == Epoch(epoch) => Some(committed.manifest),
        _ => None,
    };
    events.iter().find_map(manifest).expect("it was committed")
}

#[tokio::test]
async fn an_attempt_is_told_in_order_and_another_goes_on_from_it() {
    let world = World::new().await;
    world.trainer.behave(&Behaviour { lines: 3, ..Behaviour::default() });
    let agent = world.agent();
    let register = world.coordinator.registered(1).await;
    assert_eq!((register.name.as_str(), register.slots, register.store), ("test", 1, world.blobs.store_id()));
    assert!(register.running.is_empty());

    world.coordinator.say(start(&world, 1, 1..=3)).await;
    let events = world.coordinator.ended(attempt(1)).await;
    let expected = [
        "started",
        "3 points of 1",
        "committed 1",
        "3 points of 2",
        "committed 2",
        "3 points of 3",
        "committed 3",
        "finished",
    ];
    assert_eq!(story(&events), expected);
    assert_eq!(events[0].sequence, 1);
    let logged = events.iter().filter_map(|event| match &event.kind {
        EventKind::Log(lines) => Some(lines.len()),
        _ => None,
    });
    assert!(logged.sum::<usize>() >= 9);

    let digest = committed(&events, 3);
    let bytes = world.blobs.get_bytes(&digest, 1 << 20).await.expect("the manifest is stored");
    let manifest = Manifest::from_bytes(&bytes).expect("it is one");
    assert_eq!((manifest.epoch, manifest.key, manifest.attempt), (Epoch(3), key(3), attempt(1)));
    for part in &manifest.parts {
        assert_eq!(world.blobs.size(&part.digest).await.expect("the store answers"), Some(part.bytes));
    }

    let pid = world.trainer.pid();
    let mut next = world.start(2, 4..=4);
    next.start = Start::Checkpoint(digest);
    let work = next.work.epochs[0].clone();
    world.coordinator.say(CoordinatorMessage::Start(Box::new(next))).await;
    let events = world.coordinator.ended(attempt(2)).await;
    assert_eq!(story(&events), ["started", "3 points of 4", "committed 4", "finished"]);
    assert_eq!(world.trainer.pid(), pid, "the trainer was kept warm");
    let bytes = world.blobs.get_bytes(&committed(&events, 4), 1 << 20).await.expect("the manifest is stored");
    let [_, part, _] = Manifest::from_bytes(&bytes).expect("it is one").parts[..] else { panic!("three parts") };
    let before = world.blobs.get_bytes(&manifest.parts[1].digest, 1 << 20).await.expect("it is stored");
    let expected = trained(&String::from_utf8(before).expect("text"), &work);
    assert_eq!(part.digest, Digest::of(&expected), "it went on from where the first one ended");

    assert_eq!(fs::read_dir(world.state().join("attempts")).expect("it lists").count(), 0);
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn a_killed_trainer_costs_one_attempt() {
    let world = World::new().await;
    world.trainer.behave(&holding(2));
    let agent = world.agent();
    world.coordinator.say(start(&world, 1, 1..=3)).await;
    world.coordinator.heartbeat(|running| running.iter().any(|progress| progress.epoch == Epoch(2))).await;
    let pid = world.trainer.pid();
    world.trainer.kill();
    let events = world.coordinator.ended(attempt(1)).await;
    assert_eq!(story(&events), ["started", "3 points of 1", "committed 1", "failed Infrastructure"]);
    assert!(failure(&events).contains("trainer killed by signal 9"), "{}", failure(&events));

    world.trainer.behave(&Behaviour::default());
    world.coordinator.say(start(&world, 2, 1..=1)).await;
    assert_eq!(story(&world.coordinator.ended(attempt(2)).await).last().expect("an end"), "finished");
    assert_ne!(world.trainer.pid(), pid);
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn training_goes_on_without_a_coordinator_and_nothing_is_lost() {
    let world = World::new().await;
    world.trainer.behave(&holding(2));
    let agent = world.agent();
    world.coordinator.say(start(&world, 1, 1..=4)).await;
    world.coordinator.acknowledge(false);
    world.coordinator.heartbeat(|running| running.iter().any(|progress| progress.epoch == Epoch(2))).await;
    world.coordinator.event("the first epoch", |event| matches!(event.kind, EventKind::EpochCommitted(_))).await;

    world.coordinator.refuse(Some(tonic::Status::unavailable("down")));
    world.coordinator.disconnect().await;
    world.trainer.behave(&holding(4));
    let spooled = world.state().join("spool");
    let size =
        || fs::read_dir(&spooled).expect("it lists").flatten().map(|f| f.metadata().expect("a file").len()).sum();
    let before: u64 = size();
    while size() < before + 400 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.coordinator.refuse(None);
    let again = world.coordinator.registered(2).await;
    assert_eq!(again.running, [attempt(1)]);
    assert_ne!(again.session, world.coordinator.registered(1).await.session);

    world.coordinator.disconnect().await;
    world.coordinator.acknowledge(true);
    world.trainer.behave(&Behaviour::default());
    let events = world.coordinator.ended(attempt(1)).await;
    let expected = [
        "started",
        "3 points of 1",
        "committed 1",
        "3 points of 2",
        "committed 2",
        "3 points of 3",
        "committed 3",
        "3 points of 4",
        "committed 4",
        "finished",
    ];
    assert_eq!(story(&events), expected);
    let arrived: Vec<u64> = world.coordinator.arrivals().iter().map(|event| event.sequence).collect();
    let drops = arrived.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
    assert!((1..=2).contains(&drops), "each connection tells its events in order: {arrived:?}");
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn a_coordinator_that_is_back_hears_of_its_workers_within_a_lease() {
    let world = World::new().await;
    let mut config = world.config();
    config.limits.reconnect = Duration::from_secs(60);
    let agent = world.agent_with(config);
    world.coordinator.registered(1).await;
    world.coordinator.refuse(Some(tonic::Status::unavailable("down")));
    world.coordinator.disconnect().await;
    // By now the wait would have grown beyond the fake's lease of 5 s.
    tokio::time::sleep(Duration::from_secs(12)).await;
    world.coordinator.refuse(None);
    let back = tokio::time::timeout(Duration::from_secs(4), world.coordinator.registered(2)).await;
    assert!(back.is_ok(), "it waited for longer than a third of a lease");
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn stops_are_obeyed_and_revoked_attempts_say_nothing() {
    let world = World::new().await;
    let agent = world.agent();
    for (number, now, expected) in [
        (1, false, vec!["started", "3 points of 1", "committed 1", "handed back"]),
        (2, true, vec!["started", "handed back"]),
    ] {
        world.trainer.behave(&holding(1));
        world.coordinator.say(start(&world, number, 1..=3)).await;
        world
            .coordinator
            .heartbeat(|running| running.iter().any(|p| p.attempt == attempt(number) && p.epoch == Epoch(1)))
            .await;
        world.coordinator.say(CoordinatorMessage::Stop { attempt: attempt(number), now }).await;
        assert_eq!(story(&world.coordinator.ended(attempt(number)).await), expected);
    }

    world.trainer.behave(&Behaviour { deaf: true, ..holding(1) });
    world.coordinator.say(start(&world, 3, 1..=3)).await;
    world.coordinator.heartbeat(|running| running.iter().any(|p| p.attempt == attempt(3) && p.epoch == Epoch(1))).await;
    world.coordinator.say(CoordinatorMessage::Revoke { attempt: attempt(3), reason: "test".to_owned() }).await;
    world.coordinator.say(start(&world, 4, 1..=1)).await;
    world.trainer.behave(&Behaviour { deaf: true, ..Behaviour::default() });
    world.coordinator.ended(attempt(4)).await;
    let of_third: Vec<_> = world.coordinator.arrivals().into_iter().filter(|e| e.attempt == attempt(3)).collect();
    assert!(
        !story(&of_third).iter().any(|word| ["stopped", "handed back", "finished"].contains(&word.as_str())),
        "{of_third:?}"
    );
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn a_trainer_that_does_not_stop_is_killed() {
    let world = World::new().await;
    world.trainer.behave(&Behaviour { deaf: true, ..holding(1) });
    let agent = world.agent();
    world.coordinator.say(start(&world, 1, 1..=3)).await;
    world.coordinator.heartbeat(|running| running.iter().any(|progress| progress.epoch == Epoch(1))).await;
    let pid = world.trainer.pid();
    world.coordinator.say(CoordinatorMessage::Stop { attempt: attempt(1), now: true }).await;
    assert_eq!(story(&world.coordinator.ended(attempt(1)).await), ["started", "handed back"]);
    world.trainer.behave(&Behaviour::default());
    world.coordinator.say(start(&world, 2, 1..=1)).await;
    world.coordinator.ended(attempt(2)).await;
    assert_ne!(world.trainer.pid(), pid);
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn a_trainer_is_not_believed() {
    let world = World::new().await;
    world.trainer.behave(&Behaviour { lies: true, ..Behaviour::default() });
    let agent = world.agent();
    world.coordinator.say(start(&world, 1, 1..=1)).await;
    let events = world.coordinator.ended(attempt(1)).await;
    assert_eq!(story(&events), ["started", "failed Infrastructure"]);
    assert!(failure(&events).contains("lineage"), "{}", failure(&events));
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn a_damaged_shard_is_named() {
    let world = World::new().await;
    fs::write(world.object(&world.shard), [0; 16]).expect("it is damaged");
    let agent = world.agent();
    world.coordinator.say(start(&world, 1, 1..=1)).await;
    let events = world.coordinator.ended(attempt(1)).await;
    assert_eq!(story(&events), ["failed Infrastructure"]);
    let message = failure(&events);
    assert!(message.contains(&world.shard.to_string()) && message.contains("damaged"), "{message}");
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn a_checkpoint_that_is_not_what_was_stored_is_told_and_set_aside() {
    let world = World::new().await;
    let agent = world.agent();
    world.coordinator.say(start(&world, 1, 1..=2)).await;
    let digest = committed(&world.coordinator.ended(attempt(1)).await, 2);
    world.forget();
    let bytes = world.blobs.get_bytes(&digest, 1 << 20).await.expect("the manifest is stored");
    let part = world.object(&Manifest::from_bytes(&bytes).expect("it is one").parts[1].digest);
    let mut flipped = fs::read(&part).expect("it is stored");
    flipped[0] ^= 1;
    fs::write(&part, flipped).expect("it is damaged");
    let told = async |number: u32| {
        let mut next = world.start(number, 3..=3);
        next.start = Start::Checkpoint(digest);
        world.coordinator.say(CoordinatorMessage::Start(Box::new(next))).await;
        story(&world.coordinator.ended(attempt(number)).await)
    };
    let damaged = [format!("damaged {}", digest.short())];
    assert_eq!(told(2).await, damaged);
    assert!(!part.exists(), "it is out of the way, so that it can be stored again");
    assert_eq!(told(3).await, damaged, "what is gone is as good as damaged");
    // The data set is in the worker's cache; that the store has it no more says that the store is not there.
    fs::remove_file(world.object(&world.dataset)).expect("it is stored");
    assert_eq!(told(4).await, ["failed Infrastructure"]);
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn ending_an_agent_stops_attempts_and_numbers_go_on() {
    let world = World::new().await;
    world.trainer.behave(&holding(2));
    let agent = world.agent();
    world.coordinator.say(start(&world, 1, 1..=3)).await;
    world.coordinator.heartbeat(|running| running.iter().any(|progress| progress.epoch == Epoch(2))).await;
    agent.stop().await.expect("it ends in good order");
    let events = world.coordinator.ended(attempt(1)).await;
    assert_eq!(story(&events), ["started", "3 points of 1", "committed 1", "stopped"]);

    world.trainer.behave(&Behaviour::default());
    let agent = world.agent();
    let (first, second) = (world.coordinator.registered(1).await, world.coordinator.registered(2).await);
    assert_eq!(first.worker, second.worker);
    world.coordinator.say(start(&world, 2, 1..=1)).await;
    let more = world.coordinator.ended(attempt(2)).await;
    let last = events.iter().map(|event| event.sequence).max().expect("there were some");
    assert_eq!(more[0].sequence, last + 1);
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn a_refused_worker_says_why() {
    let world = World::new().await;
    world.coordinator.refuse(Some(tonic::Status::failed_precondition("the store is not the coordinator's")));
    let error = world.agent().task.await.expect("no panic").expect_err("it is refused").to_string();
    assert!(error.contains("the store is not the coordinator's"), "{error}");
}

#[tokio::test]
async fn the_token_is_shown_to_the_coordinator() {
    let world = World::new().await;
    let file = world.folder.path().join("token");
    fs::write(&file, "open-sesame\n").expect("it is written");
    let arguments =
        Arguments::try_parse_from(["ceteris-worker", "--store", "s", "--token-file", &file.to_string_lossy()]);
    let loaded = Config::load(arguments.expect("the flags exist"), &Machine::this()).expect("it is complete");
    let config = Config { token: loaded.token, ..world.config() };
    let agent = world.agent_with(config);
    world.coordinator.registered(1).await;
    assert_eq!(world.coordinator.authorization().as_deref(), Some("Bearer open-sesame"));
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn slots_train_at_once() {
    let world = World::new().await;
    world.trainer.behave(&holding(1));
    let mut config = world.config();
    config.slots.push(config.slots[0].clone());
    let agent = world.agent_with(config);
    assert_eq!(world.coordinator.registered(1).await.slots, 2);
    for number in [1, 2] {
        world.coordinator.say(start(&world, number, 1..=1)).await;
    }
    let training = |running: &[Progress]| running.iter().filter(|progress| progress.epoch == Epoch(1)).count();
    world.coordinator.heartbeat(|running| training(running) == 2).await;
    world.trainer.behave(&Behaviour::default());
    for number in [1, 2] {
        assert_eq!(story(&world.coordinator.ended(attempt(number)).await).last().expect("an end"), "finished");
    }
    agent.stop().await.expect("it ends in good order");
}
