//! What time it is in the world, and on the wall of the machine that asks.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::world;

/// When worlds begin. Only what has passed since then is ever looked at.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The clock that only goes forward.
pub fn now() -> Instant {
    instant(world(|world| world.now_ns))
}

/// The clock on the wall of this machine.
pub fn system_now() -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(world(|world| world.wall_ns(world.machine_here())))
}

/// So many nanoseconds after the beginning.
pub(crate) fn instant(ns: u64) -> Instant {
    *BEGINNING + Duration::from_nanos(ns)
}

/// How many nanoseconds after the beginning that is.
pub(crate) fn ns(instant: Instant) -> u64 {
    instant.saturating_duration_since(*BEGINNING).as_nanos().try_into().unwrap_or(u64::MAX)
}
