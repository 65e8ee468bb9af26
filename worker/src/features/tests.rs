use ceteris_shared::features::{Dtype, MANIFEST_FILE, SCHEMA, Shard};

use super::*;

pub(crate) struct World {
    folder: tempfile::TempDir,
    blobs: Blobs,
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let blobs = Blobs::open(&folder.path().join("store").to_string_lossy()).await.expect("it opens");
        Self { folder, blobs }
    }

    /// One worker's sets, of its own name.
    pub(crate) async fn worker(&self, name: &str, limit: u64) -> Features {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).expect("it is made");
        let patience = Duration::from_millis(10);
        Features::open(folder, limit, self.blobs.clone(), patience).await.expect("it opens")
    }

    pub(crate) async fn shares(&self, key: FeatureKey) -> bool {
        self.blobs.get_name(NAMESPACE, &key.folder()).await.expect("the store answers").is_some()
    }

    fn object(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.folder.path().join("store/blobs/sha256").join(&name[..2]).join(&name)
    }
}

pub(crate) fn key(name: &str) -> FeatureKey {
    FeatureKey(Digest::of(name.as_bytes()))
}

/// Two shards of 40 and 20 bytes.
const SHARDS: [&[u8]; 2] = [&[1; 40], &[2; 20]];
/// Their manifest comes on top.
const BYTES: u64 = 60;

/// What a trainer does.
pub(crate) fn make(features: &Features, key: FeatureKey) -> Manifest {
    let set = features.set(key);
    std::fs::create_dir_all(&set).expect("it is made");
    let shards = SHARDS.map(|bytes| Shard {
        digest: Digest::of(bytes),
        samples: bytes.len() as u32 / 4,
        bytes: bytes.len() as u64,
    });
    for (index, bytes) in SHARDS.iter().enumerate() {
        std::fs::write(set.join(shard_file(index)), bytes).expect("it is written");
    }
    let schema = SCHEMA.to_owned();
    let manifest =
        Manifest { schema, key, shape: vec![1], dtype: Dtype::F32, samples_per_shard: 10, shards: shards.to_vec() };
    std::fs::write(set.join(MANIFEST_FILE), manifest.to_bytes()).expect("it is written");
    manifest
}

fn there(features: &Features, key: FeatureKey) -> bool {
    features.set(key).exists()
}

#[tokio::test]
async fn what_one_worker_makes_another_finds() {
    let world = World::new().await;
    let (first, second) = (world.worker("first", 1 << 20).await, world.worker("second", 1 << 20).await);
    let key = key("set");
    assert_eq!(first.find(key).await, None);
    make(&first, key);
    assert_eq!(first.find(key).await, Some(Found::Here));
    assert_eq!(second.find(key).await, None, "it is not shared yet");
    first.share(key).await;
    assert_eq!(second.find(key).await, Some(Found::Fetched));
    for (index, bytes) in SHARDS.iter().enumerate() {
        assert_eq!(std::fs::read(second.set(key).join(shard_file(index))).expect("it is there"), *bytes);
    }
    assert_eq!(second.find(key).await, Some(Found::Here));
    assert!(!second.store(key).await.expect("the store answers"), "it is shared already");
}

#[tokio::test]
async fn what_is_damaged_or_missing_is_not_found() {
    let world = World::new().await;
    let first = world.worker("first", 1 << 20).await;
    let key = key("set");
    let manifest = make(&first, key);
    first.share(key).await;

    let second = world.worker("second", 1 << 20).await;
    let object = world.object(&manifest.shards[1].digest);
    std::fs::write(&object, [3; 20]).expect("it is damaged");
    assert_eq!(second.find(key).await, None, "a damaged shard");
    std::fs::remove_file(&object).expect("it is gone");
    assert_eq!(second.find(key).await, None, "a missing shard");
    assert!(!second.set(key).join(MANIFEST_FILE).exists(), "nothing that looks complete is left");
    std::fs::write(&object, SHARDS[1]).expect("it is back");
    assert_eq!(second.find(key).await, Some(Found::Fetched));

    std::fs::write(second.set(key).join(shard_file(0)), [1; 39]).expect("it is cut");
    assert_eq!(second.find(key).await, Some(Found::Fetched), "a cut shard is fetched again");
    std::fs::write(second.set(key).join(MANIFEST_FILE), b"{").expect("it is damaged");
    assert_eq!(second.find(key).await, Some(Found::Fetched), "a damaged manifest too");
}

#[tokio::test]
async fn what_is_not_what_its_manifest_says_is_not_shared() {
    let world = World::new().await;
    let features = world.worker("first", 1 << 20).await;
    let key = key("set");
    assert!(matches!(features.store(key).await, Err(Error::Incomplete)));
    make(&features, key);
    std::fs::write(features.set(key).join(shard_file(1)), [9; 20]).expect("it is damaged");
    assert!(matches!(features.store(key).await, Err(Error::Store(ceteris_blob::Error::Mismatch(_)))));
    assert!(!world.shares(key).await);

    world.blobs.put_name(NAMESPACE, &key.folder(), Digest::of(b"another")).await.expect("it is named");
    let second = world.worker("second", 1 << 20).await;
    assert_eq!(second.find(key).await, None, "a name that stands for nothing");
}

#[tokio::test]
async fn sets_of_running_attempts_stay_and_others_go_by_their_last_use() {
    let world = World::new().await;
    let elsewhere = world.worker("elsewhere", 1 << 20).await;
    let (a, b, c, d) = (key("a"), key("b"), key("c"), key("d"));
    let size = make(&elsewhere, d).to_bytes().len() as u64 + BYTES;
    elsewhere.share(d).await;

    let features = world.worker("here", 3 * size).await;
    for key in [a, b, c] {
        make(&features, key);
        features.made(key).await;
        // The clock of files may be coarse.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(features.find(a).await, Some(Found::Here), "used last");
    let held = features.hold(b);
    assert_eq!(features.find(d).await, Some(Found::Fetched));
    assert_eq!([a, b, c, d].map(|key| there(&features, key)), [true, true, false, true]);

    drop(held);
    drop(features);
    let features = world.worker("here", 2 * size).await;
    assert_eq!([a, b, d].map(|key| there(&features, key)), [true, false, true], "a lower limit holds from the start");

    let _held = (features.hold(a), features.hold(d));
    make(&elsewhere, b);
    elsewhere.share(b).await;
    assert_eq!(features.find(b).await, None, "there is no room");
    assert_eq!(world.worker("none", 0).await.find(d).await, None);
    assert_eq!(world.worker("none", 0).await.folder(), None);
}

#[tokio::test]
async fn what_was_never_finished_is_removed_at_the_start() {
    let world = World::new().await;
    let features = world.worker("here", 1 << 20).await;
    let (whole, partial) = (key("whole"), key("partial"));
    make(&features, whole);
    make(&features, partial);
    std::fs::remove_file(features.set(partial).join(MANIFEST_FILE)).expect("it is there");
    std::fs::create_dir(folder::aside(&features.0.folder, key("gone"))).expect("it is made");
    let features = world.worker("here", 1 << 20).await;
    let left = std::fs::read_dir(&features.0.folder).expect("it lists").count();
    assert_eq!((there(&features, whole), left), (true, 1));
}
