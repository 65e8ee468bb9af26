//! Who is let in, what is refused, and with which words.

mod support;

use std::path::Path;

use ceteris_blob::Blobs;
use ceteris_coordinator::{serve, start};
use ceteris_proto::{
    fleet::{CoordinatorMessage, Event, EventKind, Register, WorkerMessage},
    v1::{self, coordinator_client::CoordinatorClient, fleet_client::FleetClient},
};
use ceteris_shared::ids::{Attempt, SegmentId, WorkerId};
use support::{Coordinator, anywhere, config, open, register, token};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status, Streaming, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use uuid::Uuid;

const WORKER: WorkerId = WorkerId(Uuid::from_u128(1));

async fn store_id(folder: &Path) -> String {
    Blobs::open(&folder.join("store").display().to_string()).await.expect("it opens").store_id()
}

async fn next(inbound: &mut Streaming<v1::CoordinatorMessage>) -> Result<CoordinatorMessage, Status> {
    let message = inbound.message().await?.expect("the stream goes on");
    Ok(message.try_into().expect("the coordinator makes sense"))
}

/// The status that the stream ends with.
async fn end(inbound: &mut Streaming<v1::CoordinatorMessage>) -> Status {
    loop {
        match inbound.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended without a reason"),
            Err(status) => return status,
        }
    }
}

#[tokio::test]
async fn a_worker_that_cannot_work_here_is_told_why() {
    let folder = TempDir::new().expect("a folder");
    let coordinator = Coordinator::start(config(folder.path(), anywhere())).await;
    let id = store_id(folder.path()).await;
    type Spoil = fn(&mut Register);
    let cases: [(Spoil, &[&str]); 3] = [
        (|register| register.store = "elsewhere".to_owned(), &["elsewhere", "--store"]),
        (|register| register.version = "77.0.0".to_owned(), &["77.0.0", env!("CARGO_PKG_VERSION")]),
        (|register| register.environment.engine = "old".to_owned(), &["\"old\"", "engine"]),
    ];
    for (spoil, words) in cases {
        let mut register = register(WORKER, &id);
        spoil(&mut register);
        let status = open(coordinator.address, vec![WorkerMessage::Register(register).into()]).await.expect_err("no");
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(words.iter().all(|word| status.message().contains(word)), "{status}");
    }
    coordinator.stop().await;
}

#[tokio::test]
async fn what_means_nothing_ends_the_stream_with_the_fields_name() {
    let folder = TempDir::new().expect("a folder");
    let coordinator = Coordinator::start(config(folder.path(), anywhere())).await;
    let id = store_id(folder.path()).await;
    let empty = v1::WorkerMessage { message: None };
    for first in [empty.clone(), WorkerMessage::Heartbeat(vec![]).into()] {
        let status = open(coordinator.address, vec![first]).await.expect_err("it is no Register");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("`message`"), "{status}");
    }
    let hello = || v1::WorkerMessage::from(WorkerMessage::Register(register(WORKER, &id)));
    let event = v1::Event { sequence: 1, attempt: None, event: Some(v1::event::Event::Started(v1::AttemptStarted {})) };
    let event = v1::WorkerMessage { message: Some(v1::worker_message::Message::Event(event)) };
    for (second, field) in [(empty, "`message`"), (hello(), "`message`"), (event, "`event.attempt`")] {
        let (_to, mut inbound) = open(coordinator.address, vec![hello(), second]).await.expect("it is let in");
        let status = end(&mut inbound).await;
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(field), "{status}");
    }
    coordinator.stop().await;
}

#[tokio::test]
async fn an_attempt_that_never_was_is_revoked_and_its_events_are_acknowledged() {
    let folder = TempDir::new().expect("a folder");
    let coordinator = Coordinator::start(config(folder.path(), anywhere())).await;
    let id = store_id(folder.path()).await;
    let attempt = Attempt { segment: SegmentId(Uuid::from_u128(9)), number: 1 };
    let event = |sequence, kind| WorkerMessage::Event(Event { sequence, attempt, kind }).into();
    let register = Register { running: vec![attempt], ..register(WORKER, &id) };
    let messages = vec![
        WorkerMessage::Register(register).into(),
        event(1, EventKind::Finished),
        event(2, EventKind::Log(vec!["line".to_owned()])),
        event(2, EventKind::Started),
    ];
    let (_to, mut inbound) = open(coordinator.address, messages).await.expect("it is let in");
    let mut acknowledged = Vec::new();
    let mut revoked = 0;
    while acknowledged.len() < 4 {
        match next(&mut inbound).await.expect("it goes on") {
            CoordinatorMessage::Ack(sequence) => acknowledged.push(sequence),
            CoordinatorMessage::Revoke { attempt: named, .. } => {
                assert_eq!(named, attempt);
                revoked += 1;
            }
            CoordinatorMessage::Welcome { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((acknowledged, revoked), (vec![0, 1, 2, 2], 3), "listed, finished, logged; the repeat is not looked at");
    coordinator.stop().await;
}

#[tokio::test]
async fn events_that_come_together_are_acknowledged_together_and_in_order() {
    let folder = TempDir::new().expect("a folder");
    let coordinator = Coordinator::start(config(folder.path(), anywhere())).await;
    let id = store_id(folder.path()).await;
    let attempt = Attempt { segment: SegmentId(Uuid::from_u128(9)), number: 1 };
    let log = |sequence| Event { sequence, attempt, kind: EventKind::Log(vec![format!("line {sequence}")]) };
    let mut messages: Vec<v1::WorkerMessage> = vec![WorkerMessage::Register(register(WORKER, &id)).into()];
    messages.extend((1..=200).map(|sequence| WorkerMessage::Event(log(sequence)).into()));
    let ended = Event { sequence: 201, attempt, kind: EventKind::Finished };
    messages.push(WorkerMessage::Event(ended).into());
    let (_to, mut inbound) = open(coordinator.address, messages).await.expect("it is let in");
    let (mut acknowledged, mut revoked) = (vec![], 0);
    while acknowledged.last() != Some(&201) || revoked < 201 {
        match next(&mut inbound).await.expect("it goes on") {
            CoordinatorMessage::Ack(sequence) => acknowledged.push(sequence),
            CoordinatorMessage::Revoke { .. } => revoked += 1,
            CoordinatorMessage::Welcome { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(acknowledged.is_sorted() && acknowledged.len() < 100, "one for many events: {acknowledged:?}");
    assert!(acknowledged.contains(&200), "what was observed is stored before what rests on it: {acknowledged:?}");
    coordinator.stop().await;
}

#[tokio::test]
async fn a_newer_connection_replaces_the_older() {
    let folder = TempDir::new().expect("a folder");
    let coordinator = Coordinator::start(config(folder.path(), anywhere())).await;
    let id = store_id(folder.path()).await;
    let hello = || vec![WorkerMessage::Register(register(WORKER, &id)).into()];
    let (_older_to, mut older) = open(coordinator.address, hello()).await.expect("it is let in");
    let (_newer_to, mut newer) = open(coordinator.address, hello()).await.expect("it is let in");
    assert_eq!(end(&mut older).await.code(), Code::Aborted);
    assert!(matches!(next(&mut newer).await, Ok(CoordinatorMessage::Welcome { .. })));
    let listed = coordinator.client().await.list_workers(v1::ListWorkersRequest {}).await.expect("it is listed");
    let document: serde_json::Value = serde_json::from_str(&listed.into_inner().json).expect("it is JSON");
    assert_eq!(document["workers"].as_array().map(Vec::len), Some(1), "{document}");

    coordinator.stop().await;
    assert_eq!(end(&mut newer).await.code(), Code::Unavailable);
}

async fn channel(coordinator: &Coordinator) -> Channel {
    let address = format!("http://{}", coordinator.address);
    Channel::from_shared(address).expect("it is a URL").connect().await.expect("it answers")
}

#[tokio::test]
async fn every_service_asks_for_the_token() {
    let folder = TempDir::new().expect("a folder");
    let mut config = config(folder.path(), anywhere());
    config.token = Some(token());
    let coordinator = Coordinator::start(config).await;
    let channel = channel(&coordinator).await;
    let request = || v1::ListExperimentsRequest {};
    let plain = CoordinatorClient::new(channel.clone()).list_experiments(request()).await;
    assert_eq!(plain.expect_err("no token").code(), Code::Unauthenticated);
    let fleet = FleetClient::new(channel.clone()).session(tokio_stream::empty()).await;
    assert_eq!(fleet.expect_err("no token").code(), Code::Unauthenticated);
    let health = HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await;
    assert_eq!(health.expect_err("no token").code(), Code::Unauthenticated);

    let with_token = |mut request: Request<()>| {
        let value = format!("Bearer {}", token().expose()).parse().expect("it is a header");
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    };
    let mut client = CoordinatorClient::with_interceptor(channel.clone(), with_token);
    client.list_experiments(request()).await.expect("the token opens");
    let service = "ceteris.v1.Fleet".to_owned();
    let mut health = HealthClient::with_interceptor(channel, with_token);
    let status = health.check(HealthCheckRequest { service }).await.expect("it is served").into_inner().status;
    assert_eq!(status, tonic_health::pb::health_check_response::ServingStatus::Serving as i32);
    coordinator.stop().await;
}

#[tokio::test]
async fn what_cannot_start_says_why_and_leaves_the_other_running() {
    let folder = TempDir::new().expect("a folder");
    let other = TempDir::new().expect("a folder");
    let coordinator = Coordinator::start(config(folder.path(), anywhere())).await;
    let refused = async |config| start(config, CancellationToken::new()).await.expect_err("it is refused");

    let port = refused(config(other.path(), coordinator.address)).await;
    assert!(matches!(port, serve::Error::PortInUse { .. }), "{port}");
    assert!(!other.path().join("coordinator.db").exists(), "nothing is half done");
    let database = refused(config(folder.path(), anywhere())).await;
    assert!(database.to_string().contains("in use by another coordinator"), "{database}");
    let mut open = config(other.path(), anywhere());
    open.listen.set_ip([0, 0, 0, 0].into());
    let open = refused(open).await;
    assert!(matches!(open, serve::Error::Config(_)), "{open}");
    let mut unreachable = config(other.path(), anywhere());
    std::fs::write(other.path().join("file"), "").expect("it is written");
    unreachable.store = other.path().join("file").display().to_string();
    let unreachable = refused(unreachable).await;
    assert!(matches!(unreachable, serve::Error::Blobs(_)), "{unreachable}");

    coordinator.client().await.list_experiments(v1::ListExperimentsRequest {}).await.expect("it still answers");
    coordinator.stop().await;
}
