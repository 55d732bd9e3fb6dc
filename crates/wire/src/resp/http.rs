//! Browsers that were made to talk to us.

use super::Args;

/// Whether a request is the beginning of one in HTTP, or a header of it.
///
/// A web page can make a browser send requests to a port of its user's machine, and among their lines there may be
/// commands. Redis closes such connections at the words `POST` and `Host:`; so should a server do here, before anything
/// behind them is heard. `GET /path HTTP/1.1` can't be meant for us, either.
pub fn is_http(args: Args<'_>) -> bool {
    let Some(word) = args.get(0) else { return false };
    let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    if is("POST") || is("Host:") {
        return true;
    }
    let is_version = args.len() == 3 && args[2].starts_with(b"HTTP/1.");
    is_version && ["GET", "HEAD", "PUT", "OPTIONS"].into_iter().any(is)
}

#[cfg(test)]
mod tests {
    use super::super::ArgsBuf;
    use super::*;

    fn http(line: &str) -> bool {
        is_http(line.split_whitespace().collect::<ArgsBuf>().args())
    }

    #[test]
    fn a_line_of_http_is_known() {
        for line in [
            "POST / HTTP/1.1",
            "post",
            "Host: localhost:6390",
            "HOST: x",
            "GET / HTTP/1.1",
            "GET /a?b HTTP/1.0",
            "HEAD /a HTTP/1.1",
            "put /a HTTP/1.1",
            "OPTIONS * HTTP/1.1",
        ] {
            assert!(http(line), "{line}");
        }
    }

    #[test]
    fn a_command_is_not_taken_for_http() {
        for line in ["", "GET /", "GET / HTTP/2", "SET / HTTP/1.1", "Host", "DELETE / HTTP/1.1", "GET a b c"]
        {
            assert!(!http(line), "{line}");
        }
    }
}
