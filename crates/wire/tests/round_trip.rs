//! What one peer encodes is what the other decodes, however the bytes are cut on their way; and no bytes at all make
//! the decoder panic.
#![allow(clippy::unwrap_used)]

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use xferd_wire::limits::{EXTENT_BYTES_MAX, FILE_BYTES_MAX, MODE_MAX, NANOSECONDS_MAX};
use xferd_wire::{
    Checksum, Committed, DecodeError, Decoder, Digest, DigestAlgorithm, Entries, Entry, EntryKind, ErrorCode,
    ErrorReply, FileHeader, Frame, Framed, Get, Have, Hello, Identity, Item, KvPart, LinkTarget, List,
    MakeDir, Mtime, Put, RemotePath, Remove, Rename, Run, SetAttributes, Sharing, Symlink, TransferId,
    WritePath, encode, opcode,
};

/// The raw bytes that tests send after an extent, whatever its length is.
const RAW_BYTES_MAX: u64 = 40;

fn component() -> impl Strategy<Value = String> {
    "[^/\0]{1,12}".prop_filter("names a place", |name| name != "." && name != "..")
}

fn path() -> impl Strategy<Value = RemotePath> {
    vec(component(), 1..5).prop_map(|components| RemotePath::parse(&components.join("/")).unwrap())
}

fn path_or_root() -> impl Strategy<Value = RemotePath> {
    prop_oneof![path(), Just(RemotePath::ROOT)]
}

fn link_target() -> impl Strategy<Value = LinkTarget> {
    "[^\0]{1,30}".prop_map(|target| LinkTarget::parse(target).unwrap())
}

fn mtime() -> impl Strategy<Value = Mtime> {
    (any::<i64>(), 0..=NANOSECONDS_MAX).prop_map(|(seconds, nanoseconds)| Mtime { seconds, nanoseconds })
}

fn size() -> impl Strategy<Value = u64> {
    prop_oneof![0..=FILE_BYTES_MAX, Just(0), Just(FILE_BYTES_MAX)]
}

fn algorithm() -> impl Strategy<Value = DigestAlgorithm> {
    prop::sample::select(&DigestAlgorithm::ALL[..])
}

fn digest() -> impl Strategy<Value = Digest> {
    (algorithm(), any::<[u8; 32]>())
        .prop_map(|(algorithm, bytes)| Digest::new(algorithm, &bytes[..algorithm.digest_bytes()]).unwrap())
}

fn entry(path: impl Strategy<Value = RemotePath>) -> impl Strategy<Value = Entry> {
    let kinds = vec![EntryKind::File, EntryKind::Directory, EntryKind::Symlink, EntryKind::Other];
    let kind = prop::sample::select(kinds);
    (path, kind, size(), 0..=MODE_MAX, mtime(), option::of(link_target())).prop_map(
        |(path, kind, size, mode, mtime, link_target)| Entry { path, kind, size, mode, mtime, link_target },
    )
}

fn entries() -> impl Strategy<Value = Entries> {
    vec(entry(path()), 0..6).prop_map(|list| {
        let mut entries = Entries::default();
        for entry in list {
            entries.push(entry).unwrap();
        }
        entries
    })
}

fn error_reply() -> impl Strategy<Value = ErrorReply> {
    (any::<u16>(), any::<bool>(), ".{0,60}").prop_map(|(number, retryable, message)| ErrorReply {
        code: ErrorCode::from_u16(number),
        retryable,
        message,
    })
}

fn put() -> impl Strategy<Value = Put> {
    let identity = (any::<u64>(), mtime()).prop_map(|(inode, ctime)| Identity {
        inode,
        ctime_s: ctime.seconds,
        ctime_ns: ctime.nanoseconds,
    });
    let sharing = prop::sample::select(vec![Sharing::Alone, Sharing::Shared, Sharing::Resumable]);
    let size = (option::of(size()), sharing).prop_map(|(size, sharing)| match size {
        None => (None, Sharing::Alone),
        size => (size, sharing),
    });
    (path(), size, any::<bool>(), algorithm(), 0..=MODE_MAX, mtime(), identity).prop_map(
        |(path, (size, sharing), durable, digest, mode, mtime, identity)| Put {
            path,
            size,
            durable,
            digest,
            mode,
            mtime,
            identity,
            sharing,
        },
    )
}

fn have() -> impl Strategy<Value = Have> {
    let gaps_and_runs = vec((0..1_u64 << 40, 1..1_u64 << 40, any::<u64>()), 0..6);
    (any::<[u8; 16]>(), [size(), size()], gaps_and_runs).prop_map(|(id, mut range, list)| {
        range.sort_unstable();
        let mut at = 0;
        let runs = list.into_iter().map(|(gap, len, crc64)| {
            let offset = at + gap;
            at = offset + len;
            Run { offset, len, crc64 }
        });
        let [start, end] = range;
        Have { transfer: TransferId(id), start, end, runs: runs.collect() }
    })
}

fn get() -> impl Strategy<Value = Get> {
    (path(), size(), option::of(size()), algorithm()).prop_map(|(path, a, b, digest)| Get {
        path,
        start: b.map_or(a, |b| a.min(b)),
        end: b.map(|b| a.max(b)),
        digest,
    })
}

fn file_header() -> impl Strategy<Value = FileHeader> {
    ([size(), size(), size()], 0..=MODE_MAX, mtime()).prop_map(|(mut sizes, mode, mtime)| {
        sizes.sort_unstable();
        let [start, end, size] = sizes;
        FileHeader { size, start, end, mode, mtime }
    })
}

fn extent() -> impl Strategy<Value = Frame> {
    (1..=RAW_BYTES_MAX, size())
        .prop_map(|(len, offset)| Frame::Extent { offset: offset.min(FILE_BYTES_MAX - len), len })
}

fn connection_frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        error_reply().prop_map(Frame::Error),
        any::<u64>().prop_map(Frame::Ping),
        any::<u64>().prop_map(Frame::Pong),
        Just(Frame::Goodbye),
        part().prop_map(Frame::KvPush),
    ]
}

fn request_frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        error_reply().prop_map(Frame::Error),
        put().prop_map(Frame::Put),
        extent(),
        digest().prop_map(Frame::Digest),
        size().prop_map(|size| Frame::Commit { size }),
        (size(), proptest::sample::select(WritePath::ALL.to_vec()), digest()).prop_map(
            |(size, write_path, digest)| { Frame::Committed(Committed { size, write_path, digest }) }
        ),
        any::<[u8; 16]>().prop_map(|id| Frame::Attach(TransferId(id))),
        have().prop_map(Frame::Have),
        get().prop_map(Frame::Get),
        file_header().prop_map(Frame::File),
        prop::sample::select(vec![Frame::Cancel, Frame::End, Frame::Done]),
        tree_frame(),
        part().prop_map(Frame::Kv),
        part().prop_map(Frame::KvReply),
    ]
}

fn part() -> impl Strategy<Value = KvPart> {
    (vec(any::<u8>(), 1..40), any::<bool>()).prop_map(|(bytes, more)| KvPart { bytes, more })
}

fn tree_frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        (path_or_root(), any::<bool>()).prop_map(|(path, recursive)| Frame::List(List { path, recursive })),
        entries().prop_map(Frame::Entries),
        path_or_root().prop_map(Frame::Stat),
        entry(path_or_root()).prop_map(Frame::Entry),
        (path(), any::<bool>()).prop_map(|(path, recursive)| Frame::Remove(Remove { path, recursive })),
        (path(), path()).prop_map(|(from, to)| Frame::Rename(Rename { from, to })),
        (path_or_root(), 0..=MODE_MAX, any::<bool>())
            .prop_map(|(path, mode, parents)| Frame::MakeDir(MakeDir { path, mode, parents })),
        (path(), algorithm()).prop_map(|(path, digest)| Frame::Checksum(Checksum { path, digest })),
        (path(), link_target()).prop_map(|(path, target)| Frame::Symlink(Symlink { path, target })),
        (path_or_root(), 0..=MODE_MAX, mtime())
            .prop_map(|(path, mode, mtime)| Frame::SetAttributes(SetAttributes { path, mode, mtime })),
    ]
}

fn framed() -> impl Strategy<Value = Framed> {
    prop_oneof![
        connection_frame().prop_map(|frame| Framed { request: 0, frame }),
        (1..=u32::MAX, request_frame()).prop_map(|(request, frame)| Framed { request, frame }),
    ]
}

fn hello() -> impl Strategy<Value = Hello> {
    ([any::<u16>(), any::<u16>()], vec("[a-z0-9-]{1,32}", 0..8), vec(algorithm(), 0..4)).prop_map(
        |(mut versions, capabilities, digests)| {
            versions.sort_unstable();
            let [version_min, version_max] = versions;
            Hello { version_min, version_max, capabilities, digests }
        },
    )
}

/// One direction of a connection, and how many bytes of it each item ends at.
fn stream(hello: &Hello, frames: &[Framed]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = Vec::new();
    hello.encode(&mut bytes);
    let mut ends = vec![bytes.len()];
    for framed in frames {
        // Raw bytes of the one before are the same byte over and over; no header begins with it.
        encode(framed.request, &framed.frame, &mut bytes);
        ends.push(bytes.len());
        if let Frame::Extent { len, .. } = framed.frame {
            bytes.resize(bytes.len() + len as usize, 0x7f);
        }
    }
    (bytes, ends)
}

/// Everything that was said in `pieces`, and whether nothing is cut off at their end.
fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(Vec<Item>, bool), DecodeError> {
    let mut decoder = Decoder::new();
    let mut items = Vec::new();
    let mut raw_bytes = 0;
    for mut piece in pieces {
        loop {
            let raw = piece.len().min(raw_bytes);
            raw_bytes -= raw;
            piece = &piece[raw..];
            if raw_bytes > 0 {
                break;
            }
            let (taken, item) = decoder.decode(piece)?;
            piece = &piece[taken..];
            let Some(item) = item else {
                assert!(piece.is_empty(), "without an item, everything is taken");
                break;
            };
            if let Item::Frame(Framed { frame: Frame::Extent { len, .. }, .. }) = item {
                assert!((1..=EXTENT_BYTES_MAX).contains(&len));
                raw_bytes = len as usize;
            }
            items.push(item);
        }
    }
    Ok((items, raw_bytes == 0 && decoder.is_between_frames()))
}

fn items(hello: Hello, frames: Vec<Framed>) -> Vec<Item> {
    std::iter::once(Item::Hello(hello)).chain(frames.into_iter().map(Item::Frame)).collect()
}

/// `bytes` in pieces whose lengths are `lens`, over and over.
fn cut<'a>(mut bytes: &'a [u8], lens: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    lens.iter().cycle().map_while(move |len| {
        let (piece, rest) = bytes.split_at((*len).min(bytes.len()));
        bytes = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

proptest! {
    #[test]
    fn what_is_said_is_what_is_heard(hello in hello(), frames in vec(framed(), 0..12)) {
        let (bytes, _) = stream(&hello, &frames);
        prop_assert_eq!(decode([&bytes[..]]), Ok((items(hello, frames), true)));
    }

    #[test]
    fn it_does_not_matter_how_the_bytes_are_cut(
        hello in hello(),
        frames in vec(framed(), 0..12),
        lens in vec(1_usize..60, 1..8),
    ) {
        let (bytes, _) = stream(&hello, &frames);
        prop_assert_eq!(decode(cut(&bytes, &lens)), Ok((items(hello, frames), true)));
    }

    #[test]
    fn a_stream_may_come_one_byte_at_a_time(hello in hello(), frames in vec(framed(), 0..8)) {
        let (bytes, _) = stream(&hello, &frames);
        prop_assert_eq!(decode(bytes.chunks(1)), Ok((items(hello, frames), true)));
    }

    #[test]
    fn bytes_that_are_missing_never_make_another_item(hello in hello(), frames in vec(framed(), 0..4)) {
        let (bytes, ends) = stream(&hello, &frames);
        let items = items(hello, frames);
        for len in 0..bytes.len() {
            let said = ends.iter().filter(|end| **end <= len).count();
            let raw_end = match items[..said].last() {
                Some(Item::Frame(Framed { frame: Frame::Extent { len, .. }, .. })) => *len as usize,
                _ => 0,
            };
            let whole = said > 0 && ends[said - 1] + raw_end == len;
            let (heard, between_frames) = decode([&bytes[..len]]).unwrap();
            prop_assert_eq!(&heard[..], &items[..said]);
            prop_assert_eq!(between_frames, whole);
        }
    }

    #[test]
    fn a_body_that_ends_early_is_refused(framed in framed()) {
        let (bytes, ends) = stream(&Hello::default(), std::slice::from_ref(&framed));
        let (header_at, end) = (ends[0], ends[1]);
        let body_bytes = end - header_at - xferd_wire::HEADER_BYTES;
        // What is in a part is nobody's here.
        let is_part = matches!(framed.frame, Frame::Kv(_) | Frame::KvReply(_) | Frame::KvPush(_));
        for shorter in 0..if is_part { 3 } else { body_bytes } {
            let mut bytes = bytes[..header_at + xferd_wire::HEADER_BYTES + shorter].to_vec();
            let body_len_at = header_at + 8;
            bytes[body_len_at..body_len_at + 8].copy_from_slice(&(shorter as u64).to_le_bytes());
            prop_assert!(decode([&bytes[..]]).is_err());
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in vec(any::<u8>(), 0..300), lens in vec(1_usize..60, 1..4)) {
        let whole = decode([&bytes[..]]);
        prop_assert_eq!(decode(cut(&bytes, &lens)), whole);
    }

    #[test]
    fn no_body_makes_the_decoder_panic(opcode in any::<u8>(), body in vec(0_u8..4, 0..120), lens in vec(1_usize..60, 1..4)) {
        let (mut bytes, _) = stream(&Hello::default(), &[]);
        let request = u32::from(!matches!(opcode, opcode::PING..=opcode::GOODBYE | opcode::KV_PUSH));
        bytes.extend_from_slice(&[opcode, 0, 0, 0]);
        bytes.extend_from_slice(&request.to_le_bytes());
        bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&body);
        let whole = decode([&bytes[..]]);
        prop_assert_eq!(decode(cut(&bytes, &lens)), whole);
    }

    #[test]
    fn a_byte_that_flipped_on_its_way_never_makes_the_decoder_panic(
        frames in vec(framed(), 1..6),
        at in any::<prop::sample::Index>(),
        flipped in 1_u8..,
        lens in vec(1_usize..60, 1..4),
    ) {
        let (mut bytes, _) = stream(&Hello::default(), &frames);
        let at = at.index(bytes.len());
        bytes[at] ^= flipped;
        let whole = decode([&bytes[..]]);
        prop_assert_eq!(decode(cut(&bytes, &lens)), whole);
    }

    #[test]
    fn what_people_write_becomes_a_path_or_an_error(written in "[ab./\0é]{0,40}") {
        if let Ok(path) = RemotePath::from_user(&written) {
            prop_assert_eq!(RemotePath::parse(path.as_str()), Ok(path.clone()));
            prop_assert_eq!(RemotePath::from_user(path.as_str()), Ok(path));
        }
    }
}
