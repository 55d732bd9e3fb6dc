//! A final name is absent, old or complete.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use xferd_store::{FileAttributes, Options, Staging, Store};
use xferd_wire::limits::FILE_BYTES_MAX;
use xferd_wire::{ErrorCode, Mtime, RemotePath};

use self::common::{path, put_whole, store};

fn attributes() -> FileAttributes {
    FileAttributes { mode: 0o640, mtime: Mtime { seconds: 1_000_000_007, nanoseconds: 5 } }
}

fn staged(store: &Store, at: &str, bytes: &[u8]) -> Staging {
    let staging = store.stage(&path(at), Some(bytes.len() as u64)).unwrap();
    staging.sink().write_all_at(bytes, 0).unwrap();
    staging
}

/// Names of all kinds in a directory, staging files among them.
fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_committed_file_has_its_bytes_mode_and_time() {
    let (directory, store) = store();
    for durable in [false, true] {
        store.commit(staged(&store, "a/b/file", b"bytes"), 5, &attributes(), durable).unwrap();
        put_whole(&store, &path("a/b/whole"), b"bytes", &attributes(), durable).unwrap();
        for name in ["a/b/file", "a/b/whole"] {
            let file = directory.path().join(name);
            assert_eq!(fs::read(&file).unwrap(), b"bytes", "{name}");
            let metadata = fs::metadata(&file).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o7777, 0o640);
            assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (1_000_000_007, 5));
        }
        assert_eq!(names(&directory.path().join("a/b")), ["file", "whole"]);
    }
}

#[test]
fn empty_and_unsized_files_are_committed() {
    let (directory, store) = store();
    store.commit(staged(&store, "empty", b""), 0, &attributes(), false).unwrap();
    put_whole(&store, &path("empty-whole"), b"", &attributes(), false).unwrap();
    let staging = store.stage(&path("unsized"), None).unwrap();
    staging.sink().write_all_at(b"four", 0).unwrap();
    store.commit(staging, 4, &attributes(), false).unwrap();
    assert_eq!(fs::read(directory.path().join("unsized")).unwrap(), b"four");
    assert_eq!(names(directory.path()), ["empty", "empty-whole", "unsized"]);
}

#[test]
fn a_dropped_staging_leaves_nothing_and_an_existing_file_as_it_was() {
    let (directory, store) = store();
    fs::write(directory.path().join("file"), "old").unwrap();
    for at in ["file", "new"] {
        drop(staged(&store, at, b"new content"));
    }
    assert_eq!(names(directory.path()), ["file"]);
    assert_eq!(fs::read(directory.path().join("file")).unwrap(), b"old");
}

#[test]
fn an_existing_file_stays_as_it_was_until_the_commit() {
    let (directory, store) = store();
    let file = directory.path().join("file");
    fs::write(&file, "old").unwrap();
    let staging = staged(&store, "file", b"new");
    assert_eq!(fs::read(&file).unwrap(), b"old");
    store.commit(staging, 3, &attributes(), false).unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"new");
    assert_eq!(names(directory.path()), ["file"]);
}

#[test]
fn a_reader_sees_the_old_or_the_new_file_and_never_none_or_a_part() {
    let (directory, store) = store();
    let file = directory.path().join("file");
    let contents = [vec![b'a'; 100_000], vec![b'b'; 50_000]];
    put_whole(&store, &path("file"), &contents[0], &attributes(), false).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for number in 0..300 {
                let bytes = &contents[number % 2];
                if number % 3 == 0 {
                    put_whole(&store, &path("file"), bytes, &attributes(), false).unwrap();
                } else {
                    store
                        .commit(staged(&store, "file", bytes), bytes.len() as u64, &attributes(), false)
                        .unwrap();
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) && !writer.is_finished() {
            let bytes = fs::read(&file).unwrap();
            assert!(contents.contains(&bytes), "{} bytes", bytes.len());
        }
    });
    assert_eq!(names(directory.path()), ["file"]);
}

#[test]
fn a_short_file_is_never_committed() {
    let (directory, store) = store();
    let staging = store.stage(&path("file"), Some(5)).unwrap();
    staging.sink().write_all_at(b"four", 0).unwrap();
    assert_eq!(store.commit(staging, 5, &attributes(), false).unwrap_err().code(), ErrorCode::SizeMismatch);
    assert_eq!(names(directory.path()), [""; 0]);
}

#[test]
fn a_file_that_is_longer_or_shorter_than_announced_is_never_committed() {
    let (directory, store) = store();
    for (announced, written, committed) in
        [(Some(3), "four", 3), (Some(3), "four", 4), (Some(5), "four", 4), (None, "four", 3)]
    {
        let staging = store.stage(&path("file"), announced).unwrap();
        staging.sink().write_all_at(written.as_bytes(), 0).unwrap();
        let error = store.commit(staging, committed, &attributes(), false).unwrap_err();
        assert_eq!(error.code(), ErrorCode::SizeMismatch, "{announced:?} {committed}: {error}");
    }
    assert_eq!(names(directory.path()), [""; 0]);
}

#[test]
fn a_size_past_the_limit_is_refused_before_anything_is_made() {
    let (directory, store) = store();
    let error = store.stage(&path("d/file"), Some(FILE_BYTES_MAX + 1)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Limit);
    assert_eq!(names(directory.path()), [""; 0]);
    // At the limit it is up to the file system, which may find it too large or have too little room.
    if let Err(error) = store.stage(&path("d/file"), Some(FILE_BYTES_MAX)) {
        assert!(matches!(error.code(), ErrorCode::Limit | ErrorCode::DiskFull), "{error}");
    }
    assert_eq!(names(&directory.path().join("d")), [""; 0]);
}

#[test]
fn a_directory_is_never_replaced_by_a_file() {
    let (directory, store) = store();
    fs::create_dir(directory.path().join("d")).unwrap();
    for at in [path("d"), RemotePath::ROOT] {
        assert_eq!(store.stage(&at, Some(1)).unwrap_err().code(), ErrorCode::NotAFile);
        assert_eq!(
            put_whole(&store, &at, b"x", &attributes(), false).unwrap_err().code(),
            ErrorCode::NotAFile
        );
    }
    let staging = staged(&store, "later", b"x");
    fs::create_dir(directory.path().join("later")).unwrap();
    assert_eq!(store.commit(staging, 1, &attributes(), false).unwrap_err().code(), ErrorCode::NotAFile);
    assert_eq!(names(directory.path()), ["d", "later"]);
}

#[test]
fn a_file_is_never_taken_for_a_directory() {
    let (directory, store) = store();
    fs::write(directory.path().join("file"), "x").unwrap();
    for at in ["file/below", "file/far/below"] {
        assert_eq!(store.stage(&path(at), None).unwrap_err().code(), ErrorCode::NotADirectory, "{at}");
        assert_eq!(
            put_whole(&store, &path(at), b"x", &attributes(), false).unwrap_err().code(),
            ErrorCode::NotADirectory,
            "{at}"
        );
    }
}

#[test]
fn a_name_may_be_as_long_as_the_file_system_takes_and_no_longer() {
    let (directory, store) = store();
    let longest = "n".repeat(255);
    put_whole(&store, &path(&longest), b"x", &attributes(), false).unwrap();
    store.commit(staged(&store, &longest, b"y"), 1, &attributes(), false).unwrap();
    assert_eq!(names(directory.path()), [longest]);
    assert!(RemotePath::parse(&"n".repeat(256)).is_err());
}

#[test]
fn a_path_too_long_for_the_system_is_a_bad_path() {
    let (_directory, store) = store();
    // 16 components of 255 bytes: allowed on the wire, and with the NUL one byte too long for Linux.
    let longest = vec!["n".repeat(255); 16].join("/") + "/";
    let at = path(longest.trim_end_matches('/'));
    match put_whole(&store, &at, b"x", &attributes(), false) {
        Ok(()) => assert_eq!(store.open_source(&at).unwrap().size(), 1),
        Err(error) => assert_eq!(error.code(), ErrorCode::BadPath, "{error}"),
    }
}

#[test]
fn dangerous_bits_of_a_mode_are_left_out() {
    let (directory, store) = store();
    let attributes = FileAttributes { mode: 0o7755, ..attributes() };
    put_whole(&store, &path("whole"), b"x", &attributes, false).unwrap();
    store.commit(staged(&store, "staged", b"x"), 1, &attributes, false).unwrap();
    store.make_dir(&path("d"), 0o7555, false).unwrap();
    let mode = |name: &str| fs::metadata(directory.path().join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("whole"), mode("staged"), mode("d")), (0o755, 0o755, 0o755));
    store.set_attributes(&path("whole"), &FileAttributes { mode: 0o4711, ..attributes }).unwrap();
    assert_eq!(mode("whole"), 0o711);
}

#[test]
fn names_of_unfinished_files_are_refused_and_hidden() {
    let (directory, store) = store();
    let name = ".xferd-0123456789abcdef";
    for at in [name.to_owned(), format!("d/{name}"), format!("{name}/file")] {
        assert_eq!(store.stage(&path(&at), None).unwrap_err().code(), ErrorCode::BadPath, "{at}");
        assert_eq!(store.open_source(&path(&at)).unwrap_err().code(), ErrorCode::BadPath, "{at}");
        assert_eq!(store.rename(&path("x"), &path(&at)).unwrap_err().code(), ErrorCode::BadPath, "{at}");
    }
    fs::write(directory.path().join(name), "").unwrap();
    assert!(store.list(&RemotePath::ROOT, true).unwrap().next_batch(usize::MAX).unwrap().is_empty());
}

#[test]
fn a_sweep_removes_what_is_dead_and_leaves_what_is_alive() {
    let (directory, store) = store();
    let deep = directory.path().join("a/b");
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "stays").unwrap();
    fs::write(deep.join(".xferd-notes"), "stays").unwrap();
    fs::write(deep.join(".xferd-00000000000000aa"), "dead").unwrap();
    fs::write(directory.path().join(".xferd-00000000000000bb"), "dead").unwrap();
    symlink("nowhere", deep.join(".xferd-00000000000000cc")).unwrap();
    let alive = staged(&store, "a/b/alive", b"alive");
    let locked = fs::File::create(deep.join(".xferd-00000000000000dd")).unwrap();
    assert!(xferd_os::file::try_lock_exclusive(&locked).unwrap());

    let goes_on = AtomicBool::new(false);
    assert_eq!(store.sweep(&AtomicBool::new(true)).unwrap(), 0);
    assert_eq!(store.sweep(&goes_on).unwrap(), 2);
    store.commit(alive, 5, &attributes(), false).unwrap();
    // A link cannot be locked; a young one may be about to get its name.
    let (link, held) = (".xferd-00000000000000cc", ".xferd-00000000000000dd");
    assert_eq!(names(&deep), [link, held, ".xferd-notes", "alive", "file"]);
    drop(locked);
    assert_eq!(store.sweep(&goes_on).unwrap(), 1);
    assert_eq!(store.sweep(&goes_on).unwrap(), 0);
}

#[test]
fn many_stagings_of_one_path_do_not_disturb_each_other() {
    let (directory, store) = store();
    let all: Vec<_> = (0..20u8).map(|byte| staged(&store, "d/file", &[byte; 100])).collect();
    std::thread::scope(|scope| {
        for staging in all {
            scope.spawn(|| store.commit(staging, 100, &attributes(), false).unwrap());
        }
    });
    let bytes = fs::read(directory.path().join("d/file")).unwrap();
    assert_eq!(bytes.len(), 100);
    assert!(bytes.iter().all(|byte| *byte == bytes[0]));
    assert_eq!(names(&directory.path().join("d")), ["file"]);
}

#[test]
fn a_read_only_store_refuses_every_change() {
    let (directory, _) = store();
    fs::write(directory.path().join("file"), "x").unwrap();
    let store = Store::open(directory.path(), Options { read_only: true, ..Options::default() }).unwrap();
    let (file, new) = (path("file"), path("new"));
    let target = xferd_wire::LinkTarget::parse("file").unwrap();
    for outcome in [
        store.stage(&new, None).map(drop),
        put_whole(&store, &file, b"y", &attributes(), false),
        store.remove(&file, false),
        store.rename(&file, &new),
        store.make_dir(&new, 0o755, true),
        store.symlink(&new, &target),
        store.set_attributes(&file, &attributes()),
    ] {
        assert_eq!(outcome.unwrap_err().code(), ErrorCode::ReadOnly);
    }
    assert_eq!(store.open_source(&file).unwrap().size(), 1);
    assert_eq!(names(directory.path()), ["file"]);
}

#[test]
fn a_durable_store_does_everything_the_others_do() {
    let (directory, _) = store();
    let store = Store::open(directory.path(), Options { durable: true, ..Options::default() }).unwrap();
    for number in 0..3 {
        let at = format!("a/b/{number}/file");
        store.commit(staged(&store, &at, b"x"), 1, &attributes(), false).unwrap();
        put_whole(&store, &path(&at), b"y", &attributes(), false).unwrap();
        store.rename(&path(&format!("a/b/{number}")), &path(&format!("c/{number}"))).unwrap();
        put_whole(&store, &path(&format!("c/{number}/file")), b"z", &attributes(), false).unwrap();
        store.make_dir(&path(&format!("c/{number}/d")), 0o755, false).unwrap();
        store.remove(&path(&format!("c/{number}")), true).unwrap();
    }
    assert_eq!(names(&directory.path().join("c")), [""; 0]);
}
