//! Numbers that nobody can foresee, and maps that are hashed with them.

use std::hash::{BuildHasher, Hasher};

/// What maps whose keys come from peers are hashed with.
pub use std::hash::RandomState;

/// A number that is another one each time.
pub fn number() -> u64 {
    // Each RandomState has keys of its own, the first of them from the system's random numbers.
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_differ() {
        assert_ne!(super::number(), super::number());
    }
}
