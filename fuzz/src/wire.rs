//! Everything that is decoded from the network.

use xferd_wire::{
    DecodeError, Decoder, Frame, Framed, Hello, Item, KvArgs, KvPart, LinkTarget, MAGIC, RemotePath,
    choose_version, encode, write_kv_args,
};

use crate::input::Input;

/// Any bytes, cut anywhere, give the same items and the same error, and what was decoded survives another round.
///
/// First the lengths of the pieces, over and over; the highest bit of their count says that a hello came before, so that
/// both halves of the protocol are reached.
pub fn wire_decode(data: &[u8]) {
    let mut input = Input(data);
    let how = input.u8();
    let lens = input.bytes((how & 0x0f).into());
    let mut stream = Vec::new();
    if how >= 0x80 {
        Hello::default().encode(&mut stream);
    }
    stream.extend_from_slice(input.0);
    check_stream(&stream, lens);
}

/// A hello that is one up to its versions.
pub fn hello(data: &[u8]) {
    let mut input = Input(data);
    let lens = input.bytes(4);
    let mut stream = MAGIC.to_vec();
    stream.extend_from_slice(input.bytes(4));
    let body = input.0;
    // Now and then the length is a lie.
    let len = if body.first() == Some(&0xff) { u32::MAX } else { body.len() as u32 };
    stream.extend_from_slice(&len.to_le_bytes());
    stream.extend_from_slice(body);
    check_stream(&stream, lens);

    let (items, _) = decode([&stream[..]].into_iter());
    let Some(Item::Hello(hello)) = items.first() else { return };
    assert_eq!(choose_version(&Hello::default(), hello), choose_version(hello, &Hello::default()));
    let mut again = Vec::new();
    hello.encode(&mut again);
    assert_eq!(decode([&again[..]].into_iter()), (vec![Item::Hello(hello.clone())], None));
}

/// One frame of any kind, whose header fits its body: requests, listings, receipts, errors.
pub fn frame(data: &[u8]) {
    let mut input = Input(data);
    let lens = input.bytes(4);
    let mut stream = Vec::new();
    Hello::default().encode(&mut stream);
    stream.extend_from_slice(&frame_bytes(input.u8(), input.u32(), input.0));
    check_stream(&stream, lens);
}

/// Names of places, as they are on the wire and as people spell them.
pub fn path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(target) = LinkTarget::parse(text) {
        assert_eq!(target.as_str(), text);
    }
    let on_wire = RemotePath::parse(text).inspect(|path| {
        assert_eq!(path.as_str(), text);
        assert_eq!(RemotePath::from_user(text).as_ref(), Ok(path), "one spelling for each place");
    });
    for path in on_wire.into_iter().chain(RemotePath::from_user(text)) {
        assert!(
            path.components().all(|name| !matches!(name, "" | "." | "..") && !name.contains(['/', '\0']))
        );
        assert_eq!(RemotePath::parse(path.as_str()).as_ref(), Ok(&path));
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            assert!(path.is_root());
            continue;
        };
        assert_eq!(parent.join(name).as_ref(), Ok(&path));
    }
}

/// A frame with a header that says how long `body` is.
pub(crate) fn frame_bytes(opcode: u8, request: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![opcode, 0, 0, 0];
    bytes.extend_from_slice(&request.to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// The only frame that is said in `bytes`, if there is one.
pub(crate) fn read_frame(bytes: &[u8]) -> Option<Framed> {
    let mut stream = Vec::new();
    Hello::default().encode(&mut stream);
    stream.extend_from_slice(bytes);
    match decode([&stream[..]].into_iter()).0.pop() {
        Some(Item::Frame(framed)) => Some(framed),
        Some(Item::Hello(_)) | None => None,
    }
}

fn check_stream(stream: &[u8], lens: &[u8]) {
    let whole = decode([stream].into_iter());
    assert_eq!(decode(cut(stream, lens)), whole);

    for item in whole.0 {
        let Item::Frame(Framed { request, frame }) = &item else { continue };
        if let Frame::Kv(KvPart { bytes, more: false }) = frame {
            check_args(bytes);
        }
        let mut again = Vec::new();
        Hello::default().encode(&mut again);
        encode(*request, frame, &mut again);
        assert_eq!(decode([&again[..]].into_iter()).0.last(), Some(&item));
    }
}

fn check_args(bytes: &[u8]) {
    if let Ok(args) = KvArgs::default().read(bytes) {
        let mut again = Vec::new();
        write_kv_args(args.iter().collect::<Vec<_>>().into_iter(), &mut again);
        assert_eq!(again, bytes);
    }
}

/// `bytes` in pieces of these lengths, over and over, each a byte more.
pub(crate) fn cut<'a>(mut bytes: &'a [u8], lens: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let lens = if lens.is_empty() { &[0] } else { lens };
    lens.iter().cycle().map_while(move |len| {
        let (piece, rest) = bytes.split_at((usize::from(*len) + 1).min(bytes.len()));
        bytes = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// What was said in `pieces`, and the error that ended it, if one did.
fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Item>, Option<DecodeError>) {
    let mut decoder = Decoder::new();
    let mut items = Vec::new();
    let mut raw_bytes = 0;
    for mut piece in pieces {
        loop {
            let raw = raw_bytes.min(piece.len());
            piece = &piece[raw..];
            raw_bytes -= raw;
            if raw_bytes > 0 {
                break;
            }
            let (taken, item) = match decoder.decode(piece) {
                Ok(decoded) => decoded,
                Err(error) => return (items, Some(error)),
            };
            piece = &piece[taken..];
            let Some(item) = item else {
                assert!(piece.is_empty(), "without an item, everything is taken");
                break;
            };
            if let Item::Frame(Framed { frame: Frame::Extent { len, .. }, .. }) = &item {
                raw_bytes = *len as usize;
            }
            items.push(item);
        }
    }
    (items, None)
}
