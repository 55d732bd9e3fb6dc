//! What tests of a store have in common.

#![allow(dead_code, reason = "each test file needs a part of it")]
#![allow(clippy::unwrap_used)]

use xferd_store::{FileAttributes, Options, Store, StoreError, WholeFile};
use xferd_wire::RemotePath;

/// A store over a directory of its own.
pub(crate) fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), Options::default()).unwrap();
    (directory, store)
}

pub(crate) fn path(path: &str) -> RemotePath {
    RemotePath::parse(path).unwrap()
}

/// Stores a file that is in memory.
pub(crate) fn put_whole(
    store: &Store,
    path: &RemotePath,
    bytes: &[u8],
    attributes: &FileAttributes,
    durable: bool,
) -> Result<(), StoreError> {
    let file = WholeFile { path: path.clone(), bytes: bytes.to_vec(), attributes: *attributes };
    store.put_many(&[file], durable).remove(0)
}
