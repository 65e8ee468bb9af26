//! What is said and heard on one stream, as two small machines without a stream: the session drives them over gRPC, and
//! the simulation over a network of its own.
//!
//! Times are durations since the stream was opened.

use std::time::Duration;

use ceteris_proto::{
    fleet::{CoordinatorMessage, Event, EventKind, StartAttempt, WorkerMessage},
    v1,
};
use ceteris_shared::{ids::Attempt, planted};
use prost::Message as _;

use crate::attempts::Wish;

/// Heartbeats are sent at least this often and at most so, whatever is asked for.
const HEARTBEATS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(60));

/// An event as it is kept and sent.
pub fn encode(sequence: u64, attempt: Attempt, kind: EventKind) -> Vec<u8> {
    v1::WorkerMessage::from(WorkerMessage::Event(Event { sequence, attempt, kind })).encode_to_vec()
}

/// The reverse of [`encode`]; none where the bytes are nothing that it made.
pub fn decode(bytes: &[u8]) -> Option<v1::WorkerMessage> {
    v1::WorkerMessage::decode(bytes).ok()
}

/// What a message of the coordinator's leads to.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// The stream is open.
    Welcome {
        /// So often it wants to hear one.
        heartbeat: Duration,
        /// So long it believes an attempt alive that it hears nothing of.
        lease: Duration,
    },
    /// To be executed.
    Start(Box<StartAttempt>),
    /// Something is wished of an attempt.
    Wish {
        /// Of which.
        attempt: Attempt,
        /// What.
        wish: Wish,
        /// Why, for the log.
        reason: String,
    },
    /// Nothing is to be begun on these slots, and what runs there ends after its epoch.
    Drain(Vec<u32>),
    /// Events up to this one are stored and may be forgotten.
    Acknowledged(u64),
    /// It makes no sense here: the stream is to be opened anew.
    Nonsense(String),
}

/// Hears what the coordinator says on one stream.
#[derive(Clone, Debug, Default)]
pub struct Listener {
    welcomed: bool,
}

impl Listener {
    /// What a message means.
    pub fn hear(&mut self, message: CoordinatorMessage) -> Heard {
        match message {
            CoordinatorMessage::Welcome { heartbeat, lease } if !self.welcomed => {
                self.welcomed = true;
                Heard::Welcome { heartbeat: heartbeat.clamp(HEARTBEATS.0, HEARTBEATS.1), lease }
            }
            CoordinatorMessage::Welcome { .. } => Heard::Nonsense("the coordinator welcomed this worker twice".into()),
            other if !self.welcomed => {
                Heard::Nonsense(format!("the coordinator did not welcome this worker but said {other:?}"))
            }
            CoordinatorMessage::Start(start) => Heard::Start(start),
            CoordinatorMessage::Stop { attempt, now } => {
                let wish = if now { Wish::StopNow } else { Wish::StopAfterEpoch };
                Heard::Wish { attempt, wish, reason: "it is told to stop".to_owned() }
            }
            CoordinatorMessage::Revoke { attempt, reason } => {
                let wish = if planted!(WorkerIgnoresRevoke) { Wish::Run } else { Wish::Abandon };
                Heard::Wish { attempt, wish, reason }
            }
            CoordinatorMessage::Drain { slots } => Heard::Drain(slots),
            CoordinatorMessage::Ack(sequence) => Heard::Acknowledged(sequence),
        }
    }
}

/// What is to be said next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// How far every attempt is.
    Heartbeat,
    /// The event of this number.
    Event(u64),
    /// Nothing before this time, unless there is a new event.
    Wait(Duration),
}

/// Decides what is said on one stream that is open: all events that are kept, in order, and heartbeats in between.
#[derive(Clone, Debug)]
pub struct Speaker {
    heartbeat: Duration,
    beats_at: Duration,
    next: u64,
}

impl Speaker {
    /// Speaks on a stream that was welcomed, beginning with the oldest event of those that are kept. `kept` is the number of
    /// that one, and the number that the next event gets.
    pub fn new(heartbeat: Duration, kept: (u64, u64)) -> Self {
        let next = if planted!(SpoolNotResent) { kept.1 } else { kept.0 };
        Self { heartbeat, beats_at: Duration::ZERO, next }
    }

    /// What comes next. It counts as said.
    pub fn next(&mut self, now: Duration, kept: (u64, u64)) -> Next {
        let (first, end) = kept;
        self.next = self.next.max(first);
        let backlog = self.next < end;
        // Renewing leases goes before a long backlog.
        if now >= self.beats_at {
            self.beats_at = now + self.heartbeat * if planted!(HeartbeatOnlyOnce) { 1000 } else { 1 };
            return Next::Heartbeat;
        }
        if backlog {
            self.next += 1;
            return Next::Event(self.next - 1);
        }
        Next::Wait(self.beats_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEAT: Duration = Duration::from_secs(10);

    #[test]
    fn heartbeats_go_before_a_backlog_and_events_are_said_once() {
        let mut speaker = Speaker::new(BEAT, (3, 5));
        let mut said = vec![];
        for seconds in [0, 0, 10, 10, 10] {
            said.push(speaker.next(Duration::from_secs(seconds), (3, 5)));
        }
        let wait = Next::Wait(BEAT * 2);
        assert_eq!(said, [Next::Heartbeat, Next::Event(3), Next::Heartbeat, Next::Event(4), wait]);
        assert_eq!(speaker.next(BEAT, (7, 8)), Next::Event(7), "what is acknowledged is not said any more");
    }

    #[test]
    fn a_stream_begins_with_one_welcome() {
        let welcome = || CoordinatorMessage::Welcome { lease: BEAT, heartbeat: Duration::ZERO };
        let mut listener = Listener::default();
        assert!(matches!(listener.hear(CoordinatorMessage::Ack(1)), Heard::Nonsense(_)));
        assert_eq!(listener.hear(welcome()), Heard::Welcome { heartbeat: HEARTBEATS.0, lease: BEAT });
        assert_eq!(listener.hear(CoordinatorMessage::Ack(1)), Heard::Acknowledged(1));
        assert!(matches!(listener.hear(welcome()), Heard::Nonsense(_)));
    }
}
