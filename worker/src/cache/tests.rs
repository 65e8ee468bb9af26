use super::*;

async fn cache_of(limit: u64) -> (tempfile::TempDir, Cache) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = folder.path().join("store");
    let blobs = Blobs::open(&store.to_string_lossy()).await.expect("it opens");
    let files = folder.path().join("cache");
    std::fs::create_dir(&files).expect("it is made");
    let cache = Cache::open(files, limit, blobs, Duration::from_millis(10)).await.expect("it opens");
    (folder, cache)
}

async fn cache() -> (tempfile::TempDir, Cache) {
    cache_of(1 << 30).await
}

fn stored(folder: &tempfile::TempDir, digest: &Digest) -> PathBuf {
    let name = digest.to_string();
    folder.path().join("store/blobs/sha256").join(&name[..2]).join(&name)
}

#[tokio::test]
async fn a_damaged_file_is_fetched_again_then_refused() {
    let (folder, cache) = cache().await;
    let digest = cache.blobs().put_bytes(b"pixels").await.expect("it is stored");
    let path = cache.get(digest, Some(6)).await.expect("it is fetched").path();
    std::fs::write(&path, b"pixelz").expect("it is damaged");
    let path = cache.get(digest, Some(6)).await.expect("it is fetched again").path();
    assert_eq!(std::fs::read(&path).expect("it reads"), b"pixels");

    std::fs::write(&path, b"pix").expect("it is damaged");
    std::fs::write(stored(&folder, &digest), b"pixelz").expect("the store too");
    let error = cache.get(digest, Some(6)).await.expect_err("there is no good copy").to_string();
    assert!(error.contains(&digest.to_string()) && error.contains("damaged"), "{error}");
    assert!(!path.exists(), "a damaged file does not stay");
}

#[tokio::test]
async fn a_verified_file_needs_no_store() {
    let (folder, cache) = cache().await;
    let digest = cache.blobs().put_bytes(b"pixels").await.expect("it is stored");
    cache.get(digest, None).await.expect("it is fetched");
    std::fs::remove_file(stored(&folder, &digest)).expect("it is gone");
    cache.get(digest, None).await.expect("it is here");
    assert!(matches!(cache.get(digest, Some(7)).await, Err(Error::Length { found: 6, expected: 7, .. })));
}

#[tokio::test]
async fn what_is_asked_for_twice_at_once_is_had_twice() {
    let (_folder, cache) = cache().await;
    let digest = cache.blobs().put_bytes(&[7; 3_000_000]).await.expect("it is stored");
    let paths = futures::future::join_all((0..4).map(|_| cache.get(digest, None))).await;
    assert!(paths.into_iter().all(|path| path.is_ok()));
}

#[tokio::test(start_paused = true)]
async fn patience_ends() {
    let tries = std::cell::Cell::new(0);
    let result: Result<(), _> = patiently(Duration::from_secs(60), || {
        tries.set(tries.get() + 1);
        async { Err(ceteris_blob::Error::StoreFull { place: "store".to_owned(), operation: "storing".to_owned() }) }
    })
    .await;
    assert!(result.is_err());
    assert!((5..30).contains(&tries.get()), "{} tries in a minute", tries.get());
}

/// Stores so many bytes of `seed`; returns their digest.
async fn put(cache: &Cache, seed: u8, bytes: usize) -> Digest {
    cache.blobs().put_bytes(&vec![seed; bytes]).await.expect("it is stored")
}

fn here(cache: &Cache) -> Vec<Digest> {
    let mut files = folder::list(&cache.kept.folder).expect("it lists");
    files.sort_by_key(|file| file.used);
    files.into_iter().map(|file| file.digest).collect()
}

/// File times may be coarse.
async fn later() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

#[tokio::test]
async fn what_was_not_used_for_longest_goes_first_and_nothing_that_is_used() {
    let (_folder, cache) = cache_of(350).await;
    let mut digests = Vec::new();
    for seed in 0..3 {
        digests.push(put(&cache, seed, 100).await);
        cache.get(digests[seed as usize], Some(100)).await.expect("it is fetched");
        later().await;
    }
    let [first, second, third] = digests[..] else { panic!("three") };
    assert_eq!(here(&cache), [first, second, third]);
    drop(cache.get(first, Some(100)).await.expect("it is here"));
    later().await;
    let held = cache.get(second, None).await.expect("it is here");
    later().await;

    // Room is made for what has a length before it is fetched, for what has none after.
    let fourth = put(&cache, 3, 100).await;
    cache.get(fourth, Some(100)).await.expect("it is fetched");
    assert_eq!(here(&cache), [first, second, fourth]);
    later().await;
    let fifth = put(&cache, 4, 300).await;
    let fifth_held = cache.get(fifth, None).await.expect("it is fetched");
    assert_eq!(here(&cache), [second, fifth], "what is used stays, though there is more than the limit");
    assert!(held.path().exists());

    drop((held, fifth_held));
    let sixth = put(&cache, 5, 40).await;
    cache.get(sixth, Some(40)).await.expect("it is fetched");
    assert_eq!(here(&cache), [fifth, sixth]);
}

#[tokio::test]
async fn the_order_survives_a_restart_and_what_is_unfinished_does_not() {
    let (folder, cache) = cache_of(1000).await;
    let (first, second) = (put(&cache, 1, 100).await, put(&cache, 2, 100).await);
    for digest in [first, second, first] {
        cache.get(digest, None).await.expect("it is there");
        later().await;
    }
    let files = folder.path().join("cache");
    std::fs::write(files.join(".fetch-1234"), b"half").expect("it is written");
    let again = Cache::open(files.clone(), 150, cache.blobs().clone(), Duration::ZERO).await.expect("it opens");
    assert_eq!(here(&again), [first]);
    assert!(!files.join(".fetch-1234").exists());
}

#[tokio::test]
async fn a_second_name_outlives_the_cached_file() {
    let (folder, cache) = cache_of(0).await;
    let digest = put(&cache, 1, 100).await;
    let name = folder.path().join("name");
    cache.link(digest, 100, &name).await.expect("it is fetched");
    let other = put(&cache, 2, 100).await;
    drop(cache.get(other, Some(100)).await.expect("it is fetched"));
    assert_eq!(here(&cache), [other], "with no room at all only what came last is here");
    assert_eq!(std::fs::read(&name).expect("it reads"), [1; 100]);
    let (wrong, to) = (cache.link(digest, 99, &folder.path().join("wrong")).await, folder.path().join("wrong"));
    assert!(matches!(wrong, Err(Error::Length { .. })) && !to.exists());
}

#[tokio::test]
async fn what_is_stored_from_here_need_not_be_fetched() {
    let (folder, cache) = cache().await;
    let written = folder.path().join("written");
    std::fs::write(&written, b"weights").expect("it is written");
    let digest = Digest::of(b"weights");
    cache.adopt(digest, &written).await;
    cache.adopt(digest, &written).await;
    std::fs::remove_file(&written).expect("the trainer's folder goes");
    let held = cache.get(digest, Some(7)).await.expect("it is here, though no store has it");
    cache.forget(vec![digest]).await;
    assert_eq!(here(&cache), [digest], "it is used");
    drop(held);
    cache.forget(vec![digest]).await;
    assert_eq!(here(&cache), []);
    assert!(cache.busy.lock().expect("no panic holds it").is_empty(), "nothing is remembered of what is gone");
}
