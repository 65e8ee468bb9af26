//! The coordinator as its workers and users see it, over real gRPC: what dies comes back, and nothing is counted twice.

mod support;

use std::{collections::BTreeMap, path::Path, time::Duration};

use ceteris_coordinator::store::{SegmentRecord, SeriesQuery, Sqlite, Store};
use ceteris_scheduler::{AttemptEnd, Outcome};
use ceteris_shared::{
    document::{self, Document as _, SegmentState, State},
    ids::{ExperimentId, SegmentId},
};
use support::{Coordinator, Worker, anywhere, config, import, is_resumed, submit, until};
use tempfile::TempDir;

const PACE: Duration = Duration::from_millis(40);

/// How far an experiment is: committed epochs and state.
async fn progress(coordinator: &Coordinator, experiment: ExperimentId) -> (u64, document::State) {
    let shown = show(coordinator, experiment).await;
    (shown.epochs_done, shown.state)
}

async fn show(coordinator: &Coordinator, experiment: ExperimentId) -> document::Experiment {
    let request = ceteris_proto::v1::ExperimentRequest { experiment: experiment.to_string() };
    let shown = coordinator.client().await.show_experiment(request).await.expect("it is shown").into_inner();
    document::Experiment::from_json(&shown.json).expect("it is that document")
}

/// What is in the database of a coordinator that has ended.
async fn stored(
    folder: &Path,
    experiment: ExperimentId,
) -> (Vec<SegmentRecord>, BTreeMap<(SegmentId, u32, String), u32>) {
    let store = Sqlite::open(&folder.join("coordinator.db")).await.expect("it opens");
    let segments = store.segments(experiment).await.expect("they are read");
    let query = SeriesQuery { segments: segments.iter().map(|s| s.id).collect(), ..SeriesQuery::default() };
    let mut counts = BTreeMap::new();
    for found in store.series(&query).await.expect("they are read") {
        *counts.entry((found.attempt.segment, found.point.epoch.0, found.point.name)).or_default() += 1;
    }
    (segments, counts)
}

fn assert_complete(segments: &[SegmentRecord], metrics: &BTreeMap<(SegmentId, u32, String), u32>) {
    for segment in segments {
        assert_eq!(segment.state, ceteris_scheduler::State::Done(Outcome::Completed), "{segment:?}");
        let epochs: Vec<u32> = segment.committed.iter().map(|committed| committed.epoch.0).collect();
        assert!(epochs.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{epochs:?}");
    }
    assert_eq!(segments.iter().map(|segment| segment.committed.len()).sum::<usize>(), 6, "2 shared, 2 of each arm");
    assert_eq!(metrics.len(), 12, "two metrics of each epoch");
    assert!(metrics.values().all(|&count| count == 1), "{metrics:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_worker_and_a_restarted_coordinator_lose_nothing() {
    let folder = TempDir::new().expect("a folder");
    let coordinator = Coordinator::start(config(folder.path(), anywhere())).await;
    let address = coordinator.address;
    let mut client = coordinator.client().await;
    import(&mut client).await;
    let experiment = submit(&mut client).await;
    drop(client);

    let mut first = Worker::new(1, PACE);
    first.run(address, &folder.path().join("store")).await;
    until("an epoch is committed", async || progress(&coordinator, experiment).await.0 >= 1).await;
    first.kill().await;

    let mut second = Worker::new(2, PACE);
    second.run(address, &folder.path().join("store")).await;
    until("the other worker goes on", async || !second.started.lock().expect("no panic").is_empty()).await;
    until("it makes progress", async || progress(&coordinator, experiment).await.0 >= 3).await;
    coordinator.stop().await;
    let coordinator = Coordinator::start(config(folder.path(), address)).await;
    until("it is completed", async || progress(&coordinator, experiment).await.1 == State::Done).await;
    second.kill().await;
    coordinator.stop().await;

    let (segments, metrics) = stored(folder.path(), experiment).await;
    assert_complete(&segments, &metrics);
    let resumed = &second.started.lock().expect("no panic")[0];
    assert!(is_resumed(resumed), "it goes on from the last checkpoint: {resumed:?}");
    let ends = segments.iter().flat_map(|segment| &segment.attempts).filter_map(|attempt| attempt.ended.as_ref());
    assert_eq!(ends.filter(|(_, end)| *end == AttemptEnd::Lost).count(), 1, "only the kill lost an attempt");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_restarts_replays_what_it_had_spooled() {
    let folder = TempDir::new().expect("a folder");
    let coordinator = Coordinator::start(config(folder.path(), anywhere())).await;
    let mut client = coordinator.client().await;
    import(&mut client).await;
    let experiment = submit(&mut client).await;
    let mut worker = Worker::new(1, PACE);
    let store = folder.path().join("store");
    for enough in [1, 2, 4] {
        worker.run(coordinator.address, &store).await;
        until("it makes progress", async || progress(&coordinator, experiment).await.0 >= enough).await;
        worker.kill().await;
    }
    worker.run(coordinator.address, &store).await;
    until("it is completed", async || progress(&coordinator, experiment).await.1 == State::Done).await;
    worker.kill().await;
    coordinator.stop().await;
    let (segments, metrics) = stored(folder.path(), experiment).await;
    assert_complete(&segments, &metrics);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_stops_the_worker_and_leaves_what_was_trained() {
    let folder = TempDir::new().expect("a folder");
    let coordinator = Coordinator::start(config(folder.path(), anywhere())).await;
    let mut client = coordinator.client().await;
    import(&mut client).await;
    let experiment = submit(&mut client).await;
    let mut worker = Worker::new(1, Duration::from_millis(100));
    worker.run(coordinator.address, &folder.path().join("store")).await;
    until("an epoch is committed", async || progress(&coordinator, experiment).await.0 >= 1).await;
    let request = ceteris_proto::v1::ExperimentRequest { experiment: experiment.to_string() };
    client.cancel_experiment(request).await.expect("it is cancelled");
    until("the worker has stopped", async || {
        let segments = show(&coordinator, experiment).await.segments;
        segments.iter().all(|segment| matches!(segment.state, SegmentState::Cancelled | SegmentState::Done))
    })
    .await;
    assert_eq!(progress(&coordinator, experiment).await.1, State::Cancelled);
    worker.kill().await;
    coordinator.stop().await;
    let (segments, _) = stored(folder.path(), experiment).await;
    assert!(segments.iter().all(|segment| segment.state.is_done()));
    assert!(!segments[0].committed.is_empty());
}
