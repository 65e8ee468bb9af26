//! Everything on one port: opens the stores, restores, listens, and stops in order.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use ceteris_blob::Blobs;
use ceteris_proto::{DESCRIPTORS, v1};
use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    service::InterceptorLayer,
    transport::{Server, server::TcpIncoming},
};

use crate::{
    auth::Auth,
    config::{self, Config},
    driver::{self, Clock, Driver},
    fleet, rpc,
    store::{self, Store},
};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// How long calls in flight have to end after a stop was asked for.
const GRACE: Duration = Duration::from_secs(5);

/// Why a coordinator does not start, or ends.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(
        "{address} is in use: another coordinator or another program listens there; stop it, or choose another port"
    )]
    PortInUse { address: SocketAddr },
    #[error("cannot listen on {address}: {source}; choose an address of this machine and a port this user may open")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("it was told to stop while it stood by")]
    Stopped,
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Blobs(#[from] ceteris_blob::Error),
    #[error(transparent)]
    Driver(#[from] driver::Failure),
    #[error("the server ended: {0}")]
    Transport(#[from] tonic::transport::Error),
    #[error("a task of the coordinator ended unexpectedly: {0}; this is a mistake in ceteris, and its log says where")]
    Task(#[from] tokio::task::JoinError),
}

/// A coordinator that listens.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    /// Ends with the shutdown, or earlier with whichever task ends first.
    stop: CancellationToken,
    driver: JoinHandle<Result<(), driver::Failure>>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    store: Arc<dyn Store>,
}

/// Runs a coordinator until `shutdown`.
///
/// # Errors
/// When it cannot start, or cannot go on: what was said to anyone by then is stored.
pub async fn serve(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    start(config, shutdown).await?.wait().await
}

/// Starts a coordinator; when this returns, it listens. While another one leads on its database, it stands by.
///
/// # Errors
/// When the configuration is refused, the port is taken, or a store cannot be used; [`Error::Stopped`] when `shutdown` comes
/// while it stands by.
pub async fn start(config: Config, shutdown: CancellationToken) -> Result<Running, Error> {
    config.validate()?;
    let port = Port::reserve(config.listen)?;
    // Before it stands by: what is wrong here would come out when it is needed.
    let blobs = Blobs::open(&config.store).await?;
    let Some(store) = config.database.open(port.address, &shutdown).await? else { return Err(Error::Stopped) };

    let scheduler = ceteris_scheduler::Config {
        lease: config.lease,
        replay: config.heartbeat,
        ..ceteris_scheduler::Config::default()
    };
    let (driver, handle) = Driver::restore(store.clone(), scheduler, Clock::start()).await?;
    let stop = shutdown.child_token();
    let fleet = fleet::Service::new(
        store.clone(),
        handle.clone(),
        blobs.store_id(),
        config.lease,
        config.heartbeat,
        stop.clone(),
    );
    let rpc = rpc::Service::new(store.clone(), handle, blobs);
    let address = port.address;
    let server = tokio::spawn(server(port.listen()?, &config, fleet, rpc, stop.clone()).await);
    let driver = tokio::spawn(driver.run(stop.clone()));
    tracing::info!(%address, database = %config.database, "the coordinator listens");
    Ok(Running { address, shutdown, stop, driver, server, store })
}

/// A port of this process on which nothing listens yet: whoever tries is refused at once, and goes to the leader.
struct Port {
    address: SocketAddr,
    socket: TcpSocket,
}

impl Port {
    fn reserve(address: SocketAddr) -> Result<Self, Error> {
        let failed = |source| refused(address, source);
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(failed)?;
        // As every server: connections of the one before, still closing, hold nobody up.
        socket.set_reuseaddr(true).map_err(failed)?;
        socket.bind(address).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { address, socket })
    }

    fn listen(self) -> Result<TcpListener, Error> {
        self.socket.listen(BACKLOG).map_err(|source| refused(self.address, source))
    }
}

fn refused(address: SocketAddr, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::AddrInUse => Error::PortInUse { address },
        _ => Error::Listen { address, source },
    }
}

/// The server's future, ready to be spawned.
async fn server(
    listener: TcpListener,
    config: &Config,
    fleet: fleet::Service,
    rpc: rpc::Service,
    stop: CancellationToken,
) -> impl Future<Output = Result<(), tonic::transport::Error>> + Send + use<> {
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter.set_serving::<v1::fleet_server::FleetServer<fleet::Service>>().await;
    health_reporter.set_serving::<v1::coordinator_server::CoordinatorServer<rpc::Service>>().await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let ping = config.heartbeat.max(Duration::from_secs(1));
    Server::builder()
        .http2_keepalive_interval(Some(ping))
        .http2_keepalive_timeout(Some(config.lease.max(ping)))
        .layer(InterceptorLayer::new(Auth::new(config.token.as_ref())))
        .add_service(health)
        .add_service(reflection().build_v1().expect("the descriptors are compiled in"))
        .add_service(reflection().build_v1alpha().expect("the descriptors are compiled in"))
        .add_service(fleet.into_server())
        .add_service(rpc.into_server())
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), stop.cancelled_owned())
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the shutdown, or for what ends the coordinator before it.
    ///
    /// # Errors
    /// When it cannot go on.
    pub async fn wait(mut self) -> Result<(), Error> {
        let (mut driver, mut server, mut deposed) = (None, None, None);
        tokio::select! {
            // A driver that ends because another coordinator took over is no other reason.
            biased;
            () = self.shutdown.cancelled() => {}
            error = self.store.deposed() => deposed = Some(error),
            ended = &mut self.driver => driver = Some(ended),
            ended = &mut self.server => server = Some(ended),
        }
        self.stop.cancel();
        // Who no longer leads has nothing more to answer.
        let grace = if deposed.is_some() { Duration::ZERO } else { GRACE };
        if server.is_none() && timeout(grace, &mut self.server).await.is_err() {
            if deposed.is_none() {
                tracing::warn!("calls were still in flight after {GRACE:?}");
            }
            self.server.abort();
        }
        if let Some(error) = deposed {
            self.driver.abort();
            return Err(error.into());
        }
        let driver = match driver {
            Some(ended) => ended,
            None => tokio::select! {
                biased;
                ended = &mut self.driver => ended,
                // A commit that nobody answers is not waited for.
                error = self.store.deposed() => {
                    self.driver.abort();
                    return Err(error.into());
                }
            },
        };
        self.store.close().await;
        driver??;
        server.transpose()?.transpose()?;
        Ok(())
    }
}
