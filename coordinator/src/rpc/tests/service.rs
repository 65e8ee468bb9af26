//! What the service stores, names, plans and refuses, without a worker.

use ceteris_proto::{BLOB_CHUNK_BYTES, v1};
use ceteris_shared::{
    digest::Digest,
    document::{Datasets, Experiment, Experiments, Explanation, PinState, Plan, State, Weights, Workers},
    spec::Arch,
};
use tonic::{Code, Status};

use super::harness::{Client, Coordinator, dataset, read, spec, submission};

fn upload(digest: Digest, announced: u64, bytes: &[u8]) -> Vec<v1::BlobChunk> {
    let head = v1::BlobChunk { digest: digest.to_string(), bytes: announced, data: Vec::new() };
    let chunk = |part: &[u8]| v1::BlobChunk { data: part.to_vec(), ..Default::default() };
    std::iter::once(head).chain(bytes.chunks(BLOB_CHUNK_BYTES).map(chunk)).collect()
}

async fn put(client: &mut Client, chunks: Vec<v1::BlobChunk>) -> Result<bool, Status> {
    Ok(client.put_blob(tokio_stream::iter(chunks)).await?.into_inner().existed)
}

async fn get(client: &mut Client, digest: Digest) -> Result<Vec<u8>, Status> {
    let mut chunks = client.get_blob(v1::GetBlobRequest { digest: digest.to_string() }).await?.into_inner();
    let head = chunks.message().await?.expect("a first message");
    assert_eq!(head.digest, digest.to_string());
    let mut bytes = head.data;
    while let Some(chunk) = chunks.message().await? {
        bytes.extend(chunk.data);
    }
    assert_eq!(bytes.len() as u64, head.bytes);
    Ok(bytes)
}

#[tokio::test]
async fn an_object_goes_up_and_comes_down() {
    let mut coordinator = Coordinator::start().await;
    let client = &mut coordinator.client;
    let bytes: Vec<u8> = (0..20 * BLOB_CHUNK_BYTES + 17).map(|index| (index % 251) as u8).collect();
    let digest = Digest::of(&bytes);
    let whole = || upload(digest, bytes.len() as u64, &bytes);
    assert!(!put(client, whole()).await.expect("stored"));
    assert!(put(client, whole()).await.expect("stored already"));
    assert!(get(client, digest).await.expect("stored") == bytes);
    let empty = Digest::of(b"");
    assert!(!put(client, upload(empty, 0, b"")).await.expect("stored"));
    assert_eq!(get(client, empty).await.expect("stored"), b"");
    coordinator.stop().await;
}

#[tokio::test]
async fn an_object_that_is_not_what_was_announced_does_not_count() {
    let mut coordinator = Coordinator::start().await;
    let client = &mut coordinator.client;
    let bytes = b"what is sent";
    let (right, wrong) = (Digest::of(bytes), Digest::of(b"something else"));
    let length = bytes.len() as u64;
    let nameless = vec![v1::BlobChunk { digest: "../../etc/passwd".to_owned(), ..Default::default() }];
    let refused = [
        upload(wrong, length, bytes),
        upload(right, length + 1, bytes),
        upload(right, length - 1, bytes),
        upload(right, u64::MAX, bytes),
        nameless,
        Vec::new(),
    ];
    for (index, chunks) in refused.into_iter().enumerate() {
        let status = put(client, chunks).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{index}: {status}");
    }
    for digest in [right, wrong] {
        assert_eq!(get(client, digest).await.expect_err("not stored").code(), Code::NotFound);
    }
    coordinator.stop().await;
}

#[tokio::test]
async fn a_data_set_is_named_once_and_only_if_all_of_it_is_there() {
    let mut coordinator = Coordinator::start().await;
    let (manifest, shard) = dataset();
    let register =
        |name: &str, digest: Digest| v1::RegisterDatasetRequest { name: name.to_owned(), manifest: digest.to_string() };
    let digest = coordinator.blobs.put_bytes(&manifest.to_bytes()).await.expect("stored");
    let garbage = coordinator.blobs.put_bytes(b"{}").await.expect("stored");
    let client = &mut coordinator.client;
    let status = client.register_dataset(register("chest", digest)).await.expect_err("the shard is missing");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("is not stored") && status.message().contains("\nhelp: "), "{status}");
    coordinator.blobs.put_bytes(&shard).await.expect("stored");
    for bad in
        [register("chest", garbage), register("a b", digest), register("", digest), register(&"x".repeat(300), digest)]
    {
        let status = client.register_dataset(bad.clone()).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{bad:?}: {status}");
    }
    let unknown = client.register_dataset(register("chest", Digest::of(b"?"))).await.expect_err("unknown");
    assert_eq!(unknown.code(), Code::NotFound);

    let first: Datasets = read(client.register_dataset(register("chest", digest)).await.expect("named").into_inner());
    let again: Datasets =
        read(client.register_dataset(register("chest", digest)).await.expect("the same").into_inner());
    assert_eq!(first, again);
    let named = &first.datasets[0];
    assert_eq!((named.samples, named.patients, named.bytes), (24, Some(12), 24 * 1024));
    assert_eq!(named.counts[&ceteris_shared::dataset::Split::Val]["PNEUMONIA"], 4);

    let mut other = manifest;
    other.samples[0].patient = None;
    let other = coordinator.blobs.put_bytes(&other.to_bytes()).await.expect("stored");
    let taken = client.register_dataset(register("chest", other)).await.expect_err("taken");
    assert_eq!(taken.code(), Code::AlreadyExists, "{taken}");
    assert!(taken.message().contains("choose another name"), "{taken}");
    let shown = client.show_dataset(v1::ShowDatasetRequest { name: "chest".to_owned() }).await.expect("named");
    assert_eq!(shown.into_inner().manifest, digest.to_string());
    coordinator.stop().await;
}

#[tokio::test]
async fn weights_are_named_like_data_sets() {
    let mut coordinator = Coordinator::start().await;
    let digest = coordinator.blobs.put_bytes(b"weights").await.expect("stored");
    let client = &mut coordinator.client;
    let register = |name: &str, digest: Digest, arch: &str| v1::RegisterWeightsRequest {
        name: name.to_owned(),
        digest: digest.to_string(),
        arch: arch.to_owned(),
    };
    for bad in [
        register("random", digest, "densenet121"),
        register("imagenet", digest, "vgg16"),
        register("imagenet", Digest::of(b"?"), "densenet121"),
    ] {
        let status = client.register_weights(bad.clone()).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{bad:?}: {status}");
    }
    let good = register("imagenet", digest, "densenet121");
    client.register_weights(good).await.expect("named");
    client.register_weights(register("imagenet-resnet", digest, "resnet50")).await.expect("named");
    let all: Weights = read(client.list_weights(v1::ListWeightsRequest {}).await.expect("listed").into_inner());
    assert_eq!(
        all.weights.iter().map(|entry| (entry.name.as_str(), entry.digest, entry.arch)).collect::<Vec<_>>(),
        [("imagenet", digest, Arch::Densenet121), ("imagenet-resnet", digest, Arch::Resnet50)]
    );
    coordinator.import("chest").await;
    let with = |name: &str| {
        let spec = spec("e").replace("\"random\"", &format!("\"{name}\""));
        v1::PlanRequest { spec: submission(&spec).spec }
    };
    let client = &mut coordinator.client;
    client.plan(with("imagenet")).await.expect("of the same network");
    let status = client.plan(with("imagenet-resnet")).await.expect_err("of another network");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("resnet50's, and `model.arch` is densenet121"), "{status}");
    coordinator.stop().await;
}

#[tokio::test]
async fn names_are_pinned_and_unknown_ones_bring_the_known() {
    let mut coordinator = Coordinator::start().await;
    let digest = coordinator.import("chest").await;
    let client = &mut coordinator.client;
    let plan = |spec: &str| v1::PlanRequest { spec: submission(spec).spec };
    let planned: Plan = read(client.plan(plan(&spec("e"))).await.expect("planned").into_inner());
    assert_eq!((planned.runs, planned.epochs_asked, planned.epochs_to_train), (4, 8, 6));
    assert!(matches!(planned.pins, PinState::Pinned(pinned) if pinned.dataset == digest));

    let misspelled = spec("e").replace("\"chest\"", "\"chset\"");
    let status = client.plan(plan(&misspelled)).await.expect_err("unknown");
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("did you mean \"chest\"?"), "{status}");
    let weights = spec("e").replace("\"random\"", "\"imagenet\"");
    let status = client.plan(plan(&weights)).await.expect_err("unknown");
    assert!(status.message().contains("nothing is imported yet"), "{status}");
    let size = spec("e").replace("\"chest\"", "\"chest\"\ndata.image_size = 224");
    assert_eq!(client.plan(plan(&size)).await.expect_err("refused").code(), Code::InvalidArgument);
    let valid = submission(&spec("e")).spec;
    let refused = ["{".to_owned(), "{}".to_owned(), valid.replace("\"epochs\":2", "\"epochs\":3"), "x".repeat(2 << 20)];
    for bad in refused {
        let status = client.plan(v1::PlanRequest { spec: bad }).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    coordinator.stop().await;
}

#[tokio::test]
async fn a_split_that_is_too_small_is_refused_unless_that_is_accepted() {
    let mut coordinator = Coordinator::start().await;
    coordinator.import("chest").await;
    let client = &mut coordinator.client;
    let accepting = spec("e");
    let small = accepting.replace(", accept_small_splits = true", "");
    let plan = |spec: &str| v1::PlanRequest { spec: submission(spec).spec };
    let planned = client.plan(plan(&small)).await.expect_err("four images of each class");
    let submitted = client.submit(submission(&small)).await.expect_err("four images of each class");
    assert_eq!((planned.code(), submitted.code()), (Code::InvalidArgument, Code::InvalidArgument));
    assert_eq!(planned.message(), submitted.message());
    insta::assert_snapshot!(planned.message(), @r#"
    endpoint.threshold: the val split of "chest" has 4 NORMAL and 4 PNEUMONIA images: one image is 25 points of sensitivity, too coarse to choose a threshold on; it takes 20 of each class
    help: 12 NORMAL and 12 PNEUMONIA images in all are too few to share out: add some and import them again under another name; to go on all the same, write accept_small_splits = true in [endpoint]
    "#);
    let fixed = small.replace("\"youden\"", "0.5");
    let judged = client.plan(plan(&fixed)).await.expect_err("judged on four images of each class");
    assert!(judged.message().starts_with("endpoint.metric: the test split"), "{judged}");

    client.plan(plan(&accepting)).await.expect("accepted");
    let known: Experiment = read(client.submit(submission(&accepting)).await.expect("accepted").into_inner());
    // What was submitted before there was this rule can be extended all the same.
    let extension =
        small.replace("budget.epochs = 2", &format!("budget = {{ epochs = 2, extends = \"{}\" }}", known.id));
    client.plan(plan(&extension)).await.expect("an extension");
    coordinator.stop().await;
}

#[tokio::test]
async fn an_experiment_is_submitted_once_found_by_any_reference_and_cancelled() {
    let mut coordinator = Coordinator::start().await;
    coordinator.import("chest").await;
    let client = &mut coordinator.client;
    let request = submission(&spec("first"));
    let submitted: Experiment = read(client.submit(request.clone()).await.expect("submitted").into_inner());
    let again: Experiment = read(client.submit(request.clone()).await.expect("the same").into_inner());
    assert_eq!(submitted, again);
    assert_eq!((submitted.state, submitted.epochs_to_train), (State::Queued, 6));
    let other = v1::SubmitRequest { spec: submission(&spec("second")).spec, ..request.clone() };
    assert_eq!(client.submit(other).await.expect_err("another spec").code(), Code::AlreadyExists);
    let nameless = v1::SubmitRequest { experiment: "e1".to_owned(), ..request };
    assert_eq!(client.submit(nameless).await.expect_err("no UUID").code(), Code::InvalidArgument);

    let reference = |text: &str| v1::ExperimentRequest { experiment: text.to_owned() };
    let id = submitted.id.to_string();
    for text in [id.as_str(), &id[..8], "first"] {
        let shown: Experiment = read(client.show_experiment(reference(text)).await.expect("found").into_inner());
        assert_eq!(shown, submitted, "{text}");
    }
    for text in ["", "nothing", &"x".repeat(300)] {
        let status = client.show_experiment(reference(text)).await.expect_err("not found");
        assert!(matches!(status.code(), Code::NotFound | Code::InvalidArgument), "{status}");
    }
    let run = submitted.arms[1].runs[0].run.to_string();
    let why = client.explain_run(v1::RunRequest { run: run[..8].to_owned() }).await.expect("explained");
    let why: Explanation = read(why.into_inner());
    assert!(why.text.contains("no worker is connected"), "{}", why.text);
    let workers: Workers = read(client.list_workers(v1::ListWorkersRequest {}).await.expect("listed").into_inner());
    assert!(workers.workers.is_empty());

    let mut watched = client.watch_experiment(reference("first")).await.expect("watched").into_inner();
    let before: Experiment = read(watched.message().await.expect("open").expect("a first look"));
    assert_eq!(before, submitted);
    let cancelled: Experiment = read(client.cancel_experiment(reference(&id)).await.expect("cancelled").into_inner());
    assert_eq!(cancelled.state, State::Cancelled);
    let after: Experiment = read(watched.message().await.expect("open").expect("the change"));
    assert_eq!(after, cancelled);
    assert!(watched.message().await.expect("an orderly end").is_none(), "watching ends with the experiment");
    let all: Experiments =
        read(client.list_experiments(v1::ListExperimentsRequest {}).await.expect("listed").into_inner());
    assert_eq!(
        all.experiments.iter().map(|row| (row.id, row.state)).collect::<Vec<_>>(),
        [(submitted.id, State::Cancelled)]
    );
    coordinator.stop().await;
}

#[tokio::test]
async fn a_watcher_is_told_that_the_coordinator_goes_away() {
    let mut coordinator = Coordinator::start().await;
    coordinator.import("chest").await;
    let submitted = coordinator.submit(&spec("e")).await;
    let request = v1::ExperimentRequest { experiment: submitted.id.to_string() };
    let mut watched = coordinator.client.watch_experiment(request).await.expect("watched").into_inner();
    watched.message().await.expect("open").expect("a first look");
    let end = tokio::spawn(async move { watched.message().await });
    coordinator.stop().await;
    assert_eq!(end.await.expect("no panic").expect_err("gone").code(), Code::Unavailable);
}
