//! Names that a store keeps for itself, and how deep the others may go.

use std::hash::{BuildHasher, Hasher, RandomState};

use xferd_wire::RemotePath;

use crate::error::StoreError;

/// Components of a path. Beyond it a tree can neither be stored nor listed; it bounds what a walk has to remember.
pub const DEPTH_MAX: usize = 256;

const PREFIX: &str = ".xferd-";
const DIGITS: usize = 16;

/// A new name for a file that is not complete: `.xferd-` and 16 hexadecimal digits, different each time.
pub(crate) fn staging_name() -> String {
    // Each RandomState has keys of its own, the first of them from the system's random numbers.
    let random = RandomState::new().build_hasher().finish();
    format!("{PREFIX}{random:016x}")
}

/// Whether `name` is one that [`staging_name`] makes.
pub(crate) fn is_staging_name(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|digits| {
        digits.len() == DIGITS && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Refuses paths that a store has no place for.
pub(crate) fn admit(path: &RemotePath) -> Result<(), StoreError> {
    let mut depth = 0;
    for component in path.components() {
        depth += 1;
        if is_staging_name(component) {
            return Err(StoreError::Reserved { path: path.to_string() });
        }
    }
    if depth > DEPTH_MAX {
        return Err(StoreError::TooDeep { path: path.to_string() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_staging_name_is_told_from_others() {
        assert!(is_staging_name(&staging_name()));
        for other in
            [".xferd-", ".xferd-0123456789abcde", ".xferd-0123456789abcdef0", ".xferd-0123456789ABCDEF", "x"]
        {
            assert!(!is_staging_name(other), "{other}");
        }
    }

    #[test]
    fn staging_names_differ() {
        assert_ne!(staging_name(), staging_name());
    }

    #[test]
    fn a_path_may_be_as_deep_as_the_limit_and_no_deeper() {
        let deepest = vec!["d"; DEPTH_MAX].join("/");
        admit(&RemotePath::parse(&deepest).unwrap()).unwrap();
        let deeper = RemotePath::parse(&format!("{deepest}/d")).unwrap();
        assert!(matches!(admit(&deeper), Err(StoreError::TooDeep { .. })));
    }
}
