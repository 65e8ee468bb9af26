//! An attempt's features: what its trainer asks for and makes.

use std::collections::HashMap;

use ceteris_shared::features::FeatureKey;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::features::{Features, Found, Use};

/// Lookups under way, and the sets that the attempt uses until it ends. Dropping it gives lookups up; what is being
/// shared goes on, unless the attempt was revoked.
pub(super) struct Asked {
    features: Features,
    lookups: JoinSet<(FeatureKey, Option<Found>)>,
    used: HashMap<FeatureKey, Use>,
    revoked: CancellationToken,
}

impl Asked {
    pub(super) fn new(features: Features) -> Self {
        let (lookups, used) = (JoinSet::new(), HashMap::new());
        Self { features, lookups, used, revoked: CancellationToken::new() }
    }

    fn hold(&mut self, key: FeatureKey) {
        self.used.entry(key).or_insert_with(|| self.features.hold(key));
    }

    /// Begins to look for a set.
    pub(super) fn wanted(&mut self, key: FeatureKey) {
        self.hold(key);
        let features = self.features.clone();
        self.lookups.spawn(async move { (key, features.find(key).await) });
    }

    /// The next set that was looked for, and whether it is in the folder; waits for ever where none is. May be dropped
    /// and asked again without losing one.
    pub(super) async fn answer(&mut self) -> (FeatureKey, bool) {
        let (key, found) = match self.lookups.join_next().await {
            Some(Ok(found)) => found,
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            None => return std::future::pending().await,
        };
        // Where sharing was cut off when the set was made, it is made up for.
        if found == Some(Found::Here) {
            self.share(key, false);
        }
        (key, found.is_some())
    }

    /// Shares a set that the trainer made.
    pub(super) fn made(&mut self, key: FeatureKey) {
        self.hold(key);
        self.share(key, true);
    }

    fn share(&self, key: FeatureKey, new: bool) {
        let (features, revoked, held) = (self.features.clone(), self.revoked.clone(), self.features.hold(key));
        tokio::spawn(async move {
            let share = async {
                if new {
                    features.made(key).await;
                }
                features.share(key).await;
            };
            let _ = revoked.run_until_cancelled(share).await;
            drop(held);
        });
    }

    /// Ends sharing: a revoked attempt stores nothing more.
    pub(super) fn revoke(&self) {
        self.revoked.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::tests::{World, key, make};

    async fn until_idle(features: &Features, key: FeatureKey) {
        while features.is_used(key) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn what_is_made_is_shared_after_the_attempt_too() {
        let world = World::new().await;
        let features = world.worker("here", 1 << 20).await;
        let key = key("set");
        make(&features, key);
        let mut asked = Asked::new(features.clone());
        asked.made(key);
        drop(asked);
        until_idle(&features, key).await;
        assert!(world.shares(key).await);
    }

    #[tokio::test]
    async fn what_a_revoked_attempt_made_is_not_shared() {
        let world = World::new().await;
        let features = world.worker("here", 1 << 20).await;
        let key = key("set");
        make(&features, key);
        let mut asked = Asked::new(features.clone());
        asked.made(key);
        asked.revoke();
        drop(asked);
        until_idle(&features, key).await;
        assert!(!world.shares(key).await);
    }
}
