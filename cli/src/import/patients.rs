//! Whose image it is. A patient that the CSV names wins; otherwise it is read from the file's path.
//!
//! Nothing is guessed unasked: `IM-0001` is a patient in one data set and a series in the next.

use regex::Regex;

use super::{Candidate, Error};

/// The file names of Chest X-Ray Images (Pneumonia), Kermany et al. 2018: `person<N>_virus_<k>`, `IM-<N>-<k>`,
/// `NORMAL2-IM-<N>-<k>`. The two numberings of normal images are kept apart.
const KERMANY: &str = r"(?:^|/)(person\d+|(?:NORMAL2-)?IM-\d+)[_-][^/]*$";

/// Whose image each is.
#[derive(Clone, Debug)]
pub enum Patients {
    /// Where the CSV says so, and otherwise unknown: each image counts as one patient.
    AsListed,
    /// Every image must have one: from the CSV, or else by the pattern.
    Required(Pattern),
}

/// A regular expression whose one group is the patient. It is searched in the path below the imported folder.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// The pattern of the Kermany data set's file names.
    pub fn kermany() -> Self {
        Self(Regex::new(KERMANY).expect("the pattern is a constant and tested"))
    }

    /// Compiles a pattern.
    ///
    /// # Errors
    /// When it is no regular expression of the `regex` crate's syntax, or when it has not exactly one group.
    pub fn new(pattern: &str) -> Result<Self, Error> {
        let regex = Regex::new(pattern).map_err(|error| Error::Pattern(error.to_string()))?;
        match regex.captures_len() - 1 {
            1 => Ok(Self(regex)),
            groups => Err(Error::Pattern(format!(
                "{pattern:?} has {groups} groups; it needs one, the patient, as in '^([0-9]+)_'"
            ))),
        }
    }

    /// The patient of the image at `file`.
    pub fn patient<'file>(&self, file: &'file str) -> Option<&'file str> {
        self.0.captures(file)?.get(1).map(|found| found.as_str()).filter(|patient| !patient.is_empty())
    }
}

/// Gives candidates without a patient the one in their path.
///
/// # Errors
/// When every image must have a patient and some have none.
pub(super) fn fill(candidates: &mut [Candidate], patients: &Patients) -> Result<(), Error> {
    let pattern = match patients {
        Patients::AsListed => return Ok(()),
        Patients::Required(pattern) => pattern,
    };
    for candidate in candidates.iter_mut().filter(|candidate| candidate.patient.is_none()) {
        candidate.patient = pattern.patient(&candidate.file).map(str::to_owned);
    }
    let mut without = candidates.iter().filter(|candidate| candidate.patient.is_none());
    match without.next() {
        None => Ok(()),
        Some(first) => Err(Error::NoPatient { first: first.file.clone(), count: 1 + without.count() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kermany_names_are_read() {
        let pattern = Pattern::kermany();
        let cases = [
            ("train/PNEUMONIA/person1000_bacteria_2931.jpeg", Some("person1000")),
            ("person1_virus_7_1.jpeg", Some("person1")),
            ("test/NORMAL/IM-0011-0001-0002.jpeg", Some("IM-0011")),
            ("NORMAL/NORMAL2-IM-0007-0001.jpeg", Some("NORMAL2-IM-0007")),
            ("person1/scan.jpeg", None),
            ("NORMAL/00001280_004.jpeg", None),
            ("NORMAL/aperson1_x.jpeg", None),
        ];
        for (file, expected) in cases {
            assert_eq!(pattern.patient(file), expected, "{file}");
        }
    }

    #[test]
    fn a_pattern_has_one_group() {
        assert_eq!(Pattern::new(r"/(\d+)_").unwrap().patient("NORMAL/00001280_004.jpeg"), Some("00001280"));
        for pattern in ["(", r"\d+", r"(\d)(\d)"] {
            assert!(matches!(Pattern::new(pattern), Err(Error::Pattern(_))), "{pattern}");
        }
    }

    #[test]
    fn the_listing_wins_and_gaps_are_named() {
        let candidate = |file: &str, patient: Option<&str>| Candidate {
            file: file.to_owned(),
            class: "A".to_owned(),
            split: None,
            patient: patient.map(str::to_owned),
            digest: None,
        };
        let mut candidates = [candidate("person1_virus_2.jpeg", Some("p7")), candidate("person2_virus_2.jpeg", None)];
        fill(&mut candidates, &Patients::Required(Pattern::kermany())).unwrap();
        let patients: Vec<_> = candidates.iter().map(|c| c.patient.as_deref()).collect();
        assert_eq!(patients, [Some("p7"), Some("person2")]);
        let error = fill(&mut [candidate("x.png", None)], &Patients::Required(Pattern::kermany())).unwrap_err();
        assert!(error.to_string().starts_with("no patient is known of 1 image(s), x.png first"), "{error}");
    }
}
