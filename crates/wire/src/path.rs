//! The name of a place beneath the root of a server, checked so that it cannot name anything else.

use std::fmt;

use crate::limits::{COMPONENT_BYTES_MAX, PATH_BYTES_MAX};

/// A relative path of components separated by `/`, at most [`PATH_BYTES_MAX`] bytes of UTF-8.
///
/// A component has 1 to [`COMPONENT_BYTES_MAX`] bytes, is neither `.` nor `..` and holds no NUL, so that there is
/// one spelling for each place and none for a place outside the root. The empty path is the root itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemotePath(String);

impl RemotePath {
    /// The root of the server.
    pub const ROOT: Self = Self(String::new());

    /// Takes `path` as it is spelled on the wire.
    ///
    /// # Errors
    /// [`PathError`] if it breaks a rule of [`RemotePath`]. The empty path is the root and no error.
    pub fn parse(path: &str) -> Result<Self, PathError> {
        check(path)?;
        Ok(Self(path.to_owned()))
    }

    /// Takes `path` as people spell it: repeated, leading and trailing `/` and the component `.` mean nothing.
    ///
    /// # Errors
    /// [`PathError`] if what remains breaks a rule of [`RemotePath`]; `..` is never resolved, always refused.
    pub fn from_user(path: &str) -> Result<Self, PathError> {
        let mut kept = String::with_capacity(path.len());
        for component in path.split('/').filter(|component| !matches!(*component, "" | ".")) {
            if !kept.is_empty() {
                kept.push('/');
            }
            kept.push_str(component);
        }
        check(&kept)?;
        Ok(Self(kept))
    }

    /// The place `path` beneath this one.
    ///
    /// # Errors
    /// [`PathError`] if `path` breaks a rule of [`RemotePath`] or both together are too long.
    pub fn join(&self, path: &str) -> Result<Self, PathError> {
        if self.is_root() {
            return Self::parse(path);
        }
        if path.is_empty() {
            return Ok(self.clone());
        }
        Self::parse(&format!("{self}/{path}"))
    }

    /// The directory this place is in, or `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        Some(self.0.rsplit_once('/').map_or(Self::ROOT, |(parent, _)| Self(parent.to_owned())))
    }

    /// The last component, or `None` for the root.
    pub fn file_name(&self) -> Option<&str> {
        self.0.rsplit('/').next().filter(|name| !name.is_empty())
    }

    /// The components from the root downwards; none for the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/').filter(|component| !component.is_empty())
    }

    /// The path as it is spelled on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the root of the server.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

impl AsRef<str> for RemotePath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RemotePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RemotePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Why a path is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The root, where something beneath it is meant.
    #[error("a path is empty, but the root cannot be meant here; name something beneath it")]
    Root,
    /// More than [`PATH_BYTES_MAX`] bytes.
    #[error("a path has {path_bytes} bytes; use at most {PATH_BYTES_MAX}")]
    TooLong {
        /// Bytes of the path.
        path_bytes: usize,
    },
    /// A component of more than [`COMPONENT_BYTES_MAX`] bytes.
    #[error("a component of a path has {component_bytes} bytes; use at most {COMPONENT_BYTES_MAX}")]
    ComponentTooLong {
        /// Bytes of the component.
        component_bytes: usize,
    },
    /// A `/` at the beginning, at the end or after another.
    #[error("a path has an empty component; separate names by one '/', with none around them: {path:?}")]
    EmptyComponent {
        /// The path as it was given.
        path: String,
    },
    /// `.` or `..`.
    #[error("a path contains {component:?}; name the place without it, starting from the root: {path:?}")]
    DotComponent {
        /// The path as it was given.
        path: String,
        /// `.` or `..`.
        component: &'static str,
    },
    /// A NUL byte.
    #[error("a path contains a NUL byte, which no name can; leave it out: {path:?}")]
    Nul {
        /// The path as it was given.
        path: String,
    },
}

fn check(path: &str) -> Result<(), PathError> {
    if path.is_empty() {
        return Ok(());
    }
    if path.len() > PATH_BYTES_MAX {
        return Err(PathError::TooLong { path_bytes: path.len() });
    }
    if path.contains('\0') {
        return Err(PathError::Nul { path: path.to_owned() });
    }
    for component in path.split('/') {
        let component_bytes = component.len();
        match component {
            "" => return Err(PathError::EmptyComponent { path: path.to_owned() }),
            "." => return Err(PathError::DotComponent { path: path.to_owned(), component: "." }),
            ".." => return Err(PathError::DotComponent { path: path.to_owned(), component: ".." }),
            _ if component_bytes > COMPONENT_BYTES_MAX => {
                return Err(PathError::ComponentTooLong { component_bytes });
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_is_taken_as_it_is() {
        for path in
            ["a", "a/b/c", "...", "..a", "a..", ".hidden", " ", "a b", "häß/日本/🦀", "a\\b", "-", "\n"]
        {
            assert_eq!(RemotePath::parse(path).unwrap().as_str(), path);
        }
    }

    #[test]
    fn a_path_that_could_lead_elsewhere_is_refused() {
        for path in ["..", "../x", "a/..", "a/../x", "a/../../x", ".", "./a", "a/.", "a/./b"] {
            assert!(matches!(RemotePath::parse(path), Err(PathError::DotComponent { .. })), "{path:?}");
        }
        for path in ["/", "/x", "x/", "a//b", "//"] {
            assert!(matches!(RemotePath::parse(path), Err(PathError::EmptyComponent { .. })), "{path:?}");
        }
        for path in ["\0", "a\0b", "a/\0"] {
            assert!(matches!(RemotePath::parse(path), Err(PathError::Nul { .. })), "{path:?}");
        }
    }

    #[test]
    fn a_component_may_have_255_bytes_and_not_256() {
        let longest = "x".repeat(COMPONENT_BYTES_MAX);
        assert!(RemotePath::parse(&format!("a/{longest}")).is_ok());
        let error = PathError::ComponentTooLong { component_bytes: 256 };
        assert_eq!(RemotePath::parse(&format!("a/{longest}x")), Err(error));
    }

    #[test]
    fn a_path_may_have_4096_bytes_and_not_4097() {
        let longest = "x/".repeat(PATH_BYTES_MAX / 2 - 1) + "xx";
        assert_eq!(longest.len(), PATH_BYTES_MAX);
        assert!(RemotePath::parse(&longest).is_ok());
        let error = PathError::TooLong { path_bytes: 4097 };
        assert_eq!(RemotePath::parse(&(longest + "x")), Err(error));
    }

    #[test]
    fn a_path_that_people_write_is_normalised() {
        for (written, meant) in [
            ("/a//b/./c/", "a/b/c"),
            ("a", "a"),
            ("", ""),
            ("/", ""),
            ("./", ""),
            ("//././/", ""),
            (".a/b.", ".a/b."),
        ] {
            assert_eq!(RemotePath::from_user(written).unwrap().as_str(), meant, "{written:?}");
        }
    }

    #[test]
    fn dots_that_people_write_are_never_resolved() {
        for path in ["..", "/..", "a/../b", "a/b/../.."] {
            assert!(matches!(RemotePath::from_user(path), Err(PathError::DotComponent { .. })), "{path:?}");
        }
        assert!(matches!(RemotePath::from_user("a\0"), Err(PathError::Nul { .. })));
    }

    #[test]
    fn the_root_is_the_empty_path_and_has_neither_name_nor_parent() {
        let root = RemotePath::parse("").unwrap();
        assert_eq!(root, RemotePath::ROOT);
        assert!(root.is_root());
        assert_eq!((root.parent(), root.file_name(), root.components().count()), (None, None, 0));
    }

    #[test]
    fn a_path_is_its_parent_joined_with_its_name() {
        let path = RemotePath::parse("a/b/c").unwrap();
        assert_eq!(path.components().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(path.file_name(), Some("c"));
        assert_eq!(path.parent().unwrap().as_str(), "a/b");
        assert_eq!(path.parent().unwrap().join("c").unwrap(), path);
        assert_eq!(RemotePath::parse("a").unwrap().parent(), Some(RemotePath::ROOT));
        assert_eq!(RemotePath::ROOT.join("a/b").unwrap().as_str(), "a/b");
        assert_eq!(path.join("").unwrap(), path);
    }

    #[test]
    fn a_joined_path_obeys_the_same_rules() {
        let path = RemotePath::parse("a").unwrap();
        assert!(matches!(path.join(".."), Err(PathError::DotComponent { .. })));
        assert!(matches!(path.join("/b"), Err(PathError::EmptyComponent { .. })));
        let rest = "x/".repeat(PATH_BYTES_MAX / 2 - 1);
        assert!(
            path.join(&(rest.clone() + "x"))
                .is_err_and(|error| error == PathError::TooLong { path_bytes: 4097 })
        );
        assert!(path.join(rest.trim_end_matches('/')).is_ok());
    }
}
