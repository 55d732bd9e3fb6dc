//! Files that a key-value store is loaded from.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use xferd_kv::{Keyspace, Loading, Options, Persistence, import};

/// An increment with any bytes is loaded or refused. If it is loaded, what was cut off is gone for good, and the next start finds
/// the same; what is written anew then is the same again.
pub fn aof(data: &[u8]) {
    let place = place();
    fs::write(place.path().join("appendonly.aof.manifest"), "file a seq 1 type i\n").expect("a new file");
    fs::write(place.path().join("a"), data).expect("a new file");
    let Ok((persistence, report)) = Persistence::open(place.path(), &Options::default()) else { return };
    let keys = stats(persistence.keyspace());
    let cut = report.torn.map_or(0, |torn| torn.bytes);
    assert_eq!(report.bytes + cut, data.len() as u64);
    drop(persistence);
    for writes_anew in [true, false] {
        let opened = Persistence::open(place.path(), &Options::default());
        let (persistence, report) = opened.expect("what was loaded once is loaded again");
        assert_eq!((stats(persistence.keyspace()), report.torn), (keys, None));
        if writes_anew {
            persistence.save().expect("room on the disk");
            persistence.close().expect("room on the disk");
        }
        // What has expired by now is not in what was written anew.
        if persistence.keyspace().has_deadlines() {
            return;
        }
    }
}

/// A dump with any bytes is taken over or refused.
pub fn rdb(data: &[u8]) {
    let place = place();
    let path = place.path().join("dump.rdb");
    fs::write(&path, [b"REDIS0010", data].concat()).expect("a new file");
    // Whatever is said of it: it must neither panic nor take memory for what is only announced.
    let _ = import(&path, &Keyspace::default(), &Loading::default());
}

fn stats(keyspace: &Arc<Keyspace>) -> [u64; xferd_kv::DATABASES] {
    keyspace.stats().keys
}

/// A directory in memory, where there is some.
fn place() -> TempDir {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("xferd-fuzz-").tempdir_in(parent).expect("a directory to play in")
}
