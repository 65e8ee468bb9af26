//! The committed epochs of a run and the objects that hold them.

use ceteris_shared::{
    checkpoint::{MAX_MANIFEST_BYTES, Manifest},
    document::{Checkpoint, Checkpoints},
};
use futures::{StreamExt, TryStreamExt};

use super::{Error, Service};
use crate::store::CommittedRecord;

/// Manifests read at once.
const READS: usize = 8;

impl Service {
    pub(super) async fn checkpoints(&self, reference: &str) -> Result<Checkpoints, Error> {
        let (known, run) = self.find_run(reference).await?;
        let committed: Vec<CommittedRecord> = known.committed(&run).cloned().collect();
        let read = |committed: CommittedRecord| self.checkpoint(committed);
        let epochs = futures::stream::iter(committed).map(read).buffered(READS).try_collect().await?;
        let arm = known.experiment.plan.arms[run.arm].name.clone();
        Ok(Checkpoints { run: run.id, experiment: known.experiment.id, arm, seed: run.seed, epochs })
    }

    async fn checkpoint(&self, committed: CommittedRecord) -> Result<Checkpoint, Error> {
        let bytes = self.blobs.get_bytes(&committed.manifest, MAX_MANIFEST_BYTES).await?;
        let manifest = Manifest::from_bytes(&bytes)?;
        let weights = manifest.weights();
        let Manifest { key, epoch, step, attempt, environment, parts, .. } = manifest;
        if (key, epoch, step) != (committed.key, committed.epoch, None) {
            return Err(Error::Damaged(format!(
                "the checkpoint {} says that it is of epoch {epoch}, lineage {}, and was committed for epoch {}, lineage {}; \
                 restore the database and the object store from the same backup",
                committed.manifest.short(),
                key.short(),
                committed.epoch,
                committed.key.short()
            )));
        }
        let bytes = parts.iter().map(|part| part.bytes).fold(0, u64::saturating_add);
        Ok(Checkpoint { epoch, key, manifest: committed.manifest, weights, attempt, bytes, parts, environment })
    }
}
