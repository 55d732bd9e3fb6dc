//! The requests of the sweep, and what is to come back.

use std::str::FromStr;

use xferd_store::digest_of;
use xferd_wire::{Digest, DigestAlgorithm, Frame, Get, Identity, Mtime, Put, RemotePath, Sharing, encode};

/// Files that each connection gets in turn: `file-0`, `file-1` … More than a processor's cache holds.
pub(crate) const FILES: u32 = 1024;

/// Bytes of each.
pub(crate) const FILE_BYTES: u64 = 64 << 10;

/// Bytes of a file that is put.
const PUT_BYTES: usize = 4096;

const DIGEST: DigestAlgorithm = DigestAlgorithm::Crc64Nvme;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An echo.
    Ping,
    /// What is known of a file.
    Stat,
    /// A file of 64 KiB.
    Get,
    /// A file of 4 KiB, of a name that only this connection uses.
    Put,
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "ping" => Ok(Self::Ping),
            "stat" => Ok(Self::Stat),
            "get" => Ok(Self::Get),
            "put" => Ok(Self::Put),
            other => Err(format!("{other:?} is none of ping, stat, get and put")),
        }
    }
}

/// What every connection asks for.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) kind: Kind,
    paths: Vec<RemotePath>,
    content: Vec<u8>,
    digest: Digest,
}

impl Request {
    pub(crate) fn new(kind: Kind) -> Result<Self, xferd_wire::PathError> {
        let paths = (0..FILES)
            .map(|number| RemotePath::parse(&format!("file-{number}")))
            .collect::<Result<_, _>>()?;
        let content: Vec<u8> = (0..PUT_BYTES).map(|at| (at % 251) as u8).collect();
        let digest = digest_of(DIGEST, &content);
        Ok(Self { kind, paths, content, digest })
    }

    /// Appends request number `request`, which is not 0, of the connection whose own path is `own`.
    pub(crate) fn encode(&self, request: u32, own: &RemotePath, out: &mut Vec<u8>) {
        let path = || self.paths.get((request % FILES) as usize).unwrap_or(own).clone();
        match self.kind {
            Kind::Ping => encode(0, &Frame::Ping(request.into()), out),
            Kind::Stat => encode(request, &Frame::Stat(path()), out),
            Kind::Get => {
                encode(request, &Frame::Get(Get { path: path(), start: 0, end: None, digest: DIGEST }), out);
            }
            Kind::Put => {
                let size = self.content.len() as u64;
                encode(request, &Frame::Put(put(own.clone(), size)), out);
                encode(request, &Frame::Extent { offset: 0, len: size }, out);
                out.extend_from_slice(&self.content);
                encode(request, &Frame::Digest(self.digest), out);
                encode(request, &Frame::Commit { size }, out);
            }
        }
    }
}

fn put(path: RemotePath, size: u64) -> Put {
    Put {
        path,
        size: Some(size),
        sharing: Sharing::Alone,
        durable: false,
        digest: DIGEST,
        mode: 0o644,
        mtime: Mtime { seconds: 1_700_000_000, nanoseconds: 0 },
        identity: Identity::default(),
    }
}
