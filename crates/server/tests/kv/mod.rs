//! A key-value store that serves, and clients that say what they like to it.

#![allow(dead_code, reason = "each test file needs a part of it")]
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

pub(crate) mod generator;
pub(crate) mod grammar;
pub(crate) mod redis;
pub(crate) mod rules;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use xferd_server::{Config, Listen, Server};
use xferd_wire::resp::{ReplyScanner, Value, ValueDecoder, encode_request};

/// How long a test waits for what must happen. Only a broken server is this late.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A server of keys on a TCP port and a Unix socket.
pub(crate) struct Store {
    pub(crate) server: Server,
    directory: TempDir,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(configure: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::new(directory.path());
        config.io_threads = 2;
        config.listen = vec![Listen::kv(([127, 0, 0, 1], 0)), Listen::kv(&*directory.path().join("kv"))];
        configure(&mut config);
        Self { server: Server::start(config).unwrap(), directory }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.listening()[0].address.internet().unwrap()
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("kv")
    }

    pub(crate) fn client(&self) -> Client {
        Client::tcp(self.address())
    }

    /// Nobody is disturbed by what others did.
    pub(crate) fn is_well(&self) {
        let mut client = self.client();
        assert_eq!(client.ask(&["SET", "proof", "served"]), "+OK");
        assert_eq!(client.ask(&["GET", "proof"]), "$served");
        assert_eq!(client.ask(&["DEL", "proof"]), ":1");
    }
}

pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A stream of bytes, wherever it leads.
pub(crate) trait Stream: Read + Write + Send {
    fn set_patience(&self, patience: Option<Duration>) -> std::io::Result<()>;
}

impl Stream for TcpStream {
    fn set_patience(&self, patience: Option<Duration>) -> std::io::Result<()> {
        self.set_read_timeout(patience)?;
        self.set_write_timeout(patience)
    }
}

impl Stream for UnixStream {
    fn set_patience(&self, patience: Option<Duration>) -> std::io::Result<()> {
        self.set_read_timeout(patience)?;
        self.set_write_timeout(patience)
    }
}

/// One that speaks RESP.
pub(crate) struct Client {
    pub(crate) stream: Box<dyn Stream>,
    scanner: ReplyScanner,
    input: Vec<u8>,
}

impl Client {
    pub(crate) fn tcp(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self::of(stream)
    }

    pub(crate) fn unix(path: &Path) -> Self {
        Self::of(UnixStream::connect(path).unwrap())
    }

    pub(crate) fn of(stream: impl Stream + 'static) -> Self {
        stream.set_patience(Some(PATIENCE)).unwrap();
        Self { stream: Box::new(stream), scanner: ReplyScanner::new(), input: Vec::new() }
    }

    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(crate) fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) {
        self.say(&request(args));
    }

    /// The next reply as it came; `None` is the end of the stream, or its breaking.
    pub(crate) fn raw(&mut self) -> Option<Vec<u8>> {
        self.try_raw().unwrap_or_else(|error| panic!("nothing came from the server: {error}"))
    }

    pub(crate) fn try_raw(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(len) = self.scanner.scan(&self.input).unwrap() {
                return Ok(Some(self.input.drain(..len).collect()));
            }
            let mut room = [0; 64 << 10];
            match self.stream.read(&mut room) {
                Ok(0) => return Ok(None),
                Ok(bytes) => self.input.extend_from_slice(&room[..bytes]),
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The same as [`shown`].
    #[track_caller]
    pub(crate) fn next(&mut self) -> String {
        shown(&decoded(&self.raw().expect("the connection has ended")))
    }

    #[track_caller]
    pub(crate) fn ask<A: AsRef<[u8]>>(&mut self, args: &[A]) -> String {
        self.send(args);
        self.next()
    }

    #[track_caller]
    pub(crate) fn is_closed(&mut self) {
        assert_eq!(self.raw().map(|reply| reply.escape_ascii().to_string()), None);
    }

    /// All that comes until the end of the stream.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.input);
        // A stream may also end by breaking.
        let _ = self.stream.read_to_end(&mut bytes);
        bytes
    }
}

pub(crate) fn request<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_request(args, &mut bytes);
    bytes
}

pub(crate) fn decoded(reply: &[u8]) -> Value {
    ValueDecoder::new().decode(reply).unwrap().unwrap().1
}

/// A reply in one line: the byte of its kind, and what it is.
pub(crate) fn shown(value: &Value) -> String {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string().replace("\\\'", "'").replace("\\\"", "\"");
    let list = |values: &[Value]| values.iter().map(shown).collect::<Vec<_>>().join(" ");
    match value {
        Value::Null => "nil".into(),
        Value::Simple(status) => format!("+{}", text(status)),
        Value::Error(message) => format!("-{}", text(message)),
        Value::Integer(number) => format!(":{number}"),
        Value::Bulk(bytes) => format!("${}", text(bytes)),
        Value::Array(values) => format!("[{}]", list(values)),
        Value::Set(values) => format!("~[{}]", list(values)),
        Value::Push(values) => format!(">[{}]", list(values)),
        Value::Double(number) => format!(",{number}"),
        Value::Boolean(value) => format!("#{value}"),
        Value::Verbatim { text: said, .. } => format!("={}", text(said)),
        Value::Map(pairs) => {
            let pairs: Vec<_> =
                pairs.iter().map(|(key, value)| format!("{} {}", shown(key), shown(value))).collect();
            format!("%[{}]", pairs.join(" "))
        }
        other => format!("{other:?}"),
    }
}
