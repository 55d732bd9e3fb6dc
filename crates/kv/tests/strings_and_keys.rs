//! Commands on strings, and on keys whatever they hold, in the words of Redis 7.0.

mod rig;

use std::sync::Arc;

use rig::{Client, Tape};
use xferd_kv::{KEY_BYTES_MAX, Keyspace, Limits, Policy};

#[test]
fn strings_are_set_and_got() {
    let client = Client::default();
    for (line, reply) in [
        ("GET a", "$-1"),
        ("SET a 1", "+OK"),
        ("GET a", "$1|1"),
        ("SET a 2 NX", "$-1"),
        ("SET b 2 XX", "$-1"),
        ("SET a 2 XX GET", "$1|1"),
        ("SET c 2 GET", "$-1"),
        ("SET a 2 NX XX", "-ERR syntax error"),
        ("SET a 2 EX 0", "-ERR invalid expire time in 'set' command"),
        ("SET a 2 EX x", "-ERR value is not an integer or out of range"),
        ("SET a 2 EX 10 KEEPTTL", "-ERR syntax error"),
        ("GETSET a 3", "$1|2"),
        ("GETDEL a", "$1|3"),
        ("EXISTS a", ":0"),
        ("MSET a 1 b 2 c", "-ERR wrong number of arguments for 'mset' command"),
        ("MSET a 1 b 2", "+OK"),
        ("MGET a nothing b", "*3|$1|1|$-1|$1|2"),
        ("MSETNX x 1 a 2", ":0"),
        ("MSETNX x 1 y 2", ":1"),
        ("SETNX x 3", ":0"),
        ("GET", "-ERR wrong number of arguments for 'get' command"),
    ] {
        assert_eq!(client.say(line), reply, "{line}");
    }
}

#[test]
fn numbers_are_counted_and_parts_of_strings_changed() {
    let client = Client::default();
    for (line, reply) in [
        ("INCR n", ":1"),
        ("INCRBY n 41", ":42"),
        ("DECRBY n 2", ":40"),
        ("DECR n", ":39"),
        ("DECRBY n -9223372036854775808", "-ERR decrement would overflow"),
        ("INCRBY n 9223372036854775807", "-ERR increment or decrement would overflow"),
        ("INCRBYFLOAT n 0.1", "$4|39.1"),
        ("INCR n", "-ERR value is not an integer or out of range"),
        ("APPEND s Hello", ":5"),
        ("APPEND s World", ":10"),
        ("OBJECT ENCODING s", "$3|raw"),
        ("STRLEN s", ":10"),
        ("GETRANGE s 0 4", "$5|Hello"),
        ("GETRANGE s -5 -1", "$5|World"),
        ("SUBSTR s 3 100", "$7|loWorld"),
        ("GETRANGE s 5 3", "$0|"),
        ("SETRANGE s 5 Redis", ":10"),
        ("GET s", "$10|HelloRedis"),
        ("SETRANGE s -1 x", "-ERR offset is out of range"),
        ("SETRANGE s 536870911 xx", "-ERR string exceeds maximum allowed size (proto-max-bulk-len)"),
        ("SETRANGE p 2 x", ":3"),
        ("OBJECT ENCODING p", "$3|raw"),
    ] {
        assert_eq!(client.say(line), reply, "{line}");
    }
    assert_eq!(client.reply(&[b"GET", b"p"]), b"$3\r\n\0\0x\r\n");
}

#[test]
fn a_key_lives_until_its_deadline() {
    let mut client = Client::default();
    for (line, reply) in [
        ("SET a 1 EX 100", "+OK"),
        ("TTL a", ":100"),
        ("EXPIRE a 50 GT", ":0"),
        ("EXPIRE a 200 GT", ":1"),
        ("EXPIRE a 300 NX", ":0"),
        ("EXPIRE a 300 NX GT", "-ERR NX and XX, GT or LT options at the same time are not compatible"),
        ("EXPIRE a 300 SOON", "-ERR Unsupported option SOON"),
        ("EXPIRE a 9223372036854775807", "-ERR invalid expire time in 'expire' command"),
        ("PERSIST a", ":1"),
        ("PERSIST a", ":0"),
        ("TTL a", ":-1"),
        ("TTL nothing", ":-2"),
        ("EXPIRE a 10", ":1"),
        ("SET a 2 KEEPTTL", "+OK"),
        ("TTL a", ":10"),
        ("SET a 3", "+OK"),
        ("TTL a", ":-1"),
        ("SETEX a 10 4", "+OK"),
        ("RENAME a b", "+OK"),
        ("TTL b", ":10"),
        ("COPY b c", ":1"),
        ("TTL c", ":10"),
        ("SET gone 1", "+OK"),
        ("EXPIRE gone -1", ":1"),
        ("EXISTS gone", ":0"),
    ] {
        assert_eq!(client.say(line), reply, "{line}");
    }
    client.later_ms = 10_001;
    assert_eq!(client.say("EXISTS b c"), ":0");
    assert_eq!(client.keyspace.stats().expired, 2);
}

#[test]
fn keys_are_found_by_patterns_and_cursors() {
    let mut client = Client::default();
    let all = 5_000;
    for number in 0..all {
        client.say(&format!("SET key:{number} {number}"));
    }
    client.say("SET other 1");
    let (mut cursor, mut found, mut rounds) = ("0".to_owned(), Vec::new(), 0);
    loop {
        let reply = client.say(&format!("SCAN {cursor} MATCH key:* COUNT 100"));
        let mut lines = reply.split('|').skip(2).map(str::to_owned);
        cursor = lines.next().unwrap();
        found.extend(lines.skip(1).filter(|line| !line.starts_with('$')));
        rounds += 1;
        if cursor == "0" {
            break;
        }
    }
    found.sort_unstable();
    found.dedup();
    assert_eq!((found.len(), rounds), (all, rounds.clamp(20, 80)));
    assert_eq!(client.say("KEYS key:499?").matches("key:").count(), 10);
    assert_eq!(client.say("DBSIZE"), format!(":{}", all + 1));
    client.database = 3;
    assert_eq!(client.say("KEYS *"), "*0");
    assert_eq!(client.say("RANDOMKEY"), "$-1");
    assert_eq!(client.say("SET other 2"), "+OK");
    assert_eq!(client.say("RANDOMKEY"), "$5|other");
    assert_eq!(client.say("FLUSHDB"), "+OK");
    client.database = 0;
    assert_eq!(client.say("GET other"), "$1|1");
    assert_eq!(client.say("FLUSHALL"), "+OK");
    assert_eq!(client.say("DBSIZE"), ":0");
    assert_eq!(client.say("SCAN x"), "-ERR invalid cursor");
    assert_eq!(client.say("SCAN 0 COUNT 0"), "-ERR syntax error");
}

#[test]
fn what_is_recorded_does_the_same_again_at_any_time() {
    let tape = Arc::new(Tape::default());
    let mut client = Client::default();
    client.keyspace.record(tape.clone());
    for line in [
        "SET a 1",
        "GET a",
        "INCR a",
        "SET a 2 NX",
        "APPEND b x",
        "DEL nothing",
        "INCRBYFLOAT a 0.5",
        "PERSIST a",
    ] {
        client.say(line);
    }
    assert_eq!(tape.take(), ["SET a 1", "INCR a", "APPEND b x", "SET a 2.5 KEEPTTL"]);
    for line in ["SET a 1 EX 10", "EXPIRE b 10", "GETEX b EX 20"] {
        client.say(line);
        let recorded = tape.take().join(";");
        assert!(recorded.contains("PXAT 1") || recorded.contains("PEXPIREAT b 1"), "{recorded}");
    }
    client.later_ms = 15_000;
    client.say("GET a");
    assert_eq!(tape.take(), ["DEL a"]);
    client.say("GETDEL b");
    assert_eq!(tape.take(), ["DEL b"]);
}

#[test]
fn memory_is_counted_and_given_back() {
    let client = Client::default();
    for size in [0, 1, 100, 2_000, 100_000] {
        let before = client.keyspace.memory();
        let value = "x".repeat(size);
        client.send(&[b"SET", b"key", value.as_bytes()]);
        client.send(&[b"APPEND", b"key", value.as_bytes()]);
        assert!(client.keyspace.memory() >= before + 2 * size as u64);
        client.say("DEL key");
        assert_eq!(client.keyspace.stats().memory, client.keyspace.memory());
    }
}

#[test]
fn keys_make_room_by_the_policy_or_commands_are_refused() {
    let full = |policy, keys: usize| {
        let client = Client::of(Arc::new(Keyspace::new(Limits { memory_max: Some(1 << 20), policy })));
        let value = "x".repeat(1_000);
        let refused = (0..keys)
            .filter(|number| {
                let key = format!("key:{number}");
                client.send(&[b"SET", key.as_bytes(), value.as_bytes()]).starts_with("-OOM")
            })
            .count();
        (client, refused)
    };
    let (client, refused) = full(Policy::NoEviction, 2_000);
    assert!(refused > 900, "{refused}");
    assert_eq!(client.say("GET key:1").len(), 6 + 1_000);
    assert_eq!(client.say("DEL key:1"), ":1");

    for policy in [Policy::AllKeysLru, Policy::AllKeysLfu] {
        let (client, refused) = full(policy, 5_000);
        assert_eq!(refused, 0);
        let stats = client.keyspace.stats();
        assert!(stats.evicted > 3_000 && stats.memory < (1 << 20) + 10_000, "{stats:?}");
    }

    let (client, refused) = full(Policy::VolatileTtl, 2_000);
    assert!(refused > 900, "what lives for ever stays");
    for number in 0..10 {
        assert_eq!(client.say(&format!("EXPIRE key:{number} {}", 100 + number)), ":1");
    }
    assert_eq!(client.say("SET one more"), "+OK");
    assert_eq!((client.say("EXISTS key:0"), client.say("EXISTS key:9")), (":0".into(), ":1".into()));
}

#[test]
fn a_key_at_the_limit_is_taken_and_one_past_it_is_not() {
    let client = Client::default();
    let key = vec![b'k'; KEY_BYTES_MAX + 1];
    assert_eq!(client.send(&[b"SET", &key[1..], b"1"]), "+OK");
    assert!(client.send(&[b"SET", &key, b"1"]).starts_with("-ERR key is longer"));
    assert_eq!(client.send(&[b"GET", &key]), "$-1");
}

#[test]
fn many_threads_count_to_the_same_number() {
    let keyspace = Arc::<Keyspace>::default();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let client = Client::of(keyspace.clone());
            scope.spawn(move || {
                for number in 0..2_000 {
                    client.say("INCR one");
                    client.say(&format!("MSET a{number} 1 b{number} 2 c{number} 3"));
                    client.say(&format!("DEL c{number} a{number}"));
                }
            });
        }
    });
    assert_eq!(Client::of(keyspace).say("GET one"), "$4|8000");
}
