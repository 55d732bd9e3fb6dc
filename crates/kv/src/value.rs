//! What a key can hold beside a short string.

use std::collections::VecDeque;
use std::mem::size_of;

use indexmap::{IndexMap, IndexSet};
use xferd_os::random::RandomState;

use crate::sorted_set::SortedSet;

/// An element of a list, a member of a set, a field or its value.
pub(crate) type Bytes = Box<[u8]>;

pub(crate) type List = Counted<VecDeque<Bytes>>;
pub(crate) type Set = Counted<IndexSet<Bytes, RandomState>>;
pub(crate) type Hash = Counted<IndexMap<Bytes, Bytes, RandomState>>;

/// What a key holds.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    String(Vec<u8>),
    List(List),
    Set(Set),
    Hash(Hash),
    SortedSet(Counted<SortedSet>),
}

/// A collection, the bytes of memory that its elements take beside their places in it, and whether Redis would keep it in its
/// compact form still: it does not go back to that.
#[derive(Clone, Debug)]
pub(crate) struct Counted<T> {
    pub(crate) items: T,
    pub(crate) bytes: usize,
    pub(crate) is_compact: bool,
}

impl<T: Default> Default for Counted<T> {
    fn default() -> Self {
        Self { items: T::default(), bytes: 0, is_compact: true }
    }
}

/// A kind of collection that a key can hold. No key holds an empty one.
pub(crate) trait Collection: Default {
    fn of(value: &Value) -> Option<&Self>;
    fn of_mut(value: &mut Value) -> Option<&mut Self>;
    fn into_value(self) -> Value;
    fn is_empty(&self) -> bool;
}

macro_rules! collections {
    ($($variant:ident($kind:ty)),*) => {$(
        impl Collection for $kind {
            fn of(value: &Value) -> Option<&Self> {
                if let Value::$variant(collection) = value { Some(collection) } else { None }
            }

            fn of_mut(value: &mut Value) -> Option<&mut Self> {
                if let Value::$variant(collection) = value { Some(collection) } else { None }
            }

            fn into_value(self) -> Value {
                Value::$variant(self)
            }

            fn is_empty(&self) -> bool {
                self.items.len() == 0
            }
        }
    )*};
}

collections!(List(List), Set(Set), Hash(Hash), SortedSet(Counted<SortedSet>));

impl Value {
    /// Bytes of memory it takes beside its own.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::String(bytes) => allocated(bytes.capacity()),
            Self::List(list) => list.bytes + allocated(list.items.capacity() * size_of::<Bytes>()),
            Self::Set(set) => set.bytes + indexed(set.items.capacity(), size_of::<Bytes>()),
            Self::Hash(hash) => hash.bytes + indexed(hash.items.capacity(), 2 * size_of::<Bytes>()),
            Self::SortedSet(set) => set.bytes + set.items.places_bytes(),
        }
    }

    /// As Redis would keep it.
    pub(crate) fn encoding(&self) -> &'static str {
        match self {
            Self::String(_) => "raw",
            Self::List(_) => "quicklist",
            Self::Set(set) if set.is_compact => "intset",
            Self::Set(_) => "hashtable",
            Self::Hash(hash) if hash.is_compact => "listpack",
            Self::Hash(_) => "hashtable",
            Self::SortedSet(set) if set.is_compact => "listpack",
            Self::SortedSet(_) => "skiplist",
        }
    }

    /// As TYPE names it.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::String(_) => "string",
            Self::List(_) => "list",
            Self::Set(_) => "set",
            Self::Hash(_) => "hash",
            Self::SortedSet(_) => "zset",
        }
    }
}

/// Bytes that an allocation takes of the heap: glibc adds 8 and rounds up to 16, from 32 on (malloc(3), `MALLOC_ALIGNMENT`
/// and `MINSIZE` of its malloc.c).
pub(crate) fn allocated(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        _ => (bytes + 8).next_multiple_of(16).max(32),
    }
}

/// Bytes that the places of a set or map of the crate indexmap take: each has its hash in a vector, and is pointed to by a table of
/// which at most 7/8 are used.
fn indexed(capacity: usize, item_bytes: usize) -> usize {
    if capacity == 0 {
        return 0;
    }
    let places = (capacity * 8 / 7).next_power_of_two();
    let entries = capacity * (item_bytes + size_of::<u64>());
    allocated(entries) + allocated(places * (size_of::<usize>() + 1) + TABLE_END_BYTES)
}

/// What a hash table has behind its control bytes, for it reads as many at once.
const TABLE_END_BYTES: usize = 16;

/// What a collection should shrink to that has few elements left for the places it has, if that is so. After that, as many as are
/// left must go before it is again.
pub(crate) fn shrunk(len: usize, capacity: usize) -> Option<usize> {
    const WORTH_IT: usize = 64;
    (capacity > WORTH_IT && len < capacity / 8).then_some(2 * len)
}
