//! Commands on hashes, in the words of Redis 7.0.

mod rig;

use rig::Client;
use xferd_wire::resp::Version;

#[test]
fn fields_have_values() {
    let client = Client::default();
    for (line, reply) in [
        ("HSET a f 1 g 2", ":2"),
        ("HSET a f 3 h 4", ":1"),
        ("HSET a f 3 h", "-ERR wrong number of arguments for 'hset' command"),
        ("HMSET a i 5", "+OK"),
        ("HMSET a i", "-ERR wrong number of arguments for 'hmset' command"),
        ("HSETNX a f 9", ":0"),
        ("HSETNX a j 6", ":1"),
        ("HGET a f", "$1|3"),
        ("HGET a nothing", "$-1"),
        ("HGET nothing f", "$-1"),
        ("HMGET a f nothing g", "*3|$1|3|$-1|$1|2"),
        ("HDEL a g nothing g", ":1"),
        ("HGETALL a", "*8|$1|f|$1|3|$1|h|$1|4|$1|i|$1|5|$1|j|$1|6"),
        ("HKEYS a", "*4|$1|f|$1|h|$1|i|$1|j"),
        ("HVALS a", "*4|$1|3|$1|4|$1|5|$1|6"),
        ("HLEN a", ":4"),
        ("HEXISTS a f", ":1"),
        ("HEXISTS a g", ":0"),
        ("HSTRLEN a f", ":1"),
        ("HSTRLEN a nothing", ":0"),
        ("HDEL a f h i j", ":4"),
        ("EXISTS a", ":0"),
        ("HGETALL a", "*0"),
    ] {
        assert_eq!(client.say(line), reply, "{line}");
    }
}

#[test]
fn values_are_counted() {
    let client = Client::default();
    for (line, reply) in [
        ("HINCRBY a n x", "-ERR value is not an integer or out of range"),
        ("EXISTS a", ":0"),
        ("HINCRBY a n 9223372036854775807", ":9223372036854775807"),
        ("HINCRBY a n 1", "-ERR increment or decrement would overflow"),
        ("HINCRBY a n -7", ":9223372036854775800"),
        ("HSET a f 1.5", ":1"),
        ("HINCRBY a f 1", "-ERR hash value is not an integer"),
    ] {
        assert_eq!(client.say(line), reply, "{line}");
    }
}

#[test]
fn version_3_has_maps() {
    let client = Client { version: Version::Resp3, ..Client::default() };
    for (line, reply) in [
        ("HGETALL a", "%0"),
        ("HKEYS a", "*0"),
        ("HSET a f 1", ":1"),
        ("HGETALL a", "%1|$1|f|$1|1"),
        ("HGET a g", "_"),
    ] {
        assert_eq!(client.say(line), reply, "{line}");
    }
}

#[test]
fn a_hash_is_compact_up_to_the_limits() {
    let client = Client::default();
    for (field, value, encoding) in
        [(64, 64, "$8|listpack"), (65, 1, "$9|hashtable"), (1, 65, "$9|hashtable")]
    {
        let (field, value) = ("f".repeat(field), "v".repeat(value));
        client.say("DEL a");
        client.say(&format!("HSET a {field} {value}"));
        assert_eq!(client.say("OBJECT ENCODING a"), encoding);
        client.say(&format!("HSET a {field} short"));
        assert_eq!(client.say("OBJECT ENCODING a"), encoding, "it does not go back");
    }
    for number in 0..128 {
        client.say(&format!("HSET b {number} 1"));
    }
    assert_eq!(client.say("OBJECT ENCODING b"), "$8|listpack");
    client.say("HSET b 128 1");
    assert_eq!(client.say("OBJECT ENCODING b"), "$9|hashtable");
}

#[test]
fn a_key_that_holds_something_else_is_left_alone() {
    let client = Client::default();
    client.say("SET s text");
    for line in [
        "HSET s f 1",
        "HMSET s f 1",
        "HSETNX s f 1",
        "HGET s f",
        "HMGET s f",
        "HGETALL s",
        "HDEL s f",
        "HLEN s",
        "HEXISTS s f",
        "HKEYS s",
        "HVALS s",
        "HINCRBY s f 1",
        "HSTRLEN s f",
    ] {
        assert!(client.say(line).starts_with("-WRONGTYPE "), "{line}");
    }
    assert_eq!(client.say("GET s"), "$4|text");
}
