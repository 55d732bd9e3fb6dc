//! Every kind of frame, into bytes and back.

use std::hint::black_box;
use std::path::Path;

use xferd_wire::{
    Committed, Decoder, Digest, DigestAlgorithm, Entries, Entry, EntryKind, ErrorCode, ErrorReply,
    FileHeader, Frame, Get, Hello, Identity, Item, List, MakeDir, Mtime, Put, RemotePath, Remove, Rename,
    SetAttributes, Sharing, WritePath, encode,
};

use crate::Outcome;

pub(crate) fn encode_all(times: u32, _: &Path) -> Outcome {
    let frames = frames()?;
    let mut bytes = Vec::new();
    for _ in 0..times {
        bytes.clear();
        for frame in black_box(&frames) {
            encode(request_of(frame), frame, &mut bytes);
        }
        black_box(&bytes);
    }
    Ok(())
}

pub(crate) fn decode_all(times: u32, _: &Path) -> Outcome {
    let frames = frames()?;
    let mut hello = Vec::new();
    Hello::default().encode(&mut hello);
    let mut bytes = Vec::new();
    for frame in &frames {
        encode(request_of(frame), frame, &mut bytes);
    }
    let mut decoder = Decoder::new();
    decoder.decode(&hello)?;
    for _ in 0..times {
        let mut rest = black_box(bytes.as_slice());
        let mut decoded = 0;
        while let (taken, Some(item)) = decoder.decode(rest)? {
            rest = &rest[taken..];
            decoded += usize::from(matches!(black_box(item), Item::Frame(_)));
        }
        if decoded != frames.len() {
            return Err(format!("{decoded} of {} frames came back", frames.len()).into());
        }
    }
    Ok(())
}

/// The announcement of a file that a session of this crate's kind sends.
pub(crate) fn put_of(path: RemotePath, size: u64) -> Put {
    Put {
        path,
        size: Some(size),
        sharing: Sharing::Alone,
        durable: false,
        digest: DigestAlgorithm::Crc64Nvme,
        mode: 0o644,
        mtime: Mtime { seconds: 1_700_000_000, nanoseconds: 5 },
        identity: Identity { inode: 3, ctime_s: 1_700_000_001, ctime_ns: 6 },
    }
}

/// Some are said of the connection, all others of a request.
fn request_of(frame: &Frame) -> u32 {
    if matches!(frame, Frame::Ping(_) | Frame::Pong(_)) { 0 } else { 7 }
}

fn frames() -> Result<Vec<Frame>, Box<dyn std::error::Error>> {
    let path = || RemotePath::parse("a-folder/of-some/length/and-a-name.bin");
    let mtime = Mtime { seconds: 1_700_000_000, nanoseconds: 5 };
    let digest = Digest::new(DigestAlgorithm::Crc64Nvme, &[1, 2, 3, 4, 5, 6, 7, 8])?;
    let entry =
        Entry { path: path()?, kind: EntryKind::File, size: 4096, mode: 0o644, mtime, link_target: None };
    let mut entries = Entries::default();
    for _ in 0..100 {
        if let Err(entry) = entries.push(entry.clone()) {
            return Err(format!("{entry:?} did not fit").into());
        }
    }
    Ok(vec![
        Frame::Ping(1),
        Frame::Pong(1),
        Frame::Put(put_of(path()?, 4096)),
        Frame::Digest(digest),
        Frame::Commit { size: 4096 },
        Frame::Committed(Committed { size: 4096, write_path: WritePath::Cached, digest }),
        Frame::Get(Get { path: path()?, start: 0, end: None, digest: DigestAlgorithm::Crc64Nvme }),
        Frame::File(FileHeader { size: 4096, start: 0, end: 4096, mode: 0o644, mtime }),
        Frame::End,
        Frame::List(List { path: path()?, recursive: true }),
        Frame::Entries(entries),
        Frame::Stat(path()?),
        Frame::Entry(entry),
        Frame::Remove(Remove { path: path()?, recursive: false }),
        Frame::Rename(Rename { from: path()?, to: path()? }),
        Frame::MakeDir(MakeDir { path: path()?, mode: 0o755, parents: true }),
        Frame::SetAttributes(SetAttributes { path: path()?, mode: 0o644, mtime }),
        Frame::Error(ErrorReply {
            code: ErrorCode::NotFound,
            retryable: false,
            message: "nothing there".into(),
        }),
        Frame::Done,
    ])
}
