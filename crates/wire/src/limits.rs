//! The largest of everything. A peer that goes past one of these is refused before its bytes are kept.

use crate::resp;

/// Bytes of a path on the wire: Linux's `PATH_MAX` (`limits.h`).
pub const PATH_BYTES_MAX: usize = 4096;

/// Bytes of one component of a path: `NAME_MAX` (`limits.h`).
pub const COMPONENT_BYTES_MAX: usize = 255;

/// Bytes of a symbolic link's target: `PATH_MAX` without its closing NUL, the most that `readlink(2)` gives.
pub const LINK_TARGET_BYTES_MAX: usize = 4095;

/// Bytes of a hello after its fixed part.
pub const HELLO_BODY_BYTES_MAX: usize = 1024;

/// Names in one list of a hello.
pub const NAMES_MAX: usize = 32;

/// Bytes of one name in a hello.
pub const NAME_BYTES_MAX: usize = 32;

/// Bytes of the body of any frame but an extent. It is also the most that a decoder keeps.
pub const CONTROL_BODY_BYTES_MAX: usize = 64 * 1024;

/// Raw bytes of one extent. It bounds how long one file can keep the others on its connection waiting.
pub const EXTENT_BYTES_MAX: u64 = 16 << 20;

/// Bytes of one file: the largest `off_t`.
pub const FILE_BYTES_MAX: u64 = (1 << 63) - 1;

/// Bytes of an error's message. Longer ones are cut when they are encoded.
pub const MESSAGE_BYTES_MAX: usize = 1024;

/// Entries in one `ENTRIES` frame.
pub const ENTRIES_MAX: usize = 256;

/// Runs of one transfer, and so in one `HAVE` frame. Who fills a file from its beginning, however many help, has as many
/// runs as extents on their way at most.
pub const RUNS_MAX: usize = 2048;

/// Bytes of a request to the key-value store, a reply or a push in one frame: as many as fit behind its flags.
pub const KV_PART_BYTES_MAX: usize = CONTROL_BODY_BYTES_MAX - 2;

/// Arguments of one request to the key-value store, its command among them.
pub const KV_ARGS_MAX: usize = resp::limits::ARGS_MAX;

/// Bytes of one of them.
pub const KV_ARG_BYTES_MAX: usize = resp::limits::BULK_BYTES_MAX;

/// Bytes of all of them, with their lengths.
pub const KV_REQUEST_BYTES_MAX: usize = resp::limits::REQUEST_BYTES_MAX;

/// Bytes of the body of an optional frame that is not known and therefore skipped.
pub const SKIPPED_BODY_BYTES_MAX: u64 = 1 << 20;

/// Permission bits of a mode: read, write and execute for three, set-user-id, set-group-id and sticky.
pub const MODE_MAX: u32 = 0o7777;

/// Nanoseconds of a time, beside its whole seconds.
pub const NANOSECONDS_MAX: u32 = 999_999_999;
