//! Any commands on collections, beside plain models of them.

mod rig;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;
use rig::{Client, Tape};
use xferd_kv::Keyspace;

/// What a key should hold.
#[derive(Default)]
struct Models {
    list: VecDeque<u16>,
    set: BTreeSet<u16>,
    hash: HashMap<u16, u16>,
    scores: HashMap<u16, i32>,
}

/// Something to do. Small numbers often meet what is there; some of them stand for long elements.
#[derive(Clone, Debug)]
enum Step {
    Push(bool, Vec<u16>),
    Pop(bool, usize),
    RemoveEqual(i64, u16),
    Trim(i64, i64),
    Add(Vec<u16>),
    Remove(Vec<u16>),
    PopAny(usize),
    Set(Vec<(u16, u16)>),
    Delete(Vec<u16>),
    Score(Vec<(u16, i32)>),
    Increment(u16, i32),
    Unscore(Vec<u16>),
    PopScored(bool, usize),
    Copy(u8),
}

fn steps() -> impl Strategy<Value = Step> {
    let number = || 0..400_u16;
    let numbers = || prop::collection::vec(0..400_u16, 1..40);
    prop_oneof![
        3 => (any::<bool>(), numbers()).prop_map(|(front, all)| Step::Push(front, all)),
        1 => (any::<bool>(), 0..30_usize).prop_map(|(front, count)| Step::Pop(front, count)),
        1 => (-3..3_i64, number()).prop_map(|(count, element)| Step::RemoveEqual(count, element)),
        1 => (-300..300_i64, -300..300_i64).prop_map(|(start, end)| Step::Trim(start, end)),
        3 => numbers().prop_map(Step::Add),
        1 => numbers().prop_map(Step::Remove),
        1 => (0..60_usize).prop_map(Step::PopAny),
        3 => prop::collection::vec((number(), number()), 1..40).prop_map(Step::Set),
        1 => numbers().prop_map(Step::Delete),
        3 => prop::collection::vec((number(), -20..20_i32), 1..40).prop_map(Step::Score),
        2 => (number(), -20..20_i32).prop_map(|(member, by)| Step::Increment(member, by)),
        1 => numbers().prop_map(Step::Unscore),
        1 => (any::<bool>(), 0..60_usize).prop_map(|(highest, count)| Step::PopScored(highest, count)),
        1 => (0..4_u8).prop_map(Step::Copy),
    ]
}

/// How a number is written: every seventh so that it is long.
fn word(number: u16) -> String {
    if number % 7 == 0 { format!("{number:090}") } else { number.to_string() }
}

fn words(numbers: &[u16]) -> String {
    numbers.iter().map(|number| word(*number)).collect::<Vec<_>>().join(" ")
}

/// The strings of a reply, without what announces them.
fn strings(reply: &str) -> Vec<String> {
    let mut lines = reply.split('|');
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if line.starts_with('$') && line != "$-1" {
            found.extend(lines.next().map(str::to_owned));
        }
    }
    found
}

impl Models {
    fn ranked(&self) -> Vec<(i32, String)> {
        let mut all: Vec<_> = self.scores.iter().map(|(member, score)| (*score, word(*member))).collect();
        all.sort_unstable();
        all
    }

    /// Does the same to the client's keys and the models.
    fn take(&mut self, client: &Client, step: &Step) {
        match step {
            Step::Push(front, all) => {
                for element in all {
                    if *front { self.list.push_front(*element) } else { self.list.push_back(*element) }
                }
                let name = if *front { "LPUSH" } else { "RPUSH" };
                let reply = client.say(&format!("{name} list {}", words(all)));
                assert_eq!(reply, format!(":{}", self.list.len()));
            }
            Step::Pop(front, count) => {
                let name = if *front { "LPOP" } else { "RPOP" };
                let popped = strings(&client.say(&format!("{name} list {count}")));
                for element in popped {
                    let expected = if *front { self.list.pop_front() } else { self.list.pop_back() };
                    assert_eq!(Some(element), expected.map(word));
                }
            }
            Step::RemoveEqual(count, element) => {
                let mut left = if *count == 0 { usize::MAX } else { count.unsigned_abs() as usize };
                let before = self.list.len();
                let mut keep = |other: &u16| {
                    let goes = other == element && left > 0;
                    left -= usize::from(goes);
                    !goes
                };
                if *count < 0 {
                    self.list = self.list.iter().rev().copied().filter(&mut keep).collect();
                    self.list = self.list.iter().rev().copied().collect();
                } else {
                    self.list.retain(keep);
                }
                let reply = client.say(&format!("LREM list {count} {}", word(*element)));
                assert_eq!(reply, format!(":{}", before - self.list.len()));
            }
            Step::Trim(start, end) => {
                let len = self.list.len() as i64;
                let absolute = |index: i64| if index < 0 { index + len } else { index };
                let kept = absolute(*start)..=absolute(*end);
                let mut index = -1;
                self.list.retain(|_| {
                    index += 1;
                    kept.contains(&index)
                });
                client.say(&format!("LTRIM list {start} {end}"));
            }
            Step::Add(all) => {
                let added = all.iter().filter(|member| self.set.insert(**member)).count();
                assert_eq!(client.say(&format!("SADD set {}", words(all))), format!(":{added}"));
            }
            Step::Remove(all) => {
                let removed = all.iter().filter(|member| self.set.remove(member)).count();
                assert_eq!(client.say(&format!("SREM set {}", words(all))), format!(":{removed}"));
            }
            Step::PopAny(count) => {
                let popped = strings(&client.say(&format!("SPOP set {count}")));
                assert_eq!(popped.len(), (*count).min(self.set.len()));
                for member in popped {
                    assert!(self.set.remove(&member.parse().expect("a number")), "{member}");
                }
            }
            Step::Set(pairs) => {
                let added = pairs.iter().filter(|(field, value)| self.hash.insert(*field, *value).is_none());
                let added = added.count();
                let pairs: Vec<u16> = pairs.iter().flat_map(|(field, value)| [*field, *value]).collect();
                assert_eq!(client.say(&format!("HSET hash {}", words(&pairs))), format!(":{added}"));
            }
            Step::Delete(all) => {
                let removed = all.iter().filter(|field| self.hash.remove(field).is_some()).count();
                assert_eq!(client.say(&format!("HDEL hash {}", words(all))), format!(":{removed}"));
            }
            Step::Score(pairs) => {
                let added =
                    pairs.iter().filter(|(member, score)| self.scores.insert(*member, *score).is_none());
                let added = added.count();
                let pairs: Vec<String> =
                    pairs.iter().map(|(member, score)| format!("{score} {}", word(*member))).collect();
                assert_eq!(client.say(&format!("ZADD scores {}", pairs.join(" "))), format!(":{added}"));
            }
            Step::Increment(member, by) => {
                let score = self.scores.entry(*member).or_default();
                *score += by;
                let reply = client.say(&format!("ZINCRBY scores {by} {}", word(*member)));
                assert_eq!(strings(&reply), [score.to_string()]);
            }
            Step::Unscore(all) => {
                let removed = all.iter().filter(|member| self.scores.remove(member).is_some()).count();
                assert_eq!(client.say(&format!("ZREM scores {}", words(all))), format!(":{removed}"));
            }
            Step::PopScored(highest, count) => {
                let mut expected = self.ranked();
                if *highest {
                    expected.reverse();
                }
                expected.truncate(*count);
                let name = if *highest { "ZPOPMAX" } else { "ZPOPMIN" };
                let popped = strings(&client.say(&format!("{name} scores {count}")));
                let told: Vec<String> =
                    expected.iter().flat_map(|(score, member)| [member.clone(), score.to_string()]).collect();
                assert_eq!(popped, told);
                for (_, member) in expected {
                    self.scores.remove(&member.parse().expect("a number"));
                }
            }
            Step::Copy(which) => {
                let key = KEYS[usize::from(*which)];
                client.say(&format!("COPY {key} copy:{key} REPLACE"));
            }
        }
    }

    fn check(&self, client: &Client) {
        let list: Vec<String> = self.list.iter().copied().map(word).collect();
        assert_eq!(strings(&client.say("LRANGE list 0 -1")), list);
        let mut set: Vec<String> = self.set.iter().copied().map(word).collect();
        set.sort_unstable();
        assert_eq!(sorted(&client.say("SMEMBERS set")), set);
        assert_eq!(strings(&client.say("HKEYS hash")).len(), self.hash.len());
        for (field, value) in &self.hash {
            assert_eq!(strings(&client.say(&format!("HGET hash {}", word(*field)))), [word(*value)]);
        }
        let ranked = self.ranked();
        let told: Vec<String> =
            ranked.iter().flat_map(|(score, member)| [member.clone(), score.to_string()]).collect();
        assert_eq!(strings(&client.say("ZRANGE scores 0 -1 WITHSCORES")), told);
        for (rank, (_, member)) in ranked.iter().enumerate().step_by(50) {
            assert_eq!(client.say(&format!("ZRANK scores {member}")), format!(":{rank}"));
        }
        let there = [list.len(), set.len(), self.hash.len(), ranked.len()];
        for (key, len) in KEYS.iter().zip(there) {
            assert_eq!(client.say(&format!("EXISTS {key}")), format!(":{}", u8::from(len > 0)), "{key}");
        }
    }
}

const KEYS: [&str; 4] = ["list", "set", "hash", "scores"];

fn sorted(reply: &str) -> Vec<String> {
    let mut all = strings(reply);
    all.sort_unstable();
    all
}

/// All that the keys hold, and how.
fn contents(client: &Client) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for prefix in ["", "copy:"] {
        all.push(strings(&client.say(&format!("LRANGE {prefix}list 0 -1"))));
        all.push(sorted(&client.say(&format!("SMEMBERS {prefix}set"))));
        let fields = strings(&client.say(&format!("HGETALL {prefix}hash")));
        let mut fields: Vec<String> = fields.chunks(2).map(|pair| pair.join("=")).collect();
        fields.sort_unstable();
        all.push(fields);
        all.push(strings(&client.say(&format!("ZRANGE {prefix}scores 0 -1 WITHSCORES"))));
        all.push(KEYS.iter().map(|key| client.say(&format!("OBJECT ENCODING {prefix}{key}"))).collect());
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn collections_hold_what_their_models_do_and_replaying_gives_the_same(
        steps in prop::collection::vec(steps(), 1..120),
    ) {
        let (tape, client) = (Arc::new(Tape::default()), Client::default());
        client.keyspace.record(tape.clone());
        let empty = client.keyspace.memory();
        let mut models = Models::default();
        for step in &steps {
            models.take(&client, step);
        }
        models.check(&client);
        prop_assert_eq!(client.keyspace.stats().memory, client.keyspace.memory());

        let again = Client::of(Arc::<Keyspace>::default());
        for line in tape.take() {
            let reply = again.say(&line);
            prop_assert!(!reply.starts_with('-'), "{} to {}", reply, line);
        }
        prop_assert_eq!(contents(&again), contents(&client));

        for key in KEYS {
            client.say(&format!("DEL {key} copy:{key}"));
        }
        let rest = client.keyspace.memory() - empty;
        prop_assert!(rest < 2_000, "{} bytes are left of the tables of keys", rest);
        prop_assert_eq!(client.keyspace.stats().memory, client.keyspace.memory());
    }
}

#[test]
fn a_collection_that_has_shrunk_gives_memory_back() {
    let client = Client::default();
    let usage = |key: &str| client.say(&format!("MEMORY USAGE {key}"))[1..].parse::<usize>().unwrap();
    for number in 0..20_000 {
        client.say(&format!("RPUSH list {number}"));
        client.say(&format!("SADD set {number}"));
        client.say(&format!("HSET hash {number} {number}"));
        client.say(&format!("ZADD scores {number} {number}"));
    }
    let full = KEYS.map(usage);
    client.say("LTRIM list 0 9");
    client.say("SPOP set 19990");
    client.say("ZPOPMAX scores 19990");
    for number in 10..20_000 {
        client.say(&format!("HDEL hash {number}"));
    }
    for (key, full) in KEYS.iter().zip(full) {
        assert!(full > 20_000 * 40, "{key} took {full}");
        assert!(usage(key) < full / 100, "{key} takes {}", usage(key));
    }
}

#[test]
fn a_copy_is_another_collection() {
    let client = Client::default();
    for (line, other, look) in [
        ("RPUSH list 1", "RPUSH copy 2", "LRANGE list 0 -1"),
        ("SADD set 1", "SADD copy 2", "SMEMBERS set"),
        ("HSET hash f 1", "HSET copy f 2", "HGETALL hash"),
        ("ZADD scores 1 m", "ZADD copy 2 m", "ZRANGE scores 0 -1 WITHSCORES"),
    ] {
        client.say(line);
        let before = client.say(look);
        assert_eq!(client.say(&format!("COPY {} copy REPLACE", line.split(' ').nth(1).unwrap())), ":1");
        assert!(!client.say(other).starts_with('-'), "{other}");
        assert_eq!(client.say(look), before);
    }
}
