//! Changes to sets, which count what they take.

use xferd_wire::resp::parse_integer;

use crate::value::{Bytes, Set, allocated, shrunk};

/// Members of a set of whole numbers that Redis keeps as an array of them (`set-max-intset-entries`).
const COMPACT_MEMBERS_MAX: usize = 512;

impl Set {
    /// Puts in a member. Whether it is new.
    pub(crate) fn insert(&mut self, member: &[u8]) -> bool {
        if !self.items.insert(member.into()) {
            return false;
        }
        self.bytes += allocated(member.len());
        self.is_compact =
            self.is_compact && self.items.len() <= COMPACT_MEMBERS_MAX && parse_integer(member).is_some();
        true
    }

    /// Takes out a member. Whether it was there.
    pub(crate) fn remove(&mut self, member: &[u8]) -> bool {
        let was_there = self.items.swap_remove(member);
        if was_there {
            self.count_out(member.len());
        }
        was_there
    }

    /// Takes out any member: the one at `dice`, modulo as many as there are.
    pub(crate) fn take_any(&mut self, dice: u64) -> Option<Bytes> {
        let member = self.items.swap_remove_index(self.any(dice)?)?;
        self.count_out(member.len());
        Some(member)
    }

    /// The place of any member.
    pub(crate) fn any(&self, dice: u64) -> Option<usize> {
        (dice as usize).checked_rem(self.items.len())
    }

    fn count_out(&mut self, member_bytes: usize) {
        self.bytes -= allocated(member_bytes);
        if let Some(capacity) = shrunk(self.items.len(), self.items.capacity()) {
            self.items.shrink_to(capacity);
        }
    }
}
