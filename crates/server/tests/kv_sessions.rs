//! How a connection to the key-value store behaves, whatever is said on it.
//!
//! On the driver that `XFERD_BACKEND` names.

#![allow(clippy::unwrap_used)]

mod kv;

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kv::{Client, Store, eventually, request};
use xferd_server::{
    FAILURES_MAX, HappeningKind, INBOX_BYTES_MAX, QUEUED_BYTES_MAX, QUEUED_COMMANDS_MAX, SUBSCRIPTIONS_MAX,
    WATCHED_MAX,
};

impl Store {
    /// A failure that says so has been told to who runs the server.
    fn has_failed(&self, what: &str) {
        eventually(what, || {
            let is_it = |kind: &HappeningKind| match kind {
                HappeningKind::Failed { failure, .. } => failure.to_string().contains(what),
                _ => false,
            };
            self.server.happenings().iter().any(|happening| is_it(&happening.kind))
        });
    }
}

/// What a new connection is answered until its end.
fn answer(store: &Store, said: &[u8]) -> String {
    let mut client = store.client();
    // It may be closed before all is said.
    let _ = client.stream.write_all(said);
    String::from_utf8_lossy(&client.rest()).into_owned()
}

#[test]
fn commands_may_be_typed_as_lines_byte_by_byte() {
    let store = Store::new();
    let mut client = store.client();
    for byte in b"SET \"a key\" 'it''s'\r\nset k 5\nINCR k\r\n\r\nPING\r\n" {
        client.say(&[*byte]);
    }
    // A quote has to be followed by a blank.
    assert_eq!(client.next(), "-ERR Protocol error: unbalanced quotes in request");
    client.is_closed();
    let mut client = store.client();
    for byte in b"SET \"a key\" \"\\x41\\n\"\r\nset k 5\nINCR k\r\n\r\nPING\r\nGET \"a key\"\n" {
        client.say(&[*byte]);
    }
    for expected in ["+OK", "+OK", ":6", "+PONG", "$A\\n"] {
        assert_eq!(client.next(), expected);
    }
    for byte in request(&["GET", "k"]) {
        client.say(&[byte]);
    }
    assert_eq!(client.next(), "$6");
    store.is_well();
}

#[test]
fn ten_thousand_requests_at_once_are_answered_in_their_order() {
    const REQUESTS: usize = 10_000;
    let store = Store::new();
    let mut client = store.client();
    let all: Vec<u8> = (0..REQUESTS).flat_map(|number| request(&["ECHO", &number.to_string()])).collect();
    client.say(&all);
    for number in 0..REQUESTS {
        assert_eq!(client.next(), format!("${number}"));
    }
}

#[test]
fn a_large_value_comes_back_as_it_was() {
    let store = Store::new();
    let mut client = store.client();
    let value: Vec<u8> = (0..20_000_000_u32).map(|index| (index % 251) as u8).collect();
    assert_eq!(client.ask(&[b"SET".as_slice(), b"large", &value]), "+OK");
    client.send(&["GET", "large"]);
    let reply = client.raw().unwrap();
    assert!(reply.starts_with(b"$20000000\r\n") && reply[11..reply.len() - 2] == value[..]);
    assert_eq!(client.ask(&["STRLEN", "large"]), ":20000000");
}

#[test]
fn a_transaction_is_seen_whole_or_not_at_all() {
    const WRITERS: usize = 4;
    let store = Store::new();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (mut client, is_over) = (store.client(), &is_over);
            scope.spawn(move || {
                let mut round = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let value = format!("{writer}-{round}");
                    round += 1;
                    for args in [
                        &["MULTI"][..],
                        &["SET", "a", &value],
                        &["SET", "b", &value],
                        &["SET", "c", &value],
                        &["EXEC"],
                    ] {
                        client.send(args);
                    }
                    for expected in ["+OK", "+QUEUED", "+QUEUED", "+QUEUED", "[+OK +OK +OK]"] {
                        assert_eq!(client.next(), expected);
                    }
                }
            });
        }
        let mut reader = store.client();
        for _ in 0..500 {
            let seen = reader.ask(&["MGET", "a", "b", "c"]);
            let values: Vec<&str> = seen.trim_matches(['[', ']']).split(' ').collect();
            assert!(values.iter().all(|value| *value == values[0]), "{seen}");
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn whoever_watches_a_key_is_told_that_it_was_touched() {
    let store = Store::new();
    let (mut watcher, mut other) = (store.client(), store.client());
    let exec = |watcher: &mut Client| {
        assert_eq!(watcher.ask(&["MULTI"]), "+OK");
        assert_eq!(watcher.ask(&["SET", "done", "1"]), "+QUEUED");
        watcher.ask(&["EXEC"])
    };
    let touches: [&[&str]; 6] = [
        &["SET", "k", "2"],
        &["APPEND", "k", ""],
        &["DEL", "k"],
        &["EXPIRE", "k", "1000"],
        &["RENAME", "k", "l"],
        &["FLUSHALL"],
    ];
    for touch in touches {
        assert_eq!(other.ask(&["SET", "k", "1"]), "+OK");
        assert_eq!(watcher.ask(&["WATCH", "k", "other"]), "+OK");
        other.ask(touch);
        assert_eq!(exec(&mut watcher), "nil", "{touch:?}");
    }
    for look in [&["GET", "k"][..], &["SET", "unwatched", "1"], &["DEL", "missing"], &["TTL", "k"]] {
        assert_eq!(other.ask(&["SET", "k", "1"]), "+OK");
        assert_eq!(watcher.ask(&["WATCH", "k"]), "+OK");
        other.ask(look);
        assert_eq!(exec(&mut watcher), "[+OK]", "{look:?}");
    }
    for forget in [&["UNWATCH"][..], &["DISCARD"]] {
        assert_eq!(watcher.ask(&["WATCH", "k"]), "+OK");
        if forget == ["DISCARD"] {
            assert_eq!(watcher.ask(&["MULTI"]), "+OK");
        }
        other.ask(&["SET", "k", "2"]);
        assert_eq!(watcher.ask(forget), "+OK");
        assert_eq!(exec(&mut watcher), "[+OK]", "{forget:?}");
    }
}

#[test]
fn whoever_watches_a_key_is_told_that_it_has_expired() {
    let store = Store::new();
    let mut watcher = store.client();
    assert_eq!(watcher.ask(&["SET", "k", "1", "PX", "50"]), "+OK");
    assert_eq!(watcher.ask(&["WATCH", "k"]), "+OK");
    let mut other = store.client();
    eventually("the key is gone", || other.ask(&["EXISTS", "k"]) == ":0");
    assert_eq!(watcher.ask(&["MULTI"]), "+OK");
    assert_eq!(watcher.ask(&["PING"]), "+QUEUED");
    assert_eq!(watcher.ask(&["EXEC"]), "nil");
}

#[test]
fn what_needs_every_key_waits_for_the_end_of_a_transaction_that_has_some() {
    let directory = tempfile::tempdir().unwrap();
    let store =
        Store::with(|config| config.kv.get_or_insert_default().dir = Some(directory.path().to_owned()));
    let mut client = store.client();
    for (args, reply) in [
        (&["MULTI"][..], "+OK"),
        (&["SET", "k", "1"], "+QUEUED"),
        (&["BGSAVE"], "+QUEUED"),
        (&["BGREWRITEAOF"], "+QUEUED"),
        (&["CONFIG", "RESETSTAT"], "+QUEUED"),
        (
            &["EXEC"],
            "[+OK +Background saving scheduled +Background append only file rewriting scheduled +OK]",
        ),
        (&["MULTI"], "+OK"),
        (&["SAVE"], "-ERR Command not allowed inside a transaction"),
        (&["SHUTDOWN"], "-ERR Command not allowed inside a transaction"),
        (&["EXEC"], "-EXECABORT Transaction discarded because of previous errors."),
    ] {
        assert_eq!(client.ask(args), reply, "{args:?}");
    }
    eventually("it is saved", || client.ask(&["SAVE"]) == "+OK");
    store.is_well();
}

#[test]
fn messages_reach_whoever_listens_on_whatever_reactor() {
    let store = Store::new();
    let mut listeners: Vec<Client> = (0..6).map(|_| store.client()).collect();
    for (index, listener) in listeners.iter_mut().enumerate() {
        if index % 2 == 1 {
            listener.send(&["HELLO", "3"]);
            listener.raw().unwrap();
        }
        let push = if index % 2 == 1 { ">" } else { "" };
        assert_eq!(listener.ask(&["SUBSCRIBE", "news"]), format!("{push}[$subscribe $news :1]"));
        assert_eq!(listener.ask(&["PSUBSCRIBE", "n[e]*"]), format!("{push}[$psubscribe $n[e]* :2]"));
    }
    let mut publisher = store.client();
    assert_eq!(publisher.ask(&["SET", "k", "1"]), "+OK");
    assert_eq!(publisher.ask(&["PUBLISH", "news", "hello"]), ":12");
    assert_eq!(publisher.ask(&["PUBLISH", "other", "hello"]), ":0");
    assert_eq!(publisher.ask(&["PUBSUB", "NUMSUB", "news", "other"]), "[$news :6 $other :0]");
    assert_eq!(publisher.ask(&["PUBSUB", "CHANNELS"]), "[$news]");
    assert_eq!(publisher.ask(&["PUBSUB", "NUMPAT"]), ":1");
    for (index, listener) in listeners.iter_mut().enumerate() {
        let push = if index % 2 == 1 { ">" } else { "" };
        assert_eq!(listener.next(), format!("{push}[$message $news $hello]"));
        assert_eq!(listener.next(), format!("{push}[$pmessage $n[e]* $news $hello]"));
        if index % 2 == 1 {
            // Replies are not taken for messages.
            assert_eq!(listener.ask(&["SET", "k", "1"]), "+OK");
        } else {
            assert!(listener.ask(&["SET", "k", "1"]).starts_with("-ERR Can't execute 'set'"));
            assert_eq!(listener.ask(&["PING"]), "[$pong $]");
        }
        assert_eq!(listener.ask(&["UNSUBSCRIBE"]), format!("{push}[$unsubscribe $news :1]"));
        assert_eq!(listener.ask(&["PUNSUBSCRIBE", "n[e]*"]), format!("{push}[$punsubscribe $n[e]* :0]"));
        assert_eq!(listener.ask(&["GET", "k"]), "$1");
    }
    assert_eq!(publisher.ask(&["PUBLISH", "news", "hello"]), ":0");
    drop(listeners);
    store.is_well();
}

#[test]
fn a_listener_that_does_not_read_is_cut_and_holds_nobody_up() {
    let store = Store::new();
    let (mut deaf, mut keen, mut publisher) = (store.client(), store.client(), store.client());
    for listener in [&mut deaf, &mut keen] {
        assert_eq!(listener.ask(&["SUBSCRIBE", "news"]), "[$subscribe $news :1]");
    }
    let message = vec![b'm'; 4_000_000];
    // As much as the inbox takes, and what the kernel may have of it, twice.
    let mut told = 0;
    while publisher.ask(&[b"PUBLISH".as_slice(), b"news", &message]) == ":2" {
        assert!(keen.raw().unwrap().ends_with(b"m\r\n"));
        told += message.len();
        assert!(told < 4 * INBOX_BYTES_MAX, "the listener is still there");
    }
    assert!(told >= INBOX_BYTES_MAX / 2, "{told}");
    store.has_failed("does not read what it has subscribed to");
    drop(deaf);
    store.is_well();
}

#[test]
fn connections_can_be_ended_by_others() {
    let store = Store::new();
    let (mut killer, mut victim) = (store.client(), store.client());
    let id = victim.ask(&["CLIENT", "ID"]);
    assert_eq!(killer.ask(&["CLIENT", "KILL", "ID", &id[1..]]), ":1");
    victim.is_closed();
    eventually("it is gone", || killer.ask(&["CLIENT", "KILL", "ID", &id[1..]]) == ":0");
    let mut listener = store.client();
    assert_eq!(listener.ask(&["SUBSCRIBE", "news"]), "[$subscribe $news :1]");
    assert_eq!(killer.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]), ":1");
    listener.is_closed();
    assert_eq!(killer.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no"]), ":1");
    killer.is_closed();
    store.is_well();
}

#[test]
fn a_connection_that_does_not_read_can_be_ended_too() {
    let store = Store::new();
    let (mut killer, mut deaf) = (store.client(), store.client());
    let id = deaf.ask(&["CLIENT", "ID"]);
    assert_eq!(deaf.ask(&[b"SET".as_slice(), b"k", &vec![b'v'; 20_000_000]]), "+OK");
    deaf.send(&["GET", "k"]);
    eventually("it is answered", || store.server.kv_metrics().unwrap().commands >= 3);
    assert_eq!(killer.ask(&["CLIENT", "KILL", "ID", &id[1..]]), ":1");
    eventually("it is gone", || killer.ask(&["CLIENT", "KILL", "ID", &id[1..]]) == ":0");
}

#[test]
fn whoever_monitors_is_told_of_every_command() {
    let store = Store::new();
    let (mut monitor, mut client) = (store.client(), store.client());
    assert_eq!(monitor.ask(&["MONITOR"]), "+OK");
    assert_eq!(client.ask(&["SET", "k\r\n+OK", "\"v\""]), "+OK");
    let told = monitor.next();
    assert!(told.contains("[0 127.0.0.1:") && told.contains("\"SET\" "), "{told}");
    assert!(told.contains("k\\\\r\\\\n+OK"), "{told}");
    client.send(&["GET", "it's\x07"]);
    let told = monitor.next();
    assert!(told.ends_with("\"GET\" \"it's\\\\a\""), "{told}");
}

#[test]
fn nothing_that_was_told_before_a_reset_comes_behind_it() {
    let store = Store::new();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (mut teller, is_over) = (store.client(), &is_over);
        scope.spawn(move || {
            for _ in 0..50_000 {
                teller.ask(&["PUBLISH", "c", "m"]);
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let mut client = store.client();
        for _ in 0..300 {
            client.say(&[request(&["MONITOR"]), request(&["SUBSCRIBE", "c"]), request(&["RESET"])].concat());
            while client.next() != "+RESET" {}
            assert_eq!(client.ask(&["ECHO", "mine"]), "$mine");
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn without_the_password_nothing_is_done() {
    let store = Store::with(|config| config.kv.get_or_insert_default().password = Some("open sesame".into()));
    let mut client = store.client();
    for args in
        [&["GET", "k"][..], &["PING"], &["FLUSHALL"], &["MULTI"], &["SUBSCRIBE", "c"], &["HELLO", "3"]]
    {
        let said = client.ask(args);
        assert!(said.starts_with("-NOAUTH"), "{args:?}: {said}");
    }
    assert_eq!(
        client.ask(&["AUTH", "wrong"]),
        "-WRONGPASS invalid username-password pair or user is disabled."
    );
    assert_eq!(client.ask(&["AUTH", "open sesame"]), "+OK");
    assert_eq!(client.ask(&["SET", "k", "1"]), "+OK");
    let mut other = store.client();
    assert!(other.ask(&["HELLO", "3", "AUTH", "default", "open sesame"]).contains("$proto :3"));
    assert_eq!(other.ask(&["GET", "k"]), "$1");
    assert_eq!(other.ask(&["RESET"]), "+RESET");
    assert!(other.ask(&["GET", "k"]).starts_with("-NOAUTH"));
}

#[test]
fn a_stranger_may_say_little() {
    let store = Store::with(|config| config.kv.get_or_insert_default().password = Some("open sesame".into()));
    assert!(answer(&store, b"*11\r\n").contains("unauthenticated multibulk length"));
    assert!(answer(&store, b"*1\r\n$16385\r\n").contains("unauthenticated bulk length"));
}

#[test]
fn passwords_are_guessed_so_often_and_not_once_more() {
    let store = Store::with(|config| config.kv.get_or_insert_default().password = Some("open sesame".into()));
    let mut client = store.client();
    for _ in 0..FAILURES_MAX {
        assert!(client.ask(&["AUTH", "wrong"]).starts_with("-WRONGPASS"));
    }
    assert!(client.ask(&["AUTH", "open sesame"]).starts_with("-ERR too many wrong passwords"));
    client.is_closed();
    store.has_failed("too many wrong passwords");
}

#[test]
fn one_connection_too_many_is_told_so() {
    let store = Store::with(|config| config.connections_max = 2);
    let mut served = [store.client(), store.client()];
    served.iter_mut().for_each(|client| assert_eq!(client.ask(&["PING"]), "+PONG"));
    let mut refused = store.client();
    assert_eq!(refused.ask(&["PING"]), "-ERR max number of clients reached");
    refused.is_closed();
    let [first, _second] = served;
    drop(first);
    eventually("there is room again", || store.client().ask(&["PING"]) == "+PONG");
}

#[test]
fn what_was_asked_for_is_answered_before_a_server_drains() {
    let store = Store::new();
    let mut clients: Vec<Client> = (0..4).map(|_| store.client()).collect();
    for client in &mut clients {
        assert_eq!(client.ask(&["SET", "k", "1"]), "+OK");
    }
    store.server.drain(Duration::from_secs(10));
    for client in &mut clients {
        client.is_closed();
    }
}

#[test]
fn who_ends_the_stream_is_still_answered() {
    let store = Store::new();
    let stream = std::net::TcpStream::connect(store.address()).unwrap();
    (&stream).write_all(b"PING\r\nECHO hello\r\nGET").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut said = Vec::new();
    std::io::Read::read_to_end(&mut &stream, &mut said).unwrap();
    assert_eq!(String::from_utf8_lossy(&said), "+PONG\r\n$5\r\nhello\r\n");
    store.is_well();
}

#[test]
fn what_is_no_request_ends_the_connection_with_a_word() {
    let store = Store::new();
    let error = |said: &[u8], what: &str| {
        assert_eq!(
            answer(&store, said),
            format!("-ERR Protocol error: {what}\r\n"),
            "{}",
            said[..said.len().min(40)].escape_ascii()
        );
    };
    error(&vec![b'x'; 1_000_000], "too big inline request");
    error(b"*1\r\n$-2\r\n", "invalid bulk length");
    error(b"*1\r\n$9223372036854775808\r\n", "invalid bulk length");
    error(b"*1\r\n$536870913\r\n", "invalid bulk length");
    error(b"*1048577\r\n", "invalid multibulk length");
    error(b"*9223372036854775808\r\n", "invalid multibulk length");
    error(b"*1\r\n*1\r\n$4\r\nPING\r\n", "expected '$', got '*'");
    error(b"*1\r\n\r\n", "expected '$', got ' '");
    error(b"\"PING\r\n", "unbalanced quotes in request");
    store.has_failed("invalid multibulk length");
    store.is_well();
}

#[test]
fn a_million_arguments_are_taken() {
    let store = Store::new();
    let mut client = store.client();
    let mut said = b"*1048576\r\n$3\r\nDEL\r\n".to_vec();
    (1..1_048_576).for_each(|_| said.extend_from_slice(b"$1\r\nk\r\n"));
    assert_eq!(client.ask(&["SET", "k", "1"]), "+OK");
    client.say(&said);
    assert_eq!(client.next(), ":1");
}

#[test]
fn nobody_puts_words_into_our_mouth() {
    let store = Store::new();
    let mut client = store.client();
    for args in
        [&["nothing\r\n+OK", "x\r\n+OK"][..], &["CONFIG", "x\r\n+OK"], &["CLIENT", "KILL", "x\r\n+OK"]]
    {
        let said = client.ask(args);
        assert!(said.starts_with("-ERR ") && !said.contains("\\r"), "{said}");
    }
    assert_eq!(client.ask(&["SET", "k\r\n+OK\r\n", "v\r\n"]), "+OK");
    assert_eq!(client.ask(&["KEYS", "*"]), "[$k\\r\\n+OK\\r\\n]");
    assert!(client.ask(&["CLIENT", "SETNAME", "x\r\ny"]).starts_with("-ERR Client names cannot"));
    assert_eq!(client.ask(&["PING"]), "+PONG");
}

#[test]
fn a_browser_is_not_listened_to() {
    let store = Store::new();
    for said in ["POST / HTTP/1.1\r\nHost: x\r\n\r\nSET k 1\r\n", "GET / HTTP/1.1\r\n\r\nSET k 1\r\n"] {
        assert_eq!(answer(&store, said.as_bytes()), "");
        store.has_failed("HTTP request");
    }
    assert_eq!(store.client().ask(&["EXISTS", "k"]), ":0");
}

#[test]
fn whoever_reads_no_replies_is_asked_for_no_more() {
    let store = Store::new();
    let mut client = store.client();
    assert_eq!(client.ask(&[b"SET".as_slice(), b"k", &vec![b'v'; 1_000_000]]), "+OK");
    client.stream.set_patience(Some(Duration::from_millis(300))).unwrap();
    // The replies would be 100 GB.
    let all: Vec<u8> = (0..100_000).flat_map(|_| request(&["GET", "k"])).collect();
    let mut calls = 0;
    let is_full = (0..100).any(|_| client.stream.write_all(&all).is_err());
    assert!(is_full, "the server has taken requests without end");
    let mut other = store.client();
    eventually("no more is carried out", || {
        let before = std::mem::replace(&mut calls, store.server.kv_metrics().unwrap().commands);
        std::thread::sleep(Duration::from_millis(50));
        before == calls
    });
    assert!(calls < 1000, "{calls} commands were carried out");
    assert_eq!(other.ask(&["PING"]), "+PONG");
    drop(client);
    store.is_well();
}

#[test]
fn so_many_commands_wait_for_exec_and_not_one_more() {
    let store = Store::new();
    for (queued, is_carried_out) in [(QUEUED_COMMANDS_MAX, true), (QUEUED_COMMANDS_MAX + 1, false)] {
        let mut client = store.client();
        let mut said = request(&["MULTI"]);
        (0..queued).for_each(|_| said.extend_from_slice(b"PING\r\n"));
        said.extend(request(&["EXEC"]));
        std::thread::scope(|scope| {
            let mut stream = std::net::TcpStream::connect(store.address()).unwrap();
            let mut reader = Client::of(stream.try_clone().unwrap());
            scope.spawn(move || stream.write_all(&said).unwrap());
            assert_eq!(reader.next(), "+OK");
            (0..QUEUED_COMMANDS_MAX).for_each(|_| assert_eq!(reader.next(), "+QUEUED"));
            if is_carried_out {
                assert!(reader.next().starts_with("[+PONG +PONG"));
            } else {
                assert_eq!(reader.next(), "-ERR too much is waiting for EXEC; say EXEC more often");
                assert!(reader.next().starts_with("-EXECABORT"));
            }
        });
        assert_eq!(client.ask(&["PING"]), "+PONG");
    }
}

#[test]
fn so_many_bytes_wait_for_exec_and_not_one_more() {
    /// What `SET k` takes of the limit beside the bytes of the value.
    const SET_BYTES: usize = 3 + 1 + 3 * 8 + 80;
    const MIB: usize = 1 << 20;
    let store = Store::new();
    for too_many in [0, 1] {
        let mut client = store.client();
        assert_eq!(client.ask(&["MULTI"]), "+OK");
        for written in (0..QUEUED_BYTES_MAX).step_by(MIB) {
            let is_last = written + MIB == QUEUED_BYTES_MAX;
            let value = vec![b'v'; MIB - SET_BYTES + if is_last { too_many } else { 0 }];
            let said = client.ask(&[b"SET".as_slice(), b"k", &value]);
            let expected =
                if is_last && too_many > 0 { "-ERR too much is waiting for EXEC" } else { "+QUEUED" };
            assert!(said.starts_with(expected), "{said} after {written} bytes");
        }
        let said = client.ask(&["EXEC"]);
        assert!(said.starts_with(if too_many > 0 { "-EXECABORT" } else { "[+OK +OK" }), "{said}");
        assert_eq!(client.ask(&["MULTI"]), "+OK");
        assert_eq!(client.ask(&["SET", "k", "v"]), "+QUEUED");
        assert_eq!(client.ask(&["EXEC"]), "[+OK]");
    }
}

#[test]
fn so_many_keys_are_watched_and_not_one_more() {
    let store = Store::new();
    let mut client = store.client();
    let watch = |names: std::ops::Range<usize>| {
        let names = names.map(|name| name.to_string());
        std::iter::once("WATCH".to_owned()).chain(names).collect::<Vec<_>>()
    };
    let too_many = "-ERR too many keys are watched; say UNWATCH";
    assert_eq!(client.ask(&watch(0..WATCHED_MAX + 1)), too_many);
    assert_eq!(client.ask(&watch(0..WATCHED_MAX - 1)), "+OK");
    assert_eq!(client.ask(&["WATCH", "last"]), "+OK");
    assert_eq!(client.ask(&["WATCH", "one more"]), too_many);
    assert_eq!(store.client().ask(&["SET", "last", "touched"]), "+OK");
    for (args, answer) in [("MULTI", "+OK"), ("PING", "+QUEUED"), ("EXEC", "nil"), ("UNWATCH", "+OK")] {
        assert_eq!(client.ask(&[args]), answer);
    }
    assert_eq!(client.ask(&["WATCH", "one more"]), "+OK");
}

#[test]
fn so_many_channels_are_listened_to_and_not_one_more() {
    let store = Store::new();
    for (word, undo) in [("SUBSCRIBE", "UNSUBSCRIBE"), ("PSUBSCRIBE", "PUNSUBSCRIBE")] {
        let mut client = store.client();
        let kind = word.to_ascii_lowercase();
        let names = (1..SUBSCRIPTIONS_MAX).map(|name| name.to_string());
        client.send(&std::iter::once(word.to_owned()).chain(names).collect::<Vec<_>>());
        for name in 1..SUBSCRIPTIONS_MAX {
            assert_eq!(client.next(), format!("[${kind} ${name} :{name}]"));
        }
        let too_many = "-ERR too many channels for one connection; open another one";
        assert_eq!(client.ask(&[word, "last", "one more"]), too_many);
        assert_eq!(client.ask(&[word, "last"]), format!("[${kind} $last :{SUBSCRIPTIONS_MAX}]"));
        assert_eq!(client.ask(&[word, "one more"]), too_many);
        assert!(client.ask(&[undo, "last"]).ends_with(&format!(":{}]", SUBSCRIPTIONS_MAX - 1)));
        assert!(client.ask(&[word, "one more"]).ends_with(&format!(":{SUBSCRIPTIONS_MAX}]")));
    }
    store.is_well();
}

#[test]
fn who_says_half_a_request_is_waited_for_only_so_long() {
    let store = Store::with(|config| config.kv.get_or_insert_default().patience = Duration::from_millis(200));
    let mut idle = store.client();
    assert_eq!(idle.ask(&["PING"]), "+PONG");
    for half in ["*2\r\n$3\r\nGET\r\n", "*", "GET k", "*1\r\n$100000\r\nx"] {
        let mut client = store.client();
        assert_eq!(client.ask(&["PING"]), "+PONG");
        client.say(half.as_bytes());
        client.is_closed();
    }
    store.has_failed("nothing was heard for too long");
    // Who has nothing to say may take his time.
    assert_eq!(idle.ask(&["PING"]), "+PONG");
}

#[test]
fn who_takes_no_replies_is_waited_for_only_so_long() {
    let store = Store::with(|config| config.kv.get_or_insert_default().patience = Duration::from_secs(1));
    let mut deaf = store.client();
    assert_eq!(deaf.ask(&[b"SET".as_slice(), b"k", &vec![b'v'; 20_000_000]]), "+OK");
    deaf.send(&["GET", "k"]);
    store.has_failed("nothing was heard for too long");
    eventually("it is gone", || store.server.kv_metrics().unwrap().connections == 0);
}

#[test]
fn guessing_passwords_goes_on_no_faster_on_more_connections() {
    let store = Store::with(|config| config.kv.get_or_insert_default().password = Some("open sesame".into()));
    let mut known = store.client();
    assert_eq!(known.ask(&["AUTH", "open sesame"]), "+OK");
    for _ in 0..FAILURES_MAX {
        assert!(store.client().ask(&["AUTH", "wrong"]).starts_with("-WRONGPASS"));
    }
    for guess in ["wrong", "open sesame"] {
        let mut client = store.client();
        assert!(client.ask(&["HELLO", "3", "AUTH", "default", guess]).contains("too many wrong passwords"));
        client.is_closed();
    }
    // Who is in stays, and who comes another way has his own tries.
    assert_eq!(known.ask(&["PING"]), "+PONG");
    assert_eq!(Client::unix(&store.path()).ask(&["AUTH", "open sesame"]), "+OK");
}
