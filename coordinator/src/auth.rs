//! Who may ask: with a token configured, every call of every service carries it.

use ceteris_shared::digest::Digest;
use tonic::{Request, Status, service::Interceptor};

use crate::config::Token;

/// Checks `authorization: Bearer TOKEN`.
#[derive(Clone, Debug)]
pub(crate) struct Auth {
    /// Digests are compared, not tokens: how long that takes tells nothing about the token.
    expected: Option<Digest>,
}

impl Auth {
    pub(crate) fn new(token: Option<&Token>) -> Self {
        Self { expected: token.map(|token| Digest::of(token.expose().as_bytes())) }
    }
}

impl Interceptor for Auth {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let Some(expected) = self.expected else { return Ok(request) };
        let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let given = header.and_then(|value| value.strip_prefix("Bearer "));
        match given.map(|given| Digest::of(given.as_bytes())) {
            Some(given) if equal(&given, &expected) => Ok(request),
            Some(_) => {
                Err(Status::unauthenticated("the token is not this coordinator's: set CETERIS_TOKEN to its token"))
            }
            None => Err(Status::unauthenticated("this coordinator asks for a token: set CETERIS_TOKEN")),
        }
    }
}

/// Without an early exit.
fn equal(a: &Digest, b: &Digest) -> bool {
    a.0.iter().zip(&b.0).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(token: Option<&str>, header: Option<&str>) -> bool {
        let token = token.map(|token| Token::new(token.to_owned()).expect("a token"));
        let mut request = Request::new(());
        if let Some(header) = header {
            request.metadata_mut().insert("authorization", header.parse().expect("a header"));
        }
        Auth::new(token.as_ref()).call(request).is_ok()
    }

    #[test]
    fn only_the_token_opens() {
        assert!(call(None, None));
        assert!(call(Some("token-of-mine"), Some("Bearer token-of-mine")));
        for wrong in [None, Some("Bearer token-of-yours"), Some("token-of-mine"), Some("Bearer "), Some("Basic x")] {
            assert!(!call(Some("token-of-mine"), wrong), "{wrong:?}");
        }
    }
}
