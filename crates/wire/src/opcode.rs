//! The numbers that say what a frame is.
//!
//! | range | for |
//! |---|---|
//! | `0x01..=0x0F` | the connection |
//! | `0x10..=0x1F` | putting a file |
//! | `0x20..=0x2F` | getting a file |
//! | `0x30..=0x3F` | operations on the tree |
//! | `0x40..=0x4F` | keys |
//! | `0x50..=0x7F` | reserved, critical |
//! | `0x80..=0xFF` | optional: a receiver that does not know one skips it |

/// A request, or the connection if the request is 0, has failed.
pub const ERROR: u8 = 0x01;
/// Asks for a [`PONG`].
pub const PING: u8 = 0x02;
/// Answers a [`PING`].
pub const PONG: u8 = 0x03;
/// The sender accepts no new request.
pub const GOODBYE: u8 = 0x04;

/// Announces a file that the client sends.
pub const PUT: u8 = 0x10;
/// Raw bytes of a file.
pub const EXTENT: u8 = 0x11;
/// The digest over all bytes that were sent.
pub const DIGEST: u8 = 0x12;
/// The file is sent; keep it.
pub const COMMIT: u8 = 0x13;
/// The file is kept.
pub const COMMITTED: u8 = 0x14;
/// The client gives a request up.
pub const CANCEL: u8 = 0x15;
/// Binds a connection to a transfer that several share.
pub const ATTACH: u8 = 0x16;
/// Lists what a server holds of a transfer.
pub const HAVE: u8 = 0x17;

/// Asks for a file.
pub const GET: u8 = 0x20;
/// Announces the file that was asked for.
pub const FILE: u8 = 0x21;
/// The file is sent.
pub const END: u8 = 0x22;

/// Asks what a directory contains.
pub const LIST: u8 = 0x30;
/// Some of what it contains.
pub const ENTRIES: u8 = 0x31;
/// Asks for one entry.
pub const STAT: u8 = 0x32;
/// The entry that was asked for.
pub const ENTRY: u8 = 0x33;
/// Removes an entry.
pub const REMOVE: u8 = 0x34;
/// Moves an entry.
pub const RENAME: u8 = 0x35;
/// Makes a directory.
pub const MAKE_DIR: u8 = 0x36;
/// Makes a symbolic link.
pub const SYMLINK: u8 = 0x37;
/// Sets mode and modification time.
pub const SET_ATTRIBUTES: u8 = 0x38;
/// The request is done.
pub const DONE: u8 = 0x39;
/// Asks for the digest of a file.
pub const CHECKSUM: u8 = 0x3A;

/// Asks the key-value store for something.
pub const KV: u8 = 0x40;
/// What it answers.
pub const KV_REPLY: u8 = 0x41;
/// What it tells unasked.
pub const KV_PUSH: u8 = 0x42;

/// Whether a receiver may skip a frame with this opcode if it does not know it.
pub const fn is_optional(opcode: u8) -> bool {
    opcode >= 0x80
}

/// Whether this protocol gives `opcode` a meaning.
pub const fn is_known(opcode: u8) -> bool {
    matches!(opcode, ERROR..=GOODBYE | PUT..=HAVE | GET..=END | LIST..=CHECKSUM | KV..=KV_PUSH)
}
