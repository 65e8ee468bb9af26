//! What a coordinator is told when it starts.

use std::{fmt, net::SocketAddr, time::Duration};

use crate::store::Database;

/// What a coordinator is told when it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Where it keeps its state.
    pub database: Database,
    /// The object store: a folder's path or `s3://BUCKET/PREFIX`.
    pub store: String,
    /// What clients must send as `authorization: Bearer TOKEN`; nothing is asked for without one.
    pub token: Option<Token>,
    /// How long an attempt is believed alive without a heartbeat.
    pub lease: Duration,
    /// How often workers send one.
    pub heartbeat: Duration,
}

impl Config {
    /// The default lease.
    pub const LEASE: Duration = Duration::from_secs(30);
    /// The default time between heartbeats.
    pub const HEARTBEAT: Duration = Duration::from_secs(5);

    /// # Errors
    /// When what is asked for cannot work, or would be open to everyone.
    pub fn validate(&self) -> Result<(), Error> {
        if self.token.is_none() && !self.listen.ip().is_loopback() {
            return Err(Error::OpenToAll { listen: self.listen });
        }
        if self.heartbeat.is_zero() || self.lease < 2 * self.heartbeat {
            return Err(Error::Lease { lease: self.lease, heartbeat: self.heartbeat });
        }
        Ok(())
    }
}

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error(
        "{listen} can be reached from other machines, and without a token anyone there could run experiments: give \
         a token (CETERIS_TOKEN or --token-file), or listen on 127.0.0.1"
    )]
    OpenToAll { listen: SocketAddr },
    #[error(
        "a lease of {lease:?} with a heartbeat every {heartbeat:?} ends when one heartbeat is late: make the lease at \
         least twice as long"
    )]
    Lease { lease: Duration, heartbeat: Duration },
    #[error("a token is {} to {} visible ASCII characters without spaces", Token::LENGTH.start(), Token::LENGTH.end())]
    Token,
}

/// A shared secret. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// How long it may be.
    const LENGTH: std::ops::RangeInclusive<usize> = 8..=512;

    /// # Errors
    /// When it cannot be sent as a header, or could be guessed.
    pub fn new(text: String) -> Result<Self, Error> {
        let fits = Self::LENGTH.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(Self(text)) } else { Err(Error::Token) }
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listen: &str, token: Option<&str>) -> Config {
        Config {
            listen: listen.parse().expect("an address"),
            database: std::path::PathBuf::from("d").into(),
            store: "s".to_owned(),
            token: token.map(|token| Token::new(token.to_owned()).expect("a token")),
            lease: Config::LEASE,
            heartbeat: Config::HEARTBEAT,
        }
    }

    #[test]
    fn other_machines_need_a_token() {
        assert_eq!(config("127.0.0.1:1", None).validate(), Ok(()));
        assert_eq!(config("[::1]:1", None).validate(), Ok(()));
        for open in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1"] {
            assert!(matches!(config(open, None).validate(), Err(Error::OpenToAll { .. })), "{open}");
            assert_eq!(config(open, Some("long-enough")).validate(), Ok(()));
        }
    }

    #[test]
    fn a_lease_outlives_a_late_heartbeat() {
        let mut config = config("127.0.0.1:1", None);
        config.lease = config.heartbeat;
        assert!(matches!(config.validate(), Err(Error::Lease { .. })));
    }

    #[test]
    fn a_token_is_never_printed() {
        let text = format!("{:?}", config("127.0.0.1:1", Some("hunter2-hunter2")));
        assert!(!text.contains("hunter2"), "{text}");
        assert_eq!(Token::new("with space".to_owned()), Err(Error::Token));
    }
}
