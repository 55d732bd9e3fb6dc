//! What a process has used so far, as Linux tells it. Elsewhere nothing is told.

use std::fs;
use std::time::Duration;

/// Time that the threads of a process have been running (`/proc/PID/task/*/schedstat`, which counts nanoseconds; `stat` only
/// counts ticks).
pub(crate) fn cpu(pid: u32) -> Option<Duration> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let running = tasks.flatten().filter_map(|task| {
        // A thread may end meanwhile.
        let schedstat = fs::read_to_string(task.path().join("schedstat")).ok()?;
        schedstat.split(' ').next()?.parse::<u64>().ok()
    });
    Some(Duration::from_nanos(running.sum()))
}

/// Bytes in memory that nobody else has. What the kernel keeps for its sockets is not counted.
pub(crate) fn private_bytes(pid: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let kib: u64 = rollup
        .lines()
        .filter(|line| line.starts_with("Private_"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum();
    Some(kib * 1024)
}

/// A number, or what JSON has for none.
pub(crate) fn json(figure: Option<impl ToString>) -> String {
    figure.map_or_else(|| "null".into(), |figure| figure.to_string())
}
