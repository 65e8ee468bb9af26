//! A coordinator that writes down what it hears and says what a test tells it.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use ceteris_proto::{
    fleet::{CoordinatorMessage, Event, Register, WorkerMessage},
    v1::{
        self,
        fleet_server::{Fleet, FleetServer},
    },
};
use ceteris_shared::ids::Attempt;
use futures::Stream;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone)]
pub struct Coordinator {
    address: std::net::SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    heard: Mutex<Heard>,
    changed: Notify,
}

#[derive(Default)]
struct Heard {
    registers: Vec<Register>,
    heartbeats: Vec<Vec<ceteris_proto::fleet::Progress>>,
    /// As they came, repeated ones too.
    arrivals: Vec<Event>,
    authorization: Option<String>,
    /// Says nothing about events.
    silent: bool,
    refuse: Option<Status>,
    out: Option<mpsc::Sender<Result<v1::CoordinatorMessage, Status>>>,
}

impl Coordinator {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let coordinator = Self { address, shared: Arc::default() };
        let server = tonic::transport::Server::builder().add_service(FleetServer::new(coordinator.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        coordinator
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Heard) -> T) -> T {
        work(&mut self.shared.heard.lock().expect("no panic holds it"))
    }

    /// Waits until `find` finds something in what was heard.
    async fn until<T>(&self, what: &str, find: impl Fn(&Heard) -> Option<T>) -> T {
        let search = async {
            loop {
                let changed = self.shared.changed.notified();
                if let Some(found) = self.with(|heard| find(heard)) {
                    return found;
                }
                let _ = tokio::time::timeout(Duration::from_millis(100), changed).await;
            }
        };
        match tokio::time::timeout(PATIENCE, search).await {
            Ok(found) => found,
            Err(_) => panic!("waited for {what}; heard {:#?}", self.with(|heard| heard.arrivals.clone())),
        }
    }

    /// The n-th registration, from 1.
    pub async fn registered(&self, count: usize) -> Register {
        self.until("a registration", |heard| heard.registers.get(count - 1).cloned()).await
    }

    /// Waits for an event and returns all that came so far, each once, in the order of their numbers.
    pub async fn event(&self, what: &str, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
        self.until(what, |heard| heard.arrivals.iter().any(&wanted).then(|| once(&heard.arrivals))).await
    }

    /// All events of an attempt that has ended.
    pub async fn ended(&self, attempt: Attempt) -> Vec<Event> {
        use ceteris_proto::fleet::EventKind::{Damaged, Failed, Finished, HandedBack, Stopped};
        let ends = |event: &Event| {
            let is_end = matches!(event.kind, Finished | Stopped | HandedBack | Failed { .. } | Damaged { .. });
            event.attempt == attempt && is_end
        };
        let mut events = self.event("an attempt's end", ends).await;
        events.retain(|event| event.attempt == attempt);
        events
    }

    pub async fn heartbeat(&self, wanted: impl Fn(&[ceteris_proto::fleet::Progress]) -> bool) {
        self.until("a heartbeat", |heard| heard.heartbeats.iter().any(|beat| wanted(beat)).then_some(())).await;
    }

    pub fn arrivals(&self) -> Vec<Event> {
        self.with(|heard| heard.arrivals.clone())
    }

    pub fn authorization(&self) -> Option<String> {
        self.with(|heard| heard.authorization.clone())
    }

    pub async fn say(&self, message: CoordinatorMessage) {
        let out = self.until("a connection", |heard| heard.out.clone()).await;
        out.send(Ok(message.into())).await.expect("the worker is connected");
    }

    /// Acknowledges events as they come, or not.
    pub fn acknowledge(&self, yes: bool) {
        self.with(|heard| heard.silent = !yes);
    }

    /// Answers new connections with this until told otherwise.
    pub fn refuse(&self, status: Option<Status>) {
        self.with(|heard| heard.refuse = status);
    }

    /// Breaks the connection.
    pub async fn disconnect(&self) {
        let out = self.with(|heard| heard.out.take()).expect("a worker is connected");
        let _ = out.send(Err(Status::unavailable("going down"))).await;
    }
}

/// Each event once, by number; panics where two with one number differ, or one is missing.
fn once(arrivals: &[Event]) -> Vec<Event> {
    let mut events = std::collections::BTreeMap::new();
    for event in arrivals {
        let earlier = events.insert(event.sequence, event.clone());
        assert!(earlier.is_none_or(|earlier| earlier == *event), "two events have number {}", event.sequence);
    }
    let numbers: Vec<u64> = events.keys().copied().collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "a gap: {numbers:?}");
    events.into_values().collect()
}

#[tonic::async_trait]
impl Fleet for Coordinator {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<v1::CoordinatorMessage, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        if let Some(status) = self.with(|heard| heard.refuse.clone()) {
            return Err(status);
        }
        let authorization = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        self.with(|heard| heard.authorization = authorization.map(str::to_owned));
        let mut messages = request.into_inner();
        let (out, receiver) = mpsc::channel(16);
        let this = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(message)) = messages.message().await {
                let answer = this.hear(message.try_into().expect("the worker makes sense"), &out);
                this.shared.changed.notify_waiters();
                if let Some(answer) = answer
                    && out.send(Ok(answer.into())).await.is_err()
                {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

impl Coordinator {
    fn hear(
        &self,
        message: WorkerMessage,
        out: &mpsc::Sender<Result<v1::CoordinatorMessage, Status>>,
    ) -> Option<CoordinatorMessage> {
        self.with(|heard| match message {
            WorkerMessage::Register(register) => {
                heard.registers.push(register);
                heard.out = Some(out.clone());
                let (lease, heartbeat) = (Duration::from_secs(5), Duration::from_millis(50));
                Some(CoordinatorMessage::Welcome { lease, heartbeat })
            }
            WorkerMessage::Heartbeat(progress) => {
                heard.heartbeats.push(progress);
                None
            }
            WorkerMessage::Event(event) => {
                let sequence = event.sequence;
                heard.arrivals.push(event);
                (!heard.silent).then_some(CoordinatorMessage::Ack(sequence))
            }
        })
    }
}
