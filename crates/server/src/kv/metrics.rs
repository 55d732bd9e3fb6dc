//! How often each command was carried out, and how long that took.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use xferd_engine::lock;
use xferd_kv::commands::COMMANDS;

/// Parts that connections are spread over, so that two reactors seldom want the same one.
const PARTS: usize = 8;
/// The longest time that is told apart from longer ones.
const LONGEST: Duration = Duration::from_secs(60);

/// Counters of all commands.
#[derive(Debug)]
pub(crate) struct Metrics {
    parts: Box<[Mutex<Part>]>,
    pub(crate) connections: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) errors: AtomicU64,
}

/// Those of some connections.
#[derive(Debug, Default)]
struct Part {
    /// One for each of [`COMMANDS`] once any was carried out.
    counters: Vec<Option<Counter>>,
    bytes_in: u64,
    bytes_out: u64,
}

#[derive(Debug)]
struct Counter {
    failed: u64,
    took_ns: u64,
    histogram: Histogram<u32>,
}

/// What a command has cost.
#[derive(Clone, Debug)]
pub struct CommandMetrics {
    /// Its name.
    pub name: &'static str,
    /// How often it was carried out.
    pub calls: u64,
    /// How often it answered with an error.
    pub failed: u64,
    /// How long that took in all.
    pub took: Duration,
    /// What half of the calls took at most, 99 % of them, and 99.9 %.
    pub percentiles: [Duration; 3],
    /// How many took at most so many microseconds, each a power of two, as long as that are more.
    pub by_microseconds: Vec<(u64, u64)>,
}

/// What a key-value store tells of itself.
#[derive(Clone, Debug, Default)]
pub struct KvMetrics {
    /// Connections now.
    pub connections: u64,
    /// Connections since the start.
    pub connections_accepted: u64,
    /// Commands since the start.
    pub commands: u64,
    /// What is in the keyspace, and what happened in it.
    pub keyspace: xferd_kv::Stats,
    /// Each command that was carried out.
    pub by_command: Vec<CommandMetrics>,
}

/// What one connection's commands took, until they are counted together.
#[derive(Debug, Default)]
pub(crate) struct Batch(Vec<(usize, Duration, bool)>);

impl Batch {
    pub(crate) fn add(&mut self, command: usize, took: Duration, failed: bool) {
        self.0.push((command, took, failed));
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            connections: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        }
    }
}

impl Metrics {
    /// Counts what a connection did, in so many bytes, and leaves `batch` empty.
    pub(crate) fn count(&self, connection: u64, batch: &mut Batch, bytes_in: u64, bytes_out: u64) {
        let Some(part) = self.parts.get(connection as usize % PARTS) else { return };
        let mut part = lock(part);
        part.bytes_in += bytes_in;
        part.bytes_out += bytes_out;
        let counters = &mut part.counters;
        if counters.is_empty() {
            counters.resize_with(COMMANDS.len(), || None);
        }
        for (command, took, failed) in batch.0.drain(..) {
            let Some(counter) = counters.get_mut(command) else { continue };
            let counter = counter.get_or_insert_with(Counter::new);
            let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            counter.took_ns = counter.took_ns.saturating_add(ns);
            counter.failed += u64::from(failed);
            counter.histogram.saturating_record(ns);
        }
    }

    /// What each command that was carried out has cost.
    pub(crate) fn by_command(&self) -> Vec<CommandMetrics> {
        let mut all = Vec::new();
        for (index, command) in COMMANDS.iter().enumerate() {
            let mut sum: Option<Counter> = None;
            for part in &self.parts {
                if let Some(Some(counter)) = lock(part).counters.get(index) {
                    let sum = sum.get_or_insert_with(Counter::new);
                    sum.failed += counter.failed;
                    sum.took_ns = sum.took_ns.saturating_add(counter.took_ns);
                    // Both have the same bounds.
                    let _ = sum.histogram.add(&counter.histogram);
                }
            }
            if let Some(Counter { failed, took_ns, histogram }) = sum {
                let at = |quantile| Duration::from_nanos(histogram.value_at_quantile(quantile));
                all.push(CommandMetrics {
                    name: command.name,
                    calls: histogram.len(),
                    failed,
                    took: Duration::from_nanos(took_ns),
                    percentiles: [at(0.5), at(0.99), at(0.999)],
                    by_microseconds: cumulative(&histogram),
                });
            }
        }
        all
    }

    /// Bytes of requests, and of the replies to them.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let parts = self.parts.iter().map(|part| lock(part));
        parts.fold((0, 0), |(bytes_in, bytes_out), part| {
            (bytes_in + part.bytes_in, bytes_out + part.bytes_out)
        })
    }

    /// Forgets them.
    pub(crate) fn reset(&self) {
        self.parts.iter().for_each(|part| *lock(part) = Part::default());
        for counter in [&self.connections, &self.refused, &self.errors] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

fn cumulative(histogram: &Histogram<u32>) -> Vec<(u64, u64)> {
    let mut counts: Vec<(u64, u64)> = Vec::new();
    for power in 0.. {
        let microseconds = 1_u64 << power;
        let count = histogram.count_between(0, microseconds * 1_000);
        if counts.last().is_none_or(|(_, before)| count > *before) && count > 0 {
            counts.push((microseconds, count));
        }
        if count == histogram.len() || microseconds > LONGEST.as_micros() as u64 {
            break;
        }
    }
    counts
}

impl Counter {
    fn new() -> Self {
        // Two digits: 1 % is all that two runs agree about. The bounds are constants that a histogram accepts.
        let histogram = Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 2);
        Self {
            failed: 0,
            took_ns: 0,
            histogram: histogram.expect("bounds and digits that a histogram can have"),
        }
    }
}
