//! How what people call something becomes one id.

use ceteris_shared::digest::Digest;

use super::{Error, What, fault::Fault};

/// How many ids an ambiguous beginning is answered with.
const SHOWN: usize = 5;
/// How many ids with one beginning are asked for.
pub(super) const ASKED: usize = SHOWN + 1;

pub(super) const HINT_DATASETS: &str =
    "`ceteris data ls` lists those that are imported, `ceteris data import` imports one";
pub(super) const HINT_WEIGHTS: &str =
    "`ceteris weights ls` lists those that are imported, `ceteris weights import` imports some";
pub(super) const HINT_EXPERIMENTS: &str = "`ceteris ls` lists those that are";
pub(super) const HINT_RUNS: &str = "`ceteris show EXPERIMENT` lists an experiment's";

pub(super) fn not_found(what: What, text: &str, hint: &'static str) -> Fault {
    Fault::Refused(Error::NotFound { what, text: text.to_owned(), hint })
}

/// A name that is given again means what it meant.
pub(super) fn refuse_other(what: What, name: &str, existing: Digest, given: Digest) -> Result<(), Fault> {
    if existing == given {
        return Ok(());
    }
    Err(Fault::Refused(Error::NameTaken { what, name: name.to_owned(), existing, given }))
}

/// The one id that was found.
pub(super) fn only(what: What, text: &str, mut ids: Vec<String>, hint: &'static str) -> Result<String, Fault> {
    match ids.len() {
        0 => Err(not_found(what, text, hint)),
        1 => Ok(ids.remove(0)),
        found => {
            ids.truncate(SHOWN);
            let (text, more) = (text.to_owned(), found > SHOWN);
            Err(Fault::Refused(Error::Ambiguous { what, text, matches: ids, more }))
        }
    }
}

/// The ids that begin with `text`, as a range of their text; nothing when no id can.
pub(super) fn id_range(text: &str) -> Option<(String, String)> {
    let digits: String = text.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
    if digits.is_empty() || digits.len() > 32 || !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    let mut low = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if matches!(index, 8 | 12 | 16 | 20) {
            low.push('-');
        }
        low.push(digit);
    }
    // `g` comes after every digit and after the hyphen.
    let high = format!("{low}g");
    Some((low, high))
}
