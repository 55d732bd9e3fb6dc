//! Any bytes, cut anywhere, give the same items and the same error, and what was decoded survives another round.
//!
//! Run from the root of the repository: `cargo +nightly fuzz run wire_decode` (`cargo install cargo-fuzz`).
#![no_main]

use libfuzzer_sys::fuzz_target;
use xferd_wire::{DecodeError, Decoder, Frame, Framed, Hello, Item, encode};

// The first byte says where to cut and whether a hello came before, so that both halves of the protocol are reached.
fuzz_target!(|data: &[u8]| {
    let Some((&how, bytes)) = data.split_first() else { return };
    let mut stream = Vec::new();
    if how >= 0x80 {
        Hello::default().encode(&mut stream);
    }
    stream.extend_from_slice(bytes);

    let whole = decode(stream.chunks(stream.len().max(1)));
    assert_eq!(decode(stream.chunks(usize::from(how & 0x7f) + 1)), whole);

    for item in whole.0 {
        let Item::Frame(Framed { request, frame }) = &item else { continue };
        let mut again = Vec::new();
        Hello::default().encode(&mut again);
        encode(*request, frame, &mut again);
        assert_eq!(decode([&again[..]].into_iter()).0.last(), Some(&item));
    }
});

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
            let Some(item) = item else { break };
            if let Item::Frame(Framed { frame: Frame::Extent { len, .. }, .. }) = &item {
                raw_bytes = *len as usize;
            }
            items.push(item);
        }
    }
    (items, None)
}
