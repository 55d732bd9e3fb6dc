//! Directories that a power loss cannot take away any more.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xferd_os::{Attributes, Dir, seeded};
use xferd_wire::RemotePath;

/// Directories that are remembered: more than one tree is usually filled in at a time. Each keeps a descriptor.
pub(crate) const SETTLED_DIRS_MAX: usize = 64;

/// The directories whose way from the root is known to be on disk, the latest last.
///
/// A name is safe once its directory was synced, and that directory's name in its parent, and so on up to the root.
/// Nobody knows who made those directories and whether they were synced: another request, a server that was killed. So
/// all of them are synced, the first time something in them shall be safe.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    dirs: Mutex<Vec<SettledDir>>,
}

#[derive(Debug)]
struct SettledDir {
    path: RemotePath,
    attributes: Attributes,
    // Open, so that no other directory gets its inode number.
    _dir: Arc<Dir>,
}

impl Settled {
    /// Returns once the names in `dir`, which was opened at `path`, are on disk, and with them its own way from `root`.
    ///
    /// # Errors
    /// What `fsync(2)` says of any of them.
    pub(crate) fn settle(&self, root: &Dir, path: &RemotePath, dir: Arc<Dir>) -> io::Result<()> {
        if !seeded!(RenameWithoutSync) {
            dir.sync()?;
        }
        let attributes = dir.own_attributes()?;
        {
            let mut dirs = self.lock();
            let known =
                dirs.iter().position(|it| it.path == *path && it.attributes.is_same_file(&attributes));
            if let Some(known) = known {
                dirs[known..].rotate_left(1);
                return Ok(());
            }
        }
        let mut above = path.parent();
        while let Some(ancestor) = above {
            root.open_dir(ancestor.as_str())?.sync()?;
            above = ancestor.parent();
        }
        let mut dirs = self.lock();
        dirs.retain(|it| it.path != *path);
        if dirs.len() == SETTLED_DIRS_MAX {
            dirs.remove(0);
        }
        dirs.push(SettledDir { path: path.clone(), attributes, _dir: dir });
        Ok(())
    }

    /// Forgets all of them, because a directory got another name.
    pub(crate) fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<SettledDir>> {
        // A panic elsewhere leaves no half-made entry behind.
        self.dirs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_directories_are_remembered_than_the_limit() {
        let directory = tempfile::tempdir().unwrap();
        let root = Dir::open(directory.path()).unwrap();
        let settled = Settled::default();
        for number in 0..=SETTLED_DIRS_MAX {
            let path = RemotePath::parse(&number.to_string()).unwrap();
            root.make_dir(path.as_str(), 0o700).unwrap();
            for _ in 0..2 {
                settled.settle(&root, &path, Arc::new(root.open_dir(path.as_str()).unwrap())).unwrap();
            }
            assert_eq!(settled.lock().len(), (number + 1).min(SETTLED_DIRS_MAX));
        }
        assert_eq!(
            settled.lock()[0].path.as_str(),
            "1",
            "the one that was not used for longest is forgotten"
        );
    }

    #[test]
    fn another_directory_of_the_same_name_is_settled_anew() {
        let directory = tempfile::tempdir().unwrap();
        let root = Dir::open(directory.path()).unwrap();
        let settled = Settled::default();
        let path = RemotePath::parse("d").unwrap();
        let mut inodes = Vec::new();
        for _ in 0..2 {
            root.make_dir("d", 0o700).unwrap();
            settled.settle(&root, &path, Arc::new(root.open_dir("d").unwrap())).unwrap();
            inodes.push(settled.lock()[0].attributes.inode);
            root.remove_dir("d").unwrap();
        }
        assert_ne!(inodes[0], inodes[1]);
        assert_eq!(settled.lock().len(), 1);
    }
}
