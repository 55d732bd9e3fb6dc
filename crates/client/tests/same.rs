//! What is there already is not transferred again.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use xferd_client::{Client, Compare, PullSpec, PushSpec, Receipt};
use xferd_server::{Config, Server};
use xferd_wire::{
    Decoder, DigestAlgorithm, Entry, EntryKind, ErrorCode, Frame, Framed, Hello, Item, Mtime, encode,
};

use self::common::{Pair, begin_pull, begin_push, config, push};

impl Pair {
    /// A tree of files in directories beside and in each other, with a link.
    fn tree(&self) -> PathBuf {
        let tree = self.local.path().join("tree");
        for directory in ["a/b", "c", "empty"] {
            fs::create_dir_all(tree.join(directory)).unwrap();
        }
        for number in 0..FILES {
            let directory = ["", "a", "a/b", "c"][number % 4];
            fs::write(tree.join(directory).join(number.to_string()), vec![number as u8; number]).unwrap();
        }
        fs::write(tree.join("c/large"), vec![7; LARGE]).unwrap();
        symlink("b/2", tree.join("a/link")).unwrap();
        tree
    }

    fn remote(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }
}

const FILES: usize = 300;
const LARGE: usize = 200_000;
const TREE_BYTES: u64 = (FILES * (FILES - 1) / 2 + LARGE) as u64;
const TREE_FILES: u64 = FILES as u64 + 1;

fn push_of(source: &Path, compare: Compare) -> PushSpec {
    PushSpec { compare, ..common::push_of(&[source], "there") }
}

fn pull_of(destination: &Path, compare: Compare) -> PullSpec {
    PullSpec { compare, ..common::pull_of(&["there"], destination) }
}

/// Files sent, directories and links made, files left out.
fn counts(receipt: &Receipt) -> (u64, u64, u64, u64) {
    (receipt.files, receipt.directories, receipt.links, receipt.unchanged)
}

/// Sets the time of a change, without which a test could be done within one tick of the clock.
fn set_modified(path: &Path, modified: SystemTime) {
    fs::File::open(path).unwrap().set_modified(modified).unwrap();
}

fn modified(path: &Path) -> SystemTime {
    fs::symlink_metadata(path).unwrap().modified().unwrap()
}

/// Changes the content and neither size nor time.
fn change_secretly(path: &Path) {
    let (was, bytes) = (modified(path), fs::read(path).unwrap());
    fs::write(path, bytes.iter().map(|byte| !byte).collect::<Vec<_>>()).unwrap();
    set_modified(path, was);
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn an_unchanged_tree_is_not_sent_again() {
    for (streams, clients) in [(1, 1), (4, 1), (1, 3)] {
        let pair = Pair::default();
        let tree = pair.tree();
        let spec = PushSpec { streams, clients, ..push_of(&tree, Compare::Times) };
        let copies = clients as u64;
        let first = pair.push(spec.clone()).unwrap();
        assert_eq!(
            (first.files, first.links, first.unchanged),
            (TREE_FILES * copies, copies, 0),
            "{first:?}"
        );
        // Of several connections one may have made a directory, on the way to a file, that another is about to make.
        assert!(first.directories == 5 * copies || streams > 1, "{first:?}");
        let before = pair.server.stats();

        let push = begin_push(&pair.client, spec.clone()).unwrap();
        let again = push.end().unwrap();
        assert_eq!(counts(&again), (0, 0, 0, TREE_FILES * copies), "{again:?}");
        assert_eq!((again.bytes, again.unchanged_bytes), (0, TREE_BYTES * copies));
        let progress = push.job.progress();
        assert_eq!((progress.files, progress.total_files), (TREE_FILES * copies, TREE_FILES * copies));
        assert_eq!((progress.bytes, progress.total_bytes), (TREE_BYTES * copies, TREE_BYTES * copies));
        let after = pair.server.stats();
        assert_eq!(after.files_received, before.files_received);
        assert_eq!((before.errors, after.errors), (0, 0), "to ask what is there is no failure");
    }
}

#[test]
fn a_read_only_server_has_nothing_against_a_push_of_what_it_has() {
    let pair = Pair::default();
    let tree = pair.tree();
    pair.push(push_of(&tree, Compare::Times)).unwrap();
    let server = Server::start(Config { read_only: true, ..config(pair.root.path()) }).unwrap();
    let client =
        Client::open(server.listening()[0].address.clone(), xferd_client::Config::default()).unwrap();
    let receipt = push(&client, push_of(&tree, Compare::Times)).unwrap();
    assert_eq!(counts(&receipt), (0, 0, 0, TREE_FILES));
}

#[test]
fn what_is_new_or_newer_or_of_another_size_is_sent() {
    let pair = Pair::default();
    let tree = pair.tree();
    pair.push(push_of(&tree, Compare::Times)).unwrap();
    let touched = tree.join("a/b/2");
    set_modified(&touched, modified(&touched) + Duration::from_nanos(1));
    let grown = tree.join("a/1");
    let was = modified(&grown);
    fs::write(&grown, "grown").unwrap();
    set_modified(&grown, was);
    fs::create_dir(tree.join("c/new")).unwrap();
    fs::write(tree.join("c/new/file"), "new").unwrap();
    fs::remove_file(tree.join("a/link")).unwrap();
    symlink("b/6", tree.join("a/link")).unwrap();

    let spec = push_of(&tree, Compare::Times);
    let rehearsed = pair.push(PushSpec { dry_run: true, ..spec.clone() }).unwrap();
    assert_eq!(counts(&rehearsed), (3, 1, 1, TREE_FILES - 2));
    assert_eq!(rehearsed.bytes, 2 + 5 + 3);
    assert!(!pair.remote("there/c/new").exists());

    let receipt = pair.push(spec).unwrap();
    assert_eq!(counts(&receipt), (3, 1, 1, TREE_FILES - 2));
    assert_eq!(fs::read(pair.remote("there/a/1")).unwrap(), b"grown");
    assert_eq!(fs::read(pair.remote("there/c/new/file")).unwrap(), b"new");
    assert_eq!(fs::read_link(pair.remote("there/a/link")).unwrap(), Path::new("b/6"));
    for path in ["", "a", "a/b", "a/b/2", "c", "c/new", "empty"] {
        assert_eq!(modified(&pair.remote("there").join(path)), modified(&tree.join(path)), "{path}");
    }
}

#[test]
fn a_change_that_neither_size_nor_time_tells_is_sent_if_nothing_is_compared() {
    let pair = Pair::default();
    let tree = pair.tree();
    pair.push(push_of(&tree, Compare::Times)).unwrap();
    change_secretly(&tree.join("c/large"));
    let there = pair.remote("there/c/large");
    assert_eq!(pair.push(push_of(&tree, Compare::Times)).unwrap().files, 0);
    assert!(fs::read(&there).unwrap() == vec![7; LARGE]);
    let receipt = pair.push(push_of(&tree, Compare::Nothing)).unwrap();
    assert_eq!(counts(&receipt), (TREE_FILES, 5, 1, 0));
    assert!(fs::read(&there).unwrap() == vec![!7; LARGE]);
}

#[test]
fn a_change_that_neither_size_nor_time_tells_is_sent_if_contents_are_compared() {
    for (digest, streams) in
        [(DigestAlgorithm::Crc64Nvme, 1), (DigestAlgorithm::Blake3, 4), (DigestAlgorithm::None, 1)]
    {
        let pair = Pair::default();
        let tree = pair.tree();
        let mut spec = PushSpec { streams, ..push_of(&tree, Compare::Contents) };
        spec.sources.digest = digest;
        pair.push(spec.clone()).unwrap();
        change_secretly(&tree.join("c/large"));
        change_secretly(&tree.join("a/b/2"));
        // Another time is no other content.
        let touched = tree.join("a/b/6");
        set_modified(&touched, modified(&touched) - Duration::from_secs(60));

        let rehearsed = pair.push(PushSpec { dry_run: true, ..spec.clone() }).unwrap();
        assert_eq!((counts(&rehearsed), rehearsed.bytes), ((2, 0, 0, TREE_FILES - 2), LARGE as u64 + 2));
        let receipt = pair.push(spec).unwrap();
        assert_eq!(counts(&receipt), (2, 0, 0, TREE_FILES - 2));
        let there = pair.remote("there");
        assert!(fs::read(there.join("c/large")).unwrap() == vec![!7; LARGE]);
        assert_eq!(modified(&there.join("a/b/6")), modified(&touched));
        assert_eq!(pair.server.stats().errors, 0);
    }
}

#[test]
fn a_mode_that_differs_is_set_without_sending_the_file() {
    let pair = Pair::default();
    let tree = pair.tree();
    pair.push(push_of(&tree, Compare::Times)).unwrap();
    let (file, directory) = ("a/b/6", "c");
    fs::set_permissions(tree.join(file), fs::Permissions::from_mode(0o741)).unwrap();
    fs::set_permissions(tree.join(directory), fs::Permissions::from_mode(0o711)).unwrap();
    let there = pair.remote("there");
    let inode = fs::metadata(there.join(file)).unwrap().ino();
    let receipt = pair.push(push_of(&tree, Compare::Times)).unwrap();
    assert_eq!(counts(&receipt), (0, 0, 0, TREE_FILES));
    assert_eq!((mode(&there.join(file)), mode(&there.join(directory))), (0o741, 0o711));
    assert_eq!(fs::metadata(there.join(file)).unwrap().ino(), inode);
    assert_eq!(modified(&there.join(file)), modified(&tree.join(file)));
}

#[test]
fn only_a_file_is_taken_for_a_file() {
    let pair = Pair::default();
    let source = pair.local.path().join("source");
    fs::write(&source, "content").unwrap();
    fs::create_dir(pair.remote("there")).unwrap();
    let failure = pair.push(push_of(&source, Compare::Times)).unwrap_err();
    assert_eq!(failure.code, ErrorCode::NotAFile);

    fs::remove_dir(pair.remote("there")).unwrap();
    fs::write(pair.remote("other"), "content").unwrap();
    set_modified(&pair.remote("other"), modified(&source));
    symlink("other", pair.remote("there")).unwrap();
    assert_eq!(counts(&pair.push(push_of(&source, Compare::Times)).unwrap()), (1, 0, 0, 0));
    assert!(fs::symlink_metadata(pair.remote("there")).unwrap().is_file());
}

#[test]
fn an_unchanged_tree_is_not_fetched_again() {
    for (streams, clients) in [(1, 1), (4, 1), (1, 3)] {
        let pair = Pair::default();
        pair.push(push_of(&pair.tree(), Compare::Times)).unwrap();
        let back = pair.local.path().join("back");
        let copies = clients as u64;
        let spec = PullSpec { streams, clients, ..pull_of(&back, Compare::Times) };
        let first = pair.pull(spec.clone()).unwrap();
        assert_eq!(counts(&first), (TREE_FILES * copies, 5 * copies, copies, 0), "{first:?}");
        if clients == 1 {
            // What exists would get another one put into it.
            fs::rename(&back, pair.local.path().join("there")).unwrap();
        }
        let destination = if clients == 1 { pair.local.path().to_owned() } else { back };
        let again = PullSpec { destination, ..spec };
        let before = pair.server.stats();
        let pull = begin_pull(&pair.client, again).unwrap();
        let receipt = pull.end().unwrap();
        assert_eq!(counts(&receipt), (0, 0, 0, TREE_FILES * copies), "{receipt:?}");
        assert_eq!(receipt.unchanged_bytes, TREE_BYTES * copies);
        let progress = pull.job.progress();
        assert_eq!((progress.bytes, progress.files), (TREE_BYTES * copies, TREE_FILES * copies));
        assert_eq!(pair.server.stats().files_sent, before.files_sent);
    }
}

#[test]
fn what_is_new_or_changed_is_fetched_and_nothing_else() {
    for compare in [Compare::Times, Compare::Contents, Compare::Nothing] {
        let pair = Pair::default();
        pair.push(push_of(&pair.tree(), Compare::Times)).unwrap();
        let there = pair.local.path().join("there");
        let spec = pull_of(pair.local.path(), compare);
        pair.pull(spec.clone()).unwrap();

        change_secretly(&there.join("c/large"));
        set_modified(&there.join("a/b/2"), SystemTime::UNIX_EPOCH);
        fs::write(there.join("a/1"), "longer").unwrap();
        fs::remove_file(there.join("a/5")).unwrap();
        fs::remove_dir_all(there.join("empty")).unwrap();
        fs::remove_file(there.join("a/link")).unwrap();
        fs::set_permissions(there.join("a/b/6"), fs::Permissions::from_mode(0o741)).unwrap();

        // The file whose time alone differs has to be fetched if times are what is compared.
        let (files, bytes) = match compare {
            Compare::Times => (3, 2 + 1 + 5),
            Compare::Contents => (3, LARGE as u64 + 1 + 5),
            Compare::Nothing => (TREE_FILES, TREE_BYTES),
        };
        let rehearsed = pair.pull(PullSpec { dry_run: true, ..spec.clone() }).unwrap();
        assert_eq!((rehearsed.files, rehearsed.bytes), (files, bytes), "{compare:?}");
        assert!(!there.join("a/5").exists());
        let receipt = pair.pull(spec).unwrap();
        assert_eq!((receipt.files, receipt.bytes), (files, bytes), "{compare:?}");
        assert_eq!(receipt.unchanged, TREE_FILES - files);
        if compare != Compare::Nothing {
            assert_eq!((receipt.directories, receipt.links), (1, 1));
        }
        let is_secret = fs::read(there.join("c/large")).unwrap() != vec![7; LARGE];
        assert_eq!(is_secret, compare == Compare::Times);
        for path in ["", "a", "a/b", "a/b/2", "a/b/6", "a/5", "c", "empty"] {
            let (here, source) = (there.join(path), pair.remote("there").join(path));
            assert_eq!((modified(&here), mode(&here)), (modified(&source), mode(&source)), "{path}");
        }
    }
}

/// A server that answers nothing but the first question, about the directory that everything goes into: how many more it
/// is asked, at most, before it has answered.
fn questions_at_once(compare: Compare, enough: usize) -> usize {
    let local = tempfile::tempdir().unwrap();
    for number in 0..=enough {
        fs::write(local.path().join(number.to_string()), "x").unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Client::open(listener.local_addr().unwrap(), xferd_client::Config::default()).unwrap();
    let push = begin_push(&client, push_of(local.path(), compare)).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let mut answer = Vec::new();
    Hello::default().encode(&mut answer);
    stream.write_all(&answer).unwrap();
    let mut decoder = Decoder::new();
    let (mut questions, mut room) = (0, vec![0; 1 << 20]);
    // A question too many would follow at once.
    while let Ok(bytes @ 1..) = stream.read(&mut room) {
        let mut rest = &room[..bytes];
        while !rest.is_empty() {
            let (taken, item) = decoder.decode(rest).unwrap();
            rest = &rest[taken..];
            let Some(Item::Frame(Framed { request, frame: Frame::Stat(path) })) = item else { continue };
            if path.as_str() != "there" {
                questions += 1;
                continue;
            }
            let (kind, mtime) = (EntryKind::Directory, Mtime::default());
            let entry = Entry { path, kind, size: 0, mode: 0o755, mtime, link_target: None };
            answer.clear();
            encode(request, &Frame::Entry(entry), &mut answer);
            stream.write_all(&answer).unwrap();
        }
        if questions >= enough {
            stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        }
    }
    drop(stream);
    assert_eq!(push.end().unwrap_err().code, ErrorCode::ConnectionLost);
    questions
}

#[test]
fn as_many_questions_as_the_limit_wait_for_an_answer_and_no_more() {
    assert_eq!(questions_at_once(Compare::Times, 1024), 1024);
    assert_eq!(questions_at_once(Compare::Contents, 64), 64);
}
