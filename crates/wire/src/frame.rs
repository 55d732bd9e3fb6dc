//! Everything that can be said on a connection after the hellos.

use crate::digest::{Digest, DigestAlgorithm};
use crate::entry::{Entries, Entry, Mtime};
use crate::error::ErrorReply;
use crate::kv::KvPart;
use crate::link::LinkTarget;
use crate::opcode;
use crate::path::RemotePath;
use crate::write_path::WritePath;

/// A frame and the request it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Framed {
    /// Chosen by the client; 0 for the connection itself.
    pub request: u32,
    /// What is said.
    pub frame: Frame,
}

/// What a frame says, one variant for each [opcode](crate::opcode).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The request, or the connection if the request is 0, has failed.
    Error(ErrorReply),
    /// Asks for a pong with the same number.
    Ping(u64),
    /// Answers a ping.
    Pong(u64),
    /// The sender accepts no new request.
    Goodbye,
    /// The client announces a file.
    Put(Put),
    /// `len` raw bytes of the file follow this frame; they are no part of it.
    Extent {
        /// Where they belong in the file.
        offset: u64,
        /// How many, 1 to [`EXTENT_BYTES_MAX`](crate::limits::EXTENT_BYTES_MAX).
        len: u64,
    },
    /// The digest over all bytes that were sent, in the order of the file; or of the file that was asked about.
    Digest(Digest),
    /// The client has sent the whole file.
    Commit {
        /// Bytes of the file.
        size: u64,
    },
    /// The server keeps the file.
    Committed(Committed),
    /// The client gives the request up.
    Cancel,
    /// The client binds a request to a transfer that a shared put has made.
    Attach(TransferId),
    /// What the server holds of a transfer.
    Have(Have),
    /// The client asks for a file.
    Get(Get),
    /// The server announces the file that was asked for.
    File(FileHeader),
    /// The server has sent the file.
    End,
    /// Asks what a directory contains.
    List(List),
    /// Some of it; more may follow until `Done`.
    Entries(Entries),
    /// Asks for one entry; a link is not followed.
    Stat(RemotePath),
    /// The entry that was asked for.
    Entry(Entry),
    /// Removes an entry.
    Remove(Remove),
    /// Moves an entry.
    Rename(Rename),
    /// Makes a directory.
    MakeDir(MakeDir),
    /// Makes a symbolic link.
    Symlink(Symlink),
    /// Sets mode and modification time of an entry.
    SetAttributes(SetAttributes),
    /// The request is done.
    Done,
    /// Asks for the digest of a file.
    Checksum(Checksum),
    /// A command for the key-value store, or a part of one: [arguments](crate::KvArgs).
    Kv(KvPart),
    /// What it answers, or a part of that: a value of [RESP](crate::resp) 3, or several.
    KvReply(KvPart),
    /// What it tells unasked, or a part of that: values, one after another.
    KvPush(KvPart),
}

impl Frame {
    /// The number that says what it is.
    pub const fn opcode(&self) -> u8 {
        match self {
            Self::Error(_) => opcode::ERROR,
            Self::Ping(_) => opcode::PING,
            Self::Pong(_) => opcode::PONG,
            Self::Goodbye => opcode::GOODBYE,
            Self::Put(_) => opcode::PUT,
            Self::Extent { .. } => opcode::EXTENT,
            Self::Digest(_) => opcode::DIGEST,
            Self::Commit { .. } => opcode::COMMIT,
            Self::Committed(_) => opcode::COMMITTED,
            Self::Cancel => opcode::CANCEL,
            Self::Attach(_) => opcode::ATTACH,
            Self::Have(_) => opcode::HAVE,
            Self::Get(_) => opcode::GET,
            Self::File(_) => opcode::FILE,
            Self::End => opcode::END,
            Self::List(_) => opcode::LIST,
            Self::Entries(_) => opcode::ENTRIES,
            Self::Stat(_) => opcode::STAT,
            Self::Entry(_) => opcode::ENTRY,
            Self::Remove(_) => opcode::REMOVE,
            Self::Rename(_) => opcode::RENAME,
            Self::MakeDir(_) => opcode::MAKE_DIR,
            Self::Symlink(_) => opcode::SYMLINK,
            Self::SetAttributes(_) => opcode::SET_ATTRIBUTES,
            Self::Done => opcode::DONE,
            Self::Checksum(_) => opcode::CHECKSUM,
            Self::Kv(_) => opcode::KV,
            Self::KvReply(_) => opcode::KV_REPLY,
            Self::KvPush(_) => opcode::KV_PUSH,
        }
    }
}

/// A file that is about to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Where it shall be.
    pub path: RemotePath,
    /// Its bytes, if they are known before they are sent.
    pub size: Option<u64>,
    /// Whether it must be on disk, not only in the server's memory, when it is acknowledged.
    pub durable: bool,
    /// The digest that follows its bytes.
    pub digest: DigestAlgorithm,
    /// Its permission bits.
    pub mode: u32,
    /// Its modification time.
    pub mtime: Mtime,
    /// What tells it from another file, or from itself at another time.
    pub identity: Identity,
    /// Whether other connections, or a later put, may add to it.
    pub sharing: Sharing,
}

/// Who may send a file's extents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sharing {
    /// This request alone, from the first byte to the last.
    #[default]
    Alone,
    /// Every request that is attached to the transfer, in any order. The size is known.
    Shared,
    /// The same; and what has come is kept for a later put of the same path and the same source.
    Resumable,
}

/// Names a transfer that several connections share: random bytes, chosen by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransferId(pub [u8; 16]);

/// Bytes of a file that have come and were compared with their digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first.
    pub offset: u64,
    /// How many, at least one.
    pub len: u64,
    /// Their CRC-64/NVME; 0 if the transfer takes no digest.
    pub crc64: u64,
}

impl Run {
    /// The byte after the last.
    pub const fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

/// What a server holds of a range of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Have {
    /// Which transfer.
    pub transfer: TransferId,
    /// The first byte of the range: of the extent this answers, or of the file.
    pub start: u64,
    /// The byte after its last.
    pub end: u64,
    /// The runs that have bytes in it, at most [`RUNS_MAX`](crate::limits::RUNS_MAX), in order and without overlap.
    pub runs: Vec<Run>,
}

/// With its size and modification time, what tells one version of a source from any other. All zero if unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Number of the inode.
    pub inode: u64,
    /// Seconds of the last change to the inode, as in [`Mtime`].
    pub ctime_s: i64,
    /// The rest in nanoseconds, less than 1,000,000,000.
    pub ctime_ns: u32,
}

/// What the server keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Bytes of the file.
    pub size: u64,
    /// The way they took to its disk.
    pub write_path: WritePath,
    /// The digest that the server took over them.
    pub digest: Digest,
}

/// A file, or a part of one, that the client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Get {
    /// Where it is.
    pub path: RemotePath,
    /// The first byte that is wanted.
    pub start: u64,
    /// The byte after the last that is wanted, `None` for all there are.
    pub end: Option<u64>,
    /// The digest that shall follow the bytes.
    pub digest: DigestAlgorithm,
}

/// A file that the server is about to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHeader {
    /// Bytes of the whole file.
    pub size: u64,
    /// The first byte that is sent.
    pub start: u64,
    /// The byte after the last that is sent, at most `size`.
    pub end: u64,
    /// Its permission bits.
    pub mode: u32,
    /// Its modification time.
    pub mtime: Mtime,
}

/// A directory whose content is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// Where it is.
    pub path: RemotePath,
    /// Whether the content of directories in it is wanted too.
    pub recursive: bool,
}

/// An entry to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remove {
    /// Where it is.
    pub path: RemotePath,
    /// Whether a directory goes with what it contains.
    pub recursive: bool,
}

/// An entry to move. A file that is at its new place is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// Where it is.
    pub from: RemotePath,
    /// Where it shall be.
    pub to: RemotePath,
}

/// A directory to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MakeDir {
    /// Where it shall be.
    pub path: RemotePath,
    /// Its permission bits.
    pub mode: u32,
    /// Whether missing parents are made too, and a directory that is there already is no error.
    pub parents: bool,
}

/// A symbolic link to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symlink {
    /// Where it shall be.
    pub path: RemotePath,
    /// Where it points.
    pub target: LinkTarget,
}

/// Attributes to set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAttributes {
    /// The entry whose they are.
    pub path: RemotePath,
    /// Its permission bits.
    pub mode: u32,
    /// Its modification time.
    pub mtime: Mtime,
}

/// A file whose digest is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    /// Where it is.
    pub path: RemotePath,
    /// The digest that is wanted.
    pub digest: DigestAlgorithm,
}

/// The flag of a put that must be on disk when it is acknowledged.
pub(crate) const PUT_DURABLE: u16 = 1 << 0;
/// The flag of a put whose size is known.
pub(crate) const PUT_SIZED: u16 = 1 << 1;
/// The flag of a put that several connections may feed.
pub(crate) const PUT_SHARED: u16 = 1 << 2;
/// The flag of a shared put that a later one may continue.
pub(crate) const PUT_RESUMABLE: u16 = 1 << 3;
/// The flag of a listing or a removal that goes into directories.
pub(crate) const RECURSIVE: u16 = 1 << 0;
/// The flag of a directory that is made together with its parents.
pub(crate) const PARENTS: u16 = 1 << 0;
/// The flag of a part that another one follows.
pub(crate) const KV_MORE: u16 = 1 << 0;
/// The end of a range that has none.
pub(crate) const TO_END: u64 = u64::MAX;
