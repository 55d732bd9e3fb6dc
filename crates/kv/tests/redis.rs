//! Redis 7 reads what is written here, and what Redis has written is taken over. Where it is not installed these tests say so.
#![allow(clippy::unwrap_used)]

mod rig;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rig::{Client, contents, strings};
use xferd_kv::{Fsync, Keyspace, Loading, Options, Persistence, import};
use xferd_wire::resp::encode_request;

/// A running redis-server.
struct Redis {
    child: Child,
    stream: UnixStream,
    dir: PathBuf,
}

impl Redis {
    /// `None` where it is not installed.
    fn start(dir: &Path, options: &[&str]) -> Option<Self> {
        if Command::new("redis-server").arg("--version").output().is_err() {
            eprintln!("skipped: redis-server is not installed");
            return None;
        }
        let socket = dir.join("socket");
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--unixsocket"]).arg(&socket).arg("--dir").arg(dir);
        let child = command.args(options).stdout(Stdio::null()).spawn().unwrap();
        let stream = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break stream,
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let mut redis = Self { child, stream, dir: dir.to_owned() };
        while redis.say(&[b"PING"]) != b"+PONG\r\n" {
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(redis)
    }

    fn say(&mut self, words: &[&[u8]]) -> Vec<u8> {
        let mut request = Vec::new();
        encode_request(words, &mut request);
        self.stream.write_all(&request).unwrap();
        let mut reply = Vec::new();
        self.read_reply(&mut reply);
        reply
    }

    fn line(&mut self, line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        String::from_utf8_lossy(&self.say(&words)).into_owned()
    }

    fn read_reply(&mut self, reply: &mut Vec<u8>) {
        let start = reply.len();
        let mut byte = [0];
        while !reply[start..].ends_with(b"\r\n") {
            self.stream.read_exact(&mut byte).unwrap();
            reply.push(byte[0]);
        }
        let line = reply[start..].to_vec();
        let number = || std::str::from_utf8(&line[1..line.len() - 2]).unwrap().parse::<i64>().unwrap();
        match line[0] {
            b'$' if number() >= 0 => {
                let mut bulk = vec![0; number() as usize + 2];
                self.stream.read_exact(&mut bulk).unwrap();
                reply.extend(bulk);
            }
            b'*' => (0..number()).for_each(|_| self.read_reply(reply)),
            _ => {}
        }
    }

    /// As [`contents`] of a keyspace.
    fn contents(&mut self) -> Vec<rig::Key> {
        let mut all = Vec::new();
        for database in 0..16_u8 {
            self.line(&format!("SELECT {database}"));
            for key in strings(&self.say(&[b"KEYS", b"*"])) {
                let value = rig::value_of(&key, &mut |words| self.say(words));
                let until = self.say(&[b"PEXPIRETIME", &key]);
                all.push((database, key, value, until));
            }
        }
        all.sort();
        all
    }

    fn stop(mut self) -> PathBuf {
        let mut request = Vec::new();
        encode_request(["SHUTDOWN", "NOSAVE"], &mut request);
        self.stream.write_all(&request).unwrap();
        self.child.wait().unwrap();
        self.dir.clone()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keys of all types, small ones and ones that are kept otherwise, with and without an end, in several databases.
fn fill(say: &mut dyn FnMut(u8, &[&[u8]])) {
    for database in [0, 3, 15] {
        let mut line = |line: &str| {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            say(database, &words);
        };
        for text in ["SET n 12", "SET m -70000", "SET l -3000000000", "SET s hello EX 1000", "SETRANGE r 3 x"]
        {
            line(text);
        }
        line(&format!("SET squeezed {}", "ab".repeat(2000)));
        line(&format!(
            "SET long {}",
            (0..3000).map(|n| char::from(b'a' + (n * n % 23) as u8)).collect::<String>()
        ));
        line("RPUSH list a 1 -1 200 -200 70000 -70000 10000000 -10000000 5000000000 -5000000000");
        line(&format!("RPUSH list {} {}", "x".repeat(100), "y".repeat(5000)));
        line("SADD ints 1 2 -3");
        line("SADD ints4 1 70000");
        line("SADD ints8 1 5000000000");
        line("SADD set a b 1");
        line("HSET hash f 1 g two");
        line("ZADD zset 1 a 1.5 b -inf c inf d 1e20 e");
        for n in 0..600 {
            line(&format!("RPUSH longlist item{n} {n}"));
            line(&format!("SADD longset member{n}"));
            line(&format!("SADD manyints {n}"));
            line(&format!("HSET longhash field{n} {n}"));
            line(&format!("ZADD longzset {n}.25 member{n}"));
        }
        line("EXPIRE list 1000");
        line("EXPIRE longzset 2000");
        line("SET gone 1");
        line("DEL gone");
    }
}

fn fill_redis(redis: &mut Redis) {
    fill(&mut |database, words| {
        redis.line(&format!("SELECT {database}"));
        let reply = redis.say(words);
        assert!(!reply.starts_with(b"-"), "{}", reply.escape_ascii());
    });
}

#[test]
fn redis_reads_a_log_and_a_snapshot_and_its_check_calls_them_valid() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("appendonlydir");
    for snapshot in [false, true] {
        let options = Options { fsync: Fsync::No, ..Options::default() };
        let (persistence, _) = Persistence::open(&path, &options).unwrap();
        let mut client = Client::of(persistence.keyspace().clone());
        fill(&mut |database, words| {
            client.database = database;
            let reply = client.reply(words);
            assert!(!reply.starts_with(b"-"), "{}", reply.escape_ascii());
        });
        if snapshot {
            persistence.save().unwrap();
            client.say("SET after 1");
        }
        let expected = contents(&client.keyspace);
        persistence.close().unwrap();
        drop(persistence);
        if let Ok(check) = Command::new("redis-check-aof").arg(path.join("appendonly.aof.manifest")).output()
        {
            let said = String::from_utf8_lossy(&check.stdout).into_owned();
            assert!(
                check.status.success() && said.contains("All AOF files and manifest are valid"),
                "{said}"
            );
        }
        let Some(mut redis) = Redis::start(place.path(), &["--appendonly", "yes"]) else { return };
        same(&redis.contents(), &expected);
        redis.line("SELECT 0");
        redis.line("SET written-by redis");
        redis.stop();
        // And what Redis has appended is read here.
        let (persistence, report) = Persistence::open(&path, &options).unwrap();
        assert_eq!(report.torn, None);
        let client = Client::of(persistence.keyspace().clone());
        assert_eq!(client.say("GETDEL written-by"), "$5|redis");
        assert_eq!(contents(persistence.keyspace()), expected);
        client.say("FLUSHALL");
        persistence.close().unwrap();
    }
}

/// Shows what differs, and not all there is.
fn same(found: &[rig::Key], expected: &[rig::Key]) {
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(
            (found.0, found.1.escape_ascii().to_string()),
            (expected.0, expected.1.escape_ascii().to_string())
        );
        assert_eq!(
            (found.2.escape_ascii().to_string(), found.3.escape_ascii().to_string()),
            (expected.2.escape_ascii().to_string(), expected.3.escape_ascii().to_string())
        );
    }
    assert_eq!(found.len(), expected.len());
}

fn imported(path: &Path) -> Arc<Keyspace> {
    let keyspace = Arc::new(Keyspace::default());
    import(path, &keyspace, &Loading::default()).unwrap();
    keyspace
}

#[test]
fn what_redis_has_dumped_and_appended_is_taken_over_whole() {
    for preamble in ["yes", "no"] {
        let place = tempfile::tempdir().unwrap();
        let options =
            ["--appendonly", "yes", "--aof-use-rdb-preamble", preamble, "--enable-debug-command", "local"];
        let Some(mut redis) = Redis::start(place.path(), &options) else { return };
        fill_redis(&mut redis);
        redis.line("BGREWRITEAOF");
        while !redis.line("INFO persistence").contains("aof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0")
        {
            std::thread::sleep(Duration::from_millis(20));
        }
        redis.line("SELECT 3");
        redis.line("RPUSH list later");
        redis.line("MULTI");
        redis.line("INCR n");
        redis.line("DEL set");
        redis.line("EXEC");
        redis.line("SAVE");
        let expected = redis.contents();
        let dir = redis.stop();
        let aof = dir.join("appendonlydir");
        assert_eq!(contents(&imported(&dir.join("dump.rdb"))), expected);
        assert_eq!(contents(&imported(&aof)), expected);
        assert_eq!(contents(&imported(&aof.join("appendonly.aof.manifest"))), expected);
        // It is also a directory to go on in.
        let (persistence, _) = Persistence::open(&aof, &Options::default()).unwrap();
        assert_eq!(contents(persistence.keyspace()), expected);
        persistence.save().unwrap();
        drop(persistence);
        let (persistence, _) = Persistence::open(&aof, &Options::default()).unwrap();
        assert_eq!(contents(persistence.keyspace()), expected);
    }
}

#[test]
fn a_dump_that_is_cut_off_or_damaged_is_refused_and_nothing_panics() {
    let place = tempfile::tempdir().unwrap();
    let Some(mut redis) = Redis::start(place.path(), &[]) else { return };
    for line in ["SET a 1 EX 100", "RPUSH l a b 3", "SADD s 1 2", "HSET h a b", "ZADD z 1 a"] {
        redis.line(line);
    }
    redis.line(&format!("SET squeezed {}", "ab".repeat(100)));
    redis.line("SAVE");
    let dir = redis.stop();
    let dump = std::fs::read(dir.join("dump.rdb")).unwrap();
    let path = dir.join("damaged.rdb");
    let tried = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        import(&path, &Keyspace::default(), &Loading::default()).map(drop)
    };
    tried(&dump).unwrap();
    for len in 9..dump.len() {
        let error = tried(&dump[..len]).unwrap_err();
        assert_eq!(error.code(), "IMPORT_REFUSED", "{len}: {error}");
    }
    for at in (9..dump.len()).step_by(3) {
        for bit in [1, 0x80] {
            let mut bytes = dump.clone();
            bytes[at] ^= bit;
            // Whatever it comes to: the checksum differs, or something before.
            assert!(tried(&bytes).is_err(), "{at}");
        }
    }
    let mut stream = b"REDIS0010\x0f\x04mine".to_vec();
    stream.push(0);
    let error = tried(&stream).unwrap_err().to_string();
    assert!(error.contains("\"mine\" is a stream"), "{error}");
    assert!(tried(b"REDIS0099\xff").unwrap_err().to_string().contains("0099"));
}
