//! Why a call is refused, and the one place where that becomes a gRPC status.
//!
//! A status's message is what the user reads: place and cause, and where there is more to say the way out on a line of its
//! own that begins with `help: `.

use ceteris_proto::MAX_MESSAGE_BYTES;
use ceteris_shared::{checkpoint, compare, dataset, spec};
use tonic::{Code, Status};

use crate::{driver, store};

/// Why a call is refused.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("field `{field}`: {problem}")]
    Field { field: &'static str, problem: String },
    #[error("{cause}\nhelp: {help}")]
    Invalid { cause: String, help: String },
    #[error("{cause}\nhelp: {help}")]
    Unknown { cause: String, help: String },
    #[error(transparent)]
    Spec(#[from] spec::Error),
    #[error(transparent)]
    TooSmall(#[from] spec::TooSmall),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Driver(#[from] driver::Error),
    #[error(transparent)]
    Blob(#[from] ceteris_blob::Error),
    #[error(transparent)]
    Dataset(#[from] dataset::Error),
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    #[error(transparent)]
    Compare(#[from] compare::Error),
    #[error(
        "the {schema} document is {bytes} bytes long, and an answer may have {MAX_MESSAGE_BYTES}; split the experiment \
         into smaller ones"
    )]
    AnswerTooLong { schema: &'static str, bytes: usize },
    #[error("{0}")]
    Damaged(String),
    #[error("the work on this call ended: {0}")]
    Ended(#[from] tokio::task::JoinError),
    #[error(transparent)]
    Client(#[from] Box<Status>),
}

impl Error {
    pub(super) fn invalid(cause: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Invalid { cause: cause.into(), help: help.into() }
    }

    fn code(&self) -> Code {
        match self {
            Self::Field { .. } | Self::Invalid { .. } | Self::Spec(_) | Self::TooSmall(_) | Self::Dataset(_) => {
                Code::InvalidArgument
            }
            Self::Unknown { .. } => Code::NotFound,
            Self::Store(error) => store_code(error),
            Self::Driver(error) => driver_code(error),
            Self::Blob(error) => blob_code(error),
            Self::Compare(compare::Error::NoSuchEpoch { .. }) => Code::InvalidArgument,
            Self::Compare(
                compare::Error::ForeignPredictions { .. }
                | compare::Error::IncompletePredictions { .. }
                | compare::Error::Predictions { .. }
                | compare::Error::Unpredicted { .. }
                | compare::Error::UnknownExternal(_)
                | compare::Error::Unreadable(_),
            )
            | Self::Checkpoint(_)
            | Self::Damaged(_) => Code::DataLoss,
            Self::AnswerTooLong { .. } => Code::ResourceExhausted,
            Self::Ended(_) => Code::Internal,
            Self::Client(status) => status.code(),
        }
    }
}

fn store_code(error: &store::Error) -> Code {
    match error {
        store::Error::NotFound { .. } => Code::NotFound,
        store::Error::Ambiguous { .. } => Code::InvalidArgument,
        store::Error::NameTaken { .. } => Code::AlreadyExists,
        store::Error::Damaged { .. } => Code::DataLoss,
        store::Error::Full { .. } => Code::ResourceExhausted,
        store::Error::Unreachable { .. } | store::Error::Deposed { .. } => Code::Unavailable,
        store::Error::Newer { .. }
        | store::Error::NotWritable { .. }
        | store::Error::InUse { .. }
        | store::Error::Database { .. } => Code::Internal,
    }
}

fn driver_code(error: &driver::Error) -> Code {
    match error {
        driver::Error::Closed => Code::Unavailable,
        driver::Error::UnknownExperiment(_) | driver::Error::UnknownRun(_) => Code::NotFound,
        driver::Error::Conflict(_) => Code::AlreadyExists,
        driver::Error::Unpinned { .. }
        | driver::Error::Ended(_)
        | driver::Error::NothingToShare(_)
        | driver::Error::NothingFailed(_)
        | driver::Error::Plan(_) => Code::InvalidArgument,
        driver::Error::Unread(_) => Code::Unavailable,
    }
}

fn blob_code(error: &ceteris_blob::Error) -> Code {
    match error {
        ceteris_blob::Error::NotFound { .. } => Code::NotFound,
        ceteris_blob::Error::Mismatch(_) | ceteris_blob::Error::TooLarge { .. } => Code::InvalidArgument,
        ceteris_blob::Error::Corrupt { .. } => Code::DataLoss,
        ceteris_blob::Error::StoreFull { .. } => Code::ResourceExhausted,
        error if error.is_transient() => Code::Unavailable,
        _ => Code::Internal,
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = error.code();
        match code {
            Code::Internal | Code::DataLoss | Code::ResourceExhausted => {
                tracing::error!(%error, ?code, "a call failed")
            }
            // A shutdown, or a store that was away for a moment: the caller is told to try again.
            Code::Unavailable => tracing::debug!(%error, "a call was put off"),
            _ => {}
        }
        match error {
            Error::Client(status) => *status,
            error => Self::new(code, error.to_string()),
        }
    }
}
