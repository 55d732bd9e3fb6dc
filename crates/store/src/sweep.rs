//! Removing what a killed process left behind.

use std::fs::File;

use xferd_os::{Dir, Kind, file};
use xferd_wire::RemotePath;

use crate::error::StoreError;
use crate::names::is_staging_name;
use crate::store::Store;
use crate::walk::{Step, Walk};

impl Store {
    /// Removes unfinished files that nobody is writing any more, in the whole tree. Returns how many there were.
    ///
    /// A process that is writing one has it locked; one that was killed has not. What cannot be read is passed over.
    /// In a read-only store, nothing is done.
    ///
    /// # Errors
    /// [`StoreError::TooManyFiles`], [`StoreError::Io`], if the tree cannot be read.
    pub fn sweep(&self) -> Result<u64, StoreError> {
        if self.options.read_only {
            return Ok(0);
        }
        let failed = |error| StoreError::of(&RemotePath::ROOT, error);
        let mut walk = self.root.open_dir("").and_then(Walk::new).map_err(failed)?;
        let mut removed = 0;
        while let Some(step) = walk.step().map_err(failed)? {
            let Step::Name(found) = step else { continue };
            let (Some(name), Some((here, dir))) = (found.name.to_str(), walk.here()) else { continue };
            let kind = found.kind.or_else(|| dir.attributes(name).ok().map(|attributes| attributes.kind));
            match kind {
                Some(Kind::Directory) => {
                    if let Ok(path) = here.join(name) {
                        // Past the limit of a walk, what is left over stays until another sweep.
                        let _ = walk.enter(path);
                    }
                }
                Some(Kind::File) if is_staging_name(name) => {
                    // Held until the name is gone, so that nobody begins to use it in between.
                    let Some(_lock) = lock_abandoned(dir, name) else { continue };
                    removed += u64::from(dir.remove_file(name).is_ok());
                }
                // A link that was to replace something. It lives for two system calls, and there is nothing to lock.
                Some(Kind::Symlink) if is_staging_name(name) => {
                    removed += u64::from(dir.remove_file(name).is_ok());
                }
                _ => {}
            }
        }
        Ok(removed)
    }
}

/// Locks the file `name`, unless a living process has done so.
fn lock_abandoned(dir: &Dir, name: &str) -> Option<File> {
    let (opened, _) = dir.open_file(name).ok()?;
    file::try_lock_exclusive(&opened).is_ok_and(|locked| locked).then_some(opened)
}
