//! A descriptor that turns readable when it is rung (eventfd(2)).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::EventfdFlags;

/// Rings between threads. It is never read: who watches it waits for edges.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// A bell that was never rung.
    ///
    /// # Errors
    /// What `eventfd(2)` says.
    pub fn new() -> io::Result<Self> {
        Ok(Self(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Rings.
    ///
    /// # Errors
    /// `WouldBlock` after 2^64 - 2 times.
    pub fn ring(&self) -> io::Result<()> {
        rustix::io::write(&self.0, &1_u64.to_ne_bytes())?;
        Ok(())
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Bell {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    #[test]
    fn a_bell_is_readable_once_it_was_rung() {
        let bell = Bell::new().unwrap();
        let is_readable = || {
            let mut asked = [PollFd::new(&bell, PollFlags::IN)];
            poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
        };
        assert!(!is_readable());
        bell.ring().unwrap();
        bell.ring().unwrap();
        assert!(is_readable());
    }
}
