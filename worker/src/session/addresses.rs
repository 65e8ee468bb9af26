//! Where the coordinator may be: the leader listens at one of several addresses, and the others stand by.

use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tonic::{Code, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

/// HTTP/2 pings, without which a partition is never noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// The same where another coordinator takes over within seconds.
const KEEP_ALIVE_OF_SEVERAL: Duration = Duration::from_secs(2);
/// The longest wait after all of several were tried: one of them will answer soon.
const WAIT_OF_SEVERAL: Duration = Duration::from_secs(1);
/// How long one of several may take to say that it is there.
const ANSWER: Duration = Duration::from_secs(1);

/// One address or more, of which one is the current one.
#[derive(Debug)]
pub(crate) struct Addresses {
    urls: Vec<String>,
    current: AtomicUsize,
}

impl Addresses {
    /// Addresses that commas divide.
    pub(crate) fn new(text: &str) -> Self {
        let urls = text.split(',').map(|url| url.trim().to_owned()).collect();
        Self { urls, current: AtomicUsize::new(0) }
    }

    /// The one to try, or to stay with.
    pub(crate) fn current(&self) -> &str {
        &self.urls[self.current.load(Ordering::Relaxed) % self.urls.len()]
    }

    /// Goes on to the next one. True when that is the first again: then it is time to wait.
    pub(crate) fn advance(&self) -> bool {
        (self.current.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(self.urls.len())
    }

    /// How often a connection is tried out, and how long it may give no answer.
    pub(crate) fn keep_alive(&self) -> Duration {
        if self.urls.len() > 1 { KEEP_ALIVE_OF_SEVERAL } else { KEEP_ALIVE }
    }

    /// The longest wait after all were tried, which is `single` for a single one.
    pub(crate) fn longest_wait(&self, single: Duration) -> Duration {
        if self.urls.len() > 1 { single.min(WAIT_OF_SEVERAL) } else { single }
    }

    /// Whether somebody is there: the system accepts connections for a process that was stopped, too. Whatever is said is an
    /// answer. A single one is not asked, since there is no other to go to.
    pub(crate) async fn answers(&self, channel: Channel) -> bool {
        if self.urls.len() == 1 {
            return true;
        }
        let mut health = HealthClient::new(channel);
        let answer = tokio::time::timeout(ANSWER, health.check(HealthCheckRequest::default())).await;
        answer.is_ok_and(|answer| answer.map_or_else(|status| status.code() != Code::Unavailable, |_| true))
    }
}

/// The current one.
impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.current())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_tried_in_turn_and_a_turn_ends_with_the_last() {
        let addresses = Addresses::new("http://a:1, http://b:2");
        assert_eq!(addresses.current(), "http://a:1");
        assert!(!addresses.advance());
        assert_eq!(addresses.to_string(), "http://b:2");
        assert!(addresses.advance());
        assert_eq!(addresses.current(), "http://a:1");
        assert!(Addresses::new("http://a:1").advance(), "every try of a single one is a turn");
    }
}
