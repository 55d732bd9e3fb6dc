//! Commands on sets, in the words of Redis 7.0.

mod rig;

use std::collections::HashSet;
use std::sync::Arc;

use rig::{Client, Tape};
use xferd_wire::resp::Version;

#[test]
fn members_are_there_once() {
    let client = Client::default();
    for (line, reply) in [
        ("SADD a 3 1 3", ":2"),
        ("SADD a 1", ":0"),
        ("SADD a 10 -2", ":2"),
        ("OBJECT ENCODING a", "$6|intset"),
        ("SMEMBERS a", "*4|$2|-2|$1|1|$1|3|$2|10"),
        ("SISMEMBER a 3", ":1"),
        ("SISMEMBER nothing 3", ":0"),
        ("SMISMEMBER a 3 4 1", "*3|:1|:0|:1"),
        ("SMISMEMBER nothing 3 4", "*2|:0|:0"),
        ("SREM a 3 4 -2 3", ":2"),
        ("SCARD a", ":2"),
        ("SADD a x", ":1"),
        ("SREM a x", ":1"),
        ("OBJECT ENCODING a", "$9|hashtable"),
        ("SREM a 1 10", ":2"),
        ("EXISTS a", ":0"),
        ("SMEMBERS a", "*0"),
        ("SCARD a", ":0"),
        ("SPOP a", "$-1"),
        ("SPOP a 1", "*0"),
        ("SPOP a x", "-ERR value is out of range, must be positive"),
        ("SPOP a 1 1", "-ERR syntax error"),
        ("SRANDMEMBER a", "$-1"),
        ("SRANDMEMBER a 2", "*0"),
        ("SRANDMEMBER a x", "-ERR value is not an integer or out of range"),
        ("SRANDMEMBER a 1 1", "-ERR syntax error"),
    ] {
        assert_eq!(client.say(line), reply, "{line}");
    }
}

#[test]
fn version_3_has_sets() {
    let client = Client { version: Version::Resp3, ..Client::default() };
    for (line, reply) in [
        ("SADD a 1", ":1"),
        ("SMEMBERS a", "~1|$1|1"),
        ("SRANDMEMBER a 5", "*1|$1|1"),
        ("SPOP a 5", "~1|$1|1"),
        ("SMEMBERS a", "~0"),
        ("SPOP a 5", "~0"),
        ("SPOP a", "_"),
    ] {
        assert_eq!(client.say(line), reply, "{line}");
    }
}

#[test]
fn a_set_of_whole_numbers_is_compact_up_to_the_limit() {
    let client = Client::default();
    for number in 0..512 {
        client.say(&format!("SADD a {number}"));
    }
    assert_eq!(client.say("OBJECT ENCODING a"), "$6|intset");
    client.say("SADD a 512");
    assert_eq!(client.say("OBJECT ENCODING a"), "$9|hashtable");
    client.say("SREM a 512");
    assert_eq!(client.say("OBJECT ENCODING a"), "$9|hashtable", "it does not go back");
}

fn members(reply: &str) -> Vec<String> {
    reply.split('|').skip(1).filter(|line| !line.starts_with('$')).map(str::to_owned).collect()
}

#[test]
fn any_members_are_told_as_often_as_asked() {
    let client = Client::default();
    let all: Vec<String> = (0..200).map(|number| format!("m{number}")).collect();
    client.say(&format!("SADD a {}", all.join(" ")));
    for count in [0, 1, 60, 150, 199, 200, 201] {
        let told = members(&client.say(&format!("SRANDMEMBER a {count}")));
        let different: HashSet<&String> = told.iter().collect();
        assert_eq!((told.len(), different.len()), (count.min(200), count.min(200)));
        assert!(told.iter().all(|member| all.contains(member)));
    }
    let told = members(&client.say("SRANDMEMBER a -20000"));
    let different: HashSet<&String> = told.iter().collect();
    assert_eq!((told.len(), different.len()), (20_000, 200), "each comes in so many");
    assert_eq!(client.say("SCARD a"), ":200");
}

#[test]
fn members_that_may_come_again_are_told_up_to_the_limits() {
    let client = Client::default();
    client.say("SADD a 1");
    let told = client.say(&format!("SRANDMEMBER a -{}", 1 << 20));
    assert!(told.starts_with("*1048576|"), "{}", &told[..20]);
    for count in [-(1_i64 << 20) - 1, i64::MIN] {
        assert_eq!(
            client.say(&format!("SRANDMEMBER a {count}")),
            "-ERR value is out of range, value must be between -1048576 and 9223372036854775807"
        );
    }
    let long = vec![b'x'; 1 << 20];
    client.send(&[b"SADD", b"long", &long]);
    assert_eq!(
        client.say("SRANDMEMBER long -600"),
        "-ERR reply exceeds maximum allowed size (proto-max-bulk-len)"
    );
}

#[test]
fn what_was_taken_is_recorded_by_name() {
    let (tape, client) = (Arc::new(Tape::default()), Client::default());
    let all: Vec<String> = (0..3000).map(|number| format!("m{number}")).collect();
    client.say(&format!("SADD a {}", all.join(" ")));
    client.keyspace.record(tape.clone());
    client.say("SADD a m0");
    client.say("SREM a nothing");
    client.say("SRANDMEMBER a 5");
    client.say("SPOP a 0");
    assert!(tape.take().is_empty(), "none of that changed it");

    let one = members(&format!("*1|{}", client.say("SPOP a"))).join(" ");
    assert_eq!(tape.take(), [format!("SREM a {one}")]);

    let taken = members(&client.say("SPOP a 2500"));
    let recorded = tape.take();
    assert_eq!(recorded.len(), 3, "1024 at a time");
    let named: Vec<&str> = recorded.iter().flat_map(|line| line.split(' ').skip(2)).collect();
    assert_eq!(named, taken);

    client.say("SPOP a 9223372036854775807");
    assert_eq!(tape.take(), ["DEL a"]);
    assert_eq!(client.say("EXISTS a"), ":0");
}

#[test]
fn a_key_that_holds_something_else_is_left_alone() {
    let client = Client::default();
    client.say("SET s text");
    for line in [
        "SADD s 1",
        "SREM s 1",
        "SISMEMBER s 1",
        "SMISMEMBER s 1",
        "SMEMBERS s",
        "SCARD s",
        "SPOP s",
        "SPOP s 0",
        "SRANDMEMBER s",
        "SRANDMEMBER s 0",
    ] {
        assert!(client.say(line).starts_with("-WRONGTYPE "), "{line}");
    }
    assert_eq!(client.say("GET s"), "$4|text");
}
