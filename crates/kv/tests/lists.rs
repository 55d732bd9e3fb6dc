//! Commands on lists, in the words of Redis 7.0.

mod rig;

use rig::Client;
use xferd_wire::resp::Version;

#[test]
fn elements_are_put_and_taken_at_both_ends() {
    let client = Client::default();
    for (line, reply) in [
        ("LPUSHX a 1", ":0"),
        ("RPUSH a 3 4", ":2"),
        ("LPUSH a 2 1", ":4"),
        ("LPUSHX a 0", ":5"),
        ("RPUSHX a 5", ":6"),
        ("LRANGE a 0 -1", "*6|$1|0|$1|1|$1|2|$1|3|$1|4|$1|5"),
        ("LPOP a", "$1|0"),
        ("RPOP a 2", "*2|$1|5|$1|4"),
        ("LLEN a", ":3"),
        ("LPOP a 0", "*0"),
        ("LPOP a -1", "-ERR value is out of range, must be positive"),
        ("LPOP a x", "-ERR value is out of range, must be positive"),
        ("LPOP a 1 2", "-ERR wrong number of arguments for 'lpop' command"),
        ("OBJECT ENCODING a", "$9|quicklist"),
        ("LPOP a 99999999999", "*3|$1|1|$1|2|$1|3"),
        ("EXISTS a", ":0"),
        ("LPOP a", "$-1"),
        ("LPOP a 1", "*-1"),
        ("LLEN a", ":0"),
        ("LRANGE a 0 -1", "*0"),
    ] {
        assert_eq!(client.say(line), reply, "{line}");
    }
}

#[test]
fn elements_are_found_replaced_and_removed() {
    let client = Client::default();
    for (line, reply) in [
        ("LSET a 0 x", "-ERR no such key"),
        ("RPUSH a x y x z x", ":5"),
        ("LINDEX a -1", "$1|x"),
        ("LINDEX a 5", "$-1"),
        ("LINDEX a -6", "$-1"),
        ("LINDEX a x", "-ERR value is not an integer or out of range"),
        ("LINDEX nothing x", "$-1"),
        ("LSET a -2 w", "+OK"),
        ("LSET a 5 w", "-ERR index out of range"),
        ("LSET a -9223372036854775808 w", "-ERR index out of range"),
        ("LREM a -1 x", ":1"),
        ("LRANGE a 0 -1", "*4|$1|x|$1|y|$1|x|$1|w"),
        ("LREM a 1 x", ":1"),
        ("LREM a 0 nothing", ":0"),
        ("LRANGE a -100 100", "*3|$1|y|$1|x|$1|w"),
        ("LRANGE a 2 1", "*0"),
        ("LTRIM a 1 -1", "+OK"),
        ("LRANGE a 0 -1", "*2|$1|x|$1|w"),
        ("LTRIM a 5 9", "+OK"),
        ("EXISTS a", ":0"),
        ("RPUSH a x x", ":2"),
        ("LREM a 0 x", ":2"),
        ("EXISTS a", ":0"),
    ] {
        assert_eq!(client.say(line), reply, "{line}");
    }
}

#[test]
fn what_is_not_there_is_the_null_of_the_version() {
    let client = Client { version: Version::Resp3, ..Client::default() };
    for line in ["LPOP a", "LPOP a 1", "LINDEX a 0"] {
        assert_eq!(client.say(line), "_", "{line}");
    }
}

#[test]
fn a_key_that_holds_something_else_is_left_alone() {
    let client = Client::default();
    client.say("SET s text");
    for line in [
        "LPUSH s 1",
        "RPUSHX s 1",
        "LPOP s",
        "LPOP s 0",
        "LLEN s",
        "LRANGE s 0 -1",
        "LINDEX s 0",
        "LSET s 0 1",
        "LREM s 0 1",
        "LTRIM s 0 1",
    ] {
        assert!(client.say(line).starts_with("-WRONGTYPE "), "{line}");
    }
    assert_eq!(client.say("GET s"), "$4|text");
}
