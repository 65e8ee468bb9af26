//! Files for users: written aside and renamed, so that a name never stands for half a file, and never over something that is there.

use std::{
    io::{BufWriter, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use tempfile::NamedTempFile;

use crate::failure::Failure;

/// A file in the making.
#[derive(Debug)]
pub struct Aside<'a> {
    path: &'a Path,
    force: bool,
    file: NamedTempFile,
}

impl<'a> Aside<'a> {
    /// Begins to write `path`.
    ///
    /// # Errors
    /// When it exists, unless `force`d, and when its folder cannot be written to.
    pub fn begin(path: &'a Path, force: bool) -> Result<Self, Failure> {
        if !force && path.exists() {
            return Err(exists(path));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = tempfile::Builder::new()
            .prefix(".ceteris-")
            .permissions(std::fs::Permissions::from_mode(0o644))
            .tempfile_in(folder)
            .map_err(|error| Failure::io(format!("write {}", path.display()), &error))?;
        Ok(Self { path, force, file })
    }

    /// What to write to.
    pub fn writer(&mut self) -> BufWriter<&mut std::fs::File> {
        BufWriter::new(self.file.as_file_mut())
    }

    /// Gives it its name, and returns its length.
    ///
    /// # Errors
    /// When it cannot be written to its end, and when somebody else has made a file of this name, unless forced.
    pub fn commit(self) -> Result<u64, Failure> {
        let writing = |error: &std::io::Error| Failure::io(format!("write {}", self.path.display()), error);
        self.file.as_file().sync_all().map_err(|error| writing(&error))?;
        let bytes = self.file.as_file().metadata().map_err(|error| writing(&error))?.len();
        let kept = if self.force { self.file.persist(self.path) } else { self.file.persist_noclobber(self.path) };
        match kept {
            Ok(_) => Ok(bytes),
            Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Err(exists(self.path)),
            Err(error) => Err(writing(&error.error)),
        }
    }
}

/// What is said where a file would be overwritten.
pub fn exists(path: &Path) -> Failure {
    Failure::usage(format!("{} exists", path.display())).help("give another name, or overwrite it with --force")
}

/// Writes a whole file, and returns its length.
///
/// # Errors
/// As [`Aside`].
pub fn write(path: &Path, bytes: &[u8], force: bool) -> Result<u64, Failure> {
    let mut aside = Aside::begin(path, force)?;
    let writing = |error: std::io::Error| Failure::io(format!("write {}", path.display()), &error);
    let mut writer = aside.writer();
    writer.write_all(bytes).and_then(|()| writer.flush()).map_err(writing)?;
    drop(writer);
    aside.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_overwritten_unless_forced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("report.html");
        assert_eq!(write(&path, b"one", false), Ok(3));
        let refused = write(&path, b"two", false).expect_err("it exists");
        assert_eq!(refused.exit, crate::failure::Exit::Usage);
        assert_eq!(std::fs::read(&path).expect("the first"), b"one");
        // Somebody makes it while it is being written.
        let other = folder.path().join("late.html");
        let mut aside = Aside::begin(&other, false).expect("it does not exist");
        aside.writer().write_all(b"mine").expect("a file");
        std::fs::write(&other, b"theirs").expect("a file");
        assert_eq!(aside.commit().expect_err("it exists now").exit, crate::failure::Exit::Usage);
        assert_eq!(std::fs::read(&other).expect("theirs"), b"theirs");
        assert_eq!(write(&path, b"three", true), Ok(5));
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 2, "nothing is left lying about");
    }
}
