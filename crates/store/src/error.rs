//! What can go wrong in a store.

use std::io;
use std::sync::Arc;

use xferd_os::Refusal;
use xferd_wire::{DigestAlgorithm, ErrorCode, RemotePath};

/// Why a store did not do what it was asked. Nothing was changed, unless a variant says otherwise.
///
/// Paths are spelled from the root of the store; the root itself is `/`.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another transfer has it.
    #[error("{path}: is being sent by another connection; try again when that has ended")]
    Busy {
        /// The path.
        path: String,
    },
    /// Parts of the digest do not combine to that of the whole, so what there is of a file cannot be gone on with.
    #[error("{path}: cannot be resumed or shared with the digest {digest}; use crc64nvme or none")]
    NotResumable {
        /// The path.
        path: String,
        /// The digest.
        digest: DigestAlgorithm,
    },
    /// The name is of the kind that unfinished files have.
    #[error("{path}: names like .xferd-0123456789abcdef are for unfinished files; choose another name")]
    Reserved {
        /// The path.
        path: String,
    },
    /// The root cannot be removed, renamed or replaced.
    #[error("the root cannot be removed, renamed or replaced; name something beneath it")]
    Root,
    /// The path goes deeper than [`DEPTH_MAX`](crate::DEPTH_MAX).
    #[error("{path}: more than {} directories deep; use a flatter tree", crate::DEPTH_MAX)]
    TooDeep {
        /// The path.
        path: String,
    },
    /// The path or a name in it is too long.
    #[error("{path}: the path or a name in it is longer than the file system takes; shorten it")]
    NameTooLong {
        /// The path.
        path: String,
    },
    /// Links that lead to links without end.
    #[error("{path}: too many symbolic links on the way; remove the loop")]
    TooManyLinks {
        /// The path.
        path: String,
    },
    /// A link on the way leads out of the root.
    #[error("{path}: a symbolic link on the way leads out of the root; name a place beneath it")]
    OutsideRoot {
        /// The path.
        path: String,
    },
    /// Nothing is there.
    #[error("{path}: not found")]
    NotFound {
        /// The path.
        path: String,
    },
    /// Something is there already.
    #[error("{path}: exists already; remove it first or choose another name")]
    Exists {
        /// The path.
        path: String,
    },
    /// A directory, a device, a pipe or a socket.
    #[error("{path}: is a directory or a special file, but a regular file is meant here")]
    NotAFile {
        /// The path.
        path: String,
    },
    /// The path, or a part of it that would have to be a directory, is something else.
    #[error("{path}: a part of the path is not a directory")]
    NotADirectory {
        /// The path.
        path: String,
    },
    /// The directory has to be empty for this.
    #[error("{path}: the directory is not empty; empty it first, or remove it with all it contains")]
    DirectoryNotEmpty {
        /// The path.
        path: String,
    },
    /// A directory cannot become a part of itself.
    #[error("{path}: a directory cannot be moved into itself")]
    IntoItself {
        /// The path.
        path: String,
    },
    /// The system denies access.
    #[error("{path}: permission denied; the process needs the rights to it and to its directory")]
    Permission {
        /// The path.
        path: String,
        /// What the system says.
        source: Arc<io::Error>,
    },
    /// The store, or the file system it is on, is read-only.
    #[error("{path}: cannot be changed, because this is read-only")]
    ReadOnly {
        /// The path.
        path: String,
    },
    /// No space or quota is left.
    #[error("{path}: no space left on the device; free some and try again")]
    DiskFull {
        /// The path.
        path: String,
        /// What the system says.
        source: Arc<io::Error>,
    },
    /// No descriptor is left.
    #[error("{path}: too many open files; try again later or raise the limit (ulimit -n)")]
    TooManyFiles {
        /// The path.
        path: String,
        /// What the system says.
        source: Arc<io::Error>,
    },
    /// The file does not have the size that was announced.
    #[error(
        "{path}: {actual_bytes} bytes arrived instead of {expected_bytes}; nothing was stored, send it again"
    )]
    SizeMismatch {
        /// The path.
        path: String,
        /// Announced.
        expected_bytes: u64,
        /// In the staging file.
        actual_bytes: u64,
    },
    /// More bytes than a file may have, in this protocol or on this file system.
    #[error("{path}: {size_bytes} bytes are more than a file can have here; split it")]
    TooLarge {
        /// The path.
        path: String,
        /// Announced.
        size_bytes: u64,
    },
    /// The source was changed while it was read.
    #[error("{path}: was changed while it was read; try again when nobody writes to it")]
    SourceChanged {
        /// The path.
        path: String,
    },
    /// A symbolic link that would point out of the root.
    #[error("{path}: a link to {target:?} would lead out of the root; use a relative target beneath it")]
    LinkEscapes {
        /// The path of the link.
        path: String,
        /// Where it would point.
        target: String,
    },
    /// A name in a directory that has no spelling on the wire.
    #[error("{path}: the name is not UTF-8; rename the file")]
    NameNotUtf8 {
        /// The path, with what is not UTF-8 escaped as `\xff`.
        path: String,
    },
    /// More directories in a tree than a listing can remember.
    #[error("{path}: too many directories side by side to list at once; list its parts one by one")]
    TooManyDirectories {
        /// The listed directory.
        path: String,
    },
    /// Anything else that the system reports.
    #[error("{path}: {source}")]
    Io {
        /// The path.
        path: String,
        /// What the system says.
        source: Arc<io::Error>,
    },
}

impl StoreError {
    /// The stable code that peers and callers go by.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Reserved { .. } | Self::Root | Self::NameTooLong { .. } | Self::TooManyLinks { .. } => {
                ErrorCode::BadPath
            }
            Self::TooDeep { .. } | Self::TooLarge { .. } | Self::TooManyDirectories { .. } => {
                ErrorCode::Limit
            }
            Self::Busy { .. } => ErrorCode::Busy,
            Self::NotResumable { .. } => ErrorCode::Unsupported,
            Self::OutsideRoot { .. } => ErrorCode::OutsideRoot,
            Self::NotFound { .. } => ErrorCode::NotFound,
            Self::Exists { .. } => ErrorCode::Exists,
            Self::NotAFile { .. } => ErrorCode::NotAFile,
            Self::NotADirectory { .. } => ErrorCode::NotADirectory,
            Self::DirectoryNotEmpty { .. } => ErrorCode::DirectoryNotEmpty,
            Self::IntoItself { .. } => ErrorCode::InvalidArgument,
            Self::Permission { .. } => ErrorCode::Permission,
            Self::ReadOnly { .. } => ErrorCode::ReadOnly,
            Self::DiskFull { .. } => ErrorCode::DiskFull,
            Self::TooManyFiles { .. } => ErrorCode::TooManyFiles,
            Self::SizeMismatch { .. } => ErrorCode::SizeMismatch,
            Self::SourceChanged { .. } => ErrorCode::SourceChanged,
            Self::LinkEscapes { .. } => ErrorCode::LinkEscapes,
            Self::NameNotUtf8 { .. } => ErrorCode::NameNotUtf8,
            Self::Io { .. } => ErrorCode::Io,
        }
    }

    /// What `error` means for `path`.
    pub(crate) fn of(path: &RemotePath, error: io::Error) -> Self {
        Self::of_shown(shown(path), error)
    }

    /// What `error` means for what messages call `path`.
    pub(crate) fn of_shown(path: String, error: io::Error) -> Self {
        match Refusal::of(&error) {
            Some(Refusal::Outside) => return Self::OutsideRoot { path },
            Some(Refusal::NotAFile) => return Self::NotAFile { path },
            Some(Refusal::TooManyLinks) => return Self::TooManyLinks { path },
            Some(Refusal::NameTooLong) => return Self::NameTooLong { path },
            Some(Refusal::TooManyFiles) => return Self::TooManyFiles { path, source: Arc::new(error) },
            None => {}
        }
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound { path },
            io::ErrorKind::AlreadyExists => Self::Exists { path },
            io::ErrorKind::IsADirectory => Self::NotAFile { path },
            io::ErrorKind::NotADirectory => Self::NotADirectory { path },
            io::ErrorKind::DirectoryNotEmpty => Self::DirectoryNotEmpty { path },
            io::ErrorKind::PermissionDenied => Self::Permission { path, source: Arc::new(error) },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { path, source: Arc::new(error) }
            }
            _ => Self::Io { path, source: Arc::new(error) },
        }
    }
}

/// How a message spells `path`.
pub(crate) fn shown(path: &RemotePath) -> String {
    if path.is_root() { "/".to_owned() } else { path.to_string() }
}
