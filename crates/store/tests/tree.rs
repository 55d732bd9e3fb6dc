//! What changes and shows a tree without moving bytes.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use xferd_store::{DEPTH_MAX, FileAttributes, Listed, Options, Store, StoreError};
use xferd_wire::limits::ENTRIES_MAX;
use xferd_wire::{Entry, EntryKind, ErrorCode, LinkTarget, Mtime, RemotePath};

use self::common::{path, put_whole, store};

fn put(store: &Store, at: &str, bytes: &[u8]) {
    let attributes = FileAttributes { mode: 0o644, mtime: Mtime { seconds: 7, nanoseconds: 0 } };
    put_whole(store, &path(at), bytes, &attributes, false).unwrap();
}

/// All entries by path, in the order they came; and what was skipped.
fn list(store: &Store, at: &str, recursive: bool) -> (Vec<Entry>, Vec<StoreError>) {
    let mut listing = store.list(&path(at), recursive).unwrap();
    let (mut entries, mut skipped) = (Vec::new(), Vec::new());
    loop {
        let batch = listing.next_batch(usize::MAX).unwrap();
        if batch.is_empty() {
            return (entries, skipped);
        }
        assert!(batch.len() <= ENTRIES_MAX);
        for listed in batch {
            match listed {
                Listed::Entry(entry) => entries.push(entry),
                Listed::Skipped(error) => skipped.push(error),
            }
        }
    }
}

fn paths(entries: &[Entry]) -> Vec<&str> {
    let mut paths: Vec<_> = entries.iter().map(|entry| entry.path.as_str()).collect();
    paths.sort_unstable();
    paths
}

fn code<T: std::fmt::Debug>(outcome: Result<T, StoreError>) -> ErrorCode {
    outcome.unwrap_err().code()
}

#[test]
fn a_listing_shows_each_kind_as_it_is() {
    let (directory, store) = store();
    put(&store, "d/file", b"12345");
    fs::create_dir(directory.path().join("d/sub")).unwrap();
    store.symlink(&path("d/link"), &LinkTarget::parse("sub").unwrap()).unwrap();
    symlink(OsStr::from_bytes(b"\xff"), directory.path().join("d/odd")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(directory.path().join("d/socket")).unwrap();
    let (entries, skipped) = list(&store, "d", false);
    assert!(skipped.is_empty());
    let by_path: BTreeMap<_, _> = entries.iter().map(|entry| (entry.path.as_str(), entry)).collect();
    assert_eq!(by_path.len(), 5);
    let file = by_path["file"];
    assert_eq!((file.kind, file.size, file.mode), (EntryKind::File, 5, 0o644));
    assert_eq!(file.mtime, Mtime { seconds: 7, nanoseconds: 0 });
    assert_eq!(by_path["sub"].kind, EntryKind::Directory);
    assert_eq!(by_path["link"].kind, EntryKind::Symlink);
    assert_eq!(by_path["link"].link_target.as_ref().unwrap().as_str(), "sub");
    assert_eq!((by_path["odd"].kind, &by_path["odd"].link_target), (EntryKind::Symlink, &None));
    assert_eq!(by_path["socket"].kind, EntryKind::Other);
    assert_eq!(store.stat(&path("d/file")).unwrap(), Entry { path: path("d/file"), ..file.clone() });
    assert_eq!(store.stat(&RemotePath::ROOT).unwrap().kind, EntryKind::Directory);
}

#[test]
fn a_recursive_listing_has_each_directory_before_what_is_in_it() {
    let (_directory, store) = store();
    for outer in ["x", "y"] {
        for inner in 0..5 {
            put(&store, &format!("t/{outer}/{inner}/file"), b"");
        }
    }
    store.symlink(&path("t/link"), &LinkTarget::parse("x").unwrap()).unwrap();
    let (entries, _) = list(&store, "t", true);
    assert_eq!(entries.len(), 2 + 10 + 10 + 1);
    for (index, entry) in entries.iter().enumerate() {
        let parent = entry.path.parent().unwrap();
        assert!(
            parent.is_root() || entries[..index].iter().any(|before| before.path == parent),
            "{}",
            entry.path
        );
    }
    let (root, _) = list(&store, "", true);
    assert_eq!(root.len(), entries.len() + 1);
}

#[test]
fn a_batch_has_as_many_entries_as_the_limit_and_no_more() {
    let (directory, store) = store();
    for number in 0..=ENTRIES_MAX {
        fs::write(directory.path().join(number.to_string()), "").unwrap();
    }
    let mut listing = store.list(&RemotePath::ROOT, false).unwrap();
    let sizes: Vec<_> = (0..3).map(|_| listing.next_batch(usize::MAX).unwrap().len()).collect();
    assert_eq!(sizes, [ENTRIES_MAX, 1, 0]);
    fs::remove_file(directory.path().join("0")).unwrap();
    let mut listing = store.list(&RemotePath::ROOT, false).unwrap();
    assert_eq!(listing.next_batch(usize::MAX).unwrap().len(), ENTRIES_MAX);
    assert_eq!(listing.next_batch(usize::MAX).unwrap().len(), 0);
}

#[test]
fn a_batch_ends_with_the_name_that_makes_it_as_large_as_it_may_be() {
    let (directory, store) = store();
    for name in ["aaaa", "bbbb", "cccc"] {
        fs::write(directory.path().join(name), "").unwrap();
    }
    for (names_bytes_max, sizes) in [(1, [1, 1]), (4, [1, 1]), (5, [2, 1]), (8, [2, 1]), (9, [3, 0])] {
        let mut listing = store.list(&RemotePath::ROOT, false).unwrap();
        assert_eq!([(); 2].map(|()| listing.next_batch(names_bytes_max).unwrap().len()), sizes);
    }
}

#[test]
fn names_that_are_not_utf8_are_reported_and_the_others_listed() {
    let (directory, store) = store();
    fs::create_dir_all(directory.path().join("d/dir")).unwrap();
    fs::write(directory.path().join("d/dir").join(OsStr::from_bytes(b"caf\xe9")), "").unwrap();
    fs::create_dir(directory.path().join("d").join(OsStr::from_bytes(b"\xff"))).unwrap();
    put(&store, "d/dir/gut-ö-😀", b"");
    let (entries, skipped) = list(&store, "d", true);
    assert_eq!(paths(&entries), ["dir", "dir/gut-ö-😀"]);
    let mut messages: Vec<_> = skipped.iter().map(ToString::to_string).collect();
    messages.sort();
    assert_eq!(messages.len(), 2);
    assert!(messages[0].starts_with("d/\\xff: "), "{messages:?}");
    assert!(messages[1].starts_with("d/dir/caf\\xe9: "), "{messages:?}");
    assert!(skipped.iter().all(|error| error.code() == ErrorCode::NameNotUtf8));
}

#[test]
fn a_tree_is_listed_as_deep_as_the_limit_and_no_deeper() {
    let (directory, store) = store();
    let deepest = vec!["d"; DEPTH_MAX].join("/");
    store.make_dir(&path(&deepest), 0o755, true).unwrap();
    fs::write(directory.path().join(&deepest).join("file"), "").unwrap();
    let (entries, skipped) = list(&store, "", true);
    assert_eq!(entries.len(), DEPTH_MAX);
    assert_eq!(skipped.len(), 1);
    assert_eq!(skipped[0].code(), ErrorCode::Limit);
    assert_eq!(code(store.make_dir(&path(&format!("{deepest}/d")), 0o755, true)), ErrorCode::Limit);
    fs::remove_file(directory.path().join(&deepest).join("file")).unwrap();
    store.remove(&path("d"), true).unwrap();
    assert!(list(&store, "", true).0.is_empty());
}

#[test]
fn only_directories_are_listed() {
    let (_directory, store) = store();
    put(&store, "file", b"");
    assert_eq!(code(store.list(&path("file"), false)), ErrorCode::NotADirectory);
    assert_eq!(code(store.list(&path("missing"), false)), ErrorCode::NotFound);
}

#[test]
fn directories_are_made_one_by_one_or_with_their_parents() {
    let (directory, store) = store();
    assert_eq!(code(store.make_dir(&path("a/b"), 0o755, false)), ErrorCode::NotFound);
    store.make_dir(&path("a/b"), 0o777, true).unwrap();
    let mode = fs::metadata(directory.path().join("a/b")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o777, "the umask does not apply to a mode that was asked for");
    store.make_dir(&path("a/b"), 0o700, true).unwrap();
    store.make_dir(&RemotePath::ROOT, 0o700, true).unwrap();
    assert_eq!(code(store.make_dir(&path("a/b"), 0o755, false)), ErrorCode::Exists);
    assert_eq!(code(store.make_dir(&RemotePath::ROOT, 0o755, false)), ErrorCode::Exists);
    put(&store, "file", b"");
    assert_eq!(code(store.make_dir(&path("file"), 0o755, true)), ErrorCode::NotADirectory);
    assert_eq!(code(store.make_dir(&path("file/d"), 0o755, true)), ErrorCode::NotADirectory);
    assert_eq!(code(store.make_dir(&path("file"), 0o755, false)), ErrorCode::Exists);
}

#[test]
fn a_directory_can_be_filled_until_its_attributes_are_set() {
    let (_directory, store) = store();
    store.make_dir(&path("d"), 0o555, false).unwrap();
    assert_eq!(store.stat(&path("d")).unwrap().mode, 0o755);
    put(&store, "d/file", b"x");
    let attributes = FileAttributes { mode: 0o555, mtime: Mtime { seconds: 1, nanoseconds: 2 } };
    store.set_attributes(&path("d"), &attributes).unwrap();
    let entry = store.stat(&path("d")).unwrap();
    assert_eq!((entry.mode, entry.mtime), (attributes.mode, attributes.mtime));
    store.set_attributes(&RemotePath::ROOT, &FileAttributes { mode: 0o755, ..attributes }).unwrap();
    assert_eq!(store.stat(&RemotePath::ROOT).unwrap().mtime, attributes.mtime);
}

#[test]
fn only_empty_directories_are_removed_unless_a_tree_is_meant() {
    let (directory, store) = store();
    put(&store, "d/sub/file", b"");
    fs::create_dir(directory.path().join("d").join(OsStr::from_bytes(b"\xff"))).unwrap();
    fs::write(directory.path().join("d").join(OsStr::from_bytes(b"\xff/\xfe")), "").unwrap();
    assert_eq!(code(store.remove(&path("d"), false)), ErrorCode::DirectoryNotEmpty);
    assert_eq!(code(store.remove(&RemotePath::ROOT, true)), ErrorCode::BadPath);
    assert_eq!(code(store.remove(&path("missing"), true)), ErrorCode::NotFound);
    store.remove(&path("d/sub/file"), false).unwrap();
    store.remove(&path("d/sub"), false).unwrap();
    store.remove(&path("d"), true).unwrap();
    assert!(list(&store, "", true).0.is_empty());
}

#[test]
fn a_wide_tree_is_removed_whole() {
    let (_directory, store) = store();
    for number in 0..600 {
        put(&store, &format!("t/{}/{}/file", number % 2, number), b"");
    }
    store.remove(&path("t"), true).unwrap();
    assert!(list(&store, "", false).0.is_empty());
}

#[test]
fn a_rename_replaces_files_and_makes_parents() {
    let (directory, store) = store();
    put(&store, "from", b"new");
    put(&store, "to", b"old");
    store.rename(&path("from"), &path("to")).unwrap();
    store.rename(&path("to"), &path("a/b/c")).unwrap();
    assert_eq!(fs::read(directory.path().join("a/b/c")).unwrap(), b"new");
    store.make_dir(&path("empty"), 0o755, false).unwrap();
    store.rename(&path("a"), &path("empty")).unwrap();
    assert_eq!(paths(&list(&store, "", true).0), ["empty", "empty/b", "empty/b/c"]);
}

#[test]
fn a_rename_that_makes_no_sense_changes_nothing() {
    let (_directory, store) = store();
    put(&store, "full/file", b"");
    put(&store, "d/file", b"");
    let all = list(&store, "", true).0;
    for (from, to, expected) in [
        ("d", "full", ErrorCode::DirectoryNotEmpty),
        ("d/file", "full", ErrorCode::NotAFile),
        ("d", "full/file", ErrorCode::NotADirectory),
        ("d", "d/inside", ErrorCode::InvalidArgument),
        ("missing", "x/y", ErrorCode::NotFound),
        ("d", "full/file/below", ErrorCode::NotADirectory),
        ("", "x", ErrorCode::BadPath),
        ("d", "", ErrorCode::BadPath),
    ] {
        assert_eq!(code(store.rename(&path(from), &path(to))), expected, "{from} -> {to}");
    }
    assert_eq!(paths(&all), paths(&list(&store, "", true).0));
}

#[test]
fn a_link_replaces_files_and_links_but_no_directory() {
    let (directory, store) = store();
    put(&store, "file", b"");
    store.make_dir(&path("d"), 0o755, false).unwrap();
    let target = LinkTarget::parse("anything").unwrap();
    for at in ["new", "new", "file", "p/q/link"] {
        store.symlink(&path(at), &target).unwrap();
        assert_eq!(store.stat(&path(at)).unwrap().link_target, Some(target.clone()), "{at}");
    }
    assert_eq!(code(store.symlink(&path("d"), &target)), ErrorCode::NotAFile);
    assert_eq!(code(store.symlink(&RemotePath::ROOT, &target)), ErrorCode::BadPath);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 4, "nothing is left over");
}

#[test]
fn a_link_loop_is_a_bad_path() {
    let (_directory, store) = store();
    store.symlink(&path("loop"), &LinkTarget::parse("loop").unwrap()).unwrap();
    assert_eq!(code(store.open_source(&path("loop"))), ErrorCode::BadPath);
    assert_eq!(code(store.stage(&path("loop/file"), None)), ErrorCode::BadPath);
}

#[test]
fn a_name_that_changes_between_file_and_link_is_always_one_of_them() {
    let (directory, store) = store();
    let root = directory.path();
    fs::write(root.join("name"), b"x").unwrap();
    let stopped = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stopped.load(Ordering::Relaxed) {
                symlink("elsewhere", root.join("link")).unwrap();
                fs::rename(root.join("link"), root.join("name")).unwrap();
                fs::write(root.join("file"), b"x").unwrap();
                fs::rename(root.join("file"), root.join("name")).unwrap();
            }
        });
        let kinds: Vec<_> = (0..20_000).map(|_| store.stat(&path("name")).map(|entry| entry.kind)).collect();
        stopped.store(true, Ordering::Relaxed);
        for kind in kinds {
            assert!(matches!(kind, Ok(EntryKind::File | EntryKind::Symlink)), "{kind:?}");
        }
    });
}

#[test]
fn only_regular_files_are_sources() {
    let (directory, store) = store();
    store.make_dir(&path("d"), 0o755, false).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(directory.path().join("socket")).unwrap();
    for at in ["", "d", "socket"] {
        assert_eq!(code(store.open_source(&path(at))), ErrorCode::NotAFile, "{at}");
    }
    assert_eq!(code(store.open_source(&path("missing"))), ErrorCode::NotFound);
    assert_eq!(code(store.open_source(&path("d/missing/x"))), ErrorCode::NotFound);
}

#[test]
fn a_source_that_was_written_to_has_changed() {
    let (directory, store) = store();
    let file = directory.path().join("file");
    let write =
        |bytes: &[u8], at: u64| fs::File::options().write(true).open(&file).unwrap().write_all_at(bytes, at);
    let changes: [(&str, &dyn Fn()); 4] = [
        ("grown", &|| write(b"x", 5).unwrap()),
        ("truncated", &|| fs::File::options().write(true).open(&file).unwrap().set_len(1).unwrap()),
        ("overwritten", &|| write(b"X", 0).unwrap()),
        ("overwritten and its time put back", &|| {
            let mtime = fs::metadata(&file).unwrap().modified().unwrap();
            write(b"X", 0).unwrap();
            fs::File::options().write(true).open(&file).unwrap().set_modified(mtime).unwrap();
        }),
    ];
    for (what, change) in changes {
        put(&store, "file", b"12345");
        let source = store.open_source(&path("file")).unwrap();
        source.verify_unchanged().unwrap();
        // Times have the grain of the kernel's clock tick, at most 10 ms.
        std::thread::sleep(std::time::Duration::from_millis(20));
        change();
        assert_eq!(code(source.verify_unchanged()), ErrorCode::SourceChanged, "{what}");
    }
}

#[test]
fn a_source_that_was_replaced_or_removed_is_still_what_it_was() {
    let (_directory, store) = store();
    put(&store, "file", b"old");
    let source = store.open_source(&path("file")).unwrap();
    put(&store, "file", b"other");
    source.verify_unchanged().unwrap();
    let source = store.open_source(&path("file")).unwrap();
    store.remove(&path("file"), false).unwrap();
    source.verify_unchanged().unwrap();
    assert_eq!(source.size(), 5);
}

#[test]
fn a_part_of_a_source_is_read_unless_the_source_was_changed() {
    let (_directory, store) = store();
    put(&store, "file", b"12345");
    let source = store.open_source(&path("file")).unwrap();
    let mut bytes = b"1".to_vec();
    source.read(1, 4, &mut bytes).unwrap();
    source.read(5, 5, &mut bytes).unwrap();
    assert_eq!(bytes, b"1234");
    assert_eq!(source.read(4, 6, &mut bytes).unwrap_err().code(), ErrorCode::SourceChanged);
    assert_eq!(
        source.attributes(),
        FileAttributes { mode: 0o644, mtime: Mtime { seconds: 7, nanoseconds: 0 } }
    );
}

#[test]
fn a_store_needs_a_directory() {
    let (directory, store) = store();
    put(&store, "file", b"");
    let open = |name: &str| Store::open(&directory.path().join(name), Options::default());
    assert_eq!(code(open("file")), ErrorCode::NotADirectory);
    let error = open("missing").unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotFound);
    assert!(error.to_string().contains("missing"), "{error}");
}
