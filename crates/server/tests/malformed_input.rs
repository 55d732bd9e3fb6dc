//! Bytes that are no protocol, or break it: a clear error, and nobody else notices.

mod common;

use common::{
    PATIENCE, Peer, STAGED_BYTES, Site, announce, digest, each_site, extent, frame, get, hello, path,
    pattern, put, put_spelled,
};
use xferd_wire::{ErrorCode, Frame, Hello, List};

/// A header that announces what it likes.
fn header(opcode: u8, request: u32, body_bytes: u64) -> Vec<u8> {
    let mut bytes = vec![opcode, 0, 0, 0];
    bytes.extend_from_slice(&request.to_le_bytes());
    bytes.extend_from_slice(&body_bytes.to_le_bytes());
    bytes
}

fn hello_of_versions(version_min: u16, version_max: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    Hello { version_min, version_max, ..Hello::default() }.encode(&mut bytes);
    bytes
}

#[test]
fn whoever_does_not_speak_the_protocol_is_told_what_answers_and_why_not() {
    each_site(|site| {
        let mut huge = hello();
        huge[12..16].copy_from_slice(&1025_u32.to_le_bytes());
        for (bytes, code) in [
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), ErrorCode::Protocol),
            (b"\x89XFERD\r\n".to_vec(), ErrorCode::Protocol),
            (b"x".to_vec(), ErrorCode::Protocol),
            (vec![0; 1 << 20], ErrorCode::Protocol),
            (hello_of_versions(2, 9), ErrorCode::Version),
            (hello_of_versions(0, 0), ErrorCode::Version),
            (hello_of_versions(9, 2), ErrorCode::Protocol),
            (huge, ErrorCode::Limit),
        ] {
            let mut peer = site.stranger();
            peer.say(&bytes);
            peer.greeted();
            peer.refused(0, code);
            peer.closed();
        }
        site.is_well_and_has(&[]);
    });
}

#[test]
fn a_malformed_frame_is_answered_under_its_own_number_and_ends_the_connection() {
    let put = |offset: u64, len: u64| {
        let mut bytes = frame(7, &announce("x", None));
        bytes.extend(header(0x11, 7, len.wrapping_add(8)));
        bytes.extend_from_slice(&offset.to_le_bytes());
        bytes
    };
    each_site(|site| {
        for (what, bytes, request, code) in [
            ("an unknown critical frame", header(0x50, 7, 0), 7, ErrorCode::Unsupported),
            ("an unknown frame for putting", header(0x18, 7, 16), 7, ErrorCode::Unsupported),
            ("a flag", [&[0x02, 1, 0, 0][..], &[0; 20]].concat(), 0, ErrorCode::Unsupported),
            ("a put without a body", header(0x10, 7, 0), 7, ErrorCode::Protocol),
            ("a put of 2^63 bytes of body", header(0x10, 7, 1 << 63), 7, ErrorCode::Limit),
            ("a put of 64 KiB + 1 of body", header(0x10, 7, (64 << 10) + 1), 7, ErrorCode::Limit),
            ("an empty extent", put(0, 0), 7, ErrorCode::Limit),
            ("an extent of 16 MiB + 1", put(0, (16 << 20) + 1), 7, ErrorCode::Limit),
            ("an extent of 2^63 bytes", put(0, (1 << 63) - 8), 7, ErrorCode::Limit),
            ("an extent beyond 2^64", put(u64::MAX, 1), 7, ErrorCode::Limit),
            ("an extent beyond 2^63", put((1 << 63) - 1, 1), 7, ErrorCode::Limit),
            ("a skipped frame of 1 MiB + 1", header(0x80, 7, (1 << 20) + 1), 7, ErrorCode::Limit),
            ("request 0", frame(0, &get("x")), 0, ErrorCode::Protocol),
            ("an answer", frame(7, &Frame::Done), 0, ErrorCode::Protocol),
        ] {
            let mut peer = site.peer();
            peer.say(&bytes);
            let (answered, Frame::Error(reply)) = peer.answer() else { panic!("{what} was not refused") };
            assert_eq!((answered, reply.code), (request, code), "{what}: {reply}");
            peer.closed();
        }
        site.is_well_and_has(&[]);
    });
}

#[test]
fn a_path_that_breaks_the_rules_is_refused_and_the_longest_name_is_not() {
    each_site(|site| {
        let too_long = [b'x'; 256];
        let too_deep = "d/".repeat(2048) + "x";
        for spelled in [
            &b"../x"[..],
            b"/x",
            b"a/../../x",
            b"a/..",
            b"x\0y",
            b"",
            b".",
            b"a//b",
            b"a/",
            &too_long,
            too_deep.as_bytes(),
        ] {
            let mut peer = site.peer();
            peer.say(&put_spelled(7, spelled));
            peer.refused(7, ErrorCode::BadPath);
            peer.closed();
        }
        let mut peer = site.peer();
        peer.say(&put_spelled(7, b"\xff"));
        peer.refused(7, ErrorCode::NameNotUtf8);
        let longest = "x".repeat(255);
        let mut peer = site.peer();
        peer.put(7, &longest, b"fits");
        peer.committed(7, b"fits");
        drop(peer);
        site.is_well_and_has(&[&longest]);
    });
}

#[test]
fn an_optional_frame_that_nobody_knows_is_skipped() {
    each_site(|site| {
        let mut peer = site.peer();
        for body in [0, 1, 100_000, 1 << 20] {
            peer.say(&header(0xff, 9, body));
            peer.say(&vec![0x40; body as usize]);
            peer.send(0, &Frame::Ping(body));
            assert_eq!(peer.answer(), (0, Frame::Pong(body)));
        }
        drop(peer);
        site.is_well_and_has(&[]);
    });
}

#[test]
fn a_failure_with_the_longest_path_fits_into_its_answer() {
    let site = Site::new();
    let longest = ["x".repeat(255).as_str(); 16].join("/");
    let mut peer = site.peer();
    peer.send(7, &get(&longest));
    peer.refused(7, ErrorCode::NotFound);
    drop(peer);
    site.is_well_and_has(&[]);
}

/// Everything a client says in a session that stores two files and lists them, and the ends of what it stores.
struct Recording {
    bytes: Vec<u8>,
    small: Vec<u8>,
    staged: Vec<u8>,
    small_end: usize,
    staged_end: usize,
    bulk: std::ops::Range<usize>,
}

fn record() -> Recording {
    let (small, staged) = (b"new".to_vec(), pattern(STAGED_BYTES));
    let mut bytes = hello();
    bytes.extend(put(1, "small", &small));
    let small_end = bytes.len();
    bytes.extend(frame(2, &announce("staged", Some(staged.len() as u64))));
    let bulk = bytes.len()..bytes.len() + STAGED_BYTES;
    bytes.extend(extent(2, 0, &staged));
    bytes.extend(frame(2, &Frame::Digest(digest(&staged))));
    bytes.extend(frame(2, &Frame::Commit { size: staged.len() as u64 }));
    let staged_end = bytes.len();
    bytes.extend(frame(3, &Frame::List(List { path: path("small"), recursive: false })));
    Recording { bytes, small, staged, small_end, staged_end, bulk }
}

#[test]
fn a_session_cut_off_at_any_byte_stores_what_was_committed_before_and_nothing_else() {
    let recording = record();
    let is_sampled = |cut: &usize| !recording.bulk.contains(cut) || cut % 1009 == 0;
    each_site(|site| {
        for cut in (0..=recording.bytes.len()).filter(is_sampled) {
            site.write("small", b"old");
            let _ = std::fs::remove_file(site.root.path().join("staged"));
            let mut peer = site.stranger();
            peer.say(&recording.bytes[..cut]);
            peer.end();
            // What was asked for is answered although nothing more can be asked.
            while peer.next().is_some() {}
            let small = if cut < recording.small_end { b"old" } else { &recording.small[..] };
            assert_eq!(site.read("small"), small, "cut at {cut}");
            if cut < recording.staged_end {
                assert!(!site.root.path().join("staged").exists(), "cut at {cut}");
            } else {
                assert!(site.read("staged") == recording.staged, "cut at {cut}");
            }
        }
        site.is_well_and_has(&["small", "staged"]);
    });
}

#[test]
fn a_client_that_vanishes_at_any_byte_leaves_an_old_or_a_new_file() {
    let recording = record();
    each_site(|site| {
        site.write("small", b"old");
        for cut in (0..recording.bytes.len()).step_by(701) {
            let mut peer = site.stranger();
            peer.say(&recording.bytes[..cut]);
        }
        site.is_left_alone();
        assert!([b"old".to_vec(), recording.small.clone()].contains(&site.read("small")));
        site.is_well_and_has(&["small"]);
    });
}

#[test]
fn bytes_that_come_one_at_a_time_mean_the_same() {
    each_site(|site| {
        let mut bytes = hello();
        // The second is announced before the first has come, so it is staged.
        bytes.extend(frame(1, &announce("a", Some(5))));
        bytes.extend(frame(2, &announce("b", Some(5))));
        bytes.extend(extent(2, 0, b"fir"));
        bytes.extend(extent(1, 0, b"first"));
        bytes.extend(extent(2, 3, b"st"));
        for request in [1, 2] {
            bytes.extend(frame(request, &Frame::Digest(digest(b"first"))));
            bytes.extend(frame(request, &Frame::Commit { size: 5 }));
        }
        let mut peer = Peer::stranger(site.address());
        for byte in &bytes {
            peer.say(std::slice::from_ref(byte));
        }
        peer.greeted();
        peer.committed(1, b"first");
        peer.committed(2, b"first");
        drop(peer);
        site.is_well_and_has(&["a", "b"]);
    });
}

#[test]
fn an_error_can_be_read_by_a_client_that_is_still_sending() {
    let site = Site::new();
    let mut peer = site.peer();
    let mut writer = peer.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        use std::io::Write;
        let _ = writer.write_all(&header(0x50, 7, 0));
        // More than the buffers of both sides take, so the server has to read it for the client to come to its end.
        let _ = writer.write_all(&vec![0; 32 << 20]);
        writer.shutdown(std::net::Shutdown::Write)
    });
    let _ = sending.join().unwrap();
    peer.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.refused(7, ErrorCode::Unsupported);
    peer.closed();
    site.is_well_and_has(&[]);
}
