//! Changes to hashes, which count what they take.

use crate::value::{Hash, allocated, shrunk};

/// Fields of a hash that Redis keeps in one allocation (`hash-max-listpack-entries`), and the bytes of each and its value
/// (`hash-max-listpack-value`).
const COMPACT_FIELDS_MAX: usize = 128;
const COMPACT_BYTES_MAX: usize = 64;

impl Hash {
    /// Sets a field. Whether it is new.
    pub(crate) fn set(&mut self, field: &[u8], value: &[u8]) -> bool {
        self.bytes += allocated(value.len());
        self.is_compact &= field.len().max(value.len()) <= COMPACT_BYTES_MAX;
        if let Some(place) = self.items.get_mut(field) {
            self.bytes -= allocated(place.len());
            *place = value.into();
            return false;
        }
        self.bytes += allocated(field.len());
        self.items.insert(field.into(), value.into());
        self.is_compact &= self.items.len() <= COMPACT_FIELDS_MAX;
        true
    }

    /// Removes a field. Whether it was there.
    pub(crate) fn remove(&mut self, field: &[u8]) -> bool {
        // Redis tells few fields in the order in which they came.
        let value = match self.is_compact {
            true => self.items.shift_remove(field),
            false => self.items.swap_remove(field),
        };
        let Some(value) = value else { return false };
        self.bytes -= allocated(field.len()) + allocated(value.len());
        if let Some(capacity) = shrunk(self.items.len(), self.items.capacity()) {
            self.items.shrink_to(capacity);
        }
        true
    }
}
