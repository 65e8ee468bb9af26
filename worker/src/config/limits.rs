//! Sizes and times that nobody has to set.

use std::time::Duration;

/// The fixed ones, and those that flags change.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Size of the spool from which no new epoch is begun.
    pub spool_bytes: u64,
    /// Bytes that have to be free on the state folder's disk before an attempt begins.
    pub free_bytes: u64,
    /// How long an attempt that there is no room for waits for some before it is given back.
    pub room_patience: Duration,
    /// How long a trainer may take to load libtorch and open its device.
    pub trainer_start: Duration,
    /// How long a trainer may take to obey a stop at once, its last checkpoint included, before it is killed.
    pub stop_grace: Duration,
    /// How long what a trainer left may still go up after a stop at once.
    pub upload_grace: Duration,
    /// How long a store that fails is tried again, for one object.
    pub store_patience: Duration,
    /// Longest wait between two tries to reach the coordinator, where its leases are not shorter than three of these.
    pub reconnect: Duration,
    /// Longest wait before a trainer that crashed is started again.
    pub restart: Duration,
    /// How long a trainer that trains may report nothing before it is killed.
    pub trainer_silence: Duration,
    /// How long a trainer without work is kept.
    pub trainer_idle: Duration,
    /// How long the last events may take to be acknowledged when the agent ends.
    pub last_words: Duration,
}

impl Limits {
    /// How long it takes at most to hand running attempts back.
    pub fn hand_back(&self) -> Duration {
        self.stop_grace + self.upload_grace + self.last_words
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            spool_bytes: 1_000_000_000,
            free_bytes: 256_000_000,
            room_patience: Duration::from_secs(300),
            trainer_start: Duration::from_secs(120),
            stop_grace: Duration::from_secs(15),
            upload_grace: Duration::from_secs(10),
            store_patience: Duration::from_secs(300),
            reconnect: Duration::from_secs(15),
            restart: Duration::from_secs(30),
            trainer_silence: Duration::from_secs(60 * 60),
            trainer_idle: Duration::from_secs(15 * 60),
            last_words: Duration::from_secs(2),
        }
    }
}
