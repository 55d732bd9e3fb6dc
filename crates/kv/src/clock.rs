//! Until when keys live.

use std::time::{Instant, UNIX_EPOCH};

use xferd_os::clock;

/// Milliseconds since 1970, as the clock on the wall said when it began, and from then on counted by the clock that only
/// goes forward: however the one on the wall is set, what has expired stays so, and what has not lives as long as it was
/// told to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    began: Instant,
    began_ms: u64,
}

impl Clock {
    /// A clock that is not earlier than `at_least_ms`.
    pub(crate) fn starting(at_least_ms: u64) -> Self {
        let wall = clock::system_now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_ms = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        Self { began: clock::now(), began_ms: wall_ms.max(at_least_ms) }
    }

    /// When it began.
    pub(crate) fn began_ms(&self) -> u64 {
        self.began_ms
    }

    pub(crate) fn now_ms(&self) -> u64 {
        let passed = clock::now().saturating_duration_since(self.began);
        self.began_ms.saturating_add(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX))
    }
}
