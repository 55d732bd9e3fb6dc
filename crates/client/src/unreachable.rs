//! Why a server cannot be reached, and what to do about it.

use std::io;

use xferd_engine::Failure;
use xferd_wire::ErrorCode;

/// `started_by` is what starts a server that would be at `url`.
pub(crate) fn unreachable(url: &str, started_by: &str, error: &io::Error) -> Failure {
    let why = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        // A socket's file: a server takes its own with it.
        io::ErrorKind::NotFound => "there is no such socket",
        _ => return Failure::io(&format!("cannot reach {url}"), error),
    };
    let message = format!("cannot reach {url}: {why}. Is `{started_by}` running there?");
    Failure::new(ErrorCode::ConnectionRefused, message)
}

/// What starts a server of keys.
pub(crate) const SERVE_KEYS: &str = "xferd serve --listen kv://…";
