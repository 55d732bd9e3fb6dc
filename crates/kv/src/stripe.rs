//! A part of the keys, under one lock.

use hashbrown::HashTable;

use crate::DATABASES;
use crate::entry::Entry;
use xferd_os::{HashMap, prefetch};

/// The keys whose hashes say so, of all databases.
///
/// What every command needs comes first: with the lock before it, it fills one line of the processor's cache.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Stripe {
    table: HashTable<Entry>,
    /// Where the table has the tags by which it finds entries, as of the last entry that was put in; 0 before.
    tags_at: usize,
    /// Keys that were asked for and there.
    pub(crate) hits: u64,
    /// The snapshot that it is in, as [`Keyspace::save_first`](crate::Keyspace) numbers them.
    pub(crate) saved_in: u32,
    /// Something may have changed since [`Stripe::growth`] was asked last.
    is_changed: bool,
    /// There are keys that somebody wants to know the changes of.
    is_watched: bool,
    /// What [`Stripe::growth`] saw when it was asked last: bytes of memory, keys that have a deadline.
    told: (usize, usize),
    /// Keys of each database.
    lens: [u32; DATABASES],
    /// Keys of each database that have a deadline.
    expiring: [u32; DATABASES],
    /// Bytes of memory that the entries take.
    bytes: usize,
    /// Keys that somebody wants to know the changes of.
    watched: HashMap<(u8, Box<[u8]>), Watch>,
    pub(crate) counts: Counts,
}

/// What happened to the keys of a stripe, beside hits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
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
        let (bytes, expired) = (entry.bytes(), entry.deadline().is_some());
        let changed = change(entry);
        let (bytes_now, expires) = (entry.bytes(), entry.deadline().is_some());
        // Most changes leave both as they are, which are not at hand.
        if bytes_now != bytes {
            self.bytes = self.bytes - bytes + bytes_now;
            self.is_changed = true;
        }
        if expires != expired {
            let expiring = &mut self.expiring[usize::from(entry.database())];
            *expiring = *expiring - u32::from(expired) + u32::from(expires);
            self.is_changed = true;
        }
        Some(changed)
    }

    /// Puts in an entry whose key is not there.
    pub(crate) fn insert(&mut self, hash: u64, entry: Entry, hash_of: impl Fn(&Entry) -> u64) {
        self.count_in(&entry);
        let place = self.table.insert_unique(hash, entry, hash_of);
        self.tags_at = tags_at(place.get(), place.bucket_index());
    }

    /// Has the tags fetched that a key with this hash is found by.
    pub(crate) fn prefetch_tags(&self, hash: u64) {
        let places = self.table.num_buckets().max(1);
        prefetch(self.tags_at + (hash as usize & (places - 1)));
    }

    /// Has the entries fetched that may have this hash, once their tags are at hand.
    pub(crate) fn prefetch_entries(&self, hash: u64) {
        self.table.iter_hash(hash).for_each(|entry| prefetch(address(entry)));
    }

    /// Has what they hold fetched, once they are at hand.
    pub(crate) fn prefetch_contents(&self, hash: u64) {
        self.table.iter_hash(hash).for_each(|entry| prefetch(entry.contents_at()));
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
        if self.is_watched {
            if let Some(watch) = self.watched.get_mut(&(database, Box::from(key))) {
                watch.version += 1;
            }
        }
    }

    /// Watches a key from now on. Which version it has is compared with [`Stripe::version`].
    pub(crate) fn watch(&mut self, database: u8, key: &[u8]) -> u64 {
        self.is_watched = true;
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
                    self.is_watched = false;
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

/// Where a table has its tags, one byte for each place, if it has this entry at that place: entries come before them, the first
/// one last. The table does not tell, so this is good for fetching only; should it ever be otherwise, nothing is gained by that.
fn tags_at(entry: &Entry, place: usize) -> usize {
    address(entry).wrapping_add((place + 1).wrapping_mul(size_of::<Entry>()))
}

fn address<T>(what: &T) -> usize {
    std::ptr::from_ref(what).addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_where_they_are_fetched_from() {
        let mut stripe = Stripe::default();
        for number in 0..1000_u64 {
            let key = number.to_string();
            stripe.insert(number * 0x9e37_79b9, Entry::string(0, key.as_bytes(), b"", None), |_| 0);
            let places: Vec<usize> = (0..stripe.table.num_buckets())
                .filter_map(|place| Some(tags_at(stripe.table.get_bucket(place)?, place)))
                .collect();
            assert_eq!(places.len(), number as usize + 1);
            assert!(places.iter().all(|at| *at == stripe.tags_at), "each entry leads to the same place");
        }
    }
}
