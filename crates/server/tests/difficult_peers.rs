//! Peers that keep to the protocol and are a burden all the same, and a server that stops in the middle.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::TcpStream;
use std::time::Duration;

use common::{
    PATIENCE, Peer, STAGED_BYTES, Site, announce, digest, each_site, eventually, extent, frame, get, path,
    pattern, put,
};
use xferd_server::REQUESTS_WAITING_MAX;
use xferd_wire::{ErrorCode, Frame, List};

/// Silence that the servers here put up with where a test has to see the end of it.
const SHORT: Duration = Duration::from_millis(200);

fn list(at: &str, recursive: bool) -> Frame {
    Frame::List(List { path: if at.is_empty() { xferd_wire::RemotePath::ROOT } else { path(at) }, recursive })
}

/// More directories than are listed at once.
const DIRECTORIES: usize = 300;

fn make_tree(site: &Site) {
    for number in 0..DIRECTORIES {
        std::fs::create_dir_all(site.root.path().join(format!("tree/{number:0200}"))).unwrap();
    }
}

/// Names in the answer to a listing.
fn listed(peer: &mut Peer, request: u32) -> usize {
    let mut names = 0;
    loop {
        match peer.answer() {
            (answered, Frame::Entries(entries)) if answered == request => names += entries.iter().count(),
            (answered, Frame::Done) if answered == request => return names,
            other => panic!("entries for {request} were expected, not {other:?}"),
        }
    }
}

#[test]
fn a_thousand_connections_that_say_nothing_disturb_nobody_and_are_closed() {
    xferd_os::raise_descriptor_limit().unwrap();
    let site = Site::with(|config| config.patience.hello = SHORT);
    let mut silent: Vec<Peer> = (0..1000).map(|_| site.stranger()).collect();
    common::serves(site.address());
    for peer in &mut silent {
        peer.greeted();
        peer.refused(0, ErrorCode::Timeout);
        peer.closed();
    }
    drop(silent);
    site.is_well_and_has(&[]);
}

#[test]
fn whoever_falls_silent_is_told_so_and_what_it_began_is_dropped() {
    for workers in [0, 2] {
        let site = Site::with(|config| {
            config.workers = workers;
            (config.patience.request, config.patience.idle) = (SHORT, SHORT);
        });
        let mut peers: Vec<Peer> = (0..3).map(|_| site.peer()).collect();
        for (peer, begun) in peers.iter_mut().zip([vec![], frame(7, &announce("x", Some(9))), extent_begun()])
        {
            peer.say(&begun);
        }
        for peer in &mut peers {
            peer.refused(0, ErrorCode::Timeout);
            peer.closed();
        }
        drop(peers);
        site.is_well_and_has(&[]);
    }
}

#[test]
fn whoever_has_rested_is_served_as_before_and_told_when_it_was_too_long() {
    let site = Site::with(|config| config.patience.idle = SHORT * 10);
    site.write("x", &pattern(1000));
    let mut peers: Vec<Peer> = (0..3).map(|_| site.peer()).collect();
    for request in 1..=2 {
        // Long enough for the server to look after whoever is busy only, and shorter than it has patience.
        std::thread::sleep(SHORT * 6);
        for peer in &mut peers {
            peer.say(&frame(request, &get("x")));
            assert!(peer.file(request) == pattern(1000));
        }
    }
    for peer in &mut peers {
        peer.refused(0, ErrorCode::Timeout);
        peer.closed();
    }
    drop(peers);
    site.is_well_and_has(&["x"]);
}

/// A staged put that stops in the middle of its extent.
fn extent_begun() -> Vec<u8> {
    let mut bytes = frame(7, &announce("x", Some(STAGED_BYTES as u64)));
    bytes.extend(extent(7, 0, &pattern(STAGED_BYTES)));
    bytes.truncate(bytes.len() - 1);
    bytes
}

#[test]
fn peers_that_never_read_hold_no_one_up_and_are_closed() {
    for workers in [0, 2] {
        let site = Site::with(|config| (config.workers, config.patience.request) = (workers, SHORT));
        site.write("small", &pattern(60_000));
        site.write("large", &pattern(16 << 20));
        make_tree(&site);
        let mut greedy: Vec<Peer> = (0..12).map(|_| site.peer()).collect();
        for (number, peer) in greedy.iter_mut().enumerate() {
            let wanted = match number % 3 {
                0 => get("small"),
                1 => get("large"),
                _ => list("", true),
            };
            // More than is listened to before the first answers are read.
            let mut requests = Vec::new();
            (1..=2000).for_each(|request| requests.extend(frame(request, &wanted)));
            peer.stream.set_nonblocking(true).unwrap();
            let _ = std::io::Write::write(&mut peer.stream, &requests);
        }
        for _ in 0..3 {
            common::serves(site.address());
        }
        site.is_left_alone();
        std::fs::remove_dir_all(site.root.path().join("tree")).unwrap();
        site.is_well_and_has(&["large", "small"]);
    }
}

#[test]
fn requests_past_the_limit_wait_until_others_are_answered() {
    each_site(|site| {
        let large = pattern(STAGED_BYTES);
        site.write("large", &large);
        let mut peer = site.peer();
        let count = u32::try_from(REQUESTS_WAITING_MAX).unwrap() * 2 + 1;
        let mut requests = Vec::new();
        (1..=count).for_each(|request| requests.extend(frame(request, &get("large"))));
        peer.say(&requests);
        for request in 1..=count {
            assert!(peer.file(request) == large);
        }
        drop(peer);
        site.is_well_and_has(&["large"]);
    });
}

#[test]
fn a_client_that_has_nothing_more_to_say_gets_all_its_answers() {
    each_site(|site| {
        let large = pattern(5 << 20);
        site.write("large", &large);
        let mut peer = site.peer();
        peer.put(1, "small", b"small");
        peer.put(2, "staged", &pattern(STAGED_BYTES));
        for request in 3..=5 {
            peer.send(request, &get("large"));
        }
        peer.end();
        peer.committed(1, b"small");
        peer.committed(2, &pattern(STAGED_BYTES));
        for request in 3..=5 {
            assert!(peer.file(request) == large);
        }
        peer.closed();
        site.is_well_and_has(&["large", "small", "staged"]);
    });
}

#[test]
fn a_get_and_a_listing_end_when_they_are_cancelled_and_their_numbers_are_free() {
    each_site(|site| {
        site.write("large", &pattern(32 << 20));
        site.write("other", &pattern(STAGED_BYTES));
        make_tree(site);
        // Under way, behind another, not opened yet; then each number is used for something else.
        for wanted in [
            &[get("large")][..],
            &[get("large"), get("large")],
            &[list("tree", true)],
            &[get("large"), list("tree", true)],
        ] {
            let mut peer = site.peer();
            let last = wanted.len() as u32;
            for (request, frame) in (1..).zip(wanted) {
                peer.send(request, frame);
            }
            for request in (1..=last).rev() {
                peer.send(request, &Frame::Cancel);
            }
            let mut cancelled = 0;
            let mut raw_bytes = 0;
            while cancelled < last {
                match peer.answer() {
                    (_, Frame::Extent { len, .. }) => raw_bytes += peer.raw(len).len(),
                    (_, Frame::Error(reply)) if reply.code == ErrorCode::Aborted => cancelled += 1,
                    (_, Frame::Done) => cancelled += 1,
                    (_, Frame::File(_) | Frame::Entries(_)) => {}
                    other => panic!("{wanted:?}: {other:?}"),
                }
            }
            assert!(raw_bytes < 32 << 20, "the whole file came of {wanted:?}");
            for request in 1..=last {
                peer.send(request, &get("other"));
                assert!(peer.file(request) == pattern(STAGED_BYTES));
            }
        }
        std::fs::remove_dir_all(site.root.path().join("tree")).unwrap();
        site.is_well_and_has(&["large", "other"]);
    });
}

#[test]
fn listings_are_read_one_after_the_other_and_all_are_answered() {
    each_site(|site| {
        make_tree(site);
        let mut peer = site.peer();
        for request in 1..=20 {
            peer.send(request, &list("tree", true));
        }
        for request in 1..=20 {
            assert_eq!(listed(&mut peer, request), DIRECTORIES);
        }
        std::fs::remove_dir_all(site.root.path().join("tree")).unwrap();
        drop(peer);
        site.is_well_and_has(&[]);
    });
}

#[test]
fn a_connection_past_the_limit_is_told_that_the_server_is_busy() {
    let site = Site::with(|config| config.connections_max = 2);
    let first = site.peer();
    let mut second = site.peer();
    for _ in 0..3 {
        let mut third = site.stranger();
        third.say(&common::hello());
        third.greeted();
        third.refused(0, ErrorCode::Busy);
        third.closed();
    }
    drop(first);
    eventually("the first connection is gone", || site.server.stats().connections == 1);
    second.put(1, "x", b"x");
    second.committed(1, b"x");
    // The server knows that a connection is gone a moment after it says so.
    eventually("a third one is served", || {
        let mut third = site.stranger();
        third.say(&common::hello());
        third.greeted();
        third.send(0, &Frame::Ping(1));
        third.answer() == (0, Frame::Pong(1))
    });
    drop(second);
    site.is_left_alone();
}

#[test]
fn a_client_that_vanishes_in_the_middle_of_a_get_costs_nothing() {
    each_site(|site| {
        site.write("large", &pattern(16 << 20));
        for _ in 0..10 {
            let mut peer = site.peer();
            (1..=9).for_each(|request| peer.send(request, &get("large")));
            assert!(matches!(peer.answer(), (1, Frame::File(_))));
        }
        site.is_well_and_has(&["large"]);
    });
}

#[test]
fn a_server_that_drains_finishes_what_is_under_way_and_refuses_what_is_new() {
    each_site(|site| {
        let whole = pattern(STAGED_BYTES);
        let mut idle = site.peer();
        let mut silent = site.stranger();
        let mut peer = site.peer();
        peer.send(1, &announce("x", Some(whole.len() as u64)));
        peer.say(&extent(1, 0, &whole[..1000]));
        peer.send(0, &Frame::Ping(1));
        assert_eq!(peer.answer(), (0, Frame::Pong(1)));
        std::thread::scope(|scope| {
            scope.spawn(|| site.server.drain(PATIENCE * 2));
            assert_eq!(peer.answer(), (0, Frame::Goodbye));
            assert_eq!(idle.answer(), (0, Frame::Goodbye));
            // These cross the goodbye.
            idle.send(1, &get("x"));
            idle.refused(1, ErrorCode::ShuttingDown);
            peer.say(&put(2, "y", b"new"));
            peer.refused(2, ErrorCode::ShuttingDown);
            silent.greeted();
            silent.refused(0, ErrorCode::ShuttingDown);
            silent.closed();
            drop(silent);
            eventually("nobody listens", || TcpStream::connect(site.address()).is_err());
            peer.say(&extent(1, 1000, &whole[1000..]));
            peer.send(1, &Frame::Digest(digest(&whole)));
            peer.send(1, &Frame::Commit { size: whole.len() as u64 });
            peer.committed(1, &whole);
            // Whoever stays although nothing is under way is left.
            peer.closed();
            idle.closed();
        });
        assert!(site.read("x") == whole);
        assert_eq!(common::names(site.root.path()), ["x"]);
    });
}

#[test]
fn a_server_that_stops_in_the_middle_leaves_nothing_half_done() {
    each_site(|site| {
        site.write("x", b"old");
        let mut peers: Vec<Peer> = (0..4).map(|_| site.peer()).collect();
        for (number, peer) in peers.iter_mut().enumerate() {
            peer.say(&extent_begun());
            peer.send(0, &Frame::Ping(1));
            if number % 2 == 0 {
                peer.end();
            }
        }
        site.server.stop();
        assert_eq!(site.server.stats().connections, 0);
        for peer in &mut peers {
            while peer.next().is_some() {}
        }
        assert_eq!(site.read("x"), b"old");
        assert_eq!(common::names(site.root.path()), ["x"]);
    });
}
