//! No descriptor left. Alone in its process, because the limit is for all of it.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use rustix::process::{Resource, getrlimit, setrlimit};
use xferd_store::{FileAttributes, StoreError};
use xferd_wire::{ErrorCode, RemotePath};

use self::common::{path, put_whole, store};

#[test]
fn a_process_without_descriptors_says_so_and_recovers() {
    let (_directory, store) = store();
    let (file, new) = (path("file"), path("d/new"));
    let attributes = FileAttributes { mode: 0o644, ..FileAttributes::default() };
    put_whole(&store, &file, b"x", &attributes, false).unwrap();
    let attempts = || -> [Result<(), StoreError>; 4] {
        [
            store.open_source(&file).map(drop),
            store.list(&RemotePath::ROOT, true).map(drop),
            put_whole(&store, &new, b"x", &attributes, false),
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
