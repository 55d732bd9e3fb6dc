//! Whole files stored together: what they have in common is done once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use xferd_os::Dir;
use xferd_wire::RemotePath;

use crate::attributes::FileAttributes;
use crate::error::{StoreError, shown};
use crate::staging::Staging;
use crate::store::{Store, split};

/// Files that [`Store::put_many`] has open at a time. Each is a descriptor, and so is each of their directories; and
/// what all of them wait for, two commits of the file system's journal, is thinly enough spread
/// (docs/why-small-files.md).
pub(crate) const FILES_TOGETHER_MAX: usize = 256;

/// A whole file, in memory.
#[derive(Debug, Clone)]
pub struct WholeFile {
    /// Where it is stored.
    pub path: RemotePath,
    /// What is in it.
    pub bytes: Vec<u8>,
    /// What it has besides.
    pub attributes: FileAttributes,
}

impl Store {
    /// Stores `files` in the order they are given, each as [`Store::put_whole`] would, and says for each what became of
    /// it. One that fails is no hindrance to the others.
    ///
    /// Each directory is looked up once for many files. Files that are to survive a power loss reach the disk together:
    /// all are written, then all are synced, then all get their names, then each directory is synced.
    ///
    /// # Errors
    /// For each file those of [`Store::put_whole`].
    pub fn put_many(&self, files: &[WholeFile], durable: bool) -> Vec<Result<(), StoreError>> {
        let durable = durable || self.options.durable;
        let mut results = Vec::with_capacity(files.len());
        for files in files.chunks(FILES_TOGETHER_MAX) {
            if durable {
                results.append(&mut self.put_synced(files));
            } else {
                let mut parents = Parents::new(self);
                results.extend(files.iter().map(|file| {
                    let dir = parents.of(file)?;
                    self.write(file, &dir)?.publish(&dir).map_err(|error| StoreError::of(&file.path, error))
                }));
            }
        }
        results
    }

    fn put_synced(&self, files: &[WholeFile]) -> Vec<Result<(), StoreError>> {
        let mut parents = Parents::new(self);
        let written: Vec<_> =
            files.iter().map(|file| parents.of(file).and_then(|dir| self.write(file, &dir))).collect();
        // The first to be synced takes the others along through the journal, and finds them written for the most part.
        let synced: Vec<_> = files
            .iter()
            .zip(written)
            .map(|(file, staging)| {
                let staging = staging?;
                staging.sync().map_err(|error| StoreError::of(&file.path, error))?;
                Ok(staging)
            })
            .collect();
        // The paths are resolved again: while the bytes went to the disk, somebody may have moved a directory out of
        // the root.
        let mut parents = Parents::new(self);
        let named: Vec<_> = files
            .iter()
            .zip(synced)
            .map(|(file, staging)| {
                let dir = parents.of(file)?;
                staging?.publish(&dir).map_err(|error| StoreError::of(&file.path, error))
            })
            .collect();
        let unsettled = parents.settle();
        let settled = |file: &WholeFile| match unsettled.get(parent(&file.path)) {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        };
        files.iter().zip(named).map(|(file, named)| named.and_then(|()| settled(file))).collect()
    }

    /// Writes a file that has no name yet, in the directory it belongs to.
    fn write(&self, file: &WholeFile, dir: &Arc<Dir>) -> Result<Staging, StoreError> {
        Staging::written(dir, &file.path, &file.bytes, &file.attributes)
            .map_err(|error| StoreError::of(&file.path, error))
    }
}

/// The directories of some files, each opened beneath the root when it is first needed, and made if it is missing.
struct Parents<'a> {
    store: &'a Store,
    dirs: HashMap<&'a str, (RemotePath, Arc<Dir>)>,
}

impl<'a> Parents<'a> {
    fn new(store: &'a Store) -> Self {
        Self { store, dirs: HashMap::new() }
    }

    /// That of `file`, if something may be put there.
    fn of(&mut self, file: &'a WholeFile) -> Result<Arc<Dir>, StoreError> {
        let path = &file.path;
        self.store.admit_change(path)?;
        match self.dirs.entry(parent(path)) {
            Entry::Occupied(known) => Ok(Arc::clone(&known.get().1)),
            Entry::Vacant(vacant) => {
                let (parent, _) = split(path).ok_or_else(|| StoreError::NotAFile { path: shown(path) })?;
                let dir = self.store.open_or_make(&parent).map_err(|error| StoreError::of(path, error))?;
                let (_, dir) = vacant.insert((parent, Arc::new(dir)));
                Ok(Arc::clone(dir))
            }
        }
    }

    /// Waits until the names in all of them are on disk. Of those where that failed, says why.
    fn settle(self) -> HashMap<&'a str, StoreError> {
        let Store { settled, root, .. } = self.store;
        let settle = |(at, (path, dir)): (_, (RemotePath, _))| {
            let error = settled.settle(root, &path, dir).err()?;
            Some((at, StoreError::of(&path, error)))
        };
        self.dirs.into_iter().filter_map(settle).collect()
    }
}

/// How the directory that `path` is in is spelled.
fn parent(path: &RemotePath) -> &str {
    path.as_str().rsplit_once('/').map_or("", |(parent, _)| parent)
}
