//! What the bytes of the xferd transfer protocol mean: values in, bytes out, and back.
//!
//! The protocol itself is described in `docs/protocol.md`. This crate does no I/O and knows no clock. It turns
//! frames into bytes with [`encode`] and bytes into frames with a [`Decoder`], which takes them in whatever pieces
//! a socket gives. What comes out of the decoder is checked: a path stays beneath its root, a name is UTF-8, a
//! length is within its [limit](limits). Nothing is allocated by what a peer merely claims.
//!
//! The key-value store speaks the protocol of Redis instead, which is in [`resp`]; its replies are in the frames of keys, too.
//!
//! ```
//! use xferd_wire::{Decoder, Frame, Hello, Item, encode};
//!
//! let mut bytes = Vec::new();
//! Hello::default().encode(&mut bytes);
//! encode(0, &Frame::Ping(7), &mut bytes);
//!
//! let mut decoder = Decoder::new();
//! let (taken, hello) = decoder.decode(&bytes)?;
//! assert!(matches!(hello, Some(Item::Hello(_))));
//! let (_, ping) = decoder.decode(&bytes[taken..])?;
//! assert!(matches!(ping, Some(Item::Frame(framed)) if framed.frame == Frame::Ping(7)));
//! # Ok::<(), xferd_wire::DecodeError>(())
//! ```
#![forbid(unsafe_code)]

mod body;
mod decode;
mod digest;
mod encode;
mod entry;
mod error;
mod fault;
mod frame;
mod header;
mod hello;
mod kv;
pub mod limits;
mod link;
pub mod opcode;
mod path;
mod reader;
pub mod resp;
mod write_path;

pub use decode::{Decoder, Item};
pub use digest::{Digest, DigestAlgorithm, DigestError};
pub use encode::encode;
pub use entry::{Entries, Entry, EntryKind, Mtime};
pub use error::{ErrorCode, ErrorReply};
pub use fault::{DecodeError, Fault};
pub use frame::{
    Checksum, Committed, FileHeader, Frame, Framed, Get, Have, Identity, List, MakeDir, Put, Remove, Rename,
    Run, SetAttributes, Sharing, Symlink, TransferId,
};
pub use header::HEADER_BYTES;
pub use hello::{CHECKSUMS, Hello, KV, MAGIC, TRANSFERS, VERSION, choose_version};
pub use kv::{KvArgs, KvPart, encode_kv, write_kv_args};
pub use link::{LinkTarget, LinkTargetError};
pub use path::{PathError, RemotePath};
pub use write_path::{WritePath, WritePathCounts};
