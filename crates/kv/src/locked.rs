//! Keys while nobody else can see or change them.

use std::sync::MutexGuard;

use smallvec::SmallVec;
use xferd_wire::resp::{Args, encode_request};

use crate::entry::Entry;
use crate::keyspace::{Keyspace, Recorded, STRIPES, Stats, hash_of, stripe_of};
use crate::stripe::{Counts, Place, Stripe};

/// The stripes of some keys, locked, and what is done to them meanwhile.
pub struct Locked<'k> {
    keyspace: &'k Keyspace,
    /// In ascending order.
    stripes: SmallVec<[Held<'k>; 1]>,
    database: u8,
    now_ms: u64,
    /// The key that was hashed last, by where it is, and its hash: a command names it for its lock and then uses it.
    hashed: (usize, usize, u64),
    /// How often something was changed.
    changes: u64,
    /// What is to be recorded together, each with its database.
    recorded: Vec<Recorded>,
    /// Several commands are recorded together.
    gathering: bool,
    /// What is dropped once others can go on.
    gone: Vec<Entry>,
}

struct Held<'k> {
    index: usize,
    stripe: MutexGuard<'k, Stripe>,
}

/// Where a key is that was found, until something is inserted or removed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spot {
    held: usize,
    place: Place,
}

impl<'k> Locked<'k> {
    pub(crate) fn new(keyspace: &'k Keyspace, database: u8, now_ms: u64) -> Self {
        Self {
            keyspace,
            stripes: SmallVec::new(),
            database,
            now_ms,
            hashed: (0, 0, 0),
            changes: 0,
            recorded: Vec::new(),
            gathering: false,
            gone: Vec::new(),
        }
    }

    pub(crate) fn lock<'a>(&mut self, keys: impl IntoIterator<Item = &'a [u8]>) {
        let mut keys = keys.into_iter();
        let Some(first) = keys.next() else { return };
        let first = stripe_of(self.hash(first));
        let Some(second) = keys.next() else { return self.hold(first) };
        let second = stripe_of(self.keyspace.hash(second));
        let mut all: SmallVec<[usize; 16]> = [first, second].into_iter().collect();
        all.extend(keys.map(|key| stripe_of(self.keyspace.hash(key))));
        all.sort_unstable();
        all.dedup();
        all.into_iter().for_each(|index| self.hold(index));
    }

    pub(crate) fn lock_all(&mut self) {
        (0..STRIPES).for_each(|index| self.hold(index));
    }

    fn hold(&mut self, index: usize) {
        self.stripes.push(Held { index, stripe: self.keyspace.stripe(index) });
    }

    /// The database that keys are looked for in.
    pub fn database(&self) -> u8 {
        self.database
    }

    /// Goes on in another one.
    pub fn select(&mut self, database: u8) {
        self.database = database;
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    pub(crate) fn keyspace(&self) -> &'k Keyspace {
        self.keyspace
    }

    /// Looks for a key that is written, or asked about. One whose time has come is not there.
    pub(crate) fn find(&mut self, key: &[u8]) -> Option<Spot> {
        let (held, hash) = self.held(key);
        let database = self.database;
        let place = self.stripe(held).find(hash, database, key)?;
        let spot = Spot { held, place };
        match self.entry(spot).deadline() {
            Some(deadline) if deadline <= self.now_ms => {
                self.stripe(held).counts.expired += 1;
                self.drop_unasked(spot, key);
                None
            }
            _ => Some(spot),
        }
    }

    /// Looks for a key that is used, which keeps it from being evicted.
    pub(crate) fn find_used(&mut self, key: &[u8]) -> Option<Spot> {
        let spot = self.find(key)?;
        let policy = self.keyspace.policy();
        let dice = if policy == crate::Policy::AllKeysLfu { self.keyspace.dice() } else { 0 };
        let now_ms = self.asked_ms();
        if let Some(entry) = self.stripe(spot.held).at_mut(spot.place) {
            entry.set_access(policy.asked(entry.access(), now_ms, dice));
        }
        Some(spot)
    }

    /// Looks for a key that is read, and counts whether it was there.
    pub(crate) fn find_read(&mut self, key: &[u8]) -> Option<Spot> {
        let spot = self.find_used(key);
        match spot {
            Some(Spot { held, .. }) => self.stripe(held).hits += 1,
            None => {
                let (held, _) = self.held(key);
                self.stripe(held).counts.misses += 1;
            }
        }
        spot
    }

    pub(crate) fn entry(&self, spot: Spot) -> &Entry {
        self.stripes[spot.held]
            .stripe
            .at(spot.place)
            .expect("a spot holds until something is inserted or removed")
    }

    /// Changes what a key holds, or until when.
    pub(crate) fn change<T>(&mut self, spot: Spot, key: &[u8], change: impl FnOnce(&mut Entry) -> T) -> T {
        self.note_change(key);
        let changed = self.stripe(spot.held).change(spot.place, change);
        changed.expect("a spot holds until something is inserted or removed")
    }

    /// As [`Locked::change`], where only `change` knows whether it does.
    pub(crate) fn change_if<T>(
        &mut self,
        spot: Spot,
        key: &[u8],
        change: impl FnOnce(&mut Entry) -> (T, bool),
    ) -> T {
        let keyspace = self.keyspace;
        keyspace.save_first(self.stripe(spot.held));
        let done = self.stripe(spot.held).change(spot.place, change);
        let (done, changed) = done.expect("a spot holds until something is inserted or removed");
        if changed {
            self.note_change(key);
        }
        done
    }

    /// Puts in an entry under a key that is not there.
    pub(crate) fn insert(&mut self, key: &[u8], mut entry: Entry) {
        let (held, hash) = self.held(key);
        entry.set_access(self.keyspace.policy().begun(self.asked_ms()));
        self.note_change(key);
        let hash_of = hash_of(self.keyspace);
        self.stripes[held].stripe.insert(hash, entry, hash_of);
    }

    pub(crate) fn remove(&mut self, spot: Spot, key: &[u8]) -> Entry {
        self.note_change(key);
        let removed = self.stripe(spot.held).remove(spot.place);
        removed.expect("a spot holds until something is inserted or removed")
    }

    /// Has `key` be this, whatever it was.
    pub(crate) fn put(&mut self, key: &[u8], entry: Entry) {
        if let Some(spot) = self.find(key) {
            self.discard(spot, key);
        }
        self.insert(key, entry);
    }

    /// Calls `look` with each stripe, whether all are locked or none: then each is for that long.
    pub(crate) fn for_each_stripe(&mut self, mut look: impl FnMut(&mut Stripe)) {
        (0..STRIPES).for_each(|index| self.with_stripe(index, &mut look));
    }

    /// Calls `look` with one stripe, whether all are locked or none.
    pub(crate) fn with_stripe<T>(&mut self, index: usize, look: impl FnOnce(&mut Stripe) -> T) -> T {
        debug_assert!(self.stripes.is_empty() || self.stripes.len() == STRIPES, "all, or none");
        match self.stripes.get_mut(index) {
            Some(held) => look(&mut held.stripe),
            None => {
                self.hold(index);
                let looked = look(&mut self.stripes[0].stripe);
                self.release();
                looked
            }
        }
    }

    /// What is in all stripes, and what happened in them, whether all are locked or none.
    pub fn stats(&mut self) -> Stats {
        let mut stats = Stats::default();
        self.for_each_stripe(|stripe| {
            for (database, (keys, expires)) in stats.keys.iter_mut().zip(&mut stats.expires).enumerate() {
                *keys += stripe.len(database as u8) as u64;
                *expires += stripe.expiring_in(database as u8) as u64;
            }
            stats.memory += stripe.bytes() as u64;
            let Counts { misses, expired, evicted } = stripe.counts;
            stats.hits += stripe.hits;
            stats.misses += misses;
            stats.expired += expired;
            stats.evicted += evicted;
        });
        stats
    }

    /// Removes a key to make room.
    pub(crate) fn evict(&mut self, key: &[u8]) {
        if let Some(spot) = self.find(key) {
            self.stripe(spot.held).counts.evicted += 1;
            self.drop_unasked(spot, key);
        }
    }

    /// Removes the keys of a stripe whose time has come, of all databases. How many.
    pub(crate) fn expire_stripe(&mut self, index: usize) -> usize {
        let (now_ms, keyspace) = (self.now_ms, self.keyspace);
        self.with_stripe(index, |stripe| {
            let is_gone = |entry: &Entry| entry.deadline().is_some_and(|deadline| deadline <= now_ms);
            if stripe.expiring() == 0 || !stripe.entries().any(is_gone) {
                return 0;
            }
            keyspace.save_first(stripe);
            let gone = stripe.remove_if(|entry| is_gone(entry));
            for entry in &gone {
                stripe.touch(entry.database(), entry.key());
                keyspace.record_removal(entry.database(), entry.key());
            }
            stripe.counts.expired += gone.len() as u64;
            stripe.shrink(hash_of(keyspace));
            gone.len()
        })
    }

    pub(crate) fn watch(&mut self, key: &[u8]) -> u64 {
        // One that has expired already is watched as what is not there.
        self.find(key);
        let ((held, _), database) = (self.held(key), self.database);
        self.stripe(held).watch(database, key)
    }

    pub(crate) fn version(&mut self, database: u8, key: &[u8]) -> Option<u64> {
        let before = std::mem::replace(&mut self.database, database);
        self.find(key);
        self.database = before;
        let (held, _) = self.held(key);
        self.stripe(held).version(database, key)
    }

    /// Removes the keys for which `goes`, wherever they are. They are dropped once others can go on: that takes time if it is
    /// much.
    pub(crate) fn remove_everywhere(&mut self, goes: impl Fn(&Entry) -> bool) {
        let keyspace = self.keyspace;
        let mut gone = std::mem::take(&mut self.gone);
        self.for_each_stripe(|stripe| {
            let removed = stripe.remove_if(|entry| goes(entry));
            removed.iter().for_each(|entry| stripe.touch(entry.database(), entry.key()));
            stripe.shrink(hash_of(keyspace));
            gone.extend(keyspace.save_later(stripe, removed));
        });
        self.gone = gone;
        self.changes += 1;
    }

    /// Removes a key and drops what it held, later if that may be much.
    pub(crate) fn discard(&mut self, spot: Spot, key: &[u8]) {
        let gone = self.remove(spot, key);
        if gone.value().is_some() {
            self.gone.push(gone);
        }
    }

    /// How often something was changed.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// What comes is recorded together with all until [`Locked::record_together`].
    pub fn gather_records(&mut self) {
        self.gathering = true;
    }

    /// Records what was gathered.
    pub fn record_together(&mut self) {
        self.gathering = false;
        self.flush_records();
    }

    /// Has the command be recorded as this one; called again, as all of them.
    pub(crate) fn record_as<'a>(
        &mut self,
        args: impl IntoIterator<Item = &'a [u8], IntoIter: ExactSizeIterator>,
    ) {
        if self.keyspace.recorder().is_some() {
            // Most requests fit.
            let mut request = Vec::with_capacity(128);
            encode_request(args, &mut request);
            self.recorded.push(Recorded { database: self.database, request });
        }
    }

    /// A command has ended that changed something, or not. What it did is recorded as it is, unless it said otherwise.
    pub(crate) fn end_command(&mut self, args: Args<'_>, said_before: usize, changed: bool) {
        if changed && self.recorded.len() == said_before {
            self.record_as(args.iter());
        }
        self.flush_records();
    }

    /// How much was said to be recorded.
    pub(crate) fn said(&self) -> usize {
        self.recorded.len()
    }

    fn flush_records(&mut self) {
        if self.gathering || self.recorded.is_empty() {
            return;
        }
        if let Some(recorder) = self.keyspace.recorder() {
            recorder.record(&self.recorded);
        }
        self.recorded.clear();
    }

    /// Removes what no command asked to remove.
    fn drop_unasked(&mut self, spot: Spot, key: &[u8]) {
        let changes = self.changes;
        self.discard(spot, key);
        self.changes = changes;
        self.keyspace.record_removal(self.database, key);
    }

    /// A key is about to be changed.
    fn note_change(&mut self, key: &[u8]) {
        self.changes += 1;
        let ((held, _), database) = (self.held(key), self.database);
        let keyspace = self.keyspace;
        keyspace.save_first(self.stripe(held));
        self.stripe(held).touch(database, key);
    }

    /// When keys were asked for that are. While what was recorded is done again no time passes, but somebody is waiting.
    fn asked_ms(&self) -> u64 {
        if self.now_ms == 0 { self.keyspace.clock().began_ms() } else { self.now_ms }
    }

    fn stripe(&mut self, held: usize) -> &mut Stripe {
        &mut self.stripes[held].stripe
    }

    /// Which of the stripes that are held has `key`, and its hash.
    fn held(&mut self, key: &[u8]) -> (usize, u64) {
        let hash = self.hash(key);
        let held = match self.stripes.len() {
            1 => 0,
            STRIPES => stripe_of(hash),
            _ => {
                let found = self.stripes.binary_search_by_key(&stripe_of(hash), |held| held.index);
                found.expect("a command uses the keys that it names")
            }
        };
        debug_assert_eq!(self.stripes[held].index, stripe_of(hash), "a command uses the keys that it names");
        (held, hash)
    }

    fn hash(&mut self, key: &[u8]) -> u64 {
        let (at, len, hash) = self.hashed;
        if (key.as_ptr() as usize, key.len()) == (at, len) {
            return hash;
        }
        let hash = self.keyspace.hash(key);
        self.hashed = (key.as_ptr() as usize, key.len(), hash);
        hash
    }

    fn release(&mut self) {
        for Held { stripe, .. } in &mut self.stripes {
            if let Some((memory, expiring)) = stripe.growth() {
                self.keyspace.count(memory, expiring);
            }
        }
        self.stripes.clear();
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.release();
    }
}
