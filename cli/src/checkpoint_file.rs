//! A checkpoint as one safetensors file that torchvision's model, made with `num_classes=n`, loads with `strict=True`.
//!
//! A stored checkpoint keeps the frozen and the trained tensors in two files and leaves out `num_batches_tracked`,
//! which inference never reads; here the two are merged and the counters are put back as zeros.

use std::collections::{BTreeMap, HashMap};

use ceteris_shared::checkpoint::Manifest;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

/// Why the parts of a checkpoint make no weights file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("the checkpoint's {part} part is no safetensors file: {cause}")]
    Damaged { part: &'static str, cause: String },
    #[error("the checkpoint has the tensor {0:?} in both of its parts")]
    Repeated(String),
    #[error("the weights cannot be written: {0}")]
    Unwritable(String),
}

/// Merges the two parts. The same checkpoint gives the same bytes; the file's metadata say what it is.
///
/// # Errors
/// When a part is damaged, or when the two overlap.
pub fn merge(manifest: &Manifest, frozen: &[u8], trained: &[u8]) -> Result<Vec<u8>, Error> {
    let read = |part, bytes| {
        SafeTensors::deserialize(bytes).map_err(|error| Error::Damaged { part, cause: error.to_string() })
    };
    let parts = [read("frozen", frozen)?, read("trained", trained)?];
    let mut tensors: BTreeMap<String, TensorView<'_>> = BTreeMap::new();
    for (name, tensor) in parts.iter().flat_map(SafeTensors::iter) {
        if tensors.insert(name.to_owned(), tensor).is_some() {
            return Err(Error::Repeated(name.to_owned()));
        }
    }
    let norms: Vec<String> =
        tensors.keys().filter_map(|name| name.strip_suffix(".running_mean")).map(str::to_owned).collect();
    for norm in norms {
        let zero = TensorView::new(Dtype::I64, Vec::new(), &[0; 8]).expect("a scalar of eight bytes");
        tensors.entry(format!("{norm}.num_batches_tracked")).or_insert(zero);
    }
    // One entry only: the order of several would not be the same in every run.
    let about = serde_json::json!({
        "arch": manifest.arch, "classes": manifest.classes, "epoch": manifest.epoch, "lineage": manifest.key,
    });
    let metadata = HashMap::from([("ceteris".to_owned(), about.to_string())]);
    safetensors::serialize(tensors, Some(metadata)).map_err(|error| Error::Unwritable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use ceteris_shared::{
        checkpoint::{self, Environment},
        digest::Digest,
        ids::{Attempt, Epoch, SegmentId},
        lineage::LineageKey,
        spec::Arch,
    };

    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            schema: checkpoint::SCHEMA.to_owned(),
            key: LineageKey(Digest::of(b"key")),
            epoch: Epoch(2),
            step: None,
            attempt: Attempt { segment: SegmentId(uuid::Uuid::nil()), number: 1 },
            arch: Arch::Densenet121,
            classes: vec!["NORMAL".to_owned(), "PNEUMONIA".to_owned()],
            environment: Environment {
                engine: "1".to_owned(),
                libtorch: "2.9.0".to_owned(),
                device: "cpu".to_owned(),
                instructions: "AVX2".to_owned(),
                threads: 2,
                determinism: "default".to_owned(),
            },
            parts: Vec::new(),
        }
    }

    fn file(names: &[&str]) -> Vec<u8> {
        let tensor = || TensorView::new(Dtype::F32, vec![1], &[0, 0, 128, 63]).unwrap();
        safetensors::serialize(names.iter().map(|name| (*name, tensor())), None).unwrap()
    }

    #[test]
    fn parts_are_merged_and_counters_put_back() {
        let bytes = merge(
            &manifest(),
            &file(&["features.norm0.running_mean", "features.norm0.weight"]),
            &file(&["classifier.weight"]),
        )
        .unwrap();
        let merged = SafeTensors::deserialize(&bytes).unwrap();
        let mut names = merged.names();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "classifier.weight",
                "features.norm0.num_batches_tracked",
                "features.norm0.running_mean",
                "features.norm0.weight"
            ]
        );
        let counter = merged.tensor("features.norm0.num_batches_tracked").unwrap();
        assert_eq!((counter.dtype(), counter.shape(), counter.data()), (Dtype::I64, &[][..], &[0; 8][..]));
        assert_eq!(merged.tensor("classifier.weight").unwrap().data(), [0, 0, 128, 63]);
    }

    #[test]
    fn the_same_checkpoint_gives_the_same_bytes() {
        let make = || merge(&manifest(), &file(&["b.running_mean", "a"]), &file(&["c"])).unwrap();
        assert_eq!(make(), make());
    }

    #[test]
    fn overlap_and_damage_are_refused() {
        assert_eq!(merge(&manifest(), &file(&["a"]), &file(&["a"])), Err(Error::Repeated("a".to_owned())));
        let cut = &file(&["a"])[..10];
        assert!(matches!(merge(&manifest(), &file(&["a"]), cut), Err(Error::Damaged { part: "trained", .. })));
    }
}
