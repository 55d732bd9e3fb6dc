//! Where a symbolic link points, as text. Whether it leads out of the root is for the one who follows it to see.

use std::fmt;

use crate::limits::LINK_TARGET_BYTES_MAX;

/// The target of a symbolic link: 1 to [`LINK_TARGET_BYTES_MAX`] bytes of UTF-8 without NUL, otherwise anything.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LinkTarget(String);

impl LinkTarget {
    /// Takes the target as it is.
    ///
    /// # Errors
    /// [`LinkTargetError`] if it is empty, too long or contains NUL.
    pub fn parse(target: impl Into<String>) -> Result<Self, LinkTargetError> {
        let target = target.into();
        if target.is_empty() || target.len() > LINK_TARGET_BYTES_MAX || target.contains('\0') {
            return Err(LinkTargetError { target_bytes: target.len() });
        }
        Ok(Self(target))
    }

    /// The target as it stands in the link.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for LinkTarget {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LinkTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LinkTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Why the target of a link is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a link's target of {target_bytes} bytes is refused; it needs 1 to {LINK_TARGET_BYTES_MAX} bytes, none of them NUL"
)]
pub struct LinkTargetError {
    /// Bytes of the target as it was given.
    pub target_bytes: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_may_be_any_text_that_a_link_can_hold() {
        for target in ["a", "../..", "/etc/passwd", "a//b/", "ß"] {
            assert_eq!(LinkTarget::parse(target).unwrap().as_str(), target);
        }
        assert_eq!(LinkTarget::parse(""), Err(LinkTargetError { target_bytes: 0 }));
        assert_eq!(LinkTarget::parse("a\0b"), Err(LinkTargetError { target_bytes: 3 }));
    }

    #[test]
    fn a_target_may_have_4095_bytes_and_not_4096() {
        assert!(LinkTarget::parse("x".repeat(LINK_TARGET_BYTES_MAX)).is_ok());
        let error = LinkTargetError { target_bytes: 4096 };
        assert_eq!(LinkTarget::parse("x".repeat(LINK_TARGET_BYTES_MAX + 1)), Err(error));
    }
}
