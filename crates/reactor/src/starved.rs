//! Which streams of a driver wait for a buffer.

use std::collections::VecDeque;

use crate::buffer::BufferSize;

/// Slots of streams that found no buffer free, once each, in the order in which they did.
#[derive(Default)]
pub(crate) struct Starved {
    large: VecDeque<usize>,
    small: VecDeque<usize>,
}

impl Starved {
    /// Has a stream wait.
    pub(crate) fn push(&mut self, size: BufferSize, slot: usize) {
        self.queue(size).push_back(slot);
    }

    /// The next one, if there is one.
    pub(crate) fn pop(&mut self, size: BufferSize) -> Option<usize> {
        self.queue(size).pop_front()
    }

    /// Has a stream wait no longer.
    pub(crate) fn remove(&mut self, size: BufferSize, slot: usize) {
        self.queue(size).retain(|starved| *starved != slot);
    }

    /// Whether none waits for such a buffer.
    pub(crate) fn is_empty(&self, size: BufferSize) -> bool {
        match size {
            BufferSize::Large => self.large.is_empty(),
            BufferSize::Small => self.small.is_empty(),
        }
    }

    fn queue(&mut self, size: BufferSize) -> &mut VecDeque<usize> {
        match size {
            BufferSize::Large => &mut self.large,
            BufferSize::Small => &mut self.small,
        }
    }
}
