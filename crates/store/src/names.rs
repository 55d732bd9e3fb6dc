//! Names that a store keeps for itself, and how deep the others may go.

use xferd_os::random;
use xferd_wire::RemotePath;

use crate::error::StoreError;

/// Components of a path. Beyond it a tree can neither be stored nor listed; it bounds what a walk has to remember.
pub const DEPTH_MAX: usize = 256;

const PREFIX: &str = ".xferd-";
const DIGITS: usize = 16;
const JOURNAL_SUFFIX: &str = ".journal";

/// A new name for a file that is not complete: `.xferd-` and 16 hexadecimal digits, different each time.
pub(crate) fn staging_name() -> String {
    format!("{PREFIX}{:016x}", random::number())
}

/// The name under which the file `file_name` is kept while it is not complete and may be resumed: the same each time, and of
/// the kind that [`staging_name`] makes.
pub(crate) fn resumable_name(file_name: &str) -> String {
    let hash = blake3::hash(file_name.as_bytes()).to_hex();
    format!("{PREFIX}{}", &hash[..DIGITS])
}

/// The name of the journal that goes with the staging file `staging`.
pub(crate) fn journal_name(staging: &str) -> String {
    format!("{staging}{JOURNAL_SUFFIX}")
}

/// The staging file whose journal has the name `name`.
pub(crate) fn staging_of_journal(name: &str) -> Option<&str> {
    name.strip_suffix(JOURNAL_SUFFIX).filter(|staging| is_staging_name(staging))
}

/// Whether `name` is one that a store keeps for itself.
pub(crate) fn is_reserved_name(name: &str) -> bool {
    is_staging_name(name) || staging_of_journal(name).is_some()
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
        if is_reserved_name(component) {
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
    fn a_file_that_may_be_resumed_has_one_hidden_name_and_its_journal_another() {
        let staging = resumable_name("movie.mkv");
        assert_eq!(staging, resumable_name("movie.mkv"));
        assert_ne!(staging, resumable_name("movie.mk"));
        assert!(is_staging_name(&staging));
        let journal = journal_name(&staging);
        assert_eq!(staging_of_journal(&journal), Some(&*staging));
        assert!(!is_staging_name(&journal) && is_reserved_name(&journal) && is_reserved_name(&staging));
        for other in
            ["x.journal", ".journal", ".xferd-0123.journal", ".xferd-0123456789abcdef.journal.journal"]
        {
            assert!(!is_reserved_name(other), "{other}");
        }
        assert!(admit(&RemotePath::parse(&format!("d/{journal}")).unwrap()).is_err());
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
