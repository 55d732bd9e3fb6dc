//! Removing files, links, directories and trees.

use std::ffi::{OsStr, OsString};
use std::io;

use xferd_os::{Dir, DirEntry, Kind};
use xferd_wire::RemotePath;

use crate::error::StoreError;
use crate::names::DEPTH_MAX;
use crate::store::{Store, split};

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
    // Names from `dir` down to the directory that is being emptied.
    let mut way = vec![OsString::from(name)];
    while let Some((last, above)) = way.split_last() {
        let emptied = dir.open_dir_unlinked(way.join(OsStr::new("/")))?;
        match remove_until_directory(&emptied)? {
            Some(_) if way.len() == DEPTH_MAX => {
                return Err(io::Error::other("the tree is too deep to be removed"));
            }
            Some(inner) => way.push(inner),
            None => {
                ignore_missing(dir.open_dir_unlinked(above.join(OsStr::new("/")))?.remove_dir(last))?;
                way.pop();
            }
        }
    }
    Ok(())
}

/// Removes what is in `dir` up to the first directory, whose name is returned.
fn remove_until_directory(dir: &Dir) -> io::Result<Option<OsString>> {
    for entry in dir.entries()? {
        let DirEntry { name, kind } = entry?;
        let kind = match kind {
            Some(kind) => kind,
            None => dir.attributes(&name)?.kind,
        };
        if kind == Kind::Directory {
            return Ok(Some(name));
        }
        ignore_missing(dir.remove_file(&name))?;
    }
    Ok(None)
}

/// Somebody else removes the same tree: that is as good.
fn ignore_missing(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}
