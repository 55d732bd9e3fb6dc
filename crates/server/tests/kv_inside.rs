//! Keys for who runs the server, in the same process.

#![allow(clippy::unwrap_used)]

mod kv;

use std::sync::mpsc::{self, Receiver};

use kv::{PATIENCE, Store, request, shown};
use xferd_engine::Failure;
use xferd_kv::Fsync;
use xferd_server::{CALL_REPLIES_BYTES_MAX, Keys, KvConfig};
use xferd_wire::ErrorCode;
use xferd_wire::resp::ValueDecoder;

type Answer = (Vec<String>, Result<(), ErrorCode>);

/// Has requests carried out; their replies come later, or have come.
fn start(keys: &Keys, requests: &[u8]) -> Receiver<Answer> {
    let (send, receive) = mpsc::channel();
    keys.call(requests, move |replies, result| {
        // A test that has failed does not wait for it.
        let _ = send.send((values(&replies), result.map_err(|failure: Failure| failure.code)));
    });
    receive
}

fn call(keys: &Keys, requests: &[u8]) -> Answer {
    start(keys, requests).recv_timeout(PATIENCE).unwrap()
}

#[track_caller]
fn ask<A: AsRef<[u8]>>(keys: &Keys, args: &[A]) -> String {
    let (mut replies, result) = call(keys, &request(args));
    assert_eq!((replies.len(), result), (1, Ok(())));
    replies.remove(0)
}

fn values(mut bytes: &[u8]) -> Vec<String> {
    let mut values = Vec::new();
    while let Some((len, value)) = ValueDecoder::new().decode(bytes).unwrap() {
        values.push(shown(&value));
        bytes = &bytes[len..];
    }
    assert!(bytes.is_empty(), "replies are whole");
    values
}

fn keys(store: &Store) -> Keys {
    store.server.keys(|| {}).unwrap()
}

fn persistent(fsync: Fsync) -> (Store, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let dir = Some(directory.path().to_owned());
    let store = Store::with(|config| config.kv = Some(KvConfig { dir, fsync, ..KvConfig::default() }));
    (store, directory)
}

fn in_memory_and_on_disk() -> [(Store, Option<tempfile::TempDir>); 2] {
    let (store, directory) = persistent(Fsync::Always);
    [(Store::new(), None), (store, Some(directory))]
}

#[test]
fn what_one_has_set_the_other_gets_in_the_process_and_over_a_socket() {
    let store = Store::new();
    let (keys, mut client) = (keys(&store), store.client());
    assert_eq!(ask(&keys, &["SET", "k", "1"]), "+OK");
    assert_eq!(client.ask(&["INCR", "k"]), ":2");
    assert_eq!(ask(&keys, &["GET", "k"]), "$2");
    assert_eq!(ask(&keys, &["GET", "missing"]), "nil");
    assert_eq!(ask(&keys, &["HSET", "h", "f", "v"]), ":1");
    assert_eq!(ask(&keys, &["HGETALL", "h"]), "%[$f $v]");
    let list = client.ask(&["CLIENT", "LIST"]);
    assert!(list.contains("addr=same-process") && list.contains("resp=3"), "{list}");
    assert_eq!(store.server.kv_metrics().unwrap().connections, 2);
    drop(keys);
    assert_eq!(store.server.kv_metrics().unwrap().connections, 1);
}

#[test]
fn several_requests_of_a_call_are_answered_in_their_order() {
    for (store, _directory) in in_memory_and_on_disk() {
        let keys = keys(&store);
        let waiting: Vec<_> =
            (0..100).map(|_| start(&keys, &[request(&["INCR", "k"]), request(&["PING"])].concat())).collect();
        for (number, waiting) in waiting.into_iter().enumerate() {
            let answer = waiting.recv_timeout(PATIENCE).unwrap();
            assert_eq!(answer, (vec![format!(":{}", number + 1), "+PONG".into()], Ok(())));
        }
    }
}

#[test]
fn what_was_answered_is_there_after_the_next_start() {
    let (store, directory) = persistent(Fsync::Always);
    let inside = keys(&store);
    assert_eq!(ask(&inside, &["SET", "k", "kept"]), "+OK");
    drop(inside);
    drop(store);
    let dir = Some(directory.path().to_owned());
    let store = Store::with(|config| config.kv = Some(KvConfig { dir, ..KvConfig::default() }));
    assert_eq!(ask(&keys(&store), &["GET", "k"]), "$kept");
}

#[test]
fn each_client_has_its_own_transaction_and_what_it_watches() {
    let store = Store::new();
    let (one, other) = (keys(&store), keys(&store));
    for expected in ["[:1]", "nil"] {
        assert_eq!(ask(&one, &["WATCH", "k"]), "+OK");
        assert_eq!(ask(&one, &["MULTI"]), "+OK");
        assert_eq!(ask(&one.clone(), &["INCR", "n"]), "+QUEUED");
        if expected == "nil" {
            assert_eq!(ask(&other, &["SET", "k", "touched"]), "+OK");
        }
        assert_eq!(ask(&one, &["EXEC"]), expected);
    }
    assert_eq!(ask(&one, &["SELECT", "3"]), "+OK");
    assert_eq!(ask(&other, &["DBSIZE"]), ":2");
    assert_eq!(ask(&one, &["DBSIZE"]), ":0");
}

#[test]
fn messages_come_when_the_bell_has_rung() {
    for (store, _directory) in in_memory_and_on_disk() {
        let (ring, bell) = mpsc::channel();
        let keys = store.server.keys(move || ring.send(()).unwrap_or_default()).unwrap();
        assert_eq!(ask(&keys, &["SUBSCRIBE", "news"]), ">[$subscribe $news :1]");
        assert_eq!(keys.pushes().values, b"");
        let mut publisher = store.client();
        for number in 0..3 {
            assert_eq!(publisher.ask(&["PUBLISH", "news", &number.to_string()]), ":1");
            let mut pushed = Vec::new();
            while pushed.is_empty() {
                bell.recv_timeout(PATIENCE).unwrap();
                pushed = values(&keys.pushes().values);
            }
            assert_eq!(pushed, [format!(">[$message $news ${number}]")]);
        }
        store.server.stop();
        bell.recv_timeout(PATIENCE).unwrap();
        assert_eq!(keys.pushes().end.map(|failure| failure.code), Some(ErrorCode::ShuttingDown));
    }
}

#[test]
fn nobody_is_asked_for_a_password_who_is_in_the_process() {
    let store = Store::with(|config| {
        config.kv = Some(KvConfig { password: Some("open sesame".into()), ..KvConfig::default() });
    });
    let keys = keys(&store);
    assert_eq!(ask(&keys, &["SET", "k", "1"]), "+OK");
    assert_eq!(ask(&keys, &["RESET"]), "+RESET");
    assert_eq!(ask(&keys, &["GET", "k"]), "$1");
    assert_eq!(ask(&keys, &["HELLO", "2"]), "-NOPROTO unsupported protocol version");
    assert!(ask(&keys, &["HELLO", "3"]).contains("$proto :3"));
}

#[test]
fn a_client_can_be_ended_by_itself_and_by_others() {
    let store = Store::new();
    let (quitter, victim) = (keys(&store), keys(&store));
    let both = [request(&["QUIT"]), request(&["PING"])].concat();
    assert_eq!(call(&quitter, &both), (vec!["+OK".into()], Err(ErrorCode::ConnectionLost)));
    assert_eq!(call(&quitter, &request(&["PING"])), (vec![], Err(ErrorCode::ConnectionLost)));
    let id = ask(&victim, &["CLIENT", "ID"]);
    assert_eq!(store.client().ask(&["CLIENT", "KILL", "ID", &id[1..]]), ":1");
    assert_eq!(call(&victim, &request(&["PING"])), (vec![], Err(ErrorCode::ConnectionLost)));
    assert_eq!(victim.pushes().end.map(|failure| failure.code), Some(ErrorCode::ConnectionLost));
    store.is_well();
}

#[test]
fn what_is_no_request_fails_and_the_next_call_does_not() {
    let store = Store::new();
    let keys = keys(&store);
    let ping = request(&["PING"]);
    for wrong in [&b"*1\r\n$-2\r\n"[..], b"*1\r\n$4\r\nPI", b"*1048577\r\n"] {
        let (replies, result) = call(&keys, &[&ping, wrong].concat());
        assert_eq!((replies, result), (vec!["+PONG".into()], Err(ErrorCode::InvalidArgument)));
        assert_eq!(call(&keys, &ping), (vec!["+PONG".into()], Ok(())));
    }
    assert_eq!(call(&keys, b""), (vec![], Ok(())));
}

#[test]
fn the_replies_to_a_call_may_have_so_many_bytes_and_the_next_request_is_not_carried_out() {
    let store = Store::new();
    let keys = keys(&store);
    let quarter = vec![b'v'; CALL_REPLIES_BYTES_MAX / 4];
    assert_eq!(ask(&keys, &[b"SET".as_slice(), b"large", &quarter]), "+OK");
    let get = request(&["GET", "large"]);
    let all = [get.repeat(4), request(&["SET", "k", "1"])].concat();
    let (send, receive) = mpsc::channel();
    keys.call(&all, move |replies, result| drop(send.send((replies.len(), result))));
    let (bytes, result) = receive.recv_timeout(PATIENCE).unwrap();
    assert!(bytes > CALL_REPLIES_BYTES_MAX, "{bytes}");
    assert_eq!(result.map_err(|failure| failure.code), Err(ErrorCode::Limit));
    assert_eq!(ask(&keys, &["EXISTS", "k"]), ":0");
    let all = [get.repeat(3), request(&["SET", "k", "1"])].concat();
    let (send, receive) = mpsc::channel();
    keys.call(&all, move |_, result| drop(send.send(result)));
    assert_eq!(receive.recv_timeout(PATIENCE).unwrap(), Ok(()));
    assert_eq!(ask(&keys, &["EXISTS", "k"]), ":1");
}

#[test]
fn once_the_server_has_stopped_nothing_is_carried_out() {
    let (store, _directory) = persistent(Fsync::EverySecond);
    let keys = keys(&store);
    assert_eq!(ask(&keys, &["SET", "k", "1"]), "+OK");
    store.server.stop();
    assert_eq!(call(&keys, &request(&["SET", "k", "2"])), (vec![], Err(ErrorCode::ShuttingDown)));
}

#[test]
fn a_server_of_files_alone_has_none() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = xferd_server::Config::new(directory.path());
    config.listen = vec![xferd_server::Listen::transfer(([127, 0, 0, 1], 0))];
    let server = xferd_server::Server::start(config.clone()).unwrap();
    assert!(server.keys(|| {}).is_none());
    config.kv = Some(KvConfig::default());
    let server = xferd_server::Server::start(config).unwrap();
    assert_eq!(ask(&server.keys(|| {}).unwrap(), &["PING"]), "+PONG");
}
