//! What users ask for while everything else happens, and what they are answered.

use std::sync::{Arc, Mutex, PoisonError};

use ceteris_coordinator::driver::{Cancelled, Error, Handle, SharingChange, SubmitRequest, Submitted};
use ceteris_scheduler::Drain;
use ceteris_shared::{
    digest::Digest,
    ids::{ExperimentId, WorkerId},
};

use crate::oracle::Oracle;

/// Something that is asked for.
#[derive(Clone, Debug)]
pub enum Ask {
    Submit(Box<SubmitRequest>),
    /// A plan that contradicts itself.
    SubmitSenseless(Box<SubmitRequest>),
    Cancel(ExperimentId),
    Pause(ExperimentId),
    Resume(ExperimentId),
    Retry(ExperimentId),
    Collect(Vec<Digest>),
    Share(ExperimentId, SharingChange),
    Drain(WorkerId, Option<Drain>),
}

/// What came back.
#[derive(Debug)]
pub enum Answer {
    Submitted(ExperimentId, Result<Submitted, Error>),
    SubmittedSenseless(ExperimentId, Result<Submitted, Error>),
    Cancelled(ExperimentId, Result<Cancelled, Error>),
    Paused(ExperimentId, Result<(), Error>),
    Resumed(ExperimentId, Result<(), Error>),
    Retried(Result<(), Error>),
    Collected(Result<Vec<Digest>, Error>),
    Shared(Result<(), Error>),
    Drained(Result<(), Error>),
}

/// Answers until the world reads them; clones are the same list.
#[derive(Clone, Debug, Default)]
pub struct Answers(Arc<Mutex<Vec<Answer>>>);

impl Answers {
    /// All since this was asked last.
    pub fn take(&self) -> Vec<Answer> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks, and keeps the answer.
    pub async fn ask(self, handle: Handle, what: Ask) {
        let answer = match what {
            Ask::Submit(request) => Answer::Submitted(request.experiment, handle.submit(*request).await),
            Ask::SubmitSenseless(request) => {
                Answer::SubmittedSenseless(request.experiment, handle.submit(*request).await)
            }
            Ask::Cancel(id) => Answer::Cancelled(id, handle.cancel(id).await),
            Ask::Pause(id) => Answer::Paused(id, handle.pause(id).await),
            Ask::Resume(id) => Answer::Resumed(id, handle.resume(id).await),
            Ask::Retry(id) => Answer::Retried(handle.retry(id).await),
            Ask::Share(id, change) => Answer::Shared(handle.share(id, change).await),
            Ask::Drain(worker, drain) => Answer::Drained(handle.drain(worker, drain).await),
            Ask::Collect(manifests) => Answer::Collected(handle.collect(manifests).await),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
    }
}

impl Answer {
    /// Whether what is said is so.
    pub fn check(&self, oracle: &Oracle) {
        let broken = match self {
            Self::Submitted(id, Ok(_)) => oracle.experiment(*id).is_none(),
            Self::SubmittedSenseless(id, answer) => answer.is_ok() || oracle.experiment(*id).is_some(),
            Self::Cancelled(id, Ok(Cancelled::Now | Cancelled::Before)) => oracle.experiment(*id).is_none_or(|e| !e.0),
            Self::Paused(id, Ok(())) => oracle.experiment(*id).is_none_or(|e| !e.1),
            Self::Resumed(id, Ok(())) => oracle.experiment(*id).is_none_or(|e| e.1),
            Self::Collected(Ok(given)) => given.iter().any(|manifest| !oracle.is_collected(manifest)),
            Self::Submitted(_, Err(Error::Conflict(_) | Error::Plan(_) | Error::Unpinned { .. })) => true,
            Self::Drained(Err(error)) | Self::Shared(Err(error)) => {
                !matches!(error, Error::UnknownExperiment(_) | Error::NothingToShare(_) | Error::Closed)
            }
            Self::Retried(Err(error)) => {
                !matches!(error, Error::UnknownExperiment(_) | Error::NothingFailed(_) | Error::Closed)
            }
            _ => false,
        };
        if broken {
            oracle.report("what users are told is stored", format!("{self:?}"));
        }
    }
}
