//! What is known of samples besides their class, from CSV files, for the subgroups of a report. Such files are given when a report is made:
//! what is in them does not influence training and is no part of a data set.

use std::{collections::BTreeSet, path::PathBuf};

use ceteris::import;
use ceteris_shared::{compare::DataSets, dataset::Manifest, document::Evidence, report::MOST_VALUES};
use clap::Args;

use crate::{context::Global, failure::Failure};

/// The bands of ages, by where they begin.
const AGE_BANDS: [(f64, &str); 4] = [(65.0, "65 and older"), (40.0, "40 to 64"), (18.0, "18 to 39"), (0.0, "under 18")];

/// Which files.
#[derive(Clone, Debug, Default, Args)]
pub struct AttributeOptions {
    /// Tell contrasts within groups of samples, too: a CSV with the column file and one for each attribute, such as view, sex or age.
    /// Of an external data set, written NAME=FILE. Can be given several times.
    #[arg(long, value_name = "[NAME=]FILE")]
    pub attributes: Vec<String>,
}

impl AttributeOptions {
    /// Adds what the files say to `data`.
    ///
    /// # Errors
    /// When a file cannot be read, or its data set is none of the experiment's.
    pub fn add_to(&self, data: &mut DataSets, evidence: &Evidence, global: &Global) -> Result<(), Failure> {
        for given in &self.attributes {
            let (name, path) = match given.split_once('=') {
                Some((name, path)) => (name, PathBuf::from(path)),
                None => (evidence.spec.data.dataset.as_str(), PathBuf::from(given)),
            };
            let own = name == evidence.spec.data.dataset;
            let manifest: &Manifest = match data.external.get(name) {
                Some(manifest) => manifest,
                None if own => &data.own,
                None => {
                    let known: Vec<&str> = std::iter::once(evidence.spec.data.dataset.as_str())
                        .chain(data.external.keys().map(String::as_str))
                        .collect();
                    return Err(Failure::usage(format!(
                        "--attributes: {name:?} is no data set of {}",
                        evidence.spec.name
                    ))
                    .help(format!("its data sets are {}", known.join(", "))));
                }
            };
            let images: Vec<&str> = manifest.samples.iter().map(|sample| sample.file.as_str()).collect();
            let found = import::attributes(&path, &images).map_err(|error| Failure::usage(error.to_string()))?;
            let into = if own {
                &mut data.attributes.own
            } else {
                data.attributes.external.entry(name.to_owned()).or_default()
            };
            let mut left_out = Vec::new();
            for (attribute, values) in found {
                match banded(&attribute, values) {
                    Ok(values) => drop(into.insert(attribute, values)),
                    Err(count) => left_out.push(format!("{attribute} ({count} values)")),
                }
            }
            if !left_out.is_empty() {
                global.note(format!(
                    "left out of the subgroups of {name}, because an attribute may have {MOST_VALUES} values: {}",
                    left_out.join(", ")
                ));
            }
            if into.is_empty() {
                return Err(Failure::usage(format!("{} says nothing of the images of {name}", path.display()))
                    .help("it needs the column file, with paths as in the data set, and a column for each attribute"));
            }
        }
        Ok(())
    }
}

/// Values that make few enough groups; ages in bands. Else how many there are.
fn banded(attribute: &str, values: Vec<Option<String>>) -> Result<Vec<Option<String>>, usize> {
    let count = values.iter().flatten().collect::<BTreeSet<_>>().len();
    if count <= MOST_VALUES {
        return Ok(values);
    }
    let ages: Option<Vec<Option<f64>>> =
        values.iter().map(|value| value.as_ref().map_or(Some(None), |text| text.parse().ok().map(Some))).collect();
    let Some(ages) = ages.filter(|_| attribute.eq_ignore_ascii_case("age")) else { return Err(count) };
    let band = |age: f64| AGE_BANDS.iter().find(|(from, _)| age >= *from).map(|(_, name)| (*name).to_owned());
    Ok(ages.into_iter().map(|age| age.and_then(band)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_banded_and_what_has_too_many_values_is_left_out() {
        let ages: Vec<Option<String>> =
            [0, 17, 18, 39, 40, 64, 65, 90, 1, 2, 3, 4, 5].map(|age: u32| Some(age.to_string())).to_vec();
        let banded_ages: Vec<String> =
            banded("age", ages.clone()).expect("ages").into_iter().flatten().take(8).collect();
        let expected =
            ["under 18", "under 18", "18 to 39", "18 to 39", "40 to 64", "40 to 64", "65 and older", "65 and older"];
        assert_eq!(banded_ages, expected);
        assert_eq!(banded("number", ages), Err(13));
        let few = vec![Some("F".to_owned()), None, Some("M".to_owned())];
        assert_eq!(banded("sex", few.clone()), Ok(few));
    }
}
