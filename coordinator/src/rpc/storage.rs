//! What is in the object store and what it is there for: collecting garbage, and holding the store against the database.
//!
//! Marking begins at what the database names and follows manifests to their parts. What is not marked and old enough is
//! garbage: what attempts stored and never committed, and the parts of checkpoints that an experiment's `keep` gives up.
//! Should something be taken that is needed after all, it is missed where it is read and trained again.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, SystemTime},
};

use ceteris_blob::Listed;
use ceteris_shared::{
    checkpoint::{self, Manifest},
    dataset,
    digest::Digest,
    document::{Garbage, Objects, Storage, Unusable},
    features,
    ids::Epoch,
    plan::PlannedRun,
    spec::{BranchPoints, Keep, Score},
};
use futures::{StreamExt as _, TryStreamExt as _};

use super::{Error, Service, view::Known};
use crate::store::{References, SeriesPoint, SeriesQuery};

/// Manifests that are read at once.
const READS: usize = 16;
/// Objects that are deleted, or read to their end, at once.
const REQUESTS: usize = 8;
/// Most problems that are told one by one.
const MAX_TOLD: usize = 1000;

/// What names objects, and how long each is where that is known.
#[derive(Default)]
struct Marked {
    objects: HashMap<Digest, Named>,
    unusable: Vec<Unusable>,
    /// A manifest whose parts are not known, and should not be lost.
    unknown: Option<String>,
}

struct Named {
    what: String,
    bytes: Option<u64>,
}

impl Marked {
    fn name(&mut self, digest: Digest, bytes: Option<u64>, what: impl FnOnce() -> String) {
        self.objects.entry(digest).or_insert_with(|| Named { what: what(), bytes });
    }
}

impl Service {
    /// Gives up the checkpoints that experiments no longer keep, and deletes what nothing names and was stored more than
    /// `older_than` ago; with `dry_run`, only says what would be.
    pub(super) async fn collect_garbage(&self, dry_run: bool, older_than: Duration) -> Result<Garbage, Error> {
        let references = self.store.references().await?;
        let kept = self.kept().await?;
        let known: BTreeSet<Digest> = references.collected.iter().copied().collect();
        let unkept =
            references.checkpoints.iter().filter(|manifest| !known.contains(manifest) && !kept.contains(manifest));
        let unkept: Vec<Digest> = unkept.copied().collect();
        let collected = if dry_run { unkept } else { self.driver.collect(unkept).await? };
        // What was committed meanwhile is named now.
        let mut references = self.store.references().await?;
        if dry_run {
            references.collected.extend(&collected);
        }
        let given_up: BTreeSet<&Digest> = references.collected.iter().collect();
        let whole = references.checkpoints.iter().filter(|manifest| !given_up.contains(manifest)).count();
        let marked = self.mark(&references).await?;
        if let (false, Some(unknown)) = (dry_run, &marked.unknown) {
            return Err(Error::Damaged(format!(
                "nothing is deleted, because it is not known what {unknown} names; `ceteris storage check --read` says what is \
                 damaged: restore or import it again first"
            )));
        }

        let cutoff = SystemTime::now().checked_sub(older_than).unwrap_or(SystemTime::UNIX_EPOCH);
        let (mut deleted, mut left, mut young) = (Objects::default(), Objects::default(), Objects::default());
        let mut garbage = Vec::new();
        let mut listing = std::pin::pin!(self.blobs.list());
        while let Some(object) = listing.try_next().await? {
            if marked.objects.contains_key(&object.digest) {
                left.add(object.bytes);
            } else if object.stored_at > cutoff {
                young.add(object.bytes);
            } else {
                deleted.add(object.bytes);
                garbage.push(object.digest);
            }
        }
        let mut aside = Vec::new();
        let mut listing = std::pin::pin!(self.blobs.list_aside());
        while let Some((object, name)) = listing.try_next().await? {
            if object.stored_at <= cutoff {
                deleted.add(object.bytes);
                aside.push(name);
            }
        }
        if !dry_run && !garbage.is_empty() {
            // What a worker found there already is not sent again: it may have been committed since.
            let latest = self.mark(&self.store.references().await?).await?;
            garbage.retain(|digest| !latest.objects.contains_key(digest));
        }
        if !dry_run {
            ceteris_crash::here(ceteris_crash::Point::CheckpointsGivenUp);
            let remove = |digest: Digest| async move {
                self.blobs.remove(&digest).await?;
                ceteris_crash::here(ceteris_crash::Point::ObjectDeleted);
                Ok::<_, Error>(())
            };
            futures::stream::iter(garbage).map(remove).buffer_unordered(REQUESTS).try_collect::<Vec<()>>().await?;
            for name in &aside {
                self.blobs.remove_aside(name).await?;
            }
            tracing::info!(
                checkpoints = collected.len(),
                objects = deleted.objects,
                bytes = deleted.bytes,
                "collected garbage"
            );
        }
        Ok(Garbage {
            dry_run,
            older_than_seconds: older_than.as_secs(),
            checkpoints_given_up: collected.len() as u64,
            checkpoints_kept: whole as u64,
            deleted,
            kept: left,
            young,
        })
    }

    /// Holds the store against the database; with `read`, every object is read to its end. Changes nothing.
    pub(super) async fn check_storage(&self, read: bool) -> Result<Storage, Error> {
        let marked = self.mark(&self.store.references().await?).await?;
        let mut found: HashMap<Digest, Listed> = HashMap::new();
        let (mut named, mut unnamed, mut aside) = (Objects::default(), Objects::default(), Objects::default());
        let mut listing = std::pin::pin!(self.blobs.list());
        while let Some(object) = listing.try_next().await? {
            let column = if marked.objects.contains_key(&object.digest) { &mut named } else { &mut unnamed };
            column.add(object.bytes);
            found.insert(object.digest, object);
        }
        let mut listing = std::pin::pin!(self.blobs.list_aside());
        while let Some((object, _)) = listing.try_next().await? {
            aside.add(object.bytes);
        }
        let mut unusable = marked.unusable;
        for (digest, Named { what, bytes }) in &marked.objects {
            let problem = match (found.get(digest), bytes) {
                (None, _) => "it is not in the store".to_owned(),
                (Some(object), Some(bytes)) if object.bytes != *bytes => {
                    format!("it is {} bytes long, not {bytes}", object.bytes)
                }
                _ => continue,
            };
            unusable.push(Unusable { digest: *digest, what: what.clone(), problem });
        }
        if read {
            let verify = |(digest, Named { what, .. }): (Digest, Named)| async move {
                match self.blobs.verify(&digest).await {
                    Ok(_) | Err(ceteris_blob::Error::NotFound { .. }) => Ok(None),
                    Err(error @ ceteris_blob::Error::Corrupt { .. }) => {
                        Ok(Some(Unusable { digest, what, problem: error.to_string() }))
                    }
                    Err(error) => Err(error),
                }
            };
            let checks = futures::stream::iter(marked.objects).map(verify).buffer_unordered(REQUESTS);
            unusable.extend(checks.try_filter_map(async |found| Ok(found)).try_collect::<Vec<_>>().await?);
        }
        unusable.sort_by(|a, b| (&a.what, a.digest).cmp(&(&b.what, b.digest)));
        unusable.dedup_by_key(|object| object.digest);
        let unusable_in_all = unusable.len() as u64;
        unusable.truncate(MAX_TOLD);
        Ok(Storage { read, named, unnamed, set_aside: aside, unusable_in_all, unusable })
    }

    /// Follows what the database names to every object.
    async fn mark(&self, references: &References) -> Result<Marked, Error> {
        let mut marked = Marked::default();
        let collected: BTreeSet<Digest> = references.collected.iter().copied().collect();
        let whole = references.checkpoints.iter().filter(|manifest| !collected.contains(manifest));
        for manifest in collected.iter() {
            marked.name(*manifest, None, || format!("manifest of checkpoint {}, which is given up", manifest.short()));
        }
        for digest in &references.predictions {
            marked.name(*digest, None, || "predictions".to_owned());
        }
        for digest in &references.weights {
            marked.name(*digest, None, || "initial weights".to_owned());
        }
        let checkpoints = whole.chain(&references.steps).copied().map(|digest| (digest, Kind::Checkpoint));
        let datasets = references.datasets.iter().map(|&digest| (digest, Kind::Dataset));
        let features = self.blobs.named(features::NAMESPACE).await?.into_iter().map(|digest| (digest, Kind::Features));
        let manifests: Vec<(Digest, Kind)> = checkpoints.chain(datasets).chain(features).collect();
        let read = |(digest, kind): (Digest, Kind)| async move {
            match self.blobs.get_bytes(&digest, kind.limit()).await {
                Ok(bytes) => Ok((digest, kind, kind.parts(&bytes))),
                Err(
                    error @ (ceteris_blob::Error::NotFound { .. }
                    | ceteris_blob::Error::Corrupt { .. }
                    | ceteris_blob::Error::TooLarge { .. }),
                ) => Ok((digest, kind, Err(error.to_string()))),
                Err(error) => Err(error),
            }
        };
        let mut manifests = std::pin::pin!(futures::stream::iter(manifests).map(read).buffer_unordered(READS));
        while let Some((digest, kind, parts)) = manifests.try_next().await? {
            let what = || format!("{} {}", kind.name(), digest.short());
            marked.name(digest, None, || format!("manifest of {}", what()));
            match parts {
                Ok(parts) => {
                    for (part, bytes) in parts {
                        marked.name(part, bytes, || format!("part of {}", what()));
                    }
                }
                Err(problem) => {
                    if matches!(kind, Kind::Dataset) {
                        marked.unknown = Some(what());
                    }
                    marked.unusable.push(Unusable { digest, what: format!("manifest of {}", what()), problem });
                }
            }
        }
        Ok(marked)
    }

    /// Manifests of the checkpoints that some experiment keeps.
    async fn kept(&self) -> Result<BTreeSet<Digest>, Error> {
        let mut kept = BTreeSet::new();
        for summary in self.store.experiments().await? {
            let experiment = self.store.find_experiment(&summary.id.to_string()).await?;
            let known = self.known(experiment).await?;
            match known.experiment.spec.keep.filter(|_| known.state().is_terminal()) {
                None => kept.extend(known.segments.iter().flat_map(|s| &s.committed).map(|epoch| epoch.manifest)),
                Some(keep) => {
                    let score = measured(known.experiment.spec.endpoint.metric.score);
                    let query = SeriesQuery {
                        segments: known.segments.iter().map(|segment| segment.id).collect(),
                        names: vec![score.name().to_owned()],
                        uncommitted: false,
                    };
                    let series = self.store.series(&query).await?;
                    for run in &known.experiment.plan.runs {
                        kept.extend(kept_of(&known, run, keep, score, &series));
                    }
                }
            }
        }
        Ok(kept)
    }
}

/// A score that is measured on val after every epoch: the endpoint's, or the area under the ROC curve.
fn measured(score: Score) -> Score {
    match score {
        Score::Accuracy | Score::Auc | Score::Loss => score,
        Score::BalancedAccuracy
        | Score::Brier
        | Score::Ece
        | Score::F1
        | Score::PrAuc
        | Score::Precision
        | Score::Recall
        | Score::Specificity => Score::Auc,
    }
}

/// Manifests that a run's experiment keeps of it.
fn kept_of(known: &Known, run: &PlannedRun, keep: Keep, score: Score, series: &[SeriesPoint]) -> Vec<Digest> {
    let committed: Vec<_> = known.committed(run).collect();
    let path = || run.path.iter().filter_map(|&index| known.segments.get(index));
    let own: BTreeSet<_> = path().map(|segment| segment.id).collect();
    let values: HashMap<Epoch, f64> = series
        .iter()
        .filter(|point| own.contains(&point.attempt.segment) && point.point.split == dataset::Split::Val)
        .map(|point| (point.point.epoch, point.point.value))
        .collect();
    let mut ranked: Vec<Epoch> = values.keys().copied().collect();
    ranked.sort_by(|a, b| {
        let order = values[b].total_cmp(&values[a]);
        // Of equals the earlier one.
        (if score.larger_is_better() { order } else { order.reverse() }).then(a.cmp(b))
    });
    ranked.truncate(keep.best as usize);
    let last = committed.len().saturating_sub(keep.last as usize);
    let ends: BTreeSet<Epoch> = match keep.branch_points {
        BranchPoints::All => path().filter_map(|s| s.committed.last()).map(|epoch| epoch.epoch).collect(),
        BranchPoints::None => BTreeSet::new(),
    };
    let keeps = |(index, epoch): &(usize, &&crate::store::CommittedRecord)| {
        *index >= last || ranked.contains(&epoch.epoch) || ends.contains(&epoch.epoch)
    };
    committed.iter().enumerate().filter(keeps).map(|(_, epoch)| epoch.manifest).collect()
}

/// What manifests are of.
#[derive(Clone, Copy)]
enum Kind {
    Checkpoint,
    Dataset,
    Features,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint",
            Self::Dataset => "data set",
            Self::Features => "features",
        }
    }

    fn limit(self) -> u64 {
        match self {
            Self::Checkpoint => checkpoint::MAX_MANIFEST_BYTES,
            Self::Dataset => dataset::MAX_MANIFEST_BYTES,
            Self::Features => features::MAX_MANIFEST_BYTES,
        }
    }

    /// The objects that a manifest names, with their lengths.
    fn parts(self, bytes: &[u8]) -> Result<Vec<(Digest, Option<u64>)>, String> {
        Ok(match self {
            Self::Checkpoint => {
                let manifest = Manifest::from_bytes(bytes).map_err(|error| error.to_string())?;
                manifest.parts.iter().map(|part| (part.digest, Some(part.bytes))).collect()
            }
            Self::Dataset => {
                let manifest = dataset::Manifest::from_bytes(bytes).map_err(|error| error.to_string())?;
                let length = |shard: &dataset::Shard| u64::from(shard.samples) * manifest.sample_bytes() as u64;
                manifest.shards.iter().map(|shard| (shard.digest, Some(length(shard)))).collect()
            }
            Self::Features => {
                let manifest: features::Manifest = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
                manifest.shards.iter().map(|shard| (shard.digest, None)).collect()
            }
        })
    }
}
