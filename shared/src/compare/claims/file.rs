//! The file that lists claims: TOML, with a `[[claim]]` for each.

use serde::Deserialize;

use super::Claim;
use crate::spec;

/// Largest file of claims that is read, in bytes.
pub const MAX_CLAIMS_BYTES: usize = 1 << 20;
/// Most claims in a file.
pub const MAX_CLAIMS: usize = 10_000;

/// Why a file of claims is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("the file is {0} bytes long; the limit is {MAX_CLAIMS_BYTES}: split it into several")]
    TooLong(usize),
    #[error("there are {0} claims; the limit is {MAX_CLAIMS}: split the file into several")]
    TooMany(usize),
    #[error(transparent)]
    Syntax(spec::Error),
    #[error("nothing is claimed: write a [[claim]] with `says = \"ARM > ARM in METRIC\"`")]
    Nothing,
    #[error(
        "claim {number} ({says}) names no experiment: write `experiment = \"…\"` into it, or once at the top of the file for all \
         claims"
    )]
    NoExperiment { number: usize, says: String },
}

/// A claim and the experiment that it is made about.
#[derive(Clone, Debug, PartialEq)]
pub struct Stated {
    /// Its id, the beginning of one, or a name.
    pub experiment: String,
    /// What is claimed.
    pub claim: Claim,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    experiment: Option<String>,
    #[serde(default)]
    claim: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    experiment: Option<String>,
    says: Claim,
}

/// Reads the claims of a file, of which there is at least one.
///
/// # Errors
/// When it is too long, is no TOML of claims (the line and the key are named), claims nothing, or does not say about which
/// experiment.
pub fn parse(text: &str) -> Result<Vec<Stated>, Error> {
    if text.len() > MAX_CLAIMS_BYTES {
        return Err(Error::TooLong(text.len()));
    }
    let file: File = spec::from_toml(text).map_err(Error::Syntax)?;
    match file.claim.len() {
        0 => return Err(Error::Nothing),
        many if many > MAX_CLAIMS => return Err(Error::TooMany(many)),
        _ => {}
    }
    let stated = |(index, entry): (usize, Entry)| {
        let Entry { experiment, says: claim } = entry;
        let experiment = experiment.or_else(|| file.experiment.clone()).filter(|name| !name.is_empty());
        match experiment {
            Some(experiment) => Ok(Stated { experiment, claim }),
            None => Err(Error::NoExperiment { number: index + 1, says: claim.to_string() }),
        }
    };
    file.claim.into_iter().enumerate().map(stated).collect()
}
