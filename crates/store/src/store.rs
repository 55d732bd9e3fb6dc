//! The tree itself, and what changes it without moving bytes.

use std::io;
use std::path::Path;
use std::sync::Arc;

use xferd_os::{Dir, Refusal};
use xferd_wire::{LinkTarget, RemotePath};

use crate::attributes::{FileAttributes, permissions};
use crate::error::{StoreError, shown};
use crate::names::{admit, staging_name};
use crate::settled::Settled;
use crate::write_path::{WritePaths, WritePolicy};

/// What a directory made on the way gets, less the umask of the process.
const PARENT_MODE: u32 = 0o777;

/// The owner can always work in a directory that is just being filled.
const OWNER_MODE: u32 = 0o700;

/// How a store behaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Every change is refused.
    pub read_only: bool,
    /// Every file and every name is on disk before it is acknowledged, whether the caller asks for it or not. Modes and
    /// times that [`Store::set_attributes`] changes later are not waited for.
    pub durable: bool,
    /// Which way large files take to the disk.
    pub write_policy: WritePolicy,
}

/// A directory tree that nothing leads out of.
///
/// Paths are resolved beneath the root at the moment of each call: links inside are followed on the way, but not as the
/// last component of what is changed, so that replacing or removing a link never touches what it points to. Names of
/// unfinished files (`.xferd-` and 16 hexadecimal digits) are neither shown nor accepted.
///
/// Share it in an `Arc`; all methods may be called from many threads at once. All block.
#[derive(Debug)]
pub struct Store {
    pub(crate) root: Dir,
    pub(crate) options: Options,
    pub(crate) settled: Settled,
    pub(crate) write_paths: WritePaths,
}

impl Store {
    /// Opens the tree beneath the directory `root`.
    ///
    /// # Errors
    /// [`StoreError`] naming `root`, above all [`StoreError::NotFound`], [`StoreError::NotADirectory`] and
    /// [`StoreError::Permission`].
    pub fn open(root: &Path, options: Options) -> Result<Self, StoreError> {
        let dir = Dir::open(root).map_err(|error| StoreError::of_shown(root.display().to_string(), error))?;
        let write_paths = WritePaths::new(options.write_policy);
        Ok(Self { root: dir, options, settled: Settled::default(), write_paths })
    }

    /// Makes the directory `path` with the permission bits `mode`, to which those of the owner are added: a directory
    /// has to be filled before [`Store::set_attributes`] may close it. With `parents`, missing directories on the way
    /// are made as well, and an existing directory is no error.
    ///
    /// # Errors
    /// [`StoreError::Exists`], and [`StoreError::NotFound`] for a missing parent, unless `parents`;
    /// [`StoreError::NotADirectory`] if something else has the name.
    pub fn make_dir(&self, path: &RemotePath, mode: u32, parents: bool) -> Result<(), StoreError> {
        self.admit_change(path)?;
        let failed = |error| StoreError::of(path, error);
        let Some((parent, name)) = split(path) else {
            return if parents { Ok(()) } else { Err(StoreError::Exists { path: shown(path) }) };
        };
        let dir = if parents { self.open_or_make(&parent) } else { self.root.open_dir(parent.as_str()) };
        let dir = dir.map_err(failed)?;
        let mode = permissions(mode) | OWNER_MODE;
        match dir.make_dir(name, mode) {
            Ok(()) if xferd_os::file::is_mode_kept(mode) => {}
            Ok(()) => dir.open_dir_unlinked(name).and_then(|made| made.set_mode(mode)).map_err(failed)?,
            Err(error) if parents && error.kind() == io::ErrorKind::AlreadyExists => {
                self.root.open_dir(path.as_str()).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        self.settle_change(&parent, dir).map_err(failed)
    }

    /// Makes the symbolic link `path`, atomically replacing a file or a link of that name. Missing parents are made.
    ///
    /// # Errors
    /// [`StoreError::LinkEscapes`] if the target is absolute or has more `..` than there are directories above it;
    /// [`StoreError::NotAFile`] if `path` is a directory.
    pub fn symlink(&self, path: &RemotePath, target: &LinkTarget) -> Result<(), StoreError> {
        self.admit_change(path)?;
        let failed = |error| StoreError::of(path, error);
        let (parent, name) = split(path).ok_or(StoreError::Root)?;
        if escapes(&parent, target) {
            return Err(StoreError::LinkEscapes { path: path.to_string(), target: target.to_string() });
        }
        let dir = self.open_or_make(&parent).map_err(failed)?;
        match dir.symlink(target.as_str(), name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let staging = staging_name();
                dir.symlink(target.as_str(), &staging).map_err(failed)?;
                if let Err(error) = dir.rename(&staging, &dir, name) {
                    // If that fails as well, the next sweep removes it.
                    let _ = dir.remove_file(&staging);
                    return Err(failed(error));
                }
            }
            made => made.map_err(failed)?,
        }
        self.settle_change(&parent, dir).map_err(failed)
    }

    /// Renames `from` to `to`, atomically replacing a file, a link or an empty directory of that name. Missing parents
    /// of `to` are made.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for `from`; for `to` [`StoreError::NotAFile`], [`StoreError::NotADirectory`] or
    /// [`StoreError::DirectoryNotEmpty`] if it is a directory and `from` is not, the other way round, or a directory
    /// with content; [`StoreError::IntoItself`].
    pub fn rename(&self, from: &RemotePath, to: &RemotePath) -> Result<(), StoreError> {
        self.admit_change(from)?;
        self.admit_change(to)?;
        let (from_parent, from_name) = split(from).ok_or(StoreError::Root)?;
        let (to_parent, to_name) = split(to).ok_or(StoreError::Root)?;
        let from_dir =
            self.root.open_dir(from_parent.as_str()).map_err(|error| StoreError::of(from, error))?;
        // Before anything is made for `to`.
        from_dir.attributes(from_name).map_err(|error| StoreError::of(from, error))?;
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::InvalidInput if Refusal::of(&error).is_none() => {
                StoreError::IntoItself { path: from.to_string() }
            }
            // rename(2) may say either of a directory that is not empty.
            io::ErrorKind::AlreadyExists => StoreError::DirectoryNotEmpty { path: to.to_string() },
            _ => StoreError::of(to, error),
        };
        let to_dir = self.open_or_make(&to_parent).map_err(failed)?;
        from_dir.rename(from_name, &to_dir, to_name).map_err(failed)?;
        self.settled.forget();
        self.settle_change(&to_parent, to_dir).map_err(failed)?;
        self.settle_change(&from_parent, from_dir).map_err(failed)
    }

    /// Sets what a file or a directory has besides content. Of a symbolic link only the time is set, of the link itself.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Permission`] and the like.
    pub fn set_attributes(&self, path: &RemotePath, attributes: &FileAttributes) -> Result<(), StoreError> {
        self.admit_change(path)?;
        let (mode, mtime) = (attributes.permissions(), attributes.timestamp());
        let set = match split(path) {
            None => self.root.set_own_attributes(mode, mtime),
            Some((parent, name)) => {
                self.root.open_dir(parent.as_str()).and_then(|dir| dir.set_attributes(name, mode, mtime))
            }
        };
        set.map_err(|error| StoreError::of(path, error))
    }

    /// Refuses `path` if nothing can be changed there.
    pub(crate) fn admit_change(&self, path: &RemotePath) -> Result<(), StoreError> {
        admit(path)?;
        if self.options.read_only {
            return Err(StoreError::ReadOnly { path: shown(path) });
        }
        Ok(())
    }

    /// Opens the directory `path` and makes it, and those above it, if they are missing.
    pub(crate) fn open_or_make(&self, path: &RemotePath) -> io::Result<Dir> {
        match self.root.open_dir(path.as_str()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let Some((parent, name)) = split(path) else { return Err(error) };
                match self.open_or_make(&parent)?.make_dir(name, PARENT_MODE) {
                    // Somebody else was faster, or it is a link to nothing; opening it tells.
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                    _ => self.root.open_dir(path.as_str()),
                }
            }
            opened => opened,
        }
    }

    /// After a change in `dir`, which is at `path`: on disk if the store promises that.
    pub(crate) fn settle_change(&self, path: &RemotePath, dir: Dir) -> io::Result<()> {
        if self.options.durable { self.settled.settle(&self.root, path, Arc::new(dir)) } else { Ok(()) }
    }
}

/// The directory that `path` is in, and its name there. `None` for the root.
pub(crate) fn split(path: &RemotePath) -> Option<(RemotePath, &str)> {
    path.parent().zip(path.file_name())
}

/// Whether a link in the directory `parent` that points to `target` leads above the root at any step.
fn escapes(parent: &RemotePath, target: &LinkTarget) -> bool {
    let mut depth = parent.components().count();
    for component in target.as_str().split('/') {
        match component {
            ".." if depth == 0 => return true,
            ".." => depth -= 1,
            "" | "." => {}
            _ => depth += 1,
        }
    }
    target.as_str().starts_with('/')
}
