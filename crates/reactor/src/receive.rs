//! Receiving operations: what they ask for, and how soon the kernel is to report that it is there.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use xferd_os::net::Socket;

use crate::buffer::BufferSize;
use crate::{BufferPool, PoolBuf};

/// What a receiving operation asks for.
#[derive(Clone, Copy)]
pub(crate) enum Receive {
    Large { offset: u64, bytes_due: Option<u64> },
    Small { bytes_max: usize },
}

impl Receive {
    /// Refuses to ask for no bytes: the kernel would answer 0, which means something else.
    pub(crate) fn check(self) -> io::Result<()> {
        match self {
            Receive::Large { bytes_due: Some(0), .. } | Receive::Small { bytes_max: 0 } => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "nothing is to be received"))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn buffer_size(self, buffers: &BufferPool) -> BufferSize {
        match self {
            Receive::Large { bytes_due: Some(due), .. } if due <= buffers.small_bytes() as u64 => {
                BufferSize::Small
            }
            Receive::Large { .. } => BufferSize::Large,
            Receive::Small { .. } => BufferSize::Small,
        }
    }

    /// A buffer for it, if one is free.
    pub(crate) fn lend(self, size: BufferSize, buffers: &BufferPool) -> Option<PoolBuf> {
        let mut buf = match size {
            BufferSize::Large => buffers.take_large()?,
            BufferSize::Small => buffers.take_small()?,
        };
        match self {
            Receive::Large { offset, bytes_due } => {
                buf.clear_for(offset);
                let due = bytes_due.and_then(|due| usize::try_from(due).ok());
                buf.limit_spare(due.unwrap_or(usize::MAX));
            }
            Receive::Small { bytes_max } => buf.limit_spare(bytes_max),
        }
        Some(buf)
    }
}

/// How many sockets of a driver have a wide window.
#[derive(Clone, Default)]
pub(crate) struct Windows(Arc<AtomicUsize>);

/// A wide window, counted until the socket goes.
struct Wide(Windows);

impl Windows {
    fn widen(&self) -> Option<Wide> {
        let one_more = |wide| (wide < WIDE_WINDOWS_MAX).then_some(wide + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Wide(self.clone()))
    }
}

impl Drop for Wide {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is known of the bytes that come in on one socket.
pub(crate) struct Inflow {
    windows: Windows,
    /// Whether it has received into a large buffer: large amounts are to be expected.
    bulk: bool,
    /// Counts its window, if that is wide.
    wide: Option<Wide>,
    /// How many bytes there have to be for the kernel to call it readable.
    mark: u32,
    /// The last receive found much: so much comes while the driver does something else.
    fast: bool,
}

impl Inflow {
    pub(crate) fn new(windows: &Windows) -> Inflow {
        Inflow { windows: windows.clone(), bulk: false, wide: None, mark: 1, fast: false }
    }

    /// A receiving operation begins.
    pub(crate) fn begin(&mut self, socket: &Socket, receive: Receive) {
        if !self.bulk && matches!(receive, Receive::Large { .. }) {
            self.bulk = true;
            self.wide = self.windows.widen();
            if self.wide.is_some() {
                // Only a matter of speed.
                let _ = socket.widen_receive_window(BULK_WINDOW_BYTES);
            }
        }
    }

    /// Has the kernel wait for what the receiving operation wants: for a whole buffer if as much is sure to come and it
    /// comes fast, because a buffer that is filled in many parts takes as many calls.
    pub(crate) fn set_mark(&mut self, socket: &Socket, receive: Receive) {
        let mark = match receive {
            Receive::Large { bytes_due: Some(due), .. } if self.fast => {
                u32::try_from(due).unwrap_or(u32::MAX).min(MARK_BYTES_MAX)
            }
            _ => 1,
        };
        if mark != self.mark {
            self.mark = mark;
            // Only a matter of speed.
            let _ = socket.set_receive_mark(mark);
        }
    }

    /// It has not become as much as was expected.
    pub(crate) fn slow_down(&mut self) {
        self.fast = false;
    }

    pub(crate) fn received(&mut self, bytes: usize) {
        self.fast = bytes >= FAST_BYTES;
    }
}

/// Bytes that a sender may be ahead of a bulk receiver: several of the largest buffers, so that neither waits while the
/// other is busy with its disk. What counts is to leave the kernel's initial 128 KiB; from 1 to 8 MiB the rate over
/// loopback varies by less than a tenth.
const BULK_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Sockets of one driver that may have such a window, which the kernel fills as long as nobody takes what came; the others have
/// what it gives them by itself.
const WIDE_WINDOWS_MAX: usize = 64;

/// Bytes of one receive from which on a flow counts as fast.
const FAST_BYTES: usize = 128 * 1024;

/// Bytes to wait for at most: what a usual large buffer holds. The kernel needs twice as much room, which it has.
const MARK_BYTES_MAX: u32 = 1408 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_windows_are_wide_as_the_limit_and_another_once_one_is_gone() {
        let windows = Windows::default();
        let mut wide: Vec<_> = (0..WIDE_WINDOWS_MAX).map(|_| windows.widen().unwrap()).collect();
        assert!(windows.widen().is_none());
        wide.pop();
        assert!(windows.widen().is_some());
    }
}
