//! A client and a server in one process, over loopback.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use xferd_client::{Client, Compare, PushSpec, Selection, WriteSpec};
use xferd_engine::THREADS_MAX;
use xferd_wire::{DigestAlgorithm, ErrorCode};

use self::common::{Pair, begin_push, noise, path, pull_of, push_of};

impl Pair {
    fn file(&self, name: &str, bytes: usize) -> PathBuf {
        let path = self.local.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, noise(bytes)).unwrap();
        path
    }

    /// A file of zeros, which costs nothing to make.
    fn zeros(&self, bytes: u64) -> PathBuf {
        let path = self.local.path().join("zeros");
        fs::File::create(&path).unwrap().set_len(bytes).unwrap();
        path
    }
}

#[test]
fn files_of_every_size_arrive_as_they_were_with_and_without_workers() {
    for (io_threads, workers) in [(1, 0), (2, 0), (1, 2), (2, 3)] {
        let pair = Pair::new(io_threads, workers);
        for bytes in [0, 1, 4096, 65_535, 65_536, 65_537, 1 << 20, (4 << 20) + 1, 21 << 20] {
            let source = pair.file("source", bytes);
            for mapped in [false, true] {
                let mut spec = push_of(&[&source], "in/copy");
                spec.sources.mapped = mapped;
                spec.compare = Compare::Nothing;
                let receipt = pair.push(spec).unwrap();
                assert_eq!((receipt.files, receipt.bytes), (1, bytes as u64));
                let stored = fs::read(pair.root.path().join("in/copy")).unwrap();
                assert!(stored == noise(bytes), "{bytes} bytes, workers {workers}, mapped {mapped}");
            }
            let back = pair.local.path().join("back");
            let receipt = pair.pull(pull_of(&["in/copy"], &back)).unwrap();
            assert_eq!(receipt.bytes, bytes as u64);
            assert!(fs::read(&back).unwrap() == noise(bytes), "{bytes} bytes back, workers {workers}");
        }
    }
}

/// What a tree looks like: every path with kind, permission bits, mtime, and content or target.
fn picture(root: &Path) -> Vec<String> {
    fn look(root: &Path, directory: &Path, lines: &mut Vec<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let (mode, mtime) = (metadata.permissions().mode() & 0o777, metadata.mtime_nsec());
            if metadata.is_symlink() {
                lines.push(format!("{name} -> {}", fs::read_link(&path).unwrap().display()));
            } else if metadata.is_dir() {
                lines.push(format!("{name}/ {mode:o} {}.{mtime}", metadata.mtime()));
                look(root, &path, lines);
            } else {
                let content = fs::read(&path).unwrap();
                lines.push(format!(
                    "{name} {mode:o} {}.{mtime} {} {:?}",
                    metadata.mtime(),
                    content.len(),
                    content.first()
                ));
            }
        }
    }
    let mut lines = Vec::new();
    look(root, root, &mut lines);
    lines.sort();
    lines
}

/// A tree with everything in it that a tree can have.
fn plant(root: &Path) {
    for directory in ["a/b/c", "empty", "sealed", "naïve/日本"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    for index in 0..300 {
        fs::write(root.join(format!("a/b/{index}")), noise(index * 7)).unwrap();
    }
    fs::write(root.join("a/large"), noise(300_000)).unwrap();
    fs::write(root.join("a/nothing"), []).unwrap();
    fs::write(root.join("naïve/日本/ファイル"), "utf-8").unwrap();
    fs::write(root.join("sealed/inside"), "kept").unwrap();
    fs::write(root.join("run.sh"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(root.join("run.sh"), fs::Permissions::from_mode(0o750)).unwrap();
    std::os::unix::fs::symlink("b/7", root.join("a/link")).unwrap();
    std::os::unix::fs::symlink("../../run.sh", root.join("a/b/up")).unwrap();
    std::os::unix::fs::symlink("nowhere", root.join("dangling")).unwrap();
    let old =
        fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789));
    for path in ["a/large", "run.sh", "empty", "a/b", "sealed"] {
        fs::File::open(root.join(path)).unwrap().set_times(old).unwrap();
    }
    fs::set_permissions(root.join("sealed"), fs::Permissions::from_mode(0o555)).unwrap();
}

#[test]
fn a_tree_arrives_with_modes_times_links_and_empty_directories_and_comes_back_the_same() {
    for (workers, streams) in [(0, 1), (2, 4)] {
        let pair = Pair::new(2, workers);
        let tree = pair.local.path().join("tree");
        plant(&tree);
        let mut push = push_of(&[&tree], "there");
        push.streams = streams;
        let receipt = pair.push(push).unwrap();
        assert_eq!((receipt.files, receipt.links, receipt.failed), (305, 3, 0), "{receipt:?}");
        assert_eq!(picture(&pair.root.path().join("there")), picture(&tree));

        let back = pair.local.path().join("back");
        let mut pull = pull_of(&["there"], &back);
        pull.streams = streams;
        let receipt = pair.pull(pull).unwrap();
        assert_eq!((receipt.files, receipt.links, receipt.failed), (305, 3, 0), "{receipt:?}");
        assert_eq!(picture(&back), picture(&tree));
    }
}

#[test]
fn several_clients_send_the_whole_source_each_under_its_own_name() {
    let pair = Pair::new(2, 0);
    let source = pair.file("film.mkv", 200_000);
    let mut spec = push_of(&[&source], "in/film.mkv");
    spec.clients = 5;
    let receipt = pair.push(spec).unwrap();
    assert_eq!((receipt.files, receipt.bytes), (5, 1_000_000));
    assert!(receipt.digest.is_some(), "all are copies of one file");
    for copy in 0..5 {
        assert!(fs::read(pair.root.path().join(format!("in/film.mkv.{copy}"))).unwrap() == noise(200_000));
    }
    let mut spec = push_of(&[&source], "in/{n}-film.mkv");
    spec.clients = 2;
    pair.push(spec).unwrap();
    assert!(pair.root.path().join("in/1-film.mkv").exists());

    let mut spec = pull_of(&["in/film.mkv.3"], &pair.local.path().join("back"));
    spec.clients = 3;
    assert_eq!(pair.pull(spec).unwrap().files, 3);
    assert!(fs::read(pair.local.path().join("back.2")).unwrap() == noise(200_000));
}

#[test]
fn a_target_that_ends_with_a_slash_or_several_sources_go_into_a_directory() {
    let pair = Pair::new(1, 0);
    let (one, two) = (pair.file("one", 10), pair.file("two", 20));
    pair.push(push_of(&[&one], "dir/")).unwrap();
    pair.push(push_of(&[&one, &two], "both/")).unwrap();
    assert!(pair.root.path().join("dir/one").exists());
    assert!(pair.root.path().join("both/two").exists());
    let failure = pair.push(push_of(&[&one, &two], "both")).unwrap_err();
    assert_eq!(failure.code, ErrorCode::InvalidArgument);

    let into = pair.local.path().join("into");
    fs::create_dir(&into).unwrap();
    pair.pull(pull_of(&["both/one"], &into)).unwrap();
    assert!(into.join("one").exists());
    pair.pull(pull_of(&["both/one", "both/two"], &pair.local.path().join("new"))).unwrap();
    assert!(pair.local.path().join("new/two").exists());
}

#[test]
fn include_and_exclude_choose_files_and_a_dry_run_moves_none() {
    let pair = Pair::new(1, 0);
    for name in ["t/a.mkv", "t/a.srt", "t/old/b.mkv", "t/keep/c.mkv"] {
        pair.file(name, 100);
    }
    let mut spec = push_of(&[&pair.local.path().join("t")], "t");
    spec.sources.selection = Selection::new(&["*.mkv".into()], &["old".into()]).unwrap();
    spec.dry_run = true;
    let rehearsed = pair.push(spec.clone()).unwrap();
    assert_eq!((rehearsed.files, rehearsed.bytes), (2, 200));
    assert!(!pair.root.path().join("t").exists());
    spec.dry_run = false;
    assert_eq!(pair.push(spec).unwrap().files, 2);
    assert!(pair.root.path().join("t/keep/c.mkv").exists());
    assert!(!pair.root.path().join("t/a.srt").exists());

    let mut spec = pull_of(&["t"], &pair.local.path().join("back"));
    spec.selection = Selection::new(&[], &["keep/**".into()]).unwrap();
    spec.dry_run = true;
    assert_eq!(pair.pull(spec.clone()).unwrap().files, 1);
    assert!(!pair.local.path().join("back").exists());
    spec.dry_run = false;
    assert_eq!(pair.pull(spec).unwrap().files, 1);
}

#[test]
fn a_name_that_is_not_utf8_is_reported_and_the_others_arrive() {
    use std::os::unix::ffi::OsStrExt;
    let pair = Pair::new(1, 0);
    pair.file("t/good", 10);
    let bad = pair.local.path().join("t").join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    fs::write(&bad, "x").unwrap();
    let receipt = pair.push(push_of(&[&pair.local.path().join("t")], "t")).unwrap();
    assert_eq!((receipt.files, receipt.failed), (1, 1));
    assert_eq!(receipt.failures[0].failure.code, ErrorCode::NameNotUtf8);
    assert!(receipt.failures[0].failure.message.contains("caf\\xe9"), "{:?}", receipt.failures);
    let alone = pair.push(push_of(&[&bad], "x")).unwrap_err();
    assert_eq!(alone.code, ErrorCode::NameNotUtf8);

    fs::write(pair.root.path().join("t").join(std::ffi::OsStr::from_bytes(b"\xff")), "x").unwrap();
    let receipt = pair.pull(pull_of(&["t"], &pair.local.path().join("back"))).unwrap();
    assert_eq!((receipt.files, receipt.failed), (1, 1), "{receipt:?}");
}

#[test]
fn what_cannot_be_sent_or_stored_is_an_error_with_its_own_code() {
    let pair = Pair::new(1, 0);
    let source = pair.file("one", 10);
    let missing = pair.local.path().join("missing");
    let push = |sources: &[&Path], target: &str| pair.push(push_of(sources, target)).map(|_| ());
    assert_eq!(push(&[&missing], "x").unwrap_err().code, ErrorCode::NotFound);
    fs::create_dir(pair.root.path().join("dir")).unwrap();
    assert_eq!(push(&[&source], "dir").unwrap_err().code, ErrorCode::NotAFile);
    assert_eq!(push(&[&source], "dir/").map_err(|failure| failure.code), Ok(()));
    assert_eq!(push(&[&source], "dir/one/below").unwrap_err().code, ErrorCode::NotADirectory);
    std::os::unix::fs::symlink("/tmp", pair.root.path().join("out")).unwrap();
    assert_eq!(push(&[&source], "out/one").unwrap_err().code, ErrorCode::OutsideRoot);
    let pull = |from: &str| pair.pull(pull_of(&[from], &pair.local.path().join("back"))).unwrap_err().code;
    assert_eq!(pull("nothing"), ErrorCode::NotFound);
    assert_eq!(pull("out/passwd"), ErrorCode::OutsideRoot);
}

#[test]
fn a_link_that_leads_out_is_refused_on_both_sides() {
    let pair = Pair::new(1, 0);
    pair.file("t/file", 10);
    std::os::unix::fs::symlink("../../etc", pair.local.path().join("t/out")).unwrap();
    let receipt = pair.push(push_of(&[&pair.local.path().join("t")], "t")).unwrap();
    assert_eq!(
        receipt.failures.iter().map(|failed| failed.failure.code).collect::<Vec<_>>(),
        [ErrorCode::LinkEscapes]
    );

    std::os::unix::fs::symlink("/etc", pair.root.path().join("t/out")).unwrap();
    let receipt = pair.pull(pull_of(&["t"], &pair.local.path().join("back"))).unwrap();
    assert_eq!(
        receipt.failures.iter().map(|failed| failed.failure.code).collect::<Vec<_>>(),
        [ErrorCode::LinkEscapes]
    );
    assert!(!pair.local.path().join("back/out").exists());
}

#[test]
fn a_source_that_changes_while_it_is_sent_is_not_stored() {
    for mapped in [false, true] {
        for (change, bytes) in [("truncated", 1 << 20), ("grown", 120 << 20)] {
            let pair = Pair::new(1, 0);
            let source = pair.zeros(100 << 20);
            fs::write(pair.root.path().join("copy"), "old").unwrap();
            let mut spec = push_of(&[&source], "copy");
            spec.sources.mapped = mapped;
            let push = begin_push(&pair.client, spec).unwrap();
            while push.job.progress().bytes == 0 {
                std::thread::yield_now();
            }
            fs::File::options().write(true).open(&source).unwrap().set_len(bytes).unwrap();
            let failure = push.end().expect_err(change);
            assert!(
                matches!(failure.code, ErrorCode::SourceChanged | ErrorCode::DigestMismatch),
                "{change}, mapped {mapped}: {failure:?}"
            );
            assert_eq!(fs::read(pair.root.path().join("copy")).unwrap(), b"old", "{change}, mapped {mapped}");
        }
    }
}

#[test]
fn a_cancelled_transfer_ends_on_both_sides_and_leaves_nothing() {
    let pair = Pair::new(1, 0);
    let source = pair.zeros(200 << 20);
    let push = begin_push(&pair.client, push_of(&[&source], "copy")).unwrap();
    while push.job.progress().bytes == 0 {
        std::thread::yield_now();
    }
    push.job.cancel();
    let failure = push.end().unwrap_err();
    assert_eq!(failure.code, ErrorCode::Aborted);
    while pair.server.stats().connections > 0 {
        std::thread::yield_now();
    }
    assert_eq!(fs::read_dir(pair.root.path()).unwrap().count(), 0);
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = Client::open(address, xferd_client::Config::default()).unwrap();
    let (sender, receiver) = mpsc::channel();
    client.ping(move |answer| sender.send(answer).unwrap());
    let failure = receiver.recv_timeout(Duration::from_secs(10)).unwrap().unwrap_err();
    assert_eq!(failure.code, ErrorCode::ConnectionRefused);
    assert!(failure.message.contains("xferd serve"), "{}", failure.message);
}

#[test]
fn a_stranger_in_place_of_a_server_is_not_mistaken_for_one() {
    use std::io::Write;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Client::open(listener.local_addr().unwrap(), xferd_client::Config::default()).unwrap();
    let (sender, receiver) = mpsc::channel();
    client.ping(move |answer| sender.send(answer).unwrap());
    listener.accept().unwrap().0.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    let failure = receiver.recv_timeout(Duration::from_secs(10)).unwrap().unwrap_err();
    assert_eq!(failure.code, ErrorCode::Protocol);
}

#[test]
fn closing_a_client_answers_everything_that_is_under_way() {
    let pair = Pair::new(1, 0);
    let source = pair.zeros(200 << 20);
    let push = |copy| begin_push(&pair.client, push_of(&[&source], &format!("copy{copy}"))).unwrap();
    let pushes = [0, 1, 2].map(push);
    pair.client.close();
    for push in pushes {
        push.ended.try_recv().expect("answered before close returns").unwrap_err();
    }
}

#[test]
fn a_stream_is_read_in_parts_and_never_runs_far_ahead_of_its_reader() {
    let pair = Pair::new(1, 0);
    fs::write(pair.root.path().join("file"), noise(40 << 20)).unwrap();
    for (start, end) in [(0, None), (1_000_001, Some(30_000_003)), (5, Some(5)), (7, Some(u64::MAX - 1))] {
        let (sender, receiver) = mpsc::channel();
        let reader = pair.client.read(path("file"), start, end, move |size| sender.send(size).unwrap());
        let size = receiver.recv_timeout(Duration::from_secs(10)).unwrap().unwrap();
        let (chunk_sender, chunks) = mpsc::channel();
        let mut read = Vec::new();
        loop {
            let chunk_sender = chunk_sender.clone();
            reader.next_chunk(Box::new(move |chunk| chunk_sender.send(chunk).unwrap()));
            match chunks.recv_timeout(Duration::from_secs(10)).unwrap().unwrap() {
                Some(chunk) => read.extend(chunk),
                None => break,
            }
        }
        let whole = noise(40 << 20);
        let end = end.map_or(whole.len(), |end| usize::try_from(end).unwrap().min(whole.len()));
        assert_eq!(size, read.len() as u64);
        assert!(read == whole[start as usize..end], "{start}..{end}");
    }
}

#[test]
fn a_written_stream_becomes_a_file_once_it_is_finished() {
    let pair = Pair::new(1, 0);
    let spec = WriteSpec {
        path: path("made/of/parts"),
        mode: 0o640,
        mtime: Default::default(),
        digest: DigestAlgorithm::Blake3,
        durable: true,
    };
    let (sender, receiver) = mpsc::channel();
    let opened = sender.clone();
    let writer = pair.client.write(spec, move |result| opened.send(result).unwrap());
    receiver.recv_timeout(Duration::from_secs(10)).unwrap().unwrap();
    let whole = noise(3_000_000);
    for chunk in whole.chunks(70_001) {
        let accepted = sender.clone();
        writer.write(chunk.to_vec(), Box::new(move |result| accepted.send(result).unwrap()));
        receiver.recv_timeout(Duration::from_secs(10)).unwrap().unwrap();
    }
    assert!(!pair.root.path().join("made/of/parts").exists());
    let (committed, commit) = mpsc::channel();
    writer.finish(Box::new(move |result| committed.send(result).unwrap()));
    assert_eq!(commit.recv_timeout(Duration::from_secs(10)).unwrap().unwrap().bytes, 3_000_000);
    assert!(fs::read(pair.root.path().join("made/of/parts")).unwrap() == whole);
}

#[test]
fn a_server_that_falls_silent_is_asked_for_a_sign_of_life_and_then_given_up() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = xferd_client::Config {
        io_threads: 1,
        workers: 0,
        patience: Duration::from_millis(200),
        ..Default::default()
    };
    let client = Client::open(listener.local_addr().unwrap(), config).unwrap();
    let (sender, receiver) = mpsc::channel();
    client.ask(xferd_wire::Frame::Stat(path("x")), move |answer| sender.send(answer).unwrap());
    let mut peer = listener.accept().unwrap().0;
    let mut hello = Vec::new();
    xferd_wire::Hello::default().encode(&mut hello);
    peer.write_all(&hello).unwrap();
    let mut said = Vec::new();
    peer.read_to_end(&mut said).unwrap();
    let failure = receiver.recv_timeout(Duration::from_secs(10)).unwrap().unwrap_err();
    assert_eq!(failure.code, ErrorCode::Timeout);
    let ping = [xferd_wire::opcode::PING, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1];
    assert!(said.windows(ping.len()).any(|bytes| bytes == ping), "it asks before it gives up");
}

#[test]
fn what_is_done_one_after_the_other_takes_one_connection_and_what_is_done_at_once_takes_every_reactor() {
    let pair = Pair::new(2, 0);
    let source = pair.file("x", 10);
    for name in ["a", "b", "c"] {
        pair.push(push_of(&[&source], name)).unwrap();
    }
    assert_eq!(pair.server.stats().accepted, 1);
    pair.push(PushSpec { clients: 4, ..push_of(&[&source], "copies/x") }).unwrap();
    assert_eq!(pair.server.stats().files_received, 7);
    assert!(pair.server.stats().accepted > 2);
}

#[test]
fn a_client_has_as_many_threads_as_it_may_have_and_not_one_more() {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let open = |io_threads, workers| {
        let config = xferd_client::Config { io_threads, workers, ..Default::default() };
        Client::open(address, config).map(drop).map_err(|failure| failure.code)
    };
    assert_eq!(open(THREADS_MAX, THREADS_MAX), Ok(()));
    for (io_threads, workers) in [(0, 0), (THREADS_MAX + 1, 0), (1, THREADS_MAX + 1)] {
        assert_eq!(open(io_threads, workers), Err(ErrorCode::InvalidArgument));
    }
}
