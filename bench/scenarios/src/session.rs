//! The server's session alone: a peer that does nothing but say the frames of a put and wait for the answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use xferd_server::{Config, Listen, Server};
use xferd_store::Hasher;
use xferd_wire::{Decoder, DigestAlgorithm, Frame, Framed, Hello, Item, RemotePath, encode};

use crate::{Outcome, noise, wire};

const FILE_BYTES: usize = 4096;
const REQUEST: u32 = 7;

/// Files one after the other: each is one segment there and one back, however the threads are scheduled.
pub(crate) fn put(times: u32, folder: &Path) -> Outcome {
    let server = start(folder)?;
    let mut peer = Peer::connect(&server)?;
    let content = noise(FILE_BYTES);
    let mut hasher = Hasher::new(DigestAlgorithm::Crc64Nvme);
    hasher.update(&content);
    let digest = hasher.finish();
    let mut bytes = Vec::new();
    for number in 0..times {
        let path = RemotePath::parse(&format!("file-{number}"))?;
        let size = content.len() as u64;
        bytes.clear();
        encode(REQUEST, &Frame::Put(wire::put_of(path, size)), &mut bytes);
        encode(REQUEST, &Frame::Extent { offset: 0, len: size }, &mut bytes);
        bytes.extend_from_slice(&content);
        encode(REQUEST, &Frame::Digest(digest), &mut bytes);
        encode(REQUEST, &Frame::Commit { size }, &mut bytes);
        peer.stream.write_all(&bytes)?;
        match peer.read()? {
            Item::Frame(Framed { frame: Frame::Committed(_), .. }) => {}
            other => return Err(format!("instead of an acknowledgement: {other:?}").into()),
        }
    }
    Ok(())
}

/// The address of a server that [`start`] has started.
pub(crate) fn listens_at(server: &Server) -> Result<SocketAddr, &'static str> {
    server
        .listening()
        .first()
        .and_then(|listen| listen.address.internet())
        .ok_or("the server listens nowhere")
}

/// A server of `folder` whose work is done by one thread, so that little depends on scheduling.
pub(crate) fn start(folder: &Path) -> Result<Server, xferd_engine::Failure> {
    let mut config = Config::new(folder);
    config.listen = vec![Listen::transfer(([127, 0, 0, 1], 0))];
    config.io_threads = 1;
    config.workers = 0;
    Server::start(config)
}

struct Peer {
    stream: TcpStream,
    decoder: Decoder,
}

impl Peer {
    fn connect(server: &Server) -> Result<Self, Box<dyn std::error::Error>> {
        let mut stream = TcpStream::connect(listens_at(server)?)?;
        stream.set_nodelay(true)?;
        let mut hello = Vec::new();
        Hello::default().encode(&mut hello);
        stream.write_all(&hello)?;
        let mut peer = Self { stream, decoder: Decoder::new() };
        match peer.read()? {
            Item::Hello(_) => Ok(peer),
            other => Err(format!("instead of a hello: {other:?}").into()),
        }
    }

    /// The next thing the server says. It says one at a time here.
    fn read(&mut self) -> Result<Item, Box<dyn std::error::Error>> {
        let mut bytes = [0; 1024];
        loop {
            let count = self.stream.read(&mut bytes)?;
            if count == 0 {
                return Err("the server has closed the connection".into());
            }
            if let (_, Some(item)) = self.decoder.decode(&bytes[..count])? {
                return Ok(item);
            }
        }
    }
}
