//! What every command is given: where the coordinator is, how to print, and how talkative to be.

use std::{io::IsTerminal, path::PathBuf};

use ceteris_coordinator::Token;
use clap::{ArgAction, Args};

use crate::{client::Client, failure::Failure, output::Format};

/// The environment variable that holds the token.
pub const TOKEN_VARIABLE: &str = "CETERIS_TOKEN";

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Where the coordinator listens; of several, divided by commas, the first that answers is used.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "CETERIS_COORDINATOR",
        hide_env_values = true,
        default_value = "http://127.0.0.1:7417",
        help_heading = "Global options"
    )]
    pub coordinator: String,
    /// What to print on stdout: a table for people, JSON with a schema name, or CSV.
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "table",
        hide_possible_values = true,
        help_heading = "Global options"
    )]
    pub output: Format,
    /// A file that holds the coordinator's token; without it, the variable CETERIS_TOKEN is used.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub token_file: Option<PathBuf>,
    /// Say nothing on stderr but errors.
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Global options")]
    pub quiet: bool,
    /// Say more on stderr; -vv still more.
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
}

impl Global {
    /// Connects to the coordinator.
    ///
    /// # Errors
    /// When there is none, or when the token cannot be read.
    pub async fn connect(&self) -> Result<Client, Failure> {
        Client::connect(&self.coordinator, self.token()?.as_ref()).await
    }

    /// The token, where there is one.
    ///
    /// # Errors
    /// When its file cannot be read or holds none.
    pub fn token(&self) -> Result<Option<Token>, Failure> {
        let text = match &self.token_file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| Failure::io(format!("read the token's file {}", path.display()), &error))?,
            None => match std::env::var(TOKEN_VARIABLE) {
                Ok(text) if !text.is_empty() => text,
                _ => return Ok(None),
            },
        };
        let token = Token::new(text.trim().to_owned());
        token.map(Some).map_err(|error| Failure::usage(error.to_string()).help("make one with `openssl rand -hex 32`"))
    }

    /// Says something that is not data, unless asked to be quiet.
    pub fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            eprintln!("{}", crate::output::printable(text.as_ref()));
        }
    }

    /// Whether progress is drawn, and not told in lines.
    pub fn draws(&self) -> bool {
        !self.quiet && std::io::stderr().is_terminal()
    }
}
