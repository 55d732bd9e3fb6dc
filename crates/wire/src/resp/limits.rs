//! The largest of everything in RESP.

/// Bytes of a line before its end: a request of words, or the number in front of an argument. Redis's
/// `PROTO_INLINE_MAX_SIZE`.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// Arguments of one request. Redis took as many before version 7; each one costs 8 bytes beside its own.
pub const ARGS_MAX: usize = 1024 * 1024;

/// Bytes of one argument or one string of a reply. Redis's default of `proto-max-bulk-len`.
pub const BULK_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Bytes of one request. Redis's default of `client-query-buffer-limit`.
pub const REQUEST_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Arguments of a request from somebody who has not said who they are.
pub const UNAUTHENTICATED_ARGS_MAX: usize = 10;

/// Bytes of one argument from somebody who has not said who they are.
pub const UNAUTHENTICATED_BULK_BYTES_MAX: usize = 16 * 1024;

/// Aggregates of a reply in each other.
pub const REPLY_DEPTH_MAX: usize = 32;

/// Values of an array, set or push, and pairs of a map or attribute: the most that Redis announces.
pub const AGGREGATE_LEN_MAX: u64 = i32::MAX as u64;

/// The least and the most that [`RequestParser::wants`](super::RequestParser::wants) asks for at once.
pub const WANTED_BYTES_MIN: usize = 16 * 1024;

/// See [`WANTED_BYTES_MIN`].
pub const WANTED_BYTES_MAX: usize = 1024 * 1024;

/// Arguments whose places are remembered between requests; beyond, memory is given back.
pub(super) const ARGS_KEPT_MAX: usize = 1024;
