//! How much memory a server may have, whatever its peers do.
//!
//! What it has is all that its code has allocated. What it may have follows from the limits of the product, in whose place
//! a thousandth of them may stand in this world.

use xferd_engine::Effects;
use xferd_os::sim::heap;
use xferd_reactor::{BufferLimits, PAGE_BYTES};
use xferd_server::{PUTS_COMMITTING_MAX, REQUESTS_WAITING_MAX};
use xferd_wire::limits::{CONTROL_BODY_BYTES_MAX, MESSAGE_BYTES_MAX};

/// What one connection may keep.
const CONNECTION_BYTES_MAX: u64 = FRAME_BYTES_MAX + RECEIVED_BYTES_MAX + ASKED_BYTES_MAX + ANSWERED_BYTES_MAX;

/// A frame that is not whole yet. Its vector has grown to twice of it, and is copied to grow.
const FRAME_BYTES_MAX: u64 = 3 * CONTROL_BODY_BYTES_MAX as u64;

/// What was received and has to wait, and the beginning of a page.
const RECEIVED_BYTES_MAX: u64 = 4 * PAGE_BYTES as u64;

/// Requests with their paths, which are short in this world, their work and its outcome; and files that are being stored.
const ASKED_BYTES_MAX: u64 = REQUESTS_WAITING_MAX as u64 * 1024 + PUTS_COMMITTING_MAX as u64 * 512;

/// What waits to be sent: up to the mark, and past it what was under way by then, which is a listing's frame and an answer to
/// each request.
const ANSWERED_BYTES_MAX: u64 = Effects::<()>::SEND_QUEUE_HIGH_BYTES
    + 2 * CONTROL_BODY_BYTES_MAX as u64
    + REQUESTS_WAITING_MAX as u64 * MESSAGE_BYTES_MAX as u64;

/// What is remembered for all connections: of directories, of open files, of what happened last.
const REMEMBERED_BYTES_MAX: u64 = 512 << 10;

/// Keys are in memory, and once more while their tables grow, or while a snapshot has yet to write what FLUSHDB has removed.
const KEYS_COPIES_MAX: u64 = 2;

/// Looks at a server's memory, from its start on.
#[derive(Debug, Default)]
pub(crate) struct Bound {
    /// What it has without any connection.
    fixed_bytes: u64,
    /// How many connections it had when it was last looked at.
    connections: usize,
    /// What its keys took then.
    keys_bytes: u64,
}

impl Bound {
    /// A server with so many reactors has just been started.
    pub(crate) fn of_started(reactors: usize) -> Self {
        let BufferLimits { large_bytes, large_max, small_bytes, small_max } = BufferLimits::default();
        // Whole pages, and one more to begin at a page.
        let buffer = |bytes: usize| bytes.next_multiple_of(PAGE_BYTES) + PAGE_BYTES;
        let buffers = reactors * (buffer(large_bytes) * large_max + buffer(small_bytes) * small_max);
        let fixed_bytes = heap::peak() + buffers as u64 + REMEMBERED_BYTES_MAX;
        Self { fixed_bytes, connections: 0, keys_bytes: 0 }
    }

    /// It has this many connections now, those being closed included, and its keys take that much.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn check(&mut self, connections: usize, keys_bytes: u64) -> Result<(), String> {
        let before = std::mem::replace(&mut self.connections, connections);
        let connections = before.max(connections);
        let keys_bytes = std::mem::replace(&mut self.keys_bytes, keys_bytes).max(keys_bytes);
        let bytes_max =
            self.fixed_bytes + connections as u64 * CONNECTION_BYTES_MAX + KEYS_COPIES_MAX * keys_bytes;
        let bytes = heap::peak();
        if bytes > bytes_max {
            return Err(format!(
                "a server of {connections} connections has {bytes} bytes, and may have {bytes_max}"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use xferd_os::sim::{self, ProcessId};

    use super::*;

    fn watched() -> ProcessId {
        sim::begin(1);
        let process = sim::start_process(sim::add_machine(true));
        heap::watch(process);
        process
    }

    #[test]
    fn what_a_process_has_is_counted_until_somebody_gives_it_back() {
        let process = watched();
        let others: Vec<u8> = Vec::with_capacity(1000);
        let its: Vec<u8> = sim::run_as(process, || {
            drop(others);
            // What the world keeps for it is not its own.
            sim::note(format_args!("a happening"));
            Vec::with_capacity(300)
        });
        assert_eq!((heap::held(), heap::peak()), (300, 300));
        drop(its);
        assert_eq!((heap::held(), heap::peak(), heap::peak()), (0, 300, 0));
    }

    #[test]
    fn what_an_earlier_process_had_is_not_counted_when_it_goes() {
        let process = watched();
        let before: Vec<u8> = sim::run_as(process, || Vec::with_capacity(300));
        let process = watched();
        let now: Vec<u8> = sim::run_as(process, || Vec::with_capacity(10));
        drop(before);
        assert_eq!(heap::held(), 10);
        drop(now);
    }

    #[test]
    fn a_server_may_have_as_much_as_its_limits_say_and_no_byte_more() {
        let process = watched();
        let mut bound = Bound::of_started(1);
        let room = (bound.fixed_bytes + 2 * CONNECTION_BYTES_MAX) as usize;
        let most: Vec<u8> = sim::run_as(process, || Vec::with_capacity(room));
        bound.check(2, 0).unwrap();
        let one_more: Vec<u8> = sim::run_as(process, || Vec::with_capacity(1));
        assert!(bound.check(2, 0).is_err());
        drop((most, one_more));
    }
}
