//! Changes to lists, which count what they take.

use std::ops::Range;

use crate::value::{Bytes, List, allocated, shrunk};

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Front,
    Back,
}

impl List {
    pub(crate) fn push(&mut self, end: End, element: &[u8]) {
        self.bytes += allocated(element.len());
        match end {
            End::Front => self.items.push_front(element.into()),
            End::Back => self.items.push_back(element.into()),
        }
    }

    pub(crate) fn pop(&mut self, end: End) -> Option<Bytes> {
        let element = match end {
            End::Front => self.items.pop_front(),
            End::Back => self.items.pop_back(),
        }?;
        self.bytes -= allocated(element.len());
        self.shrink();
        Some(element)
    }

    /// Replaces an element, if there is one.
    pub(crate) fn set(&mut self, index: usize, element: &[u8]) -> bool {
        let Some(place) = self.items.get_mut(index) else { return false };
        self.bytes = self.bytes - allocated(place.len()) + allocated(element.len());
        *place = element.into();
        true
    }

    /// Removes the first so many elements that are equal to this one, the last ones if `count` is negative, or all if it is 0.
    /// How many.
    pub(crate) fn remove(&mut self, count: i64, element: &[u8]) -> usize {
        let equal = self.items.iter().filter(|other| ***other == *element).count();
        let at_most = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
        let removed = if count == 0 { equal } else { equal.min(at_most) };
        let first = if count < 0 { equal - removed } else { 0 };
        if removed == 0 {
            return 0;
        }
        let goes = first..first + removed;
        let mut seen = 0;
        self.items.retain(|other| {
            let is_equal = **other == *element;
            seen += usize::from(is_equal);
            !(is_equal && goes.contains(&(seen - 1)))
        });
        self.bytes -= removed * allocated(element.len());
        self.shrink();
        removed
    }

    /// Removes all elements but those in `kept`, which it has. How many.
    pub(crate) fn keep(&mut self, kept: Range<usize>) -> usize {
        let removed = self.items.len() - kept.len();
        let gone = self.items.range(..kept.start).chain(self.items.range(kept.end..));
        self.bytes -= gone.map(|element| allocated(element.len())).sum::<usize>();
        self.items.truncate(kept.end);
        self.items.drain(..kept.start);
        self.shrink();
        removed
    }

    fn shrink(&mut self) {
        if let Some(capacity) = shrunk(self.items.len(), self.items.capacity()) {
            self.items.shrink_to(capacity);
        }
    }
}
