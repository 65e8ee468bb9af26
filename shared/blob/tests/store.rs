//! The store's contract, on a folder, and on an S3-compatible server where `CETERIS_TEST_S3_URL` names one
//! (`s3://BUCKET/PREFIX`, with the `AWS_…` variables); and what an opening refuses.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use ceteris_blob::{Blobs, Error, Listed};
use ceteris_shared::digest::Digest;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{ObjectStoreExt as _, aws::AmazonS3Builder};

/// Bytes that no compression or dedup makes smaller, more than one multipart part of them.
fn large() -> Vec<u8> {
    (0..20_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn object_path(store: &Path, digest: &Digest) -> PathBuf {
    let name = digest.to_string();
    store.join("blobs/sha256").join(&name[..2]).join(name)
}

/// What every kind of store must do.
async fn contract(place: &str) {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let blobs = Blobs::open(place).await.expect("the store opens");
    let again = Blobs::open(place).await.expect("the store opens again");
    assert_eq!(blobs.store_id(), again.store_id());

    for bytes in [Vec::new(), b"small".to_vec(), large()] {
        let digest = Digest::of(&bytes);
        let file = scratch.path().join("in");
        std::fs::write(&file, &bytes).expect("a file is written");
        assert!(matches!(blobs.put_file(&file, Some(Digest::of(b"other"))).await, Err(Error::Mismatch(_))));
        for _ in 0..2 {
            assert_eq!(blobs.put_file(&file, None).await.expect("it is stored"), (digest, bytes.len() as u64));
        }
        assert_eq!(blobs.size(&digest).await.expect("it is found"), Some(bytes.len() as u64));
        let out = scratch.path().join("out");
        blobs.fetch(&digest, &out).await.expect("it is fetched");
        assert_eq!(Digest::of(&std::fs::read(&out).expect("the file is there")), digest);
        let pieces: Vec<Bytes> =
            again.read_stream(&digest).await.expect("it opens").try_collect().await.expect("it reads");
        assert_eq!(pieces.concat().len(), bytes.len());
    }

    let absent = Digest::of(b"never stored");
    assert!(!blobs.exists(&absent).await.expect("the store answers"));
    assert!(matches!(blobs.get_bytes(&absent, 10).await, Err(Error::NotFound { .. })));
    let small = blobs.put_bytes(b"small").await.expect("it is stored already");
    assert!(matches!(blobs.get_bytes(&small, 4).await, Err(Error::TooLarge { bytes: 5, limit: 4, .. })));
    assert_eq!(blobs.get_bytes(&small, 5).await.expect("it is read"), b"small");

    unverified_bytes_never_become_visible(&blobs).await;
    a_name_is_given_once(&blobs, &again).await;
    everything_is_listed_and_can_be_taken_out(&blobs).await;
}

/// More objects than an S3 server lists at once.
async fn everything_is_listed_and_can_be_taken_out(blobs: &Blobs) {
    let listed = async || {
        let all: Vec<Listed> = blobs.list().try_collect().await.expect("the store lists");
        all.into_iter().map(|object| (object.digest, object.bytes)).collect::<BTreeMap<_, _>>()
    };
    let before = listed().await;
    assert!(before.contains_key(&Digest::of(b"small")));
    let put = |number: u32| async move { blobs.put_bytes(format!("object {number:04}").as_bytes()).await };
    let more: Vec<Digest> = stream::iter(0..1100).map(put).buffered(16).try_collect().await.expect("they are stored");
    let after = listed().await;
    assert_eq!(after.len(), before.len() + 1100);
    assert!(more.iter().all(|digest| after.get(digest) == Some(&11)));
    let remove = |digest: Digest| async move { blobs.remove(&digest).await };
    stream::iter(more.clone()).map(remove).buffered(16).try_collect::<Vec<()>>().await.expect("they are deleted");
    blobs.remove(&more[0]).await.expect("what is gone is gone");
    assert_eq!(listed().await, before);
    assert_eq!(blobs.named("features").await.expect("they are listed").len(), 2);
    assert!(blobs.named("nothing").await.expect("there are none").is_empty());
}

async fn a_name_is_given_once(blobs: &Blobs, again: &Blobs) {
    let [first, second] = [Digest::of(b"first"), Digest::of(b"second")];
    let name = &"0123456789abcdef".repeat(4);
    assert_eq!(blobs.get_name("features", name).await.expect("the store answers"), None);
    assert_eq!(blobs.put_name("features", name, first).await.expect("it is new"), first);
    assert_eq!(again.put_name("features", name, first).await.expect("it is the same"), first);
    assert_eq!(again.put_name("features", name, second).await.expect("it is taken"), first);
    assert_eq!(again.get_name("features", name).await.expect("the store answers"), Some(first));
    assert_eq!(again.get_name("others", name).await.expect("the store answers"), None);
    let contenders = [Digest::of(b"3"), Digest::of(b"4"), Digest::of(b"5"), Digest::of(b"6")];
    let given = contenders.map(|digest| blobs.put_name("features", "contended", digest));
    let given = futures::future::try_join_all(given).await.expect("one of them is first");
    assert!(contenders.contains(&given[0]) && given.iter().all(|digest| *digest == given[0]), "{given:?}");
}

async fn unverified_bytes_never_become_visible(blobs: &Blobs) {
    for (announced, length) in [(b"announced".to_vec(), 9), (vec![7; 10_000_000], 10_000_000)] {
        let digest = Digest::of(&announced);
        let mut other = announced.clone();
        other[0] ^= 1;
        let mut writer = blobs.writer(digest, length).await.expect("the store answers").expect("it is not there");
        writer.write(other.into()).await.expect("as long as announced");
        assert!(matches!(writer.finish().await, Err(Error::Mismatch(_))));

        let mut writer = blobs.writer(digest, length).await.expect("the store answers").expect("it is not there");
        writer.write(announced.clone().into()).await.expect("as long as announced");
        assert!(matches!(writer.write(Bytes::from_static(b"x")).await, Err(Error::Mismatch(_))));

        let writer = blobs.writer(digest, length).await.expect("the store answers").expect("it is not there");
        assert!(matches!(writer.finish().await, Err(Error::Mismatch(_))));
        assert!(!blobs.exists(&digest).await.expect("the store answers"));
    }
}

#[tokio::test]
async fn a_folder_keeps_the_contract() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = folder.path().join("made/when/absent");
    contract(&format!("file://{}", place.display())).await;
    let left: Vec<_> = std::fs::read_dir(place.join("probe")).expect("the probe's folder").collect();
    assert!(left.is_empty(), "the probe deletes what it wrote: {left:?}");
}

#[tokio::test]
async fn an_s3_server_keeps_the_contract() {
    let Ok(place) = std::env::var("CETERIS_TEST_S3_URL") else {
        eprintln!("skipped: an_s3_server_keeps_the_contract needs CETERIS_TEST_S3_URL");
        return;
    };
    let unique = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    let place = format!("{}/contract-{unique}", place.trim_end_matches('/'));
    contract(&place).await;

    // What is damaged behind the store's back.
    let blobs = Blobs::open(&place).await.expect("it opens");
    let digest = blobs.put_bytes(b"pixels").await.expect("it is stored");
    let (bucket, prefix) =
        place.strip_prefix("s3://").and_then(|rest| rest.split_once('/')).expect("a bucket and a prefix");
    let s3 = AmazonS3Builder::from_env().with_bucket_name(bucket).with_allow_http(true).build().expect("a client");
    let name = digest.to_string();
    let key = format!("{prefix}/blobs/sha256/{}/{name}", &name[..2]);
    s3.put(&key.as_str().into(), "pixelz".into()).await.expect("it is damaged");
    assert!(matches!(blobs.verify(&digest).await, Err(Error::Corrupt { .. })));
    assert!(blobs.set_aside(&digest).await.expect("it is moved"));
    assert!(matches!(blobs.verify(&digest).await, Err(Error::NotFound { .. })));
    let aside: Vec<(Listed, String)> = blobs.list_aside().try_collect().await.expect("the store lists");
    assert_eq!(aside.iter().map(|(object, _)| object.digest).collect::<Vec<_>>(), [digest]);
    blobs.remove_aside(&aside[0].1).await.expect("it is deleted");
    blobs.put_bytes(b"pixels").await.expect("it is stored again");
    assert_eq!(blobs.verify(&digest).await.expect("it is whole"), 6);
}

#[tokio::test]
async fn one_of_many_first_openings_names_the_store() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = folder.path().to_string_lossy().into_owned();
    let opened = futures::future::join_all((0..8).map(|_| Blobs::open(&place))).await;
    let mut ids: Vec<String> = opened.into_iter().map(|blobs| blobs.expect("it opens").store_id()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn a_damaged_object_is_named_and_leaves_no_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let blobs = Blobs::open(&folder.path().to_string_lossy()).await.expect("it opens");
    let digest = blobs.put_bytes(b"pixels").await.expect("it is stored");
    std::fs::write(object_path(folder.path(), &digest), b"pixelz").expect("it is damaged");

    let out = tempfile::tempdir().expect("a temporary folder");
    let message = blobs.fetch(&digest, &out.path().join("shard")).await.expect_err("it is damaged").to_string();
    assert!(message.contains(&digest.to_string()) && message.contains("damaged"), "{message}");
    assert_eq!(std::fs::read_dir(out.path()).expect("it can be listed").count(), 0);
    assert!(matches!(blobs.get_bytes(&digest, 100).await, Err(Error::Corrupt { .. })));
    let stream: Result<Vec<Bytes>, _> = blobs.read_stream(&digest).await.expect("it opens").try_collect().await;
    assert!(matches!(stream, Err(Error::Corrupt { .. })));

    std::fs::write(object_path(folder.path(), &digest), b"pix").expect("it is cut");
    blobs.put_bytes(b"pixels").await.expect("a cut object is set aside, and the whole one stored");
    assert_eq!(blobs.get_bytes(&digest, 100).await.expect("it is whole"), b"pixels");
}

#[tokio::test]
async fn what_is_damaged_is_set_aside_and_what_is_whole_stays() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let blobs = Blobs::open(&folder.path().to_string_lossy()).await.expect("it opens");
    let digest = blobs.put_bytes(b"pixels").await.expect("it is stored");
    assert!(!blobs.set_aside(&digest).await.expect("it is whole"));
    assert_eq!(blobs.verify(&digest).await.expect("it is there"), 6);
    std::fs::write(object_path(folder.path(), &digest), b"pixelz").expect("it is damaged");
    assert!(blobs.set_aside(&digest).await.expect("it is moved"));
    assert!(!blobs.set_aside(&digest).await.expect("there is nothing left to move"));
    assert!(matches!(blobs.verify(&digest).await, Err(Error::NotFound { .. })));
    let aside = std::fs::read_dir(folder.path().join("damaged/sha256")).expect("it is kept");
    let kept: Vec<_> = aside.map(|entry| entry.expect("it is listed").path()).collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(std::fs::read(&kept[0]).expect("it reads"), b"pixelz");
    blobs.put_bytes(b"pixels").await.expect("it is stored again");
    assert_eq!(blobs.get_bytes(&digest, 100).await.expect("it is whole"), b"pixels");
}

#[tokio::test]
async fn every_flipped_bit_is_seen_by_every_way_to_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let blobs = Blobs::open(&folder.path().to_string_lossy()).await.expect("it opens");
    let bytes: Vec<u8> = (0..64).map(|byte| byte * 3).collect();
    let digest = blobs.put_bytes(&bytes).await.expect("it is stored");
    let out = tempfile::tempdir().expect("a temporary folder");
    for bit in 0..8 * bytes.len() {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(object_path(folder.path(), &digest), &flipped).expect("it is damaged");
        let stream: Result<Vec<Bytes>, _> = blobs.read_stream(&digest).await.expect("it opens").try_collect().await;
        assert!(matches!(stream, Err(Error::Corrupt { .. })), "bit {bit}");
        if bit % 64 == 0 {
            assert!(matches!(blobs.get_bytes(&digest, 100).await, Err(Error::Corrupt { .. })), "bit {bit}");
            assert!(blobs.fetch(&digest, &out.path().join("part")).await.is_err(), "bit {bit}");
        }
    }
    assert_eq!(std::fs::read_dir(out.path()).expect("it can be listed").count(), 0);
    std::fs::write(object_path(folder.path(), &digest), &bytes).expect("it is whole again");
    assert_eq!(blobs.get_bytes(&digest, 100).await.expect("it is whole"), bytes);
}

#[tokio::test]
async fn what_is_no_name_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let blobs = Blobs::open(&folder.path().to_string_lossy()).await.expect("it opens");
    let digest = Digest::of(b"object");
    let long = "a".repeat(129);
    for bad in ["", ".", "..", "a/b", "a\\b", "A", "ä", "a b", "a\n", "%2e", &long] {
        for (namespace, name) in [(bad, "name"), ("features", bad)] {
            assert!(matches!(blobs.put_name(namespace, name, digest).await, Err(Error::BadName(_))), "{bad:?}");
            assert!(matches!(blobs.get_name(namespace, name).await, Err(Error::BadName(_))), "{bad:?}");
        }
    }

    blobs.put_name("features", "name", digest).await.expect("it is new");
    let file = folder.path().join("names/features/name");
    assert_eq!(std::fs::read_to_string(&file).expect("it reads"), format!("{digest}\n"));
    for damage in [&b""[..], b"abc", b"\xff", &[b'a'; 500], format!("{digest}\n\n").as_bytes()] {
        std::fs::write(&file, damage).expect("it is damaged");
        let message = blobs.get_name("features", "name").await.expect_err("it is damaged").to_string();
        assert!(message.contains("names/features/name") && message.contains("delete it there"), "{message}");
        let again = blobs.put_name("features", "name", digest).await;
        assert!(matches!(again, Err(Error::DamagedName { .. })), "{again:?}");
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_refused() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let error = Blobs::open(&file.path().join("store").to_string_lossy()).await.expect_err("a file is no folder");
    assert!(matches!(error, Error::NotWritable { .. }), "{error}");
    assert!(error.to_string().contains("choose another place"), "{error}");
}

#[tokio::test]
async fn a_foreign_store_document_is_refused() {
    for text in ["{", r#"{"schema":"other/1","id":"6f6a0d3e-4f5c-4a53-9f2c-8f6b0c9d1e2f"}"#, &" ".repeat(5000)] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("store.json"), text).expect("it is written");
        let result = Blobs::open(&folder.path().to_string_lossy()).await;
        assert!(matches!(result, Err(Error::NotOurs { .. })), "{result:?}");
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_leaves_nothing_half_done() {
    let Some(small) = std::env::var_os("CETERIS_TEST_SMALL_DISK") else {
        eprintln!(
            "skipped: a_full_disk_is_told_and_leaves_nothing_half_done needs CETERIS_TEST_SMALL_DISK, a folder with under 9 MB free"
        );
        return;
    };
    let small = tempfile::tempdir_in(small).expect("a temporary folder");
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let place = small.path().join("store").to_string_lossy().into_owned();
    let blobs = Blobs::open(&place).await.expect("there is room for the probe");
    for bytes in [vec![1; 8 << 20], large()] {
        let file = scratch.path().join("in");
        std::fs::write(&file, &bytes).expect("it is written");
        let error = blobs.put_file(&file, None).await.expect_err("there is no room");
        assert!(matches!(error, Error::StoreFull { .. }), "{error}");
        assert!(error.is_transient() && error.to_string().contains("free some space"), "{error}");
        assert!(!blobs.exists(&Digest::of(&bytes)).await.expect("the store answers"));
    }

    let roomy = Blobs::open(&scratch.path().join("store").to_string_lossy()).await.expect("it opens");
    let digest = roomy.put_bytes(&large()).await.expect("there is room");
    let error = roomy.fetch(&digest, &small.path().join("out")).await.expect_err("there is no room").to_string();
    assert!(error.contains("out") && error.contains("free some space"), "{error}");
    assert!(!small.path().join("out").exists());
    assert_eq!(blobs.put_bytes(b"small").await.expect("the room was given back"), Digest::of(b"small"));
}
