//! What files a folder holds. The only part of an import, besides reading the images themselves, that looks at a disk.
//!
//! Hidden entries (`.name`) and the `__MACOSX` folders of Apple's archives are ignored. A link to a file is followed
//! when it stays inside the folder; links to folders are not followed, so there are no cycles.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Error, Refusal, Refused};

/// The most files and folders that are listed.
pub const MAX_ENTRIES: usize = 4_000_000;
/// The most folders inside each other.
pub const MAX_DEPTH: usize = 32;

/// The listing of a folder. Paths are relative to it, with `/` between their parts, and sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    pub files: Vec<String>,
    pub folders: Vec<String>,
    pub refused: Vec<Refused>,
}

/// Lists everything below `root`.
///
/// # Errors
/// When a folder cannot be read or there are more than [`MAX_ENTRIES`] entries.
pub fn read(root: &Path) -> Result<Tree, Error> {
    let root = root.canonicalize().map_err(|source| Error::Read { path: root.to_owned(), source })?;
    let mut tree = Tree::default();
    let mut waiting = vec![(root.clone(), String::new(), 0)];
    let mut seen = 0;
    while let Some((folder, prefix, depth)) = waiting.pop() {
        let broken = |source| Error::Read { path: folder.clone(), source };
        for entry in fs::read_dir(&folder).map_err(broken)? {
            let entry = entry.map_err(broken)?;
            seen += 1;
            if seen > MAX_ENTRIES {
                return Err(Error::TooManyFiles(root));
            }
            let name = entry.file_name();
            let lossy = name.to_string_lossy();
            if lossy.starts_with('.') || lossy == "__MACOSX" {
                continue;
            }
            let file = format!("{prefix}{lossy}");
            match kind(&root, &entry.path(), name.to_str().is_some(), depth) {
                Ok(Kind::File) => tree.files.push(file),
                Ok(Kind::Folder) => {
                    waiting.push((entry.path(), format!("{file}/"), depth + 1));
                    tree.folders.push(file);
                }
                Err(reason) => tree.refused.push(Refused { file, reason }),
            }
        }
    }
    tree.files.sort();
    tree.folders.sort();
    tree.refused.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(tree)
}

enum Kind {
    File,
    Folder,
}

fn kind(root: &Path, path: &Path, name_is_text: bool, depth: usize) -> Result<Kind, Refusal> {
    if !name_is_text {
        return Err(Refusal::NameNotUtf8);
    }
    let unreadable = |error: std::io::Error| Refusal::Unreadable(error.to_string());
    let here = fs::symlink_metadata(path).map_err(unreadable)?;
    if here.is_dir() {
        return if depth < MAX_DEPTH { Ok(Kind::Folder) } else { Err(Refusal::TooDeep) };
    }
    if here.is_symlink() {
        return link(root, path);
    }
    if here.is_file() { Ok(Kind::File) } else { Err(Refusal::NotAFile) }
}

fn link(root: &Path, path: &Path) -> Result<Kind, Refusal> {
    let target: PathBuf = path.canonicalize().map_err(|_| Refusal::LeadsOut)?;
    if target.is_dir() {
        Err(Refusal::LinkedFolder)
    } else if !target.starts_with(root) {
        Err(Refusal::LeadsOut)
    } else if target.is_file() {
        Ok(Kind::File)
    } else {
        Err(Refusal::NotAFile)
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::{ffi::OsStrExt, fs::symlink, net::UnixListener};

    use super::*;

    #[test]
    fn lists_files_and_refuses_what_leads_out() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret.png"), b"x").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("A/deep")).unwrap();
        fs::create_dir_all(root.join("__MACOSX/A")).unwrap();
        fs::write(root.join("A/deep/one.png"), b"1").unwrap();
        fs::write(root.join("A/.DS_Store"), b"2").unwrap();
        symlink(root.join("A/deep/one.png"), root.join("A/inside.png")).unwrap();
        symlink(outside.path().join("secret.png"), root.join("A/outside.png")).unwrap();
        symlink(root.join("nowhere"), root.join("A/dangling.png")).unwrap();
        symlink(root, root.join("A/loop")).unwrap();
        fs::write(root.join("A").join(std::ffi::OsStr::from_bytes(b"bad\xff.png")), b"3").unwrap();
        let _socket = UnixListener::bind(root.join("A/socket.png")).unwrap();

        let tree = read(root).unwrap();
        assert_eq!(tree.files, ["A/deep/one.png", "A/inside.png"]);
        assert_eq!(tree.folders, ["A", "A/deep"]);
        let refused: Vec<_> = tree.refused.iter().map(|r| (r.file.as_str(), r.reason.clone())).collect();
        assert_eq!(
            refused,
            [
                ("A/bad\u{fffd}.png", Refusal::NameNotUtf8),
                ("A/dangling.png", Refusal::LeadsOut),
                ("A/loop", Refusal::LinkedFolder),
                ("A/outside.png", Refusal::LeadsOut),
                ("A/socket.png", Refusal::NotAFile),
            ]
        );
    }

    #[test]
    fn a_missing_folder_is_an_error_that_names_it() {
        let error = read(Path::new("/no/such/folder")).unwrap_err().to_string();
        assert!(error.starts_with("cannot read /no/such/folder: "), "{error}");
    }
}
