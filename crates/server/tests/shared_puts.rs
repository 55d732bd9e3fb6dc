//! Files that several connections send together, and files that a later connection goes on with.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::time::Duration;

use common::{Peer, Site, announce, digest, each_site, eventually, extent, frame, names, pattern};
use xferd_server::{ATTACHED_MAX, PUTS_ARRIVING_MAX, TRANSFERS_MAX};
use xferd_wire::limits::RUNS_MAX;
use xferd_wire::{DigestAlgorithm, ErrorCode, Frame, Have, Put, Run, Sharing, TransferId};

const SIZE: usize = 200_000;

fn put(at: &str, size: usize, sharing: Sharing) -> Put {
    match announce(at, Some(size as u64)) {
        Frame::Put(put) => Put { sharing, ..put },
        other => panic!("{other:?}"),
    }
}

/// Has `peer` put a shared file, and hears what the server holds of it.
fn open(peer: &mut Peer, at: &str, size: usize, sharing: Sharing) -> Have {
    peer.send(1, &Frame::Put(put(at, size, sharing)));
    have(peer, 1)
}

fn attach(peer: &mut Peer, id: TransferId) -> Have {
    peer.send(1, &Frame::Attach(id));
    have(peer, 1)
}

#[track_caller]
fn have(peer: &mut Peer, request: u32) -> Have {
    match peer.answer() {
        (answered, Frame::Have(have)) if answered == request => have,
        other => panic!("{other:?}"),
    }
}

fn ranges(have: &Have) -> Vec<(u64, u64)> {
    have.runs.iter().map(|run| (run.offset, run.end())).collect()
}

/// Sends the bytes `[start, end)` of `whole` as an extent.
fn send(peer: &mut Peer, whole: &[u8], start: usize, end: usize) {
    let bytes = &whole[start..end];
    peer.send(1, &Frame::Digest(digest(bytes)));
    peer.say(&extent(1, start as u64, bytes));
}

/// The same; and it is acknowledged.
#[track_caller]
fn deliver(peer: &mut Peer, id: TransferId, whole: &[u8], start: usize, end: usize) {
    send(peer, whole, start, end);
    let crc64 = xferd_store::Runs::crc64(&digest(&whole[start..end]));
    let (start, end) = (start as u64, end as u64);
    let runs = vec![Run { offset: start, len: end - start, crc64 }];
    assert_eq!(have(peer, 1), Have { transfer: id, start, end, runs });
}

fn commit(peer: &mut Peer, whole: &[u8]) {
    peer.send(1, &Frame::Digest(digest(whole)));
    peer.send(1, &Frame::Commit { size: whole.len() as u64 });
}

#[test]
fn extents_in_any_order_over_three_connections_become_one_file() {
    each_site(|site| {
        for sharing in [Sharing::Shared, Sharing::Resumable] {
            let whole = pattern(SIZE);
            let [mut a, mut b, mut c] = [site.peer(), site.peer(), site.peer()];
            let opened = open(&mut a, "in/file", SIZE, sharing);
            let id = opened.transfer;
            assert_eq!((opened.start, opened.end, ranges(&opened)), (0, SIZE as u64, Vec::new()));
            deliver(&mut a, id, &whole, 150_000, SIZE);
            let attached = attach(&mut b, id);
            assert_eq!((attached.transfer, ranges(&attached)), (id, vec![(150_000, SIZE as u64)]));
            attach(&mut c, id);
            deliver(&mut c, id, &whole, 0, 10);
            deliver(&mut b, id, &whole, 70_000, 150_000);
            deliver(&mut a, id, &whole, 10, 70_000);
            commit(&mut b, &whole);
            b.committed(1, &whole);
            assert!(site.read("in/file") == whole);
            for peer in [&mut a, &mut c] {
                peer.send(1, &Frame::Cancel);
                peer.refused(1, ErrorCode::Aborted);
            }
            c.send(1, &Frame::Attach(id));
            c.refused(1, ErrorCode::NotFound);
            drop((a, b, c));
            site.is_well_and_has(&["in", "in/file"]);
        }
        assert_eq!(site.server.stats().errors, 0, "to detach is no failure");
    });
}

#[test]
fn an_extent_with_another_digest_does_not_count() {
    each_site(|site| {
        let whole = pattern(SIZE);
        let [mut a, mut b] = [site.peer(), site.peer()];
        let id = open(&mut a, "file", SIZE, Sharing::Shared).transfer;
        attach(&mut b, id);
        a.send(1, &Frame::Digest(digest(b"other bytes")));
        a.say(&extent(1, 0, &whole[..100_000]));
        a.refused(1, ErrorCode::DigestMismatch);
        deliver(&mut b, id, &whole, 100_000, SIZE);
        assert_eq!(ranges(&attach(&mut a, id)), [(100_000, SIZE as u64)]);
        deliver(&mut a, id, &whole, 0, 100_000);
        commit(&mut a, &whole);
        a.committed(1, &whole);
        drop((a, b));
        site.is_well_and_has(&["file"]);
        assert!(site.read("file") == whole);
    });
}

#[test]
fn a_file_with_a_hole_or_another_digest_is_never_committed() {
    each_site(|site| {
        site.write("file", b"old");
        let whole = pattern(SIZE);
        let mut other = whole.clone();
        other[7] ^= 1;
        let [mut a, mut b] = [site.peer(), site.peer()];
        let id = open(&mut a, "file", SIZE, Sharing::Shared).transfer;
        attach(&mut b, id);
        deliver(&mut a, id, &whole, 0, 99_999);
        deliver(&mut a, id, &whole, 100_000, SIZE);
        commit(&mut a, &whole);
        a.refused(1, ErrorCode::SizeMismatch);
        deliver(&mut b, id, &whole, 99_999, 100_000);
        commit(&mut b, &other);
        b.refused(1, ErrorCode::DigestMismatch);
        drop((a, b));
        site.is_well_and_has(&["file"]);
        assert_eq!(site.read("file"), b"old");
    });
}

#[test]
fn bytes_that_were_proven_are_never_written_again() {
    each_site(|site| {
        let whole = pattern(SIZE);
        let other = vec![0; SIZE];
        let mut peer = site.peer();
        let id = open(&mut peer, "file", SIZE, Sharing::Resumable).transfer;
        deliver(&mut peer, id, &whole, 50_000, 100_000);
        for (start, end) in [(50_000, 100_000), (60_000, 70_000), (0, 50_001), (99_999, SIZE), (0, SIZE)] {
            send(&mut peer, &other, start, end);
            let answer = have(&mut peer, 1);
            assert_eq!((answer.start, answer.end), (start as u64, end as u64));
            assert_eq!(ranges(&answer), [(50_000, 100_000)]);
        }
        deliver(&mut peer, id, &whole, 0, 50_000);
        deliver(&mut peer, id, &whole, 100_000, SIZE);
        commit(&mut peer, &whole);
        peer.committed(1, &whole);
        assert!(site.read("file") == whole);
    });
}

#[test]
fn an_extent_that_another_is_just_sending_is_left_to_it_until_it_is_gone() {
    each_site(|site| {
        let whole = pattern(SIZE);
        let [mut a, mut b] = [site.peer(), site.peer()];
        let id = open(&mut a, "file", SIZE, Sharing::Resumable).transfer;
        attach(&mut b, id);
        a.send(1, &Frame::Digest(digest(&whole[..100_000])));
        a.say(&extent(1, 0, &whole[..100_000])[..50_000]);
        eventually("some of it has come", || {
            let unfinished = names(site.root.path()).into_iter().find(|name| !name.ends_with(".journal"));
            fs::metadata(site.root.path().join(unfinished.unwrap())).unwrap().len() > 0
        });
        send(&mut b, &whole, 99_999, 100_001);
        assert_eq!(ranges(&have(&mut b, 1)), []);
        drop(a);
        eventually("it is free", || {
            send(&mut b, &whole, 0, 100_000);
            ranges(&have(&mut b, 1)) == [(0, 100_000)]
        });
        deliver(&mut b, id, &whole, 100_000, SIZE);
        commit(&mut b, &whole);
        b.committed(1, &whole);
        assert!(site.read("file") == whole);
    });
}

#[test]
fn who_puts_the_same_again_goes_on_with_it_even_if_the_first_has_vanished_without_a_word() {
    for workers in [0, 2] {
        let site = Site::with(|config| {
            config.workers = workers;
            config.patience.contested = Duration::from_millis(100);
        });
        let whole = pattern(SIZE);
        let [mut vanished, mut second] = [site.peer(), site.peer()];
        let id = open(&mut vanished, "file", SIZE, Sharing::Resumable).transfer;
        deliver(&mut vanished, id, &whole, 100_000, SIZE);
        // The second pong says that the server has seen what came with the ping, and waits for the rest of the extent:
        // only of what follows an extent it reads no more than a header.
        vanished.send(0, &Frame::Ping(6));
        assert_eq!(vanished.answer(), (0, Frame::Pong(6)));
        let cut_off = &extent(1, 0, &whole[..100_000])[..50_000];
        let announced = frame(1, &Frame::Digest(digest(&whole[..100_000])));
        vanished.say(&[frame(0, &Frame::Ping(7)), announced, cut_off.to_vec()].concat());
        assert_eq!(vanished.answer(), (0, Frame::Pong(7)));
        let opened = open(&mut second, "file", SIZE, Sharing::Resumable);
        assert_eq!((opened.transfer, ranges(&opened)), (id, vec![(100_000, SIZE as u64)]));
        eventually("the first is given up", || {
            send(&mut second, &whole, 0, 100_000);
            ranges(&have(&mut second, 1)) == [(0, 100_000)]
        });
        commit(&mut second, &whole);
        second.committed(1, &whole);
        vanished.refused(0, ErrorCode::Timeout);
        assert!(site.read("file") == whole);

        // Nor does it keep a newer file from its path.
        let mut vanished = site.peer();
        open(&mut vanished, "file", SIZE, Sharing::Resumable);
        let mut newer = put("file", SIZE, Sharing::Resumable);
        newer.identity.inode += 1;
        eventually("the older is given up", || {
            second.send(1, &Frame::Put(newer.clone()));
            matches!(second.answer(), (1, Frame::Have(_)))
        });
    }
}

#[test]
fn a_transfer_to_which_nobody_is_attached_is_gone() {
    each_site(|site| {
        let whole = pattern(SIZE);
        let [mut a, mut b] = [site.peer(), site.peer()];
        let id = open(&mut a, "file", SIZE, Sharing::Shared).transfer;
        deliver(&mut a, id, &whole, 0, 100_000);
        a.send(1, &Frame::Cancel);
        a.refused(1, ErrorCode::Aborted);
        b.send(1, &Frame::Attach(id));
        // The worker may not have come to it yet.
        eventually("the transfer is gone", || match b.answer() {
            (1, Frame::Error(reply)) => {
                assert_eq!(reply.code, ErrorCode::NotFound);
                true
            }
            (1, Frame::Have(_)) => {
                b.send(1, &Frame::Cancel);
                b.refused(1, ErrorCode::Aborted);
                b.send(1, &Frame::Attach(id));
                false
            }
            other => panic!("{other:?}"),
        });
        b.send(1, &Frame::Attach(TransferId([7; 16])));
        b.refused(1, ErrorCode::NotFound);
        drop((a, b));
        site.is_well_and_has(&[]);
    });
}

#[test]
fn what_came_before_a_connection_broke_is_held_for_the_next() {
    each_site(|site| {
        let whole = pattern(SIZE);
        let mut first = site.peer();
        let id = open(&mut first, "file", SIZE, Sharing::Resumable).transfer;
        deliver(&mut first, id, &whole, 100_000, SIZE);
        let mut second = site.peer();
        let mut other = put("file", SIZE, Sharing::Resumable);
        other.identity.inode += 1;
        second.send(1, &Frame::Put(other));
        second.refused(1, ErrorCode::Busy);
        // Cut off in the middle of an extent.
        first.send(1, &Frame::Digest(digest(&whole[..100_000])));
        first.say(&extent(1, 0, &whole[..100_000])[..60_000]);
        drop(first);
        drop(second);
        site.is_left_alone();

        let mut second = site.peer();
        let opened = open(&mut second, "file", SIZE, Sharing::Resumable);
        assert_ne!(opened.transfer, id);
        assert_eq!(ranges(&opened), [(100_000, SIZE as u64)]);
        deliver(&mut second, opened.transfer, &whole, 0, 100_000);
        commit(&mut second, &whole);
        second.committed(1, &whole);
        drop(second);
        site.is_well_and_has(&["file"]);
        assert!(site.read("file") == whole);
    });
}

#[test]
fn what_came_is_held_by_the_next_server_unless_the_source_is_another() {
    let root = tempfile::tempdir().unwrap();
    let whole = pattern(SIZE);
    let start = || xferd_server::Server::start(common::config(root.path())).unwrap();
    let server = start();
    let mut peer = Peer::connect(server.listening()[0].address.internet().unwrap());
    let id = open(&mut peer, "file", SIZE, Sharing::Resumable).transfer;
    deliver(&mut peer, id, &whole, 0, 100_000);
    drop(server);

    let server = start();
    let mut peer = Peer::connect(server.listening()[0].address.internet().unwrap());
    let opened = open(&mut peer, "file", SIZE, Sharing::Resumable);
    assert_eq!(ranges(&opened), [(0, 100_000)]);
    drop(server);

    let server = start();
    let mut peer = Peer::connect(server.listening()[0].address.internet().unwrap());
    let mut changed = put("file", SIZE, Sharing::Resumable);
    changed.identity.ctime_ns += 1;
    peer.send(1, &Frame::Put(changed));
    assert_eq!(ranges(&have(&mut peer, 1)), []);
    drop(server);
    assert_eq!(names(root.path()).len(), 2, "a file and its journal");
}

#[test]
fn a_digest_that_does_not_combine_is_unsupported() {
    each_site(|site| {
        let mut peer = site.peer();
        for sharing in [Sharing::Shared, Sharing::Resumable] {
            let blake3 = Put { digest: DigestAlgorithm::Blake3, ..put("file", SIZE, sharing) };
            peer.send(1, &Frame::Put(blake3));
            peer.refused(1, ErrorCode::Unsupported);
        }
        drop(peer);
        site.is_well_and_has(&[]);
    });
}

#[test]
fn extents_that_are_not_announced_or_too_long_end_their_request_only() {
    each_site(|site| {
        let whole = pattern(SIZE);
        let mut peer = site.peer();
        let id = open(&mut peer, "file", SIZE, Sharing::Shared).transfer;
        let mut keeper = site.peer();
        attach(&mut keeper, id);
        peer.say(&extent(1, 0, &whole[..10]));
        peer.refused(1, ErrorCode::Protocol);
        attach(&mut peer, id);
        peer.send(1, &Frame::Digest(digest(b"longer")));
        peer.say(&extent(1, SIZE as u64 - 5, b"longer"));
        peer.refused(1, ErrorCode::SizeMismatch);
        attach(&mut peer, id);
        peer.send(1, &Frame::Digest(xferd_wire::Digest::NONE));
        peer.refused(1, ErrorCode::Protocol);
        attach(&mut peer, id);
        peer.send(1, &Frame::Commit { size: SIZE as u64 });
        peer.refused(1, ErrorCode::Protocol);
        attach(&mut peer, id);
        deliver(&mut peer, id, &whole, 0, SIZE);
        commit(&mut peer, &whole);
        peer.committed(1, &whole);
    });
}

#[test]
fn a_shared_put_may_be_given_up_while_it_is_being_made() {
    each_site(|site| {
        let mut peer = site.peer();
        for _ in 0..50 {
            let put = frame(1, &Frame::Put(put("file", SIZE, Sharing::Shared)));
            peer.say(&[put, frame(1, &Frame::Cancel)].concat());
            match peer.answer() {
                (1, Frame::Have(_)) => peer.refused(1, ErrorCode::Aborted),
                (1, Frame::Error(reply)) => assert_eq!(reply.code, ErrorCode::Aborted),
                other => panic!("{other:?}"),
            }
        }
        drop(peer);
        site.is_well_and_has(&[]);
    });
}

#[test]
fn as_many_requests_as_the_limit_are_attached_to_a_transfer_and_no_more() {
    let site = Site::new();
    let mut first = site.peer();
    let id = open(&mut first, "file", SIZE, Sharing::Shared).transfer;
    let mut peers: Vec<Peer> = (1..ATTACHED_MAX).map(|_| site.peer()).collect();
    peers.iter_mut().for_each(|peer| drop(attach(peer, id)));
    let mut late = site.peer();
    late.send(1, &Frame::Attach(id));
    late.refused(1, ErrorCode::Busy);
    let mut left = peers.pop().unwrap();
    left.send(1, &Frame::Cancel);
    left.refused(1, ErrorCode::Aborted);
    // The worker may not have come to it yet.
    eventually("there is room again", || {
        late.send(1, &Frame::Attach(id));
        matches!(late.answer(), (1, Frame::Have(_)))
    });
}

#[test]
fn as_many_transfers_as_the_limit_are_open_and_no_more() {
    let site = Site::new();
    let mut peers: Vec<Peer> = (0..TRANSFERS_MAX / PUTS_ARRIVING_MAX).map(|_| site.peer()).collect();
    for (number, peer) in peers.iter_mut().enumerate() {
        for request in 0..PUTS_ARRIVING_MAX as u32 {
            peer.send(request + 1, &Frame::Put(put(&format!("{number}-{request}"), SIZE, Sharing::Shared)));
            have(peer, request + 1);
        }
        peer.send(100, &Frame::Put(put("more", SIZE, Sharing::Shared)));
        peer.refused(100, ErrorCode::Limit);
    }
    let mut late = site.peer();
    late.send(1, &Frame::Put(put("late", SIZE, Sharing::Shared)));
    late.refused(1, ErrorCode::Busy);
    drop(peers);
    site.server.stats();
    eventually("there is room again", || {
        late.send(1, &Frame::Put(put("late", SIZE, Sharing::Shared)));
        matches!(late.answer(), (1, Frame::Have(_)))
    });
}

#[test]
fn as_many_separate_runs_as_the_limit_are_held_and_no_more() {
    let site = Site::new();
    let whole = pattern(2 * RUNS_MAX + 1);
    let mut peer = site.peer();
    let id = open(&mut peer, "file", whole.len(), Sharing::Resumable).transfer;
    for number in 0..RUNS_MAX {
        deliver(&mut peer, id, &whole, 2 * number, 2 * number + 1);
    }
    send(&mut peer, &whole, 2 * RUNS_MAX, 2 * RUNS_MAX + 1);
    peer.refused(1, ErrorCode::Limit);
    drop(peer);
    let mut peer = site.peer();
    eventually("what the first held is there for another", || {
        peer.send(1, &Frame::Put(put("file", whole.len(), Sharing::Resumable)));
        match peer.answer() {
            (1, Frame::Have(have)) => have.runs.len() == RUNS_MAX,
            (1, Frame::Error(reply)) if reply.code == ErrorCode::Busy => false,
            other => panic!("{other:?}"),
        }
    });
    let journal = names(site.root.path()).into_iter().find(|name| name.ends_with(".journal")).unwrap();
    assert!(fs::metadata(site.root.path().join(journal)).unwrap().len() < 100_000);
}

#[test]
fn a_connection_that_ends_with_two_requests_attached_to_one_transfer_has_both_answered() {
    each_site(|site| {
        for sharing in [Sharing::Shared, Sharing::Resumable] {
            let whole = pattern(SIZE);
            let errors = site.server.stats().errors;
            let mut peer = site.peer();
            let id = open(&mut peer, "file", SIZE, sharing).transfer;
            deliver(&mut peer, id, &whole, 0, 100_000);
            peer.send(2, &Frame::Attach(id));
            have(&mut peer, 2);
            peer.end();
            let mut answered = [peer.answer(), peer.answer()].map(|(request, answer)| match answer {
                Frame::Error(reply) => (request, reply.code),
                other => panic!("{other:?}"),
            });
            answered.sort_unstable_by_key(|(request, _)| *request);
            assert_eq!(answered, [1, 2].map(|request| (request, ErrorCode::ConnectionLost)));
            peer.closed();
            assert_eq!(site.server.stats().errors - errors, 1, "one file has failed");
        }
        site.is_left_alone();
    });
}

#[test]
fn of_two_connections_that_end_one_after_the_other_the_last_is_told_of_as_a_failure() {
    each_site(|site| {
        let [mut a, mut b] = [site.peer(), site.peer()];
        let id = open(&mut a, "file", SIZE, Sharing::Shared).transfer;
        attach(&mut b, id);
        a.end();
        a.refused(1, ErrorCode::ConnectionLost);
        assert_eq!(site.server.stats().errors, 0, "another goes on with it");
        b.end();
        b.refused(1, ErrorCode::ConnectionLost);
        b.closed();
        assert_eq!(site.server.stats().errors, 1);
        drop(a);
        site.is_well_and_has(&[]);
    });
}

#[test]
fn a_shared_put_whose_connection_ends_while_it_is_being_made_is_answered() {
    each_site(|site| {
        for _ in 0..20 {
            let mut peer = site.peer();
            peer.send(1, &Frame::Put(put("file", SIZE, Sharing::Shared)));
            peer.end();
            let mut answer = peer.answer();
            if let (1, Frame::Have(_)) = answer {
                answer = peer.answer();
            }
            match answer {
                (1, Frame::Error(reply)) => assert_eq!(reply.code, ErrorCode::ConnectionLost),
                other => panic!("{other:?}"),
            }
            peer.closed();
        }
        site.is_well_and_has(&[]);
    });
}
