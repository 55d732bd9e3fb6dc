//! A ring shared with the kernel, and the memory that the kernel may touch because of it.
//!
//! What a [`Request`] carries belongs to the ring from the moment it is queued until its last completion, whatever
//! becomes of whoever asked for it; then it comes back in a [`Landing`].

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::mem::{self, ManuallyDrop};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use io_uring::cqueue::{buffer_select, more, sock_nonempty};
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};
use slab::Slab;

use super::provided::Provided;
use crate::workers::count;
use crate::{BYTES_PER_TURN_MAX, PoolBuf, SendBuf};

/// How large the queues are that are shared with the kernel. Neither limits what can be in flight.
#[derive(Clone, Copy)]
pub(super) struct Entries {
    /// Requests that are handed over in one call.
    pub(super) submissions: u32,
    /// Completions that are fetched in one call; what is more waits in the kernel.
    pub(super) completions: u32,
    /// Buffers that the kernel is provided with at most, a power of two.
    pub(super) buffers: u16,
}

/// What the kernel is asked for. Descriptors stay open until the request has landed.
pub(super) enum Request {
    /// Connections to a listener, one after the other, until it is cancelled or fails.
    Accept(RawFd),
    /// What there will be, at most `bytes_max`, into a provided buffer, which the kernel picks when there is something.
    ReceiveProvided { fd: RawFd, bytes_max: u32 },
    /// What there is now into the spare part of a buffer: never waits.
    Receive { fd: RawFd, buf: PoolBuf },
    /// The front of what remains.
    Send { fd: RawFd, buf: SendBuf, more: bool },
    /// That one of `events` (poll(2)) is there.
    Poll { fd: RawFd, events: i16 },
    /// Each edge of readability, until it is cancelled or fails.
    PollEdges(RawFd),
}

/// Names a request until it has landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FlightId {
    slot: u32,
    generation: u32,
}

/// A completion.
pub(super) struct Landing<T> {
    /// What the request was submitted with.
    pub(super) tag: T,
    pub(super) result: io::Result<u32>,
    pub(super) freight: Freight,
    /// Whether no other completion of the same request follows.
    pub(super) is_last: bool,
    /// Whether the kernel says that there is more to be received.
    pub(super) has_more: bool,
}

impl<T> Landing<T> {
    /// Whether there is something to be received, and no provided buffer was left for it.
    pub(super) fn lacks_buffer(&self) -> bool {
        matches!(&self.result, Err(error) if error.raw_os_error() == Some(libc::ENOBUFS))
    }
}

/// What comes back with a completion.
pub(super) enum Freight {
    Nothing,
    Connection(OwnedFd),
    Received(PoolBuf),
    Sent(SendBuf),
}

/// Requests in, completions out. Dropped, it waits until the kernel has let go of everything, or leaks it.
pub(super) struct Ring<T: Copy> {
    ring: ManuallyDrop<IoUring>,
    provided: ManuallyDrop<Provided>,
    flights: Slab<Flight<T>>,
    generation: u32,
    /// Cancellations for which the submission queue had no room.
    cancels: Vec<FlightId>,
    completions: VecDeque<cqueue::Entry>,
    is_enabled: bool,
}

struct Flight<T> {
    generation: u32,
    tag: T,
    cargo: Cargo,
}

/// What the kernel may touch, and how its answer is to be read.
enum Cargo {
    Nothing,
    /// Answered with descriptors.
    Connections,
    /// Answered with the number of a provided buffer.
    Provided,
    Buf(PoolBuf),
    Bytes(SendBuf),
}

impl<T: Copy> Ring<T> {
    /// Asks the kernel for a ring with everything that the driver needs. It belongs to the thread that first
    /// [enters](Self::enter) it.
    ///
    /// # Errors
    /// What the kernel lacks, or forbids, in words.
    pub(super) fn new(entries: Entries) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_cqsize(entries.completions)
            .setup_clamp()
            .setup_submit_all()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_r_disabled()
            .build(entries.submissions)
            .map_err(|error| lacks(&error))?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe).map_err(|error| lacks(&error))?;
        for (name, code) in OPCODES {
            if !probe.is_supported(code) {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    format!("the kernel's io_uring has no {name}"),
                ));
            }
        }
        let params = ring.params();
        if !(params.is_feature_nodrop() && params.is_feature_ext_arg()) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the kernel's io_uring is too old"));
        }
        let provided = Provided::new(entries.buffers)?;
        // SAFETY: the ring of buffers is freed only after the kernel has forgotten it, in `drop`, or never.
        let registered = unsafe {
            ring.submitter().register_buf_ring_with_flags(
                provided.address(),
                entries.buffers,
                Provided::GROUP,
                0,
            )
        };
        registered.map_err(|error| lacks(&error))?;
        Ok(Self {
            ring: ManuallyDrop::new(ring),
            provided: ManuallyDrop::new(provided),
            flights: Slab::new(),
            generation: 0,
            cancels: Vec::new(),
            completions: VecDeque::new(),
            is_enabled: false,
        })
    }

    /// Queues a request. The kernel sees it at the next [`Ring::enter`]; if it comes back, there is no room before that.
    pub(super) fn submit(&mut self, tag: T, request: Request) -> Result<FlightId, Request> {
        if !self.has_room() {
            return Err(request);
        }
        self.generation = self.generation.wrapping_add(1);
        let entry = self.flights.vacant_entry();
        let id = FlightId { slot: count(entry.key()), generation: self.generation };
        let (queued, cargo) = match request {
            Request::Accept(fd) => {
                let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
                (opcode::AcceptMulti::new(Fd(fd)).flags(flags).build(), Cargo::Connections)
            }
            Request::ReceiveProvided { fd, bytes_max } => {
                let queued = opcode::Recv::new(Fd(fd), std::ptr::null_mut(), bytes_max)
                    .buf_group(Provided::GROUP)
                    .ioprio(RECVSEND_POLL_FIRST)
                    .build()
                    .flags(squeue::Flags::BUFFER_SELECT);
                (queued, Cargo::Provided)
            }
            Request::Receive { fd, mut buf } => {
                let spare = buf.spare_mut();
                let queued = opcode::Recv::new(Fd(fd), spare.as_mut_ptr(), count(spare.len()))
                    .flags(libc::MSG_DONTWAIT)
                    .build();
                (queued, Cargo::Buf(buf))
            }
            Request::Send { fd, buf, more } => {
                let bytes = buf.remaining();
                let bytes = bytes.get(..BYTES_PER_TURN_MAX).unwrap_or(bytes);
                let flags = libc::MSG_NOSIGNAL | if more { libc::MSG_MORE } else { 0 };
                let queued =
                    opcode::Send::new(Fd(fd), bytes.as_ptr(), count(bytes.len())).flags(flags).build();
                (queued, Cargo::Bytes(buf))
            }
            Request::Poll { fd, events } => {
                (opcode::PollAdd::new(Fd(fd), events as u32).build(), Cargo::Nothing)
            }
            Request::PollEdges(fd) => {
                (opcode::PollAdd::new(Fd(fd), libc::POLLIN as u32).multi(true).build(), Cargo::Nothing)
            }
        };
        let queued = queued.user_data(id.into());
        // SAFETY: the memory that the entry points to is on the heap and belongs to the flight, which is kept until its
        // last completion, and leaked if that never comes. That there is room was seen above.
        let pushed = unsafe { self.ring.submission().push(&queued) };
        debug_assert!(pushed.is_ok(), "there was room a moment ago");
        entry.insert(Flight { generation: id.generation, tag, cargo });
        Ok(id)
    }

    /// Ends a request early, if that is still possible. Its last completion follows in any case.
    pub(super) fn cancel(&mut self, flight: FlightId) {
        self.cancels.push(flight);
        self.queue_cancels();
    }

    /// Lets the kernel pick buffers among one more. It comes back if there are as many as there may be.
    pub(super) fn provide(&mut self, buf: PoolBuf) -> Result<(), PoolBuf> {
        self.provided.add(buf)
    }

    /// Buffers that the kernel can pick from.
    pub(super) fn provided(&self) -> usize {
        self.provided.len()
    }

    /// Whether there is a reason to enter without waiting.
    pub(super) fn has_news(&mut self) -> bool {
        let queue = self.ring.submission();
        let has_some = !queue.is_empty() || queue.taskrun() || queue.cq_overflow();
        drop(queue);
        has_some || !self.cancels.is_empty() || !self.ring.completion().is_empty()
    }

    /// Hands the kernel what is queued, and fetches completions; waits for one, at most for `timeout`.
    ///
    /// # Errors
    /// What the kernel says of a ring that is of no use any more.
    pub(super) fn enter(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if !self.is_enabled {
            self.ring.submitter().register_enable_rings()?;
            self.is_enabled = true;
        }
        self.queue_cancels();
        let waits = self.cancels.is_empty() && self.ring.completion().is_empty();
        let submitter = self.ring.submitter();
        let answer = match timeout {
            None if waits => submitter.submit_and_wait(1),
            Some(timeout) if waits && !timeout.is_zero() => {
                let timeout = Timespec::from(timeout);
                submitter.submit_with_args(1, &SubmitArgs::new().timespec(&timeout))
            }
            _ => submitter.submit(),
        };
        match answer {
            // A signal, or the time is over; or completions have to be fetched before the kernel takes more (EBUSY), or it
            // has no memory for the moment (EAGAIN). What was not taken stays queued.
            Err(error) if is_passing(&error) => {}
            answer => {
                answer?;
            }
        }
        self.completions.extend(self.ring.completion());
        Ok(())
    }

    /// The next completion that was fetched.
    pub(super) fn land(&mut self) -> Option<Landing<T>> {
        loop {
            let completion = self.completions.pop_front()?;
            if let Some(landing) = self.landing(&completion) {
                return Some(landing);
            }
        }
    }

    fn landing(&mut self, completion: &cqueue::Entry) -> Option<Landing<T>> {
        let flags = completion.flags();
        let id = FlightId::from(completion.user_data());
        let slot = id.slot as usize;
        let is_last = !more(flags);
        let flight = self.flights.get(slot).filter(|flight| flight.generation == id.generation)?;
        let tag = flight.tag;
        let cargo = if is_last {
            self.flights.remove(slot).cargo
        } else if matches!(flight.cargo, Cargo::Connections) {
            Cargo::Connections
        } else {
            Cargo::Nothing
        };
        let result = match completion.result() {
            moved @ 0.. => Ok(moved.unsigned_abs()),
            error => Err(io::Error::from_raw_os_error(-error)),
        };
        let bytes = result.as_ref().map_or(0, |bytes| *bytes as usize);
        let freight = match cargo {
            Cargo::Nothing => Freight::Nothing,
            Cargo::Connections => match completion.result() {
                // SAFETY: the kernel has just made this descriptor for us, and nobody else knows of it.
                fd @ 0.. => Freight::Connection(unsafe { OwnedFd::from_raw_fd(fd) }),
                _ => Freight::Nothing,
            },
            Cargo::Provided => match buffer_select(flags).and_then(|number| self.provided.take(number)) {
                Some(mut buf) if bytes > 0 => {
                    buf.fill(bytes);
                    Freight::Received(buf)
                }
                _ => Freight::Nothing,
            },
            Cargo::Buf(mut buf) => {
                buf.fill(bytes);
                Freight::Received(buf)
            }
            Cargo::Bytes(mut buf) => {
                buf.advance(bytes);
                Freight::Sent(buf)
            }
        };
        Some(Landing { tag, result, freight, is_last, has_more: sock_nonempty(flags) })
    }

    /// Whether one more request can be queued, if need be after the kernel has taken what is queued.
    fn has_room(&mut self) -> bool {
        if !self.ring.submission().is_full() {
            return true;
        }
        // Fails only for reasons for which `enter` will fail, too, or which pass.
        self.is_enabled && self.ring.submit().is_ok() && !self.ring.submission().is_full()
    }

    fn queue_cancels(&mut self) {
        while let Some(flight) = self.cancels.pop() {
            if !self.has_room() {
                return self.cancels.push(flight);
            }
            let queued = opcode::AsyncCancel::new(flight.into()).build().user_data(NOBODY);
            // SAFETY: it points to no memory.
            let pushed = unsafe { self.ring.submission().push(&queued) };
            debug_assert!(pushed.is_ok(), "there was room a moment ago");
        }
    }
}

impl<T: Copy> Drop for Ring<T> {
    fn drop(&mut self) {
        // Nothing has reached the kernel of a ring that was never enabled.
        let is_quiet = !self.is_enabled || self.drain();
        // SAFETY: neither field is used after this.
        let (ring, provided) =
            unsafe { (ManuallyDrop::take(&mut self.ring), ManuallyDrop::take(&mut self.provided)) };
        let is_forgotten = is_quiet && ring.submitter().unregister_buf_ring(Provided::GROUP).is_ok();
        drop(ring);
        if !is_forgotten {
            // The kernel may write to it still.
            mem::forget(provided);
            mem::forget(mem::take(&mut self.flights));
        }
    }
}

impl<T: Copy> Ring<T> {
    /// Ends everything that is in flight, and waits for that. False if it has not ended in time.
    fn drain(&mut self) -> bool {
        let flights = self.flights.iter();
        let flights =
            flights.map(|(slot, flight)| FlightId { slot: count(slot), generation: flight.generation });
        self.cancels = flights.collect();
        let deadline = Instant::now() + DRAIN_MAX;
        while !self.flights.is_empty() && Instant::now() < deadline {
            if self.enter(Some(DRAIN_STEP)).is_err() {
                return false;
            }
            while self.land().is_some() {}
        }
        self.flights.is_empty()
    }
}

impl From<FlightId> for u64 {
    fn from(id: FlightId) -> u64 {
        u64::from(id.generation) << 32 | u64::from(id.slot)
    }
}

impl From<u64> for FlightId {
    fn from(user_data: u64) -> Self {
        FlightId { slot: user_data as u32, generation: (user_data >> 32) as u32 }
    }
}

/// Says what keeps this machine from having a ring.
fn lacks(error: &io::Error) -> io::Error {
    let reason = match error.raw_os_error() {
        Some(libc::ENOSYS) => "this kernel has no io_uring",
        Some(libc::EPERM) => "io_uring is not allowed here (kernel.io_uring_disabled, or a seccomp filter)",
        Some(libc::EINVAL) => "this kernel's io_uring is too old, Linux 6.1 has what is needed",
        Some(libc::ENOMEM) => "there is no memory for io_uring, or too little may be locked (ulimit -l)",
        _ => "no ring can be made",
    };
    io::Error::new(error.kind(), format!("{reason}: {error}"))
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN))
}

/// What the driver asks for; that some of it can be done many times at once came with or before Linux 6.0.
const OPCODES: [(&str, u8); 5] = [
    ("accept", opcode::AcceptMulti::CODE),
    ("receive", opcode::Recv::CODE),
    ("send", opcode::Send::CODE),
    ("poll", opcode::PollAdd::CODE),
    ("cancel", opcode::AsyncCancel::CODE),
];

/// `include/uapi/linux/io_uring.h`: looks for bytes only once the socket is said to have some.
const RECVSEND_POLL_FIRST: u16 = 1;

/// What cancellations are submitted under: nobody waits for theirs.
const NOBODY: u64 = u64::MAX;

/// How long the kernel is given to end what is in flight when a ring goes; it takes microseconds.
const DRAIN_MAX: Duration = Duration::from_secs(1);
const DRAIN_STEP: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
