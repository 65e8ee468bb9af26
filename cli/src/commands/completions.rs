//! `ceteris completions`

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::{args::Cli, failure::Failure, output};

/// Print the completions of a shell.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ceteris completions bash > ~/.local/share/bash-completion/completions/ceteris
  ceteris completions zsh > \"${fpath[1]}/_ceteris\"
  ceteris completions fish > ~/.config/fish/completions/ceteris.fish")]
pub struct Options {
    /// Whose.
    pub shell: Shell,
}

impl Options {
    /// # Errors
    /// When stdout takes no more.
    pub fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "ceteris", &mut script);
        output::print_text(&String::from_utf8_lossy(&script))
    }
}
