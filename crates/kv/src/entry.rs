//! A key and what it holds, in sixteen bytes and one allocation for what is small.

use std::mem::size_of;

use crate::DATABASES;
use crate::value::{Value, allocated};

/// Values up to this size are kept in one allocation with their key. A longer one is likely to grow, or costs so much more
/// than a second allocation that that does not matter.
const SMALL_VALUE_BYTES_MAX: usize = 1024;
/// The length of a small one's key is a byte.
const SMALL_KEY_BYTES_MAX: usize = u8::MAX as usize;

/// A key, what it holds, until when, and when it was last asked for.
#[derive(Debug)]
pub(crate) enum Entry {
    /// A short string: when it was last asked for (4 bytes), flags, the length of the key, when it expires (8 bytes, if it
    /// does), the key, the value.
    Small(Box<[u8]>),
    Large(Box<Large>),
}

const _: () = assert!(size_of::<Entry>() == 16 && DATABASES <= 1 << DATABASE_BITS);

#[derive(Debug)]
pub(crate) struct Large {
    key: Box<[u8]>,
    pub(crate) value: Value,
    deadline: Option<u64>,
    access: u32,
    flags: u8,
}

const DATABASE_BITS: u32 = 4;
const DATABASE_MASK: u8 = (1 << DATABASE_BITS) - 1;
/// It has a deadline.
const EXPIRES: u8 = 1 << 4;
/// A string that was changed in place, which Redis calls raw however short it is.
const RAW: u8 = 1 << 5;

const FLAGS_AT: usize = 4;
const KEY_LENGTH_AT: usize = 5;
const BODY_AT: usize = 6;
const DEADLINE_BYTES: usize = 8;

impl Entry {
    pub(crate) fn string(database: u8, key: &[u8], value: &[u8], deadline: Option<u64>) -> Self {
        if key.len() > SMALL_KEY_BYTES_MAX || value.len() > SMALL_VALUE_BYTES_MAX {
            return Self::new(database, key, Value::String(value.to_vec()), deadline);
        }
        let flags = database | if deadline.is_some() { EXPIRES } else { 0 };
        Self::Small(packed([0; 4], flags, deadline, key, value))
    }

    pub(crate) fn new(database: u8, key: &[u8], value: Value, deadline: Option<u64>) -> Self {
        Self::Large(Box::new(Large { key: key.into(), value, deadline, access: 0, flags: database }))
    }

    pub(crate) fn is(&self, database: u8, key: &[u8]) -> bool {
        match self {
            Self::Small(bytes) => {
                // The length first: it is in the same cache line as the flags, and most likely not the same.
                let from = Self::key_at(bytes);
                bytes[FLAGS_AT] & DATABASE_MASK == database
                    && usize::from(bytes[KEY_LENGTH_AT]) == key.len()
                    && bytes[from..from + key.len()] == *key
            }
            Self::Large(large) => large.flags & DATABASE_MASK == database && *large.key == *key,
        }
    }

    pub(crate) fn key(&self) -> &[u8] {
        match self {
            Self::Small(bytes) => {
                let from = Self::key_at(bytes);
                &bytes[from..from + usize::from(bytes[KEY_LENGTH_AT])]
            }
            Self::Large(large) => &large.key,
        }
    }

    pub(crate) fn database(&self) -> u8 {
        self.flags() & DATABASE_MASK
    }

    /// When it expires, in milliseconds since 1970.
    pub(crate) fn deadline(&self) -> Option<u64> {
        match self {
            Self::Small(bytes) if bytes[FLAGS_AT] & EXPIRES == 0 => None,
            Self::Small(bytes) => {
                bytes.get(BODY_AT..).and_then(|body| body.first_chunk()).map(|at| u64::from_le_bytes(*at))
            }
            Self::Large(large) => large.deadline,
        }
    }

    pub(crate) fn set_deadline(&mut self, deadline: Option<u64>) {
        match self {
            Self::Small(bytes) => {
                let has_place = bytes[FLAGS_AT] & EXPIRES != 0;
                match deadline {
                    Some(at) if has_place => {
                        bytes[BODY_AT..BODY_AT + DEADLINE_BYTES].copy_from_slice(&at.to_le_bytes());
                    }
                    None if !has_place => {}
                    _ => {
                        let flags = bytes[FLAGS_AT] & !EXPIRES | if deadline.is_some() { EXPIRES } else { 0 };
                        let (key, value) = Self::key_and_value(bytes);
                        *bytes = packed(access_of(bytes), flags, deadline, key, value);
                    }
                }
            }
            Self::Large(large) => large.deadline = deadline,
        }
    }

    /// What eviction keeps of when, or how often, it was asked for.
    pub(crate) fn access(&self) -> u32 {
        match self {
            Self::Small(bytes) => u32::from_le_bytes(access_of(bytes)),
            Self::Large(large) => large.access,
        }
    }

    pub(crate) fn set_access(&mut self, access: u32) {
        match self {
            Self::Small(bytes) => bytes[..FLAGS_AT].copy_from_slice(&access.to_le_bytes()),
            Self::Large(large) => large.access = access,
        }
    }

    /// Its bytes if it is a string.
    pub(crate) fn as_string(&self) -> Option<&[u8]> {
        match self {
            Self::Small(bytes) => Some(Self::key_and_value(bytes).1),
            Self::Large(large) => match &large.value {
                Value::String(bytes) => Some(bytes),
                _ => None,
            },
        }
    }

    /// What it holds if that is no string in one allocation with its key.
    pub(crate) fn value(&self) -> Option<&Value> {
        match self {
            Self::Small(_) => None,
            Self::Large(large) => Some(&large.value),
        }
    }

    /// As [`Entry::value`].
    pub(crate) fn value_mut(&mut self) -> Option<&mut Value> {
        match self {
            Self::Small(_) => None,
            Self::Large(large) => Some(&mut large.value),
        }
    }

    /// Makes it a string; the deadline stays.
    pub(crate) fn set_string(&mut self, value: &[u8]) {
        if let Self::Small(bytes) = self {
            let at = bytes.len() - Self::key_and_value(bytes).1.len();
            if let Some(place) = bytes.get_mut(at..).filter(|place| place.len() == value.len()) {
                place.copy_from_slice(value);
                bytes[FLAGS_AT] &= !RAW;
                return;
            }
        }
        let mut new = Self::string(self.database(), self.key(), value, self.deadline());
        new.set_access(self.access());
        *self = new;
    }

    /// Changes the bytes of a string in place, from where on Redis calls it raw.
    pub(crate) fn change_string(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        match self {
            Self::Large(large) => {
                if let Value::String(bytes) = &mut large.value {
                    change(bytes);
                }
            }
            Self::Small(bytes) => {
                let mut value = Self::key_and_value(bytes).1.to_vec();
                change(&mut value);
                self.set_string(&value);
            }
        }
        self.set_raw(true);
    }

    /// Whether it is a string that was changed in place.
    pub(crate) fn is_raw(&self) -> bool {
        self.flags() & RAW != 0
    }

    /// The same under another name.
    pub(crate) fn renamed(self, database: u8, key: &[u8]) -> Self {
        match self {
            Self::Large(mut large) => {
                large.key = key.into();
                large.flags = large.flags & !DATABASE_MASK | database;
                Self::Large(large)
            }
            Self::Small(_) => self.copied(database, key),
        }
    }

    /// A copy of it under another name.
    pub(crate) fn copied(&self, database: u8, key: &[u8]) -> Self {
        let mut copy = match self {
            Self::Small(_) => {
                Self::string(database, key, self.as_string().unwrap_or_default(), self.deadline())
            }
            Self::Large(large) => Self::new(database, key, large.value.clone(), large.deadline),
        };
        copy.set_access(self.access());
        copy.set_raw(self.is_raw());
        copy
    }

    /// Where its key is, or what leads there.
    pub(crate) fn contents_at(&self) -> usize {
        match self {
            Self::Small(bytes) => bytes.as_ptr().addr(),
            Self::Large(large) => std::ptr::from_ref(&**large).addr(),
        }
    }

    /// Bytes of memory it takes, its place in the table not counted.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Small(bytes) => allocated(bytes.len()),
            Self::Large(large) => {
                allocated(size_of::<Large>()) + allocated(large.key.len()) + large.value.bytes()
            }
        }
    }

    fn set_raw(&mut self, is_raw: bool) {
        let flags = match self {
            Self::Small(bytes) => &mut bytes[FLAGS_AT],
            Self::Large(large) => &mut large.flags,
        };
        *flags = *flags & !RAW | if is_raw { RAW } else { 0 };
    }

    fn flags(&self) -> u8 {
        match self {
            Self::Small(bytes) => bytes[FLAGS_AT],
            Self::Large(large) => large.flags,
        }
    }

    fn key_at(bytes: &[u8]) -> usize {
        if bytes[FLAGS_AT] & EXPIRES == 0 { BODY_AT } else { BODY_AT + DEADLINE_BYTES }
    }

    fn key_and_value(bytes: &[u8]) -> (&[u8], &[u8]) {
        bytes[Self::key_at(bytes)..].split_at(usize::from(bytes[KEY_LENGTH_AT]))
    }
}

fn access_of(bytes: &[u8]) -> [u8; 4] {
    bytes.first_chunk().copied().unwrap_or_default()
}

fn packed(access: [u8; 4], flags: u8, deadline: Option<u64>, key: &[u8], value: &[u8]) -> Box<[u8]> {
    let deadline = deadline.map(u64::to_le_bytes);
    let deadline = deadline.as_ref().map_or(&[][..], |at| at);
    let mut bytes = Vec::with_capacity(BODY_AT + deadline.len() + key.len() + value.len());
    bytes.extend_from_slice(&access);
    bytes.extend_from_slice(&[flags, key.len() as u8]);
    bytes.extend_from_slice(deadline);
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(value);
    bytes.into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At what is small, and one past it.
    fn sizes() -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut all = Vec::new();
        for key in [0, 1, SMALL_KEY_BYTES_MAX, SMALL_KEY_BYTES_MAX + 1] {
            for value in [0, 1, SMALL_VALUE_BYTES_MAX, SMALL_VALUE_BYTES_MAX + 1] {
                all.push((vec![b'k'; key], vec![b'v'; value]));
            }
        }
        all
    }

    #[test]
    fn what_is_put_in_comes_out_whatever_its_size() {
        for (key, value) in sizes() {
            for deadline in [None, Some(0), Some(u64::MAX)] {
                let mut entry = Entry::string(15, &key, &value, deadline);
                entry.set_access(0xdead_beef);
                assert!(entry.is(15, &key) && !entry.is(14, &key) && !entry.is(15, b"another"));
                assert_eq!((entry.key(), entry.as_string()), (&key[..], Some(&value[..])));
                assert_eq!((entry.deadline(), entry.access()), (deadline, 0xdead_beef));
            }
        }
    }

    #[test]
    fn a_deadline_comes_and_goes_and_changes_nothing_else() {
        for (key, value) in sizes() {
            let mut entry = Entry::string(3, &key, &value, None);
            entry.set_access(7);
            for deadline in [Some(1), Some(2), None, None, Some(3)] {
                entry.set_deadline(deadline);
                assert_eq!(entry.deadline(), deadline);
                assert!(entry.is(3, &key));
                assert_eq!((entry.as_string(), entry.access()), (Some(&value[..]), 7));
            }
        }
    }

    #[test]
    fn another_value_or_name_changes_nothing_else() {
        for (key, value) in sizes() {
            for (other_key, other_value) in sizes() {
                let mut entry = Entry::string(3, &key, &value, Some(9));
                entry.set_access(7);
                entry.set_string(&other_value);
                assert_eq!(entry.as_string(), Some(&other_value[..]));
                let copy = entry.copied(5, &other_key);
                let entry = entry.renamed(4, &other_key);
                for (entry, database) in [(entry, 4), (copy, 5)] {
                    assert!(entry.is(database, &other_key));
                    assert_eq!(entry.as_string(), Some(&other_value[..]));
                    assert_eq!((entry.deadline(), entry.access()), (Some(9), 7));
                }
            }
        }
    }

    #[test]
    fn a_string_is_raw_once_it_was_changed_in_place() {
        for (key, value) in sizes() {
            let mut entry = Entry::string(0, &key, &value, None);
            assert!(!entry.is_raw());
            entry.change_string(|bytes| bytes.push(b'x'));
            assert_eq!(entry.as_string().map(<[u8]>::len), Some(value.len() + 1));
            assert!(entry.is_raw());
            entry.set_string(&value);
            assert!(!entry.is_raw());
        }
    }
}
