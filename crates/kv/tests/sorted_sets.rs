//! Commands on sorted sets, in the words of Redis 7.0.

mod rig;

use std::sync::Arc;

use rig::{Client, Tape};
use xferd_wire::resp::Version;

#[test]
fn scores_are_set_as_the_options_say() {
    let client = Client::default();
    for (line, reply) in [
        ("ZADD a XX 1 a", ":0"),
        ("EXISTS a", ":0"),
        ("ZADD a 1 a 2 b", ":2"),
        ("ZADD a 3 a 4 c", ":1"),
        ("ZADD a CH 3 a 5 b", ":1"),
        ("ZADD a NX 9 a 6 d", ":1"),
        ("ZADD a XX CH 7 d 1 e", ":1"),
        ("ZADD a GT CH 1 d 8 d", ":1"),
        ("ZADD a LT CH 9 d 7 d", ":1"),
        ("ZADD a LT 1 f", ":1"),
        ("ZADD a INCR 1.5 f", "$3|2.5"),
        ("ZADD a NX INCR 1 f", "$-1"),
        ("ZADD a GT INCR -1 f", "$-1"),
        ("ZADD a XX INCR 1 nothing", "$-1"),
        ("ZINCRBY a -0.5 f", "$1|2"),
        ("ZSCORE a f", "$1|2"),
        ("ZSCORE a nothing", "$-1"),
        ("ZMSCORE a a nothing b", "*3|$1|3|$-1|$1|5"),
        ("ZMSCORE nothing a", "*1|$-1"),
        ("ZCARD a", ":5"),
        ("ZREM a a b nothing", ":2"),
        ("ZREM a c d f", ":3"),
        ("EXISTS a", ":0"),
    ] {
        assert_eq!(client.say(line), reply, "{line}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_changes() {
    let client = Client::default();
    client.say("ZADD a inf x");
    for (line, reply) in [
        ("ZADD a NX XX 1 a", "-ERR XX and NX options at the same time are not compatible"),
        ("ZADD a NX GT 1 a", "-ERR GT, LT, and/or NX options at the same time are not compatible"),
        ("ZADD a LT GT 1 a", "-ERR GT, LT, and/or NX options at the same time are not compatible"),
        ("ZADD a INCR 1 a 2 b", "-ERR INCR option supports a single increment-element pair"),
        ("ZADD a 1 a 2", "-ERR syntax error"),
        ("ZADD a CH NX", "-ERR syntax error"),
        ("ZADD a 1 a x b", "-ERR value is not a valid float"),
        ("ZADD a nan a", "-ERR value is not a valid float"),
        ("ZADD a 1e400 a", "-ERR value is not a valid float"),
        ("ZINCRBY a -inf x", "-ERR resulting score is not a number (NaN)"),
        ("ZRANGE a 0 x", "-ERR value is not an integer or out of range"),
        ("ZRANGE a 0 1 BYSCORE BYLEX", "-ERR syntax error"),
        ("ZRANGE a ( ) BYLEX", "-ERR min or max not valid string range item"),
        (
            "ZRANGE a - + BYLEX WITHSCORES",
            "-ERR syntax error, WITHSCORES not supported in combination with BYLEX",
        ),
        (
            "ZRANGE a 0 1 LIMIT 0 1",
            "-ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
        ),
        ("ZRANGEBYSCORE a 0 x", "-ERR min or max is not a float"),
        ("ZRANGEBYSCORE a 0 1 REV", "-ERR syntax error"),
        ("ZCOUNT a (x 1", "-ERR min or max is not a float"),
        ("ZPOPMIN a -1", "-ERR value is out of range, must be positive"),
        ("ZPOPMIN a 1 1", "-ERR syntax error"),
        ("ZRANGE a 0 -1 WITHSCORES", "*2|$1|x|$3|inf"),
    ] {
        assert_eq!(client.say(line), reply, "{line}");
    }
}

#[test]
fn members_are_told_by_rank_score_and_bytes() {
    let client = Client::default();
    client.say("ZADD a 1 a 2 b 2 c 3.5 d");
    client.say("ZADD l 0 a 0 b 0 c 0 d");
    for (line, reply) in [
        ("ZRANGE a 0 -1", "*4|$1|a|$1|b|$1|c|$1|d"),
        ("ZRANGE a 0 1 REV", "*2|$1|d|$1|c"),
        ("ZRANGE a -1 99 WITHSCORES", "*2|$1|d|$3|3.5"),
        ("ZRANGE a 3 1", "*0"),
        ("ZRANGE a 2 (3.5 BYSCORE", "*2|$1|b|$1|c"),
        ("ZRANGE a +inf (1 BYSCORE REV LIMIT 1 1", "*1|$1|c"),
        ("ZRANGE a -inf +inf BYSCORE LIMIT 1 -1", "*3|$1|b|$1|c|$1|d"),
        ("ZRANGE a -inf +inf BYSCORE LIMIT -1 2", "*0"),
        ("ZRANGEBYSCORE a (1 2 WITHSCORES LIMIT 0 1", "*2|$1|b|$1|2"),
        ("ZRANGEBYSCORE a 3 1", "*0"),
        ("ZRANGE l [b + BYLEX", "*3|$1|b|$1|c|$1|d"),
        ("ZRANGE l (c - BYLEX REV", "*2|$1|b|$1|a"),
        ("ZRANGE l (b (b BYLEX", "*0"),
        ("ZCOUNT a (1 2", ":2"),
        ("ZCOUNT a 5 1", ":0"),
        ("ZRANK a c", ":2"),
        ("ZREVRANK a c", ":1"),
        ("ZRANK a nothing", "$-1"),
        ("ZRANGE nothing 0 -1", "*0"),
        ("ZPOPMIN a", "*2|$1|a|$1|1"),
        ("ZPOPMAX a 2", "*4|$1|d|$3|3.5|$1|c|$1|2"),
        ("ZPOPMIN a 0", "*0"),
        ("ZPOPMAX a 99999999999", "*2|$1|b|$1|2"),
        ("EXISTS a", ":0"),
        ("ZPOPMIN a", "*0"),
    ] {
        assert_eq!(client.say(line), reply, "{line}");
    }
}

#[test]
fn version_3_has_doubles_and_pairs() {
    let client = Client { version: Version::Resp3, ..Client::default() };
    for (line, reply) in [
        ("ZADD a 1.5 a inf b", ":2"),
        ("ZSCORE a a", ",1.5"),
        ("ZINCRBY a 1 a", ",2.5"),
        ("ZMSCORE a b c", "*2|,inf|_"),
        ("ZRANGE a 0 -1 WITHSCORES", "*2|*2|$1|a|,2.5|*2|$1|b|,inf"),
        ("ZPOPMIN a", "*2|$1|a|,2.5"),
        ("ZPOPMAX a 1", "*1|*2|$1|b|,inf"),
        ("ZRANK a a", "_"),
    ] {
        assert_eq!(client.say(line), reply, "{line}");
    }
}

#[test]
fn a_sorted_set_is_compact_up_to_the_limits() {
    let client = Client::default();
    let (longest, longer) = ("m".repeat(64), "m".repeat(65));
    client.say(&format!("ZADD a 1 {longest}"));
    assert_eq!(client.say("OBJECT ENCODING a"), "$8|listpack");
    client.say(&format!("ZADD a 1 {longer}"));
    assert_eq!(client.say("OBJECT ENCODING a"), "$8|skiplist");
    client.say(&format!("ZREM a {longer}"));
    assert_eq!(client.say("OBJECT ENCODING a"), "$8|skiplist", "it does not go back");
    for number in 0..128 {
        client.say(&format!("ZADD b -0 {number}"));
    }
    assert_eq!(client.say("OBJECT ENCODING b"), "$8|listpack");
    client.say("ZADD b -0 128");
    assert_eq!(client.say("OBJECT ENCODING b"), "$8|skiplist");
    assert_eq!(client.say("ZMSCORE b 0 128"), "*2|$1|0|$2|-0", "a listpack has one zero");
}

#[test]
fn ranks_and_ranges_of_many_members_are_right() {
    let client = Client::default();
    for number in 0..10_000 {
        client.say(&format!("ZADD a {} m{number:05}", number / 7));
    }
    for number in [0, 1, 255, 256, 257, 5_000, 9_999] {
        assert_eq!(client.say(&format!("ZRANK a m{number:05}")), format!(":{number}"));
        assert_eq!(client.say(&format!("ZREVRANK a m{number:05}")), format!(":{}", 9_999 - number));
        assert_eq!(client.say(&format!("ZRANGE a {number} {number}")), format!("*1|$6|m{number:05}"));
    }
    assert_eq!(client.say("ZCOUNT a 10 (100"), ":630");
}

#[test]
fn nothing_is_recorded_of_what_changed_nothing() {
    let (tape, client) = (Arc::new(Tape::default()), Client::default());
    client.keyspace.record(tape.clone());
    for line in
        ["ZADD a 1 a", "ZADD a 1 a", "ZADD a GT 0 a", "ZINCRBY a 0 a", "ZREM a b", "ZPOPMIN a 0", "ZPOPMIN a"]
    {
        client.say(line);
    }
    assert_eq!(tape.take(), ["ZADD a 1 a", "ZPOPMIN a"]);
}

#[test]
fn a_key_that_holds_something_else_is_left_alone() {
    let client = Client::default();
    client.say("SET s text");
    for line in [
        "ZADD s 1 a",
        "ZADD s XX 1 a",
        "ZINCRBY s 1 a",
        "ZREM s a",
        "ZSCORE s a",
        "ZMSCORE s a",
        "ZCARD s",
        "ZRANGE s 0 -1",
        "ZRANGEBYSCORE s 0 1",
        "ZRANK s a",
        "ZREVRANK s a",
        "ZPOPMIN s",
        "ZPOPMAX s 0",
        "ZCOUNT s 0 1",
    ] {
        assert!(client.say(line).starts_with("-WRONGTYPE "), "{line}");
    }
    assert_eq!(client.say("GET s"), "$4|text");
}
