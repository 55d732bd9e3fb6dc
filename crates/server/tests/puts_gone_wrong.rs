//! Puts that are no good: each is answered, the connection goes on, and what was there before stays.

mod common;

use std::os::unix::fs::symlink;
use std::process::Command;

use common::{
    STAGED_BYTES, Site, announce, digest, each_site, extent, frame, get, path, pattern, put, put_spelled,
};
use xferd_server::PUTS_ARRIVING_MAX;
use xferd_wire::{ErrorCode, Frame, MakeDir, Rename, SetAttributes, Symlink};

/// A small size, which is kept in memory, and a large one, which is staged.
const SIZES: [usize; 2] = [1000, STAGED_BYTES];

#[test]
fn a_file_that_did_not_come_whole_and_right_is_refused_and_the_old_one_stays() {
    each_site(|site| {
        site.write("x", b"old");
        for size in SIZES {
            let whole = pattern(size);
            let (announced, right) = (announce("x", Some(size as u64)), digest(&whole));
            let unsized_put = announce("x", None);
            let sum = |of: &[u8]| frame(7, &Frame::Digest(digest(of)));
            let commit = |size: usize| frame(7, &Frame::Commit { size: size as u64 });
            let short = &whole[..size - 1];
            for (what, start, rest, code) in [
                (
                    "wrong digest",
                    &announced,
                    [extent(7, 0, &whole), sum(b"")].concat(),
                    ErrorCode::DigestMismatch,
                ),
                (
                    "wrong algorithm",
                    &announced,
                    [extent(7, 0, &whole), frame(7, &Frame::Digest(xferd_wire::Digest::NONE))].concat(),
                    ErrorCode::Protocol,
                ),
                (
                    "two digests",
                    &announced,
                    [extent(7, 0, &whole), sum(&whole), sum(&whole)].concat(),
                    ErrorCode::Protocol,
                ),
                ("no digest", &announced, [extent(7, 0, &whole), commit(size)].concat(), ErrorCode::Protocol),
                ("too much at once", &announced, extent(7, 0, &pattern(size + 1)), ErrorCode::SizeMismatch),
                (
                    "too much in the end",
                    &announced,
                    [extent(7, 0, &whole), extent(7, size as u64, b"x")].concat(),
                    ErrorCode::SizeMismatch,
                ),
                (
                    "too little",
                    &announced,
                    [extent(7, 0, short), sum(short), commit(size - 1)].concat(),
                    ErrorCode::SizeMismatch,
                ),
                (
                    "too little, unnoticed",
                    &announced,
                    [extent(7, 0, short), sum(short), commit(size)].concat(),
                    ErrorCode::SizeMismatch,
                ),
                ("nothing", &announced, [sum(b""), commit(size)].concat(), ErrorCode::SizeMismatch),
                (
                    "another size than came",
                    &unsized_put,
                    [extent(7, 0, &whole), sum(&whole), commit(size + 1)].concat(),
                    ErrorCode::SizeMismatch,
                ),
                ("a gap", &announced, extent(7, 1, short), ErrorCode::Protocol),
                (
                    "a repetition",
                    &announced,
                    [extent(7, 0, short), extent(7, 0, b"x")].concat(),
                    ErrorCode::Protocol,
                ),
                (
                    "more after the digest",
                    &announced,
                    [extent(7, 0, short), sum(short), extent(7, size as u64 - 1, b"x")].concat(),
                    ErrorCode::Protocol,
                ),
                (
                    "cancelled",
                    &announced,
                    [extent(7, 0, short), frame(7, &Frame::Cancel)].concat(),
                    ErrorCode::Aborted,
                ),
                ("cancelled at once", &announced, frame(7, &Frame::Cancel), ErrorCode::Aborted),
            ] {
                let mut peer = site.peer();
                peer.send(7, start);
                peer.say(&rest);
                match peer.answer() {
                    (7, Frame::Error(reply)) => assert_eq!(reply.code, code, "{what}, {size}: {reply}"),
                    other => panic!("{what}, {size}: {other:?}"),
                }
                // What still comes of it is dropped, and its number is free.
                peer.say(&extent(7, 0, &whole));
                peer.send(7, &Frame::Digest(right));
                peer.send(7, &Frame::Commit { size: size as u64 });
                peer.send(7, &Frame::Cancel);
                peer.put(7, "new", &whole);
                peer.committed(7, &whole);
                assert_eq!(site.read("x"), b"old", "{what}, {size}");
            }
        }
        site.is_well_and_has(&["new", "x"]);
    });
}

#[test]
fn a_file_whose_sender_ends_its_stream_early_is_answered_and_dropped() {
    each_site(|site| {
        site.write("x", b"old");
        for size in SIZES {
            for came in [0, 1, size / 2, size] {
                let mut peer = site.peer();
                peer.send(7, &announce("x", Some(size as u64)));
                if came > 0 {
                    peer.say(&extent(7, 0, &pattern(came)));
                }
                peer.end();
                peer.refused(7, ErrorCode::ConnectionLost);
                peer.closed();
            }
        }
        assert_eq!(site.read("x"), b"old");
        site.is_well_and_has(&["x"]);
    });
}

#[test]
fn what_is_in_the_way_is_named_and_nothing_outside_is_touched() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("x"), b"outside").unwrap();
    each_site(|site| {
        let at = |path: &str| site.root.path().join(path);
        std::fs::create_dir_all(at("folder/below")).unwrap();
        site.write("file", b"file");
        symlink(outside.path(), at("absolute")).unwrap();
        symlink("../", at("up")).unwrap();
        symlink("self", at("self")).unwrap();
        let reserved = ".xferd-0123456789abcdef";
        for size in [0, SIZES[0], SIZES[1]] {
            for (target, code) in [
                ("absolute/x", ErrorCode::OutsideRoot),
                ("absolute/new/x", ErrorCode::OutsideRoot),
                ("up/x", ErrorCode::OutsideRoot),
                ("self/x", ErrorCode::BadPath),
                ("folder", ErrorCode::NotAFile),
                ("file/x", ErrorCode::NotADirectory),
                (reserved, ErrorCode::BadPath),
                (&["d"; 257].join("/"), ErrorCode::Limit),
            ] {
                let mut peer = site.peer();
                peer.put(7, target, &pattern(size));
                match peer.answer() {
                    (7, Frame::Error(reply)) => assert_eq!(reply.code, code, "{target}, {size}: {reply}"),
                    other => panic!("{target}, {size}: {other:?}"),
                }
                peer.put(8, "new", b"new");
                peer.committed(8, b"new");
            }
        }
        // A link that is itself the target is replaced, not followed.
        symlink(outside.path().join("x"), at("link")).unwrap();
        let mut peer = site.peer();
        peer.put(7, "link", b"inside");
        peer.committed(7, b"inside");
        drop(peer);
        assert_eq!(std::fs::read(outside.path().join("x")).unwrap(), b"outside");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
        site.is_well_and_has(&["absolute", "file", "folder", "folder/below", "link", "new", "self", "up"]);
    });
}

#[test]
fn a_full_disk_is_reported_and_serves_again_once_there_is_room() {
    for workers in [0, 2] {
        let root = tempfile::tempdir().unwrap();
        let Some(_mounted) = mount_small(root.path()) else { return };
        let site = Site::with(|config| (config.root, config.workers) = (root.path().to_path_buf(), workers));
        let (fits, too_much) = (pattern(500_000), pattern(900_000));
        let mut peer = site.peer();
        peer.put(1, "first", &fits);
        peer.committed(1, &fits);
        peer.say(&frame(2, &announce("first", Some(too_much.len() as u64))));
        peer.say(&extent(2, 0, &too_much));
        peer.refused(2, ErrorCode::DiskFull);
        peer.say(&frame(3, &announce("first", None)));
        peer.say(&extent(3, 0, &too_much));
        peer.refused(3, ErrorCode::DiskFull);
        let rest = pattern(60_000);
        let mut stored = 0;
        let refused = loop {
            peer.put(4, &format!("rest{stored}"), &rest);
            match peer.answer() {
                (4, Frame::Committed(_)) => stored += 1,
                (4, Frame::Error(reply)) => break reply.code,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(refused, ErrorCode::DiskFull);
        for number in 0..stored {
            std::fs::remove_file(root.path().join(format!("rest{number}"))).unwrap();
        }
        peer.put(5, "second", &rest);
        peer.committed(5, &rest);
        drop(peer);
        assert!(std::fs::read(root.path().join("first")).unwrap() == fits);
        common::serves(site.address());
        site.server.stop();
        assert_eq!(common::names(root.path()), ["first", "proof", "second"]);
    }
}

/// A tmpfs of a megabyte, for as long as this lives.
struct Mounted<'a>(&'a std::path::Path);

fn mount_small(at: &std::path::Path) -> Option<Mounted<'_>> {
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(at).output();
    if mount.is_ok_and(|output| output.status.success()) {
        return Some(Mounted(at));
    }
    eprintln!("skipped: mounting a small tmpfs takes root");
    None
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // Lazily: a server that has ended in an assertion may still have it open.
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn as_many_files_arrive_side_by_side_as_the_limit_says_and_no_more() {
    each_site(|site| {
        let mut peer = site.peer();
        let limit = u32::try_from(PUTS_ARRIVING_MAX).unwrap();
        let whole = pattern(50_000);
        for request in 1..=limit + 1 {
            peer.send(request, &announce(&format!("{request:02}"), Some(whole.len() as u64)));
        }
        peer.refused(limit + 1, ErrorCode::Limit);
        for (at, part) in whole.chunks(7001).enumerate() {
            for request in 1..=limit + 1 {
                peer.say(&extent(request, at as u64 * 7001, part));
            }
        }
        for request in 1..=limit + 1 {
            peer.send(request, &Frame::Digest(digest(&whole)));
            peer.send(request, &Frame::Commit { size: whole.len() as u64 });
        }
        for request in 1..=limit {
            peer.committed(request, &whole);
        }
        drop(peer);
        let stored: Vec<String> = (1..=limit).map(|request| format!("{request:02}")).collect();
        for name in &stored {
            assert!(site.read(name) == whole, "{name}");
        }
        site.is_well_and_has(&stored.iter().map(String::as_str).collect::<Vec<_>>());
    });
}

#[test]
fn a_number_that_is_still_in_use_ends_the_connection() {
    each_site(|site| {
        for (first, second) in [
            (announce("x", Some(9)), get("y")),
            (announce("x", None), announce("x", None)),
            (announce("x", Some(9)), Frame::Stat(path("x"))),
        ] {
            let mut peer = site.peer();
            peer.send(7, &first);
            peer.send(7, &second);
            peer.refused(0, ErrorCode::Protocol);
            peer.closed();
        }
        site.is_well_and_has(&[]);
    });
}

#[test]
fn what_concerns_no_open_request_is_dropped() {
    each_site(|site| {
        let mut peer = site.peer();
        peer.say(&extent(7, 99, &pattern(200_000)));
        peer.send(7, &Frame::Digest(digest(b"")));
        peer.send(7, &Frame::Commit { size: 3 });
        peer.send(7, &Frame::Cancel);
        peer.say(&put(7, "x", b"x"));
        peer.send(7, &Frame::Commit { size: 1 });
        peer.committed(7, b"x");
        peer.send(7, &Frame::Commit { size: 1 });
        peer.send(0, &Frame::Ping(1));
        assert_eq!(peer.answer(), (0, Frame::Pong(1)));
        drop(peer);
        site.is_well_and_has(&["x"]);
    });
}

#[test]
fn a_read_only_server_changes_nothing() {
    let site = Site::with(|config| config.read_only = true);
    site.write("x", b"old");
    let mut peer = site.peer();
    for size in [0, SIZES[0], SIZES[1]] {
        peer.put(7, "x", &pattern(size));
        peer.refused(7, ErrorCode::ReadOnly);
    }
    let target = xferd_wire::LinkTarget::parse("x").unwrap();
    for change in [
        Frame::Remove(xferd_wire::Remove { path: path("x"), recursive: true }),
        Frame::Rename(Rename { from: path("x"), to: path("y") }),
        Frame::MakeDir(MakeDir { path: path("y"), mode: 0o755, parents: true }),
        Frame::Symlink(Symlink { path: path("y"), target }),
        Frame::SetAttributes(SetAttributes { path: path("x"), mode: 0, mtime: Default::default() }),
    ] {
        peer.send(7, &change);
        peer.refused(7, ErrorCode::ReadOnly);
    }
    peer.send(7, &get("x"));
    assert_eq!(peer.file(7), b"old");
    assert_eq!(common::names(site.root.path()), ["x"]);
}

#[test]
fn a_path_that_is_spelled_well_is_taken() {
    // Guards the tests that spell paths badly.
    let site = Site::new();
    let mut peer = site.peer();
    peer.say(&put_spelled(7, "a/ü ✓".as_bytes()));
    peer.send(7, &Frame::Digest(digest(b"")));
    peer.send(7, &Frame::Commit { size: 0 });
    peer.committed(7, b"");
    drop(peer);
    site.is_well_and_has(&["a", "a/ü ✓"]);
}
