//! Load for a key-value store: what is asked, what is counted, and what ends it.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use xferd_client::load::{Command, Distribution, Load, Report, Until};
use xferd_os::net::Address;
use xferd_server::{Config, Listen, Server};
use xferd_wire::ErrorCode;
use xferd_wire::resp::RequestParser;

const COMMANDS: [Command; 6] =
    [Command::Ping, Command::Set, Command::Get, Command::Mixed(0.5), Command::Incr, Command::Lpush];

/// So many requests, at once counted.
fn requests(address: impl Into<Address>, command: Command, requests: u64) -> Load {
    Load {
        command,
        connections: 5,
        keys: 50,
        value_bytes: 10,
        warm_up: Duration::ZERO,
        until: Until::Requests(requests),
        ..Load::new(address)
    }
}

fn store(listen: Listen, password: Option<&str>) -> Server {
    let mut config = Config { listen: vec![listen], io_threads: 2, ..Config::new("/nowhere") };
    config.kv.get_or_insert_default().password = password.map(str::to_owned);
    Server::start(config).unwrap()
}

fn store_on_tcp() -> (Server, Address) {
    let server = store(Listen::kv(([127, 0, 0, 1], 0)), None);
    let address = server.listening()[0].address.clone();
    (server, address)
}

fn ask(address: &Address, line: &str) -> String {
    let mut stream = TcpStream::connect(address.internet().unwrap()).unwrap();
    stream.write_all(format!("{line}\r\nQUIT\r\n").as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply.trim_end_matches("+OK\r\n").to_owned()
}

/// A server that gives these replies to commands of these names, in whatever pieces they come; it hangs up without one.
fn scripted(reply: impl Fn(&str) -> Option<&'static [u8]> + Send + Clone + 'static) -> Address {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    // It ends with the process of the test.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let reply = reply.clone();
            thread::spawn(move || serve(&mut stream.unwrap(), &reply));
        }
    });
    address.into()
}

fn serve(stream: &mut TcpStream, reply: &impl Fn(&str) -> Option<&'static [u8]>) -> Option<()> {
    let (mut input, mut parser) = (Vec::new(), RequestParser::new());
    stream.set_nodelay(true).unwrap();
    loop {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).ok().filter(|&read| read > 0)?;
        input.extend_from_slice(&piece[..read]);
        while let Some(len) = parser.parse(&input).unwrap() {
            let name = String::from_utf8_lossy(&parser.args(&input[..len])[0]).into_owned();
            input.drain(..len);
            for part in reply(&name)?.chunks(3) {
                stream.write_all(part).ok()?;
            }
        }
    }
}

fn code(result: Result<Report, xferd_engine::Failure>) -> ErrorCode {
    result.map(|report| report.requests).unwrap_err().code
}

#[test]
fn every_command_is_answered_as_it_should_be_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("kv");
    let servers = [store_on_tcp().0, store(Listen::kv(socket.as_path()), None)];
    for server in &servers {
        let address = server.listening()[0].address.clone();
        for (number, command) in COMMANDS.into_iter().enumerate() {
            let load = Load {
                threads: 1 + number % 2,
                pipeline: 1 + 3 * number,
                distribution: [Distribution::Uniform, Distribution::Zipf(0.99), Distribution::Sequential]
                    [number % 3],
                ..requests(address.clone(), command, 1001)
            };
            let report = load.run().unwrap();
            assert_eq!((report.requests, report.errors, report.misses, report.unsent), (1001, 0, 0, 0));
            assert_eq!((report.first_error, report.latencies.len()), (None, 1001), "{command:?}");
        }
    }
    let address = servers[0].listening()[0].address.clone();
    assert_eq!(ask(&address, "DBSIZE"), ":0\r\n");
}

#[test]
fn values_may_be_larger_than_what_is_received_at_once() {
    let (_server, address) = store_on_tcp();
    for command in [Command::Get, Command::Mixed(0.5)] {
        let load = Load { value_bytes: 300_000, pipeline: 3, ..requests(address.clone(), command, 200) };
        let report = load.run().unwrap();
        assert_eq!((report.requests, report.errors, report.misses), (200, 0, 0));
    }
}

#[test]
fn more_connections_may_ask_than_connect_at_a_time() {
    let (server, address) = store_on_tcp();
    for connections in [64, 65, 300] {
        let accepted = server.kv_metrics().unwrap().connections_accepted;
        let load = Load { connections, threads: 2, ..requests(address.clone(), Command::Get, 1000) };
        let report = load.run().unwrap();
        assert_eq!((report.requests, report.errors), (1000, 0));
        assert_eq!(server.kv_metrics().unwrap().connections_accepted - accepted, connections as u64);
    }
}

#[test]
fn so_many_are_asked_within_the_time_and_none_of_the_warm_up_counts() {
    let (server, address) = store_on_tcp();
    let time = Duration::from_millis(200);
    let load = Load { until: Until::Time(time), warm_up: time, ..requests(address, Command::Ping, 1) };
    let report = load.run().unwrap();
    assert!(report.requests > 0 && report.errors == 0 && report.elapsed >= time);
    assert_eq!(report.latencies.len(), report.requests);
    let asked = server.kv_metrics().unwrap().commands;
    assert!(asked > report.requests, "{asked} with the warm-up");
}

#[test]
fn at_a_rate_each_request_is_made_once() {
    let (_server, address) = store_on_tcp();
    for (until, all) in [(Until::Requests(333), 333), (Until::Time(Duration::from_millis(300)), 300)] {
        let load =
            Load { until, rate: Some(1000), pipeline: 4, ..requests(address.clone(), Command::Get, 1) };
        let report = load.run().unwrap();
        assert_eq!((report.requests + report.unsent, report.errors), (all, 0));
        assert_eq!(report.latencies.len(), all);
    }
}

#[test]
fn errors_and_other_replies_than_expected_are_counted_and_the_first_is_told() {
    let refuses = scripted(|name| Some(if name == "GET" { b"-ERR not today\r\n" } else { b"+OK\r\n" }));
    let failure = requests(refuses, Command::Get, 100).run().unwrap_err();
    assert_eq!(failure.code, ErrorCode::Io, "DEL has to say how many it removed: {failure}");

    let of_get = |reply: &'static [u8]| {
        scripted(move |name| {
            Some(match name {
                "SET" => b"+OK\r\n",
                "DEL" => b":1\r\n",
                _ => reply,
            })
        })
    };
    for (reply, errors, misses, told) in [
        (&b"-ERR not today\r\n"[..], 100, 0, Some("ERR not today")),
        (b":1\r\n", 100, 0, Some(":1")),
        (b"+OK\r\n", 100, 0, Some("+OK")),
        (b"$9\r\nxxxxxxxxx\r\n", 100, 0, Some("$9")),
        (b"$-1\r\n", 0, 100, None),
        (b"$10\r\nxxxxxxxxxx\r\n", 0, 0, None),
    ] {
        let report = requests(of_get(reply), Command::Get, 100).run().unwrap();
        assert_eq!((report.requests, report.errors, report.misses), (100, errors, misses));
        assert_eq!(report.first_error.as_deref(), told);
    }
}

#[test]
fn requests_that_a_standstill_has_delayed_are_late_since_they_were_due() {
    let stands_still = std::sync::atomic::AtomicBool::new(true);
    let stands_still = std::sync::Arc::new(stands_still);
    let address = scripted(move |_| {
        if stands_still.swap(false, std::sync::atomic::Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(400));
        }
        Some(b"+PONG\r\n")
    });
    // 300 of them were due in the first 300 ms, all of them at least 100 ms before the first was answered.
    let load = Load { connections: 1, rate: Some(1000), ..requests(address, Command::Ping, 500) };
    let report = load.run().unwrap();
    let late = report.latencies.count_between(100_000_000, u64::MAX);
    assert!(late >= 299 && report.requests == 500, "{late} of {}", report.requests);
}

#[test]
fn what_nobody_came_to_send_is_told_and_its_time_counts() {
    let address = scripted(|_| {
        thread::sleep(Duration::from_millis(5));
        Some(b"+PONG\r\n")
    });
    let until = Until::Time(Duration::from_millis(200));
    let load = Load { connections: 2, rate: Some(100_000), until, ..requests(address, Command::Ping, 1) };
    let report = load.run().unwrap();
    assert_eq!(report.requests + report.unsent, 20_000);
    assert!(report.requests > 0 && report.unsent > 10_000, "{} were not sent", report.unsent);
    assert_eq!(report.latencies.len(), 20_000);
}

#[test]
fn a_server_that_goes_away_ends_it() {
    let left = std::sync::Arc::new(std::sync::atomic::AtomicI64::new(100));
    let address = scripted(move |_| {
        (left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) > 0).then_some(b"+PONG\r\n")
    });
    for rate in [None, Some(1000)] {
        let load = Load { rate, ..requests(address.clone(), Command::Ping, 1_000_000) };
        assert_eq!(code(load.run()), ErrorCode::ConnectionLost);
    }
    let (server, address) = store_on_tcp();
    drop(server);
    assert_eq!(code(requests(address, Command::Ping, 1).run()), ErrorCode::ConnectionRefused);
}

#[test]
fn a_server_that_says_nothing_or_no_replies_ends_it() {
    let silent = scripted(|_| Some(b""));
    let load = Load { patience: Duration::from_millis(100), ..requests(silent, Command::Ping, 1) };
    assert_eq!(code(load.run()), ErrorCode::Timeout);
    let other = scripted(|_| Some(b"HTTP/1.1 400 Bad Request\r\n"));
    assert_eq!(code(requests(other, Command::Ping, 1).run()), ErrorCode::Protocol);
    let talkative = scripted(|_| Some(b"+PONG\r\n-ERR and another thing\r\n"));
    let failure = requests(talkative, Command::Ping, 1000).run().unwrap_err();
    // It is told as far as it has come.
    let said = failure.message.rsplit(": ").next().unwrap();
    assert!(failure.code == ErrorCode::Protocol && "ERR and another thing".starts_with(said), "{failure}");
}

#[test]
fn who_asks_for_a_password_is_given_it() {
    let server = store(Listen::kv(([127, 0, 0, 1], 0)), Some("right"));
    let run = |password: Option<&str>| {
        let address = server.listening()[0].address.clone();
        Load { password: password.map(str::to_owned), ..requests(address, Command::Set, 10) }.run()
    };
    assert_eq!(run(Some("right")).unwrap().requests, 10);
    assert_eq!(code(run(Some("wrong"))), ErrorCode::Permission);
    assert_eq!(code(run(None)), ErrorCode::Permission);
}
