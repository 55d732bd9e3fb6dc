use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::JoinHandle;

use xferd_reactor::{BufferLimits, Limits, MioDriver, WorkerPool};

use super::*;
use crate::budget::{Budget, CROWDED_BYTES, CROWDED_KEPT_BYTES};
use crate::mailbox::MAILBOX_MESSAGES_MAX;
use crate::reach::{Reach, Reachable};
use crate::session::Effects;

/// How long a test waits for what must happen. Only a broken shard is this late.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes of an extent of a [`Toy`], and of a large answer.
const EXTENT_BYTES: u64 = 300_000;
const ANSWER_BYTES: usize = 2 << 20;

/// A session whose peer says in single bytes what it is to do.
struct Toy {
    file: Arc<File>,
    working: bool,
    ends: mpsc::Sender<String>,
    /// Who wants to reach it.
    reaches: Option<mpsc::Sender<Reach>>,
}

impl Session for Toy {
    type Outcome = u8;
    type Command = ();

    fn look_ahead<'a>(coming: impl Iterator<Item = (&'a Self, &'a [u8])>) {
        for (toy, bytes) in coming.filter(|(_, bytes)| bytes.contains(&b'v')) {
            toy.ends.send(format!("{} to come", bytes.escape_ascii())).unwrap();
        }
    }

    fn on_bytes(&mut self, bytes: &[u8], effects: &mut Effects<u8>) -> usize {
        for (at, byte) in bytes.iter().enumerate() {
            if !self.wants_bytes() {
                return at;
            }
            match byte {
                b'w' => {
                    self.working = true;
                    effects.work(1, || b'w');
                }
                b'p' => effects.work(1, || panic!("the toy is broken")),
                b'r' => {
                    let sink = Arc::new(xferd_os::Sink::cached(self.file.clone()));
                    effects.receive(2, sink, 0, EXTENT_BYTES, None);
                    return at + 1;
                }
                b'd' => {
                    effects.discard(EXTENT_BYTES);
                    return at + 1;
                }
                b'l' => {
                    effects.send_encoded(|out| out.resize(out.len() + ANSWER_BYTES, b'l'));
                    return at + 1;
                }
                b'v' => self.ends.send("taken".into()).unwrap(),
                b'x' => {
                    effects.close();
                    return bytes.len();
                }
                echoed => effects.send_encoded(|out| out.push(*echoed)),
            }
        }
        bytes.len()
    }

    fn on_reachable(&mut self, place: &Reachable<'_>) {
        if let Some(reaches) = &self.reaches {
            reaches.send(place.reach()).unwrap();
        }
    }

    fn on_event(&mut self, event: Event<u8, ()>, effects: &mut Effects<u8>) {
        match event {
            Event::Worked { outcome, .. } => {
                self.working = false;
                effects.send_encoded(|out| out.push(outcome));
            }
            Event::Received { result, .. } => {
                effects.send_encoded(|out| out.push(if result.is_ok() { b'R' } else { b'!' }))
            }
            Event::Nudged => effects.send_encoded(|out| out.push(b'n')),
            Event::Draining => effects.close(),
            Event::Command(()) => effects.send_encoded(|out| out.extend_from_slice(b"wd")),
            Event::Closed(end) => drop(self.ends.send(format!("{end:?}"))),
            _ => {}
        }
    }

    fn wants_bytes(&self) -> bool {
        !self.working
    }

    fn is_idle(&self) -> bool {
        false
    }

    fn patience(&self) -> Duration {
        PATIENCE * 10
    }

    fn rest(&mut self) -> bool {
        true
    }
}

struct Rig {
    address: SocketAddr,
    mailbox: Mailbox<Toy>,
    load: Arc<Load>,
    ends: mpsc::Receiver<String>,
    file: Arc<File>,
    thread: Option<JoinHandle<io::Result<()>>>,
    budget: Budget,
}

impl Rig {
    fn new(workers: usize, buffers: BufferLimits) -> Self {
        let budget = Budget::default();
        let pool = (workers > 0).then(|| WorkerPool::start(workers).unwrap());
        let driver = MioDriver::new(Limits { buffers, ..Limits::default() }, pool).unwrap();
        let mut shard = Shard::new(driver, 2, budget.clone());
        let (mailbox, load) = (shard.mailbox(), shard.load());
        let listener = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = listener.local_addr().unwrap().internet().unwrap();
        let (sender, ends) = mpsc::channel();
        let file = Arc::new(tempfile::tempfile().unwrap());
        let adopt = {
            let (mailbox, file) = (mailbox.clone(), file.clone());
            move |_, socket, _| {
                let toy = Toy { file: file.clone(), working: false, ends: sender.clone(), reaches: None };
                assert!(mailbox.adopt(socket, toy));
            }
        };
        shard.accept(vec![listener], Box::new(adopt)).unwrap();
        let thread = Some(std::thread::spawn(move || shard.run()));
        Self { address, mailbox, load, ends, file, thread, budget }
    }

    fn connect(&self) -> TcpStream {
        let peer = TcpStream::connect(self.address).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer.set_write_timeout(Some(PATIENCE)).unwrap();
        peer
    }

    /// Waits until as much is kept as it should be.
    fn keeps(&self, as_it_should: impl Fn(u64) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !as_it_should(self.budget.kept_bytes()) {
            assert!(Instant::now() < deadline, "{} bytes are kept", self.budget.kept_bytes());
            std::thread::yield_now();
        }
    }

    fn end(&self) -> String {
        self.ends.recv_timeout(PATIENCE).unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.mailbox.stop();
        let served = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            served.unwrap().unwrap();
        }
    }
}

/// Runs a test without workers, and with two.
fn each_rig(test: impl Fn(&Rig)) {
    for workers in [0, 2] {
        test(&Rig::new(workers, BufferLimits::default()));
    }
}

fn anywhere() -> Address {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 1)).into()
}

fn read(peer: &mut TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    peer.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn what_was_read_and_not_wanted_is_taken_as_soon_as_it_is() {
    each_rig(|rig| {
        let mut peer = rig.connect();
        peer.write_all(&b"1w".repeat(100)).unwrap();
        assert_eq!(read(&mut peer, 200), b"1w".repeat(100));
    });
}

#[test]
fn an_extent_goes_into_its_file_and_what_is_discarded_nowhere() {
    each_rig(|rig| {
        let extent: Vec<u8> = (0..EXTENT_BYTES).map(|at| (at % 251) as u8).collect();
        let mut peer = rig.connect();
        peer.write_all(&[b"1r", &extent[..], b"2d", &vec![b'x'; extent.len()], b"3"].concat()).unwrap();
        assert_eq!(read(&mut peer, 4), b"1R23");
        let mut stored = vec![0; extent.len()];
        std::os::unix::fs::FileExt::read_exact_at(&*rig.file, &mut stored, 0).unwrap();
        assert!(stored == extent);
    });
}

#[test]
fn a_peer_that_reads_nothing_is_not_listened_to_for_ever_and_goes_on_when_it_reads() {
    each_rig(|rig| {
        let mut peer = rig.connect();
        peer.write_all(&[b'l'; 20]).unwrap();
        let mut other = rig.connect();
        other.write_all(b"1").unwrap();
        assert_eq!(read(&mut other, 1), b"1");
        assert!(read(&mut peer, 20 * ANSWER_BYTES).iter().all(|byte| *byte == b'l'));
    });
}

#[test]
fn peers_that_read_nothing_keep_no_buffer_from_others() {
    let buffers = BufferLimits { large_bytes: 128 << 10, large_max: 1, small_bytes: 4096, small_max: 1 };
    for workers in [0, 2] {
        let rig = Rig::new(workers, buffers);
        // More answers than all buffers of the kernel take, and more to say than is listened to meanwhile.
        let greedy: Vec<TcpStream> = (0..4)
            .map(|_| {
                let mut peer = rig.connect();
                peer.write_all(&[b'l'; 20]).unwrap();
                peer.write_all(&[b'1'; 4000]).unwrap();
                peer
            })
            .collect();
        // Holds the only large buffer: it has begun an extent and does not go on.
        let mut slow = rig.connect();
        slow.write_all(b"r1").unwrap();
        let mut peer = rig.connect();
        let extent = vec![b'e'; EXTENT_BYTES as usize];
        for _ in 0..3 {
            peer.write_all(&[b"1r", &extent[..], b"w2d", &extent[..], b"3"].concat()).unwrap();
            assert_eq!(read(&mut peer, 5), b"1Rw23");
        }
        drop(greedy);
    }
}

#[test]
fn what_is_kept_for_a_peer_that_reads_nothing_counts_until_it_is_gone() {
    each_rig(|rig| {
        let mut peer = rig.connect();
        peer.write_all(b"l").unwrap();
        rig.keeps(|bytes| bytes > 0);
        let answer = rig.budget.kept_bytes();
        assert!(answer <= ANSWER_BYTES as u64);
        // It is read, and not taken: the answer is too much already.
        peer.write_all(&[b'1'; 4000]).unwrap();
        let mut other = rig.connect();
        other.write_all(b"l1").unwrap();
        rig.keeps(|bytes| bytes > answer);
        drop((peer, other));
        rig.keeps(|bytes| bytes == 0);
    });
}

#[test]
fn where_it_is_crowded_each_is_served_all_the_same() {
    each_rig(|rig| {
        let mut crowd = rig.budget.keep();
        crowd.set(CROWDED_KEPT_BYTES);
        let mut peer = rig.connect();
        let extent = vec![b'e'; EXTENT_BYTES as usize];
        peer.write_all(&[b"1r", &extent[..], &[b'2'; 3 * CROWDED_BYTES as usize], b"lw"].concat()).unwrap();
        assert_eq!(read(&mut peer, 2), b"1R");
        assert!(read(&mut peer, 3 * CROWDED_BYTES as usize).iter().all(|byte| *byte == b'2'));
        assert!(read(&mut peer, ANSWER_BYTES).iter().all(|byte| *byte == b'l'));
        assert_eq!(read(&mut peer, 1), b"w");
    });
}

#[test]
fn more_connections_than_few_receive_less_at_a_time() {
    assert_eq!(receive_bytes_max(FEW_CONNECTIONS_MAX), usize::MAX);
    assert_eq!(receive_bytes_max(FEW_CONNECTIONS_MAX + 1), MANY_RECEIVE_BYTES);
}

#[test]
fn a_session_that_closes_is_heard_to_its_last_byte() {
    each_rig(|rig| {
        let mut peer = rig.connect();
        peer.write_all(b"lx").unwrap();
        let mut speaker = peer.try_clone().unwrap();
        // More than the kernel's buffers take: it has to be read for the peer to come to its end.
        let speaking = std::thread::spawn(move || {
            speaker.write_all(&vec![0; 16 << 20]).unwrap();
            speaker.shutdown(Shutdown::Write).unwrap();
        });
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).unwrap();
        speaking.join().unwrap();
        assert_eq!(answer.len(), ANSWER_BYTES);
        assert_eq!(rig.end(), "Closed");
    });
}

#[test]
fn a_peer_that_ends_its_stream_ends_the_connection_unless_the_session_knows_better() {
    each_rig(|rig| {
        for said in ["", "1", "r", "rabc", "d", "dabc"] {
            let mut peer = rig.connect();
            peer.write_all(said.as_bytes()).unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
            assert_eq!(rig.end(), "Closed", "{said}");
            let _ = peer.read_to_end(&mut Vec::new());
        }
    });
}

#[test]
fn work_that_panics_ends_its_connection_and_no_other() {
    each_rig(|rig| {
        let mut other = rig.connect();
        let mut peer = rig.connect();
        peer.write_all(b"p").unwrap();
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
        assert!(rig.end().contains("the toy is broken"));
        other.write_all(b"1w").unwrap();
        assert_eq!(read(&mut other, 2), b"1w");
    });
}

#[test]
fn all_connections_end_when_the_shard_drains_or_stops() {
    each_rig(|rig| {
        let mut peers = [rig.connect(), rig.connect()];
        for peer in &mut peers {
            peer.write_all(b"1").unwrap();
            read(peer, 1);
        }
        assert_eq!(rig.load.connections(), 2);
        rig.mailbox.drain();
        for peer in &mut peers {
            assert_eq!(peer.read(&mut [0]).unwrap(), 0);
        }
        drop(peers);
        assert_eq!([rig.end(), rig.end()], ["Closed", "Closed"]);
    });
    let rig = Rig::new(0, BufferLimits::default());
    let mut peer = rig.connect();
    peer.write_all(b"1").unwrap();
    read(&mut peer, 1);
    rig.mailbox.stop();
    assert_eq!(rig.end(), "Stopped");
    let deadline = Instant::now() + PATIENCE;
    while !rig.thread.as_ref().unwrap().is_finished() {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    let (ends, _) = mpsc::channel();
    let fresh = Toy { file: rig.file.clone(), working: false, ends, reaches: None };
    assert!(!rig.mailbox.dispatch((), rig.address.into(), fresh), "nobody would ever see it");
}

#[test]
fn a_command_that_finds_no_connection_free_waits_for_one_to_end() {
    let rig = Rig::new(0, BufferLimits::default());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (sender, ends) = mpsc::channel();
    for _ in 0..3 {
        let fresh = Toy { file: rig.file.clone(), working: false, ends: sender.clone(), reaches: None };
        assert!(rig.mailbox.dispatch((), listener.local_addr().unwrap().into(), fresh));
    }
    // Two are the most at a time.
    let [mut first, _second] = [listener.accept().unwrap().0, listener.accept().unwrap().0];
    assert_eq!(read(&mut first, 2), b"wd");
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    listener.set_nonblocking(false).unwrap();
    drop(first);
    assert_eq!(ends.recv_timeout(PATIENCE).unwrap(), "Closed");
    listener.accept().unwrap();
}

#[test]
fn a_connection_that_is_refused_says_so() {
    let rig = Rig::new(0, BufferLimits::default());
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let (sender, ends) = mpsc::channel();
    let fresh = Toy { file: rig.file.clone(), working: false, ends: sender, reaches: None };
    assert!(rig.mailbox.dispatch((), nobody.into(), fresh));
    assert!(ends.recv_timeout(PATIENCE).unwrap().contains("ConnectionRefused"));
}

#[test]
fn a_mailbox_takes_as_many_messages_as_its_limit_says_and_no_more() {
    let driver: MioDriver<Batch<u8>> = MioDriver::new(Limits::default(), None).unwrap();
    let shard: Shard<Toy, _> = Shard::new(driver, 1, Budget::default());
    let (ends, _) = mpsc::channel();
    let file = Arc::new(tempfile::tempfile().unwrap());
    let post = || {
        let fresh = Toy { file: file.clone(), working: false, ends: ends.clone(), reaches: None };
        shard.mailbox().dispatch((), anywhere(), fresh)
    };
    assert!((0..MAILBOX_MESSAGES_MAX).all(|_| post()));
    assert!(!post());
}

#[test]
fn a_command_that_is_to_wait_is_carried_out_after_those_that_are_not() {
    let rig = Rig::new(0, BufferLimits::default());
    let (sender, _ends) = mpsc::channel();
    let [later, now] = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let fresh = || Toy { file: rig.file.clone(), working: false, ends: sender.clone(), reaches: None };
    let delay = Duration::from_millis(50);
    assert!(rig.mailbox.dispatch_after(delay, (), later.local_addr().unwrap().into(), fresh()));
    assert!(rig.mailbox.dispatch((), now.local_addr().unwrap().into(), fresh()));
    assert_eq!(read(&mut now.accept().unwrap().0, 2), b"wd");
    assert_eq!(read(&mut later.accept().unwrap().0, 2), b"wd");
}

#[test]
fn as_many_commands_as_the_limit_wait_for_their_time_and_none_when_the_shard_drains() {
    let driver: MioDriver<Batch<u8>> = MioDriver::new(Limits::default(), None).unwrap();
    let mut shard: Shard<Toy, _> = Shard::new(driver, 1, Budget::default());
    let (ends, _) = mpsc::channel();
    let file = Arc::new(tempfile::tempfile().unwrap());
    let mailbox = shard.mailbox();
    let post = || {
        let fresh = Toy { file: file.clone(), working: false, ends: ends.clone(), reaches: None };
        assert!(mailbox.dispatch_after(PATIENCE, (), anywhere(), fresh));
    };
    (0..DELAYED_COMMANDS_MAX).for_each(|_| post());
    shard.read_mail();
    assert_eq!(shard.delayed.len(), DELAYED_COMMANDS_MAX);
    post();
    mailbox.nudge();
    shard.read_mail();
    assert_eq!(shard.delayed.len(), DELAYED_COMMANDS_MAX, "one too many is dropped");
    mailbox.drain();
    shard.read_mail();
    assert!(shard.delayed.is_empty() && shard.alarms.next_deadline().is_none());
}

/// A shard of three connections at most that is stepped by its test, and reached.
struct Stepped {
    shard: Shard<Toy, MioDriver<Batch<u8>>>,
    addresses: Vec<SocketAddr>,
    reaches: mpsc::Receiver<Reach>,
    /// The listeners that connections came from.
    accepted: mpsc::Receiver<usize>,
    ends: mpsc::Receiver<String>,
}

impl Stepped {
    fn new(listeners: usize) -> Self {
        let driver = MioDriver::new(Limits::default(), None).unwrap();
        let mut shard = Shard::new(driver, 3, Budget::default());
        let listeners: Vec<Listener> = (0..listeners)
            .map(|_| Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap())
            .collect();
        let addresses = listeners.iter().map(|it| it.local_addr().unwrap().internet().unwrap()).collect();
        let (reaches_sender, reaches) = mpsc::channel();
        let (accepted_sender, accepted) = mpsc::channel();
        let (ends_sender, ends) = mpsc::channel();
        let mailbox = shard.mailbox();
        let file = Arc::new(tempfile::tempfile().unwrap());
        let adopt = move |index, socket, _| {
            accepted_sender.send(index).unwrap();
            let (file, ends, reaches) = (file.clone(), ends_sender.clone(), Some(reaches_sender.clone()));
            assert!(mailbox.adopt(socket, Toy { file, working: false, ends, reaches }));
        };
        shard.accept(listeners, Box::new(adopt)).unwrap();
        Self { shard, addresses, reaches, accepted, ends }
    }

    fn connect(&mut self, listener: usize) -> (TcpStream, Reach) {
        let peer = TcpStream::connect(self.addresses[listener]).unwrap();
        peer.set_nonblocking(true).unwrap();
        (peer, self.step_until(|it| it.reaches.try_recv().ok()))
    }

    fn step_until<T>(&mut self, mut found: impl FnMut(&mut Self) -> Option<T>) -> T {
        // An alarm ends the wait for what the kernel tells nobody.
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = found(self) {
                return found;
            }
            assert!(Instant::now() < deadline, "it never came");
            assert!(self.shard.step().unwrap());
        }
    }

    fn hear(&mut self, peer: &mut TcpStream) -> Vec<u8> {
        let mut heard = [0; 64];
        let bytes = self.step_until(|_| peer.read(&mut heard).ok());
        heard[..bytes].to_vec()
    }
}

#[test]
fn whoever_takes_a_connection_learns_which_listener_it_came_from() {
    let mut stepped = Stepped::new(3);
    for listener in [1, 0, 2] {
        let _connection = stepped.connect(listener);
        assert_eq!(stepped.accepted.try_recv().unwrap(), listener);
    }
}

#[test]
fn sessions_see_what_has_come_for_all_of_them_before_the_first_is_asked_to_take_it() {
    let mut stepped = Stepped::new(1);
    let mut peers = [stepped.connect(0).0, stepped.connect(0).0];
    let mut noted = || {
        peers.iter_mut().for_each(|peer| peer.write_all(b"v1").unwrap());
        peers.iter_mut().for_each(|peer| assert_eq!(stepped.hear(peer), b"1"));
        stepped.ends.try_iter().collect::<Vec<_>>()
    };
    // A busy kernel may deliver one of them later.
    assert!((0..1000).any(|_| noted() == ["v1 to come", "v1 to come", "taken", "taken"]));
}

#[test]
fn a_session_that_is_nudged_many_times_is_told_once_and_the_others_are_not() {
    let mut stepped = Stepped::new(1);
    let [(mut nudged, reach), (mut other, _)] = [stepped.connect(0), stepped.connect(0)];
    for _ in 0..2 {
        (0..100).for_each(|_| reach.clone().nudge());
        assert_eq!(stepped.hear(&mut nudged), b"n");
    }
    // What was said before a question comes before its answer.
    for peer in [&mut nudged, &mut other] {
        peer.write_all(b"1").unwrap();
        assert_eq!(stepped.hear(peer), b"1");
    }
}

#[test]
fn a_session_is_reached_from_other_threads_while_its_shard_waits() {
    let rig = Rig::new(0, BufferLimits::default());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let ((ends, _ends), (sender, reaches)) = (mpsc::channel(), mpsc::channel());
    let fresh = Toy { file: rig.file.clone(), working: false, ends, reaches: Some(sender) };
    assert!(rig.mailbox.dispatch((), listener.local_addr().unwrap().into(), fresh));
    let (mut peer, _) = listener.accept().unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(read(&mut peer, 2), b"wd");
    let reach = reaches.recv_timeout(PATIENCE).unwrap();
    for _ in 0..100 {
        reach.nudge();
        assert_eq!(read(&mut peer, 1), b"n");
    }
}

#[test]
fn a_session_that_rests_is_reached() {
    let mut stepped = Stepped::new(1);
    let (mut peer, reach) = stepped.connect(0);
    stepped.step_until(|it| it.shard.conns.iter().all(|(_, (_, conn))| !conn.is_watched).then_some(()));
    reach.nudge();
    assert_eq!(stepped.hear(&mut peer), b"n");
}

#[test]
fn whoever_has_the_place_of_a_connection_that_is_gone_is_not_told_in_its_stead() {
    let mut stepped = Stepped::new(1);
    let (peer, gone) = stepped.connect(0);
    drop(peer);
    stepped.step_until(|it| it.shard.conns.is_empty().then_some(()));
    let (mut next, _) = stepped.connect(0);
    gone.nudge();
    next.write_all(b"1").unwrap();
    assert_eq!(stepped.hear(&mut next), b"1");
    stepped.shard.finish();
    gone.nudge();
    assert!(stepped.shard.mailbox.calls().take().is_none(), "nobody would ever see it");
}
