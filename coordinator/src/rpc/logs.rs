//! What the trainers of a run printed, in the order in which it arrived, all attempts of all its segments.

use std::time::Duration;

use ceteris_proto::v1;
use ceteris_shared::ids::{RunId, SegmentId};
use futures::StreamExt;
use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    time::{Instant, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Error, Service, StreamOf};
use crate::driver;

/// Batches read at once; each is at most one message of a worker.
const BATCHES: u32 = 16;
/// How often to look for new lines. They do not pass the driver, so nothing tells of them.
const PERIOD: Duration = Duration::from_millis(500);

impl Service {
    pub(super) async fn logs(&self, reference: &str, follow: bool) -> Result<StreamOf<v1::LogChunk>, Error> {
        let (known, run) = self.find_run(reference).await?;
        let segments: Vec<SegmentId> = run.path.iter().map(|&index| known.experiment.plan.segments[index].id).collect();
        let (sender, receiver) = mpsc::channel(1);
        let reading = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = sender.closed() => {}
                end = reading.read_logs(run.id, segments, follow, &sender) => {
                    if let Err(error) = end {
                        // A client that is gone wants to know nothing more.
                        let _ = sender.send(Err(Status::from(error))).await;
                    }
                }
            }
        });
        Ok(ReceiverStream::new(receiver).boxed())
    }

    async fn read_logs(
        &self,
        run: RunId,
        segments: Vec<SegmentId>,
        follow: bool,
        sender: &mpsc::Sender<Result<v1::LogChunk, Status>>,
    ) -> Result<(), Error> {
        let mut cursor = 0;
        let mut changes = self.driver.subscribe();
        loop {
            // Looked up before the lines are read: what is printed before the end is then read after it.
            let (known, planned) = self.find_run(&run.to_string()).await?;
            let ended = !follow || known.standing(&planned).state.is_terminal();
            loop {
                let batches = self.store.logs(&segments, cursor, BATCHES).await?;
                let Some(last) = batches.last() else { break };
                cursor = last.cursor;
                for batch in batches {
                    if sender.send(Ok(v1::LogChunk { lines: batch.lines })).await.is_err() {
                        return Ok(());
                    }
                }
            }
            if ended {
                return Ok(());
            }
            // Changes say nothing of new lines, but their end says that the driver is gone.
            let due = Instant::now() + PERIOD;
            while let Ok(change) = timeout_at(due, changes.recv()).await {
                if change == Err(RecvError::Closed) {
                    return Err(driver::Error::Closed.into());
                }
            }
        }
    }
}
