//! No room: in the spool, or on a disk. Attempts stop at an epoch's end or wait, and go on by themselves.

use std::{fs, os::unix::fs::symlink, path::Path, time::Duration};

use crate::support::{World, attempt, failure, story, trainer::Behaviour};
use ceteris_proto::fleet::{CoordinatorMessage, EventKind};

fn start(world: &World, number: u32, epochs: std::ops::RangeInclusive<u32>) -> CoordinatorMessage {
    CoordinatorMessage::Start(Box::new(world.start(number, epochs)))
}

#[tokio::test]
async fn a_full_spool_ends_attempts_at_an_epochs_end_and_what_waits_goes_on_by_itself() {
    let world = World::new().await;
    world.coordinator.acknowledge(false);
    world.trainer.behave(&Behaviour { hold_in: Some(2), ..Behaviour::default() });
    let mut config = world.config();
    config.limits.spool_bytes = 400;
    config.limits.room_patience = Duration::from_secs(60);
    let agent = world.agent_with(config);
    world.coordinator.say(start(&world, 1, 1..=9)).await;
    world.coordinator.event("the first epoch", |event| matches!(event.kind, EventKind::EpochCommitted(_))).await;
    // The next look at the spool is at the next tick.
    tokio::time::sleep(Duration::from_millis(700)).await;
    world.trainer.behave(&Behaviour::default());
    let events = world.coordinator.ended(attempt(1)).await;
    let expected = ["started", "3 points of 1", "committed 1", "3 points of 2", "committed 2", "failed Infrastructure"];
    assert_eq!(story(&events), expected);
    assert!(failure(&events).contains("spool is full"), "{}", failure(&events));

    world.coordinator.say(start(&world, 2, 1..=1)).await;
    world.coordinator.heartbeat(|running| running.iter().any(|progress| progress.attempt == attempt(2))).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!world.coordinator.arrivals().iter().any(|event| event.attempt == attempt(2)), "it waits");
    world.coordinator.acknowledge(true);
    world.coordinator.disconnect().await;
    assert_eq!(story(&world.coordinator.ended(attempt(2)).await).last().expect("an end"), "finished");
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn an_attempt_does_not_wait_for_ever() {
    let world = World::new().await;
    let mut config = world.config();
    config.limits.free_bytes = u64::MAX;
    let agent = world.agent_with(config);
    world.coordinator.say(start(&world, 1, 1..=1)).await;
    let events = world.coordinator.ended(attempt(1)).await;
    assert_eq!(story(&events), ["failed Infrastructure"]);
    let (message, folder) = (failure(&events), world.state().join("attempts"));
    assert!(message.contains(&folder.display().to_string()) && message.contains("free some space"), "{message}");
    agent.stop().await.expect("it ends in good order");
}

/// Fills a disk until nothing more fits.
fn fill(folder: &Path) {
    let mut file = fs::File::create(folder.join("filler")).expect("there is room for a file");
    for bytes in [4096, 1] {
        while std::io::Write::write_all(&mut file, &vec![0; bytes]).is_ok() {}
    }
}

#[tokio::test]
async fn a_full_disk_holds_attempts_up_and_no_longer() {
    let Some(small) = std::env::var_os("CETERIS_TEST_SMALL_DISK") else {
        eprintln!(
            "skipped: a_full_disk_holds_attempts_up_and_no_longer needs CETERIS_TEST_SMALL_DISK, a folder with under 9 MB free"
        );
        return;
    };
    let small = tempfile::tempdir_in(small).expect("a temporary folder");
    let world = World::new().await;
    fs::create_dir_all(world.state()).expect("it is made");
    symlink(small.path(), world.state().join("spool")).expect("it is linked");
    world.trainer.behave(&Behaviour { hold_in: Some(2), lines: 2, ..Behaviour::default() });
    let agent = world.agent();
    world.coordinator.say(start(&world, 1, 1..=90)).await;
    world.coordinator.event("the first epoch", |event| matches!(event.kind, EventKind::EpochCommitted(_))).await;
    world.holds(1, 2).await;
    // What is acknowledged makes room again.
    world.coordinator.acknowledge(false);
    fill(small.path());
    // A page of the file that is there has room for some events yet, and not for those of so many epochs.
    world.trainer.behave(&Behaviour { hold_in: Some(80), ..Behaviour::default() });
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(!agent.task.is_finished(), "a full disk is not the end of an agent");
    let ended = |event: &ceteris_proto::fleet::Event| matches!(event.kind, EventKind::Failed { .. });
    assert!(!world.coordinator.arrivals().iter().any(ended), "what cannot be kept is not told");

    fs::remove_file(small.path().join("filler")).expect("there is room again");
    world.coordinator.acknowledge(true);
    world.coordinator.disconnect().await;
    let events = world.coordinator.ended(attempt(1)).await;
    let told = story(&events);
    assert_eq!(
        told[..5],
        ["started", "3 points of 1", "committed 1", "3 points of 2", "committed 2"],
        "nothing is lost"
    );
    assert_eq!(told.last().map(String::as_str), Some("failed Infrastructure"), "{told:?}");
    assert!(failure(&events).contains("no room for events"), "{}", failure(&events));
    world.coordinator.say(start(&world, 2, 1..=1)).await;
    assert_eq!(story(&world.coordinator.ended(attempt(2)).await).last().expect("an end"), "finished");
    agent.stop().await.expect("it ends in good order");
}

#[tokio::test]
async fn an_agent_on_a_full_disk_can_still_be_ended() {
    let Some(small) = std::env::var_os("CETERIS_TEST_SMALL_DISK") else {
        eprintln!(
            "skipped: an_agent_on_a_full_disk_can_still_be_ended needs CETERIS_TEST_SMALL_DISK, a folder with under 9 MB free"
        );
        return;
    };
    let small = tempfile::tempdir_in(small).expect("a temporary folder");
    let world = World::new().await;
    fs::create_dir_all(world.state()).expect("it is made");
    symlink(small.path(), world.state().join("spool")).expect("it is linked");
    world.trainer.behave(&Behaviour { hold_in: Some(1), hold_at: 3, ..Behaviour::default() });
    let mut config = world.config();
    config.limits.upload_grace = Duration::from_millis(500);
    config.limits.last_words = Duration::from_millis(500);
    let agent = world.agent_with(config);
    world.coordinator.say(start(&world, 1, 1..=2)).await;
    world.holds(1, 1).await;
    fill(small.path());
    agent.stop().await.expect("it ends in good order");
}
