//! What is refused before a step is made, with who must act and what is wrong.

mod common;

use std::{fs, path::Path, sync::LazyLock};

use ceteris_shared::{
    architecture::Arch,
    dataset::Split,
    plan::EpochWork,
    spec::Trainable,
    trainer::{FailureCause, Start},
};
use ceteris_train::{
    model::random,
    tensors::{Contents, HostTensor, StateDict},
};
use common::{checkpoint, dataset, epoch, epochs, request, small_dataset, train};

/// Weights that fit.
static INITIAL: LazyLock<StateDict> = LazyLock::new(|| random(Arch::Densenet121, 3, 2));

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn two_stages() -> Vec<EpochWork> {
    vec![epoch(1, Trainable::Head, true), epoch(2, Trainable::Denseblock4, true)]
}

/// What training from `state` says, after `spoil` was applied to it or to its bytes.
fn refusal(folder: &Path, spoil: impl FnOnce(&mut StateDict) -> Option<Vec<u8>>) -> (FailureCause, String) {
    let data = small_dataset(&folder.join("data"));
    let mut state = INITIAL.clone();
    let file = folder.join("weights.safetensors");
    match spoil(&mut state) {
        Some(bytes) => fs::write(&file, bytes).unwrap(),
        None => Contents { tensors: state, step: None }.write(&file).unwrap(),
    }
    let mut request = request(&folder.join("out"), &data, vec![epoch(1, Trainable::Head, true)]);
    request.start = Start::Weights { file };
    let error = train(&request).unwrap_err();
    (error.cause(), error.to_string().replace(&folder.display().to_string(), ""))
}

#[test]
fn weights_that_do_not_fit_are_refused_by_name() {
    let folder = folder();
    let whole = Contents { tensors: INITIAL.clone(), step: None }.to_bytes();
    let conv0 = "features.conv0.weight";
    type Spoil<'a> = Box<dyn FnOnce(&mut StateDict) -> Option<Vec<u8>> + 'a>;
    let cases: Vec<(&str, Spoil)> = vec![
        ("tensor features.conv0.weight is missing", Box::new(|s| s.0.remove(conv0).and(None))),
        (
            "tensor features.conv0.weight has shape [1]; the network's is [64, 3, 7, 7]",
            Box::new(|s| s.0.insert(conv0.to_owned(), HostTensor { shape: vec![1], values: vec![0.0] }).and(None)),
        ),
        (
            "tensor features.conv0.weight holds a value that is not a finite number",
            Box::new(|s| {
                s.0.get_mut(conv0)?.values[5] = f32::NAN;
                None
            }),
        ),
        (
            "tensor features.extra is none of the network's",
            Box::new(|s| {
                let extra = HostTensor { shape: vec![0], values: vec![] };
                s.0.insert("features.extra".to_owned(), extra).and(None)
            }),
        ),
        ("not a safetensors file", Box::new(|_| Some(Vec::new()))),
        ("not a safetensors file", Box::new(|_| Some(b"PK\x03\x04 a zip, as .pth files are".to_vec()))),
        ("not a safetensors file", Box::new(|_| Some(whole[..whole.len() / 2].to_vec()))),
        ("not a safetensors file", Box::new(|_| Some(u64::MAX.to_le_bytes().to_vec()))),
        (
            "tensor features.conv0.weight is F16 of shape [1], not 32-bit floating point; import the weights again",
            Box::new(|_| {
                let header = br#"{"features.conv0.weight":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}"#;
                Some([&(header.len() as u64).to_le_bytes()[..], header, &[0, 0]].concat())
            }),
        ),
    ];
    for (expected, spoil) in cases {
        let (cause, message) = refusal(folder.path(), spoil);
        assert_eq!(cause, FailureCause::User, "{message}");
        assert!(message.starts_with("initial weights: ") && message.contains(expected), "{message}");
    }
}

#[test]
fn inputs_that_do_not_fit_are_refused_before_training() {
    let folder = folder();
    let none = dataset(&folder.path().join("none"), [(Split::Train, 0), (Split::Val, 1), (Split::Test, 0)]);
    let error = train(&request(&folder.path().join("a"), &none, two_stages())).unwrap_err();
    assert_eq!(
        (error.cause(), error.to_string().contains("no training sample")),
        (FailureCause::User, true),
        "{error}"
    );

    let data = small_dataset(&folder.path().join("data"));
    let mut single = request(&folder.path().join("b"), &data, two_stages());
    single.work.batch_size = 1;
    let error = train(&single).unwrap_err();
    assert_eq!((error.cause(), error.to_string().contains("BatchNorm")), (FailureCause::User, true), "{error}");

    fs::write(&data.shards[0], b"short").unwrap();
    let error = train(&request(&folder.path().join("c"), &data, two_stages())).unwrap_err();
    assert_eq!(error.cause(), FailureCause::Infrastructure, "{error}");

    fs::remove_file(&data.shards[0]).unwrap();
    let error = train(&request(&folder.path().join("d"), &data, two_stages())).unwrap_err();
    assert_eq!(error.cause(), FailureCause::Infrastructure, "{error}");

    fs::write(&data.manifest, b"{").unwrap();
    let error = train(&request(&folder.path().join("e"), &data, two_stages())).unwrap_err();
    assert_eq!(error.cause(), FailureCause::User, "{error}");
}

#[test]
fn a_checkpoint_of_another_boundary_is_refused_where_the_optimizer_goes_on() {
    let folder = folder();
    let data = small_dataset(&folder.path().join("data"));
    let (_, reports) = train(&request(&folder.path().join("a"), &data, vec![epoch(1, Trainable::Head, true)])).unwrap();
    let mut next = request(&folder.path().join("b"), &data, vec![epoch(2, Trainable::Denseblock4, false)]);
    next.start = checkpoint(epochs(&reports)[0]);
    let error = train(&next).unwrap_err();
    assert_eq!(error.cause(), FailureCause::Infrastructure);
    assert!(error.to_string().contains(".moment1 is missing"), "{error}");
}
