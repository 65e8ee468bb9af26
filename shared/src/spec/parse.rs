//! Text to [`ExperimentSpec`], with errors that show the line and the nearest valid name.

use serde::de::DeserializeOwned;

use super::{Error, ExperimentSpec, MAX_SPEC_BYTES};

/// The language a spec is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// <https://toml.io>
    Toml,
    /// RFC 8259
    Json,
    /// YAML 1.2
    Yaml,
}

impl Format {
    /// By a file's extension; anything but `.json`, `.yaml` and `.yml` is taken for TOML.
    pub fn of_extension(extension: &str) -> Self {
        match extension.to_ascii_lowercase().as_str() {
            "json" => Self::Json,
            "yaml" | "yml" => Self::Yaml,
            _ => Self::Toml,
        }
    }
}

/// Reads a spec. What it says is checked by [`super::validate`], not here.
///
/// # Errors
/// [`Error::TooLong`], or [`Error::Syntax`] with the line, the key and the nearest valid one.
pub fn parse(text: &str, format: Format) -> Result<ExperimentSpec, Error> {
    if text.len() > MAX_SPEC_BYTES {
        return Err(Error::TooLong(text.len()));
    }
    let message = match format {
        Format::Toml => return from_toml(text),
        Format::Json => match serde_json::from_str(text) {
            Ok(spec) => return Ok(spec),
            Err(error) => format!("JSON parse error: {error}"),
        },
        Format::Yaml => match serde_saphyr::from_str(text) {
            Ok(spec) => return Ok(spec),
            Err(error) => format!("YAML parse error: {error}"),
        },
    };
    Err(syntax(&message))
}

/// Reads TOML of any kind.
///
/// # Errors
/// [`Error::Syntax`] with the line, the key and the nearest valid one.
pub(crate) fn from_toml<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    toml::from_str(text).map_err(|error| syntax(&error.to_string()))
}

fn syntax(message: &str) -> Error {
    let message = message.trim_end().to_owned();
    let hint = hint(&message);
    Error::Syntax { message, hint }
}

/// For "unknown field `x`, expected one of `a`, `b`": the nearest of what was expected.
fn hint(message: &str) -> Option<String> {
    let at = ["unknown field ", "unknown variant "].iter().find_map(|marker| message.find(marker))?;
    let unknown = message[at..].split('`').nth(1)?;
    let (_, expected) = message[at..].split_once("expected ")?;
    let expected = expected.lines().next()?.split(" at line ").next()?.trim_start_matches("one of ");
    let valid: Vec<&str> =
        expected.split(',').flat_map(|part| part.split(" or ")).map(|name| name.trim().trim_matches('`')).collect();
    let (nearest, distance) = valid
        .iter()
        .map(|name| (name, strsim::damerau_levenshtein(unknown, name)))
        .min_by_key(|(_, distance)| *distance)?;
    if distance <= unknown.chars().count().max(3) / 2 {
        Some(format!("did you mean `{nearest}`?"))
    } else {
        Some(format!("valid here: {}", valid.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
name = "x"
data = { dataset = "d" }
model = { init = "random" }
budget = { epochs = 2 }
seeds = { count = 2 }
[[arm]]
name = "a"
stages = [{ epochs = 2, train = "head" }]
"#;

    #[test]
    fn three_languages_say_the_same() {
        let spec = parse(GOOD, Format::Toml).unwrap();
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(parse(&json, Format::Json).unwrap(), spec);
        let yaml = "name: x\ndata: {dataset: d}\nmodel: {init: random}\nbudget: {epochs: 2}\nseeds: {count: 2}\narm:\n  - name: a\n    stages:\n      - {epochs: 2, train: head}\n";
        assert_eq!(parse(yaml, Format::Yaml).unwrap(), spec);
    }

    #[test]
    fn a_misspelled_key_names_its_line_and_the_nearest() {
        let text = GOOD.replace("[[arm]]", "[controls]\nbatchsize = 3\n[[arm]]");
        insta::assert_snapshot!(parse(&text, Format::Toml).unwrap_err());
    }

    #[test]
    fn a_misspelled_level_names_the_nearest() {
        insta::assert_snapshot!(parse(&GOOD.replace("\"head\"", "\"heads\""), Format::Toml).unwrap_err());
    }

    #[test]
    fn a_factor_that_is_none_names_the_valid_ones_and_the_nearest() {
        for treatment in ["[\"stages\", \"precison\"]", "[\"learning rate\"]"] {
            let text = format!("{GOOD}[compare]\ntreatment = {treatment}\n");
            insta::assert_snapshot!(parse(&text, Format::Toml).unwrap_err());
        }
    }

    #[test]
    fn json_and_yaml_mistakes_name_their_place() {
        let json = serde_json::to_string_pretty(&parse(GOOD, Format::Toml).unwrap()).unwrap();
        insta::assert_snapshot!(parse(&json.replace("\"epochs\": 2,", "\"epoch\": 2,"), Format::Json).unwrap_err());
        insta::assert_snapshot!(parse("name: x\nbudgets: {epochs: 2}\n", Format::Yaml).unwrap_err());
    }

    #[test]
    fn a_spec_longer_than_the_limit_is_refused_unread() {
        assert_eq!(parse(&" ".repeat(MAX_SPEC_BYTES + 1), Format::Toml), Err(Error::TooLong(MAX_SPEC_BYTES + 1)));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".{0,200}") {
            for format in [Format::Toml, Format::Json, Format::Yaml] {
                let _ = parse(&text, format);
            }
        }
    }
}
