//! Keys on connections that transfer files.
//!
//! On the driver that `XFERD_BACKEND` names.

#![allow(clippy::unwrap_used)]

mod common;
mod kv;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{Peer, STAGED_BYTES, Site, announce, digest, eventually, extent, frame, get, hello, pattern};
use kv::{Client, shown};
use xferd_kv::Fsync;
use xferd_server::{FAILURES_MAX, HappeningKind, INBOX_BYTES_MAX, KvConfig, Listen};
use xferd_wire::limits::{KV_ARG_BYTES_MAX, KV_ARGS_MAX, KV_PART_BYTES_MAX};
use xferd_wire::resp::ValueDecoder;
use xferd_wire::{ErrorCode, Frame, Item, KV, KvPart, encode_kv, opcode, write_kv_args};

/// A server of files and of keys.
fn site(configure: impl FnOnce(&mut KvConfig)) -> Site {
    Site::with(|config| {
        configure(config.kv.get_or_insert_default());
        config.io_threads = 2;
        config.listen.push(Listen::kv(([127, 0, 0, 1], 0)));
    })
}

/// A client of the same keys that speaks RESP.
fn client(site: &Site) -> Client {
    Client::tcp(site.server.listening()[1].address.internet().unwrap())
}

/// A request, in as many frames as it takes.
fn request<A: AsRef<[u8]>>(number: u32, args: &[A]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let args: Vec<&[u8]> = args.iter().map(AsRef::as_ref).collect();
    encode_kv(opcode::KV, number, &mut bytes, |out| write_kv_args(args.into_iter(), out));
    bytes
}

/// A part of a request, as it is said.
fn part(number: u32, bytes: &[u8], more: bool) -> Vec<u8> {
    frame(number, &Frame::Kv(KvPart { bytes: bytes.to_vec(), more }))
}

/// RESP values one after another.
fn values(mut bytes: &[u8]) -> String {
    let mut all = Vec::new();
    while let Some((len, value)) = ValueDecoder::new().decode(bytes).unwrap() {
        all.push(shown(&value));
        bytes = &bytes[len..];
    }
    assert!(bytes.is_empty(), "values are whole");
    all.join(" ")
}

impl Peer {
    /// A whole reply, or what came unasked, for request 0.
    #[track_caller]
    fn told(&mut self) -> (u32, Vec<u8>) {
        let mut whole = Vec::new();
        loop {
            match self.answer() {
                (number, Frame::KvReply(KvPart { bytes, more }) | Frame::KvPush(KvPart { bytes, more })) => {
                    assert!(bytes.len() <= KV_PART_BYTES_MAX);
                    whole.extend(bytes);
                    if !more {
                        return (number, whole);
                    }
                }
                other => panic!("a reply was expected, not {other:?}"),
            }
        }
    }

    #[track_caller]
    fn replied(&mut self, number: u32) -> String {
        let (answered, reply) = self.told();
        assert_eq!(answered, number);
        values(&reply)
    }

    #[track_caller]
    fn ask<A: AsRef<[u8]>>(&mut self, args: &[A]) -> String {
        self.say(&request(9, args));
        self.replied(9)
    }
}

fn told_capability(site: &Site) -> bool {
    let mut peer = site.stranger();
    peer.say(&hello());
    match peer.next() {
        Some(Item::Hello(hello)) => hello.can(KV),
        other => panic!("a hello was expected, not {other:?}"),
    }
}

#[test]
fn keys_and_files_pass_each_other_on_one_connection() {
    for fsync in [None, Some(Fsync::Always), Some(Fsync::EverySecond)] {
        let directory = tempfile::tempdir().unwrap();
        let site = site(|kv| {
            kv.dir = fsync.map(|_| directory.path().to_owned());
            kv.fsync = fsync.unwrap_or_default();
        });
        site.write("there", &pattern(100_000));
        let mut peer = site.peer();
        let bytes = pattern(STAGED_BYTES);
        // Each frame of a put has a command behind it, and a file is asked for meanwhile.
        let mut said = frame(1, &announce("new", Some(bytes.len() as u64)));
        said.extend(request(2, &["INCR", "n"]));
        said.extend(extent(1, 0, &bytes));
        said.extend(request(3, &["INCR", "n"]));
        said.extend(frame(4, &get("there")));
        said.extend(request(5, &["GET", "n"]));
        said.extend(frame(1, &Frame::Digest(digest(&bytes))));
        said.extend(request(6, &["GET", "missing"]));
        said.extend(frame(1, &Frame::Commit { size: bytes.len() as u64 }));
        peer.say(&said);
        let (mut replies, mut file, mut is_committed, mut has_ended) = (Vec::new(), Vec::new(), false, false);
        while !(is_committed && has_ended && replies.len() == 4) {
            match peer.answer() {
                (number, Frame::KvReply(KvPart { bytes, .. })) => replies.push((number, values(&bytes))),
                (1, Frame::Committed(committed)) => {
                    assert_eq!(committed.digest, digest(&bytes));
                    is_committed = true;
                }
                (4, Frame::Extent { len, .. }) => file.extend(peer.raw(len)),
                (4, Frame::End) => has_ended = true,
                (4, Frame::File(_) | Frame::Digest(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        let expected = [(2, ":1"), (3, ":2"), (5, "$2"), (6, "nil")];
        assert_eq!(replies, expected.map(|(number, reply)| (number, reply.to_owned())));
        assert_eq!(file, pattern(100_000));
        assert_eq!(site.read("new"), bytes);
        assert_eq!(client(&site).ask(&["GET", "n"]), "$2");
        drop(peer);
        site.is_well_and_has(&["new", "there"]);
    }
}

#[test]
fn a_thousand_requests_at_once_are_answered_by_their_numbers() {
    let directory = tempfile::tempdir().unwrap();
    for dir in [None, Some(directory.path().to_owned())] {
        let site = site(|kv| (kv.dir, kv.fsync) = (dir, Fsync::Always));
        let mut peer = site.peer();
        let all: Vec<u8> =
            (1..=1000).flat_map(|number| request(number, &["ECHO", &number.to_string()])).collect();
        peer.say(&all);
        let replies: BTreeMap<u32, Vec<u8>> = (0..1000).map(|_| peer.told()).collect();
        for number in 1..=1000 {
            assert_eq!(values(&replies[&number]), format!("${number}"));
        }
    }
}

#[test]
fn what_is_longer_than_a_frame_comes_in_several() {
    let site = site(|_| {});
    let mut peer = site.peer();
    // With its header a reply of so many bytes fills a frame, and with one more it does not fit.
    for len in [KV_PART_BYTES_MAX - 10, KV_PART_BYTES_MAX - 9, 20_000_000] {
        let value = pattern(len);
        assert_eq!(peer.ask(&[b"SET".as_slice(), b"large", &value]), "+OK");
        peer.say(&request(7, &["GET", "large"]));
        let (number, reply) = peer.told();
        let header = format!("${len}\r\n");
        assert_eq!(number, 7);
        assert!(reply.starts_with(header.as_bytes()) && reply[header.len()..reply.len() - 2] == value[..]);
    }
    drop(peer);
    site.is_well_and_has(&[]);
}

#[test]
fn parts_may_be_cut_anywhere_and_other_frames_be_between() {
    let site = site(|_| {});
    let mut peer = site.peer();
    let mut whole = Vec::new();
    write_kv_args([&b"ECHO"[..], b"in parts"].into_iter(), &mut whole);
    for at in 1..whole.len() {
        peer.say(&part(5, &whole[..at], true));
        peer.put(6, "between", b"x");
        peer.say(&part(5, &whole[at..], false));
        let mut answers = Vec::new();
        while answers.len() < 2 {
            answers.push(peer.answer().0);
        }
        answers.sort_unstable();
        assert_eq!(answers, [5, 6]);
    }
    // One that was given up changes nothing, and its number is free.
    peer.say(&part(5, &whole[..7], true));
    peer.send(5, &Frame::Cancel);
    peer.refused(5, ErrorCode::Aborted);
    assert_eq!(peer.ask(&["PING"]), "+PONG");
    peer.say(&part(5, &whole, false));
    assert_eq!(peer.replied(5), "$in parts");
    drop(peer);
    site.is_well_and_has(&["between"]);
}

#[test]
fn a_transaction_is_carried_out_if_what_it_watches_was_not_touched() {
    let site = site(|_| {});
    let (mut peer, mut other) = (site.peer(), site.peer());
    for expected in ["[:1 $v]", "nil"] {
        assert_eq!(peer.ask(&["SET", "k", "v"]), "+OK");
        assert_eq!(peer.ask(&["WATCH", "k"]), "+OK");
        assert_eq!(peer.ask(&["MULTI"]), "+OK");
        assert_eq!(peer.ask(&["INCR", "n"]), "+QUEUED");
        assert_eq!(peer.ask(&["GET", "k"]), "+QUEUED");
        if expected == "nil" {
            assert_eq!(other.ask(&["SET", "k", "touched"]), "+OK");
        }
        assert_eq!(peer.ask(&["EXEC"]), expected);
    }
    assert_eq!(peer.ask(&["SELECT", "3"]), "+OK");
    assert_eq!(peer.ask(&["DBSIZE"]), ":0");
    assert_eq!(other.ask(&["DBSIZE"]), ":2");
}

#[test]
fn messages_come_beside_replies_and_files() {
    let site = site(|_| {});
    let (mut peer, mut publisher) = (site.peer(), client(&site));
    assert_eq!(peer.ask(&["SUBSCRIBE", "a", "b"]), ">[$subscribe $a :1] >[$subscribe $b :2]");
    for number in 0..10 {
        assert_eq!(publisher.ask(&["PUBLISH", "a", &number.to_string()]), ":1");
        assert_eq!(peer.replied(0), format!(">[$message $a ${number}]"));
        assert_eq!(peer.ask(&["PING"]), "+PONG");
        peer.put(7, "new", b"x");
        peer.committed(7, b"x");
    }
    let long = "m".repeat(100_000);
    assert_eq!(publisher.ask(&["PUBLISH", "b", &long]), ":1");
    assert_eq!(peer.replied(0), format!(">[$message $b ${long}]"));
    drop(peer);
    eventually("nobody listens", || publisher.ask(&["PUBSUB", "CHANNELS"]) == "[]");
    drop(publisher);
    site.is_well_and_has(&["new"]);
}

#[test]
fn a_listener_that_does_not_read_is_cut_and_holds_nobody_up() {
    let site = site(|_| {});
    let (mut deaf, mut publisher) = (site.peer(), client(&site));
    assert_eq!(deaf.ask(&["SUBSCRIBE", "news"]), ">[$subscribe $news :1]");
    let message = vec![b'm'; 4_000_000];
    let mut told = 0;
    while publisher.ask(&[b"PUBLISH".as_slice(), b"news", &message]) == ":1" {
        told += message.len();
        assert!(told < 4 * INBOX_BYTES_MAX, "the listener is still there");
    }
    drop((deaf, publisher));
    site.is_well_and_has(&[]);
}

#[test]
fn who_kills_a_client_ends_its_connection_and_who_quits_begins_anew() {
    let site = site(|_| {});
    let (mut peer, mut killer) = (site.peer(), client(&site));
    assert_eq!(peer.ask(&["SELECT", "3"]), "+OK");
    assert_eq!(peer.ask(&["SUBSCRIBE", "news"]), ">[$subscribe $news :1]");
    let list = killer.ask(&["CLIENT", "LIST", "TYPE", "pubsub"]);
    assert!(list.contains("addr=127.0.0.1:") && list.contains("resp=3") && list.contains("db=3"), "{list}");
    assert_eq!(peer.ask(&["QUIT"]), "+OK");
    assert_eq!(killer.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]), ":0");
    assert_eq!(peer.ask(&["SET", "k", "1"]), "+OK");
    assert_eq!(killer.ask(&["GET", "k"]), "$1");
    let id = peer.ask(&["CLIENT", "ID"]);
    assert_eq!(killer.ask(&["CLIENT", "KILL", "ID", &id[1..]]), ":1");
    peer.refused(0, ErrorCode::Aborted);
    peer.closed();
    drop(killer);
    site.is_well_and_has(&[]);
}

#[test]
fn without_the_password_no_command_is_carried_out_and_files_are() {
    let site = site(|kv| kv.password = Some("open sesame".into()));
    let mut peer = site.peer();
    for args in [&["GET", "k"][..], &["PING"], &["FLUSHALL"], &["SUBSCRIBE", "c"], &["HELLO", "3"]] {
        let said = peer.ask(args);
        assert!(said.starts_with("-NOAUTH"), "{args:?}: {said}");
    }
    peer.put(1, "file", b"x");
    peer.committed(1, b"x");
    assert!(peer.ask(&["AUTH", "wrong"]).starts_with("-WRONGPASS"));
    assert_eq!(
        peer.ask(&["HELLO", "2", "AUTH", "default", "open sesame"]),
        "-NOPROTO unsupported protocol version"
    );
    assert_eq!(peer.ask(&["AUTH", "open sesame"]), "+OK");
    assert_eq!(peer.ask(&["SET", "k", "1"]), "+OK");
    assert_eq!(peer.ask(&["QUIT"]), "+OK");
    assert!(peer.ask(&["GET", "k"]).starts_with("-NOAUTH"));
    drop(peer);
    site.is_well_and_has(&["file"]);
}

#[test]
fn passwords_are_guessed_so_often_and_not_once_more() {
    let site = site(|kv| kv.password = Some("open sesame".into()));
    let mut peer = site.peer();
    for _ in 0..FAILURES_MAX {
        assert!(peer.ask(&["AUTH", "wrong"]).starts_with("-WRONGPASS"));
    }
    for _ in 0..3 {
        assert!(peer.ask(&["AUTH", "open sesame"]).starts_with("-ERR too many wrong passwords"));
    }
    assert!(peer.ask(&["PING"]).starts_with("-NOAUTH"));
}

#[test]
fn a_stranger_may_say_little() {
    let site = site(|kv| kv.password = Some("open sesame".into()));
    let long = [b'x'; 16 * 1024];
    let ten = [&[&b"AUTH"[..]], &[&long[..]; 9][..]].concat();
    let mut peer = site.peer();
    assert!(peer.ask(&ten).starts_with("-ERR syntax error"));
    let too_long = [b'x'; 16 * 1024 + 1];
    for said in [
        request(9, &[&ten[..], &[b"x"]].concat()),
        request(9, &[b"AUTH", &too_long[..]]),
        part(9, &[1; KV_PART_BYTES_MAX], true).repeat(3),
    ] {
        let mut peer = site.peer();
        peer.say(&said);
        peer.refused(9, ErrorCode::Limit);
        peer.closed();
    }
    drop(peer);
    site.is_well_and_has(&[]);
}

#[test]
fn a_server_without_keys_says_so_and_goes_on() {
    let site = Site::new();
    assert!(!told_capability(&site));
    let mut peer = site.peer();
    peer.say(&request(7, &["PING"]));
    peer.refused(7, ErrorCode::Unsupported);
    peer.say(&request(7, &[b"SET".as_slice(), b"k", &pattern(200_000)]));
    peer.refused(7, ErrorCode::Unsupported);
    peer.put(8, "file", b"x");
    peer.committed(8, b"x");
    drop(peer);
    site.is_well_and_has(&["file"]);
    let with_keys = Site::with(|config| config.kv = Some(KvConfig::default()));
    assert!(told_capability(&with_keys));
    assert_eq!(with_keys.peer().ask(&["PING"]), "+PONG");
}

#[test]
fn what_is_no_request_ends_the_connection_with_a_word() {
    let site = site(|_| {});
    let args = |count: u32, len: u32| [count.to_le_bytes(), len.to_le_bytes()].concat();
    let mut whole = Vec::new();
    write_kv_args([&b"PING"[..]].into_iter(), &mut whole);
    for (what, said, number, code) in [
        ("no argument", part(9, &[0; 4], false), 9, ErrorCode::Limit),
        ("half a count", part(9, &[1, 0], false), 9, ErrorCode::Protocol),
        ("2^32 - 1 arguments", part(9, &[0xff; 4], false), 9, ErrorCode::Limit),
        (
            "an argument too many",
            part(9, &(KV_ARGS_MAX as u32 + 1).to_le_bytes(), false),
            9,
            ErrorCode::Limit,
        ),
        (
            "fewer arguments than announced",
            part(9, &KV_ARGS_MAX.to_le_bytes()[..4], false),
            9,
            ErrorCode::Protocol,
        ),
        ("2^32 - 1 bytes", part(9, &args(1, u32::MAX), false), 9, ErrorCode::Limit),
        ("a byte too many", part(9, &args(1, KV_ARG_BYTES_MAX as u32 + 1), false), 9, ErrorCode::Limit),
        (
            "fewer bytes than announced",
            part(9, &args(1, KV_ARG_BYTES_MAX as u32), false),
            9,
            ErrorCode::Protocol,
        ),
        ("more than announced", part(9, &[&whole[..], b"!"].concat(), false), 9, ErrorCode::Protocol),
        ("an empty part", frame(9, &Frame::Kv(KvPart { bytes: vec![], more: true })), 9, ErrorCode::Protocol),
        (
            "another request between parts",
            [part(9, &whole[..3], true), part(8, &whole, false)].concat(),
            8,
            ErrorCode::Protocol,
        ),
        (
            "a reply",
            frame(9, &Frame::KvReply(KvPart { bytes: b"+OK\r\n".to_vec(), more: false })),
            0,
            ErrorCode::Protocol,
        ),
        (
            "the number of a file",
            [frame(9, &announce("x", None)), part(9, &whole, false)].concat(),
            0,
            ErrorCode::Protocol,
        ),
    ] {
        let mut peer = site.peer();
        peer.say(&said);
        match peer.answer() {
            (answered, Frame::Error(reply)) => assert_eq!((answered, reply.code), (number, code), "{what}"),
            other => panic!("{what}: {other:?}"),
        }
        peer.closed();
    }
    site.is_well_and_has(&[]);
}

#[test]
fn what_was_said_before_a_mistake_is_answered() {
    let site = site(|_| {});
    let mut peer = site.peer();
    peer.say(&[request(1, &["SET", "k", "1"]), part(2, &[0; 4], false)].concat());
    assert_eq!(peer.replied(1), "+OK");
    peer.refused(2, ErrorCode::Limit);
    peer.closed();
    assert_eq!(client(&site).ask(&["GET", "k"]), "$1");
}

#[test]
fn a_million_arguments_are_a_command_like_others() {
    let site = site(|_| {});
    let mut peer = site.peer();
    let many = vec!["k"; KV_ARGS_MAX];
    assert!(peer.ask(&many).starts_with("-ERR unknown command 'k'"));
    let mut exists = vec!["k"; KV_ARGS_MAX];
    exists[0] = "EXISTS";
    assert_eq!(peer.ask(&["SET", "k", "1"]), "+OK");
    assert_eq!(peer.ask(&exists), format!(":{}", KV_ARGS_MAX - 1));
}

#[test]
fn a_value_may_be_as_long_as_it_may_and_no_longer() {
    let site = site(|_| {});
    let mut peer = site.peer();
    let last = (KV_ARG_BYTES_MAX - 1).to_string();
    assert_eq!(peer.ask(&["SETRANGE", "k", &last, "x"]), format!(":{KV_ARG_BYTES_MAX}"));
    peer.say(&request(7, &["GET", "k"]));
    let (number, reply) = peer.told();
    assert_eq!((number, reply.len()), (7, KV_ARG_BYTES_MAX + "$536870912\r\n\r\n".len()));
    assert!(peer.ask(&["APPEND", "k", "x"]).starts_with("-ERR string exceeds maximum allowed size"));
}

#[test]
fn what_was_asked_for_is_answered_before_a_server_drains_and_nothing_that_comes_later() {
    let directory = tempfile::tempdir().unwrap();
    let site = site(|kv| (kv.dir, kv.fsync) = (Some(directory.path().to_owned()), Fsync::Always));
    let mut peer = site.peer();
    let mut whole = Vec::new();
    write_kv_args([&b"SET"[..], b"k", b"1"].into_iter(), &mut whole);
    peer.say(&part(1, &whole[..5], true));
    // It has come once what was said behind it is answered.
    peer.send(0, &Frame::Ping(1));
    assert_eq!(peer.answer(), (0, Frame::Pong(1)));
    std::thread::scope(|scope| {
        let draining = scope.spawn(|| site.server.drain(Duration::from_secs(10)));
        assert_eq!(peer.answer(), (0, Frame::Goodbye));
        peer.say(&part(1, &whole[5..], false));
        assert_eq!(peer.replied(1), "+OK");
        peer.say(&request(2, &["PING"]));
        peer.refused(2, ErrorCode::ShuttingDown);
        peer.end();
        draining.join().unwrap();
    });
}

#[test]
fn who_ends_the_stream_is_still_answered() {
    let directory = tempfile::tempdir().unwrap();
    let site = site(|kv| (kv.dir, kv.fsync) = (Some(directory.path().to_owned()), Fsync::Always));
    let mut peer = site.peer();
    peer.say(&[request(1, &["INCR", "n"]), request(2, &["INCR", "n"]), part(3, b"x", true)].concat());
    peer.end();
    assert_eq!((peer.replied(1), peer.replied(2)), (":1".into(), ":2".into()));
    peer.closed();
    site.is_well_and_has(&[]);
}

#[test]
fn what_is_wrong_with_a_client_is_told_to_who_runs_the_server() {
    let site = site(|kv| kv.password = Some("open sesame".into()));
    let mut peer = site.peer();
    assert!(peer.ask(&["AUTH", "wrong"]).starts_with("-WRONGPASS"));
    peer.ask(&["AUTH", "open sesame"]);
    eventually("it is told", || {
        let told = site.server.happenings();
        told.iter().any(|happening| match &happening.kind {
            HappeningKind::Failed { failure, .. } => failure.to_string().contains("wrong password"),
            _ => false,
        })
    });
    assert_eq!(peer.ask(&["SHUTDOWN"]), "+OK");
    eventually("it is told", || {
        site.server.happenings().iter().any(|happening| matches!(happening.kind, HappeningKind::StopAsked))
    });
}
