//! Dealing patients to splits at random: no patient in two splits, every class in every split, shares held class by
//! class. A pure function of its arguments.
//!
//! Patients are shuffled with the seed. First every split gets a patient of every class, the rarest class first; then
//! each of the others, those with many images first, goes where its classes fall short most.

use std::{collections::BTreeMap, fmt, str::FromStr};

use ceteris_shared::{
    dataset::Split,
    ids::Epoch,
    seed::{Purpose, draw},
};

/// Shares of train, val and test: none negative, 1 in all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fractions([f64; 3]);

/// Why images cannot be split.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("{0:?} is no split; three shares of train, val and test that add up to 1 are, as in 0.7,0.1,0.2")]
    Fractions(String),
    #[error(
        "class {class:?} has {patients} patients, and no one is left to put into {split}; leave a split out \
         (--split 0.8,0,0.2) or add patients"
    )]
    TooFewPatients { class: String, patients: usize, split: Split },
}

impl Fractions {
    /// # Errors
    /// When a share is negative or not a number, or when they do not add up to 1.
    pub fn new(train: f64, val: f64, test: f64) -> Result<Self, Error> {
        let shares = [train, val, test];
        let valid =
            shares.iter().all(|share| (0.0..=1.0).contains(share)) && (shares.iter().sum::<f64>() - 1.0).abs() < 1e-6;
        if valid { Ok(Self(shares)) } else { Err(Error::Fractions(format!("{train},{val},{test}"))) }
    }

    fn of(self, split: Split) -> f64 {
        self.0[split as usize]
    }
}

impl FromStr for Fractions {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = || Error::Fractions(text.to_owned());
        let shares: Vec<f64> =
            text.split(',').map(|share| share.trim().parse()).collect::<Result<_, _>>().map_err(|_| refuse())?;
        match shares[..] {
            [train, val, test] => Self::new(train, val, test).map_err(|_| refuse()),
            _ => Err(refuse()),
        }
    }
}

impl fmt::Display for Fractions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [train, val, test] = self.0;
        write!(f, "{train},{val},{test}")
    }
}

/// An image to be dealt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its path: the identity of an image whose patient is unknown, which is then a patient of its own.
    pub file: &'a str,
    /// Whose image it is.
    pub patient: Option<&'a str>,
    /// Its class.
    pub class: &'a str,
}

/// All images of one patient.
struct Group {
    members: Vec<usize>,
    /// Images per class.
    counts: Vec<u32>,
}

/// The split of each of `members`, in their order. `classes` are all classes, sorted. A split whose share is 0 gets
/// nothing. The deal depends on the members' files, patients and classes but not on their order.
///
/// # Errors
/// When some class has too few patients to be in every split that has a share.
pub fn assign(
    members: &[Member<'_>],
    classes: &[String],
    fractions: Fractions,
    seed: u64,
) -> Result<Vec<Split>, Error> {
    let groups = shuffled(groups(members, classes), seed);
    let mut deal = Deal::new(&groups, classes.len(), fractions);
    deal.cover(classes)?;
    deal.balance();
    let mut splits = vec![Split::Train; members.len()];
    for (group, split) in groups.iter().zip(deal.split_of) {
        for &member in &group.members {
            splits[member] = split.expect("balance leaves no group undealt");
        }
    }
    Ok(splits)
}

/// Images grouped by patient, in the order of the patients' names.
fn groups(members: &[Member<'_>], classes: &[String]) -> Vec<Group> {
    let mut groups: BTreeMap<(bool, &str), Group> = BTreeMap::new();
    for (index, member) in members.iter().enumerate() {
        let key = (member.patient.is_none(), member.patient.unwrap_or(member.file));
        let group = groups.entry(key).or_insert_with(|| Group { members: Vec::new(), counts: vec![0; classes.len()] });
        group.members.push(index);
        if let Ok(class) = classes.binary_search_by(|class| class.as_str().cmp(member.class)) {
            group.counts[class] += 1;
        }
    }
    groups.into_values().collect()
}

/// A random order (Fisher-Yates), then those with many images first.
fn shuffled(mut groups: Vec<Group>, seed: u64) -> Vec<Group> {
    let mut draws = draw(seed, Epoch(0), 0, Purpose::Split);
    for last in (1..groups.len()).rev() {
        let other = draws.below(last as u64 + 1) as usize;
        groups.swap(last, other);
    }
    groups.sort_by_key(|group| std::cmp::Reverse(group.members.len()));
    groups
}

/// The state of a deal.
struct Deal<'a> {
    groups: &'a [Group],
    split_of: Vec<Option<Split>>,
    /// The splits that have a share, the smallest share first.
    splits: Vec<Split>,
    /// Images per class in all.
    totals: Vec<f64>,
    /// Images per class that each split lacks to its share; negative where it has too many.
    lacking: [Vec<f64>; 3],
    /// Whether each split has each class.
    covered: [Vec<bool>; 3],
}

impl<'a> Deal<'a> {
    fn new(groups: &'a [Group], classes: usize, fractions: Fractions) -> Self {
        let totals: Vec<f64> =
            (0..classes).map(|class| groups.iter().map(|group| f64::from(group.counts[class])).sum()).collect();
        let mut splits: Vec<Split> = Split::ALL.into_iter().filter(|split| fractions.of(*split) > 0.0).collect();
        splits.sort_by(|a, b| fractions.of(*a).total_cmp(&fractions.of(*b)));
        Self {
            groups,
            split_of: vec![None; groups.len()],
            splits,
            lacking: Split::ALL.map(|split| totals.iter().map(|total| total * fractions.of(split)).collect()),
            totals,
            covered: [(); 3].map(|()| vec![false; classes]),
        }
    }

    fn give(&mut self, group: usize, split: Split) {
        self.split_of[group] = Some(split);
        for (class, &count) in self.groups[group].counts.iter().enumerate() {
            self.lacking[split as usize][class] -= f64::from(count);
            self.covered[split as usize][class] |= count > 0;
        }
    }

    /// Gives every split a patient of every class: the smallest there is, so that shares still come out.
    fn cover(&mut self, classes: &[String]) -> Result<(), Error> {
        let patients = |class: usize| self.groups.iter().filter(|group| group.counts[class] > 0).count();
        let mut rarest_first: Vec<(usize, usize)> = (0..classes.len()).map(|class| (patients(class), class)).collect();
        rarest_first.sort_unstable();
        for (patients, class) in rarest_first {
            for split in self.splits.clone() {
                if self.covered[split as usize][class] {
                    continue;
                }
                let free = (0..self.groups.len())
                    .rev()
                    .find(|&group| self.split_of[group].is_none() && self.groups[group].counts[class] > 0);
                let Some(group) = free else {
                    return Err(Error::TooFewPatients { class: classes[class].clone(), patients, split });
                };
                self.give(group, split);
            }
        }
        Ok(())
    }

    /// Deals the rest: each to the split that lacks most of what it has, every class counting alike.
    fn balance(&mut self) {
        for group in 0..self.groups.len() {
            if self.split_of[group].is_some() {
                continue;
            }
            let need = |split: Split| -> f64 {
                let counts = self.groups[group].counts.iter().enumerate().filter(|(_, count)| **count > 0);
                counts.map(|(class, n)| f64::from(*n) * self.lacking[split as usize][class] / self.totals[class]).sum()
            };
            let best = self.splits.iter().copied().max_by(|a, b| need(*a).total_cmp(&need(*b)));
            self.give(group, best.expect("shares add up to 1, so at least one split has one"));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Images as (patient, class); patient 0 is unknown.
    fn deal(images: &[(u32, u8)], fractions: Fractions, seed: u64) -> Result<Vec<Split>, Error> {
        let files: Vec<String> = (0..images.len()).map(|index| format!("{index}.png")).collect();
        let patients: Vec<String> = images.iter().map(|(patient, _)| patient.to_string()).collect();
        let names: Vec<String> = images.iter().map(|(_, class)| class.to_string()).collect();
        let members: Vec<Member<'_>> = (0..images.len())
            .map(|index| Member {
                file: &files[index],
                patient: (images[index].0 > 0).then_some(patients[index].as_str()),
                class: &names[index],
            })
            .collect();
        let mut classes = names.clone();
        classes.sort();
        classes.dedup();
        assign(&members, &classes, fractions, seed)
    }

    fn fractions() -> impl Strategy<Value = Fractions> {
        (0u32..10, 0u32..10, 0u32..10).prop_filter_map("a share is needed", |(a, b, c)| {
            let sum = f64::from(a + b + c);
            (sum > 0.0).then(|| Fractions::new(f64::from(a) / sum, f64::from(b) / sum, f64::from(c) / sum).unwrap())
        })
    }

    proptest! {
        #[test]
        fn patients_stay_together_and_shares_are_held(
            images in prop::collection::vec((0u32..60, 0u8..3), 1..400), fractions in fractions(), seed: u64,
        ) {
            let Ok(splits) = deal(&images, fractions, seed) else { return Ok(()) };
            let mut of_patient = BTreeMap::new();
            let mut sizes: BTreeMap<u32, usize> = BTreeMap::new();
            for ((patient, _), split) in images.iter().zip(&splits) {
                if *patient > 0 {
                    prop_assert_eq!(of_patient.entry(*patient).or_insert(*split), split);
                    *sizes.entry(*patient).or_default() += 1;
                }
            }
            let largest = sizes.into_values().max().unwrap_or(1) as f64;
            for class in 0..3u8 {
                let total = images.iter().filter(|image| image.1 == class).count();
                for split in Split::ALL {
                    let got = images.iter().zip(&splits).filter(|(image, s)| image.1 == class && **s == split).count();
                    let wanted = total as f64 * fractions.of(split);
                    prop_assert!(
                        (got as f64 - wanted).abs() <= 2.0 * largest + 3.0,
                        "class {} of {} in {}: {} for {}; largest patient {}", class, total, split, got, wanted, largest
                    );
                    prop_assert_eq!(got > 0, total > 0 && fractions.of(split) > 0.0);
                }
            }
        }

        #[test]
        fn single_images_come_out_within_one(counts in prop::collection::vec(30usize..200, 2..4), seed: u64) {
            let images: Vec<(u32, u8)> =
                counts.iter().enumerate().flat_map(|(class, n)| vec![(0, class as u8); *n]).collect();
            let fractions = Fractions::new(0.7, 0.1, 0.2).unwrap();
            let splits = deal(&images, fractions, seed).unwrap();
            for (class, total) in counts.iter().enumerate() {
                for split in Split::ALL {
                    let got = images.iter().zip(&splits).filter(|(i, s)| i.1 == class as u8 && **s == split).count();
                    prop_assert!((got as f64 - *total as f64 * fractions.of(split)).abs() <= 1.0);
                }
            }
        }

        #[test]
        fn enough_patients_of_one_class_each_can_always_be_dealt(
            classes in 1u8..4, extra in prop::collection::vec((4u32..50, 0u8..4), 0..50), seed: u64,
        ) {
            let core = (0..classes).flat_map(|class| (1..=3).map(move |n| (100 * (u32::from(class) + 1) + n, class)));
            let images: Vec<_> = core.chain(extra.into_iter().map(|(p, c)| (p, c % classes))).collect();
            prop_assert!(deal(&images, Fractions::new(0.7, 0.1, 0.2).unwrap(), seed).is_ok());
        }
    }

    #[test]
    fn the_deal_is_fixed_by_the_seed_and_not_by_the_order() {
        let images: Vec<(u32, u8)> = (0..40).map(|n| (n / 2 + 1, (n / 20) as u8)).collect();
        let fractions = Fractions::new(0.5, 0.25, 0.25).unwrap();
        let splits = deal(&images, fractions, 0).unwrap();
        let mut reversed: Vec<_> = images.clone();
        reversed.reverse();
        let mut again = deal(&reversed, fractions, 0).unwrap();
        again.reverse();
        assert_eq!(splits, again);
        assert_ne!(splits, deal(&images, fractions, 1).unwrap());
        let letters: String = splits.iter().step_by(2).map(|split| &split.name()[..2]).collect();
        insta::assert_snapshot!(letters, @"trtevatrtrtetrvatrtetrtrtetetetrtrtrvava");
    }

    #[test]
    fn too_few_patients_are_named() {
        let images = [(1, 0), (1, 0), (2, 0), (3, 1), (4, 1), (5, 1)];
        let error = deal(&images, Fractions::new(0.7, 0.1, 0.2).unwrap(), 0).unwrap_err();
        assert_eq!(error, Error::TooFewPatients { class: "0".to_owned(), patients: 2, split: Split::Train });
        assert!(deal(&images, Fractions::new(0.7, 0.0, 0.3).unwrap(), 0).is_ok());
    }

    #[test]
    fn fractions_are_three_shares_of_one() {
        assert_eq!("0.7, 0.1,0.2".parse(), Fractions::new(0.7, 0.1, 0.2));
        for text in ["", "1", "0.5,0.5", "0.7,0.1,0.3", "-0.1,0.1,1", "nan,0,1", "a,b,c", "0.7,0.1,0.1,0.1"] {
            assert_eq!(text.parse::<Fractions>(), Err(Error::Fractions(text.to_owned())), "{text}");
        }
    }
}
