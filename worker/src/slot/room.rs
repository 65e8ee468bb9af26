//! Whether there is room to begin: in the spool, and on the disk that checkpoints are written to.

use std::{path::Path, time::Duration};

use tokio::{sync::watch, time::Instant};

use super::{Failure, Shared};
use crate::attempts::{Wish, stronger};

/// How often is looked.
const INTERVAL: Duration = Duration::from_millis(200);

/// How waiting for room ended without any.
pub(super) enum NoRoom {
    /// Something else was wished meanwhile.
    Wished(Wish),
    /// There was none for too long.
    Failed(Failure),
}

/// Waits until there is room to begin an attempt.
pub(super) async fn wait(shared: &Shared, wish: &mut watch::Receiver<Wish>) -> Result<(), NoRoom> {
    let Some(lack) = lacking(shared) else { return Ok(()) };
    tracing::warn!("an attempt waits: {lack}");
    let until = Instant::now() + shared.limits.room_patience;
    loop {
        let wished = tokio::time::timeout(INTERVAL, stronger(wish, &Wish::Run)).await;
        match (wished, lacking(shared)) {
            (Ok(wish), _) => return Err(NoRoom::Wished(wish)),
            (Err(_), None) => return Ok(()),
            (Err(_), Some(lack)) if Instant::now() > until => {
                return Err(NoRoom::Failed(Failure::infrastructure(lack)));
            }
            (Err(_), Some(_)) => {}
        }
    }
}

/// What there is no room in; none where there is enough.
fn lacking(shared: &Shared) -> Option<String> {
    let (folder, least) = (&shared.folder, shared.limits.free_bytes);
    if let Some(free) = free_bytes(folder).filter(|free| *free < least) {
        return Some(format!(
            "the disk of {} has {free} bytes free and an attempt may need {least}: free some space there, or choose another folder with --state",
            folder.display()
        ));
    }
    // The disk has room, whatever the last event met with.
    shared.outbox.clear_stall();
    shared.outbox.is_full().then(|| {
        "the worker's spool is full: the coordinator did not acknowledge for long; nothing new is begun until it does"
            .to_owned()
    })
}

/// None where the system does not say.
fn free_bytes(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}
