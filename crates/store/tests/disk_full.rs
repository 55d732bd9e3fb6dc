//! A disk without room, on a small file system of its own.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use xferd_store::{FileAttributes, Options, Store, StoreError};
use xferd_wire::ErrorCode;

use self::common::{path, put_whole};

/// A tmpfs of one megabyte, unmounted in the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where one may not mount.
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(directory.path())
            .output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(directory))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing_behind() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("skipped: mounting a tmpfs needs root on Linux");
        return;
    };
    let store = Store::open(disk.path(), Options::default()).unwrap();
    let path = path("file");
    let attributes = FileAttributes { mode: 0o644, ..FileAttributes::default() };
    let large = vec![1; 2 << 20];

    // Told when the room is taken, or where that cannot be done in advance, when it is written.
    match store.stage(&path, Some(large.len() as u64)) {
        Err(error) => assert_eq!(error.code(), ErrorCode::DiskFull, "{error}"),
        Ok(staging) => {
            let error = staging.sink().write_all_at(&large, 0).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        }
    }
    let error = put_whole(&store, &path, &large, &attributes, false).unwrap_err();
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");

    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0);
    put_whole(&store, &path, &large[..900 << 10], &attributes, true).unwrap();
}
