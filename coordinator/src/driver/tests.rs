//! The driver over a real store: what it answers, and that it ends rather than going on with what was not committed.

use std::path::Path;

use ceteris_scheduler::Drain;
use ceteris_shared::ids::ExperimentId;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::*;
use crate::store::{ExperimentRecord, Sqlite, contract};

type Task = JoinHandle<Result<(), Failure>>;

async fn start(folder: &Path) -> (Arc<Sqlite>, Handle, Task) {
    let store = Arc::new(Sqlite::open(&folder.join("c.db")).await.expect("it opens"));
    let (driver, handle) =
        Driver::restore(store.clone(), Config::default(), Clock::start()).await.expect("it is consistent");
    (store, handle, tokio::spawn(driver.run(CancellationToken::new())))
}

fn request(id: u128, name: &str) -> SubmitRequest {
    let ExperimentRecord { id: experiment, spec, source, pins, plan, .. } = contract::experiment(id, name);
    SubmitRequest { experiment, spec, source, pins, plan, reused: None }
}

#[tokio::test]
async fn submitting_is_idempotent_and_survives_a_restart() {
    let folder = TempDir::new().expect("a folder");
    let (store, handle, task) = start(folder.path()).await;
    let mut changes = handle.subscribe();
    assert_eq!(handle.submit(request(1, "a")).await.expect("it is stored"), Submitted::New);
    assert_eq!(changes.try_recv(), Ok(request(1, "a").experiment), "a change is told");
    assert_eq!(handle.submit(request(1, "a")).await.expect("it is known"), Submitted::Before);
    assert!(matches!(handle.submit(request(1, "b")).await, Err(Error::Conflict(_))));
    let mut unpinned = request(2, "a");
    unpinned.pins.dataset = None;
    assert!(matches!(handle.submit(unpinned).await, Err(Error::Unpinned { field: "data.dataset", .. })));
    let mut senseless = request(3, "a");
    senseless.plan.segments.clear();
    assert!(matches!(handle.submit(senseless).await, Err(Error::Plan(_))));
    drop(handle);
    task.await.expect("no panic").expect("nobody can reach it any more");
    store.close().await;

    let (store, handle, _task) = start(folder.path()).await;
    assert_eq!(store.experiments().await.expect("they are read").len(), 1, "what was refused is not stored");
    assert_eq!(handle.submit(request(1, "a")).await.expect("it is known"), Submitted::Before);
    let run = request(1, "a").plan.runs[0].id;
    let why = &handle.explain(run).await.expect("it is known")[0].why;
    assert_eq!(why.to_string(), "ready, but no worker is connected: start `ceteris-worker`");
    assert_eq!(handle.cancel(request(1, "a").experiment).await.expect("it is known"), Cancelled::Now);
    assert_eq!(handle.cancel(request(1, "a").experiment).await.expect("it is known"), Cancelled::Before);
    let unknown = ExperimentId(Uuid::nil());
    assert!(matches!(handle.cancel(unknown).await, Err(Error::UnknownExperiment(id)) if id == unknown));
}

#[tokio::test]
async fn a_failed_commit_ends_it_and_nothing_was_said() {
    let folder = TempDir::new().expect("a folder");
    let (store, handle, task) = start(folder.path()).await;
    let mut changes = handle.subscribe();
    store.close().await;
    let unread = handle.submit(request(1, "a")).await.expect_err("what is trained already cannot be asked");
    assert!(matches!(unread, Error::Unread(_)), "{unread}");
    let drained = handle.drain(WorkerId(Uuid::from_u128(1)), Some(Drain::Worker)).await;
    assert!(matches!(drained, Err(Error::Closed)));
    assert!(matches!(task.await.expect("no panic"), Err(Failure::Store(_))));
    assert_eq!(changes.recv().await, Err(broadcast::error::RecvError::Closed));
    assert_eq!(handle.subscribe().recv().await, Err(broadcast::error::RecvError::Closed));
    let again = Sqlite::open(&folder.path().join("c.db")).await.expect("it opens");
    assert_eq!(again.experiments().await.expect("they are read"), []);
}
