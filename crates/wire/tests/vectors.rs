//! `docs/protocol.md` says what this crate does: its test vectors, byte for byte, and its tables.
//!
//! A vector is a fenced block. `kind` says how its bytes begin: `hello` at the start of a connection, `frame` and
//! `skipped` after the peer's hello. With `error` the bytes are to be refused with that code for that `request`.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use xferd_wire::{
    Checksum, Committed, DecodeError, Decoder, Digest, DigestAlgorithm, Entries, Entry, EntryKind, ErrorCode,
    ErrorReply, FileHeader, Frame, Framed, Get, Have, Hello, Identity, Item, KvArgs, KvPart, LinkTarget,
    List, MakeDir, Mtime, Put, RemotePath, Remove, Rename, Run, SetAttributes, Sharing, Symlink, TransferId,
    WritePath, encode, limits, opcode, write_kv_args,
};

const PROTOCOL: &str = include_str!("../../../docs/protocol.md");

/// A fenced block: what its first line says, and its bytes.
struct Vector {
    attributes: BTreeMap<&'static str, &'static str>,
    bytes: Vec<u8>,
}

impl Vector {
    fn name(&self) -> &'static str {
        self.attributes["name"]
    }

    /// What decoding gives, how many bytes that takes, and whether a frame may begin behind them.
    fn decode(&self) -> Result<(Option<Item>, usize, bool), DecodeError> {
        let mut decoder = Decoder::new();
        if self.attributes["kind"] != "hello" {
            let mut greeting = Vec::new();
            Hello::default().encode(&mut greeting);
            decoder.decode(&greeting)?;
        }
        let (taken, item) = decoder.decode(&self.bytes)?;
        if let Some(Item::Frame(Framed { request, frame: Frame::Kv(KvPart { bytes, more: false }) })) = &item
        {
            KvArgs::default().read(bytes).map_err(|fault| DecodeError { request: *request, fault })?;
        }
        Ok((item, taken, decoder.is_between_frames()))
    }
}

fn vectors() -> Vec<Vector> {
    let blocks = PROTOCOL.split("\n```vector ").skip(1);
    let vectors: Vec<Vector> = blocks.map(|block| vector(block.split("\n```").next().unwrap())).collect();
    assert!(!vectors.is_empty());
    vectors
}

fn vector(block: &'static str) -> Vector {
    let (attributes, lines) = block.split_once('\n').unwrap();
    let attributes = attributes.split(' ').map(|attribute| attribute.split_once('=').unwrap()).collect();
    let digits = lines.lines().flat_map(|line| line.split('#').next().unwrap().split_whitespace());
    let bytes = digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect();
    Vector { attributes, bytes }
}

/// The cells of the rows of the table that stands under `heading`.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, section) = PROTOCOL.split_once(&format!("\n{heading}\n")).unwrap();
    let rows =
        section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    rows.skip(2)
        .map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect())
        .collect()
}

fn path(path: &str) -> RemotePath {
    RemotePath::parse(path).unwrap()
}

fn item(name: &str) -> Item {
    let hello = |version_max, capabilities: &[&str], digests: &[DigestAlgorithm]| {
        let capabilities = capabilities.iter().map(|name| (*name).to_owned()).collect();
        Item::Hello(Hello { version_min: 1, version_max, capabilities, digests: digests.to_vec() })
    };
    match name {
        "hello" => hello(
            1,
            &["transfers", "checksums"],
            &[DigestAlgorithm::Crc64Nvme, DigestAlgorithm::Blake3, DigestAlgorithm::None],
        ),
        "hello-of-a-newer-peer" => hello(3, &["striping"], &[DigestAlgorithm::Blake3]),
        name => Item::Frame(framed(name)),
    }
}

fn framed(name: &str) -> Framed {
    let mtime = Mtime { seconds: 1_700_000_000, nanoseconds: 123_456_789 };
    let crc64nvme =
        Digest::new(DigestAlgorithm::Crc64Nvme, &0xae8b_1486_0a79_9888_u64.to_be_bytes()).unwrap();
    let blake3 = [
        0xaf, 0x13, 0x49, 0xb9, 0xf5, 0xf9, 0xa1, 0xa6, 0xa0, 0x40, 0x4d, 0xea, 0x36, 0xdc, 0xc9, 0x49, 0x9b,
        0xcb, 0x25, 0xc9, 0xad, 0xc1, 0x12, 0xb7, 0xcc, 0x9a, 0x93, 0xca, 0xe4, 0x1f, 0x32, 0x62,
    ];
    let directory =
        Entry { path: path("d"), kind: EntryKind::Directory, size: 0, mode: 0o755, mtime, link_target: None };
    let file = Entry { path: path("d/f"), kind: EntryKind::File, size: 5, mode: 0o644, ..directory.clone() };
    let link_target = Some(LinkTarget::parse("d/f").unwrap());
    let link =
        Entry { path: path("l"), kind: EntryKind::Symlink, mode: 0o777, link_target, ..directory.clone() };

    let transfer = TransferId(*b"0123456789abcdef");

    let (request, frame) = match name {
        "error" => (7, Frame::Error(ErrorReply::new(ErrorCode::NotFound, "no such file"))),
        "error-of-the-connection" => (0, Frame::Error(ErrorReply::new(ErrorCode::ShuttingDown, ""))),
        "ping" => (0, Frame::Ping(0x0123_4567_89ab_cdef)),
        "pong" => (0, Frame::Pong(0x0123_4567_89ab_cdef)),
        "goodbye" => (0, Frame::Goodbye),
        "put-sized" | "put-shared" | "put-resumable" => {
            let put = Put {
                path: path("in/movie.mkv"),
                size: Some(469_200_000),
                durable: true,
                digest: DigestAlgorithm::Crc64Nvme,
                mode: 0o644,
                mtime,
                identity: Identity { inode: 4711, ctime_s: 1_700_000_001, ctime_ns: 5 },
                sharing: match name {
                    "put-shared" => Sharing::Shared,
                    "put-resumable" => Sharing::Resumable,
                    _ => Sharing::Alone,
                },
            };
            (7, Frame::Put(put))
        }
        "put-unsized" => {
            let put = Put {
                path: path("häß"),
                size: None,
                durable: false,
                digest: DigestAlgorithm::Blake3,
                mode: 0o600,
                mtime: Mtime { seconds: -1, nanoseconds: 999_999_999 },
                identity: Identity::default(),
                sharing: Sharing::Alone,
            };
            (u32::MAX, Frame::Put(put))
        }
        "extent" => (7, Frame::Extent { offset: 4 << 20, len: 1 << 20 }),
        "digest-none" => (7, Frame::Digest(Digest::NONE)),
        "digest-crc64nvme" => (7, Frame::Digest(crc64nvme)),
        "digest-blake3" => (7, Frame::Digest(Digest::new(DigestAlgorithm::Blake3, &blake3).unwrap())),
        "commit" => (7, Frame::Commit { size: 9 }),
        "committed" => {
            (7, Frame::Committed(Committed { size: 9, write_path: WritePath::Uncached, digest: crc64nvme }))
        }
        "cancel" => (7, Frame::Cancel),
        "attach" => (7, Frame::Attach(transfer)),
        "have" => {
            let first = Run { offset: 0, len: 9, crc64: 0xae8b_1486_0a79_9888 };
            let second = Run { offset: 4 << 20, len: 1 << 20, crc64: 0x0123_4567_89ab_cdef };
            (7, Frame::Have(Have { transfer, start: 0, end: 469_200_000, runs: vec![first, second] }))
        }
        "have-nothing" => (7, Frame::Have(Have { transfer, start: 4 << 20, end: 8 << 20, runs: Vec::new() })),
        "get-range" => {
            let digest = DigestAlgorithm::Crc64Nvme;
            (8, Frame::Get(Get { path: path("a/b"), start: 10, end: Some(20), digest }))
        }
        "get-whole" => {
            (8, Frame::Get(Get { path: path("a/b"), start: 0, end: None, digest: DigestAlgorithm::None }))
        }
        "file" => (8, Frame::File(FileHeader { size: 100, start: 10, end: 20, mode: 0o755, mtime })),
        "end" => (8, Frame::End),
        "list-the-root" => (9, Frame::List(List { path: RemotePath::ROOT, recursive: true })),
        "entries" => {
            let mut entries = Entries::default();
            for entry in [directory, file, link] {
                entries.push(entry).unwrap();
            }
            (9, Frame::Entries(entries))
        }
        "stat" => (9, Frame::Stat(path("d/f"))),
        "entry" => (9, Frame::Entry(file)),
        "remove" => (9, Frame::Remove(Remove { path: path("d"), recursive: true })),
        "rename" => (9, Frame::Rename(Rename { from: path("d/f"), to: path("g") })),
        "make-dir" => (9, Frame::MakeDir(MakeDir { path: path("x/y"), mode: 0o750, parents: true })),
        "symlink" => {
            (9, Frame::Symlink(Symlink { path: path("l"), target: LinkTarget::parse("d/f").unwrap() }))
        }
        "set-attributes" => (9, Frame::SetAttributes(SetAttributes { path: path("d"), mode: 0o700, mtime })),
        "done" => (9, Frame::Done),
        "checksum" => {
            (9, Frame::Checksum(Checksum { path: path("d/f"), digest: DigestAlgorithm::Crc64Nvme }))
        }
        "kv" => {
            let mut bytes = Vec::new();
            write_kv_args([&b"SET"[..], b"k", b"v1"].into_iter(), &mut bytes);
            (10, Frame::Kv(KvPart { bytes, more: false }))
        }
        "kv-in-parts" => (11, Frame::Kv(KvPart { bytes: b"\x02\0\0\0\x04\0\0\0EC".to_vec(), more: true })),
        "kv-reply" => (10, Frame::KvReply(KvPart { bytes: b"+OK\r\n".to_vec(), more: false })),
        "kv-push" => {
            let bytes = b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n".to_vec();
            (0, Frame::KvPush(KvPart { bytes, more: false }))
        }
        name => panic!("docs/protocol.md has a vector called {name}; say here what it means"),
    };
    Framed { request, frame }
}

fn is_whole(vector: &Vector) -> bool {
    vector.attributes["kind"] != "skipped" && !vector.attributes.contains_key("error")
}

#[test]
fn a_vector_decodes_to_its_value() {
    for vector in vectors().iter().filter(|vector| is_whole(vector)) {
        let decoded = vector.decode();
        assert_eq!(decoded, Ok((Some(item(vector.name())), vector.bytes.len(), true)), "{}", vector.name());
    }
}

#[test]
fn a_value_encodes_to_its_vector() {
    for vector in vectors().iter().filter(|vector| is_whole(vector)) {
        let mut bytes = Vec::new();
        match item(vector.name()) {
            Item::Hello(hello) => hello.encode(&mut bytes),
            Item::Frame(framed) => encode(framed.request, &framed.frame, &mut bytes),
        }
        assert_eq!(bytes, vector.bytes, "{}", vector.name());
    }
}

#[test]
fn every_frame_has_a_vector() {
    let vectors = vectors();
    let frames = vectors.iter().filter(|vector| is_whole(vector) && vector.attributes["kind"] == "frame");
    let covered: BTreeSet<u8> = frames.map(|vector| framed(vector.name()).frame.opcode()).collect();
    let known: BTreeSet<u8> = (0..=u8::MAX).filter(|opcode| opcode::is_known(*opcode)).collect();
    assert_eq!(covered, known);
}

#[test]
fn every_vector_has_a_name_of_its_own() {
    let names: Vec<&str> = vectors().iter().map(Vector::name).collect();
    let distinct: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(distinct.len(), names.len());
}

#[test]
fn a_malformed_vector_is_refused_with_its_code() {
    let vectors = vectors();
    let mut codes = BTreeSet::new();
    for vector in vectors.iter().filter(|vector| vector.attributes.contains_key("error")) {
        let error = vector.decode().expect_err(vector.name());
        assert_eq!(error.code().name(), vector.attributes["error"], "{}: {error}", vector.name());
        assert_eq!(error.request.to_string(), vector.attributes["request"], "{}", vector.name());
        codes.insert(error.code().name());
    }
    let expected = ["BAD_PATH", "INVALID_ARGUMENT", "LIMIT", "NAME_NOT_UTF8", "PROTOCOL", "UNSUPPORTED"];
    assert_eq!(codes, BTreeSet::from(expected));
}

#[test]
fn a_vector_to_skip_says_nothing() {
    let vectors = vectors();
    let skipped: Vec<&Vector> =
        vectors.iter().filter(|vector| vector.attributes["kind"] == "skipped").collect();
    assert!(!skipped.is_empty());
    for vector in skipped {
        assert_eq!(vector.decode(), Ok((None, vector.bytes.len(), true)), "{}", vector.name());
    }
}

#[test]
fn the_table_of_error_codes_is_the_enum() {
    let written: Vec<(String, &str, &str)> =
        table("### Error codes").iter().map(|row| (row[0].to_owned(), row[1], row[2])).collect();
    let retryable = |code: &ErrorCode| if code.retryable() { "yes" } else { "no" };
    let meant: Vec<(String, &str, &str)> =
        ErrorCode::ALL.iter().map(|code| (code.number().to_string(), code.name(), retryable(code))).collect();
    assert_eq!(written, meant);
}

#[test]
fn the_table_of_limits_is_what_is_enforced() {
    let written: Vec<(&str, u64)> =
        table("### Limits").iter().map(|row| (row[0], row[1].parse().unwrap())).collect();
    let enforced = [
        ("PATH_BYTES_MAX", limits::PATH_BYTES_MAX as u64),
        ("COMPONENT_BYTES_MAX", limits::COMPONENT_BYTES_MAX as u64),
        ("LINK_TARGET_BYTES_MAX", limits::LINK_TARGET_BYTES_MAX as u64),
        ("HELLO_BODY_BYTES_MAX", limits::HELLO_BODY_BYTES_MAX as u64),
        ("NAMES_MAX", limits::NAMES_MAX as u64),
        ("NAME_BYTES_MAX", limits::NAME_BYTES_MAX as u64),
        ("CONTROL_BODY_BYTES_MAX", limits::CONTROL_BODY_BYTES_MAX as u64),
        ("EXTENT_BYTES_MAX", limits::EXTENT_BYTES_MAX),
        ("FILE_BYTES_MAX", limits::FILE_BYTES_MAX),
        ("MESSAGE_BYTES_MAX", limits::MESSAGE_BYTES_MAX as u64),
        ("ENTRIES_MAX", limits::ENTRIES_MAX as u64),
        ("RUNS_MAX", limits::RUNS_MAX as u64),
        ("KV_PART_BYTES_MAX", limits::KV_PART_BYTES_MAX as u64),
        ("KV_ARGS_MAX", limits::KV_ARGS_MAX as u64),
        ("KV_ARG_BYTES_MAX", limits::KV_ARG_BYTES_MAX as u64),
        ("KV_REQUEST_BYTES_MAX", limits::KV_REQUEST_BYTES_MAX as u64),
        ("SKIPPED_BODY_BYTES_MAX", limits::SKIPPED_BODY_BYTES_MAX),
        ("MODE_MAX", limits::MODE_MAX.into()),
        ("NANOSECONDS_MAX", limits::NANOSECONDS_MAX.into()),
    ];
    assert_eq!(written, enforced);
}

#[test]
fn the_table_of_digest_algorithms_is_the_enum() {
    let written: Vec<(u8, &str, usize)> = table("#### Digest algorithms")
        .iter()
        .map(|row| (row[0].parse().unwrap(), row[1], row[2].parse().unwrap()))
        .collect();
    let known = (0..=u8::MAX).filter_map(DigestAlgorithm::from_id);
    let meant: Vec<(u8, &str, usize)> =
        known.map(|algorithm| (algorithm.id(), algorithm.name(), algorithm.digest_bytes())).collect();
    assert_eq!(written, meant);
}
