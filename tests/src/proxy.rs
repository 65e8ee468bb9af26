//! A bad network between two processes: a TCP proxy that delays, stops forwarding, loses one direction, and cuts.
//!
//! What [`Proxy::stall`] holds up is delivered when the direction flows again, as TCP would after a partition: nothing is
//! lost from the middle of a stream, and neither end is told. New connections are accepted meanwhile and are silent. Who
//! wants to see a connection break uses [`Proxy::cut`].

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

/// Pieces of a stream that are under way at once. What comes after them waits in the sender's own buffers.
const PIECES: usize = 256;
/// Bytes of a piece.
const PIECE_BYTES: usize = 16 << 10;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From who connected to the server.
    ToServer,
    /// From the server to who connected.
    ToClient,
}

impl Direction {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::ToServer, Self::ToClient];
}

/// A proxy in front of one server. It ends, and cuts what it carries, when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    weather: Arc<Weather>,
}

/// How the network is, for all connections.
#[derive(Debug, Default)]
struct Weather {
    now: Mutex<Now>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Now {
    stalled: [bool; 2],
    delay: [Duration; 2],
    /// Connections are closed as soon as they are made.
    refused: bool,
    /// The proxy is gone.
    over: bool,
    /// Both ends of what is carried.
    open: Vec<TcpStream>,
    /// How many connections were made.
    connections: usize,
}

impl Weather {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Now)) {
        change(&mut self.now());
        self.changed.notify_all();
    }

    /// Waits while a direction is stalled. False where the proxy is gone.
    fn flows(&self, direction: Direction) -> bool {
        let mut now = self.now();
        while now.stalled[direction as usize] && !now.over {
            now = self.changed.wait(now).unwrap_or_else(PoisonError::into_inner);
        }
        !now.over
    }
}

impl Proxy {
    /// In front of `server`, which need not listen yet.
    ///
    /// # Panics
    /// When no port is free.
    pub fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let weather = Arc::<Weather>::default();
        let of_listener = Arc::clone(&weather);
        thread::spawn(move || {
            for client in listener.incoming() {
                if of_listener.now().over {
                    return;
                }
                if let Ok(client) = client {
                    // A connection that does not come to be is closed, which its client notices.
                    let _ = carry(client, server, &of_listener);
                }
            }
        });
        Self { address, weather }
    }

    /// In front of the server at `url`, `http://HOST:PORT`.
    ///
    /// # Panics
    /// When that is no such URL of an address.
    pub fn to_url(url: &str) -> Self {
        let address = url.strip_prefix("http://").and_then(|address| address.parse().ok());
        Self::start(address.unwrap_or_else(|| panic!("{url} is not http://ADDRESS:PORT")))
    }

    /// Where to connect instead.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where to connect instead.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Holds up what goes in a direction, until it flows again. The black hole: both. The asymmetric partition: one.
    pub fn stall(&self, direction: Direction) {
        self.weather.change(|now| now.stalled[direction as usize] = true);
    }

    /// Lets everything flow that was held up, and what comes after it.
    pub fn flow(&self) {
        self.weather.change(|now| now.stalled = [false; 2]);
    }

    /// Delivers what is sent from now on in a direction so much later. The order stays.
    pub fn delay(&self, direction: Direction, by: Duration) {
        self.weather.change(|now| now.delay[direction as usize] = by);
    }

    /// Closes all connections, and new ones as soon as they are made, until [`Self::admit`].
    pub fn refuse(&self) {
        self.weather.change(|now| now.refused = true);
        self.cut();
    }

    /// Takes new connections again.
    pub fn admit(&self) {
        self.weather.change(|now| now.refused = false);
    }

    /// Closes all connections. New ones can be made.
    pub fn cut(&self) {
        self.weather.change(|now| {
            for stream in now.open.drain(..) {
                // It may be closed already.
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
    }

    /// How many connections were made so far.
    pub fn connections(&self) -> usize {
        self.weather.now().connections
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.weather.change(|now| now.over = true);
        self.cut();
        // Wakes the listening thread.
        let _ = TcpStream::connect(self.address);
    }
}

/// Carries a connection on threads of its own.
fn carry(client: TcpStream, server: SocketAddr, weather: &Arc<Weather>) -> std::io::Result<()> {
    weather.change(|now| now.connections += 1);
    if weather.now().refused {
        return client.shutdown(Shutdown::Both);
    }
    let server = TcpStream::connect(server)?;
    for stream in [&client, &server] {
        // Delays are what a test says, and nothing else.
        stream.set_nodelay(true)?;
        let copy = stream.try_clone()?;
        weather.change(|now| now.open.push(copy));
    }
    for (direction, from, to) in
        [(Direction::ToServer, client.try_clone()?, server.try_clone()?), (Direction::ToClient, server, client)]
    {
        let (sender, receiver) = sync_channel(PIECES);
        let (of_reader, of_writer) = (Arc::clone(weather), Arc::clone(weather));
        thread::spawn(move || take(from, direction, &sender, &of_reader));
        thread::spawn(move || deliver(to, direction, &receiver, &of_writer));
    }
    Ok(())
}

/// Bytes and when they are due.
type Piece = (Instant, Vec<u8>);

fn take(mut from: TcpStream, direction: Direction, pieces: &SyncSender<Piece>, weather: &Weather) {
    let mut buffer = vec![0; PIECE_BYTES];
    // An error is an end, too.
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        let due = Instant::now() + weather.now().delay[direction as usize];
        if pieces.send((due, buffer[..bytes].to_vec())).is_err() {
            return;
        }
    }
}

fn deliver(mut to: TcpStream, direction: Direction, pieces: &Receiver<Piece>, weather: &Weather) {
    for (due, bytes) in pieces {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if !weather.flows(direction) || to.write_all(&bytes).is_err() {
            break;
        }
    }
    // The end of the stream is held up as its bytes are.
    if weather.flows(direction) {
        let _ = to.shutdown(Shutdown::Write);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers with what it is told.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut reader = stream.try_clone().expect("a socket can be opened twice");
                    let _ = std::io::copy(&mut reader, &mut &stream);
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        address
    }

    fn connect(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect(proxy.address()).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
        stream
    }

    /// Says a word and hears it again; returns how long that took.
    fn ask(stream: &mut TcpStream, word: &[u8]) -> Duration {
        let began = Instant::now();
        stream.write_all(word).expect("it is open");
        let mut answer = vec![0; word.len()];
        stream.read_exact(&mut answer).expect("it is answered");
        assert_eq!(answer, word);
        began.elapsed()
    }

    fn is_silent(stream: &TcpStream) -> bool {
        stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a time-out");
        let silent = stream.peek(&mut [0]).is_err();
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
        silent
    }

    #[test]
    fn what_is_delayed_comes_late_and_in_order() {
        let proxy = Proxy::start(echo());
        let mut stream = connect(&proxy);
        ask(&mut stream, b"at once");
        proxy.delay(Direction::ToServer, Duration::from_millis(100));
        proxy.delay(Direction::ToClient, Duration::from_millis(150));
        assert!(ask(&mut stream, b"late") >= Duration::from_millis(250));
        let long: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut writer = stream.try_clone().expect("a socket can be opened twice");
        let words = long.clone();
        let writing = thread::spawn(move || writer.write_all(&words));
        let mut answer = vec![0; long.len()];
        stream.read_exact(&mut answer).expect("all of it comes");
        assert!(answer == long, "the order stays");
        writing.join().expect("no panic").expect("it is written");
    }

    #[test]
    fn a_stalled_direction_is_silent_and_nothing_of_it_is_lost() {
        for direction in Direction::BOTH {
            let proxy = Proxy::start(echo());
            let mut stream = connect(&proxy);
            ask(&mut stream, b"before");
            proxy.stall(direction);
            stream.write_all(b"during").expect("neither end is told");
            assert!(is_silent(&stream));
            let mut another = connect(&proxy);
            another.write_all(b"new").expect("it is accepted");
            assert!(is_silent(&another));
            proxy.flow();
            let mut answer = [0; 6];
            stream.read_exact(&mut answer).expect("it is delivered");
            assert_eq!(&answer, b"during");
            ask(&mut stream, b"after");
            assert_eq!(proxy.connections(), 2);
        }
    }

    #[test]
    fn a_cut_is_noticed_and_a_refusal_stays() {
        let proxy = Proxy::start(echo());
        let mut stream = connect(&proxy);
        ask(&mut stream, b"before");
        proxy.cut();
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "it is closed");
        ask(&mut connect(&proxy), b"again");
        proxy.refuse();
        assert_eq!(connect(&proxy).read(&mut [0]).unwrap_or(0), 0, "it is closed at once");
        proxy.admit();
        ask(&mut connect(&proxy), b"and again");
    }

    #[test]
    fn the_end_of_a_stream_is_carried_too() {
        let proxy = Proxy::start(echo());
        let mut stream = connect(&proxy);
        stream.write_all(b"last").expect("it is open");
        stream.shutdown(Shutdown::Write).expect("it is open");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it ends");
        assert_eq!(answer, b"last");
    }
}
