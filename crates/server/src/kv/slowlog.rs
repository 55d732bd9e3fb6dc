//! Commands that took long.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use xferd_engine::lock;
use xferd_os::clock;
use xferd_wire::resp::{Args, ArgsBuf};

/// The most that are kept, whatever `slowlog-max-len` says.
pub const SLOW_COMMANDS_MAX: usize = 10_000;
/// Arguments of a command that are kept, and bytes of each (`SLOWLOG_ENTRY_MAX_ARGC`, `SLOWLOG_ENTRY_MAX_STRING` of Redis).
const ARGS_MAX: usize = 32;
const ARG_BYTES_MAX: usize = 128;

/// The slowest of late.
#[derive(Debug)]
pub(crate) struct Slowlog {
    entries: Mutex<(VecDeque<Slow>, u64)>,
    /// Microseconds; less than 0 for never.
    threshold_us: AtomicI64,
    len_max: AtomicUsize,
}

/// One that took long.
#[derive(Clone, Debug)]
pub(crate) struct Slow {
    pub(crate) id: u64,
    pub(crate) at: SystemTime,
    pub(crate) took: Duration,
    pub(crate) args: ArgsBuf,
    pub(crate) peer: String,
    pub(crate) name: String,
}

impl Default for Slowlog {
    fn default() -> Self {
        // As Redis begins.
        Self {
            entries: Mutex::default(),
            threshold_us: AtomicI64::new(10_000),
            len_max: AtomicUsize::new(128),
        }
    }
}

impl Slowlog {
    /// Whether a command that took so long is to be noted.
    pub(crate) fn wants(&self, took: Duration) -> bool {
        let threshold = self.threshold_us.load(Ordering::Relaxed);
        u128::try_from(threshold).is_ok_and(|threshold| took.as_micros() >= threshold)
    }

    pub(crate) fn note(&self, took: Duration, args: Args<'_>, peer: String, name: String) {
        let mut kept: ArgsBuf = ArgsBuf::new();
        let shown = if args.len() > ARGS_MAX { ARGS_MAX - 1 } else { args.len() };
        for arg in args.iter().take(shown) {
            match arg.get(..ARG_BYTES_MAX) {
                Some(start) if arg.len() > ARG_BYTES_MAX => {
                    let more = format!("... ({} more bytes)", arg.len() - ARG_BYTES_MAX);
                    kept.push(&[start, more.as_bytes()].concat());
                }
                _ => kept.push(arg),
            }
        }
        if args.len() > shown {
            kept.push(format!("... ({} more arguments)", args.len() - shown).as_bytes());
        }
        let mut entries = lock(&self.entries);
        let id = entries.1;
        entries.1 += 1;
        entries.0.push_front(Slow { id, at: clock::system_now(), took, args: kept, peer, name });
        entries.0.truncate(self.len_max.load(Ordering::Relaxed));
    }

    /// The last ones, the newest first.
    pub(crate) fn last(&self, count: usize) -> Vec<Slow> {
        lock(&self.entries).0.iter().take(count).cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.entries).0.len()
    }

    pub(crate) fn clear(&self) {
        lock(&self.entries).0.clear();
    }

    pub(crate) fn threshold_us(&self) -> i64 {
        self.threshold_us.load(Ordering::Relaxed)
    }

    pub(crate) fn set_threshold_us(&self, threshold: i64) {
        self.threshold_us.store(threshold, Ordering::Relaxed);
    }

    pub(crate) fn len_max(&self) -> usize {
        self.len_max.load(Ordering::Relaxed)
    }

    /// At most [`SLOW_COMMANDS_MAX`].
    pub(crate) fn set_len_max(&self, len: usize) {
        self.len_max.store(len.min(SLOW_COMMANDS_MAX), Ordering::Relaxed);
        lock(&self.entries).0.truncate(len);
    }
}

impl Slow {
    pub(crate) fn at_seconds(&self) -> i64 {
        let since = self.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    }
}
