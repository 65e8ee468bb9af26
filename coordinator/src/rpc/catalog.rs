//! Names of data sets and of initial weights. A name, once given, never means something else: experiments are read by
//! the names they were submitted with.

use std::collections::{BTreeMap, BTreeSet};

use ceteris_shared::{
    dataset::{MAX_MANIFEST_BYTES, Manifest},
    digest::Digest,
    document::{Dataset, Datasets, Weights, WeightsEntry},
    spec::{Arch, validate_name},
};
use futures::{StreamExt, TryStreamExt};

use super::{Error, Service, moment, now};
use crate::store::{self, DatasetRecord, WeightsRecord};

/// Shards looked up at once.
const LOOKUPS: usize = 8;
/// Names listed in a message.
const NAMES_SHOWN: usize = 10;

impl Service {
    /// Names the data set with this manifest, after checking that all of it is stored.
    pub(super) async fn name_dataset(&self, name: &str, digest: Digest) -> Result<Datasets, Error> {
        validate_name("name", name)?;
        let manifest = self.manifest(digest).await?;
        self.check_shards(&manifest).await?;
        let record = self.store.register_dataset(&dataset_record(name, digest, &manifest)).await?;
        ceteris_crash::here(ceteris_crash::Point::DatasetNamed);
        Ok(Datasets { datasets: vec![dataset(record)] })
    }

    /// The manifest with this digest, read and checked.
    pub(super) async fn manifest(&self, digest: Digest) -> Result<Manifest, Error> {
        let bytes = self.blobs.get_bytes(&digest, MAX_MANIFEST_BYTES).await?;
        Ok(tokio::task::spawn_blocking(move || Manifest::from_bytes(&bytes)).await??)
    }

    async fn check_shards(&self, manifest: &Manifest) -> Result<(), Error> {
        let sample_bytes = manifest.sample_bytes() as u64;
        let expected: BTreeMap<Digest, u64> =
            manifest.shards.iter().map(|shard| (shard.digest, u64::from(shard.samples) * sample_bytes)).collect();
        let look_up = |(digest, expected): (Digest, u64)| async move {
            let found = self.blobs.size(&digest).await?;
            if found == Some(expected) {
                return Ok(());
            }
            let found = found.map_or("is not stored".to_owned(), |bytes| format!("is stored with {bytes} bytes"));
            let cause = format!("shard {} of the data set should have {expected} bytes and {found}", digest.short());
            Err(Error::invalid(cause, "import the data set again: what is stored already is not sent twice"))
        };
        futures::stream::iter(expected).map(look_up).buffer_unordered(LOOKUPS).try_collect().await
    }

    pub(super) async fn all_datasets(&self) -> Result<Datasets, Error> {
        Ok(Datasets { datasets: self.store.datasets().await?.into_iter().map(dataset).collect() })
    }

    /// The data set with this name or digest.
    pub(super) async fn find_dataset(&self, name: &str) -> Result<DatasetRecord, Error> {
        match self.store.find_dataset(name).await {
            Err(store::Error::NotFound { .. }) => {
                let known = self.store.datasets().await?.into_iter().map(|record| record.name).collect();
                Err(unknown("data set", name, known, "ceteris data import DIR --name NAME"))
            }
            found => Ok(found?),
        }
    }

    /// Names initial weights, after checking that they are stored. What is in them was checked by the import, which
    /// knows the network's shapes.
    pub(super) async fn name_weights(&self, name: &str, digest: Digest, arch: &str) -> Result<Weights, Error> {
        validate_name("name", name)?;
        if name == "random" {
            let cause = "the name \"random\" means initial weights that are drawn from the seed";
            return Err(Error::invalid(cause, "choose another name"));
        }
        let arch: Arch = serde_json::from_value(arch.into())
            .map_err(|error| Error::Field { field: "arch", problem: error.to_string() })?;
        if !self.blobs.exists(&digest).await? {
            let cause = format!("the weights {} are not stored", digest.short());
            return Err(Error::invalid(cause, "import them again with `ceteris weights import FILE --name NAME`"));
        }
        let record = WeightsRecord { name: name.to_owned(), digest, arch, registered_at: now() };
        let record = self.store.register_weights(&record).await?;
        ceteris_crash::here(ceteris_crash::Point::WeightsNamed);
        Ok(Weights { weights: vec![weights(record)] })
    }

    pub(super) async fn all_weights(&self) -> Result<Weights, Error> {
        Ok(Weights { weights: self.store.weights().await?.into_iter().map(weights).collect() })
    }

    /// The weights with this name or digest.
    pub(super) async fn find_weights(&self, name: &str) -> Result<WeightsRecord, Error> {
        match self.store.find_weights(name).await {
            Err(store::Error::NotFound { .. }) => {
                let known = self.store.weights().await?.into_iter().map(|record| record.name).collect();
                Err(unknown("weights file", name, known, "ceteris weights import FILE --name NAME"))
            }
            found => Ok(found?),
        }
    }
}

/// An error that lists the names there are, the nearest first.
pub(super) fn unknown(what: &str, name: &str, mut known: Vec<String>, import: &str) -> Error {
    let cause = format!("there is no {what} named {name:?}");
    if known.is_empty() {
        return Error::Unknown { cause, help: format!("nothing is imported yet; import it with `{import}`") };
    }
    known.sort_by_key(|candidate| strsim::damerau_levenshtein(name, candidate));
    let nearest = strsim::damerau_levenshtein(name, &known[0]) <= name.len().div_ceil(3);
    let meant = if nearest { format!("did you mean {:?}? ", known[0]) } else { String::new() };
    let more = known.len().saturating_sub(NAMES_SHOWN);
    known.truncate(NAMES_SHOWN);
    known.sort();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Error::Unknown {
        cause,
        help: format!("{meant}known names are {}{more}; import another with `{import}`", known.join(", ")),
    }
}

fn dataset_record(name: &str, digest: Digest, manifest: &Manifest) -> DatasetRecord {
    let patients: Option<BTreeSet<&String>> = manifest.samples.iter().map(|sample| sample.patient.as_ref()).collect();
    DatasetRecord {
        name: name.to_owned(),
        manifest: digest,
        image_size: manifest.image_size,
        classes: manifest.classes.clone(),
        counts: manifest.counts(),
        patients: patients.map(|patients| patients.len() as u64),
        registered_at: now(),
    }
}

fn dataset(record: DatasetRecord) -> Dataset {
    let samples = record.counts.values().flatten().sum();
    let named = |counts: &Vec<u64>| record.classes.iter().cloned().zip(counts.iter().copied()).collect();
    Dataset {
        counts: record.counts.iter().map(|(split, counts)| (*split, named(counts))).collect(),
        name: record.name,
        digest: record.manifest,
        image_size: record.image_size,
        classes: record.classes,
        samples,
        patients: record.patients,
        bytes: samples * u64::from(record.image_size).pow(2),
        registered_at: moment(record.registered_at),
    }
}

fn weights(record: WeightsRecord) -> WeightsEntry {
    let WeightsRecord { name, digest, arch, registered_at } = record;
    WeightsEntry { name, digest, arch, registered_at: moment(registered_at) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_brings_the_known_ones() {
        let told = |known: &[&str]| {
            let known = known.iter().map(|name| (*name).to_owned()).collect();
            unknown("data set", "kermani", known, "ceteris data import DIR --name NAME").to_string()
        };
        let many: Vec<String> = (10..30).map(|index| format!("set-{index}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        insta::assert_snapshot!([told(&[]), told(&["nih", "kermany"]), told(&many)].join("\n\n"), @r#"
        there is no data set named "kermani"
        help: nothing is imported yet; import it with `ceteris data import DIR --name NAME`

        there is no data set named "kermani"
        help: did you mean "kermany"? known names are kermany, nih; import another with `ceteris data import DIR --name NAME`

        there is no data set named "kermani"
        help: known names are set-10, set-11, set-12, set-13, set-14, set-15, set-16, set-17, set-18, set-19 and 10 more; import another with `ceteris data import DIR --name NAME`
        "#);
    }
}
