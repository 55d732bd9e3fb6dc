//! What every driver promises. A new driver joins in `each_driver`.

#![allow(clippy::unwrap_used)]

mod rig;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rig::{
    BlockingListener, Family, PATIENCE, Rig, Task, buf, bytes, connect, each_driver, each_driver_with,
    each_driver_without_workers, kind, pattern, sent, sock,
};
use xferd_os::net::{Address, Listener, Peer};
use xferd_os::{Mapping, Sink};
use xferd_reactor::{
    BYTES_PER_TURN_MAX, BufferLimits, Carried, LISTENERS_MAX, Limits, OWN_WORK_PER_TURN_MAX, Op,
    RECEIVED_AHEAD_MAX, SendBuf, SockRef, Token, Wait,
};

const LIMITS: Limits = Limits {
    sockets_max: 64,
    operations_max: 64,
    buffers: BufferLimits { large_bytes: 64 * 1024, large_max: 4, small_bytes: 4096, small_max: 4 },
};

fn file_of(contents: &[u8]) -> Arc<File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(contents).unwrap();
    Arc::new(file)
}

fn read_all(mut peer: TcpStream) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        peer.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

fn read_exactly(peer: &mut TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    peer.read_exact(&mut bytes).unwrap();
    bytes
}

/// Fills the connection until the driver has to wait with what remains.
fn fill(rig: &mut Rig, sock: SockRef) -> (xferd_reactor::Token, usize) {
    let mut filled = 0;
    loop {
        let token = rig.start(Op::Send { sock, buf: pattern(256 * 1024).into(), more: false });
        if rig.is_waiting(token) {
            return (token, filled);
        }
        filled += bytes(&rig.finish(token)) as usize;
    }
}

#[test]
fn an_accepted_connection_echoes_on_every_family() {
    each_driver(|rig| {
        let ipv6 = Address::from(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)));
        for address in [rig.free_address(), ipv6.clone()] {
            let listener = match Listener::bind(address.clone()) {
                Err(_) if address == ipv6 => {
                    eprintln!("no IPv6 on this machine: not tested");
                    continue;
                }
                listener => listener.unwrap(),
            };
            let address = listener.local_addr().unwrap();
            let listener = rig.driver.listen(listener).unwrap();
            let accepting = rig.start(Op::Accept(listener));
            assert!(rig.is_waiting(accepting));
            let mut peer = connect(&address).unwrap();
            let Carried::Socket(socket, from) = rig.finish(accepting).carried else { panic!("no socket") };
            match from {
                Peer::Internet(from) => assert_eq!(from, peer.local_addr().unwrap()),
                Peer::Unix { pid, .. } => assert_eq!(pid, std::process::id()),
                Peer::SameProcess => panic!("it came by a socket"),
            }
            let sock = rig.driver.register(socket).unwrap();
            peer.write_all(b"hello").unwrap();
            let heard = rig.receive(sock, 5);
            rig.send(sock, &heard);
            assert_eq!(read_exactly(&mut peer, 5), b"hello");
        }
    });
}

#[test]
fn waiting_connections_are_accepted_one_by_one() {
    each_driver(|rig| {
        let (listener, address) = rig.listen();
        let peers: Vec<TcpStream> = (0..10).map(|_| connect(&address).unwrap()).collect();
        for mut peer in peers {
            let Carried::Socket(socket, _) = rig.run(Op::Accept(listener)).carried else {
                panic!("no socket")
            };
            let sock = rig.driver.register(socket).unwrap();
            rig.send(sock, b"welcome");
            assert_eq!(read_exactly(&mut peer, 7), b"welcome");
        }
        let accepting = rig.start(Op::Accept(listener));
        assert!(rig.is_waiting(accepting));
    });
}

#[test]
fn a_closed_listener_aborts_its_accept_and_refuses_connections() {
    each_driver(|rig| {
        let (listener, address) = rig.listen();
        let accepting = rig.start(Op::Accept(listener));
        rig.driver.unlisten(listener);
        assert_eq!(kind(&rig.finish(accepting)), io::ErrorKind::ConnectionAborted);
        assert_eq!(kind(&rig.run(Op::Accept(listener))), io::ErrorKind::NotConnected);
        let nobody = match rig.family {
            Family::Internet => io::ErrorKind::ConnectionRefused,
            Family::Unix => io::ErrorKind::NotFound,
        };
        assert_eq!(connect(&address).unwrap_err().kind(), nobody);
        rig.driver.unlisten(listener);
    });
}

#[test]
fn a_refused_connection_says_so_and_frees_its_place() {
    each_driver_with(Limits { sockets_max: 1, ..LIMITS }, |rig| {
        let nobody = BlockingListener::bind(rig.free_address()).address();
        assert_eq!(kind(&rig.run(Op::Connect(nobody))), io::ErrorKind::ConnectionRefused);
        rig.pair();
    });
}

#[test]
fn what_a_full_connection_does_not_take_is_sent_once_the_peer_reads() {
    each_driver(|rig| {
        let (sock, mut peer) = rig.pair();
        let (waiting, filled) = fill(rig, sock);
        let reader = std::thread::spawn(move || read_exactly(&mut peer, filled + 256 * 1024));
        let mut rest = sent(rig.finish(waiting));
        while !rest.is_empty() {
            rest = sent(rig.run(Op::Send { sock, buf: rest, more: false }));
        }
        let read = reader.join().unwrap();
        // Each send was cut where the connection was full, and the next began the pattern anew; the last is whole.
        assert_eq!(read[filled..], pattern(256 * 1024));
    });
}

#[test]
fn a_header_sent_with_more_arrives_with_the_file_behind_it() {
    each_driver(|rig| {
        let (sock, mut peer) = rig.pair();
        let file = file_of(b"contents");
        let header = sent(rig.run(Op::Send { sock, buf: b"header ".to_vec().into(), more: true }));
        assert!(header.is_empty());
        assert_eq!(bytes(&rig.run(Op::SendFile { sock, file, offset: 0, len: 8 })), 8);
        assert_eq!(read_exactly(&mut peer, 15), b"header contents");
    });
}

#[test]
fn the_end_of_a_stream_is_a_receive_of_nothing_however_often_it_is_asked() {
    each_driver(|rig| {
        let (sock, mut peer) = rig.pair();
        peer.write_all(b"last words").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rig.receive(sock, 10), b"last words");
        for _ in 0..2 {
            assert_eq!(bytes(&rig.run(Op::RecvSmall { sock, bytes_max: usize::MAX })), 0);
            assert_eq!(bytes(&rig.run(Op::RecvLarge { sock, offset: 0, bytes_due: Some(10) })), 0);
        }
        rig.send(sock, b"still heard");
        assert_eq!(read_exactly(&mut peer, 11), b"still heard");
    });
}

#[test]
fn a_reset_connection_is_an_error_to_who_receives() {
    each_driver(|rig| {
        let (sock, peer) = rig.pair();
        rig.send(sock, b"never read");
        let receiving = rig.start(Op::RecvSmall { sock, bytes_max: usize::MAX });
        drop(peer);
        assert_eq!(kind(&rig.finish(receiving)), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_stream_that_is_shut_down_ends_at_the_peer_and_can_still_receive() {
    each_driver(|rig| {
        let (sock, mut peer) = rig.pair();
        rig.send(sock, b"done");
        assert_eq!(bytes(&rig.run(Op::ShutdownWrite(sock))), 0);
        let mut heard = Vec::new();
        peer.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, b"done");
        peer.write_all(b"understood").unwrap();
        assert_eq!(rig.receive(sock, 10), b"understood");
    });
}

#[test]
fn a_large_receive_stops_at_its_limit_and_places_bytes_as_in_their_file() {
    each_driver(|rig| {
        let (sock, mut peer) = rig.pair();
        peer.write_all(b"0123456789").unwrap();
        let mut body = Vec::new();
        while body.len() < 7 {
            let offset = 4090 + body.len() as u64;
            let part = buf(rig.run(Op::RecvLarge { sock, offset, bytes_due: Some(7 - body.len() as u64) }));
            assert_eq!(part.as_ptr() as u64 % 4096, offset % 4096);
            body.extend_from_slice(&part);
        }
        assert_eq!(body, b"0123456");
        let nothing = rig.run(Op::RecvLarge { sock, offset: 0, bytes_due: Some(0) });
        assert_eq!(kind(&nothing), io::ErrorKind::InvalidInput);
        assert_eq!(rig.receive(sock, 3), b"789");
    });
}

#[test]
fn a_large_receive_that_fits_a_small_buffer_makes_do_with_one() {
    each_driver(|rig| {
        let (sock, mut peer) = rig.pair();
        let lent: Vec<_> = std::iter::from_fn(|| rig.driver.buffers().take_large()).collect();
        peer.write_all(b"small will do").unwrap();
        let part = buf(rig.run(Op::RecvLarge { sock, offset: 0, bytes_due: Some(13) }));
        assert!(!part.is_empty() && part.spare_bytes() < rig.driver.buffers().small_bytes());
        drop(lent);
    });
}

/// Bytes that need a large buffer.
const MUCH: u64 = 1 << 30;

#[test]
fn a_flow_that_was_fast_and_is_not_any_more_is_received_as_it_comes_when_asked_for() {
    each_driver(|rig| {
        if rig.family == Family::Unix {
            // It holds less than this peer writes at once.
            return;
        }
        let (sock, mut peer) = rig.pair();
        // More than a buffer holds at once, until the driver has seen that it can expect that.
        for _ in 0..4 {
            peer.write_all(&[1; 600_000]).unwrap();
            let mut left = 600_000;
            while left > 0 {
                left -= bytes(&rig.run(Op::RecvLarge { sock, offset: 0, bytes_due: Some(left as u64) }));
            }
        }
        let receiving = rig.start(Op::RecvLarge { sock, offset: 0, bytes_due: None });
        assert!(rig.is_waiting(receiving));
        peer.write_all(b"nobody said how many").unwrap();
        assert_eq!(&*buf(rig.finish(receiving)), b"nobody said how many");
        let receiving = rig.start(Op::RecvLarge { sock, offset: 0, bytes_due: Some(MUCH) });
        assert!(rig.is_waiting(receiving));
        peer.write_all(b"a few").unwrap();
        rig.is_waiting(receiving);
        rig.driver.hasten(sock);
        assert_eq!(&*buf(rig.finish(receiving)), b"a few");
    });
}

#[test]
fn the_end_of_a_fast_flow_is_seen_whenever_it_comes() {
    for patience in [Duration::ZERO, Duration::from_millis(20)] {
        each_driver(|rig| {
            let (sock, mut peer) = rig.pair();
            let sending = std::thread::spawn(move || peer.write_all(&[1; 3_000_000]).map(|()| drop(peer)));
            let mut received = 0;
            loop {
                std::thread::sleep(patience);
                match bytes(&rig.run(Op::RecvLarge { sock, offset: received, bytes_due: Some(MUCH) })) {
                    0 => break,
                    part => received += part as u64,
                }
            }
            assert_eq!(received, 3_000_000);
            sending.join().unwrap().unwrap();
        });
    }
}

#[test]
fn idle_connections_hold_no_buffer() {
    each_driver_with(LIMITS, |rig| {
        let mut peers: Vec<_> = (0..2 * LIMITS.buffers.small_max).map(|_| rig.pair()).collect();
        let waiting: Vec<_> = peers
            .iter()
            .map(|(sock, _)| rig.start(Op::RecvSmall { sock: *sock, bytes_max: usize::MAX }))
            .collect();
        assert!(rig.is_waiting(waiting[0]));
        let free: Vec<_> = std::iter::from_fn(|| rig.driver.buffers().take_small()).collect();
        assert_eq!(free.len(), LIMITS.buffers.small_max);
        drop(free);
        for (at, (_, peer)) in peers.iter_mut().enumerate() {
            peer.write_all(&[at as u8]).unwrap();
            assert_eq!(&*buf(rig.finish(waiting[at])), [at as u8]);
        }
    });
}

#[test]
fn a_receive_waits_for_a_buffer_of_its_size_and_goes_on_when_one_comes_back() {
    for is_large in [false, true] {
        each_driver_with(LIMITS, |rig| {
            let buffers = rig.driver.buffers();
            let take = || if is_large { buffers.take_large() } else { buffers.take_small() };
            let lent: Vec<_> = std::iter::from_fn(take).collect();
            let (sock, mut peer) = rig.pair();
            peer.write_all(b"patience").unwrap();
            let receiving = rig.start(match is_large {
                true => Op::RecvLarge { sock, offset: 0, bytes_due: Some(MUCH) },
                false => Op::RecvSmall { sock, bytes_max: usize::MAX },
            });
            assert!(rig.is_waiting(receiving));
            // The other direction goes on meanwhile.
            rig.send(sock, b"busy");
            assert_eq!(read_exactly(&mut peer, 4), b"busy");
            assert!(rig.is_waiting(receiving));
            let returning = std::thread::spawn(move || drop(lent));
            assert!(!buf(rig.finish(receiving)).is_empty());
            returning.join().unwrap();
        });
    }
}

#[test]
fn a_small_receive_takes_no_more_than_its_limit() {
    each_driver(|rig| {
        let (sock, mut peer) = rig.pair();
        peer.write_all(b"0123456789").unwrap();
        assert_eq!(&*buf(rig.run(Op::RecvSmall { sock, bytes_max: 4 })), b"0123");
        assert_eq!(rig.receive(sock, 6), b"456789");
        let nothing = rig.run(Op::RecvSmall { sock, bytes_max: 0 });
        assert_eq!(kind(&nothing), io::ErrorKind::InvalidInput);
    });
}

#[test]
fn a_file_is_sent_whole_by_as_many_operations_as_it_takes() {
    each_driver(|rig| {
        let contents = pattern(6 * 1024 * 1024 + 17);
        let file = file_of(&contents);
        let mapping = Arc::new(Mapping::map(&file, contents.len() as u64).unwrap());
        for mapped in [false, true] {
            let (sock, peer) = rig.pair();
            let reader = read_all(peer);
            let mut offset = 0;
            while offset < contents.len() as u64 {
                let len = (contents.len() as u64 - offset) as u32;
                let op = match mapped {
                    false => Op::SendFile { sock, file: Arc::clone(&file), offset, len },
                    true => Op::SendMapped { sock, mapping: Arc::clone(&mapping), offset, len },
                };
                let moved = bytes(&rig.run(op));
                assert!(moved > 0 && moved as usize <= BYTES_PER_TURN_MAX);
                offset += u64::from(moved);
            }
            rig.run(Op::Close(sock));
            assert!(reader.join().unwrap() == contents);
        }
    });
}

#[test]
fn a_file_that_is_shorter_than_asked_is_sent_to_its_end_and_then_is_an_error() {
    each_driver(|rig| {
        let (sock, mut peer) = rig.pair();
        let file = file_of(b"short");
        let op = |offset, len| Op::SendFile { sock, file: Arc::clone(&file), offset, len };
        assert_eq!(bytes(&rig.run(op(1, 100))), 4);
        assert_eq!(read_exactly(&mut peer, 4), b"hort");
        assert_eq!(kind(&rig.run(op(5, 95))), io::ErrorKind::UnexpectedEof);
        assert_eq!(kind(&rig.run(op(1 << 40, 1))), io::ErrorKind::UnexpectedEof);
        rig.send(sock, b"alive");
        assert_eq!(read_exactly(&mut peer, 5), b"alive");
    });
}

#[test]
fn a_mapping_whose_file_was_truncated_is_an_error_and_no_signal() {
    each_driver(|rig| {
        let (sock, mut peer) = rig.pair();
        let file = file_of(&pattern(1 << 20));
        let mapping = Arc::new(Mapping::map(&file, 1 << 20).unwrap());
        let op = |offset, len| Op::SendMapped { sock, mapping: Arc::clone(&mapping), offset, len };
        file.set_len(0).unwrap();
        assert_eq!(kind(&rig.run(op(0, 1 << 20))), io::ErrorKind::UnexpectedEof);
        assert_eq!(kind(&rig.run(op(1 << 19, 100))), io::ErrorKind::UnexpectedEof);
        // Past the mapping's own end.
        assert_eq!(kind(&rig.run(op(1 << 20, 1))), io::ErrorKind::UnexpectedEof);
        assert_eq!(kind(&rig.run(op(u64::MAX, u32::MAX))), io::ErrorKind::UnexpectedEof);
        rig.send(sock, b"alive");
        assert_eq!(read_exactly(&mut peer, 5), b"alive");
    });
}

#[test]
fn two_flows_share_each_turn() {
    each_driver(|rig| {
        let contents = pattern(8 * 1024 * 1024);
        let file = file_of(&contents);
        let (readers, mut flows): (Vec<_>, Vec<_>) =
            (0..2).map(|_| rig.pair()).map(|(sock, peer)| (read_all(peer), (sock, 0_u64, None))).unzip();
        let deadline = Instant::now() + PATIENCE;
        while flows.iter().any(|(_, offset, _)| *offset < contents.len() as u64) {
            for (sock, offset, waiting) in &mut flows {
                let len = (contents.len() as u64 - *offset) as u32;
                if waiting.is_none() && len > 0 {
                    let (sock, file, offset) = (*sock, Arc::clone(&file), *offset);
                    *waiting = Some(rig.start(Op::SendFile { sock, file, offset, len }));
                }
            }
            let mut turns = [0; 2];
            for done in rig.turn(Wait::Until(deadline)) {
                let flow = flows.iter().position(|(_, _, waiting)| *waiting == Some(done.token)).unwrap();
                turns[flow] += 1;
                assert!(bytes(&done) as usize <= BYTES_PER_TURN_MAX);
                flows[flow].1 += u64::from(bytes(&done));
                flows[flow].2 = None;
            }
            assert!(turns.iter().all(|turns| *turns <= 1), "a flow had two goes in one turn");
            assert!(Instant::now() < deadline);
        }
        for ((sock, ..), reader) in flows.into_iter().zip(readers) {
            rig.run(Op::Close(sock));
            assert!(reader.join().unwrap() == contents);
        }
    });
}

#[test]
fn closing_ends_what_is_in_flight_first_and_gives_everything_back() {
    each_driver(|rig| {
        let (sock, mut peer) = rig.pair();
        let (sending, filled) = fill(rig, sock);
        let receiving = rig.start(Op::RecvLarge { sock, offset: 0, bytes_due: Some(10) });
        assert!(rig.is_waiting(receiving));
        let closing = rig.start(Op::Close(sock));
        let done = rig.turn(Wait::Forever);
        let order: Vec<_> = done.iter().map(|done| done.token).collect();
        assert_eq!(order, [receiving, sending, closing]);
        assert_eq!(kind(&done[0]), io::ErrorKind::ConnectionAborted);
        assert_eq!(kind(&done[1]), io::ErrorKind::ConnectionAborted);
        assert!(matches!(&done[1].carried, Carried::Sent(buf) if buf.remaining().len() == 256 * 1024));
        assert_eq!(bytes(&done[2]), 0);
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).unwrap();
        assert_eq!(rest.len(), filled);
    });
}

#[test]
fn a_reset_connection_delivers_nothing_more() {
    each_driver(|rig| {
        if rig.family == Family::Unix {
            // What was sent is the receiver's already.
            return;
        }
        let (sock, mut peer) = rig.pair();
        let (sending, _) = fill(rig, sock);
        let reset = rig.start(Op::Reset(sock));
        let order: Vec<_> = rig.turn(Wait::Forever).iter().map(|done| done.token).collect();
        assert_eq!(order, [sending, reset]);
        let ended = peer.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_closed_socket_is_not_mistaken_for_the_one_that_took_its_slot() {
    each_driver_with(Limits { sockets_max: 1, ..LIMITS }, |rig| {
        let (closed, _) = rig.pair();
        rig.run(Op::Close(closed));
        let (current, mut peer) = rig.pair();
        assert_ne!(closed, current);
        assert_eq!(
            kind(&rig.run(Op::RecvSmall { sock: closed, bytes_max: usize::MAX })),
            io::ErrorKind::NotConnected
        );
        let refused = rig.run(Op::Send { sock: closed, buf: b"astray".to_vec().into(), more: false });
        assert_eq!(kind(&refused), io::ErrorKind::NotConnected);
        assert!(matches!(refused.carried, Carried::Sent(buf) if buf.remaining() == b"astray"));
        assert_eq!(kind(&rig.run(Op::Close(closed))), io::ErrorKind::NotConnected);
        rig.send(current, b"here");
        assert_eq!(read_exactly(&mut peer, 4), b"here");
    });
}

#[test]
fn a_cancelled_operation_comes_back_with_what_it_carried() {
    each_driver(|rig| {
        let (listener, address) = rig.listen();
        let accepting = rig.start(Op::Accept(listener));
        rig.driver.cancel(accepting);
        assert!(rig.finish(accepting).is_cancelled());

        let connecting = rig.start(Op::Connect(address));
        rig.driver.cancel(connecting);
        assert!(rig.finish(connecting).is_cancelled());

        let (sock, mut peer) = rig.pair();
        let receiving = rig.start(Op::RecvLarge { sock, offset: 0, bytes_due: Some(10) });
        assert!(rig.is_waiting(receiving));
        rig.driver.cancel(receiving);
        let cancelled = rig.finish(receiving);
        assert!(cancelled.is_cancelled());

        // The socket is as good as before, and a token that is unknown by now changes nothing.
        let receiving_again = rig.start(Op::RecvSmall { sock, bytes_max: usize::MAX });
        rig.driver.cancel(receiving);
        assert!(rig.is_waiting(receiving_again));
        peer.write_all(b"on").unwrap();
        assert_eq!(&*buf(rig.finish(receiving_again)), b"on");

        let job = rig.start(Op::Offload(Task::new(|| panic!("it was cancelled"))));
        rig.driver.cancel(job);
        let cancelled = rig.finish(job);
        assert!(cancelled.is_cancelled());
        assert!(matches!(cancelled.carried, Carried::Job(_)));
    });
}

#[test]
fn a_buffer_is_written_whole_where_it_belongs() {
    each_driver(|rig| {
        let file = file_of(b"");
        let sink = Arc::new(Sink::cached(file.clone()));
        let contents = pattern(100_000);
        let writing: Vec<_> = (0..4)
            .map(|part| {
                let range = part * 25_000..(part + 1) * 25_000;
                let mut buf = rig.large();
                buf.clear_for(range.start as u64);
                buf.spare_mut()[..range.len()].copy_from_slice(&contents[range.clone()]);
                buf.fill(range.len());
                rig.start(Op::WriteAt { sink: Arc::clone(&sink), offset: range.start as u64, buf })
            })
            .collect();
        for token in writing {
            let done = rig.finish(token);
            assert_eq!(bytes(&done), 25_000);
            assert_eq!(buf(done).len(), 25_000);
        }
        let mut written = vec![0; contents.len()];
        file.read_exact_at(&mut written, 0).unwrap();
        assert!(written == contents);
    });
}

#[test]
fn a_write_that_fails_gives_the_buffer_back() {
    each_driver(|rig| {
        let sink = Arc::new(Sink::cached(Arc::new(File::open("/dev/null").unwrap())));
        let mut buf = rig.large();
        buf.fill(10);
        let done = rig.run(Op::WriteAt { sink, offset: 0, buf });
        assert!(done.result.is_err());
        assert!(matches!(done.carried, Carried::Buf(_)));
    });
}

#[test]
fn more_jobs_than_the_workers_queue_holds_all_run_once() {
    each_driver(|rig| {
        let runs = Arc::new(AtomicUsize::new(0));
        let jobs: Vec<_> = (0..2000)
            .map(|_| {
                let runs = Arc::clone(&runs);
                rig.start(Op::Offload(Task::new(move || {
                    runs.fetch_add(1, Ordering::Relaxed);
                })))
            })
            .collect();
        for job in jobs {
            assert!(matches!(rig.finish(job).carried, Carried::Job(_)));
        }
        assert_eq!(runs.load(Ordering::Relaxed), 2000);
        assert!(rig.has_nothing_in_flight());
    });
}

#[test]
fn a_turn_does_so_many_jobs_itself_and_leaves_the_next_for_another() {
    each_driver_without_workers(|rig| {
        for jobs in [OWN_WORK_PER_TURN_MAX, OWN_WORK_PER_TURN_MAX + 1] {
            for _ in 0..jobs {
                rig.start(Op::Offload(Task::new(|| {})));
            }
            assert_eq!(rig.turn(Wait::Forever).len(), OWN_WORK_PER_TURN_MAX);
            assert_eq!(rig.turn(Wait::Now).len(), jobs - OWN_WORK_PER_TURN_MAX);
        }
    });
}

#[test]
fn a_turn_receives_from_so_many_and_from_fewer_while_its_own_work_waits() {
    each_driver_without_workers(|rig| {
        let mut pairs: Vec<_> = (0..2 * RECEIVED_AHEAD_MAX).map(|_| rig.pair()).collect();
        for (sock, peer) in &mut pairs {
            peer.write_all(b"x").unwrap();
            rig.start(Op::RecvSmall { sock: *sock, bytes_max: 1 });
        }
        let mut heard = 0;
        while heard < RECEIVED_AHEAD_MAX {
            let received = rig.turn(Wait::Forever).len();
            assert!(received <= RECEIVED_AHEAD_MAX);
            heard += received;
        }
        for _ in 0..RECEIVED_AHEAD_MAX {
            rig.start(Op::Offload(Task::new(|| {})));
        }
        let (mut worked, mut waiting) = (0, RECEIVED_AHEAD_MAX);
        while heard < pairs.len() || worked < RECEIVED_AHEAD_MAX {
            let done = rig.turn(Wait::Forever);
            let received = done.iter().filter(|done| matches!(done.carried, Carried::Buf(_))).count();
            assert!(received <= RECEIVED_AHEAD_MAX - waiting, "{received} with {waiting} jobs waiting");
            (heard, worked) = (heard + received, worked + done.len() - received);
            waiting = RECEIVED_AHEAD_MAX - worked;
        }
        assert!(rig.has_nothing_in_flight());
    });
}

#[test]
fn whoever_waits_for_a_buffer_is_heard_though_others_always_have_more_to_say() {
    each_driver_with(LIMITS, |rig| {
        let mut pairs: Vec<_> = (0..8 * LIMITS.buffers.small_max).map(|_| rig.pair()).collect();
        let mut heard = vec![0; pairs.len()];
        let mut speakers: HashMap<Token, usize> = HashMap::new();
        let mut silent: Vec<usize> = (0..pairs.len()).collect();
        while heard.iter().sum::<usize>() < 40 * pairs.len() {
            for at in silent.drain(..) {
                let (sock, peer) = &mut pairs[at];
                peer.write_all(b"x").unwrap();
                speakers.insert(rig.start(Op::RecvSmall { sock: *sock, bytes_max: 1 }), at);
            }
            silent.extend(rig.turn(Wait::Forever).iter().map(|done| speakers[&done.token]));
            silent.iter().for_each(|&at| heard[at] += 1);
        }
        assert!(heard.iter().all(|&times| times >= 30), "of 40 times that are due to each: {heard:?}");
    });
}

#[test]
fn a_job_that_panics_is_reported_and_the_next_ones_run() {
    each_driver(|rig| {
        for _ in 0..4 {
            let done = rig.run(Op::Offload(Task::new(|| panic!("the disk is on fire"))));
            assert!(done.result.unwrap_err().to_string().contains("the disk is on fire"));
            assert!(matches!(done.carried, Carried::Nothing));
        }
        assert_eq!(bytes(&rig.run(Op::Offload(Task::new(|| {})))), 0);
    });
}

#[test]
fn jobs_under_way_end_before_the_driver_and_its_workers_are_gone() {
    let begun = AtomicUsize::new(0);
    let ended = Arc::new(AtomicUsize::new(0));
    each_driver(|rig| {
        begun.fetch_add(1, Ordering::SeqCst);
        let ended = Arc::clone(&ended);
        let op = Op::Offload(Task::new(move || {
            std::thread::sleep(Duration::from_millis(50));
            ended.fetch_add(1, Ordering::SeqCst);
        }));
        rig.start(op);
        rig.turn(Wait::Now);
    });
    assert_eq!(ended.load(Ordering::SeqCst), begun.load(Ordering::SeqCst));
}

#[test]
fn a_waker_ends_the_wait_from_another_thread_and_before_it_began() {
    each_driver(|rig| {
        let waker = rig.driver.waker();
        waker.wake();
        assert!(rig.turn(Wait::Forever).is_empty());
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            waker.clone().wake();
            waker.wake();
        });
        assert!(rig.turn(Wait::Forever).is_empty());
        thread.join().unwrap();
    });
}

#[test]
fn a_turn_with_nothing_to_do_waits_no_longer_than_told() {
    each_driver(|rig| {
        assert!(rig.turn(Wait::Now).is_empty());
        assert!(rig.turn(Wait::Until(Instant::now())).is_empty());
        assert!(rig.turn(Wait::Until(Instant::now() + Duration::from_millis(10))).is_empty());
    });
}

#[test]
fn operations_past_the_limit_come_back_and_are_welcome_after_a_turn() {
    each_driver_with(LIMITS, |rig| {
        for _ in 0..LIMITS.operations_max {
            rig.start(Op::Offload(Task::new(|| {})));
        }
        let Err(Op::Offload(job)) = rig.try_start(Op::Offload(Task::new(|| {}))) else {
            panic!("it was taken")
        };
        while rig.turn(Wait::Forever).is_empty() {}
        rig.start(Op::Offload(job));
    });
}

#[test]
fn sockets_and_listeners_past_the_limit_are_refused() {
    each_driver_with(Limits { sockets_max: 2, ..LIMITS }, |rig| {
        let (listener, address) = rig.listen();
        let _pairs = [rig.pair(), rig.pair()];
        assert_eq!(kind(&rig.run(Op::Connect(address.clone()))), io::ErrorKind::QuotaExceeded);
        let _peer = connect(&address).unwrap();
        let Carried::Socket(socket, _) = rig.run(Op::Accept(listener)).carried else { panic!("no socket") };
        assert_eq!(rig.driver.register(socket).unwrap_err().kind(), io::ErrorKind::QuotaExceeded);

        for _ in 1..LISTENERS_MAX {
            rig.listen();
        }
        let one_more = Listener::bind(rig.free_address()).unwrap();
        assert_eq!(rig.driver.listen(one_more).unwrap_err().kind(), io::ErrorKind::QuotaExceeded);
    });
}

#[test]
#[cfg_attr(debug_assertions, should_panic = "another operation is under way")]
fn a_second_operation_in_one_direction_is_refused() {
    each_driver(|rig| {
        let (sock, _peer) = rig.pair();
        rig.start(Op::RecvSmall { sock, bytes_max: usize::MAX });
        assert!(rig.try_start(Op::RecvSmall { sock, bytes_max: usize::MAX }).is_err());
    });
}

#[test]
fn bytes_that_came_before_their_socket_was_registered_are_received() {
    each_driver(|rig| {
        let (listener, address) = rig.listen();
        let mut peer = connect(&address).unwrap();
        peer.write_all(b"early").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        let Carried::Socket(socket, _) = rig.run(Op::Accept(listener)).carried else { panic!("no socket") };
        let sock = rig.driver.register(socket).unwrap();
        assert_eq!(rig.receive(sock, 5), b"early");
        assert_eq!(bytes(&rig.run(Op::RecvSmall { sock, bytes_max: usize::MAX })), 0);
    });
}

#[test]
fn many_connections_echo_at_once() {
    each_driver(|rig| {
        let mut pairs: Vec<_> = (0..40).map(|_| rig.pair()).collect();
        for round in 0..5 {
            for (at, (_, peer)) in pairs.iter_mut().enumerate() {
                peer.write_all(&[at as u8, round]).unwrap();
            }
            for (at, (sock, peer)) in pairs.iter_mut().enumerate() {
                let heard = rig.receive(*sock, 2);
                assert_eq!(heard, [at as u8, round]);
                rig.send(*sock, &heard);
                assert_eq!(read_exactly(peer, 2), heard);
            }
        }
        assert!(rig.has_nothing_in_flight());
    });
}

#[test]
fn a_send_buffer_has_room_in_front_and_behind_and_counts_what_went() {
    let mut buf = SendBuf::with_room(b"..b".to_vec(), 2);
    assert!(!buf.prepend(b"123"));
    assert!(buf.prepend(b"a") && buf.prepend(b""));
    buf.append(|bytes| bytes.push(b'c'));
    assert_eq!(buf.remaining(), b"abc");
    buf.advance(1);
    assert_eq!(buf.remaining(), b"bc");
    buf.advance(usize::MAX);
    assert!(buf.is_empty());
}

#[test]
fn a_connection_made_is_usable_at_once() {
    each_driver(|rig| {
        let listener = BlockingListener::bind(rig.free_address());
        let sock = sock(rig.run(Op::Connect(listener.address())));
        rig.send(sock, b"first");
        let mut peer = listener.accept();
        assert_eq!(read_exactly(&mut peer, 5), b"first");
    });
}
