//! What a data set holds, told from its manifest alone: counts, patients, and duplicates within and across splits.
//!
//! A patient or an image in two splits leaks from training into evaluation, so both are listed by name.

use std::collections::{BTreeMap, BTreeSet};

use ceteris_shared::{
    dataset::{Manifest, Sample, Split},
    digest::Digest,
};
use serde::Serialize;

/// The schema of [`Summary`] as JSON.
pub const SCHEMA: &str = "ceteris.dataset.summary/1";

/// A data set in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The data set's identity.
    pub digest: Digest,
    /// Height and width in pixels.
    pub image_size: u32,
    /// Class names, sorted.
    pub classes: Vec<String>,
    /// Images in all.
    pub samples: u64,
    /// Different patients in all, as far as they are known.
    pub patients: u64,
    /// Every split that has an image, in their order.
    pub splits: Vec<SplitSummary>,
    /// Patients with images in more than one split, sorted by name.
    pub patients_in_several_splits: Vec<SharedPatient>,
    /// Pixel-identical images.
    pub duplicates: Duplicates,
}

/// One split in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SplitSummary {
    /// Which.
    pub split: Split,
    /// Images.
    pub samples: u64,
    /// Images per class.
    pub classes: BTreeMap<String, u64>,
    /// Different patients, as far as they are known.
    pub patients: u64,
    /// Images whose patient is unknown.
    pub without_patient: u64,
}

/// A patient with images in more than one split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SharedPatient {
    /// The patient's name in the data set.
    pub patient: String,
    /// Images in each split.
    pub splits: BTreeMap<Split, u64>,
}

/// Groups of pixel-identical images, each in one of the two lists, in the order of their first file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Duplicates {
    /// All of the group are in one split.
    pub within_splits: Vec<DuplicateGroup>,
    /// The group is in several splits.
    pub across_splits: Vec<DuplicateGroup>,
}

/// Images with the same pixels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DuplicateGroup {
    /// SHA-256 of the pixels.
    pub pixels: Digest,
    /// Whether they carry different labels.
    pub classes_differ: bool,
    /// Two or more, in the manifest's order.
    pub files: Vec<DuplicateFile>,
}

/// One image of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DuplicateFile {
    /// Its path below the imported folder.
    pub file: String,
    /// Its split.
    pub split: Split,
    /// Its class's name.
    pub class: String,
}

/// Summarises `manifest`.
pub fn summary(manifest: &Manifest) -> Summary {
    Summary {
        schema: SCHEMA,
        digest: manifest.digest(),
        image_size: manifest.image_size,
        classes: manifest.classes.clone(),
        samples: manifest.samples.len() as u64,
        patients: patients(manifest.samples.iter()),
        splits: splits(manifest),
        patients_in_several_splits: shared_patients(manifest),
        duplicates: duplicates(manifest),
    }
}

fn patients<'a>(samples: impl Iterator<Item = &'a Sample>) -> u64 {
    samples.filter_map(|sample| sample.patient.as_deref()).collect::<BTreeSet<_>>().len() as u64
}

fn splits(manifest: &Manifest) -> Vec<SplitSummary> {
    let summarise = |(split, counts): (Split, Vec<u64>)| {
        let members = || manifest.samples.iter().filter(move |sample| sample.split == split);
        SplitSummary {
            split,
            samples: counts.iter().sum(),
            classes: manifest.classes.iter().cloned().zip(counts).collect(),
            patients: patients(members()),
            without_patient: members().filter(|sample| sample.patient.is_none()).count() as u64,
        }
    };
    manifest.counts().into_iter().map(summarise).collect()
}

fn shared_patients(manifest: &Manifest) -> Vec<SharedPatient> {
    let mut by_patient: BTreeMap<&str, BTreeMap<Split, u64>> = BTreeMap::new();
    for sample in &manifest.samples {
        if let Some(patient) = &sample.patient {
            *by_patient.entry(patient).or_default().entry(sample.split).or_default() += 1;
        }
    }
    let shared = by_patient.into_iter().filter(|(_, splits)| splits.len() > 1);
    shared.map(|(patient, splits)| SharedPatient { patient: patient.to_owned(), splits }).collect()
}

fn duplicates(manifest: &Manifest) -> Duplicates {
    let mut by_pixels: BTreeMap<Digest, Vec<usize>> = BTreeMap::new();
    for (index, sample) in manifest.samples.iter().enumerate() {
        by_pixels.entry(sample.pixels).or_default().push(index);
    }
    let mut groups: Vec<(Digest, Vec<usize>)> = by_pixels.into_iter().filter(|(_, group)| group.len() > 1).collect();
    groups.sort_by_key(|(_, group)| group[0]);
    let mut duplicates = Duplicates::default();
    for (pixels, group) in groups {
        let members: Vec<&Sample> = group.iter().map(|&index| &manifest.samples[index]).collect();
        let list = if members.iter().all(|sample| sample.split == members[0].split) {
            &mut duplicates.within_splits
        } else {
            &mut duplicates.across_splits
        };
        let classes_differ = members.iter().any(|sample| sample.class != members[0].class);
        let files = members.into_iter().map(|sample| DuplicateFile {
            file: sample.file.clone(),
            split: sample.split,
            class: manifest.classes[sample.class as usize].clone(),
        });
        list.push(DuplicateGroup { pixels, classes_differ, files: files.collect() });
    }
    duplicates
}

#[cfg(test)]
mod tests {
    use ceteris_shared::dataset;

    use super::*;

    fn sample(file: &str, split: Split, class: u32, patient: Option<&str>, pixels: &str) -> Sample {
        let (source, pixels) = (Digest::of(file.as_bytes()), Digest::of(pixels.as_bytes()));
        Sample { file: file.to_owned(), split, class, patient: patient.map(str::to_owned), source, pixels }
    }

    #[test]
    fn counts_patients_and_duplicates_are_told() {
        let manifest = Manifest {
            schema: dataset::SCHEMA.to_owned(),
            transform: dataset::TRANSFORM.to_owned(),
            image_size: 8,
            classes: vec!["NORMAL".to_owned(), "SICK".to_owned()],
            samples: vec![
                sample("train/NORMAL/a.png", Split::Train, 0, Some("p1"), "one"),
                sample("train/NORMAL/b.png", Split::Train, 0, Some("p1"), "one"),
                sample("train/SICK/c.png", Split::Train, 1, Some("p2"), "two"),
                sample("test/NORMAL/d.png", Split::Test, 0, None, "two"),
                sample("test/SICK/e.png", Split::Test, 1, Some("p1"), "three"),
            ],
            shards: vec![],
        };
        let summary = summary(&manifest);
        assert_eq!(summary.digest, manifest.digest());
        insta::assert_json_snapshot!(summary);
    }
}
