//! Where a server is: `xfer://HOST[:PORT]` as a socket address.

use std::net::SocketAddr;

use xferd_engine::Failure;
use xferd_server::DEFAULT_PORT;
use xferd_wire::ErrorCode;

/// Takes an address apart whose host is an IP address or `localhost`; TypeScript has resolved all other names.
///
/// # Errors
/// INVALID_ARGUMENT for anything else.
pub(crate) fn parse(text: &str) -> Result<SocketAddr, Failure> {
    let place = text.strip_prefix("xfer://").map(|place| place.strip_suffix('/').unwrap_or(place));
    let place = place.map(|place| match place.strip_prefix("localhost") {
        Some(port) if port.is_empty() || port.starts_with(':') => format!("127.0.0.1{port}"),
        _ => place.to_owned(),
    });
    let address =
        place.and_then(|place| place.parse().or_else(|_| format!("{place}:{DEFAULT_PORT}").parse()).ok());
    address.ok_or_else(|| {
        let message = format!(
            "{text:?} is not where a server can be: write xfer://HOST:PORT with an IP address or localhost"
        );
        Failure::new(ErrorCode::InvalidArgument, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_ip_address_or_localhost_and_perhaps_a_port() {
        for (text, meant) in [
            ("xfer://127.0.0.1:1", "127.0.0.1:1"),
            ("xfer://127.0.0.1", "127.0.0.1:7400"),
            ("xfer://0.0.0.0:0/", "0.0.0.0:0"),
            ("xfer://localhost", "127.0.0.1:7400"),
            ("xfer://localhost:65535", "127.0.0.1:65535"),
            ("xfer://[::1]:5", "[::1]:5"),
            ("xfer://[::1]", "[::1]:7400"),
            ("xfer://[fe80::1%2]", "[fe80::1%2]:7400"),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), meant, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_and_named() {
        for text in [
            "",
            "127.0.0.1:1",
            "http://127.0.0.1",
            "xfer://",
            "xfer://:1",
            "xfer://127.0.0.1:",
            "xfer://127.0.0.1:65536",
            "xfer://127.0.0.1:1/path",
            "xfer://::1",
            "xfer://localhosts",
            "xfer://example.org:7400",
            "xfer://1.2.3",
        ] {
            let failure = parse(text).unwrap_err();
            assert_eq!(failure.code, ErrorCode::InvalidArgument);
            assert!(failure.message.contains(&format!("{text:?}")), "{}", failure.message);
        }
    }
}
