//! What time it is.

use std::time::{Instant, SystemTime};

/// The clock that only goes forward: for deadlines, pauses and durations.
#[inline]
pub fn now() -> Instant {
    Instant::now()
}

/// The clock on the wall, which anybody may set: to be compared with the times of files.
#[inline]
pub fn system_now() -> SystemTime {
    SystemTime::now()
}
