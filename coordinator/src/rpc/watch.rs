//! Watching an experiment: its document whenever it changes, at most five times a second, and every five seconds even
//! if nothing does, so that a client can tell a quiet coordinator from a dead one. Ends when the experiment does.

use std::time::Duration;

use ceteris_proto::v1;
use ceteris_shared::ids::ExperimentId;
use futures::StreamExt;
use tokio::{
    sync::{broadcast, mpsc},
    time::{Instant, sleep_until, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Error, Service, StreamOf, wire};

/// Changes that are closer together are one.
const SHORTEST: Duration = Duration::from_millis(200);
/// Without a change, the same is said again after this.
const LONGEST: Duration = Duration::from_secs(5);

impl Service {
    pub(super) async fn watch(&self, reference: &str) -> Result<StreamOf<v1::Document>, Error> {
        // Subscribed before the first look, so that no change falls between the two.
        let changes = self.driver.subscribe();
        let experiment = self.store.find_experiment(reference).await?.id;
        let (sender, receiver) = mpsc::channel(1);
        let watching = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = sender.closed() => {}
                end = watching.tell(experiment, changes, &sender) => {
                    if let Err(error) = end {
                        // A client that is gone wants to know nothing more.
                        let _ = sender.send(Err(Status::from(error))).await;
                    }
                }
            }
        });
        Ok(ReceiverStream::new(receiver).boxed())
    }

    async fn tell(
        &self,
        experiment: ExperimentId,
        mut changes: broadcast::Receiver<ExperimentId>,
        sender: &mpsc::Sender<Result<v1::Document, Status>>,
    ) -> Result<(), Error> {
        let mut told = String::new();
        let mut due = Instant::now();
        loop {
            let document = self.show(&experiment.to_string()).await?;
            let looked = Instant::now();
            let wired = wire(&document)?;
            if wired.json != told || looked >= due {
                told.clone_from(&wired.json);
                due = looked + LONGEST;
                if sender.send(Ok(wired)).await.is_err() {
                    return Ok(());
                }
            }
            if document.state.is_terminal() {
                return Ok(());
            }
            if !changed(experiment, &mut changes, due).await {
                return Err(crate::driver::Error::Closed.into());
            }
            sleep_until((looked + SHORTEST).min(due)).await;
        }
    }
}

/// Waits until something about `experiment` changes or may have, or until `due`. False where nothing will any more,
/// because the driver is gone.
async fn changed(experiment: ExperimentId, changes: &mut broadcast::Receiver<ExperimentId>, due: Instant) -> bool {
    loop {
        match timeout_at(due, changes.recv()).await {
            Ok(Ok(changed)) if changed != experiment => {}
            Ok(Ok(_)) | Ok(Err(broadcast::error::RecvError::Lagged(_))) | Err(_) => return true,
            Ok(Err(broadcast::error::RecvError::Closed)) => return false,
        }
    }
}
