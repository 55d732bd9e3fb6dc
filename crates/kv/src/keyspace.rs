//! All keys, in stripes that are locked apart.

use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;
use xferd_os::prefetch;
use xferd_os::random::{self, RandomState};
use xferd_os::{scaled, seeded};
use xferd_wire::resp::encode_request;

use crate::clock::Clock;
use crate::entry::Entry;
use crate::eviction::Policy;
use crate::locked::Locked;
use crate::log::{Base, lock};
use crate::refused::Refused;
use crate::stripe::{Counts, Stripe};

/// Stripes: with ten million keys one of them has 2,400, which is what anybody ever waits for who needs a key while all are
/// being walked through. An empty one takes about 200 bytes.
pub(crate) const STRIPES: usize = scaled(4096) as usize;

/// Keys that are looked at for the one that goes. With 10, Redis's approximation of LRU is close to the true one
/// (redis.io, "Key eviction").
const EVICTION_SAMPLES: usize = 10;

/// Keys that are fetched together.
pub const EXPECTED_MAX: usize = 16;

/// What a keyspace may take.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Bytes of memory that keys may take; `None` for as much as there is.
    pub memory_max: Option<u64>,
    /// What happens then.
    pub policy: Policy,
}

/// What is in a keyspace, and what happened in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Keys of each database.
    pub keys: [u64; crate::DATABASES],
    /// Keys of each database that have a deadline.
    pub expires: [u64; crate::DATABASES],
    /// Bytes of memory that they take.
    pub memory: u64,
    /// Keys that were asked for and there.
    pub hits: u64,
    /// Keys that were asked for and not there.
    pub misses: u64,
    /// Keys whose time had come.
    pub expired: u64,
    /// Keys that made room for others.
    pub evicted: u64,
}

/// Learns what has changed, in the order in which it did: the keys are locked meanwhile.
pub trait Recorder: Send + Sync {
    /// Takes requests that do the same again. They are carried out together, or not at all.
    fn record(&self, requests: &[Recorded]);

    /// Why it does that no more. Nothing is to be changed then.
    fn failure(&self) -> Option<&str> {
        None
    }
}

/// One of them.
#[derive(Debug)]
pub struct Recorded {
    /// The database that it is for.
    pub database: u8,
    /// It, as a client would send it.
    pub request: Vec<u8>,
}

/// Keys and what they hold.
pub struct Keyspace {
    stripes: Box<[Line]>,
    hasher: RandomState,
    clock: Clock,
    dice: AtomicU64,
    memory_max: AtomicU64,
    policy: AtomicU8,
    /// Bytes that entries and tables take, as of the last change of each stripe.
    memory: AtomicUsize,
    /// Keys that have a deadline, likewise.
    expiring: AtomicUsize,
    /// The stripe that is looked through next for keys whose time has come.
    next_to_expire: AtomicUsize,
    recorder: OnceLock<Arc<dyn Recorder>>,
    /// The number of the snapshot that was begun last. It changes while every stripe is locked.
    snapshot: AtomicU32,
    /// Where that is written, until it is complete or given up.
    base: Mutex<Option<Base>>,
}

/// A stripe from the beginning of a line of the processor's cache on.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Line(Mutex<Stripe>);

/// A key that is watched, and how often it had changed by then.
#[derive(Debug)]
pub struct Watched {
    database: u8,
    key: Box<[u8]>,
    version: u64,
}

impl Default for Keyspace {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Keyspace {
    /// An empty one.
    pub fn new(limits: Limits) -> Self {
        let keyspace = Self {
            stripes: (0..STRIPES).map(|_| Line::default()).collect(),
            hasher: RandomState::default(),
            clock: Clock::starting(0),
            dice: AtomicU64::new(random::number()),
            memory_max: AtomicU64::new(0),
            policy: AtomicU8::new(0),
            memory: AtomicUsize::new(0),
            expiring: AtomicUsize::new(0),
            next_to_expire: AtomicUsize::new(0),
            recorder: OnceLock::new(),
            snapshot: AtomicU32::new(0),
            base: Mutex::new(None),
        };
        keyspace.set_limits(limits);
        keyspace
    }

    /// What it may take.
    pub fn limits(&self) -> Limits {
        let memory_max = self.memory_max.load(Ordering::Relaxed);
        Limits { memory_max: (memory_max > 0).then_some(memory_max), policy: self.policy() }
    }

    /// Changes what it may take. What is there goes when something is put in next.
    pub fn set_limits(&self, limits: Limits) {
        self.memory_max.store(limits.memory_max.unwrap_or(0), Ordering::Relaxed);
        self.policy.store(limits.policy as u8, Ordering::Relaxed);
    }

    /// Has every change be recorded from now on. What was set first stays.
    pub fn record(&self, recorder: Arc<dyn Recorder>) {
        // Nothing was set before, or it stays.
        let _ = self.recorder.set(recorder);
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// Has it not be earlier than what was noted when it was last used.
    pub(crate) fn not_before(&mut self, at_least_ms: u64) {
        self.clock = Clock::starting(at_least_ms);
    }

    /// Milliseconds since 1970, as deadlines are meant.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Locks what holds `keys`, in the order that keeps two who do so from waiting for each other.
    pub fn lock<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a [u8]>,
        database: u8,
        now_ms: u64,
    ) -> Locked<'_> {
        let mut locked = Locked::new(self, database, now_ms);
        locked.lock(keys);
        locked
    }

    /// Locks every key.
    pub fn lock_all(&self, database: u8, now_ms: u64) -> Locked<'_> {
        let mut locked = Locked::new(self, database, now_ms);
        locked.lock_all();
        locked
    }

    /// Locks nothing: for who looks at one stripe after the other.
    pub fn unlocked(&self, database: u8, now_ms: u64) -> Locked<'_> {
        Locked::new(self, database, now_ms)
    }

    /// Has the processor fetch what is needed for these keys, at most [`EXPECTED_MAX`] of them, which are about to be asked for one
    /// after the other.
    ///
    /// In a table that no cache holds finding a key is waiting for memory, four times one after the other: for the stripe, the tags in
    /// its table, the entry, the key in it. Here each is waited for once for all keys.
    pub fn expect<'a>(&self, keys: impl IntoIterator<Item = &'a [u8]>) {
        let hashes = keys.into_iter().take(EXPECTED_MAX).map(|key| self.hash(key));
        let hashes: SmallVec<[u64; EXPECTED_MAX]> = hashes.collect();
        for hash in &hashes {
            prefetch(std::ptr::from_ref(&self.stripes[stripe_of(*hash)]).addr());
        }
        for fetch in [Stripe::prefetch_tags, Stripe::prefetch_entries, Stripe::prefetch_contents] {
            for hash in &hashes {
                // Who has it has it at hand as well, most likely.
                if let Ok(stripe) = self.stripes[stripe_of(*hash)].0.try_lock() {
                    fetch(&stripe, *hash);
                }
            }
        }
    }

    /// Watches a key, which is to be [unwatched](Keyspace::unwatch).
    pub fn watch(&self, database: u8, key: &[u8], now_ms: u64) -> Watched {
        let mut locked = self.lock([key], database, now_ms);
        let version = locked.watch(key);
        Watched { database, key: key.into(), version }
    }

    /// Ends that.
    pub fn unwatch(&self, watched: Watched) {
        let hash = self.hash(&watched.key);
        self.stripe(stripe_of(hash)).unwatch(watched.database, &watched.key);
    }

    /// What is in it, and what happened in it.
    pub fn stats(&self) -> Stats {
        self.unlocked(0, 0).stats()
    }

    /// Forgets what happened in it.
    pub fn reset_stats(&self) {
        for index in 0..STRIPES {
            let mut stripe = self.stripe(index);
            (stripe.hits, stripe.counts) = (0, Counts::default());
        }
    }

    /// Bytes of memory that keys take.
    pub fn memory(&self) -> u64 {
        self.memory.load(Ordering::Relaxed) as u64
    }

    /// Whether any key has a deadline.
    pub fn has_deadlines(&self) -> bool {
        self.expiring.load(Ordering::Relaxed) > 0
    }

    /// Removes keys whose time has come from the next `stripes` stripes, at most for `patience`. How many it removed.
    pub fn expire(&self, stripes: usize, patience: Duration) -> usize {
        let until = xferd_os::clock::now() + patience;
        let mut expired = 0;
        for _ in 0..stripes.min(STRIPES) {
            if !self.has_deadlines() || xferd_os::clock::now() >= until {
                break;
            }
            let index = self.next_to_expire.fetch_add(1, Ordering::Relaxed) % STRIPES;
            expired += self.unlocked(0, self.now_ms()).expire_stripe(index);
        }
        expired
    }

    /// Makes room if keys take more than they may.
    ///
    /// # Errors
    /// [`Refused::OutOfMemory`] if nothing can go, or may.
    pub fn make_room(&self, now_ms: u64) -> Result<(), Refused> {
        let max = self.memory_max.load(Ordering::Relaxed);
        while max > 0 && self.memory() > max {
            let (database, key) = self.worst(now_ms).ok_or(Refused::OutOfMemory)?;
            self.lock([&*key], database, now_ms).evict(&key);
        }
        Ok(())
    }

    /// Of some keys, the one that should go first.
    fn worst(&self, now_ms: u64) -> Option<(u8, Box<[u8]>)> {
        let policy = self.policy();
        let mut worst: Option<(u64, u8, Box<[u8]>)> = None;
        if policy == Policy::NoEviction || (policy == Policy::VolatileTtl && !self.has_deadlines()) {
            return None;
        }
        let (mut samples, first) = (0, stripe_of(self.dice()));
        // Where few stripes have a candidate, each is tried once.
        for attempt in 0..EVICTION_SAMPLES + STRIPES {
            if samples == EVICTION_SAMPLES {
                break;
            }
            let dice = self.dice();
            let index =
                if attempt < EVICTION_SAMPLES { stripe_of(dice) } else { (first + attempt) % STRIPES };
            let stripe = self.stripe(index);
            let candidate = match policy {
                // Few of many keys may have a deadline.
                Policy::VolatileTtl if stripe.expiring() > 0 => stripe
                    .entries()
                    .filter_map(|entry| Some((policy.rank(entry, now_ms)?, entry)))
                    .max_by_key(|(rank, _)| *rank),
                Policy::VolatileTtl => None,
                _ => stripe.any_from(dice).and_then(|place| {
                    let entry = stripe.at(place)?;
                    Some((policy.rank(entry, now_ms)?, entry))
                }),
            };
            if let Some((rank, entry)) = candidate {
                samples += 1;
                if worst.as_ref().is_none_or(|(worst, ..)| rank > *worst) {
                    worst = Some((rank, entry.database(), entry.key().into()));
                }
            }
        }
        worst.map(|(_, database, key)| (database, key))
    }

    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key);
        hasher.finish()
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy::of(self.policy.load(Ordering::Relaxed))
    }

    /// Any number.
    pub(crate) fn dice(&self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), each step of which another thread may take.
        let z = self.dice.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn stripe(&self, index: usize) -> MutexGuard<'_, Stripe> {
        // Whoever panicked while he had it left it whole: each change is one call.
        self.stripes[index].0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has all that is there be written to `base` as it is at this instant, and calls `cut` at it.
    ///
    /// # Errors
    /// Those of `cut`: then nothing is written.
    pub(crate) fn begin_snapshot(&self, base: Base, cut: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let every_stripe = self.lock_all(0, self.now_ms());
        cut()?;
        *lock(&self.base) = Some(base);
        self.snapshot.fetch_add(1, Ordering::Relaxed);
        drop(every_stripe);
        Ok(())
    }

    /// Ends that. What was not saved is not.
    pub(crate) fn end_snapshot(&self) -> Option<Base> {
        lock(&self.base).take()
    }

    /// Saves a stripe that nobody had to save before, and says whether that goes on.
    pub(crate) fn save_stripe(&self, index: usize) -> bool {
        let mut stripe = self.stripe(index);
        if self.is_unsaved(&stripe) {
            self.save(&mut stripe);
        }
        drop(stripe);
        lock(&self.base).as_ref().is_some_and(|base| !base.has_failed())
    }

    /// Saves some of what was removed before it was saved; `false` if there was none.
    pub(crate) fn save_deferred(&self) -> bool {
        let mut base = lock(&self.base);
        let Some(base) = &mut *base else { return false };
        let Some(entries) = base.take_deferred() else { return false };
        base.save(entries.iter(), self.now_ms());
        true
    }

    /// Whoever is about to change a stripe saves it first, as long as a snapshot has not come to it. What is recorded about it
    /// until then is before the snapshot, and all that comes is after it.
    #[inline]
    pub(crate) fn save_first(&self, stripe: &mut Stripe) {
        if self.is_unsaved(stripe) && !seeded!(StripeSavedLate) {
            self.save(stripe);
        }
    }

    /// Whether a snapshot has yet to come to it.
    #[inline]
    fn is_unsaved(&self, stripe: &Stripe) -> bool {
        stripe.saved_in != self.snapshot.load(Ordering::Relaxed)
    }

    #[cold]
    fn save(&self, stripe: &mut Stripe) {
        stripe.saved_in = self.snapshot.load(Ordering::Relaxed);
        if let Some(base) = &mut *lock(&self.base) {
            base.save(stripe.entries(), self.now_ms());
        }
    }

    /// Takes what was removed from a stripe if a snapshot has yet to come to that, and else gives it back.
    pub(crate) fn save_later(&self, stripe: &Stripe, gone: Vec<Entry>) -> Vec<Entry> {
        match &mut *lock(&self.base) {
            Some(base) if self.is_unsaved(stripe) => {
                base.save_later(gone);
                Vec::new()
            }
            _ => gone,
        }
    }

    /// Whether what changes is recorded still.
    ///
    /// # Errors
    /// As Redis says it: `MISCONF`.
    pub(crate) fn check_recorder(&self) -> Result<(), Refused> {
        match self.recorder().and_then(Recorder::failure) {
            None => Ok(()),
            Some(failure) => Err(Refused::Told(format!("MISCONF Errors writing to the AOF file: {failure}"))),
        }
    }

    pub(crate) fn recorder(&self) -> Option<&dyn Recorder> {
        self.recorder.get().map(|recorder| &**recorder)
    }

    /// A key is gone that no command removed.
    pub(crate) fn record_removal(&self, database: u8, key: &[u8]) {
        if let Some(recorder) = self.recorder() {
            let mut request = Vec::new();
            encode_request([b"DEL", key], &mut request);
            recorder.record(&[Recorded { database, request }]);
        }
    }

    /// A stripe has so much less or more than before.
    pub(crate) fn count(&self, memory: isize, expiring: isize) {
        if memory != 0 {
            self.memory.fetch_add(memory as usize, Ordering::Relaxed);
        }
        if expiring != 0 {
            self.expiring.fetch_add(expiring as usize, Ordering::Relaxed);
        }
    }
}

impl Watched {
    /// Whether the key has changed, or expired, since. Its stripe is locked by `locked`.
    pub fn has_changed(&self, locked: &mut Locked<'_>) -> bool {
        locked.version(self.database, &self.key) != Some(self.version)
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.key
    }
}

impl fmt::Debug for Keyspace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Keyspace").field("memory", &self.memory()).finish_non_exhaustive()
    }
}

/// Which stripe a hash belongs to: by bits that the table of a stripe uses neither for places (the lower ones) nor to
/// tell entries apart (the upper seven).
pub(crate) fn stripe_of(hash: u64) -> usize {
    (hash >> 40) as usize % STRIPES
}

/// The hash of an entry, when a table grows.
pub(crate) fn hash_of(keyspace: &Keyspace) -> impl Fn(&Entry) -> u64 + '_ {
    |entry| keyspace.hash(entry.key())
}
