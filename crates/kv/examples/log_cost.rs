//! What the log costs: SETs with and without it, and commits of fifty threads beside one sync for each write.
//! `cargo run --release -p xferd-kv --example log_cost [DIRECTORY]`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use xferd_kv::{Fsync, Keyspace, Options, Persistence, commands};
use xferd_wire::resp::{ArgsBuf, Replies, Version};

const THREADS: usize = 50;
const SETS: usize = 2_000_000;
const PATIENCE: Duration = Duration::from_secs(5);

fn main() {
    let place =
        std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from).join("xferd-log-cost");
    let plain = sets(&Keyspace::default(), SETS);
    let options = |fsync| Options { fsync, ..Options::default() };
    let open = |fsync| Persistence::open(&place, &options(fsync)).expect("a directory to write to").0;
    let persistence = open(Fsync::No);
    let recorded = sets(persistence.keyspace(), SETS);
    persistence.close().expect("room on the disk");
    println!("a SET: {plain:.0} ns, with the log {recorded:.0} ns");
    drop(persistence);
    let begun = Instant::now();
    let (persistence, report) =
        Persistence::open(&place, &options(Fsync::No)).expect("what was just written");
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "loading {:.0} MB: {seconds:.2} s, {:.0} MB/s, {:.2} million requests/s",
        report.bytes as f64 / 1e6,
        report.bytes as f64 / 1e6 / seconds,
        report.requests as f64 / 1e6 / seconds
    );
    let begun = Instant::now();
    persistence.save().expect("room on the disk");
    println!("a snapshot of that: {:.2} s", begun.elapsed().as_secs_f64());
    drop(persistence);
    let persistence = open(Fsync::Always);
    let one = commits(&persistence, 1);
    let many = commits(&persistence, THREADS);
    println!(
        "always: {one:.0} writes/s with a sync each, {many:.0} by {THREADS} threads: {:.1} times",
        many / one
    );
    drop(persistence);
    std::fs::remove_dir_all(&place).expect("what was just made");
}

/// Nanoseconds of one.
fn sets(keyspace: &Keyspace, count: usize) -> f64 {
    let set = commands::find(b"set").expect("a command");
    let (mut args, mut out, now_ms) = (ArgsBuf::new(), Vec::new(), keyspace.now_ms());
    let begun = Instant::now();
    for number in 0..count {
        args.clear();
        args.push(b"SET");
        args.push(format!("key:{:012}", number % 1_000_000).as_bytes());
        args.push(&[b'x'; 32]);
        out.clear();
        set.execute(keyspace, 0, now_ms, args.args(), &mut Replies::new(&mut out, Version::Resp2));
    }
    begun.elapsed().as_nanos() as f64 / count as f64
}

/// Writes that were committed, a second.
fn commits(persistence: &Persistence, threads: usize) -> f64 {
    let begun = Instant::now();
    let done: usize = std::thread::scope(|scope| {
        let run = || {
            scope.spawn(|| {
                let keyspace: Arc<Keyspace> = persistence.keyspace().clone();
                let mut done = 0;
                while begun.elapsed() < PATIENCE {
                    sets(&keyspace, 1);
                    persistence.log().commit(persistence.log().position()).expect("a disk that syncs");
                    done += 1;
                }
                done
            })
        };
        let running: Vec<_> = (0..threads).map(|_| run()).collect();
        running.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    done as f64 / begun.elapsed().as_secs_f64()
}
