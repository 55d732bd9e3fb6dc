//! Removing what a killed process left behind.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use xferd_os::{Dir, File, Kind, clock, file, seeded};
use xferd_wire::RemotePath;

use crate::error::StoreError;
use crate::journal::has_journal;
use crate::names::{is_staging_name, journal_name, staging_of_journal};
use crate::store::Store;
use crate::walk::{Step, Walk};

/// How old a link has to be before it counts as left behind.
const LINK_AGE: Duration = Duration::from_secs(60);

/// How long what came of a file is kept for a transfer that goes on with it.
pub const RESUME_KEEP: Duration = Duration::from_secs(7 * 24 * 3600);

impl Store {
    /// Removes unfinished files that nobody is writing any more, in the whole tree. Returns how many there were. What can be
    /// resumed stays for [`RESUME_KEEP`] after it last grew.
    ///
    /// A process that is writing one has it locked; one that was killed has not. What cannot be read is passed over.
    /// In a read-only store, nothing is done. It ends early once `stopped` is set.
    ///
    /// # Errors
    /// [`StoreError::TooManyFiles`], [`StoreError::Io`], if the tree cannot be read.
    pub fn sweep(&self, stopped: &AtomicBool) -> Result<u64, StoreError> {
        self.sweep_keeping(RESUME_KEEP, stopped)
    }

    /// The same, but what can be resumed stays for `keep`.
    pub(crate) fn sweep_keeping(&self, keep: Duration, stopped: &AtomicBool) -> Result<u64, StoreError> {
        if self.options.read_only {
            return Ok(0);
        }
        let failed = |error| StoreError::of(&RemotePath::ROOT, error);
        let mut walk = self.root.open_dir("").and_then(Walk::new).map_err(failed)?;
        let mut removed = 0;
        while let Some(step) = walk.step().map_err(failed)? {
            if stopped.load(Ordering::Relaxed) {
                break;
            }
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
                Some(Kind::File) if is_staging_name(name) && !seeded!(StagingLeftBehind) => {
                    let journal = journal_name(name);
                    // Before it is locked: whoever goes on with it at this moment would find it taken.
                    if has_journal(dir, name) && !is_old(dir, &journal, keep) {
                        continue;
                    }
                    // Held until the name is gone, so that nobody begins to use it in between.
                    let Some(_lock) = lock_abandoned(dir, name) else { continue };
                    // The journal first: it must not claim what is not there.
                    let _ = dir.remove_file(&journal);
                    removed += u64::from(dir.remove_file(name).is_ok());
                }
                // Its file was committed, and the process killed before it could remove this, too.
                Some(Kind::File) if staging_of_journal(name).is_some_and(|file| is_missing(dir, file)) => {
                    removed += u64::from(dir.remove_file(name).is_ok());
                }
                // A link that was to replace something. There is nothing to lock, but it lives for two system calls only.
                Some(Kind::Symlink) if is_staging_name(name) && is_old(dir, name, LINK_AGE) => {
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

fn is_missing(dir: &Dir, name: &str) -> bool {
    dir.attributes(name).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn is_old(dir: &Dir, name: &str, age: Duration) -> bool {
    let Ok(attributes) = dir.attributes(name) else { return false };
    let now = clock::system_now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let made = Duration::from_secs(attributes.ctime.seconds.try_into().unwrap_or_default());
    now.saturating_sub(made) >= age
}
