//! Whole files stored together: what they have in common is done once.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use xferd_os::{Dir, HashMap, seeded};
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
    /// Stores `files` in the order they are given, each as [`Store::stage`], writing and [`Store::commit`] would with more
    /// system calls, and says for each what became of it. One that fails is no hindrance to the others.
    ///
    /// Each directory is looked up once for many files. Files that are to survive a power loss reach the disk together:
    /// all are written, then all are synced, then all get their names, then each directory is synced.
    ///
    /// # Errors
    /// For each file those of both.
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
        // Blocks are allocated when bytes leave for the disk, and that is what a sync has to commit: done for all first,
        // the commit for the first file takes the others along (docs/why-small-files.md).
        written.iter().flatten().for_each(Staging::start_writeback);
        let synced: Vec<_> = files
            .iter()
            .zip(written)
            .map(|(file, staging)| {
                let mut staging = staging?;
                if !seeded!(AckBeforeSync) {
                    staging.sync().map_err(|error| StoreError::of(&file.path, error))?;
                }
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
        Self { store, dirs: HashMap::default() }
    }

    /// That of `file`, if something may be put there.
    fn of(&mut self, file: &'a WholeFile) -> Result<Arc<Dir>, StoreError> {
        let path = &file.path;
        self.store.admit_change(path)?;
        let (at, _) = split(path).ok_or_else(|| StoreError::NotAFile { path: shown(path) })?;
        match self.dirs.entry(parent(path)) {
            Entry::Occupied(known) => Ok(Arc::clone(&known.get().1)),
            Entry::Vacant(vacant) => {
                let dir = self.store.open_or_make(&at).map_err(|error| StoreError::of(path, error))?;
                let (_, dir) = vacant.insert((at, Arc::new(dir)));
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use xferd_wire::{ErrorCode, Mtime};

    use super::*;
    use crate::store::Options;

    fn whole(path: &str, bytes: &[u8]) -> WholeFile {
        let attributes =
            FileAttributes { mode: 0o640, mtime: Mtime { seconds: 1_000_000_007, nanoseconds: 5 } };
        WholeFile { path: RemotePath::parse(path).unwrap(), bytes: bytes.to_vec(), attributes }
    }

    fn each_store(test: impl Fn(&std::path::Path, &Store, bool)) {
        for durable in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let store = Store::open(directory.path(), Options::default()).unwrap();
            test(directory.path(), &store, durable);
        }
    }

    #[test]
    fn each_file_has_its_bytes_mode_and_time() {
        each_store(|root, store, durable| {
            let paths = ["top", "a/b/first", "c/other", "a/b/second", "empty"];
            let files: Vec<_> = paths
                .iter()
                .map(|path| whole(path, if *path == "empty" { b"" } else { path.as_bytes() }))
                .collect();
            assert!(store.put_many(&files, durable).iter().all(Result::is_ok));
            for file in files {
                let stored = root.join(file.path.as_str());
                let metadata = fs::metadata(&stored).unwrap();
                assert_eq!(fs::read(&stored).unwrap(), file.bytes);
                assert_eq!(metadata.permissions().mode() & 0o7777, 0o640);
                assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (1_000_000_007, 5));
            }
            assert!(store.put_many(&[], durable).is_empty());
        });
    }

    #[test]
    fn a_file_that_fails_is_no_hindrance_to_the_others() {
        each_store(|root, store, durable| {
            fs::write(root.join("file"), b"old").unwrap();
            fs::create_dir(root.join("directory")).unwrap();
            symlink("/", root.join("out")).unwrap();
            let paths = [
                ("good", None),
                ("file/beneath", Some(ErrorCode::NotADirectory)),
                ("directory", Some(ErrorCode::NotAFile)),
                (".xferd-0123456789abcdef", Some(ErrorCode::BadPath)),
                ("out/tmp", Some(ErrorCode::OutsideRoot)),
                ("", Some(ErrorCode::NotAFile)),
                ("directory/good", None),
            ];
            let files: Vec<_> = paths.iter().map(|(path, _)| whole(path, b"new")).collect();
            let results = store.put_many(&files, durable);
            for ((path, expected), result) in paths.iter().zip(results) {
                assert_eq!(result.as_ref().err().map(StoreError::code), *expected, "{path}: {result:?}");
                if expected.is_none() {
                    assert_eq!(fs::read(root.join(path)).unwrap(), b"new");
                }
            }
            assert_eq!(fs::read(root.join("file")).unwrap(), b"old");
            assert_eq!(fs::read_dir(root).unwrap().count(), 4, "nothing is left behind");
        });
    }

    #[test]
    fn of_two_files_of_one_name_the_later_one_stays() {
        each_store(|root, store, durable| {
            let files = [whole("d/f", b"first"), whole("x", b"x"), whole("d/f", b"second")];
            assert!(store.put_many(&files, durable).iter().all(Result::is_ok));
            assert_eq!(fs::read(root.join("d/f")).unwrap(), b"second");
            assert_eq!(fs::read_dir(root.join("d")).unwrap().count(), 1);
        });
    }

    #[test]
    fn as_many_files_as_are_open_together_are_stored_and_more() {
        each_store(|root, store, durable| {
            for count in [FILES_TOGETHER_MAX, FILES_TOGETHER_MAX + 1] {
                let files: Vec<_> =
                    (0..count).map(|number| whole(&format!("{count}/{number}"), b"x")).collect();
                let results = store.put_many(&files, durable);
                assert_eq!((results.len(), results.iter().all(Result::is_ok)), (count, true));
                assert_eq!(fs::read_dir(root.join(count.to_string())).unwrap().count(), count);
            }
        });
    }

    #[test]
    fn a_read_only_store_takes_none() {
        let directory = tempfile::tempdir().unwrap();
        let store =
            Store::open(directory.path(), Options { read_only: true, durable: true, ..Options::default() })
                .unwrap();
        for result in store.put_many(&[whole("a", b"x"), whole("d/b", b"x")], false) {
            assert_eq!(result.unwrap_err().code(), ErrorCode::ReadOnly);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
