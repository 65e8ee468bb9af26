//! The command line: which commands there are. The options of each are in its own file under `commands`.

use clap::{Args, Parser, Subcommand};

use crate::{commands, context::Global};

/// All else being equal: experiments in deep learning whose comparisons hold up.
///
/// ceteris trains the arms of an experiment for exactly the same number of epochs on a fleet of workers, from the same
/// seeds, and answers whether a treatment won when everything else was equal.
#[derive(Debug, Parser)]
#[command(
    name = "ceteris",
    version,
    max_term_width = 100,
    after_help = "Examples:
  ceteris up                                              one machine: coordinator and worker
  ceteris data import xrays --name kermany --group-by patient
  ceteris weights import densenet121-a639ec97.pth --name imagenet
  ceteris plan examples/kermany.toml                      what it would cost, before paying
  ceteris submit examples/kermany.toml --follow
  ceteris compare kermany

Exit codes: 0 ok · 2 usage, spec or data refused · 3 not comparable · 4 inconclusive
            5 infrastructure
Data goes to stdout, everything else to stderr."
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Up(commands::up::Options),
    Coordinator(commands::coordinator::Options),
    #[command(subcommand)]
    Data(Data),
    #[command(subcommand)]
    Weights(Weights),
    Plan(commands::plan::Options),
    Submit(commands::submit::Options),
    Ls(commands::ls::Options),
    Show(commands::show::Options),
    Watch(commands::watch::Options),
    Logs(commands::logs::Options),
    Explain(commands::explain::Options),
    Cancel(commands::cancel::Options),
    Pause(commands::pause::Options),
    Resume(commands::resume::Options),
    Extend(commands::extend::Options),
    Share(commands::share::Options),
    Retry(commands::retry::Options),
    Compare(commands::compare::Options),
    Check(commands::check::Options),
    Export(commands::export::Options),
    #[command(subcommand)]
    Checkpoint(Checkpoint),
    Report(commands::report::Options),
    Bundle(commands::bundle::Options),
    Verify(Verify),
    Gc(commands::gc::Options),
    #[command(subcommand)]
    Storage(Storage),
    Backup(commands::backup::Options),
    Restore(commands::restore::Options),
    Workers(commands::workers::Options),
    Drain(commands::drain::Options),
    Completions(commands::completions::Options),
}

/// Import data sets and look at them.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  ceteris data import chest_xray --name kermany --group-by patient
  ceteris data show kermany
  ceteris data preview kermany --augment strong@1 -o sheet.png")]
pub enum Data {
    Import(Box<commands::data_import::Options>),
    Ls(commands::data_ls::Options),
    Show(commands::data_show::Options),
    Preview(Box<commands::data_preview::Options>),
}

/// Import initial weights and list them.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  ceteris weights import densenet121-a639ec97.pth --name imagenet
  ceteris weights ls")]
pub enum Weights {
    Import(commands::weights_import::Options),
    Ls(commands::weights_ls::Options),
}

/// List checkpoints and fetch them for use elsewhere.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  ceteris checkpoint ls 8f14e45f
  ceteris checkpoint get 8f14e45f --to model.safetensors")]
pub enum Checkpoint {
    Ls(commands::checkpoint_ls::Options),
    Get(commands::checkpoint_get::Options),
}

/// Compute every number of an experiment again from what was predicted, or train a run again.
///
/// Given an experiment or a bundle, everything that is told of it is computed again from stored predictions and labels, without a GPU:
/// lineages from the spec, scores from predictions, and from those the whole report. What differs is listed.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:
  ceteris verify kermany                            against what workers measured and the coordinator says
  ceteris verify kermany --report report.html       every number of that report, or of its JSON
  ceteris verify bundle.zip                         elsewhere, without a coordinator
  ceteris verify run 8f14e45f --from 15             train again, and hold the weights against the record
  ceteris verify show verify-8f14e45f

Exit codes: 0 if everything is the same · 5 if not."
)]
pub struct Verify {
    /// Train again instead.
    #[command(subcommand)]
    pub command: Option<VerifyTraining>,
    /// Which numbers.
    #[command(flatten)]
    pub numbers: commands::verify_numbers::Options,
}

/// See whether training comes out the same again.
#[derive(Debug, Subcommand)]
pub enum VerifyTraining {
    Run(commands::verify_run::Options),
    Show(commands::verify_show::Options),
}

/// Look after the object store.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  ceteris storage check
  ceteris storage check --read -o json")]
pub enum Storage {
    Check(commands::storage_check::Options),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    /// The help of a command and of all commands below it.
    fn help(command: &mut clap::Command, into: &mut String) {
        let name = command.get_bin_name().unwrap_or("ceteris").to_owned();
        *into += &format!("==== {name}\n{}\n", command.render_long_help());
        for command in command.get_subcommands_mut().filter(|command| command.get_name() != "help") {
            help(command, into);
        }
    }

    #[test]
    fn every_command_has_help_with_examples() {
        let mut command = Cli::command().term_width(100);
        command.build();
        let mut text = String::new();
        help(&mut command, &mut text);
        for part in text.split("==== ").skip(1) {
            assert!(part.contains("Examples:"), "{part}");
        }
        let text: String = text.lines().map(|line| format!("{}\n", line.trim_end())).collect();
        insta::assert_snapshot!(text);
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
