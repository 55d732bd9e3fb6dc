//! Files that several connections send together, and files that are kept to be resumed.

use std::io;
use std::sync::{Arc, Mutex};

use xferd_engine::{Effects, Failure, lock};
use xferd_os::{HashMap, Sink, random, seeded};
use xferd_store::{Hasher, Runs, SourceVersion, Staging, Store, StoreError};
use xferd_wire::{Committed, Digest, ErrorCode, Have, Put, Run, Sharing, TransferId, WritePath};

/// Files of a server that are being sent by several connections, or kept to be resumed: each has a file open.
pub const TRANSFERS_MAX: usize = 1024;

/// Requests that are attached to one transfer, each with an extent on its way.
pub const ATTACHED_MAX: usize = 64;

/// All transfers of a server to which somebody is attached, by their ids.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    open: Mutex<HashMap<TransferId, Arc<Transfer>>>,
}

/// One file on its way in.
///
/// A byte that was compared with its digest is never written again, and no two connections write to one place at the same
/// time: whoever is about to write has a [`Claim`].
#[derive(Debug)]
struct Transfer {
    id: TransferId,
    put: Put,
    sink: Arc<Sink>,
    write_path: WritePath,
    state: Mutex<State>,
    /// `None` once it was given to the commit, or could not be recorded. A lock of its own: while it is synced, extents go on coming.
    staging: Mutex<Option<Staging>>,
}

#[derive(Debug)]
struct State {
    held: Runs,
    /// What is being received, or was and is being recorded.
    claimed: Vec<Claimed>,
    attached: usize,
    committed: bool,
    /// Another file is to be sent to the same path.
    is_contested: bool,
}

#[derive(Debug)]
struct Claimed {
    start: u64,
    end: u64,
    /// Another has tried to send some of it.
    is_contested: bool,
}

impl Transfers {
    /// Makes a transfer of what `put` announces and attaches the first request to it. Blocks.
    ///
    /// If the same is being sent already, it is attached to that: it may come from a client whose end nobody has noticed.
    pub(crate) fn open(self: &Arc<Self>, store: &Store, put: Put) -> Result<Attachment, Failure> {
        if put.sharing == Sharing::Resumable {
            let open = lock(&self.open);
            if let Some(there) = open.values().find(|transfer| transfer.put.path == put.path) {
                if there.put == put {
                    return self.attach_to(there);
                }
                lock(&there.state).is_contested = true;
            }
        }
        let version = SourceVersion {
            size: put.size.unwrap_or_default(),
            mtime: put.mtime,
            identity: put.identity,
            digest: put.digest,
        };
        let (staging, held) = if put.sharing == Sharing::Resumable {
            store.stage_resumable(&put.path, &version, put.durable)?
        } else {
            let digest = put.digest;
            let not_shared = || StoreError::NotResumable { path: put.path.to_string(), digest };
            let nothing = Runs::new(digest).ok_or_else(not_shared)?;
            (store.stage(&put.path, put.size)?, nothing)
        };
        let state = State { held, claimed: Vec::new(), attached: 1, committed: false, is_contested: false };
        let transfer = Arc::new(Transfer {
            id: new_id(),
            put,
            sink: staging.sink(),
            write_path: staging.write_path(),
            state: Mutex::new(state),
            staging: Mutex::new(Some(staging)),
        });
        let mut open = lock(&self.open);
        if open.len() >= TRANSFERS_MAX {
            let message = format!(
                "{}: the server has as many shared transfers as it takes, {TRANSFERS_MAX}; try again later",
                transfer.put.path
            );
            return Err(Failure::new(ErrorCode::Busy, message));
        }
        open.insert(transfer.id, transfer.clone());
        Ok(Attachment::new(self, transfer))
    }

    /// Attaches another request to a transfer.
    pub(crate) fn attach(self: &Arc<Self>, id: TransferId) -> Result<Attachment, Failure> {
        let open = lock(&self.open);
        let Some(transfer) = open.get(&id) else {
            let message = "there is no such transfer, or no longer; put the file again";
            return Err(Failure::new(ErrorCode::NotFound, message));
        };
        self.attach_to(transfer)
    }

    /// How many there are.
    #[cfg(fuzzing)]
    pub(crate) fn count(&self) -> usize {
        lock(&self.open).len()
    }

    /// Attaches a request to a transfer that is open, and stays so meanwhile.
    fn attach_to(self: &Arc<Self>, transfer: &Arc<Transfer>) -> Result<Attachment, Failure> {
        let mut state = lock(&transfer.state);
        if state.attached >= ATTACHED_MAX {
            let message = format!("{}: {ATTACHED_MAX} connections send it already", transfer.put.path);
            return Err(Failure::new(ErrorCode::Busy, message));
        }
        state.attached += 1;
        Ok(Attachment::new(self, transfer.clone()))
    }
}

/// One request's part in a transfer. Dropped, it is detached, and the last one takes the transfer with it.
#[derive(Debug)]
pub struct Attachment {
    transfers: Arc<Transfers>,
    transfer: Arc<Transfer>,
    /// The digest of the extent, or of the whole, that comes next.
    announced: Option<Digest>,
    receiving: Option<(Claim, Digest)>,
    /// It is not counted among the attached any more.
    is_detached: bool,
}

impl Attachment {
    fn new(transfers: &Arc<Transfers>, transfer: Arc<Transfer>) -> Self {
        Self { transfers: transfers.clone(), transfer, announced: None, receiving: None, is_detached: false }
    }

    /// What is sent.
    pub(crate) fn put(&self) -> &Put {
        &self.transfer.put
    }

    /// Detaches it, although some of what it sent may still be being written. Whether nobody is attached any more, and the
    /// file is not committed.
    pub(crate) fn detach(&mut self) -> bool {
        let mut state = lock(&self.transfer.state);
        if !std::mem::replace(&mut self.is_detached, true) {
            state.attached -= 1;
        }
        state.attached == 0 && !state.committed
    }

    /// Whether another has tried to send what this one is sending, or another file to the same path.
    pub(crate) fn is_contested(&self) -> bool {
        let state = lock(&self.transfer.state);
        let mine = self.receiving.as_ref().map(|(claim, _)| claim.offset);
        let is_mine = |claimed: &Claimed| Some(claimed.start) == mine;
        state.is_contested || state.claimed.iter().any(|claimed| is_mine(claimed) && claimed.is_contested)
    }

    /// Whether `have` is about this transfer.
    pub(crate) fn is_about(&self, have: &Have) -> bool {
        self.transfer.id == have.transfer
    }

    /// All that is held.
    pub(crate) fn have(&self) -> Have {
        self.transfer.have(0, self.transfer.size())
    }

    /// The digest of what comes next.
    pub(crate) fn announce(&mut self, digest: Digest) -> Result<(), Failure> {
        let Put { path, digest: algorithm, .. } = &self.transfer.put;
        if digest.algorithm() != *algorithm {
            return Err(Failure::other_algorithm(path, digest.algorithm(), *algorithm));
        }
        self.announced = Some(digest);
        Ok(())
    }

    /// An extent begins. Its bytes follow in the stream, and are received unless it is answered with what is held of it.
    pub(crate) fn extent<O>(
        &mut self,
        request: u32,
        offset: u64,
        len: u64,
        effects: &mut Effects<O>,
    ) -> Result<Option<Have>, Failure> {
        let transfer = &self.transfer;
        let path = &transfer.put.path;
        let Some(digest) = self.announced.take() else {
            return Err(Failure::protocol(format!("{path}: an extent without its digest")));
        };
        let end = offset.saturating_add(len);
        if end > transfer.size() {
            return Err(Failure::too_many_bytes(path, transfer.size()));
        }
        let mut state = lock(&transfer.state);
        if state.committed {
            return Err(Failure::protocol(format!("{path}: extent after the commit")));
        }
        let mut is_taken = false;
        for claimed in state.claimed.iter_mut().filter(|it| it.start < end && offset < it.end) {
            claimed.is_contested = true;
            is_taken = true;
        }
        if is_taken || state.held.touches(offset, end) {
            drop(state);
            return Ok(Some(transfer.have(offset, end)));
        }
        state.claimed.push(Claimed { start: offset, end, is_contested: false });
        self.receiving = Some((Claim { transfer: transfer.clone(), offset, end }, digest));
        let hasher = Some(Hasher::new(transfer.put.digest));
        effects.receive(request, transfer.sink.clone(), offset, len, hasher);
        Ok(None)
    }

    /// The extent is in the file, or could not be written. If it is right, it is to be recorded.
    pub(crate) fn on_received(
        &mut self,
        hasher: Option<Hasher>,
        result: io::Result<()>,
    ) -> Result<Proven, Failure> {
        self.transfer.forget_if_lost();
        let path = &self.transfer.put.path;
        result.map_err(|error| Failure::io(path.as_str(), &error))?;
        let (Some((claim, theirs)), Some(hasher)) = (self.receiving.take(), hasher) else {
            return Err(Failure::new(ErrorCode::Internal, format!("{path}: an extent that nobody expected")));
        };
        let ours = hasher.finish();
        if ours != theirs && !seeded!(DigestNotChecked) {
            let (offset, end) = (claim.offset, claim.end);
            return Err(Failure::new(
                ErrorCode::DigestMismatch,
                format!(
                    "{path}: bytes {offset} to {end} came with digest {ours}, the sender's have {theirs}; send it again"
                ),
            ));
        }
        let run = Run { offset: claim.offset, len: claim.end - claim.offset, crc64: Runs::crc64(&ours) };
        Ok(Proven { claim, run })
    }

    /// The whole file was sent: gives it to the commit, with what is to be answered then, if that is so.
    pub(crate) fn commit(&mut self, size: u64) -> Result<(Staging, Committed), Failure> {
        let transfer = &self.transfer;
        let path = &transfer.put.path;
        let Some(theirs) = self.announced.take() else {
            return Err(Failure::protocol(format!("{path}: commit before the digest")));
        };
        let mut state = lock(&transfer.state);
        let incomplete = || Failure::too_few_bytes(path, state.held.bytes(), transfer.size());
        let ours = state.held.digest(size).filter(|_| size == transfer.size()).ok_or_else(incomplete)?;
        if ours != theirs && !seeded!(DigestNotChecked) {
            return Err(Failure::other_bytes(path, &ours, &theirs));
        }
        if state.committed {
            return Err(Failure::protocol(format!("{path}: a second commit")));
        }
        let lost = || {
            let message =
                format!("{path}: some of it could not be brought to the server's disk; send it again");
            Failure::new(ErrorCode::Io, message)
        };
        let staging = lock(&transfer.staging).take().ok_or_else(lost)?;
        state.committed = true;
        drop(state);
        lock(&self.transfers.open).remove(&transfer.id);
        Ok((staging, Committed { size, write_path: transfer.write_path, digest: ours }))
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.transfer.forget_if_lost();
        let transfers = self.transfers.clone();
        let mut open = lock(&transfers.open);
        self.detach();
        // Another may have been attached after the last one was detached.
        if lock(&self.transfer.state).attached == 0 {
            open.remove(&self.transfer.id);
        }
    }
}

/// An extent that has come and is right, and does not count yet.
#[derive(Debug)]
pub(crate) struct Proven {
    claim: Claim,
    run: Run,
}

impl Proven {
    /// Whether recording it is work for a worker.
    pub(crate) fn blocks(&self) -> bool {
        self.claim.transfer.put.sharing == Sharing::Resumable
    }

    /// From now on it counts. The acknowledgement.
    pub(crate) fn record(self) -> Result<Have, Failure> {
        let Self { claim, run } = self;
        let transfer = &claim.transfer;
        let added = lock(&transfer.state).held.add(run);
        added.map_err(|error| Failure::new(ErrorCode::Limit, format!("{}: {error}", transfer.put.path)))?;
        let mut staging = lock(&transfer.staging);
        // Whoever commits meanwhile has no use for it any more.
        let recorded = staging.as_mut().map_or(Ok(()), |staging| staging.record(run));
        if recorded.is_err() {
            // Others may be attached still, and are not to commit what may be lost.
            *staging = None;
        }
        drop(staging);
        recorded?;
        Ok(Have { transfer: transfer.id, start: run.offset, end: run.end(), runs: vec![run] })
    }
}

/// The right to write to a place of the file. It ends when nothing is being written there any more.
#[derive(Debug)]
struct Claim {
    transfer: Arc<Transfer>,
    offset: u64,
    end: u64,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // No two overlap.
        lock(&self.transfer.state).claimed.retain(|claimed| claimed.start != self.offset);
    }
}

impl Transfer {
    fn size(&self) -> u64 {
        self.put.size.unwrap_or_default()
    }

    /// Gives up a file some of whose bytes may be lost: before anybody is told, and not when the last request is gone. If this
    /// process was killed in between, the next one would believe them. It is two names less; the blocks go with the sink.
    fn forget_if_lost(&self) {
        if self.sink.has_lost() {
            *lock(&self.staging) = None;
        }
    }

    fn have(&self, start: u64, end: u64) -> Have {
        Have { transfer: self.id, start, end, runs: lock(&self.state).held.touching(start, end).collect() }
    }
}

fn new_id() -> TransferId {
    let halves = [(); 2].map(|()| random::number().to_le_bytes());
    let mut id = [0; 16];
    id.iter_mut().zip(halves.concat()).for_each(|(byte, random)| *byte = random);
    TransferId(id)
}
