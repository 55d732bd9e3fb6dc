//! What the connections of a load share: what they are at, and what came of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use xferd_engine::{Failure, Reach, lock};
use xferd_os::clock;

use super::keys::Keys;
use super::replies::ValueReply;
use super::requests::Requests;
use super::{Load, PACE, Report, Until};

/// The longest time that is told from longer ones.
const LATENCY_MAX: Duration = Duration::from_secs(3600);

/// More stages than any run has.
const STAGES_MAX: u64 = 256;

/// What connections do, in this order; they rest after both of those in which they generate load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// They connect, and say who they are.
    Connect,
    /// They make every key be as it has to be.
    Fill,
    /// They ask, and it does not count.
    WarmUp,
    /// They ask, and it counts.
    Measured,
    /// They wait for what is on its way.
    Rest,
    /// They remove every key.
    Clean,
    /// It makes no difference what becomes of them.
    Over,
}

impl Stage {
    const ALL: [Self; 7] =
        [Self::Connect, Self::Fill, Self::WarmUp, Self::Measured, Self::Rest, Self::Clean, Self::Over];
}

pub(super) struct Run {
    pub(super) load: Load,
    pub(super) requests: Requests,
    pub(super) keys: Keys,
    pub(super) value: ValueReply,
    began: Instant,
    /// How many stages have been entered, and, in the lowest bits, which was the last.
    stage: AtomicU64,
    /// When that was.
    stage_began: AtomicU64,
    /// Connections that are through with the stage, above the lowest bits, which are those of its number: who is late with an
    /// earlier one does not count.
    finished: AtomicU64,
    /// Keys, or requests if they are numbered, that somebody has taken upon himself.
    taken: AtomicU64,
    /// For each reactor.
    tallies: Vec<Mutex<Tally>>,
    /// Whom to tell that a request is due.
    places: Mutex<Vec<Option<Reach>>>,
    failure: Mutex<Option<Failure>>,
    changed: Condvar,
}

/// What was answered on one reactor, which alone changes it while load is generated. On a cache line of its own.
#[repr(align(128))]
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
    pub(super) misses: u64,
    pub(super) unsent: u64,
    /// When the last answer came.
    pub(super) last: u64,
    latencies: Histogram<u64>,
}

impl Tally {
    fn new() -> Self {
        let latencies = Histogram::new_with_bounds(1, LATENCY_MAX.as_nanos() as u64, 3);
        #[allow(clippy::expect_used, reason = "the bounds are constants that are allowed")]
        let latencies = latencies.expect("a histogram of an hour with three digits");
        Self { requests: 0, errors: 0, first_error: None, misses: 0, unsent: 0, last: 0, latencies }
    }

    /// So many requests took this long.
    pub(super) fn record(&mut self, nanoseconds: u64, times: u64) {
        self.latencies.saturating_record_n(nanoseconds, times);
    }
}

impl Run {
    pub(super) fn new(load: &Load) -> Self {
        Self {
            load: load.clone(),
            requests: Requests::new(load.command, load.value_bytes),
            keys: Keys::new(load.keys, load.distribution),
            value: ValueReply::new(load.value_bytes),
            began: clock::now(),
            stage: AtomicU64::new(0),
            stage_began: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            tallies: (0..load.threads).map(|_| Mutex::new(Tally::new())).collect(),
            places: Mutex::new(vec![None; load.connections]),
            failure: Mutex::new(None),
            changed: Condvar::new(),
        }
    }

    /// Nanoseconds since the beginning.
    pub(super) fn now(&self) -> u64 {
        clock::now().saturating_duration_since(self.began).as_nanos() as u64
    }

    /// The stage, its number, and when it began.
    pub(super) fn stage(&self) -> (u64, Stage) {
        let entered = self.stage.load(Ordering::Acquire);
        let stage = Stage::ALL.get((entered % 8) as usize).copied().unwrap_or(Stage::Over);
        (entered / 8, stage)
    }

    pub(super) fn stage_began(&self) -> u64 {
        self.stage_began.load(Ordering::Relaxed)
    }

    /// Begins a stage that all connections are to finish. Those of the one before have.
    pub(super) fn enter(&self, stage: Stage) {
        if stage == Stage::Measured {
            self.tallies.iter().for_each(|tally| *lock(tally) = Tally::new());
        }
        self.taken.store(0, Ordering::Relaxed);
        if stage != Stage::Rest {
            self.stage_began.store(self.now(), Ordering::Relaxed);
        }
        let entered = self.stage.load(Ordering::Relaxed) / 8 + 1;
        self.finished.store(entered % STAGES_MAX, Ordering::Release);
        self.stage.store(8 * entered + stage as u64, Ordering::Release);
    }

    /// A connection is through with the stage of this number.
    pub(super) fn finish(&self, entered: u64) {
        let count = |finished: u64| (finished % STAGES_MAX == entered).then_some(finished + STAGES_MAX);
        let _ = self.finished.fetch_update(Ordering::AcqRel, Ordering::Acquire, count);
        // Whoever waits has either not looked yet or hears it.
        drop(lock(&self.failure));
        self.changed.notify_all();
    }

    /// Ends everything.
    pub(super) fn fail(&self, failure: Failure) {
        lock(&self.failure).get_or_insert(failure);
        self.changed.notify_all();
    }

    /// Takes up to `wanted` of `all` keys, or requests: the first of them, and how many.
    pub(super) fn take(&self, wanted: u64, all: u64) -> (u64, u64) {
        let first = self.taken.fetch_add(wanted, Ordering::Relaxed).min(all);
        (first, wanted.min(all - first))
    }

    pub(super) fn tally(&self, index: usize) -> MutexGuard<'_, Tally> {
        lock(&self.tallies[index % self.tallies.len()])
    }

    /// A connection can be told that something is due.
    pub(super) fn note_place(&self, index: usize, reach: Reach) {
        if let Some(place) = lock(&self.places).get_mut(index) {
            *place = Some(reach);
        }
    }

    /// Waits until no more connections than that have something to do in this stage.
    ///
    /// # Errors
    /// What has ended everything.
    pub(super) fn wait_until_busy_are(&self, connections: usize) -> Result<(), Failure> {
        while !self.wait(connections, None)? {}
        Ok(())
    }

    /// Waits until then, or until nobody has anything to do.
    ///
    /// # Errors
    /// What has ended everything.
    pub(super) fn wait_until(&self, end: Option<Instant>) -> Result<(), Failure> {
        while end.is_none_or(|end| clock::now() < end) && !self.wait(0, end)? {}
        Ok(())
    }

    /// Waits for a while. Whether no more than that are busy.
    fn wait(&self, busy: usize, end: Option<Instant>) -> Result<bool, Failure> {
        let mut failure = lock(&self.failure);
        let finished = || (self.finished.load(Ordering::Acquire) / STAGES_MAX) as usize;
        let is_done = || self.load.connections <= busy + finished();
        if failure.is_none() && !is_done() {
            let left = end.map_or(LATENCY_MAX, |end| end.saturating_duration_since(clock::now()));
            failure = match self.changed.wait_timeout(failure, left) {
                Ok((failure, _)) => failure,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        failure.take().map_or_else(|| Ok(is_done()), Err)
    }

    /// Tells connections when one of their requests is due, until then, or until all were made.
    ///
    /// # Errors
    /// What has ended everything.
    pub(super) fn pace(&self, rate: u64, end: Option<Instant>) -> Result<(), Failure> {
        let places: Vec<Reach> = lock(&self.places).iter().flatten().cloned().collect();
        let connections = places.len() as u64;
        let (began, interval) = (self.stage_began(), 1e9 / rate as f64);
        let mut told = 0;
        loop {
            let due = (self.now().saturating_sub(began) as f64 / interval) as u64 + 1;
            // Nobody has to be told twice.
            for number in told.max(due.saturating_sub(connections))..due {
                if let Some(place) = places.get((number % connections.max(1)) as usize) {
                    place.nudge();
                }
            }
            told = due;
            let next = self.began + Duration::from_nanos(began + (due as f64 * interval) as u64);
            let wake = next.max(clock::now() + PACE);
            let wake = end.map_or(wake, |end| wake.min(end));
            if self.wait(0, Some(wake))? || end.is_some_and(|end| clock::now() >= end) {
                return Ok(());
            }
        }
    }

    /// What became of it.
    pub(super) fn report(&self) -> Report {
        let mut all = Tally::new();
        for tally in &self.tallies {
            let tally = lock(tally);
            all.requests += tally.requests;
            all.errors += tally.errors;
            all.misses += tally.misses;
            all.unsent += tally.unsent;
            all.last = all.last.max(tally.last);
            all.first_error = all.first_error.or_else(|| tally.first_error.clone());
            // They have the same bounds.
            let _ = all.latencies.add(&tally.latencies);
        }
        let Tally { requests, errors, first_error, misses, unsent, last, latencies } = all;
        let answered = Duration::from_nanos(last.saturating_sub(self.stage_began()));
        let elapsed = match self.load.until {
            Until::Time(time) => answered.max(time),
            Until::Requests(_) => answered,
        };
        Report { requests, errors, first_error, misses, unsent, elapsed, latencies }
    }
}
