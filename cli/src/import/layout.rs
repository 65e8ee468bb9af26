//! Which split and class a file belongs to by where it lies: `train|val|test/CLASS/*` or `CLASS/*`. Pure.
//!
//! Everything inside a class folder is taken for an image, deeper folders included, and refused by name later if it is
//! none. Files beside the class folders are part of the data set's documentation, not of its images: at the top they
//! are ignored, inside a split folder they are refused by name.

use ceteris_shared::dataset::Split;

use super::{Candidate, Error, Refusal, Refused, tree::Tree};

/// The images of `tree` with the class, and where the layout has it the split, that their path gives them.
///
/// # Errors
/// When split folders and others lie side by side, or when a class folder is empty.
pub fn candidates(tree: Tree) -> Result<(Vec<Candidate>, Vec<Refused>), Error> {
    let top: Vec<&str> = tree.folders.iter().map(String::as_str).filter(|folder| !folder.contains('/')).collect();
    let is_split = |folder: &str| folder.parse::<Split>().is_ok();
    let split_layout = top.iter().any(|folder| is_split(folder));
    if let (Some(split), Some(other)) =
        (top.iter().find(|folder| is_split(folder)), top.iter().find(|folder| !is_split(folder)))
    {
        return Err(Error::MixedLayout { split: (*split).to_owned(), other: (*other).to_owned() });
    }
    let depth_of_class = if split_layout { 2 } else { 1 };
    check_folders(&tree, depth_of_class)?;
    let mut refused = tree.refused;
    let mut found = Vec::new();
    for file in tree.files {
        let parts: Vec<&str> = file.split('/').collect();
        match (split_layout, parts.as_slice()) {
            (_, [_]) => {}
            (true, [_, _]) => refused.push(Refused { file, reason: Refusal::OutsideClasses }),
            (true, [split, class, ..]) => {
                let (split, class) = (split.parse().ok(), (*class).to_owned());
                found.push(Candidate { file, class, split, patient: None, digest: None });
            }
            (false, [class, ..]) => {
                let class = (*class).to_owned();
                found.push(Candidate { file, class, split: None, patient: None, digest: None });
            }
            (_, []) => unreachable!("splitting a text gives at least one part"),
        }
    }
    Ok((found, refused))
}

/// No class folder is empty.
fn check_folders(tree: &Tree, depth_of_class: usize) -> Result<(), Error> {
    for folder in tree.folders.iter().filter(|folder| folder.split('/').count() == depth_of_class) {
        let prefix = format!("{folder}/");
        let at = tree.files.partition_point(|file| *file < prefix);
        if tree.files.get(at).is_none_or(|file| !file.starts_with(&prefix)) {
            let class = folder.rsplit('/').next().unwrap_or(folder).to_owned();
            return Err(Error::EmptyFolder { class, place: prefix });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str], empty_folders: &[&str]) -> Tree {
        let mut tree = Tree { files: files.iter().map(|f| (*f).to_owned()).collect(), ..Tree::default() };
        tree.folders = empty_folders.iter().map(|f| (*f).to_owned()).collect();
        for file in files {
            let ends = file.match_indices('/').map(|(at, _)| file[..at].to_owned());
            tree.folders.extend(ends);
        }
        tree.folders.sort();
        tree.folders.dedup();
        tree.files.sort();
        tree
    }

    #[test]
    fn a_split_layout_gives_split_and_class() {
        let (found, refused) = candidates(tree(
            &["train/NORMAL/a.png", "val/SICK/p1/b.png", "test/notes.txt", "manifest.csv", "train/NORMAL/README.md"],
            &[],
        ))
        .unwrap();
        let placed: Vec<_> = found.iter().map(|c| (c.file.as_str(), c.split, c.class.as_str())).collect();
        assert_eq!(
            placed,
            [
                ("train/NORMAL/README.md", Some(Split::Train), "NORMAL"),
                ("train/NORMAL/a.png", Some(Split::Train), "NORMAL"),
                ("val/SICK/p1/b.png", Some(Split::Val), "SICK"),
            ]
        );
        assert_eq!(refused, [Refused { file: "test/notes.txt".to_owned(), reason: Refusal::OutsideClasses }]);
    }

    #[test]
    fn a_class_layout_gives_the_class_alone() {
        let (found, refused) = candidates(tree(&["NORMAL/a.png", "SICK/b.png", "manifest.csv"], &[])).unwrap();
        assert!(found.iter().all(|c| c.split.is_none()) && found.len() == 2 && refused.is_empty());
    }

    #[test]
    fn mistakes_are_named() {
        let mixed = candidates(tree(&["train/A/a.png", "valid/A/b.png"], &[])).unwrap_err().to_string();
        assert!(mixed.contains("train/") && mixed.contains("valid/"), "{mixed}");
        let empty = candidates(tree(&["train/A/a.png"], &["train/B"])).unwrap_err().to_string();
        assert!(empty.contains("\"B\"") && empty.contains("train/B/"), "{empty}");
    }
}
