//! No descriptor left. Alone in its process, because the limit is for all of it.
#![allow(clippy::unwrap_used)]

use std::fs;

use rustix::process::{Resource, getrlimit, setrlimit};
use xferd_store::{FileAttributes, Options, Store, StoreError};
use xferd_wire::{ErrorCode, RemotePath};

#[test]
fn a_process_without_descriptors_says_so_and_recovers() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), Options::default()).unwrap();
    let (file, new) = (RemotePath::parse("file").unwrap(), RemotePath::parse("d/new").unwrap());
    let attributes = FileAttributes { mode: 0o644, ..FileAttributes::default() };
    store.put_whole(&file, b"x", &attributes, false).unwrap();
    let attempts = || -> [Result<(), StoreError>; 4] {
        [
            store.open_source(&file).map(drop),
            store.list(&RemotePath::ROOT, true).map(drop),
            store.put_whole(&new, b"x", &attributes, false),
            store.stage(&new, Some(1)).map(drop),
        ]
    };

    let mut limit = getrlimit(Resource::Nofile);
    limit.current = Some(64);
    setrlimit(Resource::Nofile, limit).unwrap();
    let held: Vec<_> = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();
    for outcome in attempts() {
        let error = outcome.unwrap_err();
        assert_eq!(error.code(), ErrorCode::TooManyFiles, "{error}");
        assert!(error.code().retryable());
    }
    drop(held);
    for outcome in attempts() {
        outcome.unwrap();
    }
}
