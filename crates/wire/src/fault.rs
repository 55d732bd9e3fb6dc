//! Why bytes from a peer are refused.

use crate::digest::DigestError;
use crate::error::{ErrorCode, ErrorReply};
use crate::limits::{
    ENTRIES_MAX, EXTENT_BYTES_MAX, FILE_BYTES_MAX, HELLO_BODY_BYTES_MAX, KV_ARG_BYTES_MAX, KV_ARGS_MAX,
    KV_REQUEST_BYTES_MAX, MODE_MAX, NAMES_MAX, RUNS_MAX,
};
use crate::limits::{MESSAGE_BYTES_MAX, NAME_BYTES_MAX, NANOSECONDS_MAX};
use crate::link::LinkTargetError;
use crate::path::PathError;

/// A [`Fault`] and the request it was found in. The connection cannot go on after it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct DecodeError {
    /// The request that the frame belongs to, 0 for the connection itself.
    pub request: u32,
    /// What is wrong.
    pub fault: Fault,
}

impl DecodeError {
    /// The code to answer with.
    pub fn code(&self) -> ErrorCode {
        self.fault.code()
    }

    /// The reply to send, under [`request`](Self::request), before the connection is closed.
    pub fn reply(&self) -> ErrorReply {
        ErrorReply::new(self.code(), self.to_string())
    }
}

/// What is wrong with bytes from a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The connection does not begin with [`MAGIC`](crate::MAGIC).
    #[error("the peer does not speak xferd's protocol; check host and port")]
    Magic,
    /// The lowest version of a hello is above its highest.
    #[error("the hello offers versions {version_min} to {version_max}, which is no range")]
    VersionRange {
        /// The lowest version.
        version_min: u16,
        /// The highest version.
        version_max: u16,
    },
    /// A hello of more than [`HELLO_BODY_BYTES_MAX`] bytes.
    #[error("the hello announces a body of {body_bytes} bytes; send at most {HELLO_BODY_BYTES_MAX}")]
    HelloBody {
        /// The bytes announced.
        body_bytes: u32,
    },
    /// A list of more than [`NAMES_MAX`] names.
    #[error("the hello lists {names} names; list at most {NAMES_MAX}")]
    Names {
        /// The names announced.
        names: u8,
    },
    /// A name of more than [`NAME_BYTES_MAX`] bytes.
    #[error("a name in the hello has {name_bytes} bytes; use at most {NAME_BYTES_MAX}")]
    NameTooLong {
        /// Bytes of the name.
        name_bytes: usize,
    },
    /// A name that is empty or has other characters than it may.
    #[error("a name in the hello is malformed; use a to z, 0 to 9 and '-'")]
    Name,
    /// The reserved bytes of a header are not zero.
    #[error("frame {opcode:#04x} has reserved bytes that are not zero")]
    Reserved {
        /// The frame.
        opcode: u8,
    },
    /// A critical frame that is not known.
    #[error("frame {opcode:#04x} is not supported; offer it only to peers whose hello names its capability")]
    Opcode {
        /// The frame.
        opcode: u8,
    },
    /// Flags that are not known.
    #[error("frame {opcode:#04x} has flags {flags:#x}, some of which are not supported")]
    Flags {
        /// The frame.
        opcode: u8,
        /// All of its flags.
        flags: u16,
    },
    /// A frame of the connection with a request, or one of a request without.
    #[error(
        "frame {opcode:#04x} has the wrong kind of request; use 0 for the connection, else another number"
    )]
    Request {
        /// The frame.
        opcode: u8,
    },
    /// A body longer than the limit for its frame.
    #[error("frame {opcode:#04x} announces a body of {body_bytes} bytes; send at most {bytes_max}")]
    Body {
        /// The frame.
        opcode: u8,
        /// The bytes announced.
        body_bytes: u64,
        /// The bytes allowed.
        bytes_max: u64,
    },
    /// A body that ends before its last field.
    #[error("the body ends before its last field")]
    Short,
    /// A body that goes on after its last field.
    #[error("the body goes on for {bytes} bytes after its last field")]
    Trailing {
        /// The bytes too many.
        bytes: usize,
    },
    /// An extent of no bytes.
    #[error("the extent is empty; send 1 to {EXTENT_BYTES_MAX} bytes in each")]
    EmptyExtent,
    /// An extent that ends beyond [`FILE_BYTES_MAX`].
    #[error(
        "an extent of {len} bytes at offset {offset} is beyond any file; the largest has {FILE_BYTES_MAX} bytes"
    )]
    ExtentEnd {
        /// Where it begins.
        offset: u64,
        /// Its raw bytes.
        len: u64,
    },
    /// A size or the end of a range beyond [`FILE_BYTES_MAX`].
    #[error("a file of {size} bytes is refused; the largest has {FILE_BYTES_MAX} bytes")]
    FileBytes {
        /// The size.
        size: u64,
    },
    /// A size in a frame whose flags say that the size is not known.
    #[error("the put is announced without a size, but the size is {size}; set the flag or send 0")]
    UnannouncedSize {
        /// The size.
        size: u64,
    },
    /// A put that is shared without a size, or resumable without being shared.
    #[error("the put is shared or resumable without the flags that this needs; set SIZED and SHARED")]
    Sharing,
    /// More than [`RUNS_MAX`] runs in one frame.
    #[error("the frame lists {runs} runs; list at most {RUNS_MAX}")]
    TooManyRuns {
        /// The runs announced.
        runs: u16,
    },
    /// A run that is empty, ends beyond any file, or begins before the one before it has ended.
    #[error("a run of {len} bytes at offset {offset} is out of order, empty or beyond any file")]
    Run {
        /// Where it begins.
        offset: u64,
        /// Its bytes.
        len: u64,
    },
    /// A range that ends before it begins, or past the end of its file.
    #[error("the range from {start} to {end} is not within a file")]
    Range {
        /// Its first byte.
        start: u64,
        /// The byte after its last.
        end: u64,
    },
    /// A second or more of nanoseconds.
    #[error("a time has {nanoseconds} nanoseconds; use at most {NANOSECONDS_MAX}")]
    Nanoseconds {
        /// The nanoseconds.
        nanoseconds: u32,
    },
    /// Other bits than permissions in a mode.
    #[error("the mode {mode:#o} has other bits than permissions; use at most {MODE_MAX:#o}")]
    Mode {
        /// The mode.
        mode: u32,
    },
    /// A truth value that is neither 0 nor 1.
    #[error("a truth value is {value}; use 0 or 1")]
    Bool {
        /// The value.
        value: u8,
    },
    /// A digest algorithm that is not known.
    #[error("digest algorithm {id} is not supported; use one that the hello names")]
    DigestAlgorithm {
        /// Its number.
        id: u8,
    },
    /// A way to the disk that is not known.
    #[error("write path {id} is not known")]
    WritePath {
        /// Its number.
        id: u8,
    },
    /// A digest of the wrong length.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// A kind of entry that is not known.
    #[error("entry kind {id} is not supported")]
    EntryKind {
        /// Its number.
        id: u8,
    },
    /// More than [`ENTRIES_MAX`] entries in one frame.
    #[error("the frame lists {entries} entries; list at most {ENTRIES_MAX}")]
    TooManyEntries {
        /// The entries announced.
        entries: u16,
    },
    /// A request to the key-value store that is longer than [`KV_REQUEST_BYTES_MAX`].
    #[error("the command has more than {KV_REQUEST_BYTES_MAX} bytes")]
    KvRequest,
    /// One without arguments, or with more than [`KV_ARGS_MAX`].
    #[error("the command has {count} arguments; send 1 to {KV_ARGS_MAX}")]
    KvArgs {
        /// The arguments announced.
        count: u32,
    },
    /// An argument that is longer than [`KV_ARG_BYTES_MAX`].
    #[error("an argument has {bytes} bytes; send at most {KV_ARG_BYTES_MAX}")]
    KvArg {
        /// The bytes announced.
        bytes: u32,
    },
    /// A message of more than [`MESSAGE_BYTES_MAX`] bytes.
    #[error("the message has {message_bytes} bytes; send at most {MESSAGE_BYTES_MAX}")]
    MessageTooLong {
        /// Bytes of the message.
        message_bytes: usize,
    },
    /// A message that is not UTF-8.
    #[error("the message is not UTF-8")]
    MessageNotUtf8,
    /// A path or a link's target that is not UTF-8.
    #[error("a name is not UTF-8; rename it: {name:?}")]
    NameNotUtf8 {
        /// The name, with replacements for what is not UTF-8.
        name: String,
    },
    /// A path that is refused.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A link's target that is refused.
    #[error(transparent)]
    LinkTarget(#[from] LinkTargetError),
}

impl Fault {
    /// This fault, found in `request`.
    pub(crate) fn of(self, request: u32) -> DecodeError {
        DecodeError { request, fault: self }
    }

    /// The code to answer with.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Magic
            | Self::VersionRange { .. }
            | Self::Name
            | Self::Reserved { .. }
            | Self::Request { .. }
            | Self::Short
            | Self::Trailing { .. }
            | Self::UnannouncedSize { .. }
            | Self::Sharing
            | Self::Run { .. }
            | Self::Bool { .. }
            | Self::Digest(_)
            | Self::MessageNotUtf8 => ErrorCode::Protocol,
            Self::HelloBody { .. }
            | Self::Names { .. }
            | Self::NameTooLong { .. }
            | Self::Body { .. }
            | Self::EmptyExtent
            | Self::ExtentEnd { .. }
            | Self::FileBytes { .. }
            | Self::TooManyEntries { .. }
            | Self::TooManyRuns { .. }
            | Self::KvRequest
            | Self::KvArgs { .. }
            | Self::KvArg { .. }
            | Self::MessageTooLong { .. } => ErrorCode::Limit,
            Self::Opcode { .. }
            | Self::Flags { .. }
            | Self::DigestAlgorithm { .. }
            | Self::WritePath { .. }
            | Self::EntryKind { .. } => ErrorCode::Unsupported,
            Self::Range { .. } | Self::Nanoseconds { .. } | Self::Mode { .. } | Self::LinkTarget(_) => {
                ErrorCode::InvalidArgument
            }
            Self::NameNotUtf8 { .. } => ErrorCode::NameNotUtf8,
            Self::Path(_) => ErrorCode::BadPath,
        }
    }
}
