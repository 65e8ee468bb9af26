//! The commands, one file each: its options, its help, and what it does.

pub mod backup;
pub mod bundle;
pub mod cancel;
pub mod check;
pub mod checkpoint_get;
pub mod checkpoint_ls;
pub mod compare;
pub mod completions;
pub mod coordinator;
pub mod data_import;
pub mod data_ls;
pub mod data_preview;
pub mod data_show;
pub mod drain;
pub mod explain;
pub mod export;
pub mod extend;
pub mod gc;
pub mod logs;
pub mod ls;
pub mod pause;
pub mod plan;
pub mod report;
pub mod restore;
pub mod resume;
pub mod retry;
pub mod share;
pub mod show;
pub mod storage_check;
pub mod submit;
pub mod up;
pub mod verify_numbers;
pub mod verify_run;
pub mod verify_show;
pub mod watch;
pub mod weights_import;
pub mod weights_ls;
pub mod workers;

use crate::{
    args::{Checkpoint, Cli, Command, Data, Storage, Verify, VerifyTraining, Weights},
    failure::Failure,
};

/// Does what the command line says.
///
/// # Errors
/// What the command's file says.
pub async fn run(cli: Cli) -> Result<(), Failure> {
    let global = &cli.global;
    match cli.command {
        Command::Up(options) => options.run(global).await,
        Command::Coordinator(options) => options.run(global).await,
        Command::Data(Data::Import(options)) => options.run(global).await,
        Command::Data(Data::Ls(options)) => options.run(global).await,
        Command::Data(Data::Show(options)) => options.run(global).await,
        Command::Data(Data::Preview(options)) => options.run(global).await,
        Command::Weights(Weights::Import(options)) => options.run(global).await,
        Command::Weights(Weights::Ls(options)) => options.run(global).await,
        Command::Plan(options) => options.run(global).await,
        Command::Submit(options) => options.run(global).await,
        Command::Ls(options) => options.run(global).await,
        Command::Show(options) => options.run(global).await,
        Command::Watch(options) => options.run(global).await,
        Command::Logs(options) => options.run(global).await,
        Command::Explain(options) => options.run(global).await,
        Command::Export(options) => options.run(global).await,
        Command::Cancel(options) => options.run(global).await,
        Command::Pause(options) => options.run(global).await,
        Command::Share(options) => options.run(global).await,
        Command::Drain(options) => options.run(global).await,
        Command::Resume(options) => options.run(global).await,
        Command::Extend(options) => options.run(global).await,
        Command::Retry(options) => options.run(global).await,
        Command::Compare(options) => options.run(global).await,
        Command::Check(options) => options.run(global).await,
        Command::Checkpoint(Checkpoint::Ls(options)) => options.run(global).await,
        Command::Checkpoint(Checkpoint::Get(options)) => options.run(global).await,
        Command::Report(options) => options.run(global).await,
        Command::Bundle(options) => options.run(global).await,
        Command::Verify(Verify { command: Some(VerifyTraining::Run(options)), .. }) => options.run(global).await,
        Command::Verify(Verify { command: Some(VerifyTraining::Show(options)), .. }) => options.run(global).await,
        Command::Verify(Verify { command: None, numbers }) => numbers.run(global).await,
        Command::Gc(options) => options.run(global).await,
        Command::Storage(Storage::Check(options)) => options.run(global).await,
        Command::Backup(options) => options.run().await,
        Command::Restore(options) => options.run(global).await,
        Command::Workers(options) => options.run(global).await,
        Command::Completions(options) => options.run(),
    }
}
