//! Where a server is, as a URL: `xfer://HOST[:PORT]`, `xfer+unix:///PATH`; `kv` in place of `xfer` for keys.

use std::net::SocketAddr;
use std::path::Path;

use xferd_engine::Failure;
use xferd_os::net::{Access, Address};
use xferd_server::{Listen, Protocol};
use xferd_wire::ErrorCode;

/// Takes the address of a server of files apart: the absolute path of a Unix socket, or one whose host is an IP address or
/// `localhost`; TypeScript has resolved all other names.
///
/// # Errors
/// INVALID_ARGUMENT for anything else.
pub(crate) fn parse(text: &str) -> Result<Address, Failure> {
    parse_for(Protocol::Transfer, text)
}

/// The same of a server of keys.
///
/// # Errors
/// As those of [`parse`].
pub(crate) fn parse_kv(text: &str) -> Result<Address, Failure> {
    parse_for(Protocol::Kv, text)
}

fn parse_for(wanted: Protocol, text: &str) -> Result<Address, Failure> {
    let (protocol, address, question) = take_apart(text)?;
    match (protocol, question) {
        (Protocol::Kv, _) if wanted != protocol => {
            Err(wrong(format!("{text:?} is the address of a key-value store; files are at xfer://HOST:PORT")))
        }
        (Protocol::Transfer, _) if wanted != protocol => {
            Err(wrong(format!("{text:?} is the address of a server of files; keys are at kv://HOST:PORT")))
        }
        (_, None) => Ok(address),
        (_, Some(_)) => {
            Err(wrong(format!("{text:?}: ?mode, &user and &group are for who listens; leave them out")))
        }
    }
}

/// Takes an address to listen on apart. That of a Unix socket may say who may connect: `?mode=0660&user=1000&group=100`.
///
/// # Errors
/// As those of [`parse`].
pub(crate) fn parse_listen(text: &str) -> Result<Listen, Failure> {
    let (protocol, address, question) = take_apart(text)?;
    let access = question.map_or_else(|| Ok(Access::default()), |question| parse_access(text, question))?;
    Ok(Listen { protocol, address, access })
}

/// What is spoken, where, and what follows a question mark. That is a Unix socket's alone.
fn take_apart(text: &str) -> Result<(Protocol, Address, Option<&str>), Failure> {
    let found = Protocol::ALL.into_iter().find_map(|protocol| {
        let rest = text.strip_prefix(protocol.scheme())?;
        if let Some(place) = rest.strip_prefix("://") {
            return Some((protocol, internet(place, protocol.default_port())?.into(), None));
        }
        let (path, question) = match rest.strip_prefix("+unix://")?.split_once('?') {
            Some((path, question)) => (path, Some(question)),
            None => (rest.strip_prefix("+unix://")?, None),
        };
        let is_file = path.starts_with('/') && !path.ends_with('/');
        is_file.then(|| (protocol, Path::new(path).into(), question))
    });
    found.ok_or_else(|| {
        wrong(format!(
            "{text:?} is not where a server can be: write xfer://HOST:PORT with an IP address or localhost, or \
             xfer+unix:///PATH with the absolute path of a socket; kv in place of xfer serves keys"
        ))
    })
}

fn internet(place: &str, default_port: u16) -> Option<SocketAddr> {
    let place = place.strip_suffix('/').unwrap_or(place);
    let place = match place.strip_prefix("localhost") {
        Some(port) if port.is_empty() || port.starts_with(':') => format!("127.0.0.1{port}"),
        _ => place.to_owned(),
    };
    place.parse().or_else(|_| format!("{place}:{default_port}").parse()).ok()
}

fn parse_access(text: &str, question: &str) -> Result<Access, Failure> {
    let mut access = Access::default();
    for option in question.split('&') {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let id = || {
            // The last number means "nobody in particular" to chown(2).
            let id = value.parse().ok().filter(|&id| is_number && id != u32::MAX);
            id.ok_or_else(|| {
                wrong(format!("{text:?}: {name} is {value:?}; give its number, as `id` prints it"))
            })
        };
        match name {
            "mode" => {
                let mode = u32::from_str_radix(value, 8).ok().filter(|&mode| is_number && mode <= 0o777);
                access.mode = mode.ok_or_else(|| {
                    wrong(format!(
                        "{text:?}: mode is {value:?}; give an octal number up to 0777, as of chmod"
                    ))
                })?;
            }
            "user" => access.user = Some(id()?),
            "group" => access.group = Some(id()?),
            _ => {
                return Err(wrong(format!(
                    "{text:?}: {name:?} is no option of a socket; there are mode, user and group"
                )));
            }
        }
    }
    Ok(access)
}

fn wrong(message: String) -> Failure {
    Failure::new(ErrorCode::InvalidArgument, message)
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
    fn keys_have_addresses_of_their_own() {
        let listen = |text| parse_listen(text).map(|listen| (listen.protocol, listen.to_string())).unwrap();
        assert_eq!(listen("kv://127.0.0.1"), (Protocol::Kv, "kv://127.0.0.1:6390".into()));
        assert_eq!(listen("kv://[::1]:1"), (Protocol::Kv, "kv://[::1]:1".into()));
        assert_eq!(listen("kv+unix:///run/s?mode=0770"), (Protocol::Kv, "kv+unix:///run/s".into()));
        assert_eq!(parse_kv("kv://localhost").unwrap().to_string(), "127.0.0.1:6390");
        assert_eq!(parse_kv("kv+unix:///run/s").unwrap(), Path::new("/run/s").into());
        for text in ["kv://127.0.0.1", "kv+unix:///run/s"] {
            is_refused(text, parse(text));
        }
        for text in
            ["xfer://127.0.0.1", "xfer+unix:///run/s", "kv+unix:///run/s?mode=0770", "redis://127.0.0.1"]
        {
            is_refused(text, parse_kv(text));
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
            "xfer://127.0.0.1:1?mode=7",
            "xfer+unix://",
            "xfer+unix://socket",
            "xfer+unix:///",
            "xfer+unix:///folder/",
            "xfer+unix:/socket",
            "unix:///socket",
        ] {
            is_refused(text, parse(text));
            is_refused(text, parse_listen(text));
        }
    }

    fn is_refused<T: std::fmt::Debug>(text: &str, parsed: Result<T, Failure>) {
        let failure = parsed.unwrap_err();
        assert_eq!(failure.code, ErrorCode::InvalidArgument);
        assert!(failure.message.contains(&format!("{text:?}")), "{}", failure.message);
    }

    #[test]
    fn a_socket_is_named_by_its_path_and_who_listens_says_who_may_connect() {
        let path = Address::from(Path::new("/run/a b%20.sock"));
        assert_eq!(parse("xfer+unix:///run/a b%20.sock").unwrap(), path);
        let access = |question: &str| {
            let listen = parse_listen(&format!("xfer+unix:///run/a b%20.sock{question}")).unwrap();
            assert_eq!((listen.protocol, &listen.address), (Protocol::Transfer, &path));
            assert_eq!(listen.to_string(), "xfer+unix:///run/a b%20.sock");
            listen.access
        };
        assert_eq!(access(""), Access::default());
        assert_eq!(access("?mode=0660"), Access { mode: 0o660, ..Access::default() });
        let all = Access { mode: 0o777, user: Some(0), group: Some(u32::MAX - 1) };
        assert_eq!(access("?group=4294967294&mode=777&user=0"), all);
    }

    #[test]
    fn access_that_makes_no_sense_is_refused_and_named() {
        for question in [
            "",
            "mode",
            "mode=",
            "mode=1000",
            "mode=8",
            "mode=+7",
            "mode=rw",
            "user=",
            "user=root",
            "user=-1",
            "group=4294967295",
            "group=4294967296",
            "mode=7&",
            "access=7",
        ] {
            let text = format!("xfer+unix:///s?{question}");
            is_refused(&text, parse_listen(&text));
            is_refused(&text, parse(&text));
        }
    }
}
