use super::*;
use crate::limits::{
    CONTROL_BODY_BYTES_MAX, ENTRIES_MAX, EXTENT_BYTES_MAX, FILE_BYTES_MAX, MESSAGE_BYTES_MAX, RUNS_MAX,
    SKIPPED_BODY_BYTES_MAX,
};
use crate::{ErrorCode, Frame, PathError, encode};

/// A decoder that has heard the peer's hello.
fn greeted() -> Decoder {
    let mut bytes = Vec::new();
    Hello::default().encode(&mut bytes);
    let mut decoder = Decoder::new();
    assert!(matches!(decoder.decode(&bytes), Ok((taken, Some(Item::Hello(_)))) if taken == bytes.len()));
    decoder
}

fn header(opcode: u8, request: u32, body_bytes: u64) -> Vec<u8> {
    let mut out = Vec::new();
    Header::write(opcode, request, body_bytes, &mut out);
    out
}

fn frame(opcode: u8, body: &[u8]) -> Vec<u8> {
    [header(opcode, 1, body.len() as u64), body.to_vec()].concat()
}

fn fault(bytes: &[u8]) -> Option<Fault> {
    greeted().decode(bytes).err().map(|error| error.fault)
}

/// A `u16` length and as many bytes of text.
fn text(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u16).to_le_bytes()[..], text].concat()
}

fn put_body(flags: u16, size: u64, mode: u32, nanoseconds: u32) -> Vec<u8> {
    let mut body = [&flags.to_le_bytes()[..], &[1], &text(b"a"), &size.to_le_bytes()].concat();
    body.extend_from_slice(&mode.to_le_bytes());
    body.extend_from_slice(&0_i64.to_le_bytes());
    body.extend_from_slice(&nanoseconds.to_le_bytes());
    body.extend_from_slice(&[0; 20]);
    body
}

fn extent(offset: u64, len: u64) -> Vec<u8> {
    [header(opcode::EXTENT, 1, 8_u64.wrapping_add(len)), offset.to_le_bytes().to_vec()].concat()
}

#[test]
fn a_stranger_is_refused_at_its_first_wrong_byte() {
    let mut decoder = Decoder::new();
    assert_eq!(decoder.decode(b"\x89XF"), Ok((3, None)));
    assert_eq!(decoder.decode(b"X"), Err(Fault::Magic.of(0)));
    assert_eq!(Decoder::new().decode(b"GET / HTTP/1.1\r\n\r\n"), Err(Fault::Magic.of(0)));
    assert_eq!(Decoder::new().decode(b"G"), Err(Fault::Magic.of(0)));
    assert_eq!(Decoder::new().decode(b""), Ok((0, None)));
}

#[test]
fn a_line_end_that_was_translated_is_noticed() {
    assert_eq!(Decoder::new().decode(b"\x89XFER\n\x1a\0\0\0\0\0\0\0\0\0"), Err(Fault::Magic.of(0)));
}

#[test]
fn a_fault_names_its_request() {
    let mut bytes = header(opcode::COMMIT, 77, 8);
    bytes.extend_from_slice(&u64::MAX.to_le_bytes());
    let error = greeted().decode(&bytes).unwrap_err();
    assert_eq!((error.request, error.code()), (77, ErrorCode::Limit));
    assert_eq!(greeted().decode(&header(0x50, 78, 0)).unwrap_err().request, 78);
}

#[test]
fn reserved_bytes_are_zero() {
    for at in [2, 3] {
        for opcode in [opcode::CANCEL, 0x80] {
            let mut bytes = header(opcode, 1, 0);
            bytes[at] = 1;
            assert_eq!(fault(&bytes), Some(Fault::Reserved { opcode }));
        }
    }
}

#[test]
fn a_flag_that_is_not_known_is_not_supported() {
    let mut bytes = header(opcode::CANCEL, 1, 0);
    bytes[1] = 0x80;
    assert_eq!(fault(&bytes), Some(Fault::Flags { opcode: opcode::CANCEL, flags: 0x80 }));
    for (opcode, flags) in [(opcode::LIST, 2), (opcode::REMOVE, 2), (opcode::MAKE_DIR, 0x8000)] {
        let body = [&u16::to_le_bytes(flags)[..], &text(b"a"), &[0; 4]].concat();
        assert_eq!(fault(&frame(opcode, &body)), Some(Fault::Flags { opcode, flags }));
    }
    let bytes = frame(opcode::PUT, &put_body(16, 0, 0, 0));
    assert_eq!(fault(&bytes), Some(Fault::Flags { opcode: opcode::PUT, flags: 16 }));
}

#[test]
fn a_critical_frame_that_is_not_known_is_not_supported() {
    let known: Vec<u8> = (0..0x80).filter(|opcode| opcode::is_known(*opcode)).collect();
    assert_eq!(known.len(), 4 + 8 + 3 + 11 + 3);
    for opcode in (0..0x80).filter(|opcode| !known.contains(opcode)) {
        assert_eq!(fault(&header(opcode, 1, u64::MAX)), Some(Fault::Opcode { opcode }));
    }
}

#[test]
fn an_optional_frame_that_is_not_known_is_skipped_and_not_kept() {
    let mut decoder = greeted();
    let mut bytes = header(0xff, 0, 100_000);
    bytes[1] = 0xff;
    assert_eq!(decoder.decode(&bytes), Ok((16, None)));
    for _ in 0..10 {
        assert!(!decoder.is_between_frames());
        assert_eq!(decoder.decode(&[9; 10_000]), Ok((10_000, None)));
        assert_eq!(decoder.partial.capacity(), 0);
    }
    assert!(decoder.is_between_frames());
    let mut next = [header(0x80, 5, 3), vec![9; 3]].concat();
    encode(0, &Frame::Ping(1), &mut next);
    let ping = Item::Frame(Framed { request: 0, frame: Frame::Ping(1) });
    assert_eq!(decoder.decode(&next), Ok((next.len(), Some(ping))));
}

#[test]
fn an_optional_frame_may_have_a_body_of_1_mib_and_not_more() {
    assert_eq!(fault(&header(0x80, 1, SKIPPED_BODY_BYTES_MAX)), None);
    let body_bytes = SKIPPED_BODY_BYTES_MAX + 1;
    let refused = Fault::Body { opcode: 0x80, body_bytes, bytes_max: SKIPPED_BODY_BYTES_MAX };
    assert_eq!(fault(&header(0x80, 1, body_bytes)), Some(refused));
}

#[test]
fn a_body_beyond_its_limit_is_refused_before_any_of_it_is_there() {
    for opcode in (0..0x80).filter(|opcode| opcode::is_known(*opcode) && *opcode != opcode::EXTENT) {
        let request = u32::from(!matches!(opcode, opcode::PING..=opcode::GOODBYE | opcode::KV_PUSH));
        let bytes_max = CONTROL_BODY_BYTES_MAX as u64;
        assert_eq!(fault(&header(opcode, request, bytes_max)), None);
        for body_bytes in [bytes_max + 1, 1 << 63, u64::MAX] {
            let refused = Fault::Body { opcode, body_bytes, bytes_max };
            assert_eq!(fault(&header(opcode, request, body_bytes)), Some(refused));
        }
    }
}

#[test]
fn a_body_that_is_only_announced_costs_no_memory() {
    let mut decoder = greeted();
    assert_eq!(decoder.decode(&header(opcode::PUT, 1, CONTROL_BODY_BYTES_MAX as u64)), Ok((16, None)));
    assert_eq!(decoder.partial.capacity(), 0);
    assert_eq!(decoder.decode(&[0; 100]), Ok((100, None)));
    assert_eq!(decoder.partial.len(), 100);
}

#[test]
fn no_bytes_are_kept_between_items() {
    let mut decoder = greeted();
    let mut bytes = Vec::new();
    encode(1, &Frame::Stat(crate::RemotePath::parse("a/b").unwrap()), &mut bytes);
    for byte in &bytes[..bytes.len() - 1] {
        assert_eq!(decoder.decode(&[*byte]), Ok((1, None)));
        assert!(!decoder.is_between_frames());
    }
    assert!(matches!(decoder.decode(&bytes[bytes.len() - 1..]), Ok((1, Some(Item::Frame(_))))));
    assert!(decoder.is_between_frames());
    assert_eq!(decoder.partial.capacity(), 0);
}

#[test]
fn a_frame_of_the_connection_has_request_0_and_others_have_not() {
    for opcode in (0..0x80).filter(|opcode| opcode::is_known(*opcode)) {
        let refused = Some(Fault::Request { opcode });
        match opcode {
            opcode::ERROR => {
                let body = b"\x01\0\0\0\0";
                assert_eq!(fault(&frame(opcode, body)), None);
                assert_eq!(fault(&[header(opcode, 0, 5), body.to_vec()].concat()), None);
            }
            opcode::PING..=opcode::GOODBYE | opcode::KV_PUSH => {
                assert_eq!(fault(&header(opcode, 1, 0)), refused);
            }
            _ => assert_eq!(fault(&header(opcode, 0, 0)), refused),
        }
    }
}

#[test]
fn an_extent_may_have_1_byte_to_16_mib() {
    for len in [1, EXTENT_BYTES_MAX] {
        let extent = extent(5, len);
        let item = Item::Frame(Framed { request: 1, frame: Frame::Extent { offset: 5, len } });
        assert_eq!(greeted().decode(&extent), Ok((24, Some(item))));
    }
    assert_eq!(fault(&extent(5, 0)), Some(Fault::EmptyExtent));
    for len in [EXTENT_BYTES_MAX + 1, 1 << 63, u64::MAX - 8] {
        let refused =
            Fault::Body { opcode: opcode::EXTENT, body_bytes: 8 + len, bytes_max: 8 + EXTENT_BYTES_MAX };
        assert_eq!(fault(&extent(5, len)), Some(refused));
    }
}

#[test]
fn an_extent_has_room_for_its_offset() {
    for body_bytes in 0..8 {
        let bytes = [header(opcode::EXTENT, 1, body_bytes), vec![0; 8]].concat();
        assert_eq!(fault(&bytes), Some(Fault::Short));
    }
}

#[test]
fn an_extent_ends_within_the_largest_file() {
    assert_eq!(fault(&extent(FILE_BYTES_MAX - 1, 1)), None);
    for offset in [FILE_BYTES_MAX, FILE_BYTES_MAX + 1, u64::MAX - 1, u64::MAX] {
        assert_eq!(fault(&extent(offset, 1)), Some(Fault::ExtentEnd { offset, len: 1 }));
    }
}

#[test]
fn the_raw_bytes_of_an_extent_are_left_to_the_caller() {
    let mut decoder = greeted();
    let mut bytes = extent(0, 3);
    bytes.extend_from_slice(b"raw");
    encode(0, &Frame::Ping(1), &mut bytes);
    let (taken, _) = decoder.decode(&bytes).unwrap();
    assert_eq!(&bytes[taken..taken + 3], b"raw");
    let ping = Item::Frame(Framed { request: 0, frame: Frame::Ping(1) });
    assert_eq!(decoder.decode(&bytes[taken + 3..]), Ok((24, Some(ping))));
}

#[test]
fn a_file_may_have_2_to_the_63rd_minus_1_bytes_and_not_one_more() {
    for opcode in [opcode::COMMIT, opcode::COMMITTED] {
        let body = |size: u64| match opcode {
            opcode::COMMIT => size.to_le_bytes().to_vec(),
            _ => [&size.to_le_bytes()[..], &[0, 0, 0]].concat(),
        };
        assert_eq!(fault(&frame(opcode, &body(FILE_BYTES_MAX))), None);
        let refused = Some(Fault::FileBytes { size: 1 << 63 });
        assert_eq!(fault(&frame(opcode, &body(1 << 63))), refused);
    }
    assert_eq!(fault(&frame(opcode::PUT, &put_body(2, FILE_BYTES_MAX, 0, 0))), None);
    assert_eq!(
        fault(&frame(opcode::PUT, &put_body(2, 1 << 63, 0, 0))),
        Some(Fault::FileBytes { size: 1 << 63 })
    );
}

#[test]
fn a_size_that_is_not_announced_is_0() {
    assert_eq!(fault(&frame(opcode::PUT, &put_body(0, 0, 0, 0))), None);
    let refused = Some(Fault::UnannouncedSize { size: 1 });
    assert_eq!(fault(&frame(opcode::PUT, &put_body(0, 1, 0, 0))), refused);
}

#[test]
fn a_put_is_shared_only_if_its_size_is_known_and_resumable_only_if_it_is_shared() {
    for flags in 0..16 {
        let (sized, shared, resumable) = (flags & 2 != 0, flags & 4 != 0, flags & 8 != 0);
        let makes_sense = (sized || !shared) && (shared || !resumable);
        let refused = (!makes_sense).then_some(Fault::Sharing);
        assert_eq!(fault(&frame(opcode::PUT, &put_body(flags, 0, 0, 0))), refused, "{flags}");
    }
}

fn have(runs: &[(u64, u64)]) -> Vec<u8> {
    let mut body = vec![0; 32];
    body.extend_from_slice(&(runs.len() as u16).to_le_bytes());
    for (offset, len) in runs {
        [offset, len, &7].iter().for_each(|number| body.extend_from_slice(&number.to_le_bytes()));
    }
    frame(opcode::HAVE, &body)
}

#[test]
fn a_frame_may_list_2048_runs_and_not_2049() {
    let runs: Vec<_> = (0..=RUNS_MAX as u64).map(|number| (number * 2, 1)).collect();
    assert_eq!(fault(&have(&runs[..RUNS_MAX])), None);
    assert_eq!(fault(&have(&runs)), Some(Fault::TooManyRuns { runs: 2049 }));
}

#[test]
fn runs_are_in_order_and_within_a_file() {
    assert_eq!(fault(&have(&[(0, 9), (9, 1), (FILE_BYTES_MAX - 1, 1)])), None);
    for (runs, (offset, len)) in [
        (&[(0, 9), (8, 1)][..], (8, 1)),
        (&[(9, 1), (0, 1)], (0, 1)),
        (&[(5, 0)], (5, 0)),
        (&[(FILE_BYTES_MAX, 1)], (FILE_BYTES_MAX, 1)),
        (&[(1, u64::MAX)], (1, u64::MAX)),
    ] {
        assert_eq!(fault(&have(runs)), Some(Fault::Run { offset, len }));
    }
}

#[test]
fn a_mode_has_permission_bits_only() {
    assert_eq!(fault(&frame(opcode::PUT, &put_body(2, 0, 0o7777, 0))), None);
    assert_eq!(fault(&frame(opcode::PUT, &put_body(2, 0, 0o10000, 0))), Some(Fault::Mode { mode: 0o10000 }));
}

#[test]
fn a_time_has_less_than_a_second_of_nanoseconds() {
    assert_eq!(fault(&frame(opcode::PUT, &put_body(2, 0, 0, 999_999_999))), None);
    let nanoseconds = 1_000_000_000;
    let refused = Some(Fault::Nanoseconds { nanoseconds });
    assert_eq!(fault(&frame(opcode::PUT, &put_body(2, 0, 0, nanoseconds))), refused);
}

#[test]
fn a_range_lies_within_a_file() {
    let get = |start: u64, end: u64| {
        frame(opcode::GET, &[&text(b"a")[..], &start.to_le_bytes(), &end.to_le_bytes(), &[0]].concat())
    };
    for (start, end) in [(0, 0), (5, 5), (5, u64::MAX), (0, FILE_BYTES_MAX), (FILE_BYTES_MAX, u64::MAX)] {
        assert_eq!(fault(&get(start, end)), None);
    }
    assert_eq!(fault(&get(6, 5)), Some(Fault::Range { start: 6, end: 5 }));
    assert_eq!(fault(&get(0, u64::MAX - 1)), Some(Fault::FileBytes { size: u64::MAX - 1 }));
    assert_eq!(fault(&get(1 << 63, u64::MAX)), Some(Fault::FileBytes { size: 1 << 63 }));

    let file = |size: u64, start: u64, end: u64| {
        let numbers = [size, start, end].map(u64::to_le_bytes).concat();
        frame(opcode::FILE, &[&numbers[..], &[0; 16]].concat())
    };
    assert_eq!(fault(&file(9, 0, 9)), None);
    assert_eq!(fault(&file(9, 9, 9)), None);
    assert_eq!(fault(&file(9, 0, 10)), Some(Fault::Range { start: 0, end: 10 }));
    assert_eq!(fault(&file(9, 7, 6)), Some(Fault::Range { start: 7, end: 6 }));
}

#[test]
fn the_root_is_refused_where_something_beneath_it_is_meant() {
    let root = Some(Fault::Path(PathError::Root));
    assert_eq!(fault(&frame(opcode::GET, &[0; 19])), root);
    assert_eq!(fault(&frame(opcode::PUT, &[0; 47])), root);
    assert_eq!(fault(&frame(opcode::REMOVE, &[0; 4])), root);
    assert_eq!(fault(&frame(opcode::RENAME, &[0; 4])), root);
    assert_eq!(fault(&frame(opcode::RENAME, b"\x01\0a\0\0")), root);
    assert_eq!(fault(&frame(opcode::SYMLINK, b"\0\0\x01\0a")), root);
    assert_eq!(fault(&frame(opcode::LIST, &[0; 4])), None);
    assert_eq!(fault(&frame(opcode::STAT, &[0; 2])), None);
    assert_eq!(fault(&frame(opcode::MAKE_DIR, &[0; 8])), None);
    assert_eq!(fault(&frame(opcode::SET_ATTRIBUTES, &[0; 18])), None);
}

#[test]
fn an_entry_of_a_listing_has_a_name() {
    let entry = [&[2, 0, 0][..], &[0; 26]].concat();
    assert_eq!(fault(&frame(opcode::ENTRY, &entry)), None);
    let entries = [&[1, 0][..], &entry].concat();
    assert_eq!(fault(&frame(opcode::ENTRIES, &entries)), Some(Fault::Path(PathError::Root)));
}

#[test]
fn a_bad_path_has_a_code_of_its_own() {
    for path in [&b"../x"[..], b"/x", b"a/../../x", b"a\0b", &[b'x'; 256], &[b'x'; 4097]] {
        let error = greeted().decode(&frame(opcode::STAT, &text(path))).unwrap_err();
        assert_eq!(error.code(), ErrorCode::BadPath);
    }
    let error = greeted().decode(&frame(opcode::STAT, &text(b"a\xff"))).unwrap_err();
    assert_eq!(error.code(), ErrorCode::NameNotUtf8);
}

#[test]
fn a_frame_lists_256_entries_and_not_257() {
    let entry = [&[1][..], &text(b"a"), &[0; 26]].concat();
    let list = |entries: usize| {
        frame(opcode::ENTRIES, &[&(entries as u16).to_le_bytes()[..], &entry.repeat(entries)].concat())
    };
    assert_eq!(fault(&list(ENTRIES_MAX)), None);
    assert_eq!(fault(&list(ENTRIES_MAX + 1)), Some(Fault::TooManyEntries { entries: 257 }));
}

#[test]
fn a_message_may_have_1024_bytes_and_not_1025() {
    let error = |message: &[u8]| frame(opcode::ERROR, &[&[1, 0, 1][..], &text(message)].concat());
    assert_eq!(fault(&error(&[b'x'; MESSAGE_BYTES_MAX])), None);
    assert_eq!(fault(&error(&[b'x'; 1025])), Some(Fault::MessageTooLong { message_bytes: 1025 }));
    assert_eq!(fault(&error(b"\xff")), Some(Fault::MessageNotUtf8));
}

#[test]
fn a_number_that_stands_for_nothing_is_refused() {
    assert_eq!(fault(&frame(opcode::ERROR, &[1, 0, 2, 0, 0])), Some(Fault::Bool { value: 2 }));
    assert_eq!(fault(&frame(opcode::DIGEST, &[3, 0])), Some(Fault::DigestAlgorithm { id: 3 }));
    assert!(matches!(fault(&frame(opcode::DIGEST, &[1, 1, 0])), Some(Fault::Digest(_))));
    for id in [0, 5] {
        assert_eq!(fault(&frame(opcode::ENTRY, &[id; 29])), Some(Fault::EntryKind { id }));
    }
}

#[test]
fn a_body_says_neither_more_nor_less_than_its_fields() {
    for opcode in [opcode::CANCEL, opcode::END, opcode::DONE] {
        assert_eq!(fault(&frame(opcode, &[0])), Some(Fault::Trailing { bytes: 1 }));
    }
    assert_eq!(fault(&frame(opcode::STAT, &[2, 0, b'a'])), Some(Fault::Short));
    assert_eq!(fault(&frame(opcode::COMMIT, &[0; 7])), Some(Fault::Short));
    assert_eq!(fault(&frame(opcode::COMMIT, &[0; 9])), Some(Fault::Trailing { bytes: 1 }));
}
