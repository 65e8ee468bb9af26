//! The experiment spec: what a user writes, and what it means.
//!
//! `parse` turns text into an [`ExperimentSpec`] and knows where in the text a mistake is; `validate` checks what no
//! grammar can (stages against the budget, names against each other); `resolve` crosses arms with the grid and fills in
//! every default, so that nothing after it has to know where a value came from. `check_sizes` holds the endpoint against
//! what is known of the data set.

mod augment;
mod document;
mod endpoint;
mod extend;
mod factor;
mod init;
pub mod optimization;
mod parse;
mod resolve;
mod schedule;
mod settings;
mod sizes;
mod trainable;
mod validate;

pub use crate::architecture::Arch;
pub use augment::{Augment, CustomPolicy, PolicyName};
pub use document::{BranchPoints, Budget, Compare, Correction, Data, Execution, ExperimentSpec, Keep, Model, Seeds};
pub use endpoint::{Endpoint, EndpointEpoch, Metric, Score, Threshold};
pub use extend::extended;
pub use factor::Factor;
pub use init::{ForkPoint, Init};
pub use optimization::{ClassWeighting, ClassWeights, Optimization, Optimizer, OptimizerName, Rates, UpdateRule};
pub(crate) use parse::from_toml;
pub use parse::{Format, parse};
pub use resolve::{ResolvedArm, ResolvedStage, resolve};
pub use schedule::Schedule;
pub use settings::{Arm, Controls, EnvironmentRule, Grid, Memory, Overrides, Precision, Stage};
pub use sizes::{Sizes, TooSmall, check_sizes};
pub use trainable::Trainable;
pub use validate::{check_sharing, name as validate_name, validate};

/// Most runs that one experiment may have.
pub const MAX_RUNS: usize = 100_000;
/// Most epochs that all runs of one experiment may ask for.
pub const MAX_EPOCHS: u64 = 20_000_000;
/// Largest spec that is read, in bytes.
pub const MAX_SPEC_BYTES: usize = 1 << 20;

/// Why a spec is refused. Each message names the place, the cause and the way out.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("{message}{}", hint.as_ref().map(|hint| format!("\n{hint}")).unwrap_or_default())]
    Syntax { message: String, hint: Option<String> },
    #[error("the spec is {0} bytes long; the limit is {MAX_SPEC_BYTES}")]
    TooLong(usize),
    #[error(
        "arm {arm:?}: its stages add up to {sum} epochs ({terms}), but `budget.epochs` is {budget}; every arm must spend exactly \
         the budget, so change the stages or the budget"
    )]
    StagesMissBudget { arm: String, terms: String, sum: u64, budget: u32 },
    #[error("{place}: {cause}")]
    Invalid { place: String, cause: String },
    #[error("the grid expands to {runs} runs, more than the limit of {MAX_RUNS}: use fewer levels, arms or seeds")]
    TooManyRuns { runs: u128 },
    #[error(
        "{runs} runs of {budget} epochs are {epochs} epochs, more than the limit of {MAX_EPOCHS}: use fewer runs, or split the \
         experiment into several"
    )]
    TooManyEpochs { runs: u128, budget: u32, epochs: u128 },
}

/// A number as people write it: `0.9`, `25`, `1e-6`. Different numbers have different texts.
pub fn number(value: f64) -> String {
    if value == 0.0 || (1e-3..1e6).contains(&value.abs()) { value.to_string() } else { format!("{value:e}") }
}
