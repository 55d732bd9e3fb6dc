//! A client of keys and a server of keys in one process, and servers that are none.
//!
//! On the driver that `XFERD_BACKEND` names.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use xferd_client::{
    CALLS_MAX, Client, Compare, KV_CONNECTIONS_MAX, KV_LEASES_MAX, KvCall, KvClient, KvConfig, KvCut, KvLine,
    PUSHES_BYTES_MAX, PushSpec, Selection, Sources,
};
use xferd_engine::Failure;
use xferd_os::net::Address;
use xferd_server::{Config, FAILURES_MAX, Listen, Protocol, Server};
use xferd_wire::resp::encode_request;
use xferd_wire::{DigestAlgorithm, ErrorCode, RemotePath};

/// How long a test waits for what must happen. Only a broken client is this late.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server of keys, on a port that it keeps when it is started again.
struct Store {
    server: Option<Server>,
    config: Config,
    _directory: TempDir,
}

impl Store {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(configure: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::new(directory.path());
        config.io_threads = 2;
        config.listen = vec![
            Listen::kv(([127, 0, 0, 1], 0)),
            Listen::kv(directory.path().join("kv").as_path()),
            Listen::transfer(([127, 0, 0, 1], 0)),
        ];
        configure(&mut config);
        let server = Server::start(config.clone()).unwrap();
        config.listen = server.listening().to_vec();
        Self { server: Some(server), config, _directory: directory }
    }

    fn stop(&mut self) {
        self.server = None;
    }

    fn start(&mut self) {
        self.server = Some(Server::start(self.config.clone()).unwrap());
    }

    fn address(&self) -> Address {
        self.config.listen[0].address.clone()
    }

    fn client(&self) -> KvClient {
        open(self.address(), |_| {})
    }

    /// Over TCP, over a Unix socket, and in frames of a client that moves files.
    fn ways(&self, configure: impl Fn(&mut KvConfig)) -> [Reached; 3] {
        let own = |index: usize| Reached {
            client: open(self.config.listen[index].address.clone(), &configure),
            files: None,
        };
        [own(0), own(1), self.beside_files(&configure)]
    }

    fn beside_files(&self, configure: impl FnOnce(&mut KvConfig)) -> Reached {
        let mut config = KvConfig { patience: PATIENCE, ..KvConfig::default() };
        configure(&mut config);
        let threads = xferd_client::Config { io_threads: 1, patience: config.patience, ..Default::default() };
        let files = Client::open(self.config.listen[2].address.clone(), threads).unwrap();
        Reached { client: files.keys(config).unwrap(), files: Some(files) }
    }
}

/// A client of keys, and the one whose connections it uses.
struct Reached {
    client: KvClient,
    files: Option<Client>,
}

impl Deref for Reached {
    type Target = KvClient;

    fn deref(&self) -> &KvClient {
        &self.client
    }
}

fn open(address: impl Into<Address>, configure: impl FnOnce(&mut KvConfig)) -> KvClient {
    let mut config = KvConfig { patience: PATIENCE, ..KvConfig::default() };
    configure(&mut config);
    KvClient::open(address, config).unwrap()
}

fn keys_behind(password: &str) -> xferd_server::KvConfig {
    xferd_server::KvConfig { password: Some(password.into()), ..Default::default() }
}

fn requests(commands: &[&[&str]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    commands.iter().for_each(|command| encode_request(*command, &mut bytes));
    bytes
}

/// A call on its way.
struct Called {
    call: KvCall,
    ended: Receiver<Result<Vec<u8>, KvCut>>,
}

impl Called {
    #[track_caller]
    fn end(&self) -> Result<Vec<u8>, KvCut> {
        self.ended.recv_timeout(PATIENCE).expect("the call ends")
    }

    #[track_caller]
    fn text(&self) -> String {
        match self.end() {
            Ok(replies) => text(&replies),
            Err(KvCut { replies, failure }) => format!("{}{}: {failure}", text(&replies), failure.code),
        }
    }

    #[track_caller]
    fn failure(&self) -> Failure {
        self.end().unwrap_err().failure
    }

    fn is_waiting(&self) -> bool {
        matches!(self.ended.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout))
    }
}

fn text(replies: &[u8]) -> String {
    String::from_utf8_lossy(replies).replace("\r\n", " ")
}

/// What can be called: a client or a line.
trait Callee {
    fn begin(&self, requests: Vec<u8>, count: usize) -> Called;

    fn batch(&self, commands: &[&[&str]]) -> Called {
        self.begin(requests(commands), commands.len())
    }

    #[track_caller]
    fn ask(&self, command: &[&str]) -> String {
        self.batch(&[command]).text()
    }
}

impl Callee for KvClient {
    fn begin(&self, requests: Vec<u8>, count: usize) -> Called {
        let (sender, ended) = mpsc::channel();
        Called { call: self.call(requests, count, move |result| drop(sender.send(result))), ended }
    }
}

impl Callee for KvLine {
    fn begin(&self, requests: Vec<u8>, count: usize) -> Called {
        let (sender, ended) = mpsc::channel();
        Called { call: self.call(requests, count, move |result| drop(sender.send(result))), ended }
    }
}

fn lease(client: &KvClient) -> (KvLine, Receiver<Result<(), Failure>>) {
    let (sender, opened) = mpsc::channel();
    (client.lease(move |result| drop(sender.send(result))), opened)
}

#[track_caller]
fn leased(client: &KvClient) -> KvLine {
    let (line, opened) = lease(client);
    opened.recv_timeout(PATIENCE).expect("it opens").unwrap();
    line
}

fn next(line: &KvLine) -> Receiver<Result<Option<Vec<u8>>, Failure>> {
    let (sender, pushed) = mpsc::channel();
    line.next(move |pushes| drop(sender.send(pushes)));
    pushed
}

/// Pushes as text, until they end with `last`.
#[track_caller]
fn pushes_until(line: &KvLine, last: &str) -> String {
    let mut heard = String::new();
    while !heard.ends_with(last) {
        let pushes = next(line).recv_timeout(PATIENCE).expect("something comes").unwrap();
        heard += &text(&pushes.expect("the line is open"));
    }
    heard
}

/// Something that accepts connections, and does with each what it is told to.
struct Peer {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Peer {
    fn new(serve: impl Fn(std::net::TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, serve) = (Arc::new(AtomicUsize::new(0)), Arc::new(serve));
        let count = accepted.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::Relaxed);
                let serve = serve.clone();
                thread::spawn(move || serve(stream));
            }
        });
        Self { address, accepted }
    }

    /// Says hello as a server does, then `then`; what it is told is read and not looked at.
    fn saying(then: &'static [u8]) -> Self {
        Self::new(move |mut stream| {
            let mut room = [0; 4096];
            let mut greeted = false;
            while stream.read(&mut room).is_ok_and(|bytes| bytes > 0) {
                let answer: &[u8] = if greeted { then } else { b"%1\r\n$5\r\nproto\r\n:3\r\n" };
                greeted = true;
                if stream.write_all(answer).is_err() {
                    return;
                }
            }
        })
    }
}

#[test]
fn what_is_asked_is_answered_whatever_the_way() {
    let store = Store::new();
    for client in store.ways(|_| {}) {
        assert_eq!(client.ask(&["SET", "greeting", "hello"]), "+OK ");
        assert_eq!(client.ask(&["GET", "greeting"]), "$5 hello ");
        assert_eq!(client.ask(&["GET"]), "-ERR wrong number of arguments for 'get' command ");
        assert_eq!(client.begin(Vec::new(), 0).text(), "");
    }
}

#[test]
fn a_batch_is_answered_whole_and_in_order() {
    const COMMANDS: usize = 20_000;
    let store = Store::new();
    for client in store.ways(|_| {}) {
        let mut batch = Vec::new();
        let mut expected = Vec::new();
        for number in 0..COMMANDS {
            let word = number.to_string();
            encode_request(["ECHO", &word], &mut batch);
            expected.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
        assert!(client.begin(batch, COMMANDS).end().unwrap() == expected);
    }
}

#[test]
fn a_batch_that_fills_every_buffer_on_the_way_there_and_back_goes_through() {
    const ECHOES: usize = 400;
    let store = Store::new();
    for client in store.ways(|_| {}) {
        let word = "w".repeat(100_000);
        let mut batch = Vec::new();
        (0..ECHOES).for_each(|_| encode_request(["ECHO", &word], &mut batch));
        let (large, small) = (client.begin(batch, ECHOES), client.batch(&[&["PING"]]));
        let replies = large.end().unwrap();
        assert_eq!(replies.len(), ECHOES * (word.len() + "$100000\r\n\r\n".len()));
        assert_eq!(small.text(), "+PONG ");
    }
}

#[test]
fn a_large_value_comes_back_as_it_was() {
    let store = Store::new();
    for client in store.ways(|_| {}) {
        let value = "v".repeat(20_000_000);
        assert_eq!(client.ask(&["SET", "large", &value]), "+OK ");
        let replies = client.batch(&[&["GET", "large"], &["STRLEN", "large"]]).end().unwrap();
        assert!(replies == format!("$20000000\r\n{value}\r\n:20000000\r\n").as_bytes());
    }
}

#[test]
fn a_thousand_calls_at_once_share_four_connections() {
    let store = Store::new();
    let client = open(store.address(), |config| config.connections = 4);
    let calls: Vec<Called> = (0..1000)
        .map(|number| client.batch(&[&["SET", &format!("k{number}"), "v"], &["INCR", "count"]]))
        .collect();
    let mut counts: Vec<u64> = calls
        .iter()
        .map(|call| {
            let text = call.text();
            text.strip_prefix("+OK :").and_then(|count| count.trim().parse().ok()).expect("both are answered")
        })
        .collect();
    counts.sort_unstable();
    assert!(counts.into_iter().eq(1..=1000));
    assert_eq!(client.ask(&["CLIENT", "LIST"]).matches("id=").count(), 4);
}

#[test]
fn who_does_one_thing_after_the_other_has_one_connection() {
    let store = Store::new();
    let client = open(store.address(), |config| config.connections = 4);
    for _ in 0..50 {
        assert_eq!(client.ask(&["PING"]), "+PONG ");
    }
    assert_eq!(client.ask(&["CLIENT", "LIST"]).matches("id=").count(), 1);
}

#[test]
fn a_connection_says_its_name_its_password_and_where_its_keys_are() {
    let store = Store::with(|config| config.kv = Some(keys_behind("secret")));
    let ways = store.ways(|config| {
        (config.password, config.name) = (Some("secret".into()), Some("test".into()));
        config.database = 3;
    });
    for client in ways {
        let info = client.ask(&["CLIENT", "INFO"]);
        assert!(info.contains("name=test ") && info.contains("db=3 ") && info.contains("resp=3"), "{info}");
    }
}

#[test]
fn a_wrong_password_is_told_at_once_and_not_tried_for_ever() {
    let store = Store::with(|config| config.kv = Some(keys_behind("secret")));
    for client in store.ways(|config| config.password = Some("guess".into())) {
        for _ in 0..3 * FAILURES_MAX {
            let failure = client.batch(&[&["PING"]]).failure();
            assert_eq!((failure.code, failure.retryable), (ErrorCode::Permission, false));
            assert!(failure.message.contains("check the password"), "{failure}");
            assert_eq!(lease(&client).1.recv_timeout(PATIENCE).unwrap().unwrap_err(), failure);
        }
        let without = store.client().batch(&[&["PING"]]).failure();
        assert_eq!(without.code, ErrorCode::Permission);
        assert!(without.message.contains("asks for a password"), "{without}");
        // Nobody was taken for somebody who guesses.
        let right = open(store.address(), |config| config.password = Some("secret".into()));
        assert_eq!(right.ask(&["PING"]), "+PONG ");
    }
}

#[test]
fn a_database_that_is_not_there_is_told() {
    let store = Store::new();
    let client = open(store.address(), |config| config.database = 16);
    let failure = client.batch(&[&["PING"]]).failure();
    assert_eq!(failure.code, ErrorCode::InvalidArgument);
    assert!(failure.message.contains("DB index is out of range"), "{failure}");
}

#[test]
fn where_nobody_listens_the_failure_says_what_to_start() {
    let mut store = Store::new();
    store.stop();
    for (client, listen) in store.ways(|_| {}).into_iter().zip(&store.config.listen) {
        let failure = client.batch(&[&["PING"]]).failure();
        assert_eq!((failure.code, failure.retryable), (ErrorCode::ConnectionRefused, true));
        assert!(failure.message.contains(&listen.to_string()), "{failure}");
        let remedy = match listen.protocol {
            Protocol::Kv => "Is `xferd serve --listen kv://…` running there?",
            Protocol::Transfer => "Is `xferd serve` running there?",
        };
        assert!(failure.message.contains(remedy), "{failure}");
        let (line, opened) = lease(&client);
        assert_eq!(opened.recv_timeout(PATIENCE).unwrap().unwrap_err(), failure);
        assert_eq!(line.batch(&[&["PING"]]).failure(), failure);
        assert_eq!(next(&line).recv_timeout(PATIENCE).unwrap().unwrap_err(), failure);
    }
}

#[test]
fn what_was_sent_when_the_server_died_fails_and_what_waits_goes_on_with_the_next() {
    let mut store = Store::new();
    for client in store.ways(|_| {}) {
        assert_eq!(client.ask(&["PING"]), "+PONG ");
        store.stop();
        let waiting: Vec<Called> = (0..10).map(|_| client.batch(&[&["INCR", "count"]])).collect();
        // Some may be sent before the end is heard of.
        let late = loop {
            let call = client.batch(&[&["SET", "late", "1"]]);
            if call.is_waiting() {
                break call;
            }
        };
        store.start();
        assert_eq!(late.text(), "+OK ");
        for call in waiting {
            match call.end() {
                Ok(_) => {}
                Err(cut) => {
                    assert_eq!((cut.failure.code, cut.failure.retryable), (ErrorCode::ConnectionLost, true))
                }
            }
        }
        assert_eq!(client.ask(&["GET", "late"]), "$1 1 ");
    }
}

#[test]
fn nobody_knows_what_became_of_what_was_sent_before_the_connection_broke() {
    let peer = Peer::new(|mut stream| {
        let mut room = [0; 4096];
        let _ = stream.read(&mut room);
        let _ = stream.write_all(b"%0\r\n");
        let _ = stream.read(&mut room);
        // The first of two is answered, and half of the second.
        let _ = stream.write_all(b"+OK\r\n$5\r\nhel");
    });
    let client = open(peer.address, |_| {});
    let call = client.batch(&[&["SET", "k", "v"], &["GET", "k"]]);
    let KvCut { replies, failure } = call.end().unwrap_err();
    assert_eq!(replies, b"+OK\r\n");
    assert_eq!((failure.code, failure.retryable), (ErrorCode::ConnectionLost, true));
    assert!(failure.message.contains("may have been done or not"), "{failure}");
}

#[test]
fn what_waits_for_a_server_that_does_not_come_back_fails_when_the_patience_ends() {
    let mut store = Store::new();
    let client = open(store.address(), |config| config.patience = Duration::from_millis(300));
    assert_eq!(client.ask(&["PING"]), "+PONG ");
    store.stop();
    // One that goes on the connection whose end has not been heard of yet.
    let _ = client.ask(&["PING"]);
    assert_eq!(client.batch(&[&["PING"]]).failure().code, ErrorCode::ConnectionRefused);
    store.start();
    assert_eq!(client.ask(&["PING"]), "+PONG ");
}

#[test]
fn who_answers_nonsense_is_not_taken_for_a_server_of_keys() {
    for nonsense in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"+OK\r\n",
        b"$999999999999\r\n",
        b"*2147483648\r\n",
        b":x\r\n",
        b"xferd\0\0\0\0\0\0\0\0\0\0\0",
    ] {
        let peer = Peer::new(move |mut stream| {
            let _ = stream.write_all(nonsense);
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let client = open(peer.address, |_| {});
        let failure = client.batch(&[&["PING"]]).failure();
        assert_eq!(failure.code, ErrorCode::Protocol, "{failure}");
        assert!(failure.message.contains("does not answer as a key-value store"), "{failure}");
        assert_eq!(peer.accepted.load(Ordering::Relaxed), 1, "it is not tried again");
    }
    for nonsense in [&b"nonsense\r\n"[..], b"$-2\r\n", b"*1\r\n?\r\n"] {
        let client = open(Peer::saying(nonsense).address, |_| {});
        assert_eq!(client.batch(&[&["PING"]]).failure().code, ErrorCode::Protocol);
    }
}

#[test]
fn an_answer_that_nobody_asked_for_ends_the_connection() {
    let peer = Peer::saying(b"+1\r\n+2\r\n");
    let client = open(peer.address, |_| {});
    assert_eq!(client.ask(&["PING"]), "+1 ");
    // Whatever was sent meanwhile is not answered by it.
    while client.batch(&[&["PING"]]).end().is_ok() {}
    assert!(peer.accepted.load(Ordering::Relaxed) > 1 || client.ask(&["PING"]).contains("+1"));
}

#[test]
fn who_answers_nothing_is_waited_for_as_long_as_the_patience_lasts() {
    let deaf = Peer::new(|stream| thread::sleep(PATIENCE * u32::from(stream.peer_addr().is_ok())));
    let mute = Peer::saying(b"");
    for address in [deaf.address, mute.address] {
        let client = open(address, |config| config.patience = Duration::from_millis(100));
        let failure = client.batch(&[&["PING"]]).failure();
        assert_eq!((failure.code, failure.retryable), (ErrorCode::Timeout, true), "{failure}");
    }
}

#[test]
fn a_call_can_be_taken_back_and_the_others_are_answered() {
    let store = Store::new();
    for client in store.ways(|_| {}) {
        let calls: Vec<Called> =
            (0..1000).map(|number| client.batch(&[&["ECHO", &number.to_string()]])).collect();
        calls.iter().skip(1).step_by(2).for_each(|call| call.call.withdraw());
        for (number, call) in calls.iter().enumerate() {
            let answer = call.end();
            let word = number.to_string();
            match answer {
                Ok(replies) => assert_eq!(text(&replies), format!("${} {word} ", word.len())),
                Err(cut) => assert!(number % 2 == 1 && cut.failure.code == ErrorCode::Aborted, "{cut:?}"),
            }
            call.call.withdraw();
            assert_eq!(
                call.ended.recv_timeout(PATIENCE),
                Err(RecvTimeoutError::Disconnected),
                "once is enough"
            );
        }
        assert_eq!(client.ask(&["PING"]), "+PONG ");
    }
}

#[test]
fn a_call_that_waits_for_a_connection_can_be_taken_back() {
    let peer = Peer::new(|stream| thread::sleep(PATIENCE * u32::from(stream.peer_addr().is_ok())));
    let client = open(peer.address, |_| {});
    let call = client.batch(&[&["PING"]]);
    assert!(call.is_waiting());
    call.call.withdraw();
    assert_eq!(call.failure().code, ErrorCode::Aborted);
}

#[test]
fn closing_ends_what_waits_and_what_comes_later() {
    let peer = Peer::saying(b"");
    let client = open(peer.address, |config| config.connections = 2);
    let calls: Vec<Called> = (0..10).map(|_| client.batch(&[&["PING"]])).collect();
    let line = leased(&client);
    let (on_line, pushed) = (line.batch(&[&["PING"]]), next(&line));
    assert!(calls.iter().all(Called::is_waiting) && on_line.is_waiting());
    client.close();
    let late = client.batch(&[&["PING"]]);
    for call in calls.iter().chain([&on_line, &late, &line.batch(&[&["PING"]])]) {
        assert_eq!(call.failure().code, ErrorCode::Aborted);
    }
    assert_eq!(pushed.recv_timeout(PATIENCE).unwrap().unwrap_err().code, ErrorCode::Aborted);
    assert_eq!(lease(&client).1.recv_timeout(PATIENCE).unwrap().unwrap_err().code, ErrorCode::Aborted);
}

#[test]
fn closing_ends_what_waits_for_the_next_attempt_to_connect() {
    let mut store = Store::new();
    let client = store.client();
    assert_eq!(client.ask(&["PING"]), "+PONG ");
    store.stop();
    let _ = client.batch(&[&["PING"]]).is_waiting();
    let call = client.batch(&[&["PING"]]);
    assert!(call.is_waiting());
    client.close();
    assert_eq!(call.failure().code, ErrorCode::Aborted);
}

#[test]
fn a_transaction_on_a_leased_connection_sees_what_others_do() {
    let store = Store::new();
    for client in store.ways(|_| {}) {
        let line = leased(&client);
        assert_eq!(line.ask(&["WATCH", "k"]), "+OK ");
        assert_eq!(client.ask(&["SET", "k", "1"]), "+OK ");
        let exec = |line: &KvLine| line.batch(&[&["MULTI"], &["INCR", "k"], &["EXEC"]]).text();
        assert_eq!(exec(&line), "+OK +QUEUED _ ");
        assert_eq!(line.ask(&["WATCH", "k"]), "+OK ");
        assert_eq!(exec(&line), "+OK +QUEUED *1 :2 ");
    }
}

#[test]
fn who_leases_a_connection_hears_what_is_published_between_replies() {
    let store = Store::new();
    let publisher = store.client();
    for client in store.ways(|_| {}) {
        let line = leased(&client);
        assert_eq!(line.begin(requests(&[&["SUBSCRIBE", "a", "b"]]), 0).text(), "");
        let subscribed = ">3 $9 subscribe $1 a :1 >3 $9 subscribe $1 b :2 ";
        assert_eq!(pushes_until(&line, ":2 "), subscribed);
        assert_eq!(publisher.ask(&["PUBLISH", "b", "news"]), ":1 ");
        assert_eq!(line.ask(&["PING"]), "+PONG ");
        assert_eq!(pushes_until(&line, "news "), ">3 $7 message $1 b $4 news ");
        line.begin(requests(&[&["SUBSCRIBE"]]), 0).end().unwrap();
        assert!(pushes_until(&line, "command ").starts_with("-ERR wrong number of arguments"));
        line.close();
        assert_eq!(next(&line).recv_timeout(PATIENCE).unwrap().unwrap(), None);
        assert_eq!(line.batch(&[&["PING"]]).failure().code, ErrorCode::Aborted);
    }
}

#[test]
fn the_lines_of_monitor_come_unasked() {
    let store = Store::new();
    let other = store.client();
    for client in store.ways(|_| {}) {
        let line = leased(&client);
        assert_eq!(line.ask(&["MONITOR"]), "+OK ");
        assert_eq!(other.ask(&["SET", "k", "v"]), "+OK ");
        assert!(pushes_until(&line, "\"v\" ").contains("\"SET\" \"k\" \"v\""));
        // Whoever has the connection next has nothing of that.
        drop(line);
        let line = leased(&client);
        assert_eq!(other.ask(&["SET", "k", "v"]), "+OK ");
        assert_eq!(line.ask(&["GET", "k"]), "$1 v ");
        assert!(matches!(
            next(&line).recv_timeout(Duration::from_millis(50)),
            Err(RecvTimeoutError::Timeout)
        ));
    }
}

#[test]
fn a_connection_that_was_given_back_serves_the_next_as_a_new_one() {
    let store = Store::new();
    let observer = store.client();
    for client in store.ways(|config| config.database = 2) {
        let mut ids = Vec::new();
        for _ in 0..20 {
            let line = leased(&client);
            ids.push(line.ask(&["CLIENT", "ID"]));
            assert!(line.ask(&["CLIENT", "INFO"]).contains("db=2 sub=0 psub=0"), "as a new one");
            assert_eq!(line.batch(&[&["SELECT", "5"], &["WATCH", "k"], &["MULTI"]]).text(), "+OK +OK +OK ");
            line.begin(requests(&[&["SUBSCRIBE", "c"]]), 1).end().unwrap();
            drop(line);
            // It is ready once the server has let it in anew.
            while observer.ask(&["CLIENT", "LIST"]).contains("db=5") {}
        }
        ids.dedup();
        assert!(ids.len() < 20, "{ids:?}");
    }
}

#[test]
fn whose_connection_is_ended_by_others_hears_of_it() {
    let store = Store::new();
    let killer = store.client();
    for client in store.ways(|_| {}) {
        let line = leased(&client);
        line.begin(requests(&[&["SUBSCRIBE", "c"]]), 0).end().unwrap();
        pushes_until(&line, ":1 ");
        let pushed = next(&line);
        assert_eq!(killer.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]), ":1 ");
        let failure = pushed.recv_timeout(PATIENCE).unwrap().unwrap_err();
        assert_eq!((failure.code, failure.retryable), (ErrorCode::ConnectionLost, true));
        assert_eq!(line.batch(&[&["PING"]]).failure(), failure);
        assert_eq!(client.ask(&["PING"]), "+PONG ");
    }
}

#[test]
fn who_only_listens_hears_that_the_server_is_gone() {
    let peer = Peer::new(|mut stream| {
        let mut room = [0; 4096];
        for answer in [&b"%0\r\n"[..], b">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"] {
            let _ = stream.read(&mut room);
            let _ = stream.write_all(answer);
        }
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let client = open(peer.address, |config| config.patience = Duration::from_millis(300));
    let line = leased(&client);
    line.begin(requests(&[&["SUBSCRIBE", "c"]]), 0).end().unwrap();
    pushes_until(&line, ":1 ");
    assert_eq!(next(&line).recv_timeout(PATIENCE).unwrap().unwrap_err().code, ErrorCode::ConnectionLost);
}

#[test]
fn who_only_listens_is_not_disturbed_by_silence() {
    let store = Store::new();
    let client = open(store.address(), |config| config.patience = Duration::from_millis(100));
    let publisher = store.client();
    let line = leased(&client);
    line.begin(requests(&[&["SUBSCRIBE", "c"]]), 0).end().unwrap();
    pushes_until(&line, ":1 ");
    // Signs of life are asked for meanwhile.
    while !publisher.ask(&["CLIENT", "LIST", "TYPE", "pubsub"]).contains("cmd=ping") {
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(publisher.ask(&["PUBLISH", "c", "news"]), ":1 ");
    assert_eq!(pushes_until(&line, "news "), ">3 $7 message $1 c $4 news ");
}

#[test]
fn what_nobody_takes_is_not_read() {
    let sent = Arc::new(Mutex::new(0));
    let told = sent.clone();
    let peer = Peer::new(move |mut stream| {
        let mut room = [0; 4096];
        let _ = stream.read(&mut room);
        let _ = stream.write_all(b"%0\r\n");
        let push = [b">1\r\n$10000\r\n".as_slice(), &[b'p'; 10_000], b"\r\n"].concat();
        stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        while *told.lock().unwrap() < 64 * PUSHES_BYTES_MAX && stream.write_all(&push).is_ok() {
            *told.lock().unwrap() += push.len();
        }
    });
    let client = open(peer.address, |_| {});
    let line = leased(&client);
    thread::sleep(Duration::from_millis(1500));
    let pushed_meanwhile = *sent.lock().unwrap();
    // What the kernel has of it is not ours.
    assert!(pushed_meanwhile < 32 * PUSHES_BYTES_MAX, "{pushed_meanwhile}");
    let first = next(&line).recv_timeout(PATIENCE).unwrap().unwrap().unwrap();
    assert!((PUSHES_BYTES_MAX..4 * PUSHES_BYTES_MAX).contains(&first.len()), "{}", first.len());
    assert!(first.starts_with(b">1\r\n$10000\r\n") && first.ends_with(b"p\r\n"));
}

#[test]
fn files_and_keys_share_a_connection() {
    let store = Store::new();
    let client = store.beside_files(|_| {});
    let files = client.files.as_ref().expect("it moves files");
    let (_local, source) = large_file();
    for (round, keys_first) in [true, false].into_iter().enumerate() {
        let called = |count: usize| -> Vec<Called> {
            (0..count).map(|_| client.batch(&[&["INCR", "n"], &["ECHO", "word"]])).collect()
        };
        let before = called(if keys_first { 1 } else { 0 });
        assert!(before.iter().all(|call| call.end().is_ok()));
        let (sender, ended) = mpsc::channel();
        let spec = push_of(&source, &format!("copy-{round}"));
        let _job = files.push(spec, move |result| drop(sender.send(result))).unwrap();
        let meanwhile = called(500);
        for call in &meanwhile {
            assert!(call.text().ends_with("$4 word "));
        }
        assert_eq!(ended.recv_timeout(PATIENCE).unwrap().unwrap().bytes, 40 << 20);
        assert_eq!(store.server.as_ref().expect("it runs").stats().connections, 1);
    }
    assert_eq!(client.ask(&["GET", "n"]), "$4 1001 ");
    // Who has a connection for himself has it for himself.
    let line = leased(&client);
    assert_eq!(line.ask(&["WATCH", "n"]), "+OK ");
    assert_eq!(store.server.as_ref().expect("it runs").stats().connections, 2);
}

/// A file that takes a while to be pushed, and the directory that it is in.
fn large_file() -> (TempDir, PathBuf) {
    let local = tempfile::tempdir().unwrap();
    let source = local.path().join("source");
    std::fs::write(&source, vec![7; 40 << 20]).unwrap();
    (local, source)
}

fn push_of(source: &Path, target: &str) -> PushSpec {
    let sources = Sources {
        paths: vec![source.to_owned()],
        target: RemotePath::from_user(target).unwrap(),
        into_target: false,
        selection: Selection::default(),
        digest: DigestAlgorithm::Crc64Nvme,
        mapped: false,
    };
    PushSpec {
        sources,
        clients: 1,
        streams: 1,
        resume: false,
        durable: false,
        compare: Compare::Nothing,
        dry_run: false,
    }
}

#[test]
fn a_push_that_is_aborted_takes_the_connection_with_it_and_keys_go_on_with_another() {
    let store = Store::new();
    let client = store.beside_files(|_| {});
    let files = client.files.as_ref().expect("it moves files");
    let (_local, source) = large_file();
    assert_eq!(client.ask(&["PING"]), "+PONG ");
    for _ in 0..5 {
        let (sender, ended) = mpsc::channel();
        let job = files.push(push_of(&source, "copy"), move |result| drop(sender.send(result))).unwrap();
        let calls: Vec<Called> = (0..200).map(|_| client.batch(&[&["INCR", "n"]])).collect();
        job.cancel();
        for call in calls {
            if let Err(KvCut { failure, .. }) = call.end() {
                assert_eq!((failure.code, failure.retryable), (ErrorCode::ConnectionLost, true), "{failure}");
            }
        }
        // It may have been done before.
        let _ = ended.recv_timeout(PATIENCE).expect("the push ends");
        while client.batch(&[&["PING"]]).end().is_err() {}
    }
}

#[test]
fn a_server_of_files_alone_keeps_no_keys() {
    let store = Store::with(|config| config.listen.retain(|listen| listen.protocol == Protocol::Transfer));
    let files = Client::open(store.address(), xferd_client::Config::default()).unwrap();
    let keys = files.keys(KvConfig::default()).unwrap();
    for _ in 0..2 {
        let failure = keys.batch(&[&["PING"]]).failure();
        assert_eq!((failure.code, failure.retryable), (ErrorCode::Unsupported, false));
        assert!(failure.message.contains("keeps no keys"), "{failure}");
        assert_eq!(lease(&keys).1.recv_timeout(PATIENCE).unwrap().unwrap_err(), failure);
    }
    let (sender, answered) = mpsc::channel();
    files.ping(move |result| drop(sender.send(result)));
    answered.recv_timeout(PATIENCE).unwrap().unwrap();
    drop(files);
    assert_eq!(keys.batch(&[&["PING"]]).failure().code, ErrorCode::Aborted);
}

#[test]
fn what_is_no_request_is_refused_before_it_is_sent_in_frames() {
    let store = Store::new();
    let client = store.beside_files(|_| {});
    for wrong in [&b"*1\r\n$4\r\nPI"[..], b"*1\r\n$x\r\n"] {
        assert_eq!(client.begin(wrong.to_vec(), 1).failure().code, ErrorCode::InvalidArgument);
        assert_eq!(client.ask(&["PING"]), "+PONG ");
    }
}

#[test]
fn keys_beside_files_end_without_them() {
    let store = Store::new();
    let client = store.beside_files(|_| {});
    assert_eq!(client.ask(&["PING"]), "+PONG ");
    client.close();
    assert_eq!(client.batch(&[&["PING"]]).failure().code, ErrorCode::Aborted);
    let again = client.files.as_ref().expect("it moves files").keys(KvConfig::default()).unwrap();
    assert_eq!(again.ask(&["PING"]), "+PONG ");
}

#[test]
fn so_many_connections_are_leased_and_not_one_more() {
    let peer = Peer::saying(b"");
    let client = open(peer.address, |_| {});
    let mut lines: Vec<_> = (0..KV_LEASES_MAX).map(|_| lease(&client)).collect();
    let failure = lease(&client).1.recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert_eq!((failure.code, failure.retryable), (ErrorCode::Busy, true));
    let (line, opened) = lines.pop().expect("some are leased");
    opened.recv_timeout(PATIENCE).unwrap().unwrap();
    drop((line, opened));
    // It is free once the connection has been told.
    while lease(&client).1.recv_timeout(PATIENCE).unwrap().is_err() {}
}

#[test]
fn so_many_calls_wait_and_not_one_more() {
    let peer = Peer::saying(b"");
    let client = open(peer.address, |_| {});
    let ping = requests(&[&["PING"]]);
    let calls: Vec<Called> = (0..CALLS_MAX).map(|_| client.begin(ping.clone(), 1)).collect();
    assert_eq!(client.begin(ping, 1).failure().code, ErrorCode::Busy);
    assert!(calls[0].is_waiting());
}

#[test]
fn a_client_has_so_many_connections_and_not_one_more() {
    let store = Store::new();
    let config = |connections| KvConfig { connections, ..KvConfig::default() };
    for connections in [1, KV_CONNECTIONS_MAX] {
        let client = KvClient::open(store.address(), config(connections)).unwrap();
        assert_eq!(client.ask(&["PING"]), "+PONG ");
    }
    for connections in [0, KV_CONNECTIONS_MAX + 1] {
        let failure = KvClient::open(store.address(), config(connections)).map(drop).unwrap_err();
        assert_eq!(failure.code, ErrorCode::InvalidArgument);
        assert!(failure.message.contains(&connections.to_string()), "{failure}");
    }
}
