//! The language of claims: `ARM RELATION ARM in METRIC [at N epochs] [by >= NUMBER]`.
//!
//! It is read from its signs and words inwards, so that names of arms may have spaces and `=` as those of a grid do. What could
//! be meant in two ways is refused, and a name can always be put in quotes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Claim, Relation};
use crate::{
    ids::Epoch,
    spec::{Metric, number},
};

/// Words that end the name of an arm.
const KEYWORDS: [&str; 3] = ["in", "at", "by"];

/// Why a claim is not understood. Each message says how to write it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum SaysError {
    #[error(
        "no relation stands between two arms: write >, < or =, with spaces around it, as in `finetuned > frozen in test.auc`"
    )]
    NoRelation,
    #[error(
        "there are several relations: put a name that has <, > or = as a word of its own in quotes, and write how large the \
         difference is as `by >= NUMBER`, or with = as `by <= NUMBER`"
    )]
    SeveralRelations,
    #[error(
        "an arm is missing beside {0}: write one before it and one after it, as in `finetuned > frozen in test.auc`"
    )]
    NoArm(String),
    #[error("{0:?} stands where an arm is named: if it belongs to the arm's name, put the whole name in quotes")]
    Keyword(String),
    #[error("the quote {0} is not closed: put the same one after the name")]
    OpenQuote(char),
    #[error("{0:?} stands beside other words: put the whole name of the arm in quotes")]
    Beside(String),
    #[error("no metric follows the arms: write `in` and a metric, as in `finetuned > frozen in test.auc`")]
    NoMetric,
    #[error("{0}")]
    Metric(String),
    #[error("`at` is followed by {0:?}: write a number of epochs from 1, as in `at 20 epochs`")]
    Epochs(String),
    #[error("`by` is followed by {0:?}: write `by >= NUMBER`, or with = `by <= NUMBER`, with a number above 0")]
    Bound(String),
    #[error(
        "a claim with > or < says by how much at least: write `by >= NUMBER`; that two arms are as good as the same is \
         `ARM = ARM in METRIC by <= NUMBER`"
    )]
    AtMost,
    #[error(
        "a claim with = says by how much at most: write `by <= NUMBER`, the largest difference that does not matter"
    )]
    AtLeast,
    #[error("both sides are the arm {0:?}: name two arms")]
    SameArm(String),
    #[error(
        "{0:?} is not understood here: after the metric come `at N epochs` and then `by >= NUMBER`, each if need be; a name \
         with one of the words in, at, by goes in quotes"
    )]
    Trailing(String),
}

/// A word, or a quoted text.
#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    text: &'a str,
    quoted: bool,
}

impl Token<'_> {
    fn is(&self, word: &str) -> bool {
        !self.quoted && self.text == word
    }

    fn is_relation(&self) -> bool {
        [">", "<", "="].iter().any(|sign| self.is(sign))
    }
}

fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'')
}

fn is_sign(c: char) -> bool {
    matches!(c, '<' | '>')
}

/// Words end at spaces, quotes and at `<` and `>`, which no name has.
fn tokens(text: &str) -> Result<Vec<Token<'_>>, SaysError> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if is_quote(first) {
            let (text, after) = rest[1..].split_once(first).ok_or(SaysError::OpenQuote(first))?;
            tokens.push(Token { text, quoted: true });
            rest = after.trim_start();
            continue;
        }
        let length = match first {
            '<' | '>' if rest[1..].starts_with('=') => 2,
            '<' | '>' => 1,
            _ => rest.find(|c: char| c.is_whitespace() || is_quote(c) || is_sign(c)).unwrap_or(rest.len()),
        };
        tokens.push(Token { text: &rest[..length], quoted: false });
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

/// As it was written, but for its spaces.
fn joined(tokens: &[Token<'_>]) -> String {
    tokens.iter().map(|token| token.text).collect::<Vec<_>>().join(" ")
}

/// The name of an arm: one quoted text, or words.
fn arm(tokens: &[Token<'_>], relation: &str) -> Result<String, SaysError> {
    match tokens {
        [] | [Token { text: "", quoted: true }] => return Err(SaysError::NoArm(relation.to_owned())),
        [Token { text, quoted: true }] => return Ok((*text).to_owned()),
        _ => {}
    }
    if let Some(quoted) = tokens.iter().find(|token| token.quoted) {
        return Err(SaysError::Beside(quoted.text.to_owned()));
    }
    let is_of_the_language = |token: &&Token<'_>| KEYWORDS.contains(&token.text) || token.text.starts_with(is_sign);
    match tokens.iter().find(is_of_the_language) {
        Some(word) => Err(SaysError::Keyword(word.text.to_owned())),
        None => Ok(joined(tokens)),
    }
}

/// A number above 0 and the sign before it.
fn bound<'a>(tokens: &[Token<'a>]) -> Result<(&'a str, f64), SaysError> {
    let refuse = || SaysError::Bound(joined(tokens));
    let [sign, value, ..] = tokens else { return Err(refuse()) };
    let value: f64 = value.text.parse().map_err(|_| refuse())?;
    let good = (sign.is(">=") || sign.is("<=")) && value > 0.0 && value.is_finite();
    if good { Ok((sign.text, value)) } else { Err(refuse()) }
}

fn epochs(tokens: &[Token<'_>]) -> Result<Epoch, SaysError> {
    let refuse = || SaysError::Epochs(joined(tokens.get(..2).unwrap_or(tokens)));
    let [number, unit, ..] = tokens else { return Err(refuse()) };
    let number: u32 = number.text.parse().map_err(|_| refuse())?;
    let good = number > 0 && (unit.is("epochs") || unit.is("epoch"));
    if good { Ok(Epoch(number)) } else { Err(refuse()) }
}

impl FromStr for Claim {
    type Err = SaysError;

    fn from_str(text: &str) -> Result<Self, SaysError> {
        let tokens = tokens(text)?;
        let relations: Vec<usize> = (0..tokens.len()).filter(|place| tokens[*place].is_relation()).collect();
        let place = match relations[..] {
            [] => return Err(SaysError::NoRelation),
            [place] => place,
            _ => return Err(SaysError::SeveralRelations),
        };
        let sign = tokens[place].text;
        let (before, after) = (&tokens[..place], &tokens[place + 1..]);
        let left = arm(before, sign)?;
        let end = after.iter().position(|token| token.is("in")).unwrap_or(after.len());
        let right = arm(&after[..end], sign)?;
        if left == right {
            return Err(SaysError::SameArm(left));
        }
        let [_, metric, rest @ ..] = &after[end..] else { return Err(SaysError::NoMetric) };
        let is_in = |token: &Token<'_>| token.is("in");
        // Where a second `in` follows, the first was in the name of an arm.
        let no_metric =
            |cause| if rest.iter().any(is_in) { SaysError::Keyword("in".to_owned()) } else { SaysError::Metric(cause) };
        let metric: Metric = metric.text.parse().map_err(no_metric)?;
        let (mut rest, mut at, mut by) = (rest, None, None);
        if let [word, tail @ ..] = rest
            && word.is("at")
        {
            at = Some(epochs(tail)?);
            rest = &tail[2..];
        }
        if let [word, tail @ ..] = rest
            && word.is("by")
        {
            by = Some(bound(tail)?);
            rest = &tail[2..];
        }
        if !rest.is_empty() {
            return Err(SaysError::Trailing(joined(rest)));
        }
        let relation = match (sign, by) {
            ("=", Some(("<=", margin))) => Relation::Equivalent { margin },
            ("=", _) => return Err(SaysError::AtLeast),
            (_, Some(("<=", _))) => return Err(SaysError::AtMost),
            (">", by) => Relation::Larger { least: by.map(|(_, least)| least) },
            (_, by) => Relation::Smaller { least: by.map(|(_, least)| least) },
        };
        Ok(Self { left, relation, right, metric, at })
    }
}

/// A name as it can be read again: in quotes where its words would be taken for something else.
fn quoted(name: &str) -> String {
    let words: Vec<&str> = name.split_whitespace().collect();
    let is_taken = |word: &&str| KEYWORDS.contains(word) || *word == "=";
    let plain = !name.is_empty() && words.join(" ") == name && !words.iter().any(is_taken);
    if plain && !name.contains(|c| is_quote(c) || is_sign(c)) {
        name.to_owned()
    } else if name.contains('"') {
        format!("'{name}'")
    } else {
        format!("\"{name}\"")
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, by) = match self.relation {
            Relation::Larger { least } => (">", least.map(|least| (">=", least))),
            Relation::Smaller { least } => ("<", least.map(|least| (">=", least))),
            Relation::Equivalent { margin } => ("=", Some(("<=", margin))),
        };
        write!(f, "{} {sign} {} in {}", quoted(&self.left), quoted(&self.right), self.metric)?;
        if let Some(at) = self.at {
            write!(f, " at {at} {}", if at.0 == 1 { "epoch" } else { "epochs" })?;
        }
        if let Some((sign, value)) = by {
            write!(f, " by {sign} {}", number(value))?;
        }
        Ok(())
    }
}

impl Serialize for Claim {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Claim {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
