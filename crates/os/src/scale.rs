//! How large a world this is.

/// So many bytes, or so many of something, in a real world; a thousandth of it in a simulated one, so that a file of
/// many extents costs it microseconds.
pub const fn scaled(amount: u64) -> u64 {
    if cfg!(xferd_sim) { amount / 1024 } else { amount }
}
