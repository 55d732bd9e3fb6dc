use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::thread::JoinHandleExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::{io::Read, io::Write};

use super::*;
use crate::Waker;
use crate::sync::Bell;
use crate::{BufferLimits, BufferPool};

const SMALL: Entries = Entries { submissions: 2, completions: 4, buffers: 4 };
const PATIENCE: Duration = Duration::from_secs(20);

/// A ring, or a word on why it is not tested.
fn ring(entries: Entries) -> Option<Ring<u32>> {
    match Ring::new(entries) {
        Ok(ring) => Some(ring),
        Err(error) => {
            eprintln!("not tested: {error}");
            None
        }
    }
}

fn pool() -> BufferPool {
    let limits = BufferLimits { large_bytes: 8192, large_max: 4, small_bytes: 4096, small_max: 4 };
    BufferPool::new(limits, Waker::new(Bell::Event(Arc::new(xferd_os::Bell::new().unwrap()))))
}

/// How many small buffers can be had.
fn free(pool: &BufferPool) -> usize {
    std::iter::from_fn(|| pool.take_small()).collect::<Vec<_>>().len()
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    ours.set_nonblocking(true).unwrap();
    (ours, listener.accept().unwrap().0)
}

fn submit(ring: &mut Ring<u32>, tag: u32, request: Request) -> FlightId {
    ring.submit(tag, request).unwrap_or_else(|_| panic!("there is no room"))
}

/// The next completion.
fn next(ring: &mut Ring<u32>) -> Landing<u32> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(landing) = ring.land() {
            return landing;
        }
        assert!(Instant::now() < deadline, "nothing was completed");
        ring.enter(Some(PATIENCE)).unwrap();
    }
}

/// Whether nothing completes for the moment.
fn is_quiet(ring: &mut Ring<u32>) -> bool {
    ring.enter(Some(Duration::from_millis(20))).unwrap();
    ring.land().is_none()
}

fn code(landing: &Landing<u32>) -> i32 {
    landing.result.as_ref().unwrap_err().raw_os_error().unwrap()
}

fn received(landing: Landing<u32>) -> PoolBuf {
    let Freight::Received(buf) = landing.freight else { panic!("no buffer: {:?}", landing.result) };
    buf
}

#[test]
fn a_listener_is_accepted_from_until_that_is_cancelled() {
    let Some(mut ring) = ring(SMALL) else { return };
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let accepting = submit(&mut ring, 1, Request::Accept(listener.as_raw_fd()));
    for _ in 0..3 {
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let landing = next(&mut ring);
        assert!(!landing.is_last);
        let Freight::Connection(accepted) = landing.freight else { panic!("{:?}", landing.result) };
        peer.write_all(b"x").unwrap();
        let mut accepted = TcpStream::from(accepted);
        let mut byte = [0];
        while accepted.read(&mut byte).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {}
        assert_eq!(byte, *b"x");
    }
    ring.cancel(accepting);
    let landing = next(&mut ring);
    assert!(landing.is_last);
    assert_eq!(code(&landing), libc::ECANCELED);
}

#[test]
fn a_buffer_is_picked_once_there_is_something_to_receive() {
    let Some(mut ring) = ring(SMALL) else { return };
    let pool = pool();
    let (ours, mut peer) = pair();
    let receive = || Request::ReceiveProvided { fd: ours.as_raw_fd(), bytes_max: 4 };
    submit(&mut ring, 1, receive());
    assert!(is_quiet(&mut ring), "nothing is there, and no buffer is missed");
    peer.write_all(b"abcdef").unwrap();
    assert!(next(&mut ring).lacks_buffer());
    assert!(ring.provide(pool.take_small().unwrap()).is_ok());
    submit(&mut ring, 2, receive());
    let landing = next(&mut ring);
    assert_eq!((landing.tag, landing.is_last, landing.has_more, ring.provided()), (2, true, true, 0));
    assert_eq!(&*received(landing), b"abcd");
    assert!(ring.provide(pool.take_small().unwrap()).is_ok());
    submit(&mut ring, 3, receive());
    let landing = next(&mut ring);
    assert!(!landing.has_more);
    assert_eq!(&*received(landing), b"ef");
    peer.shutdown(Shutdown::Write).unwrap();
    // The end takes no buffer, but asks for one.
    assert!(ring.provide(pool.take_small().unwrap()).is_ok());
    submit(&mut ring, 4, receive());
    assert_eq!(next(&mut ring).result.unwrap(), 0);
    assert_eq!(free(&pool) + ring.provided(), 4);
}

#[test]
fn no_more_buffers_are_provided_than_there_are_places() {
    let Some(mut ring) = ring(Entries { buffers: 2, ..SMALL }) else { return };
    let pool = pool();
    assert!(ring.provide(pool.take_small().unwrap()).is_ok());
    assert!(ring.provide(pool.take_small().unwrap()).is_ok());
    assert!(ring.provide(pool.take_small().unwrap()).is_err());
    assert_eq!(ring.provided(), 2);
    assert!(Ring::<u32>::new(Entries { buffers: 3, ..SMALL }).is_err());
}

#[test]
fn a_large_receive_never_waits_and_a_poll_does() {
    let Some(mut ring) = ring(SMALL) else { return };
    let pool = pool();
    let (ours, mut peer) = pair();
    let fd = ours.as_raw_fd();
    submit(&mut ring, 1, Request::Receive { fd, buf: pool.take_large().unwrap() });
    let landing = next(&mut ring);
    assert_eq!(code(&landing), libc::EAGAIN);
    drop(landing);
    submit(&mut ring, 2, Request::Poll { fd, events: libc::POLLIN });
    assert!(is_quiet(&mut ring));
    peer.write_all(b"now").unwrap();
    assert_eq!(next(&mut ring).tag, 2);
    submit(&mut ring, 3, Request::Receive { fd, buf: pool.take_large().unwrap() });
    assert_eq!(&*received(next(&mut ring)), b"now");
}

#[test]
fn what_is_sent_is_counted_and_a_full_connection_is_waited_for_or_cancelled() {
    let Some(mut ring) = ring(SMALL) else { return };
    let (ours, mut peer) = pair();
    let fd = ours.as_raw_fd();
    let send = |bytes: &[u8]| Request::Send { fd, buf: SendBuf::from(bytes.to_vec()), more: false };
    submit(&mut ring, 1, send(b"hello"));
    let landing = next(&mut ring);
    assert!(matches!(&landing.freight, Freight::Sent(buf) if buf.is_empty()), "{:?}", landing.result);
    let mut heard = [0; 5];
    peer.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
    let much = vec![7; 8 << 20];
    let last = loop {
        let flight = submit(&mut ring, 2, send(&much));
        if is_quiet(&mut ring) {
            break flight;
        }
    };
    ring.cancel(last);
    let landing = next(&mut ring);
    assert_eq!(code(&landing), libc::ECANCELED);
    assert!(matches!(landing.freight, Freight::Sent(buf) if buf.remaining().len() == much.len()));
}

#[test]
fn completions_that_the_queue_has_no_room_for_are_not_lost() {
    let Some(mut ring) = ring(SMALL) else { return };
    let bell = xferd_os::Bell::new().unwrap();
    // Enabled by the first enter, so that a full submission queue can be handed over.
    assert!(is_quiet(&mut ring));
    let requests = 100;
    for tag in 0..requests {
        submit(&mut ring, tag, Request::Poll { fd: bell.as_raw_fd(), events: libc::POLLIN });
    }
    assert!(is_quiet(&mut ring));
    // All of them at once, into a queue of four.
    bell.ring().unwrap();
    let mut landed: Vec<u32> = (0..requests).map(|_| next(&mut ring).tag).collect();
    landed.sort_unstable();
    assert!(landed.into_iter().eq(0..requests));
    assert!(is_quiet(&mut ring));
}

#[test]
fn a_ring_that_nobody_has_entered_takes_as_many_requests_as_its_queue_holds() {
    let Some(mut ring) = ring(SMALL) else { return };
    let bell = xferd_os::Bell::new().unwrap();
    let poll = || Request::Poll { fd: bell.as_raw_fd(), events: libc::POLLIN };
    for tag in 0..SMALL.submissions {
        submit(&mut ring, tag, poll());
    }
    assert!(matches!(ring.submit(9, poll()), Err(Request::Poll { .. })));
}

#[test]
fn edges_are_told_again_and_again() {
    let Some(mut ring) = ring(SMALL) else { return };
    let bell = xferd_os::Bell::new().unwrap();
    submit(&mut ring, 1, Request::PollEdges(bell.as_raw_fd()));
    for _ in 0..3 {
        bell.ring().unwrap();
        assert!(!next(&mut ring).is_last);
        assert!(is_quiet(&mut ring));
    }
}

#[test]
fn a_cancelled_request_that_has_landed_already_changes_nothing() {
    let Some(mut ring) = ring(SMALL) else { return };
    let bell = xferd_os::Bell::new().unwrap();
    bell.ring().unwrap();
    let poll = || Request::Poll { fd: bell.as_raw_fd(), events: libc::POLLIN };
    let landed = submit(&mut ring, 1, poll());
    next(&mut ring);
    ring.cancel(landed);
    assert!(is_quiet(&mut ring));
    submit(&mut ring, 2, poll());
    assert_eq!(next(&mut ring).tag, 2);
}

#[test]
fn a_ring_that_goes_lets_the_kernel_write_nowhere_and_gives_every_buffer_back() {
    for is_entered in [false, true] {
        let pool = pool();
        let (ours, mut peer) = pair();
        let Some(mut ring) = ring(Entries { submissions: 4, ..SMALL }) else { return };
        for _ in 0..2 {
            assert!(ring.provide(pool.take_small().unwrap()).is_ok());
        }
        let fd = ours.as_raw_fd();
        submit(&mut ring, 1, Request::ReceiveProvided { fd, bytes_max: 4096 });
        submit(&mut ring, 2, Request::Poll { fd, events: libc::POLLIN });
        if is_entered {
            assert!(is_quiet(&mut ring));
            peer.write_all(b"late").unwrap();
        }
        drop(ring);
        assert_eq!(free(&pool), 4);
    }
}

#[test]
fn a_ring_that_goes_on_another_thread_than_its_own_leaks_rather_than_frees() {
    let pool = pool();
    let (ours, _peer) = pair();
    let Some(mut ring) = ring(SMALL) else { return };
    assert!(ring.provide(pool.take_small().unwrap()).is_ok());
    submit(&mut ring, 1, Request::ReceiveProvided { fd: ours.as_raw_fd(), bytes_max: 4096 });
    assert!(is_quiet(&mut ring));
    thread::spawn(move || drop(ring)).join().unwrap();
    assert_eq!(free(&pool), 3);
}

#[test]
fn a_signal_ends_a_wait_and_nothing_else() {
    extern "C" fn on_signal(_: libc::c_int) {}
    // SAFETY: the handler does nothing, and the signal is nobody else's.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = on_signal as *const () as usize;
        libc::sigaction(libc::SIGUSR2, &raw const action, std::ptr::null_mut());
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let has_ended = is_over.clone();
    let waiting = thread::spawn(move || {
        let Some(mut ring) = ring(SMALL) else { return };
        // Without completions, only a signal ends it.
        ring.enter(None).unwrap();
        assert!(ring.land().is_none());
        has_ended.store(true, Ordering::SeqCst);
    });
    while !is_over.load(Ordering::SeqCst) && !waiting.is_finished() {
        thread::sleep(Duration::from_millis(5));
        // SAFETY: the thread is joined below, so it is there still.
        unsafe { libc::pthread_kill(waiting.as_pthread_t(), libc::SIGUSR2) };
    }
    waiting.join().unwrap();
}
