//! A few images of a folder, decoded as an import would: to look at what would be trained on.

use std::{collections::BTreeMap, path::Path};

use super::{Error, Refused, layout, pack, tree};

/// An image as an import would store it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peeked {
    /// The number that an import which refuses no file gives it, where the folder says the split.
    pub sample: u32,
    /// The path below the folder.
    pub file: String,
    /// The class that its folder names.
    pub class: String,
    /// 8-bit grey, row by row.
    pub pixels: Vec<u8>,
}

/// The first images of each class in turn, `count` at most, of a folder that holds `train|val|test/CLASS/*` or
/// `CLASS/*`. Files that an import would refuse are left out.
///
/// # Errors
/// When the folder cannot be read, is laid out in no such way, or holds no image.
pub fn peek(folder: &Path, image_size: u32, count: usize) -> Result<Vec<Peeked>, Error> {
    if !(1..=4096).contains(&image_size) {
        return Err(Error::ImageSize(image_size));
    }
    let (mut candidates, mut refused) = layout::candidates(tree::read(folder)?)?;
    candidates.sort_by(|a, b| (a.split, &a.class, &a.file).cmp(&(b.split, &b.class, &b.file)));
    let mut peeked = Vec::new();
    for (sample, candidate) in in_turn((0..).zip(candidates), |(_, candidate)| candidate.class.clone()) {
        if peeked.len() == count {
            break;
        }
        match pack::load(folder, &candidate, image_size) {
            Ok((_, picture)) => {
                let (file, class) = (candidate.file, candidate.class);
                peeked.push(Peeked { sample, file, class, pixels: picture.pixels });
            }
            Err(reason) => refused.push(Refused { file: candidate.file, reason }),
        }
    }
    if peeked.is_empty() { Err(Error::NoImages { refused: refused.len() }) } else { Ok(peeked) }
}

/// The first of each class, in the order of the classes, then the second of each, and so on.
pub fn in_turn<T, C: Ord>(items: impl IntoIterator<Item = T>, class: impl Fn(&T) -> C) -> Vec<T> {
    let mut seen: BTreeMap<C, usize> = BTreeMap::new();
    let mut turns: Vec<(usize, T)> = Vec::new();
    for item in items {
        let turn = seen.entry(class(&item)).or_default();
        turns.push((*turn, item));
        *turn += 1;
    }
    turns.sort_by(|(turn, a), (other, b)| turn.cmp(other).then_with(|| class(a).cmp(&class(b))));
    turns.into_iter().map(|(_, item)| item).collect()
}
