//! A keyspace to say commands to.
#![allow(dead_code, unreachable_pub, reason = "no test uses all of it")]
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use xferd_kv::{Keyspace, Recorded, Recorder, commands};
use xferd_wire::resp::{ArgsBuf, Replies, RequestParser, Version};

/// Says commands to a keyspace as one client does.
pub(crate) struct Client {
    pub(crate) keyspace: Arc<Keyspace>,
    pub(crate) database: u8,
    pub(crate) version: Version,
    /// Milliseconds that have passed beside those that did.
    pub(crate) later_ms: u64,
}

impl Default for Client {
    fn default() -> Self {
        Self::of(Arc::default())
    }
}

impl Client {
    pub(crate) fn of(keyspace: Arc<Keyspace>) -> Self {
        Self { keyspace, database: 0, version: Version::Resp2, later_ms: 0 }
    }

    /// The reply to a command as the words of `line`, its line ends as `|`.
    pub(crate) fn say(&self, line: &str) -> String {
        let words: Vec<&[u8]> = line.split_whitespace().map(str::as_bytes).collect();
        self.send(&words)
    }

    pub(crate) fn send(&self, words: &[&[u8]]) -> String {
        let reply = String::from_utf8_lossy(&self.reply(words)).replace("\r\n", "|");
        reply.strip_suffix('|').unwrap_or(&reply).to_owned()
    }

    pub(crate) fn reply(&self, words: &[&[u8]]) -> Vec<u8> {
        let args: ArgsBuf = words.iter().collect();
        let command = commands::find(words[0]).expect("a command");
        let mut out = Vec::new();
        let mut replies = Replies::new(&mut out, self.version);
        if command.takes(words.len()) {
            let now_ms = self.keyspace.now_ms() + self.later_ms;
            command.execute(&self.keyspace, self.database, now_ms, args.args(), &mut replies);
        } else {
            replies.error(command.arity_refused().to_string());
        }
        out
    }
}

/// All that was recorded.
#[derive(Default)]
pub(crate) struct Tape(Mutex<Vec<(u8, Vec<u8>)>>);

impl Recorder for Tape {
    fn record(&self, requests: &[Recorded]) {
        let requests = requests.iter().map(|recorded| (recorded.database, recorded.request.clone()));
        self.0.lock().expect("no test panics with it").extend(requests);
    }
}

impl Tape {
    /// What was recorded since this was last asked, as lines.
    pub(crate) fn take(&self) -> Vec<String> {
        let recorded = std::mem::take(&mut *self.0.lock().expect("no test panics with it"));
        let line = |request: &[u8]| {
            let mut parser = RequestParser::new();
            let len = parser.parse(request).expect("a request").expect("a whole one");
            assert_eq!(len, request.len());
            parser
                .args(request)
                .iter()
                .map(|arg| String::from_utf8_lossy(arg).into_owned())
                .collect::<Vec<_>>()
                .join(" ")
        };
        recorded.iter().map(|(_, request)| line(request)).collect()
    }
}

/// A database, a key in it, what it holds and until when.
pub type Key = (u8, Vec<u8>, Vec<u8>, Vec<u8>);

/// Everything that is in a keyspace.
pub fn contents(keyspace: &Arc<Keyspace>) -> Vec<Key> {
    let mut all = Vec::new();
    let mut client = Client::of(keyspace.clone());
    let stats = keyspace.stats();
    for database in 0..xferd_kv::DATABASES as u8 {
        if stats.keys[usize::from(database)] == 0 {
            continue;
        }
        client.database = database;
        for key in strings(&client.reply(&[b"KEYS", b"*"])) {
            let value = value_of(&key, &mut |words| client.reply(words));
            let until = client.reply(&[b"PEXPIRETIME", &key]);
            all.push((database, key, value, until));
        }
    }
    all.sort();
    all
}

/// The strings of an array.
pub fn strings(mut reply: &[u8]) -> Vec<Vec<u8>> {
    let line = || {
        let end = reply.iter().position(|byte| *byte == b'\r').expect("a line");
        let (line, rest) = reply.split_at(end);
        (std::str::from_utf8(&line[1..]).unwrap().parse::<usize>().unwrap(), &rest[2..])
    };
    let (count, rest) = line();
    reply = rest;
    (0..count)
        .map(|_| {
            let end = reply.iter().position(|byte| *byte == b'\r').expect("a line");
            let len: usize = std::str::from_utf8(&reply[1..end]).unwrap().parse().unwrap();
            let string = reply[end + 2..end + 2 + len].to_vec();
            reply = &reply[end + len + 4..];
            string
        })
        .collect()
}

/// What has no order, so many together.
fn sorted(strings: Vec<Vec<u8>>, together: usize) -> Vec<u8> {
    let mut parts: Vec<_> = strings.chunks(together).map(|part| part.join(&b"="[..])).collect();
    parts.sort();
    parts.join(&b" "[..])
}

/// What a key holds, by whoever is asked.
pub fn value_of(key: &[u8], say: &mut dyn FnMut(&[&[u8]]) -> Vec<u8>) -> Vec<u8> {
    match &*say(&[b"TYPE", key]) {
        b"+string\r\n" => say(&[b"GET", key]),
        b"+list\r\n" => say(&[b"LRANGE", key, b"0", b"-1"]),
        b"+set\r\n" => sorted(strings(&say(&[b"SMEMBERS", key])), 1),
        b"+hash\r\n" => sorted(strings(&say(&[b"HGETALL", key])), 2),
        b"+zset\r\n" => say(&[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"]),
        other => panic!("{}", other.escape_ascii()),
    }
}
