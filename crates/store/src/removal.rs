//! Removing files, links, directories and trees.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use xferd_os::{Dir, DirEntry, Kind};
use xferd_wire::RemotePath;

use crate::error::StoreError;
use crate::names::DEPTH_MAX;
use crate::store::{Store, split};

/// Directories in one directory that are remembered before they are removed. Starting to read it again after each of
/// them would take a time that grows with the square of their number.
const INNER_MAX: usize = 256;

impl Store {
    /// Removes what is at `path`; if that is a link, the link. With `recursive`, a directory goes with all it contains.
    ///
    /// # Errors
    /// [`StoreError::DirectoryNotEmpty`] unless `recursive`, or if something is added meanwhile; [`StoreError::Root`].
    /// If removing a tree fails, a part of it is gone.
    pub fn remove(&self, path: &RemotePath, recursive: bool) -> Result<(), StoreError> {
        self.admit_change(path)?;
        let failed = |error: io::Error| match error.kind() {
            // What rmdir(2) may say as well.
            io::ErrorKind::AlreadyExists => StoreError::DirectoryNotEmpty { path: path.to_string() },
            _ => StoreError::of(path, error),
        };
        let (parent, name) = split(path).ok_or(StoreError::Root)?;
        let dir = self.root.open_dir(parent.as_str()).map_err(failed)?;
        let kind = dir.attributes(name).map_err(failed)?.kind;
        let removed = match kind {
            Kind::Directory if recursive => remove_tree(&dir, name),
            Kind::Directory => dir.remove_dir(name),
            _ => dir.remove_file(name),
        };
        removed.and_then(|()| self.settle_change(&parent, dir)).map_err(failed)
    }
}

/// Removes the directory `name` in `dir` and all it contains, with two directories open at a time and no link followed.
fn remove_tree(dir: &Dir, name: &str) -> io::Result<()> {
    let mut way = vec![Level { path: PathBuf::from(name), inner: Vec::new() }];
    loop {
        let depth = way.len();
        let Some(level) = way.last_mut() else { return Ok(()) };
        if level.inner.is_empty() {
            level.inner = if_present(dir.open_dir_unlinked(&level.path).and_then(|dir| remove_files(&dir)))?;
        }
        match level.inner.pop() {
            Some(_) if depth == DEPTH_MAX => {
                return Err(io::Error::other(
                    "the tree is too deep to be removed at once; remove its parts first",
                ));
            }
            Some(name) => {
                let path = level.path.join(name);
                way.push(Level { path, inner: Vec::new() });
            }
            None => {
                if_present(remove_empty(dir, &level.path))?;
                way.pop();
            }
        }
    }
}

/// A directory that is being emptied.
struct Level {
    path: PathBuf,
    /// Directories in it that are known to be there.
    inner: Vec<OsString>,
}

/// Removes what is in `dir` and no directory. Returns some of the directories; none if there is none.
fn remove_files(dir: &Dir) -> io::Result<Vec<OsString>> {
    let mut inner = Vec::new();
    for entry in dir.entries()? {
        let DirEntry { name, kind } = entry?;
        let kind = match kind {
            Some(kind) => kind,
            None => dir.attributes(&name)?.kind,
        };
        if kind != Kind::Directory {
            if_present(dir.remove_file(&name))?;
            continue;
        }
        inner.push(name);
        if inner.len() == INNER_MAX {
            break;
        }
    }
    Ok(inner)
}

/// Removes the empty directory at the path `path`.
fn remove_empty(dir: &Dir, path: &Path) -> io::Result<()> {
    let parent = dir.open_dir_unlinked(path.parent().unwrap_or(Path::new("")))?;
    parent.remove_dir(path.file_name().unwrap_or_default())
}

/// Somebody else removes the same tree: that is as good.
fn if_present<T: Default>(outcome: io::Result<T>) -> io::Result<T> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        outcome => outcome,
    }
}
