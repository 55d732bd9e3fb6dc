//! One connection: reads frames, answers them, in the order in which they come.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use xferd_store::{FileAttributes, Hasher, StoreError, WholeFile};
use xferd_wire::{
    Committed, Decoder, ErrorCode, ErrorReply, FileHeader, Frame, Framed, Get, Hello, Item, Put, RemotePath,
    Sharing, WritePath, choose_version, encode,
};

use crate::Shared;

/// Files up to this size are served.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Files of one connection that may be arriving side by side.
const PUTS_ARRIVING_MAX: usize = 16;

/// Bytes read at once.
const INPUT_BYTES: usize = 16 << 10;

/// Bytes of answers that are sent even if there is more to be answered.
const OUTPUT_BYTES_HIGH: usize = 256 << 10;

/// An empty buffer of up to so many bytes is kept while nothing is to be done.
const IDLE_BYTES_MAX: usize = 256;

/// How long a peer may be silent before its hello, and after it; how long it may not read.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);
const IDLE_PATIENCE: Duration = Duration::from_secs(600);
const SEND_PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of all that goes around a file's content.
const FRAMES_BYTES: usize = 192;

pub(crate) struct Connection {
    stream: TcpStream,
    shared: Arc<Shared>,
    decoder: Decoder,
    /// What was read, and how much of it was taken.
    input: Vec<u8>,
    taken: usize,
    output: Vec<u8>,
    patience: Duration,
    puts: HashMap<u32, Arriving>,
}

/// A file that is not whole yet.
struct Arriving {
    put: Put,
    bytes: Vec<u8>,
    is_right: bool,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, shared: Arc<Shared>) -> Self {
        Self {
            stream,
            shared,
            decoder: Decoder::new(),
            input: Vec::new(),
            taken: 0,
            output: Vec::new(),
            patience: HELLO_PATIENCE,
            puts: HashMap::new(),
        }
    }

    /// Serves until the peer goes, or gives a reason to be left.
    pub(crate) async fn serve(mut self) -> io::Result<()> {
        while let Some(item) = self.next().await? {
            match item {
                Item::Hello(theirs) => self.on_hello(&theirs).await?,
                Item::Frame(Framed { request, frame }) => self.on_frame(request, frame).await?,
            }
        }
        Ok(())
    }

    async fn on_hello(&mut self, theirs: &Hello) -> io::Result<()> {
        let ours = Hello::default();
        ours.encode(&mut self.output);
        if choose_version(&ours, theirs).is_none() {
            return self.break_off(0, ErrorReply::new(ErrorCode::Version, "no version in common")).await;
        }
        self.patience = IDLE_PATIENCE;
        Ok(())
    }

    async fn on_frame(&mut self, request: u32, frame: Frame) -> io::Result<()> {
        match frame {
            Frame::Ping(number) => encode(request, &Frame::Pong(number), &mut self.output),
            Frame::Stat(path) => self.stat(request, path).await?,
            Frame::Get(get) => self.get(request, get).await?,
            Frame::Put(put) => self.put(request, put),
            Frame::Extent { offset, len } => return self.extent(request, offset, len).await,
            Frame::Digest(digest) => {
                if let Some(Arriving { put, bytes, is_right }) = self.puts.get_mut(&request) {
                    let mut hasher = Hasher::new(put.digest);
                    hasher.update(bytes);
                    *is_right = hasher.finish() == digest;
                }
            }
            Frame::Commit { size } => self.commit(request, size).await?,
            Frame::Goodbye | Frame::Pong(_) => {}
            Frame::Cancel => {
                if self.puts.remove(&request).is_some() {
                    self.refuse(request, ErrorReply::new(ErrorCode::Aborted, "cancelled by the sender"));
                }
            }
            _ => {
                let reply = ErrorReply::new(ErrorCode::Unsupported, "only small files are put and got here");
                self.refuse(request, reply);
            }
        }
        Ok(())
    }

    async fn stat(&mut self, request: u32, path: RemotePath) -> io::Result<()> {
        match self.work(move |shared| shared.store.stat(&path)).await? {
            Ok(entry) => encode(request, &Frame::Entry(entry), &mut self.output),
            Err(error) => self.refuse(request, reply(&error)),
        }
        Ok(())
    }

    /// Reads a file right behind the answers that wait to be sent: one copy, and one send for all.
    async fn get(&mut self, request: u32, get: Get) -> io::Result<()> {
        let mut output = std::mem::take(&mut self.output);
        let (output, result) = self
            .work(move |shared| {
                let before = output.len();
                let result = shared.read(request, &get, &mut output);
                if result.is_err() {
                    output.truncate(before);
                }
                (output, result)
            })
            .await?;
        self.output = output;
        if let Err(refusal) = result {
            self.refuse(request, refusal);
        }
        Ok(())
    }

    fn put(&mut self, request: u32, put: Put) {
        let is_small = put.size.is_some_and(|size| size <= FILE_BYTES_MAX);
        if !is_small || put.sharing != Sharing::Alone || self.puts.len() >= PUTS_ARRIVING_MAX {
            let reply = ErrorReply::new(ErrorCode::Limit, "only some small files at a time are put here");
            return self.refuse(request, reply);
        }
        self.puts.insert(request, Arriving { put, bytes: Vec::new(), is_right: false });
    }

    /// Takes the bytes that follow, whoever they are for.
    async fn extent(&mut self, request: u32, offset: u64, len: u64) -> io::Result<()> {
        let fits = |arriving: &Arriving| {
            offset == arriving.bytes.len() as u64
                && offset.checked_add(len).is_some_and(|end| Some(end) <= arriving.put.size)
        };
        if self.puts.get(&request).is_some_and(|arriving| !fits(arriving)) {
            self.puts.remove(&request);
            let reply =
                ErrorReply::new(ErrorCode::SizeMismatch, "the extent is not the next one of its file");
            self.refuse(request, reply);
        }
        let mut left = len;
        while left > 0 {
            if self.taken == self.input.len() && !self.read().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let there = self.input.get(self.taken..).unwrap_or_default();
            let part = there.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if let Some(arriving) = self.puts.get_mut(&request) {
                arriving.bytes.extend_from_slice(there.get(..part).unwrap_or_default());
            }
            self.taken += part;
            left -= part as u64;
        }
        Ok(())
    }

    async fn commit(&mut self, request: u32, size: u64) -> io::Result<()> {
        let Some(Arriving { put, bytes, is_right }) = self.puts.remove(&request) else { return Ok(()) };
        let code = match is_right {
            _ if size != bytes.len() as u64 || put.size != Some(size) => Some(ErrorCode::SizeMismatch),
            false => Some(ErrorCode::DigestMismatch),
            true => None,
        };
        if let Some(code) = code {
            self.refuse(request, ErrorReply::new(code, format!("{}: not what was announced", put.path)));
            return Ok(());
        }
        let mut hasher = Hasher::new(put.digest);
        hasher.update(&bytes);
        let committed = Committed { size, write_path: WritePath::Cached, digest: hasher.finish() };
        let stored = self.work(move |shared| {
            let attributes = FileAttributes { mode: put.mode, mtime: put.mtime };
            let file = WholeFile { path: put.path, bytes, attributes };
            shared.store.put_many(&[file], put.durable).into_iter().collect::<Result<(), _>>()
        });
        match stored.await? {
            Ok(()) => encode(request, &Frame::Committed(committed), &mut self.output),
            Err(error) => self.refuse(request, reply(&error)),
        }
        Ok(())
    }

    /// The next thing the peer says; `None` at its end. Before that is waited for, all answers are sent.
    async fn next(&mut self) -> io::Result<Option<Item>> {
        loop {
            if self.output.len() >= OUTPUT_BYTES_HIGH {
                self.send().await?;
            }
            let there = self.input.get(self.taken..).unwrap_or_default();
            if there.is_empty() {
                if !self.read().await? {
                    return Ok(None);
                }
                continue;
            }
            match self.decoder.decode(there) {
                Ok((taken, item)) => {
                    self.taken += taken;
                    if item.is_some() {
                        return Ok(item);
                    }
                }
                Err(error) => self.break_off(error.request, error.reply()).await?,
            }
        }
    }

    /// Sends what there is to be sent and waits for more to be taken. False at the peer's end.
    ///
    /// A connection that waits holds no buffer: with very many of them that would be most of the memory.
    async fn read(&mut self) -> io::Result<bool> {
        self.send().await?;
        self.input = Vec::new();
        self.taken = 0;
        loop {
            timeout(self.patience, self.stream.readable()).await??;
            let mut input = Vec::with_capacity(INPUT_BYTES);
            match self.stream.try_read_buf(&mut input) {
                Ok(read) => {
                    self.input = input;
                    return Ok(read > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn send(&mut self) -> io::Result<()> {
        if !self.output.is_empty() {
            timeout(SEND_PATIENCE, self.stream.write_all(&self.output)).await??;
            self.output.clear();
            if self.output.capacity() > IDLE_BYTES_MAX {
                self.output = Vec::new();
            }
        }
        Ok(())
    }

    fn refuse(&mut self, request: u32, reply: ErrorReply) {
        encode(request, &Frame::Error(reply), &mut self.output);
    }

    async fn break_off(&mut self, request: u32, reply: ErrorReply) -> io::Result<()> {
        let error = io::Error::other(reply.message.clone());
        self.refuse(request, reply);
        self.send().await?;
        Err(error)
    }

    /// Does what may block, where that belongs.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> T + Send + 'static,
    ) -> io::Result<T> {
        let shared = self.shared.clone();
        if shared.inline {
            return Ok(work(&shared));
        }
        tokio::task::spawn_blocking(move || work(&shared)).await.map_err(io::Error::other)
    }
}

impl Shared {
    /// Appends all frames of the answer to a get.
    fn read(&self, request: u32, get: &Get, output: &mut Vec<u8>) -> Result<(), ErrorReply> {
        let source = self.store.open_source(&get.path).map_err(|error| reply(&error))?;
        let size = source.size();
        let end = get.end.unwrap_or(size).min(size);
        let start = get.start.min(end);
        let len = end - start;
        if len > FILE_BYTES_MAX {
            return Err(ErrorReply::new(ErrorCode::Unsupported, format!("{}: too large", get.path)));
        }
        output.reserve_exact(FRAMES_BYTES + len as usize);
        let FileAttributes { mode, mtime } = source.attributes();
        encode(request, &Frame::File(FileHeader { size, start, end, mode, mtime }), output);
        let mut hasher = Hasher::new(get.digest);
        if len > 0 {
            encode(request, &Frame::Extent { offset: start, len }, output);
            let at = output.len();
            output.resize(at + len as usize, 0);
            let content = output.get_mut(at..).unwrap_or_default();
            let failed = |error| reply(&source.failed(error));
            source.file().read_exact_at(content, start).map_err(failed)?;
            source.verify_unchanged().map_err(|error| reply(&error))?;
            hasher.update(content);
        }
        encode(request, &Frame::Digest(hasher.finish()), output);
        encode(request, &Frame::End, output);
        Ok(())
    }
}

fn reply(error: &StoreError) -> ErrorReply {
    ErrorReply::new(error.code(), error.to_string())
}
