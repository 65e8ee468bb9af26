//! The contract on PostgreSQL, and what is PostgreSQL's own.

use std::time::{Duration, Instant};

use ceteris_scheduler::Timestamp;
use ceteris_shared::{dataset::Split, digest::Digest, ids::Epoch, spec::Arch};
use sqlx::{Connection as _, PgConnection};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::*;
use crate::store::contract;

/// A database of the test's own.
struct Place {
    server: Server,
    database: String,
}

impl Place {
    /// None, and a line that says so, where no server is given.
    async fn of(test: &str) -> Option<Self> {
        let Ok(url) = std::env::var("CETERIS_TEST_POSTGRES") else {
            eprintln!("skipped: {test} on PostgreSQL needs CETERIS_TEST_POSTGRES");
            return None;
        };
        let server: Server = url.parse().expect("CETERIS_TEST_POSTGRES is a URL");
        let database = format!("ceteris_test_{}", Uuid::new_v4().simple());
        let place = Self { server, database };
        place.ask(&format!("CREATE DATABASE {}", place.database)).await;
        Some(place)
    }

    fn own(&self) -> Server {
        self.server.with_database(&self.database)
    }

    /// Asks the server, not the database.
    async fn ask(&self, statement: &str) {
        let mut connection =
            PgConnection::connect_with(&self.server.options("ceteris-tests")).await.expect("it answers");
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.expect("it is done");
    }

    async fn candidate(&self, who: &str, timing: Timing) -> Candidate {
        let member = Member { who: who.to_owned(), address: format!("{who}:7417") };
        Candidate::connect(self.own(), member, timing).await.expect("it connects")
    }

    async fn leader(&self, who: &str) -> Postgres {
        let lead = self.candidate(who, quick()).await.lead(&CancellationToken::new()).await;
        lead.expect("it opens").expect("nobody told it to stop")
    }

    async fn remove(self) {
        self.ask(&format!("DROP DATABASE {} WITH (FORCE)", self.database)).await;
    }
}

/// A leader is given up after a second.
fn quick() -> Timing {
    Timing { renew: Duration::from_millis(100), limit: Duration::from_secs(1), look: Duration::from_millis(20) }
}

macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $name() {
                let Some(place) = Place::of(stringify!($name)).await else { return };
                let store = place.leader("a").await;
                contract::$name(&store).await;
                store.close().await;
                place.remove().await;
            }
        )*
    };
}

contract::all!(contract);

fn weights(name: &str) -> WeightsRecord {
    let (name, digest) = (name.to_owned(), Digest::of(name.as_bytes()));
    WeightsRecord { name, digest, arch: Arch::Densenet121, registered_at: Timestamp(1) }
}

fn dataset(name: &str) -> DatasetRecord {
    DatasetRecord {
        name: name.to_owned(),
        manifest: Digest::of(name.as_bytes()),
        image_size: 1,
        classes: vec![],
        counts: [(Split::Train, vec![1])].into(),
        patients: None,
        registered_at: Timestamp(1),
    }
}

/// Everything that writes is refused; what was written before is there and nothing else.
async fn assert_writes_nothing(deposed: &Postgres, successor: &Postgres) {
    let refused = |error: Error| assert!(matches!(error, Error::Deposed { .. }), "{error}");
    let record = contract::experiment(2, "stale");
    let attempt = Attempt { segment: record.plan.segments[0].id, number: 1 };
    let worker = WorkerId(Uuid::from_u128(50));
    let point = MetricPoint { epoch: Epoch(1), step: 1, split: Split::Val, name: "auc".to_owned(), value: 0.5 };
    let sequence = Change::Sequence { worker, sequence: 77 };
    refused(deposed.commit(&[Change::Experiment(Box::new(record)), sequence]).await.expect_err("it leads no more"));
    refused(deposed.append_metrics(worker, 77, attempt, &[point]).await.expect_err("it leads no more"));
    refused(deposed.append_log(worker, 77, attempt, &["line".to_owned()]).await.expect_err("it leads no more"));
    refused(deposed.register_dataset(&dataset("stale")).await.expect_err("it leads no more"));
    refused(deposed.register_weights(&weights("stale")).await.expect_err("it leads no more"));
    let names: Vec<String> =
        successor.experiments().await.expect("they are read").into_iter().map(|e| e.name).collect();
    assert_eq!(names, ["kept"]);
    assert_eq!(successor.last_sequence(worker).await.expect("it is read"), 0);
    assert_eq!(successor.datasets().await.expect("they are read"), []);
    assert_eq!(successor.weights().await.expect("they are read"), []);
}

async fn keep_one(store: &Postgres) {
    let kept = contract::experiment(1, "kept");
    store.commit(&[Change::Experiment(Box::new(kept))]).await.expect("it is stored");
}

/// The backend that holds the lock.
async fn leading_session(place: &Place) -> (i64, i32) {
    let mut connection = PgConnection::connect_with(&place.own().options("ceteris-tests")).await.expect("it answers");
    sqlx::query_as("SELECT epoch, pid FROM leadership").fetch_one(&mut connection).await.expect("somebody leads")
}

#[tokio::test]
async fn the_second_waits_until_the_first_closes_and_finds_all_that_was_committed() {
    let Some(place) = Place::of("the_second_waits_until_the_first_closes").await else { return };
    let first = place.leader("a").await;
    keep_one(&first).await;
    let second = place.candidate("b", quick()).await;
    let waiting = tokio::spawn(async move { second.lead(&CancellationToken::new()).await });
    // Longer than a leader may give no sign of life.
    sleep(Duration::from_millis(1500)).await;
    assert!(!waiting.is_finished(), "it waits for one that lives");
    first.close().await;
    let asked = Instant::now();
    let second = waiting.await.expect("no panic").expect("it opens").expect("nobody told it to stop");
    assert!(asked.elapsed() < Duration::from_secs(1), "the lock is given back at once: {:?}", asked.elapsed());
    assert_eq!(leading_session(&place).await.0, 2);
    assert_eq!(second.find_experiment("kept").await.expect("it is there"), contract::experiment(1, "kept"));
    second.close().await;
    place.remove().await;
}

#[tokio::test]
async fn one_that_stands_by_can_be_told_to_stop() {
    let Some(place) = Place::of("one_that_stands_by_can_be_told_to_stop").await else { return };
    let first = place.leader("a").await;
    let (second, until) = (place.candidate("b", quick()).await, CancellationToken::new());
    let stop = until.clone();
    let waiting = tokio::spawn(async move { second.lead(&until).await });
    sleep(Duration::from_millis(100)).await;
    stop.cancel();
    assert!(waiting.await.expect("no panic").expect("it is no mistake").is_none());
    first.close().await;
    place.remove().await;
}

/// All connections of a leader that was taken over from were ended; the pools make new ones.
async fn connects_again(store: &Postgres) {
    while let Err(Error::Unreachable { .. }) = store.register_weights(&weights("stale")).await {}
    while let Err(Error::Unreachable { .. }) = store.commit(&[]).await {}
}

#[tokio::test]
async fn a_leader_whose_session_is_ended_is_told_and_writes_nothing_more() {
    let Some(place) = Place::of("a_leader_whose_session_is_ended").await else { return };
    let first = place.leader("a").await;
    keep_one(&first).await;
    place.ask(&format!("SELECT pg_terminate_backend({})", leading_session(&place).await.1)).await;
    let second = place.leader("b").await;
    let told = first.deposed().await.to_string();
    assert!(told.contains("no longer leads") && told.contains(&place.database), "{told}");
    connects_again(&first).await;
    assert_writes_nothing(&first, &second).await;
    second.close().await;
    place.remove().await;
}

#[tokio::test]
async fn a_leader_that_gives_no_sign_of_life_is_taken_over_from() {
    let Some(place) = Place::of("a_leader_that_gives_no_sign_of_life").await else { return };
    // It holds the lock and would give a sign of life in an hour.
    let silent = Timing { renew: Duration::from_secs(3600), limit: Duration::from_secs(7200), ..quick() };
    let first = place.candidate("a", silent).await.lead(&CancellationToken::new()).await;
    let first = first.expect("it opens").expect("nobody told it to stop");
    keep_one(&first).await;
    // And left a transaction open that holds the row of the leadership.
    let open = first.writing().await.expect("it leads");
    let asked = Instant::now();
    let second = place.leader("b").await;
    let waited = asked.elapsed();
    assert!(waited > Duration::from_millis(500) && waited < Duration::from_secs(4), "{waited:?}");
    open.commit().await.expect_err("its session was ended");
    connects_again(&first).await;
    assert_writes_nothing(&first, &second).await;
    let Error::Deposed { cause, .. } = first.deposed().await else { panic!("it was told") };
    assert_eq!(cause, "another coordinator took over");
    second.close().await;
    place.remove().await;
}

#[tokio::test]
async fn a_leader_that_was_held_up_ends_by_itself() {
    let Some(place) = Place::of("a_leader_that_was_held_up").await else { return };
    let late = Timing { renew: Duration::from_millis(600), limit: Duration::from_millis(300), ..quick() };
    let first = place.candidate("a", late).await.lead(&CancellationToken::new()).await;
    let first = first.expect("it opens").expect("nobody told it to stop");
    let told = first.deposed().await.to_string();
    assert!(told.contains("no sign of life"), "{told}");
    place.remove().await;
}

#[tokio::test]
async fn the_fence_waits_for_nobody_but_a_successor() {
    let Some(place) = Place::of("the_fence_waits_for_nobody_but_a_successor").await else { return };
    let store = place.leader("a").await;
    // A long transaction holds up neither others nor signs of life.
    let long = store.writing().await.expect("it leads");
    sleep(quick().limit + Duration::from_millis(300)).await;
    keep_one(&store).await;
    long.commit().await.expect("it still leads");
    store.close().await;
    place.remove().await;
}

#[tokio::test]
async fn a_newer_database_is_left_alone() {
    let Some(place) = Place::of("a_newer_database_is_left_alone").await else { return };
    let store = place.leader("a").await;
    let future = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'later', TRUE, '\\x00', 0)";
    sqlx::query(future).execute(&store.pool).await.expect("it is written");
    store.close().await;
    let error = place.candidate("b", quick()).await.lead(&CancellationToken::new()).await.expect_err("it is newer");
    assert!(matches!(error, Error::Newer { migration: 9999, .. }), "{error}");
    place.remove().await;
}

#[tokio::test]
async fn what_cannot_be_used_says_why_and_the_way_out() {
    let Some(place) = Place::of("what_cannot_be_used_says_why").await else { return };
    let connect = async |server: Server| {
        let member = Member { who: "a".to_owned(), address: "a:1".to_owned() };
        Candidate::connect(server, member, quick()).await.expect_err("it cannot be used").to_string()
    };
    let missing = connect(place.server.with_database("no_such_database")).await;
    assert!(missing.contains("no_such_database") && missing.contains("createdb"), "{missing}");
    let closed: Server = "postgres://me:hunter2@127.0.0.1:1/x".parse().expect("it is a URL");
    let closed = connect(closed).await;
    assert!(closed.contains("127.0.0.1:1") && closed.contains("start its server"), "{closed}");
    assert!(!closed.contains("hunter2"), "{closed}");
    let store = place.leader("a").await;
    for (code, expected) in [("53100", "is full"), ("XX001", "backup"), ("25006", "writ")] {
        let raise = format!("DO $$ BEGIN RAISE EXCEPTION 'raised' USING ERRCODE = '{code}'; END $$");
        let raised = sqlx::raw_sql(sqlx::AssertSqlSafe(raise)).execute(&store.pool).await.expect_err("it is raised");
        let said = store.named(raised.into()).to_string();
        assert!(said.contains(expected) && said.contains(&place.database), "{said}");
    }
    store.close().await;
    place.remove().await;
}

#[tokio::test]
async fn an_experiment_of_many_segments_is_added_at_once() {
    let Some(place) = Place::of("an_experiment_of_many_segments_is_added_at_once").await else { return };
    let store = place.leader("a").await;
    let record = contract::experiment(1, "kept");
    let added = |(position, segment): (usize, &ceteris_shared::plan::Segment)| {
        let state = ceteris_scheduler::State::Queued { not_before: Timestamp(position as u64) };
        let (segment, experiment) = (segment.id, record.id);
        Change::Scheduler(ceteris_scheduler::Change::SegmentAdded { segment, experiment, position, state })
    };
    let segments = record.plan.segments.iter().enumerate().map(added);
    let changes: Vec<Change> = [Change::Experiment(Box::new(record.clone()))].into_iter().chain(segments).collect();
    store.commit(&changes).await.expect("it is stored");
    let found = store.segments(record.id).await.expect("they are read");
    assert_eq!(
        found.iter().map(|s| s.id).collect::<Vec<_>>(),
        record.plan.segments.iter().map(|s| s.id).collect::<Vec<_>>()
    );
    assert_eq!(found[1].state, ceteris_scheduler::State::Queued { not_before: Timestamp(1) });
    store.close().await;
    place.remove().await;
}
