//! Who leads on a database: one coordinator at a time, and the others stand by.
//!
//! A coordinator leads while a connection of its own holds an advisory lock. With the lock it raises `epoch` in the one
//! row of `leadership`, and every transaction that writes asks there for its own epoch ([`fence`]), under a row lock that
//! raising the epoch waits for. So the lock says who may lead and the epoch who may write: a leader that was stopped, or
//! lies behind a partition, finds another epoch when it comes back, writes nothing and ends. What it committed before is
//! there when its successor reads.
//!
//! The leader renews `renewed_at`, by the server's clock. Whoever stands by ends the session of a leader that holds the
//! lock and has given no sign of life for [`Timing::limit`]. A leader whose own renewals fail or come late by as much ends
//! by itself. No clock is trusted for more than when to try: what is written is decided by the epoch.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{Connection as _, PgConnection, Row as _, postgres::PgConnectOptions, query, query_scalar};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{PATIENCE, Postgres, Server, server::sql};
use crate::store::{Error, fault::Fault};

/// The advisory locks of ceteris, all with this first key: "cete".
pub(super) const LOCKS: i32 = 0x6365_7465;
/// The second key of the lock that the leader holds.
const LEADER: i32 = 1;
/// How long ending a session in good order may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// Not a migration, because only who leads may migrate. `epoch` is a key, so that raising it waits for writers, who hold
/// it with FOR KEY SHARE, while renewing does not.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS leadership ( \
       one_row    BOOLEAN PRIMARY KEY DEFAULT true CHECK (one_row), \
       epoch      BIGINT NOT NULL UNIQUE, \
       instance   TEXT NOT NULL, \
       who        TEXT NOT NULL, \
       address    TEXT NOT NULL, \
       pid        INTEGER NOT NULL, \
       since      TIMESTAMPTZ NOT NULL, \
       renewed_at TIMESTAMPTZ NOT NULL)";
const RAISE: &str = "INSERT INTO leadership (epoch, instance, who, address, pid, since, renewed_at) \
     VALUES (1, $1, $2, $3, pg_backend_pid(), clock_timestamp(), clock_timestamp()) \
     ON CONFLICT (one_row) DO UPDATE SET epoch = leadership.epoch + 1, instance = excluded.instance, who = excluded.who, \
     address = excluded.address, pid = excluded.pid, since = excluded.since, renewed_at = excluded.renewed_at \
     RETURNING epoch";
/// Who holds the lock; what the row says of it, if the row is of it.
const HOLDER: &str = "SELECT held.pid, l.who, l.address, \
     extract(epoch FROM clock_timestamp() - l.renewed_at)::float8 AS silent \
     FROM pg_locks AS held LEFT JOIN leadership AS l ON l.pid = held.pid \
     WHERE held.locktype = 'advisory' AND held.granted AND held.classid::bigint = $1 AND held.objid::bigint = $2 \
       AND held.objsubid = 2 AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())";
/// Also the sessions with transactions that it left open: raising the epoch would wait for them.
const END_SESSIONS: &str = "SELECT count(pg_terminate_backend(a.pid)) \
     FROM leadership AS l JOIN pg_stat_activity AS a ON a.application_name = l.instance \
     WHERE a.datname = current_database() AND a.usename = current_user AND a.pid <> pg_backend_pid()";

/// The one that holds the lock, where it is still there and no row is of it.
const END_SESSION: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1";

/// How a coordinator is called where others read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Machine and process.
    pub who: String,
    /// Where it listens once it leads.
    pub address: String,
}

impl Member {
    /// This process.
    pub fn this(address: SocketAddr) -> Self {
        let system = rustix::system::uname();
        let machine = system.nodename().to_string_lossy();
        Self { who: format!("process {} on {machine}", std::process::id()), address: address.to_string() }
    }
}

/// How often things are done, and when a leader is given up.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How often the leader gives a sign of life.
    pub renew: Duration,
    /// How long it may give none.
    pub limit: Duration,
    /// How often who stands by looks.
    pub look: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { renew: Duration::from_secs(1), limit: Duration::from_secs(5), look: Duration::from_millis(200) }
    }
}

/// A coordinator that would lead.
#[derive(Debug)]
pub struct Candidate {
    server: Server,
    member: Member,
    timing: Timing,
    /// What all sessions of this process are called.
    instance: String,
    connection: PgConnection,
    /// The session that holds the lock, and since when it was seen.
    holder: Option<(i32, Instant)>,
    said: String,
}

impl Candidate {
    /// Connects.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::NotWritable`].
    pub async fn connect(server: Server, member: Member, timing: Timing) -> Result<Self, Error> {
        let instance = format!("ceteris-{}", Uuid::new_v4().simple());
        let connection =
            within(PATIENCE, connect(&server, &instance)).await.map_err(|error| sql(server.place(), &error))?;
        Ok(Self { server, member, timing, instance, connection, holder: None, said: String::new() })
    }

    /// Waits until nobody else leads, and leads; none when `until` is cancelled before.
    ///
    /// # Errors
    /// When the database cannot be used: [`Error::Newer`], [`Error::NotWritable`], [`Error::Damaged`] and the like. A
    /// server that goes away and comes back is waited for.
    pub async fn lead(mut self, until: &CancellationToken) -> Result<Option<Postgres>, Error> {
        loop {
            let asked = within(2 * self.timing.limit, self.attempt()).await;
            match asked.map_err(|error| sql(self.server.place(), &error)) {
                Ok(Some(epoch)) => return self.reign(epoch).await.map(Some),
                Ok(None) => {}
                Err(error @ Error::Unreachable { .. }) => {
                    let text = format!("standing by until the database is back: {error}");
                    if self.is_news(&text) {
                        tracing::warn!("{text}");
                    }
                    if let Ok(connection) = within(PATIENCE, connect(&self.server, &self.instance)).await {
                        self.connection = connection;
                    }
                }
                Err(error) => return Err(error),
            }
            tokio::select! {
                biased;
                () = until.cancelled() => {
                    // It holds nothing that closing in order would give back sooner.
                    let _ = timeout(FAREWELL, self.connection.close()).await;
                    return Ok(None);
                }
                () = sleep(self.timing.look) => {}
            }
        }
    }

    /// The epoch to lead in, if nobody else holds the lock.
    async fn attempt(&mut self) -> Result<Option<i64>, sqlx::Error> {
        let free = query_scalar("SELECT pg_try_advisory_lock($1, $2)").bind(LOCKS).bind(LEADER);
        if free.fetch_one(&mut self.connection).await? {
            return self.raise().await.map(Some);
        }
        let holder = query(HOLDER).bind(i64::from(LOCKS)).bind(i64::from(LEADER));
        let Some(row) = holder.fetch_optional(&mut self.connection).await? else { return Ok(None) };
        let pid: i32 = row.try_get("pid")?;
        let seen = match self.holder {
            Some((known, since)) if known == pid => since,
            _ => self.holder.insert((pid, Instant::now())).1,
        };
        // One that holds the lock and has not raised the epoch yet is given as long from when it was seen.
        let silent = row
            .try_get::<Option<f64>, _>("silent")?
            .map_or(seen.elapsed(), |seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default());
        let leader = match (row.try_get::<Option<String>, _>("who")?, row.try_get::<Option<String>, _>("address")?) {
            (Some(who), Some(address)) => format!("{who}, which listens on {address},"),
            _ => format!("session {pid} of the database"),
        };
        if silent <= self.timing.limit {
            let text = format!("standing by: {leader} leads");
            if self.is_news(&text) {
                tracing::info!("{text}");
            }
        } else {
            let text = format!("{leader} has given no sign of life for {silent:.1?}: taking over");
            if self.is_news(&text) {
                tracing::warn!("{text}");
            }
            self.end(pid).await;
        }
        Ok(None)
    }

    /// Ends the session that holds the lock, and every other session of that leader.
    async fn end(&mut self, pid: i32) {
        let ended = async {
            query(END_SESSIONS).execute(&mut self.connection).await?;
            query(END_SESSION).bind(pid).execute(&mut self.connection).await
        };
        if let Err(error) = ended.await {
            tracing::error!(
                "the session of a leader that gives no sign of life cannot be ended: {error}; let all coordinators connect as one \
                 user, or end session {pid} by hand"
            );
        }
    }

    /// Makes this the leader, in an epoch of its own.
    async fn raise(&mut self) -> Result<i64, sqlx::Error> {
        loop {
            query(END_SESSIONS).execute(&mut self.connection).await?;
            let Member { who, address } = &self.member;
            let raised = query_scalar(RAISE).bind(&self.instance).bind(who).bind(address);
            match raised.fetch_one(&mut self.connection).await {
                // The sessions above take a moment to end.
                Err(error) if code(&error).as_deref() == Some("55P03") => {
                    tracing::warn!("waiting for what the leader before was writing");
                }
                epoch => return epoch,
            }
        }
    }

    async fn reign(self, epoch: i64) -> Result<Postgres, Error> {
        tracing::info!(database = %self.server, epoch, "leading");
        ceteris_crash::here(ceteris_crash::Point::LeadershipTaken);
        let reign = Reign::begin(self.connection, epoch, self.timing, self.server.clone());
        Postgres::open(self.server, &self.instance, reign).await
    }

    /// What is true for a while is said once.
    fn is_news(&mut self, text: &str) -> bool {
        // Seconds that pass make no new sentence.
        let gist = text.chars().filter(|character| !character.is_ascii_digit()).collect();
        let before = std::mem::replace(&mut self.said, gist);
        before != self.said
    }
}

/// A server that does not answer at all is one that is away.
async fn within<T>(patience: Duration, asking: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    let late = |_| Err(sqlx::Error::Io(std::io::Error::new(ErrorKind::TimedOut, "no answer")));
    timeout(patience, asking).await.unwrap_or_else(late)
}

fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

async fn connect(server: &Server, instance: &str) -> Result<PgConnection, sqlx::Error> {
    let options: PgConnectOptions = server.options(instance).options([("lock_timeout", "1s")]);
    let mut connection = PgConnection::connect_with(&options).await?;
    let known = "SELECT to_regclass('leadership') IS NOT NULL";
    if !query_scalar::<_, bool>(known).fetch_one(&mut connection).await? {
        match query(TABLE).execute(&mut connection).await {
            // Another coordinator made it in the same moment.
            Err(error) if code(&error).as_deref() == Some("23505") => {}
            made => {
                made?;
            }
        }
    }
    Ok(connection)
}

/// The time in which this process leads. It ends when this is dropped, or before.
#[derive(Debug)]
pub(super) struct Reign {
    epoch: i64,
    server: Server,
    /// Why it ended, once it did.
    ended: Arc<watch::Sender<Option<String>>>,
    stop: CancellationToken,
    task: std::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Reign {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Reign {
    fn begin(connection: PgConnection, epoch: i64, timing: Timing, server: Server) -> Self {
        let (ended, stop) = (Arc::new(watch::Sender::new(None)), CancellationToken::new());
        let renewing = renew(connection, epoch, timing, ended.clone(), stop.clone());
        let task = std::sync::Mutex::new(Some(tokio::spawn(renewing)));
        Self { epoch, server, ended, stop, task }
    }

    /// Fails unless this process leads, and keeps it so until the transaction ends: the first statement of each that
    /// writes.
    pub(super) async fn fence(&self, transaction: &mut PgConnection) -> Result<(), Fault> {
        let own = query("SELECT 1 FROM leadership WHERE epoch = $1 FOR KEY SHARE").bind(self.epoch);
        if own.fetch_optional(transaction).await?.is_some() {
            return Ok(());
        }
        end(&self.ended, "another coordinator took over".to_owned());
        Err(Fault::Refused(self.error("another coordinator took over".to_owned())))
    }

    /// Ready with the reason when this process leads no more.
    pub(super) async fn deposed(&self) -> Error {
        let mut ended = self.ended.subscribe();
        // The sender lives as long as `self`.
        let cause = ended.wait_for(Option::is_some).await.ok().and_then(|cause| cause.clone());
        self.error(cause.unwrap_or_default())
    }

    /// Lets another coordinator lead at once.
    pub(super) async fn end(&self) {
        self.stop.cancel();
        let task = self.task.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(task) = task {
            let _ = timeout(FAREWELL, task).await;
        }
    }

    fn error(&self, cause: String) -> Error {
        Error::Deposed { place: self.server.place(), cause }
    }
}

/// The first reason stands.
fn end(ended: &watch::Sender<Option<String>>, cause: String) {
    ended.send_if_modified(|known| known.is_none() && known.replace(cause).is_none());
}

/// Gives signs of life on the connection that holds the lock, until `stop`.
async fn renew(
    mut connection: PgConnection,
    epoch: i64,
    timing: Timing,
    ended: Arc<watch::Sender<Option<String>>>,
    stop: CancellationToken,
) {
    let mut tick = interval(timing.renew);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut renewed = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => {
                // Closing gives the lock back.
                let _ = timeout(FAREWELL, connection.close()).await;
                return;
            }
            _ = tick.tick() => {}
        }
        let now = Instant::now();
        let Some(left) = timing.limit.checked_sub(now - renewed) else {
            return end(&ended, format!("it gave no sign of life for {:.1?}, stopped or starved", now - renewed));
        };
        let renewal = query("UPDATE leadership SET renewed_at = clock_timestamp() WHERE epoch = $1").bind(epoch);
        let cause = match timeout(left, renewal.execute(&mut connection)).await {
            Ok(Ok(done)) if done.rows_affected() == 1 => {
                renewed = now;
                continue;
            }
            Ok(Ok(_)) => "another coordinator took over".to_owned(),
            Ok(Err(error)) => format!("its session ended ({error})"),
            Err(_) => format!("the database did not answer for {:?}", timing.limit),
        };
        return end(&ended, cause);
    }
}
