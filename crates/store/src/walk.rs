//! Goes through a tree name by name, with two directories open at a time and no link followed.

use std::io;

use xferd_os::{Dir, DirEntries, DirEntry, Refusal};
use xferd_wire::RemotePath;

/// Bytes of paths of directories that were seen and not yet entered: room for half a million directories that stand
/// side by side under names of usual length, and no more memory than that.
const AHEAD_BYTES_MAX: usize = 32 << 20;

/// A walk through a tree: a directory's names all come before those of the directories in it.
#[derive(Debug)]
pub(crate) struct Walk {
    base: Dir,
    here: Option<Here>,
    ahead: Vec<RemotePath>,
    ahead_bytes: usize,
    ahead_bytes_max: usize,
}

/// The directory that is being read.
#[derive(Debug)]
struct Here {
    path: RemotePath,
    dir: Dir,
    entries: DirEntries,
}

/// What a walk came upon.
#[derive(Debug)]
pub(crate) enum Step {
    /// A name in the directory [`Walk::here`].
    Name(DirEntry),
    /// A directory that cannot be read.
    Unreadable(RemotePath, io::Error),
}

/// More directories were to be entered than a walk remembers.
#[derive(Debug)]
pub(crate) struct TooManyAhead;

impl Walk {
    /// Starts in `base`, which is the empty path of this walk.
    pub(crate) fn new(base: Dir) -> io::Result<Self> {
        let mut walk =
            Self { base, here: None, ahead: Vec::new(), ahead_bytes: 0, ahead_bytes_max: AHEAD_BYTES_MAX };
        walk.here = Some(walk.open(RemotePath::ROOT)?);
        Ok(walk)
    }

    /// The next name, or `None` at the end.
    pub(crate) fn step(&mut self) -> io::Result<Option<Step>> {
        loop {
            if let Some(here) = &mut self.here {
                match here.entries.next() {
                    Some(entry) => return Ok(Some(Step::Name(entry?))),
                    None => self.here = None,
                }
            }
            let Some(path) = self.ahead.pop() else { return Ok(None) };
            self.ahead_bytes -= cost(&path);
            match self.open(path.clone()) {
                Ok(here) => self.here = Some(here),
                // Removed, or replaced by something else, since its name was read.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
                        || Refusal::of(&error) == Some(Refusal::TooManyLinks) => {}
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Ok(Some(Step::Unreadable(path, error)));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The directory of the last name, and its path.
    pub(crate) fn here(&self) -> Option<(&RemotePath, &Dir)> {
        self.here.as_ref().map(|here| (&here.path, &here.dir))
    }

    /// Has the directory at `path` entered later.
    pub(crate) fn enter(&mut self, path: RemotePath) -> Result<(), TooManyAhead> {
        if self.ahead_bytes + cost(&path) > self.ahead_bytes_max {
            return Err(TooManyAhead);
        }
        self.ahead_bytes += cost(&path);
        self.ahead.push(path);
        Ok(())
    }

    fn open(&self, path: RemotePath) -> io::Result<Here> {
        let dir = self.base.open_dir_unlinked(path.as_str())?;
        let entries = dir.entries()?;
        Ok(Here { path, dir, entries })
    }
}

/// Bytes that a path takes.
fn cost(path: &RemotePath) -> usize {
    size_of::<RemotePath>() + path.as_str().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_directories_are_remembered_as_the_limit_and_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let mut walk = Walk::new(Dir::open(directory.path()).unwrap()).unwrap();
        let path = RemotePath::parse("a").unwrap();
        walk.ahead_bytes_max = 2 * cost(&path);
        walk.enter(path.clone()).unwrap();
        walk.enter(path.clone()).unwrap();
        assert!(walk.enter(path.clone()).is_err());
        assert!(walk.step().unwrap().is_none(), "neither exists, so neither is entered");
        walk.enter(path).unwrap();
    }
}
