//! The users' door: the `Coordinator` service of `ceteris/v1/coordinator.proto`.
//!
//! This file only converts: generated messages to arguments, results to documents, errors to statuses. What each call
//! does is a method of [`Service`] in a file of its own, and what a document says is a pure function next to it.
//! Everything that comes in has a limit; whatever takes the processor for long runs where it may block.

mod blobs;
mod catalog;
mod checkpoints;
mod compare;
mod error;
mod evidence;
mod experiment;
mod explain;
mod fork;
mod logs;
mod predictions;
mod storage;
mod submit;
#[cfg(test)]
mod tests;
mod verify;
mod view;
mod watch;
mod workers;

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use ceteris_blob::Blobs;
use ceteris_proto::{
    MAX_MESSAGE_BYTES,
    v1::{self, coordinator_server},
};
use ceteris_scheduler::{Drain, Timestamp};
use ceteris_shared::{digest::Digest, document::Document, ids::ExperimentId};
use futures::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::{driver, store::Store};

pub use error::Error;

/// The service. Cloning it is cheap.
#[derive(Clone)]
pub struct Service {
    store: Arc<dyn Store>,
    driver: driver::Handle,
    blobs: Blobs,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("blobs", &self.blobs).finish_non_exhaustive()
    }
}

impl Service {
    /// The service over what the coordinator remembers, the driver and the object store.
    pub fn new(store: Arc<dyn Store>, driver: driver::Handle, blobs: Blobs) -> Self {
        Self { store, driver, blobs }
    }

    /// The gRPC server, with its limits.
    pub fn into_server(self) -> coordinator_server::CoordinatorServer<Self> {
        coordinator_server::CoordinatorServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }
}

/// Most characters of a name, an id or the beginning of one in a request.
const MAX_REFERENCE: usize = 256;
/// What nothing names may be on its way to being committed for so long.
const YOUNG: Duration = Duration::from_secs(24 * 60 * 60);
/// What the wire adds to a document.
const ENVELOPE_BYTES: usize = 64;

type Answer<T> = Result<Response<T>, Status>;
type StreamOf<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn now() -> Timestamp {
    Timestamp(ceteris_shared::document::Timestamp::from(SystemTime::now()).0)
}

/// A time as documents write it.
fn moment(timestamp: Timestamp) -> ceteris_shared::document::Timestamp {
    ceteris_shared::document::Timestamp(timestamp.0)
}

fn wire<T: Document>(document: &T) -> Result<v1::Document, Error> {
    let json = document.to_json();
    if json.len() + ENVELOPE_BYTES > MAX_MESSAGE_BYTES {
        return Err(Error::AnswerTooLong { schema: T::SCHEMA, bytes: json.len() });
    }
    Ok(v1::Document { json })
}

fn answer<T: Document>(document: Result<T, Error>) -> Answer<v1::Document> {
    Ok(Response::new(document.and_then(|document| wire(&document))?))
}

/// A reference as it came, if it is one.
fn reference<'a>(what: &'static str, text: &'a str) -> Result<&'a str, Error> {
    match text.trim() {
        "" => Err(Error::invalid(format!("the {what} is empty"), "give a name, an id or the beginning of an id")),
        text if text.len() > MAX_REFERENCE => {
            Err(Error::invalid(format!("the {what} is longer than {MAX_REFERENCE} characters"), "give a name or an id"))
        }
        text => Ok(text),
    }
}

fn uuid(field: &'static str, text: &str) -> Result<ExperimentId, Error> {
    text.parse().map_err(|_| Error::Field { field, problem: format!("{text:?} is not a UUID") })
}

fn digest(field: &'static str, text: &str) -> Result<Digest, Error> {
    text.parse().map_err(|error| Error::Field { field, problem: format!("{error}") })
}

#[tonic::async_trait]
impl coordinator_server::Coordinator for Service {
    type GetBlobStream = StreamOf<v1::BlobChunk>;
    type WatchExperimentStream = StreamOf<v1::Document>;
    type RunLogsStream = StreamOf<v1::LogChunk>;

    async fn put_blob(&self, request: Request<Streaming<v1::BlobChunk>>) -> Answer<v1::PutBlobResponse> {
        let existed = self.receive_blob(request.into_inner()).await?;
        Ok(Response::new(v1::PutBlobResponse { existed }))
    }

    async fn get_blob(&self, request: Request<v1::GetBlobRequest>) -> Answer<Self::GetBlobStream> {
        let digest = digest("digest", &request.into_inner().digest)?;
        Ok(Response::new(self.send_blob(digest).await?))
    }

    async fn register_dataset(&self, request: Request<v1::RegisterDatasetRequest>) -> Answer<v1::Document> {
        let v1::RegisterDatasetRequest { name, manifest } = request.into_inner();
        answer(self.name_dataset(reference("name", &name)?, digest("manifest", &manifest)?).await)
    }

    async fn list_datasets(&self, _: Request<v1::ListDatasetsRequest>) -> Answer<v1::Document> {
        answer(self.all_datasets().await)
    }

    async fn show_dataset(&self, request: Request<v1::ShowDatasetRequest>) -> Answer<v1::ShowDatasetResponse> {
        let name = request.into_inner().name;
        let found = self.find_dataset(reference("name", &name)?).await?;
        Ok(Response::new(v1::ShowDatasetResponse { name: found.name, manifest: found.manifest.to_string() }))
    }

    async fn register_weights(&self, request: Request<v1::RegisterWeightsRequest>) -> Answer<v1::Document> {
        let v1::RegisterWeightsRequest { name, digest: of, arch } = request.into_inner();
        answer(self.name_weights(reference("name", &name)?, digest("digest", &of)?, &arch).await)
    }

    async fn list_weights(&self, _: Request<v1::ListWeightsRequest>) -> Answer<v1::Document> {
        answer(self.all_weights().await)
    }

    async fn plan(&self, request: Request<v1::PlanRequest>) -> Answer<v1::Document> {
        answer(self.plan_spec(&request.into_inner().spec).await)
    }

    async fn submit(&self, request: Request<v1::SubmitRequest>) -> Answer<v1::Document> {
        let v1::SubmitRequest { experiment, spec, source } = request.into_inner();
        let experiment = uuid("experiment", &experiment)?;
        answer(self.submit_spec(experiment, &spec, source).await)
    }

    async fn extend(&self, request: Request<v1::ExtendRequest>) -> Answer<v1::Document> {
        let v1::ExtendRequest { experiment, epochs, extension, name } = request.into_inner();
        let extension = uuid("extension", &extension)?;
        answer(self.extend(reference("experiment", &experiment)?, epochs, extension, &name).await)
    }

    async fn pause(&self, request: Request<v1::ExperimentRequest>) -> Answer<v1::Document> {
        answer(self.pause(reference("experiment", &request.into_inner().experiment)?, true).await)
    }

    async fn resume(&self, request: Request<v1::ExperimentRequest>) -> Answer<v1::Document> {
        answer(self.pause(reference("experiment", &request.into_inner().experiment)?, false).await)
    }

    async fn retry(&self, request: Request<v1::ExperimentRequest>) -> Answer<v1::Document> {
        answer(self.retry(reference("experiment", &request.into_inner().experiment)?).await)
    }

    async fn share(&self, request: Request<v1::ShareRequest>) -> Answer<v1::Document> {
        let v1::ShareRequest { experiment, priority, weight, max_concurrent, device_memory_bytes } =
            request.into_inner();
        let max_concurrent = max_concurrent.map(|max| (max > 0).then_some(max));
        let change = driver::SharingChange { priority, weight, max_concurrent, device_memory: device_memory_bytes };
        answer(self.share(reference("experiment", &experiment)?, change).await)
    }

    async fn list_experiments(&self, _: Request<v1::ListExperimentsRequest>) -> Answer<v1::Document> {
        answer(self.all_experiments().await)
    }

    async fn show_experiment(&self, request: Request<v1::ExperimentRequest>) -> Answer<v1::Document> {
        answer(self.show(reference("experiment", &request.into_inner().experiment)?).await)
    }

    async fn watch_experiment(&self, request: Request<v1::ExperimentRequest>) -> Answer<Self::WatchExperimentStream> {
        let request = request.into_inner();
        Ok(Response::new(self.watch(reference("experiment", &request.experiment)?).await?))
    }

    async fn cancel_experiment(&self, request: Request<v1::ExperimentRequest>) -> Answer<v1::Document> {
        answer(self.cancel(reference("experiment", &request.into_inner().experiment)?).await)
    }

    async fn explain_run(&self, request: Request<v1::RunRequest>) -> Answer<v1::Document> {
        answer(self.explain(reference("run", &request.into_inner().run)?).await)
    }

    async fn run_logs(&self, request: Request<v1::RunLogsRequest>) -> Answer<Self::RunLogsStream> {
        let v1::RunLogsRequest { run, follow } = request.into_inner();
        Ok(Response::new(self.logs(reference("run", &run)?, follow).await?))
    }

    async fn compare_experiment(&self, request: Request<v1::CompareRequest>) -> Answer<v1::Document> {
        let v1::CompareRequest { experiment, at, exploratory } = request.into_inner();
        answer(self.compare(reference("experiment", &experiment)?, at, exploratory).await)
    }

    async fn get_evidence(&self, request: Request<v1::ExperimentRequest>) -> Answer<v1::Document> {
        answer(self.evidence(reference("experiment", &request.into_inner().experiment)?).await)
    }

    async fn list_checkpoints(&self, request: Request<v1::RunRequest>) -> Answer<v1::Document> {
        answer(self.checkpoints(reference("run", &request.into_inner().run)?).await)
    }

    async fn list_predictions(&self, request: Request<v1::PredictionsRequest>) -> Answer<v1::Document> {
        let v1::PredictionsRequest { experiment, at } = request.into_inner();
        answer(self.predictions(reference("experiment", &experiment)?, at).await)
    }

    async fn verify(&self, request: Request<v1::VerifyRequest>) -> Answer<v1::Document> {
        let v1::VerifyRequest { run, from, verification } = request.into_inner();
        let verification = uuid("verification", &verification)?;
        answer(self.verify(reference("run", &run)?, from, verification).await)
    }

    async fn show_verification(&self, request: Request<v1::ExperimentRequest>) -> Answer<v1::Document> {
        answer(self.verification(reference("experiment", &request.into_inner().experiment)?).await)
    }

    async fn collect_garbage(&self, request: Request<v1::CollectGarbageRequest>) -> Answer<v1::Document> {
        let v1::CollectGarbageRequest { dry_run, older_than_seconds } = request.into_inner();
        let older_than = older_than_seconds.map_or(YOUNG, Duration::from_secs);
        answer(self.collect_garbage(dry_run, older_than).await)
    }

    async fn check_storage(&self, request: Request<v1::CheckStorageRequest>) -> Answer<v1::Document> {
        answer(self.check_storage(request.into_inner().read).await)
    }

    async fn list_workers(&self, _: Request<v1::ListWorkersRequest>) -> Answer<v1::Document> {
        answer(self.all_workers().await)
    }

    async fn drain(&self, request: Request<v1::DrainRequest>) -> Answer<v1::Document> {
        let v1::DrainRequest { worker, slots, undo } = request.into_inner();
        let drain = match (undo, slots.is_empty()) {
            (true, _) => None,
            (false, true) => Some(Drain::Worker),
            (false, false) => Some(Drain::Slots(slots.into_iter().collect())),
        };
        answer(self.drain(reference("worker", &worker)?, drain).await)
    }
}
