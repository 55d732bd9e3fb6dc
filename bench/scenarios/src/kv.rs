//! Keys through the server's session: a peer that does nothing but say the same requests and count the bytes of the replies.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use xferd_server::{Config, Listen, Server};
use xferd_wire::resp::encode_request;

use crate::{Outcome, session};

const VALUE: &[u8] = &[b'x'; 64];
const GOT: &str = "$64\r\n";

/// Requests that are said at once where they are.
const PIPELINE: usize = 16;

pub(crate) fn set(times: u32, folder: &Path) -> Outcome {
    ask(times, folder, 1, |key| vec![b"SET", key, VALUE], b"+OK\r\n".len())
}

pub(crate) fn get(times: u32, folder: &Path) -> Outcome {
    ask(times, folder, 1, |key| vec![b"GET", key], GOT.len() + VALUE.len() + 2)
}

pub(crate) fn get_pipelined(times: u32, folder: &Path) -> Outcome {
    ask(times, folder, PIPELINE, |key| vec![b"GET", key], GOT.len() + VALUE.len() + 2)
}

/// Requests for a few keys that are there, so many at once, each of which has a reply of `reply_bytes`: what is said at once is
/// one segment there and one back, however the threads are scheduled.
fn ask(
    times: u32,
    folder: &Path,
    at_once: usize,
    request: impl for<'a> Fn(&'a [u8]) -> Vec<&'a [u8]>,
    reply_bytes: usize,
) -> Outcome {
    let mut config = Config::new(folder);
    config.listen = vec![Listen::kv(([127, 0, 0, 1], 0))];
    (config.io_threads, config.workers) = (1, 0);
    let server = Server::start(config)?;
    let mut stream = TcpStream::connect(session::listens_at(&server)?)?;
    stream.set_nodelay(true)?;
    let (mut fill, mut requests) = (Vec::new(), Vec::new());
    for number in 0..at_once {
        let key = format!("key:{number:012}");
        encode_request([b"SET", key.as_bytes(), VALUE], &mut fill);
        encode_request(request(key.as_bytes()), &mut requests);
    }
    let mut replies = vec![0; at_once * reply_bytes];
    stream.write_all(&fill)?;
    stream.read_exact(&mut vec![0; at_once * b"+OK\r\n".len()])?;
    for _ in 0..times {
        stream.write_all(&requests)?;
        stream.read_exact(&mut replies)?;
    }
    if replies.ends_with(b"\r\n") && !replies.contains(&b'-') {
        return Ok(());
    }
    Err(format!("instead of replies: {}", replies.escape_ascii()).into())
}
