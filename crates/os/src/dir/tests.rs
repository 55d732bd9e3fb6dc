//! Both ways of confined opening have to answer alike, so each test asks all that this build has.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::Refusal;

type Opener = fn(BorrowedFd<'_>, &OsStr, OFlags, Links) -> io::Result<OwnedFd>;

#[cfg(all(target_os = "linux", not(xferd_portable)))]
const OPENERS: [(&str, Opener); 2] = [("openat2", openat2::open_beneath), ("walk", walk::open_beneath)];
#[cfg(not(all(target_os = "linux", not(xferd_portable))))]
const OPENERS: [(&str, Opener); 1] = [("walk", walk::open_beneath)];

const FILE: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// ```text
/// secret            outside
/// root/file         "inside"
/// root/a/b/deep     "deep"
/// ```
fn tree() -> (tempfile::TempDir, Dir) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("secret"), "outside").unwrap();
    let root = directory.path().join("root");
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(root.join("file"), "inside").unwrap();
    fs::write(root.join("a/b/deep"), "deep").unwrap();
    let dir = Dir::open(&root).unwrap();
    (directory, dir)
}

fn content(opened: OwnedFd) -> String {
    let mut text = String::new();
    File::from(opened).read_to_string(&mut text).unwrap();
    text
}

#[test]
fn links_that_stay_inside_are_followed() {
    let (directory, dir) = tree();
    let root = directory.path().join("root");
    symlink("a/b", root.join("down")).unwrap();
    symlink("../file", root.join("a/up")).unwrap();
    symlink("../../a/./b//../b/deep", root.join("a/b/around")).unwrap();
    symlink("down", root.join("twice")).unwrap();
    symlink("a/b/", root.join("slash")).unwrap();
    for (way, open) in OPENERS {
        for (path, expected) in [
            ("file", "inside"),
            ("a/b/deep", "deep"),
            ("down/deep", "deep"),
            ("a/up", "inside"),
            ("a/b/around", "deep"),
            ("twice/deep", "deep"),
            ("slash/deep", "deep"),
            ("down/../../file", "inside"),
            ("a/../file", "inside"),
            ("./a/./b/deep", "deep"),
        ] {
            let opened = open(dir.as_fd(), path.as_ref(), FILE, Links::Follow);
            assert_eq!(
                content(opened.unwrap_or_else(|error| panic!("{way} {path}: {error}"))),
                expected,
                "{way} {path}"
            );
        }
        for path in ["", ".", "a/..", "down", "slash", "a/b/.."] {
            open(dir.as_fd(), path.as_ref(), DIRECTORY, Links::Follow)
                .unwrap_or_else(|error| panic!("{way} {path:?}: {error}"));
        }
    }
}

#[test]
fn nothing_leads_out() {
    let (directory, dir) = tree();
    let root = directory.path().join("root");
    symlink("../secret", root.join("out")).unwrap();
    symlink("../../secret", root.join("a/out")).unwrap();
    symlink("..", root.join("above")).unwrap();
    symlink(directory.path().join("secret"), root.join("absolute")).unwrap();
    symlink(root.join("file"), root.join("absolute-inside")).unwrap();
    symlink("above", root.join("chain")).unwrap();
    symlink("a/b/../../../root/file", root.join("out-and-in")).unwrap();
    for (way, open) in OPENERS {
        for path in [
            "out",
            "a/out",
            "above",
            "above/secret",
            "absolute",
            "absolute-inside",
            "chain/secret",
            "out-and-in",
            "..",
            "../secret",
            "a/../../secret",
            "/",
            "/etc/passwd",
        ] {
            let error = open(dir.as_fd(), path.as_ref(), FILE, Links::Follow).unwrap_err();
            assert_eq!(Refusal::of(&error), Some(Refusal::Outside), "{way} {path}: {error}");
        }
    }
}

#[test]
fn both_ways_refuse_with_the_same_error() {
    let (directory, dir) = tree();
    let root = directory.path().join("root");
    symlink("loop", root.join("loop")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    symlink("a", root.join("link")).unwrap();
    symlink("file/", root.join("file-slash")).unwrap();
    let long = "n".repeat(256);
    for (way, open) in OPENERS {
        for (path, flags, links, expected) in [
            ("missing", FILE, Links::Follow, Errno::NOENT),
            ("missing/file", FILE, Links::Follow, Errno::NOENT),
            ("dangling", FILE, Links::Follow, Errno::NOENT),
            ("file/below", FILE, Links::Follow, Errno::NOTDIR),
            ("file", DIRECTORY, Links::Follow, Errno::NOTDIR),
            ("file/..", DIRECTORY, Links::Follow, Errno::NOTDIR),
            ("file-slash", FILE, Links::Follow, Errno::NOTDIR),
            ("loop", FILE, Links::Follow, Errno::LOOP),
            ("loop/below", FILE, Links::Follow, Errno::LOOP),
            ("link/b", DIRECTORY, Links::Refuse, Errno::LOOP),
            ("link", FILE, Links::Refuse, Errno::LOOP),
            (&long, FILE, Links::Follow, Errno::NAMETOOLONG),
        ] {
            let error = open(dir.as_fd(), path.as_ref(), flags, links).unwrap_err();
            assert_eq!(Errno::from_io_error(&error), Some(expected), "{way} {path}: {error}");
        }
    }
}

#[test]
fn as_many_links_are_followed_as_the_limit_and_no_more() {
    let (directory, dir) = tree();
    let root = directory.path().join("root");
    symlink("file", root.join("link1")).unwrap();
    for number in 2..=LINKS_MAX + 1 {
        symlink(format!("link{}", number - 1), root.join(format!("link{number}"))).unwrap();
    }
    for (way, open) in OPENERS {
        let last = format!("link{LINKS_MAX}");
        assert_eq!(
            content(open(dir.as_fd(), last.as_ref(), FILE, Links::Follow).unwrap()),
            "inside",
            "{way}"
        );
        let past = format!("link{}", LINKS_MAX + 1);
        let error = open(dir.as_fd(), past.as_ref(), FILE, Links::Follow).unwrap_err();
        assert_eq!(Refusal::of(&error), Some(Refusal::TooManyLinks), "{way}");
    }
}

#[test]
fn a_directory_that_is_swapped_for_a_link_meanwhile_leads_nowhere_else() {
    let (directory, dir) = tree();
    let root = directory.path().join("root");
    fs::create_dir(directory.path().join("outside")).unwrap();
    fs::write(directory.path().join("outside/deep"), "outside").unwrap();
    symlink("../../outside", root.join("a/trap")).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            // `a/b` is by turns a directory and a link that leads out.
            let (b, trap, aside) = (root.join("a/b"), root.join("a/trap"), root.join("a/aside"));
            while !done.load(Ordering::Relaxed) {
                fs::rename(&b, &aside).unwrap();
                fs::rename(&trap, &b).unwrap();
                fs::rename(&b, &trap).unwrap();
                fs::rename(&aside, &b).unwrap();
            }
        });
        let mut wrong = Vec::new();
        for (way, open) in OPENERS {
            for _ in 0..5_000 {
                match open(dir.as_fd(), "a/b/deep".as_ref(), FILE, Links::Follow).map(content) {
                    Ok(text) if text == "deep" => {}
                    Err(error)
                        if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::WouldBlock) => {}
                    Err(error) if Refusal::of(&error) == Some(Refusal::Outside) => {}
                    // A walk may meet the link and no longer find it, again and again.
                    Err(error) if Refusal::of(&error) == Some(Refusal::TooManyLinks) => {}
                    other => wrong.push((way, other)),
                }
            }
        }
        done.store(true, Ordering::Relaxed);
        swapper.join().unwrap();
        assert!(wrong.is_empty(), "{wrong:?}");
    });
}

#[test]
fn only_regular_files_are_opened_as_files() {
    let (directory, dir) = tree();
    let root = directory.path().join("root");
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    #[cfg(target_os = "linux")]
    rustix::fs::mknodat(&dir, "pipe", rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    #[cfg(not(target_os = "linux"))]
    rustix::fs::mkfifoat(&dir, "pipe", Mode::RUSR | Mode::WUSR).unwrap();
    for name in ["a", "socket", "pipe", ""] {
        let error = dir.open_file(name).unwrap_err();
        assert_eq!(Refusal::of(&error), Some(Refusal::NotAFile), "{name}: {error}");
    }
    let (file, attributes) = dir.open_file("file").unwrap();
    assert_eq!(attributes.size, 6);
    assert_eq!(attributes, crate::file::attributes(&file).unwrap());
}

#[test]
fn a_name_is_one_component() {
    let (_directory, dir) = tree();
    for name in ["", ".", "..", "a/b", "/", "a/", "../secret", "nul\0"] {
        assert!(dir.attributes(name).is_err(), "{name:?}");
        assert!(dir.create_file(name, 0o600).is_err(), "{name:?}");
        assert!(dir.remove_file(name).is_err(), "{name:?}");
        assert!(dir.rename("file", &dir, name).is_err(), "{name:?}");
        assert!(dir.symlink("target", name).is_err(), "{name:?}");
    }
    assert_eq!(dir.attributes("file").unwrap().size, 6);
}

#[test]
fn creating_follows_no_link_and_replaces_nothing() {
    let (directory, dir) = tree();
    symlink("../secret", directory.path().join("root/out")).unwrap();
    symlink("new", directory.path().join("root/dangling")).unwrap();
    for name in ["out", "dangling", "file", "a"] {
        assert_eq!(dir.create_file(name, 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists, "{name}");
    }
    assert!(!directory.path().join("root/new").exists());
}

#[test]
fn an_unnamed_file_is_seen_once_it_is_linked() {
    let (directory, dir) = tree();
    let Some(file) = dir.create_unnamed(0o600).unwrap() else {
        eprintln!("skipped: this system or file system has no unnamed files");
        return;
    };
    file.write_all_at(b"whole", 0).unwrap();
    let names = || dir.entries().unwrap().count();
    assert_eq!(names(), 2);
    let error = dir.link_unnamed(&file, "file").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    dir.open_dir("a").unwrap().link_unnamed(&file, "linked").unwrap();
    assert_eq!(fs::read(directory.path().join("root/a/linked")).unwrap(), b"whole");
    drop(dir.create_unnamed(0o600).unwrap());
    assert_eq!(names(), 2);
}

#[test]
fn attributes_are_set_on_a_link_itself_and_never_through_it() {
    let (directory, dir) = tree();
    let secret = directory.path().join("secret");
    let before = fs::metadata(&secret).unwrap();
    symlink("../secret", directory.path().join("root/out")).unwrap();
    let mtime = Timestamp { seconds: -7, nanoseconds: 250_000_000 };
    dir.set_attributes("out", 0o7777, mtime).unwrap();
    assert_eq!(dir.attributes("out").unwrap().mtime, mtime);
    let after = fs::metadata(&secret).unwrap();
    assert_eq!(
        (before.permissions(), before.modified().unwrap()),
        (after.permissions(), after.modified().unwrap())
    );

    for name in ["file", "a"] {
        dir.set_attributes(name, 0o750, mtime).unwrap();
        let attributes = dir.attributes(name).unwrap();
        assert_eq!((attributes.mode, attributes.mtime), (0o750, mtime), "{name}");
    }
    let endless = Timestamp { seconds: 0, nanoseconds: 1_000_000_000 };
    assert!(dir.set_attributes("file", 0o600, endless).is_err());
}

#[test]
fn entries_have_every_name_once_and_in_any_spelling() {
    let (_directory, dir) = tree();
    let odd = OsStr::from_bytes(b"\xff\xfe");
    dir.create_file(odd, 0o600).unwrap();
    for number in 0..2_000 {
        dir.create_file(format!("{number:0200}"), 0o600).unwrap();
    }
    let mut names: Vec<_> = dir.entries().unwrap().map(|entry| entry.unwrap().name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 2_003);
    assert!(names.iter().any(|name| name == odd));
    dir.sync().unwrap();
}
