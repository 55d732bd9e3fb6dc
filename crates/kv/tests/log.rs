//! What was recorded is there again after whatever happens to the process and its files.
#![allow(clippy::unwrap_used)]

mod rig;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use proptest::prelude::*;
use rig::{Client, contents};
use xferd_kv::{Fsync, Keyspace, Loading, LogError, Options, Persistence, Report, import_into};

/// In memory, where there is some: nothing here depends on how long a sync takes.
fn place() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("xferd-kv-").tempdir_in(parent).unwrap()
}

fn options(fsync: Fsync) -> Options {
    Options { fsync, rewrite_percentage: 0, ..Options::default() }
}

fn open(path: &Path) -> (Persistence, Report) {
    Persistence::open(path, &options(Fsync::No)).unwrap()
}

fn client(persistence: &Persistence) -> Client {
    Client::of(persistence.keyspace().clone())
}

/// As after `kill -9`: what was written stays, nothing is closed.
fn killed(persistence: Persistence) {
    persistence.log().commit(persistence.log().position()).unwrap();
}

fn file(path: &Path, end: &str) -> PathBuf {
    let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = names.filter(|path| path.to_str().unwrap().ends_with(end)).collect();
    found.sort();
    found.pop().unwrap_or_else(|| panic!("no {end}"))
}

#[test]
fn what_was_committed_is_there_after_a_kill() {
    let place = place();
    let path = place.path().join("made/kv");
    let before = {
        let (persistence, report) = open(&path);
        assert_eq!(report, Report::default());
        let mut client = client(&persistence);
        for line in ["SET a 1", "INCR a", "SET b 2 EX 100", "APPEND b 3", "SET c 1", "DEL c", "RENAME a d"] {
            client.say(line);
        }
        client.database = 7;
        for line in ["SET a other", "COPY a b DB 3", "SET e 1 PX 1"] {
            client.say(line);
        }
        killed(persistence);
        contents(&client.keyspace)
    };
    let (persistence, report) = open(&path);
    assert!(report.requests >= 9 && report.torn.is_none(), "{report:?}");
    assert_eq!(contents(persistence.keyspace()), before);
}

#[test]
fn a_directory_is_for_one_server() {
    let place = place();
    let (first, _) = open(place.path());
    let error = Persistence::open(place.path(), &Options::default()).unwrap_err();
    assert!(matches!(error, LogError::InUse(_)) && error.code() == "LOG_IN_USE", "{error}");
    drop(first);
    open(place.path());
}

#[test]
fn a_torn_tail_is_cut_off_and_told_of() {
    let place = place();
    let (persistence, _) = open(place.path());
    let client = client(&persistence);
    client.say("SET a 1");
    killed(persistence);
    let log = file(place.path(), ".incr.aof");
    let whole = fs::metadata(&log).unwrap().len();
    for tail in [
        &b"*3\r\n$3\r\nSET\r\n$1\r\nb"[..],
        b"*",
        b"#XF",
        b"#XFERD:100:0123456789abcdef:0\r\n*1\r\n",
        b"*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$1\r\n1\r\n",
        b"\0\0\0\0\0",
    ] {
        let mut bytes = fs::read(&log).unwrap();
        bytes.extend_from_slice(tail);
        fs::write(&log, bytes).unwrap();
        let (persistence, report) = open(place.path());
        let torn = report.torn.unwrap();
        assert_eq!((torn.offset, torn.bytes), (whole, tail.len() as u64), "{}", tail.escape_ascii());
        assert_eq!(fs::metadata(&log).unwrap().len(), whole);
        assert_eq!(contents(persistence.keyspace()).len(), 1);
    }
    let (persistence, report) = open(place.path());
    assert_eq!((report.torn, persistence.keyspace().stats().keys[0]), (None, 1));
}

#[test]
fn a_damaged_middle_is_not_started_on_and_the_place_is_named() {
    let place = place();
    let (persistence, _) = open(place.path());
    let client = client(&persistence);
    let mut offsets = Vec::new();
    let log = file(place.path(), ".incr.aof");
    for number in 0..5 {
        offsets.push(fs::metadata(&log).unwrap().len());
        client.say(&format!("SET key{number} value{number}"));
        persistence.log().commit(persistence.log().position()).unwrap();
    }
    drop(persistence);
    let whole = fs::read(&log).unwrap();
    for at in 0..offsets[4] as usize {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&log, &bytes).unwrap();
        let error = match Persistence::open(place.path(), &Options::default()) {
            Err(error) => error,
            // The line in front of a batch was hit so that it is another annotation: nothing is lost by that.
            Ok((persistence, report)) => {
                assert_eq!((report.requests, persistence.keyspace().stats().keys[0]), (5, 5), "{at}");
                continue;
            }
        };
        let LogError::Damaged { file, offset, .. } = &error else { panic!("{at}: {error}") };
        let batch = offsets.iter().filter(|offset| **offset <= at as u64).count() - 1;
        assert!(file.ends_with(".incr.aof"));
        assert!((offsets[batch]..offsets[batch + 1]).contains(offset), "{at}: {offset}");
        assert!(error.to_string().contains("redis-check-aof"), "{error}");
    }
    for damage in
        ["*1\r\n$4\r\nXXXX\r\n", "*2\r\n$3\r\nGET\r\n$1\r\na\r\n", "*1\r\n$3\r\nSET\r\n", "PING\r\n"]
    {
        let mut bytes = damage.as_bytes().to_vec();
        bytes.extend_from_slice(&whole);
        fs::write(&log, &bytes).unwrap();
        let error = Persistence::open(place.path(), &Options::default()).unwrap_err();
        assert!(matches!(error, LogError::Damaged { offset: 0, .. }), "{error}");
    }
}

#[test]
fn zeros_where_nothing_had_been_synced_are_what_a_power_loss_leaves_and_else_damage() {
    for synced in [false, true] {
        let place = place();
        let (persistence, _) = open(place.path());
        let client = client(&persistence);
        let log = file(place.path(), ".incr.aof");
        client.say("SET a 1");
        persistence.log().sync().unwrap();
        let first = fs::metadata(&log).unwrap().len() as usize;
        let value = "x".repeat(2000);
        for _ in 0..2 {
            client.say(&format!("SET b {value}"));
            let position = persistence.log().position();
            if synced { persistence.log().sync() } else { persistence.log().commit(position) }.unwrap();
        }
        drop(persistence);
        let mut bytes = fs::read(&log).unwrap();
        bytes[512..1024].fill(0);
        fs::write(&log, &bytes).unwrap();
        match Persistence::open(place.path(), &Options::default()) {
            Ok((persistence, report)) => {
                assert!(!synced);
                assert_eq!(report.torn.unwrap().offset, first as u64);
                assert_eq!(Client::of(persistence.keyspace().clone()).say("GET b"), "$-1");
            }
            Err(error) => {
                assert!(synced, "{error}");
                assert!(matches!(error, LogError::Damaged { .. }));
            }
        }
    }
}

#[test]
fn an_increment_that_is_not_the_last_may_not_be_torn() {
    let place = place();
    let (persistence, _) = open(place.path());
    let client = client(&persistence);
    client.say("SET a 1");
    killed(persistence);
    let first = file(place.path(), ".incr.aof");
    let mut bytes = fs::read(&first).unwrap();
    bytes.extend_from_slice(b"*3\r\n");
    fs::write(&first, &bytes).unwrap();
    let second = place.path().join("appendonly.aof.2.incr.aof");
    let manifest = place.path().join("appendonly.aof.manifest");
    let mut text = fs::read_to_string(&manifest).unwrap();
    text.push_str("file appendonly.aof.2.incr.aof seq 2 type i\n");
    fs::write(&manifest, text).unwrap();
    fs::write(&second, "*1\r\n$8\r\nFLUSHALL\r\n").unwrap();
    let error = Persistence::open(place.path(), &Options::default()).unwrap_err();
    assert!(matches!(error, LogError::Damaged { .. }), "{error}");
    // Nothing was written to it: the crash came between.
    fs::write(&second, "").unwrap();
    let (_, report) = open(place.path());
    assert_eq!(report.torn.unwrap().bytes, 4);
}

#[test]
fn files_without_their_manifest_are_not_overwritten() {
    let place = place();
    let (persistence, _) = open(place.path());
    client(&persistence).say("SET a 1");
    killed(persistence);
    fs::remove_file(place.path().join("appendonly.aof.manifest")).unwrap();
    let error = Persistence::open(place.path(), &Options::default()).unwrap_err();
    assert_eq!(error.code(), "LOG_MANIFEST", "{error}");
}

/// Found by seed 400198.
#[test]
fn a_first_start_that_was_cut_off_keeps_no_other_from_starting() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("appendonly.aof.1.incr.aof"), "").unwrap();
    fs::write(place.path().join("temp-appendonly.aof.manifest"), "file appendonly").unwrap();
    let (persistence, report) = Persistence::open(place.path(), &Options::default()).unwrap();
    assert_eq!(report.requests, 0);
    drop(persistence);
    assert!(!place.path().join("temp-appendonly.aof.manifest").exists());
}

#[test]
fn a_manifest_leads_to_nothing_outside() {
    let place = place();
    fs::write(place.path().join("outside"), "*1\r\n$8\r\nFLUSHALL\r\n").unwrap();
    let path = place.path().join("kv");
    fs::create_dir(&path).unwrap();
    std::os::unix::fs::symlink("../outside", path.join("link")).unwrap();
    for name in ["../outside", "link"] {
        fs::write(path.join("appendonly.aof.manifest"), format!("file {name} seq 1 type i\n")).unwrap();
        assert!(Persistence::open(&path, &Options::default()).is_err(), "{name}");
    }
}

#[test]
fn the_clock_does_not_go_back_behind_what_was_noted() {
    let place = place();
    let later_s = Keyspace::default().now_ms() / 1000 + 1_000_000;
    let log = format!(
        "#TS:{later_s}\r\n*5\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n$4\r\nPXAT\r\n$13\r\n{}\r\n",
        later_s * 1000 - 1
    );
    fs::write(place.path().join("appendonly.aof.manifest"), "file i seq 1 type i\n").unwrap();
    fs::write(place.path().join("i"), log).unwrap();
    let (persistence, _) = open(place.path());
    assert!(persistence.keyspace().now_ms() / 1000 >= later_s);
    assert_eq!(client(&persistence).say("GET a"), "$-1");
    persistence.save().unwrap();
    drop(persistence);
    let (persistence, _) = open(place.path());
    assert!(persistence.keyspace().now_ms() / 1000 >= later_s);
}

#[test]
fn a_snapshot_holds_what_the_log_held_and_old_files_go() {
    let place = place();
    let (persistence, _) = open(place.path());
    let mut client = client(&persistence);
    for number in 0..10_000 {
        client.database = (number % 3) as u8;
        client.say(&format!("SET key{number} {number}"));
    }
    client.say("EXPIRE key9999 1000");
    client.say("SET gone 1 PX 1");
    client.later_ms = 10;
    let saved_s = persistence.saved_s();
    persistence.save().unwrap();
    assert!(persistence.saved_s() >= saved_s && !persistence.is_rewriting());
    client.say("SET after 1");
    let before = contents(&client.keyspace);
    killed(persistence);
    let mut names: Vec<_> =
        fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(
        names,
        ["appendonly.aof.1.base.aof", "appendonly.aof.2.incr.aof", "appendonly.aof.manifest", "xferd.lock"]
    );
    let (persistence, report) = open(place.path());
    assert_eq!((contents(persistence.keyspace()), report.torn), (before, None));
}

#[test]
fn a_second_snapshot_is_refused_while_one_is_under_way_and_closing_gives_that_up() {
    let place = place();
    let (persistence, _) = open(place.path());
    let client = client(&persistence);
    (0..100).for_each(|number| drop(client.say(&format!("SET {number} 1"))));
    persistence.rewrite().unwrap();
    let refused = persistence.rewrite().unwrap_err().to_string();
    assert_eq!(refused, "ERR Background append only file rewriting already in progress");
    assert!(persistence.is_rewriting() && persistence.tick());
    (0..100).for_each(|number| drop(client.say(&format!("INCR {number}"))));
    let before = contents(&client.keyspace);
    persistence.close().unwrap();
    drop(persistence);
    let (persistence, _) = open(place.path());
    assert_eq!(contents(persistence.keyspace()), before);
    persistence.rewrite().unwrap();
    while persistence.tick() {}
    persistence.last_rewrite().unwrap();
    drop(persistence);
    let (persistence, report) = open(place.path());
    assert_eq!((contents(persistence.keyspace()), report.requests), (before, 100));
}

#[test]
fn the_log_is_written_anew_by_itself_when_it_has_grown_enough() {
    let place = place();
    let options = Options { rewrite_min_bytes: 10_000, ..options(Fsync::No) };
    let (persistence, _) = Persistence::open(place.path(), &options).unwrap();
    persistence.set_rewrite(10_000, 100);
    let client = client(&persistence);
    let mut rewrites = 0;
    for number in 0..1000 {
        client.say(&format!("SET a {number}"));
        persistence.log().commit(persistence.log().position()).unwrap();
        let was = persistence.is_rewriting();
        persistence.tick();
        rewrites += u32::from(!was && persistence.is_rewriting());
    }
    assert!((2..20).contains(&rewrites), "{rewrites}");
}

#[test]
fn a_snapshot_while_four_threads_write_is_what_was_there_and_the_log_the_rest() {
    let place = place();
    let (persistence, _) = open(place.path());
    let keyspace = persistence.keyspace().clone();
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (keyspace, stop, done) = (keyspace.clone(), &stop, &done);
            scope.spawn(move || {
                let mut client = Client::of(keyspace);
                let mut dice = thread + 1;
                while !stop.load(Ordering::Relaxed) {
                    dice = dice.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    let (key, other) = ((dice >> 33) % 5000, (dice >> 45) % 5000);
                    client.database = ((dice >> 60) % 2) as u8;
                    // Each but SET depends on all that came before it.
                    let reply = match (dice >> 20) % 100 {
                        0..40 => client.say(&format!("INCR n{key}")),
                        40..60 => client.say(&format!("APPEND s{key} {thread}")),
                        60..75 => client.say(&format!("DEL n{key} s{other}")),
                        75..85 => client.say(&format!("RENAME s{key} s{other}")),
                        85..90 => client.say(&format!("EXPIRE n{key} 1000")),
                        90..95 => client.say(&format!("SET n{key} 1 PX 1")),
                        95..98 => client.say(&format!("MSETNX m{key} {key} m{other} {other}")),
                        _ if dice % 50 == 0 => client.say("FLUSHDB"),
                        _ => client.say(&format!("COPY s{key} s{other} REPLACE")),
                    };
                    assert!(!reply.starts_with("-ERR value"), "{reply}");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 1..=5 {
            while done.load(Ordering::Relaxed) < round * 10_000 {
                std::thread::yield_now();
            }
            persistence.save().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    keyspace.expire(usize::MAX, std::time::Duration::from_secs(60));
    let before = contents(&keyspace);
    killed(persistence);
    let (persistence, report) = open(place.path());
    assert!(report.torn.is_none());
    assert_eq!(contents(persistence.keyspace()), before);
}

#[derive(Clone, Debug)]
enum Deed {
    Say(u8, &'static str, u8, u8),
    Commit,
    Sync,
    Snapshot,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let command = prop::sample::select(vec!["SET", "APPEND", "SETNX", "GETSET", "RENAME", "COPY", "FLUSHDB"]);
    let say = (0..3_u8, command, 0..5_u8, 0..5_u8).prop_map(|(db, name, a, b)| Deed::Say(db, name, a, b));
    let deed =
        prop_oneof![20 => say, 5 => Just(Deed::Commit), 2 => Just(Deed::Sync), 1 => Just(Deed::Snapshot)];
    prop::collection::vec(deed, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn killed_at_any_byte_it_is_a_prefix_of_what_was_done_and_all_that_was_committed(
        deeds in deeds(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 6),
    ) {
        let place = place();
        let (persistence, _) = open(place.path());
        let mut client = client(&persistence);
        // What there was after each deed, and how long the last increment was when that was committed.
        let mut states = vec![contents(&client.keyspace)];
        let mut committed = vec![(0, 0)];
        for deed in deeds {
            match deed {
                Deed::Say(database, name, a, b) => {
                    client.database = database;
                    if name == "FLUSHDB" {
                        client.say(name);
                    } else {
                        client.say(&format!("{name} {a} {b}"));
                    }
                    states.push(contents(&client.keyspace));
                    continue;
                }
                Deed::Commit => persistence.log().commit(persistence.log().position()).unwrap(),
                Deed::Sync => persistence.log().sync().unwrap(),
                Deed::Snapshot => {
                    persistence.save().unwrap();
                    committed.clear();
                }
            }
            let len = fs::metadata(file(place.path(), ".incr.aof")).unwrap().len();
            committed.push((states.len() - 1, len));
        }
        persistence.log().commit(persistence.log().position()).unwrap();
        drop(persistence);
        let log = file(place.path(), ".incr.aof");
        let whole = fs::read(&log).unwrap();
        committed.push((states.len() - 1, whole.len() as u64));
        for cut in cuts {
            let len = cut.index(whole.len() + 1);
            fs::write(&log, &whole[..len]).unwrap();
            let (persistence, _) = open(place.path());
            let found = contents(persistence.keyspace());
            let least = committed.iter().rfind(|(_, at)| *at <= len as u64).unwrap().0;
            prop_assert!(states[least..].contains(&found), "{len} of {}", whole.len());
        }
    }
}

#[test]
fn what_is_imported_is_there_when_a_server_starts_and_is_gone_on_with() {
    let place = place();
    let (from, to) = (place.path().join("from"), place.path().join("made/to"));
    let expected = {
        let (persistence, _) = open(&from);
        let mut client = client(&persistence);
        for line in ["SET a 1 EX 1000", "RPUSH l a b", "SADD s 1 2", "HSET h a b", "ZADD z 1 a"] {
            client.say(line);
        }
        client.database = 7;
        client.say("SET b 1");
        persistence.close().unwrap();
        contents(persistence.keyspace())
    };
    // Somebody was there and left nothing.
    drop(open(&to));
    let (report, keys) = import_into(&from, &to, &Loading::default()).unwrap();
    assert_eq!((report.requests, report.torn, keys), (6, None, 6));
    for _ in 0..2 {
        let (persistence, _) = open(&to);
        assert_eq!(contents(persistence.keyspace()), expected);
        client(&persistence).say("SET a 1 KEEPTTL");
        killed(persistence);
    }
}

#[test]
fn nothing_is_imported_over_what_is_there_or_into_a_directory_that_is_used() {
    let place = place();
    let (from, to) = (place.path().join("from"), place.path().join("to"));
    for (path, line) in [(&from, "SET a 1"), (&to, "SET b 2")] {
        let (persistence, _) = open(path);
        client(&persistence).say(line);
        persistence.close().unwrap();
    }
    let refused =
        |from: &Path, to: &Path| import_into(from, to, &Loading::default()).unwrap_err().to_string();
    assert!(refused(&from, &to).contains("keys in it already (1)"));
    assert!(refused(&from, &from).contains("already"));
    let (persistence, _) = open(&to);
    assert!(refused(&from, &to).contains("used by another server"));
    client(&persistence).say("DEL b");
    persistence.close().unwrap();
    drop(persistence);
    assert_eq!(import_into(&from, &to, &Loading::default()).unwrap().1, 1);
}

#[test]
fn an_import_that_fails_leaves_nothing() {
    let place = place();
    let (damaged, to) = (place.path().join("damaged.aof"), place.path().join("to"));
    fs::write(&damaged, "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n*2\r\n$4\r\nNONE\r\n$1\r\na\r\n").unwrap();
    for _ in 0..2 {
        let error = import_into(&damaged, &to, &Loading::default()).unwrap_err();
        assert_eq!(error.code(), "LOG_DAMAGED");
    }
    let missing = place.path().join("missing");
    assert_eq!(import_into(&missing, &to, &Loading::default()).unwrap_err().code(), "LOG_IO");
    let (persistence, _) = open(&to);
    assert_eq!(contents(persistence.keyspace()), []);
}

#[test]
fn a_store_that_was_closed_leaves_its_directory_to_others_and_changes_nothing_more() {
    let place = place();
    let (closed, _) = open(place.path());
    let client_of_closed = client(&closed);
    client_of_closed.say("SET key before");
    closed.close().unwrap();
    let (opened, _) = open(place.path());
    assert!(client_of_closed.say("SET key after").starts_with("-MISCONF"));
    closed.close().unwrap();
    assert_eq!(client(&opened).say("GET key"), "$6|before");
}
