//! Which files of a tree are meant: `--include` and `--exclude`.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use xferd_engine::Failure;
use xferd_wire::ErrorCode;

/// Patterns in one list.
pub const PATTERNS_MAX: usize = 1024;

/// Chooses by name or path.
///
/// A pattern without `/` is compared with the last component (`*.mkv`), one with `/` with the whole path from the
/// source's root (`season-1/**`). `*` and `?` stop at `/`, `**` does not; `{a,b}` and `[a-z]` work as in a shell. What
/// matches an exclude pattern is left out, a directory with all it contains. If there are include patterns, only files
/// and links that match one are taken, and the directories on the way to them.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    include: Option<Patterns>,
    exclude: Option<Patterns>,
}

#[derive(Clone, Debug)]
struct Patterns {
    names: GlobSet,
    paths: GlobSet,
}

impl Selection {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// INVALID_ARGUMENT naming the pattern that makes no sense; LIMIT for more than [`PATTERNS_MAX`] in a list.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, Failure> {
        Ok(Self {
            include: Patterns::new("--include", include)?,
            exclude: Patterns::new("--exclude", exclude)?,
        })
    }

    /// Whether `path`, or a directory it is in, is left out.
    pub fn excludes(&self, path: &str) -> bool {
        let Some(exclude) = &self.exclude else { return false };
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        ends.filter_map(|end| path.get(..end)).any(|ancestor| exclude.match_path(ancestor))
    }

    /// Whether the file or link at `path` is meant.
    pub fn takes_file(&self, path: &str) -> bool {
        self.include.as_ref().is_none_or(|include| include.match_path(path)) && !self.excludes(path)
    }

    /// Whether a directory is meant for its own sake: with include patterns only those with chosen files in them are.
    pub fn takes_directory(&self, path: &str) -> bool {
        self.include.is_none() && !self.excludes(path)
    }
}

impl Patterns {
    fn new(option: &str, patterns: &[String]) -> Result<Option<Self>, Failure> {
        if patterns.len() > PATTERNS_MAX {
            let message = format!("{} patterns for {option}; give at most {PATTERNS_MAX}", patterns.len());
            return Err(Failure::new(ErrorCode::Limit, message));
        }
        if patterns.is_empty() {
            return Ok(None);
        }
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        let wrong = |error: globset::Error| {
            Failure::new(
                ErrorCode::InvalidArgument,
                format!("{option}: {error}; see the patterns that `--help` names"),
            )
        };
        for pattern in patterns {
            // A slash at an end says where the pattern applies, not what the name is.
            let trimmed = pattern.trim_matches('/');
            let glob = GlobBuilder::new(trimmed).literal_separator(true).build().map_err(wrong)?;
            if pattern.trim_end_matches('/').contains('/') {
                paths.add(glob)
            } else {
                names.add(glob)
            };
        }
        Ok(Some(Self { names: names.build().map_err(wrong)?, paths: paths.build().map_err(wrong)? }))
    }

    fn match_path(&self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        self.names.is_match(name) || self.paths.is_match(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(include: &[&str], exclude: &[&str]) -> Selection {
        let own = |list: &[&str]| list.iter().map(|pattern| (*pattern).to_owned()).collect::<Vec<_>>();
        Selection::new(&own(include), &own(exclude)).unwrap()
    }

    #[test]
    fn without_patterns_everything_is_taken() {
        let all = selection(&[], &[]);
        assert!(all.takes_file("a/b") && all.takes_directory("a"));
    }

    #[test]
    fn a_pattern_without_a_slash_matches_names_at_any_depth() {
        let chosen = selection(&["*.mkv"], &[]);
        assert!(chosen.takes_file("a/b/film.mkv"));
        assert!(!chosen.takes_file("a/b/film.srt"));
    }

    #[test]
    fn a_pattern_with_a_slash_matches_the_whole_path() {
        let chosen = selection(&[], &["a/*.txt", "/top"]);
        assert!(!chosen.takes_file("a/x.txt"));
        assert!(chosen.takes_file("b/a/x.txt"));
        assert!(!chosen.takes_file("top"));
        assert!(chosen.takes_file("a/top"));
    }

    #[test]
    fn an_excluded_directory_takes_its_content_with_it() {
        let chosen = selection(&[], &["node_modules"]);
        assert!(!chosen.takes_file("web/node_modules/x/index.js"));
        assert!(!chosen.takes_directory("web/node_modules"));
    }

    #[test]
    fn exclude_wins_over_include() {
        assert!(!selection(&["*.c"], &["old"]).takes_file("old/a.c"));
    }

    #[test]
    fn a_broken_pattern_is_named() {
        let failure = Selection::new(&["[a".to_owned()], &[]).unwrap_err();
        assert_eq!(failure.code, ErrorCode::InvalidArgument);
        assert!(failure.message.contains("[a"), "{}", failure.message);
    }

    #[test]
    fn as_many_patterns_as_the_limit_are_taken_and_no_more() {
        let patterns = vec!["x".to_owned(); PATTERNS_MAX + 1];
        assert!(Selection::new(&patterns[..PATTERNS_MAX], &[]).is_ok());
        assert_eq!(Selection::new(&[], &patterns).unwrap_err().code, ErrorCode::Limit);
    }
}
