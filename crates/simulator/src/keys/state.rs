//! What the keys of one database hold, and what commands do to them, as far as anybody here says any.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use xferd_os::sim::{Dice, MILLION, once_in};
use xferd_wire::resp::{Replies, Version};

/// Keys by their names: each kind of value has some of its own, so that no command meets another kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    texts: BTreeMap<String, Text>,
    list: VecDeque<String>,
    hash: BTreeMap<String, String>,
    set: BTreeSet<String>,
    scores: BTreeMap<String, u64>,
    /// What [`FLEETING`] may hold, if it is there: nobody but the server knows for how long.
    pub(crate) fleeting: BTreeSet<String>,
}

#[derive(Debug, Clone, Default)]
struct Text {
    text: String,
    deadline_ms: Option<u64>,
}

/// The key that is only ever set for a moment.
pub(crate) const FLEETING: &str = "v";

/// Commands whose replies tell all there is but for [`FLEETING`].
pub(crate) const LOOKS: [&str; 13] = [
    "MGET t0 t1 t2 n",
    "PEXPIRETIME t0",
    "PEXPIRETIME t1",
    "PEXPIRETIME t2",
    "LRANGE l 0 -1",
    "HLEN h",
    "HMGET h m0 m1 m2 m3",
    "SCARD s",
    "SMISMEMBER s m0 m1 m2 m3",
    "ZRANGE z 0 -1 WITHSCORES",
    "STRLEN t0",
    "LLEN l",
    "EXISTS t0 t1 t2 n l h s z",
];

/// In the year 2100: no clock of any world gets there.
const FAR_MS: u64 = 4_102_444_800_000;

/// A command, in words.
pub(crate) fn any_command(dice: &mut Dice) -> String {
    let [key, other] = [0; 2].map(|_| format!("t{}", dice.below(3)));
    let member = format!("m{}", dice.below(4));
    let deadline_ms = FAR_MS + dice.below(1 << 30);
    let number = dice.below(1000);
    match dice.below(28) {
        0..=3 => format!("SET {key} {}", any_text(dice)),
        4 => format!("SET {key} {} PXAT {deadline_ms}", any_text(dice)),
        5 => format!("APPEND {key} {number}"),
        6 => format!("DEL {key} {other}"),
        7 => format!("MSET {key} {number} {other} {}", any_text(dice)),
        8 => format!("RENAME {key} {other}"),
        9..=10 => format!("INCRBY n {number}"),
        11 => format!("PEXPIREAT {key} {deadline_ms}"),
        12 => format!("PERSIST {key}"),
        13 => format!("RPUSH l {number} {member}"),
        14 => format!("LPUSH l {number}"),
        15 => "LPOP l".into(),
        16 => format!("HSET h {member} {number}"),
        17 => format!("HDEL h {member}"),
        18 => format!("SADD s {member}"),
        19 => format!("SREM s {member}"),
        20 => format!("ZADD z {number} {member}"),
        21 => format!("ZREM z {member}"),
        22 => format!("DEL {}", dice.one_of(&["l", "h", "s", "z", "n"])),
        23 if dice.chance(once_in(4)) => "FLUSHDB".into(),
        _ => (*dice.one_of(&LOOKS)).into(),
    }
}

/// Something for [`FLEETING`].
pub(crate) fn any_fleeting(dice: &mut Dice) -> String {
    if dice.chance(MILLION / 2) {
        return format!("GET {FLEETING}");
    }
    let ms = *dice.one_of(&[1, 200, 5000]);
    format!("SET {FLEETING} {} PX {}", dice.number(), dice.between(1, ms))
}

/// Of any length, and hardly ever the same twice. Some look like what the log has between requests.
fn any_text(dice: &mut Dice) -> String {
    let number = dice.number();
    match dice.below(16) {
        0 => format!("{number}\r\n#XFERD:40:00000000{:08x}:0\r\n*1\r\n$7\r\nFLUSHDB\r\n", number as u32),
        1 => number.to_string().repeat(dice.between(200, 600) as usize),
        2..=5 => number.to_string().repeat(dice.between(1, 60) as usize),
        _ => number.to_string(),
    }
}

impl State {
    /// What a command, of these words, does, and what it is answered.
    ///
    /// # Panics
    /// If it is none of those that are said here.
    pub(crate) fn apply(&mut self, command: &str) -> Vec<u8> {
        let words: Vec<&str> = command.split(' ').collect();
        let mut reply = Vec::new();
        let mut replies = Replies::new(&mut reply, Version::Resp2);
        match &*words {
            ["SELECT", _] => replies.simple("OK"),
            ["SET", FLEETING, text, "PX", _] => {
                self.fleeting = BTreeSet::from([(*text).into()]);
                replies.simple("OK");
            }
            ["GET", FLEETING] => tell(self.fleeting.first(), &mut replies),
            ["DEL", FLEETING] => self.fleeting.clear(),
            ["SET", key, text] => {
                self.put(key, text, None);
                replies.simple("OK");
            }
            ["SET", key, text, "PXAT", at] => {
                self.put(key, text, at.parse().ok());
                replies.simple("OK");
            }
            ["MSET", key, text, other, other_text] => {
                self.put(key, text, None);
                self.put(other, other_text, None);
                replies.simple("OK");
            }
            ["APPEND", key, text] => {
                let it = self.texts.entry((*key).into()).or_default();
                it.text.push_str(text);
                replies.integer(it.text.len() as i64);
            }
            ["INCRBY", key, number] => {
                let it = self.texts.entry((*key).into()).or_default();
                let sum = it.text.parse().unwrap_or(0) + number.parse().unwrap_or(0);
                it.text = sum.to_string();
                replies.integer(sum);
            }
            ["RENAME", key, other] => match self.texts.remove(*key) {
                Some(text) => {
                    self.texts.insert((*other).into(), text);
                    replies.simple("OK");
                }
                None => replies.error("ERR no such key"),
            },
            ["PEXPIREAT", key, at] => {
                let it = self.texts.get_mut(*key);
                replies.integer(it.map_or(0, |it| {
                    it.deadline_ms = at.parse().ok();
                    1
                }));
            }
            ["PERSIST", key] => {
                let had = self.texts.get_mut(*key).and_then(|it| it.deadline_ms.take());
                replies.integer(had.map_or(0, |_| 1));
            }
            ["PEXPIRETIME", key] => replies.integer(match self.texts.get(*key) {
                Some(it) => it.deadline_ms.map_or(-1, |at| at as i64),
                None => -2,
            }),
            ["MGET", keys @ ..] => {
                replies.array(keys.len());
                for key in keys {
                    tell(self.texts.get(*key).map(|it| &it.text), &mut replies);
                }
            }
            ["STRLEN", key] => {
                replies.integer(self.texts.get(*key).map_or(0, |it| it.text.len()) as i64);
            }
            ["DEL", keys @ ..] => {
                replies.integer(keys.iter().map(|key| i64::from(self.remove(key))).sum());
            }
            ["EXISTS", keys @ ..] => {
                replies.integer(keys.iter().map(|key| i64::from(self.has(key))).sum());
            }
            ["FLUSHDB"] => {
                *self = Self::default();
                replies.simple("OK");
            }
            ["RPUSH", _, texts @ ..] => {
                self.list.extend(texts.iter().map(|text| (*text).to_owned()));
                replies.integer(self.list.len() as i64);
            }
            ["LPUSH", _, text] => {
                self.list.push_front((*text).into());
                replies.integer(self.list.len() as i64);
            }
            ["LPOP", _] => tell(self.list.pop_front().as_ref(), &mut replies),
            ["LLEN", _] => replies.integer(self.list.len() as i64),
            ["LRANGE", ..] => {
                replies.array(self.list.len());
                self.list.iter().for_each(|text| replies.bulk(text));
            }
            ["HSET", _, field, text] => {
                let before = self.hash.insert((*field).into(), (*text).into());
                replies.integer(before.map_or(1, |_| 0));
            }
            ["HDEL", _, field] => replies.integer(self.hash.remove(*field).map_or(0, |_| 1)),
            ["HLEN", _] => replies.integer(self.hash.len() as i64),
            ["HMGET", _, fields @ ..] => {
                replies.array(fields.len());
                fields.iter().for_each(|field| tell(self.hash.get(*field), &mut replies));
            }
            ["SADD", _, member] => replies.integer(self.set.insert((*member).into()).into()),
            ["SREM", _, member] => replies.integer(self.set.remove(*member).into()),
            ["SCARD", _] => replies.integer(self.set.len() as i64),
            ["SMISMEMBER", _, members @ ..] => {
                replies.array(members.len());
                members.iter().for_each(|member| replies.integer(self.set.contains(*member).into()));
            }
            ["ZADD", _, score, member] => {
                let before = self.scores.insert((*member).into(), score.parse().unwrap_or(0));
                replies.integer(before.map_or(1, |_| 0));
            }
            ["ZREM", _, member] => replies.integer(self.scores.remove(*member).map_or(0, |_| 1)),
            ["ZRANGE", ..] => {
                let ranks: BTreeSet<_> = self.scores.iter().map(|(member, score)| (score, member)).collect();
                replies.array(2 * ranks.len());
                for (score, member) in ranks {
                    replies.bulk(member);
                    replies.bulk(score.to_string());
                }
            }
            _ => unreachable!("nobody says {command}"),
        }
        reply
    }

    /// What [`LOOKS`] are answered.
    pub(crate) fn look(&mut self) -> Vec<u8> {
        LOOKS.iter().flat_map(|look| self.apply(look)).collect()
    }

    /// How many keys there are beside [`FLEETING`].
    pub(crate) fn len(&self) -> u64 {
        let others = ["l", "h", "s", "z"].iter().filter(|key| self.has(key)).count();
        (self.texts.len() + others) as u64
    }

    fn put(&mut self, key: &str, text: &str, deadline_ms: Option<u64>) {
        self.texts.insert(key.into(), Text { text: text.into(), deadline_ms });
    }

    fn has(&self, key: &str) -> bool {
        match key {
            "l" => !self.list.is_empty(),
            "h" => !self.hash.is_empty(),
            "s" => !self.set.is_empty(),
            "z" => !self.scores.is_empty(),
            _ => self.texts.contains_key(key),
        }
    }

    fn remove(&mut self, key: &str) -> bool {
        let was_there = self.has(key);
        match key {
            "l" => self.list.clear(),
            "h" => self.hash.clear(),
            "s" => self.set.clear(),
            "z" => self.scores.clear(),
            _ => drop(self.texts.remove(key)),
        }
        was_there
    }
}

fn tell(text: Option<&String>, replies: &mut Replies<'_>) {
    match text {
        Some(text) => replies.bulk(text),
        None => replies.null(),
    }
}
