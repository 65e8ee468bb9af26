//! Sharing a fleet, over real gRPC: drained workers hand back what they have, and experiments change their places.

mod support;

use std::time::Duration;

use ceteris_proto::v1;
use ceteris_shared::{
    document::{Document as _, Experiment, Explanation, State, Workers},
    ids::ExperimentId,
};
use support::{Coordinator, Worker, anywhere, config, import, is_resumed, submit, until};
use tempfile::TempDir;
use tonic::Code;

const PACE: Duration = Duration::from_millis(60);

async fn show(coordinator: &Coordinator, experiment: ExperimentId) -> Experiment {
    let request = v1::ExperimentRequest { experiment: experiment.to_string() };
    let shown = coordinator.client().await.show_experiment(request).await.expect("it is shown").into_inner();
    Experiment::from_json(&shown.json).expect("it is that document")
}

fn drain(worker: &str, slots: &[u32], undo: bool) -> v1::DrainRequest {
    v1::DrainRequest { worker: worker.to_owned(), slots: slots.to_vec(), undo }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_worker_hands_back_and_another_goes_on() {
    let folder = TempDir::new().expect("a folder");
    let coordinator = Coordinator::start(config(folder.path(), anywhere())).await;
    let mut client = coordinator.client().await;
    import(&mut client).await;
    let experiment = submit(&mut client).await;
    let mut first = Worker::new(1, PACE);
    first.run(coordinator.address, &folder.path().join("store")).await;
    until("an epoch is committed", async || show(&coordinator, experiment).await.epochs_done >= 1).await;

    let name = format!("worker-{}", first.id.short());
    let refused = client.drain(drain(&name, &[1], false)).await.expect_err("it has one slot");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let unknown = client.drain(drain("nobody", &[], false)).await.expect_err("nobody is called so");
    assert_eq!(unknown.code(), Code::NotFound, "{unknown}");
    let drained = client.drain(drain(&name, &[0], false)).await.expect("it is drained").into_inner();
    let drained = Workers::from_json(&drained.json).expect("it is that document");
    assert_eq!(drained.workers.iter().map(|worker| &worker.drained_slots[..]).collect::<Vec<_>>(), [[0]]);
    until("it has handed back what it had", async || {
        let listed = coordinator.client().await.list_workers(v1::ListWorkersRequest {}).await.expect("they are listed");
        let listed = Workers::from_json(&listed.into_inner().json).expect("it is that document");
        listed.workers.iter().all(|worker| worker.attempts.is_empty())
    })
    .await;
    let run = show(&coordinator, experiment).await.arms[0].runs[0].run;
    let why = client.explain_run(v1::RunRequest { run: run.to_string() }).await.expect("it is explained").into_inner();
    let why = Explanation::from_json(&why.json).expect("it is that document").text;
    assert!(why.contains("drained") && why.contains("--undo"), "{why}");

    let mut second = Worker::new(2, PACE);
    second.run(coordinator.address, &folder.path().join("store")).await;
    until("the other one goes on", async || second.started.lock().expect("no panic").first().is_some_and(is_resumed))
        .await;
    // Both have the same name.
    let ambiguous = client.drain(drain(&name, &[], true)).await.expect_err("two are called so");
    assert_eq!(ambiguous.code(), Code::InvalidArgument, "{ambiguous}");
    client.drain(drain(&first.id.to_string(), &[], true)).await.expect("it is used again");
    until("it is completed", async || show(&coordinator, experiment).await.state == State::Done).await;
    first.kill().await;
    second.kill().await;
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_experiment_shares_is_changed_shown_and_kept() {
    let folder = TempDir::new().expect("a folder");
    let coordinator = Coordinator::start(config(folder.path(), anywhere())).await;
    let address = coordinator.address;
    let mut client = coordinator.client().await;
    import(&mut client).await;
    let experiment = submit(&mut client).await;
    assert_eq!(show(&coordinator, experiment).await.sharing, None);
    let change = v1::ShareRequest {
        experiment: experiment.to_string(),
        priority: Some(7),
        weight: None,
        max_concurrent: Some(2),
        device_memory_bytes: Some(24_000_000_000),
    };
    client.share(change.clone()).await.expect("it is changed");
    let beyond = v1::ShareRequest { priority: Some(5000), ..change.clone() };
    let refused = client.share(beyond).await.expect_err("it is out of range");
    assert!(refused.message().contains("execution.priority"), "{refused}");
    coordinator.stop().await;

    let coordinator = Coordinator::start(config(folder.path(), address)).await;
    let mut client = coordinator.client().await;
    let sharing = show(&coordinator, experiment).await.sharing.expect("something was said of it");
    let values = (sharing.priority, sharing.weight, sharing.max_concurrent, sharing.device_memory_bytes);
    assert_eq!(values, (7, 1, Some(2), 24_000_000_000));
    let unlimited = v1::ShareRequest { priority: None, max_concurrent: Some(0), device_memory_bytes: None, ..change };
    client.share(unlimited).await.expect("it is changed");
    assert_eq!(show(&coordinator, experiment).await.sharing.expect("it is shown").max_concurrent, None);
    let mut worker = Worker::new(1, PACE);
    worker.run(coordinator.address, &folder.path().join("store")).await;
    let run = show(&coordinator, experiment).await.arms[0].runs[0].run;
    until("it is explained why nothing starts", async || {
        let request = v1::RunRequest { run: run.to_string() };
        let why = coordinator.client().await.explain_run(request).await.expect("it is explained").into_inner();
        why.json.contains("execution.device_memory_bytes")
    })
    .await;
    worker.kill().await;
    coordinator.stop().await;
}
