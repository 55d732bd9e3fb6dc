//! A part of the keys, under one lock.

use hashbrown::HashTable;

use crate::DATABASES;
use crate::entry::Entry;
use xferd_os::HashMap;

/// The keys whose hashes say so, of all databases.
#[derive(Debug, Default)]
pub(crate) struct Stripe {
    table: HashTable<Entry>,
    /// Keys of each database.
    lens: [u32; DATABASES],
    /// Keys of each database that have a deadline.
    expiring: [u32; DATABASES],
    /// Bytes of memory that the entries take.
    bytes: usize,
    /// Something may have changed since [`Stripe::growth`] was asked last, and what it saw then: bytes of memory, keys that have
    /// a deadline.
    is_changed: bool,
    told: (usize, usize),
    /// Keys that somebody wants to know the changes of.
    watched: HashMap<(u8, Box<[u8]>), Watch>,
    pub(crate) counts: Counts,
    /// The snapshot that it is in, as [`Keyspace::save_first`](crate::Keyspace) numbers them.
    pub(crate) saved_in: u32,
}

/// What happened to the keys of a stripe.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) expired: u64,
    pub(crate) evicted: u64,
}

#[derive(Debug, Default)]
struct Watch {
    watchers: usize,
    /// How often it changed since it is watched.
    version: u64,
}

/// Where a key is, until the next is put in or removed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place(usize);

impl Stripe {
    pub(crate) fn find(&self, hash: u64, database: u8, key: &[u8]) -> Option<Place> {
        self.table.find_bucket_index(hash, |entry| entry.is(database, key)).map(Place)
    }

    pub(crate) fn at(&self, place: Place) -> Option<&Entry> {
        self.table.get_bucket(place.0)
    }

    /// For changes that leave the deadline and the memory taken as they are.
    pub(crate) fn at_mut(&mut self, place: Place) -> Option<&mut Entry> {
        self.table.get_bucket_mut(place.0)
    }

    /// Changes an entry, and counts what that does to memory and deadlines.
    pub(crate) fn change<T>(&mut self, place: Place, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let entry = self.table.get_bucket_mut(place.0)?;
        self.is_changed = true;
        let (bytes, expired) = (entry.bytes(), entry.deadline().is_some());
        let changed = change(entry);
        self.bytes = self.bytes - bytes + entry.bytes();
        if let Some(expiring) = self.expiring.get_mut(usize::from(entry.database())) {
            *expiring = *expiring - u32::from(expired) + u32::from(entry.deadline().is_some());
        }
        Some(changed)
    }

    /// Puts in an entry whose key is not there.
    pub(crate) fn insert(&mut self, hash: u64, entry: Entry, hash_of: impl Fn(&Entry) -> u64) {
        self.count_in(&entry);
        self.table.insert_unique(hash, entry, hash_of);
    }

    pub(crate) fn remove(&mut self, place: Place) -> Option<Entry> {
        let (entry, _) = self.table.get_bucket_entry(place.0).ok()?.remove();
        self.count_out(&entry);
        Some(entry)
    }

    /// Removes the entries for which `goes`.
    pub(crate) fn remove_if(&mut self, goes: impl FnMut(&mut Entry) -> bool) -> Vec<Entry> {
        let gone: Vec<Entry> = self.table.extract_if(goes).collect();
        gone.iter().for_each(|entry| self.count_out(entry));
        gone
    }

    /// Gives back memory that so few entries do not need.
    pub(crate) fn shrink(&mut self, hash_of: impl Fn(&Entry) -> u64) {
        self.is_changed = true;
        if self.table.capacity() > 4 * self.table.len() + 16 {
            self.table.shrink_to(2 * self.table.len(), hash_of);
        }
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.table.iter()
    }

    /// Where the entry is that is at or after `number`, modulo the places there are, or the first one.
    pub(crate) fn any_from(&self, number: u64) -> Option<Place> {
        let places = self.table.num_buckets();
        if self.table.is_empty() || places == 0 {
            return None;
        }
        let first = number as usize % places;
        (first..places).chain(0..first).find(|place| self.table.get_bucket(*place).is_some()).map(Place)
    }

    pub(crate) fn len(&self, database: u8) -> usize {
        self.lens.get(usize::from(database)).map_or(0, |len| *len as usize)
    }

    /// Keys that have a deadline.
    pub(crate) fn expiring(&self) -> usize {
        self.expiring.iter().sum::<u32>() as usize
    }

    /// Those of one database.
    pub(crate) fn expiring_in(&self, database: u8) -> usize {
        self.expiring.get(usize::from(database)).map_or(0, |expiring| *expiring as usize)
    }

    /// Bytes of memory taken by what is in it, its table included.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.table.allocation_size()
    }

    /// How many bytes of memory, and keys that have a deadline, there are more, or fewer, than when this was asked last; `None` if
    /// nothing has changed.
    #[inline]
    pub(crate) fn growth(&mut self) -> Option<(isize, isize)> {
        if !std::mem::take(&mut self.is_changed) {
            return None;
        }
        let now = (self.bytes(), self.expiring());
        let (bytes, expiring) = std::mem::replace(&mut self.told, now);
        Some((now.0 as isize - bytes as isize, now.1 as isize - expiring as isize))
    }

    /// Whoever watches the key is to know that it changed.
    pub(crate) fn touch(&mut self, database: u8, key: &[u8]) {
        if !self.watched.is_empty() {
            if let Some(watch) = self.watched.get_mut(&(database, Box::from(key))) {
                watch.version += 1;
            }
        }
    }

    /// Watches a key from now on. Which version it has is compared with [`Stripe::version`].
    pub(crate) fn watch(&mut self, database: u8, key: &[u8]) -> u64 {
        let watch = self.watched.entry((database, Box::from(key))).or_default();
        watch.watchers += 1;
        watch.version
    }

    pub(crate) fn unwatch(&mut self, database: u8, key: &[u8]) {
        let name = (database, Box::from(key));
        if let Some(watch) = self.watched.get_mut(&name) {
            watch.watchers -= 1;
            if watch.watchers == 0 {
                self.watched.remove(&name);
                if self.watched.is_empty() {
                    self.watched = HashMap::default();
                }
            }
        }
    }

    pub(crate) fn version(&self, database: u8, key: &[u8]) -> Option<u64> {
        self.watched.get(&(database, Box::from(key))).map(|watch| watch.version)
    }

    fn count_in(&mut self, entry: &Entry) {
        self.is_changed = true;
        let database = usize::from(entry.database());
        self.bytes += entry.bytes();
        self.lens[database] += 1;
        self.expiring[database] += u32::from(entry.deadline().is_some());
    }

    fn count_out(&mut self, entry: &Entry) {
        self.is_changed = true;
        let database = usize::from(entry.database());
        self.bytes -= entry.bytes();
        self.lens[database] -= 1;
        self.expiring[database] -= u32::from(entry.deadline().is_some());
    }
}
