//! One connection of the load: sends requests, takes answers apart and looks whether they are right.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use xferd_os::net::Socket;
use xferd_store::Hasher;
use xferd_wire::{Decoder, DigestAlgorithm, Frame, Framed, Hello, Item, PathError, RemotePath};

use crate::Outcome;
use crate::request::{FILE_BYTES, FILES, Kind, Request};

/// A prime: one connection after the other begins at each of the files.
const STRIDE: u32 = 389;

pub(crate) struct Peer {
    pub(crate) socket: Socket,
    decoder: Decoder,
    is_open: bool,
    own: RemotePath,
    next_request: u32,
    /// When each request that is under way was sent, by its number.
    under_way: Vec<(u32, Instant)>,
    unsent: Vec<u8>,
    /// Raw bytes of an extent that are still to come.
    raw_due: u64,
    raw_bytes: u64,
    /// Of the first file that comes on this connection the content is compared, too.
    hasher: Option<Hasher>,
}

impl Peer {
    /// Starts to connect. Its hello goes out once that has worked.
    pub(crate) fn connect(address: SocketAddr, number: usize) -> io::Result<Self> {
        let own = RemotePath::parse(&format!("put-{number}"));
        let mut unsent = Vec::new();
        Hello::default().encode(&mut unsent);
        Ok(Self {
            socket: Socket::connect(&address.into())?,
            decoder: Decoder::new(),
            is_open: false,
            own: own.map_err(|error: PathError| io::Error::other(error))?,
            // Elsewhere among the files than the connections beside it, as people are.
            next_request: 1 + (number as u32).wrapping_mul(STRIDE) % FILES,
            under_way: Vec::new(),
            unsent,
            raw_due: 0,
            raw_bytes: 0,
            hasher: Some(Hasher::new(DigestAlgorithm::Crc64Nvme)),
        })
    }

    /// Whether the server has said hello.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Has one more request sent by the next flush, which is to follow at once.
    pub(crate) fn ask(&mut self, request: &Request) {
        request.encode(self.next_request, &self.own, &mut self.unsent);
        self.under_way.push((self.next_request, Instant::now()));
        self.next_request = self.next_request.checked_add(1).unwrap_or(1);
    }

    /// Sends what the socket takes.
    pub(crate) fn flush(&mut self) -> Outcome {
        while !self.unsent.is_empty() {
            match self.socket.send(&self.unsent, false) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                // Not connected yet, or full: an event will tell.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) =>
                {
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Takes what has come, into `buffer`; `on_answer` is told when each request that is now answered was sent.
    pub(crate) fn receive(
        &mut self,
        kind: Kind,
        buffer: &mut [u8],
        mut on_answer: impl FnMut(Instant),
    ) -> Outcome {
        loop {
            let received = match self.socket.recv(buffer) {
                Ok(0) => return Err("the server has closed the connection".into()),
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            self.take(kind, &buffer[..received], &mut on_answer)?;
            if received < buffer.len() {
                return Ok(());
            }
        }
    }

    fn take(&mut self, kind: Kind, mut bytes: &[u8], on_answer: &mut impl FnMut(Instant)) -> Outcome {
        while !bytes.is_empty() {
            if self.raw_due > 0 {
                let raw = bytes.len().min(usize::try_from(self.raw_due)?);
                let (raw, rest) = bytes.split_at(raw);
                if let Some(hasher) = &mut self.hasher {
                    hasher.update(raw);
                }
                self.raw_due -= raw.len() as u64;
                bytes = rest;
                continue;
            }
            let (taken, item) = self.decoder.decode(bytes)?;
            bytes = &bytes[taken..];
            match item {
                Some(Item::Hello(_)) => self.is_open = true,
                Some(Item::Frame(framed)) => {
                    if let Some(request) = self.on_frame(kind, framed)? {
                        on_answer(self.end(request)?);
                    }
                }
                None => {}
            }
        }
        Ok(())
    }

    /// The request that this frame was the last of.
    fn on_frame(&mut self, kind: Kind, Framed { request, frame }: Framed) -> Outcome<Option<u32>> {
        match (kind, frame) {
            (Kind::Ping, Frame::Pong(number)) => Ok(Some(u32::try_from(number)?)),
            (Kind::Stat, Frame::Entry(entry)) if entry.size == FILE_BYTES => Ok(Some(request)),
            (Kind::Put, Frame::Committed(_)) => Ok(Some(request)),
            (Kind::Get, Frame::File(file)) if file.size == FILE_BYTES => Ok(None),
            (Kind::Get, Frame::Extent { len, .. }) => {
                self.raw_due = len;
                self.raw_bytes += len;
                Ok(None)
            }
            (Kind::Get, Frame::Digest(digest)) => match self.hasher.take().map(Hasher::finish) {
                Some(actual) if actual != digest => Err("the content has another digest".into()),
                _ => Ok(None),
            },
            (Kind::Get, Frame::End) if std::mem::take(&mut self.raw_bytes) == FILE_BYTES => Ok(Some(request)),
            (_, unexpected) => Err(format!("instead of an answer: {unexpected:?}").into()),
        }
    }

    fn end(&mut self, request: u32) -> Outcome<Instant> {
        let at = self.under_way.iter().position(|(number, _)| *number == request);
        let at = at.ok_or_else(|| format!("request {request} is answered, which is not under way"))?;
        Ok(self.under_way.swap_remove(at).1)
    }
}
