//! Reading a spec, or another text that people write, from a file, with errors that begin with the file's name.

use std::{io::Read, path::Path};

use ceteris_shared::spec::{self, ExperimentSpec, Format, MAX_SPEC_BYTES};

use crate::failure::Failure;

/// A spec and the text it was read from.
#[derive(Debug)]
pub struct SpecFile {
    /// What it says; validated.
    pub spec: ExperimentSpec,
    /// What was written.
    pub source: String,
}

/// Reads and validates a spec; `-` is stdin, as TOML.
///
/// # Errors
/// When the file cannot be read, or when the spec is refused: with its place, the cause and the way out.
pub fn read(path: &Path) -> Result<SpecFile, Failure> {
    let source = text(path, "the spec", MAX_SPEC_BYTES)?;
    let name = path.display();
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let refused = |error: spec::Error| Failure::usage(format!("{name}: {error}"));
    let spec = spec::parse(&source, Format::of_extension(extension)).map_err(refused)?;
    spec::validate(&spec).map_err(refused)?;
    Ok(SpecFile { spec, source })
}

/// The text of a file, `-` being stdin, called `what` in errors. Of one that is longer than `limit` bytes, the beginning, which is too.
///
/// # Errors
/// When it cannot be read, or is no UTF-8.
pub fn text(path: &Path, what: &str, limit: usize) -> Result<String, Failure> {
    let name = path.display();
    let mut bytes = Vec::new();
    // One byte more than the limit is enough to know that it is passed.
    let limit = limit as u64 + 1;
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    read.map_err(|error| Failure::io(format!("read {what} {name}"), &error))?;
    String::from_utf8(bytes)
        .map_err(|_| Failure::usage(format!("{name}: {what} cannot be read as UTF-8 text")).help("save it as UTF-8"))
}

/// The form in which a spec travels.
pub fn to_json(spec: &ExperimentSpec) -> String {
    serde_json::to_string(spec).expect("a spec is plain data with string keys")
}
