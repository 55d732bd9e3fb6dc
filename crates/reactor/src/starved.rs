//! Which streams of a driver wait for a buffer.

use std::collections::VecDeque;

use crate::BufferPool;
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

    /// Has as many of each size go on, `max` at most, as there are buffers for. If there are none, the driver is woken once
    /// there is one.
    pub(crate) fn serve(&mut self, buffers: &BufferPool, max: usize, mut go_on: impl FnMut(usize)) {
        for size in [BufferSize::Large, BufferSize::Small] {
            let queue = self.queue(size);
            if !queue.is_empty() {
                let served = buffers.free_or_wakes(size).min(max).min(queue.len());
                queue.drain(..served).for_each(&mut go_on);
            }
        }
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
