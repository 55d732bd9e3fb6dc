//! Files on their way in that outlive the transfer they came by, until a later one completes them.

use std::io;
use std::sync::Arc;

use xferd_os::{Dir, File, file};
use xferd_wire::{DigestAlgorithm, RemotePath, Run};

use crate::error::StoreError;
use crate::journal::{Journal, Recorded, SourceVersion};
use crate::names::{journal_name, resumable_name};
use crate::runs::Runs;
use crate::staging::{NAME_ATTEMPTS_MAX, STAGING_MODE, Staging, spoiled};
use crate::store::{Store, split};

impl Store {
    /// As [`Store::stage`], but the file is kept when it is dropped, under a hidden name that follows from its own, with a
    /// journal of what [`Staging::record`] was told. What there is of the same `version` of a source is gone on with: the
    /// runs say which bytes are there. Otherwise it starts over.
    ///
    /// With `durable`, or if the store [is](crate::Options::durable), recorded bytes are synced now and then; without,
    /// nothing of it is believed after a power loss.
    ///
    /// # Errors
    /// As those of [`Store::stage`]; [`StoreError::Busy`] if another has it; [`StoreError::NotResumable`] for BLAKE3.
    pub fn stage_resumable(
        &self,
        path: &RemotePath,
        version: &SourceVersion,
        durable: bool,
    ) -> Result<(Staging, Runs), StoreError> {
        let failed = |error| StoreError::of(path, error);
        let nothing = || Recorded::nothing(version.digest).ok_or_else(|| not_resumable(path, version.digest));
        nothing()?;
        let dir = Arc::new(self.open_for_staging(path, Some(version.size))?);
        let (_, file_name) = split(path).ok_or(StoreError::Root)?;
        let name = resumable_name(file_name);
        let file =
            claim(&dir, &name).map_err(failed)?.ok_or_else(|| StoreError::Busy { path: path.to_string() })?;
        let recorded = Recorded::read(&dir, &name, file_name, version);
        let held = recorded.as_ref().and_then(|recorded| recorded.all().ok());
        // Somebody may have cut it off.
        let size = file::attributes(&file).map_err(failed)?.size;
        let held = held.filter(|held| held.iter().all(|run| run.end() <= size.min(version.size)));
        let mut staging = Staging::named(file, dir.clone(), name.clone(), path, version.size, held.is_some());
        staging.choose(&dir, &self.write_paths)?;
        let (recorded, held) = match (recorded, held) {
            (Some(recorded), Some(held)) => (recorded, held),
            _ => {
                forget(&dir, &name).map_err(failed)?;
                staging.file().set_len(0).map_err(failed)?;
                staging.preallocate()?;
                (nothing()?, Runs::new(version.digest).ok_or_else(|| not_resumable(path, version.digest))?)
            }
        };
        let durable = durable || self.options.durable;
        let journal = Journal::create(dir, &name, file_name, *version, durable, recorded).map_err(failed)?;
        staging.keep_with(journal);
        Ok((staging, held))
    }
}

impl Staging {
    /// Remembers that the bytes of `run` are in the file and right, so that they need not be sent again. Nothing happens
    /// unless the file is resumable.
    ///
    /// # Errors
    /// What writing and syncing say. It is not to be committed then: some of its bytes may be lost.
    pub fn record(&mut self, run: Run) -> Result<(), StoreError> {
        let sink = self.sink();
        let Some(journal) = self.journal_mut() else { return Ok(()) };
        let recorded = journal.record(run, sink.file());
        let recorded = if journal.has_failed_sync() || sink.has_lost() {
            self.distrust();
            recorded.and_then(|()| Err(spoiled()))
        } else {
            recorded
        };
        recorded.map_err(|error| StoreError::of(self.path(), error))
    }
}

fn not_resumable(path: &RemotePath, digest: DigestAlgorithm) -> StoreError {
    StoreError::NotResumable { path: path.to_string(), digest }
}

/// Opens or makes the file `name`, and locks it for as long as it is open. `None` if another has it.
fn claim(dir: &Dir, name: &str) -> io::Result<Option<File>> {
    for _ in 0..NAME_ATTEMPTS_MAX {
        let file = match dir.open_file_for_writing(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match dir.create_file(name, STAGING_MODE) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                    created => created?,
                }
            }
            opened => opened?,
        };
        // Where nothing can be locked, two that send the same file at the same time spoil it for each other; that they
        // do shows in the digest.
        if !file::try_lock_exclusive(&file).unwrap_or(true) {
            return Ok(None);
        }
        // Between the two calls it may have been committed, or swept away.
        let opened = file::attributes(&file)?;
        if dir.attributes(name).is_ok_and(|named| named.is_same_file(&opened)) {
            return Ok(Some(file));
        }
    }
    Err(io::Error::other("the staging file changes hands all the time"))
}

/// Makes sure that no journal of another file is ever taken for that of the staging file `name`.
fn forget(dir: &Dir, name: &str) -> io::Result<()> {
    match dir.remove_file(journal_name(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // It could come back after a power loss, when other bytes are where it says that its own are.
        removed => removed.and_then(|()| dir.sync()),
    }
}

#[cfg(test)]
mod tests;
