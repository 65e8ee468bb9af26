//! Executions that no agent asks for: a run of a plan as one request, on a packed data set in a folder.

use std::path::Path;

use ceteris_shared::{
    dataset::{MAX_MANIFEST_BYTES, Manifest},
    plan::{Plan, PlannedRun, Work},
    trainer::DatasetFiles,
};

use crate::{data, files};

/// The manifest's name in a packed data set's folder.
const MANIFEST: &str = "manifest.json";

/// The files of the packed data set in `folder`: `manifest.json` and `shard-0000`, `shard-0001`, … in the manifest's
/// order.
///
/// # Errors
/// When the manifest cannot be read, or is none.
pub fn dataset(folder: &Path) -> Result<DatasetFiles, data::Error> {
    let manifest = folder.join(MANIFEST);
    let bytes = files::read(&manifest, MAX_MANIFEST_BYTES)?;
    let listed = Manifest::from_bytes(&bytes)
        .map_err(|source| data::Error::Manifest { file: manifest.display().to_string(), source })?;
    let shards = (0..listed.shards.len()).map(|index| folder.join(format!("shard-{index:04}"))).collect();
    Ok(DatasetFiles { manifest, shards })
}

/// Everything that `run` trains, from its first epoch to its end, as the work of one execution.
pub fn work(plan: &Plan, run: &PlannedRun) -> Option<Work> {
    let mut path = run.path.iter().map(|segment| &plan.segments[*segment].work);
    let mut work = path.next()?.clone();
    for next in path {
        work.epochs.extend(next.epochs.iter().cloned());
        work.endpoint = next.endpoint;
    }
    Some(work)
}
