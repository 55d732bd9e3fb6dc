//! A driver under test, and what every test does with one.

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use xferd_os::net::{Address, Listener};
use xferd_reactor::{
    Carried, Done, Driver, Job, Limits, ListenerRef, MioDriver, Op, PoolBuf, SendBuf, SockRef, Token,
    UringDriver, Wait, WorkerPool,
};

/// Runs a test on every driver, without workers and with two, over TCP and over Unix sockets.
pub(crate) fn each_driver(test: impl Fn(&mut Rig)) {
    each_driver_with(Limits::default(), test);
}

pub(crate) fn each_driver_with(limits: Limits, test: impl Fn(&mut Rig)) {
    for threads in [0, 2] {
        each_kind(limits, threads, &test);
    }
}

pub(crate) fn each_driver_without_workers(test: impl Fn(&mut Rig)) {
    each_kind(Limits::default(), 0, test);
}

fn each_kind(limits: Limits, threads: usize, test: impl Fn(&mut Rig)) {
    let workers = || (threads > 0).then(|| WorkerPool::start(threads).unwrap());
    for family in [Family::Internet, Family::Unix] {
        test(&mut Rig::new(Box::new(MioDriver::new(limits, workers()).unwrap()), family));
        #[cfg(target_os = "linux")]
        match UringDriver::new(limits, workers()) {
            Ok(driver) => test(&mut Rig::new(Box::new(driver), family)),
            Err(error) => eprintln!("not tested on io_uring: {error}"),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Internet,
    Unix,
}

/// A job made of a closure.
pub(crate) struct Task(Box<dyn FnMut() + Send>);

impl Task {
    pub(crate) fn new(run: impl FnMut() + Send + 'static) -> Task {
        Task(Box::new(run))
    }
}

impl Job for Task {
    fn run(&mut self) {
        (self.0)();
    }
}

/// A driver, with a check that each token comes back exactly once.
pub(crate) struct Rig {
    pub(crate) driver: Box<dyn Driver<Task>>,
    /// What its connections are.
    pub(crate) family: Family,
    /// Where Unix sockets are.
    folder: TempDir,
    started: u32,
    in_flight: HashSet<Token>,
    /// Completions that nobody has asked for yet.
    early: Vec<Done<Task>>,
}

impl Rig {
    fn new(driver: Box<dyn Driver<Task>>, family: Family) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        Rig { driver, family, folder, started: 0, in_flight: HashSet::new(), early: Vec::new() }
    }

    pub(crate) fn start(&mut self, op: Op<Task>) -> Token {
        self.try_start(op).unwrap_or_else(|_| panic!("the driver refused an operation"))
    }

    pub(crate) fn try_start(&mut self, op: Op<Task>) -> Result<Token, Op<Task>> {
        self.started += 1;
        let token = Token { slot: self.started, generation: self.started ^ 0x5a5a };
        self.driver.submit(token, op)?;
        self.in_flight.insert(token);
        Ok(token)
    }

    /// What one turn completes.
    pub(crate) fn turn(&mut self, wait: Wait) -> Vec<Done<Task>> {
        let mut done = Vec::new();
        self.driver.turn(wait, &mut done).unwrap();
        for done in &done {
            assert!(self.in_flight.remove(&done.token), "{:?} came back unasked, or twice", done.token);
        }
        done
    }

    /// Turns until `token` has come back.
    pub(crate) fn finish(&mut self, token: Token) -> Done<Task> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(place) = self.early.iter().position(|done| done.token == token) {
                return self.early.remove(place);
            }
            assert!(Instant::now() < deadline, "{token:?} did not come back");
            let done = self.turn(Wait::Until(deadline));
            self.early.extend(done);
        }
    }

    pub(crate) fn run(&mut self, op: Op<Task>) -> Done<Task> {
        let token = self.start(op);
        self.finish(token)
    }

    /// Turns until nothing more completes by itself; whether `token` is in flight still.
    pub(crate) fn is_waiting(&mut self, token: Token) -> bool {
        for _ in 0..3 {
            let done = self.turn(Wait::Now);
            self.early.extend(done);
        }
        self.in_flight.contains(&token)
    }

    pub(crate) fn has_nothing_in_flight(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// An address where nobody listens yet.
    pub(crate) fn free_address(&mut self) -> Address {
        match self.family {
            Family::Internet => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into(),
            Family::Unix => {
                self.started += 1;
                self.folder.path().join(self.started.to_string()).as_path().into()
            }
        }
    }

    pub(crate) fn listen(&mut self) -> (ListenerRef, Address) {
        let listener = Listener::bind(self.free_address()).unwrap();
        let address = listener.local_addr().unwrap();
        (self.driver.listen(listener).unwrap(), address)
    }

    /// A connection between the driver and a blocking peer.
    pub(crate) fn pair(&mut self) -> (SockRef, TcpStream) {
        let listener = BlockingListener::bind(self.free_address());
        let connected = self.run(Op::Connect(listener.address()));
        let peer = listener.accept();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        (sock(connected), peer)
    }

    pub(crate) fn large(&self) -> PoolBuf {
        self.driver.buffers().take_large().unwrap()
    }

    /// Receives `len` bytes through small buffers.
    pub(crate) fn receive(&mut self, sock: SockRef, len: usize) -> Vec<u8> {
        let mut received = Vec::new();
        while received.len() < len {
            let buf = buf(self.run(Op::RecvSmall { sock, bytes_max: usize::MAX }));
            assert!(!buf.is_empty(), "the stream ended after {} of {len} bytes", received.len());
            received.extend_from_slice(&buf);
        }
        received
    }

    /// Sends all of `bytes`, however many operations it takes.
    pub(crate) fn send(&mut self, sock: SockRef, bytes: &[u8]) {
        let mut rest = SendBuf::from(bytes.to_vec());
        while !rest.is_empty() {
            rest = sent(self.run(Op::Send { sock, buf: rest, more: false }));
        }
    }
}

/// Connects a blocking peer.
pub(crate) fn connect(address: &Address) -> io::Result<TcpStream> {
    match address {
        Address::Internet(address) => TcpStream::connect(address),
        Address::Unix(path) => UnixStream::connect(path).map(stream),
    }
}

/// Reading, writing and ending it is the same for all stream sockets.
fn stream(socket: UnixStream) -> TcpStream {
    OwnedFd::from(socket).into()
}

/// What a driver connects to.
pub(crate) enum BlockingListener {
    Internet(TcpListener),
    Unix(UnixListener, Address),
}

impl BlockingListener {
    pub(crate) fn bind(address: Address) -> BlockingListener {
        match &address {
            Address::Internet(address) => Self::Internet(TcpListener::bind(address).unwrap()),
            Address::Unix(path) => Self::Unix(UnixListener::bind(path).unwrap(), address),
        }
    }

    pub(crate) fn address(&self) -> Address {
        match self {
            Self::Internet(listener) => listener.local_addr().unwrap().into(),
            Self::Unix(_, address) => address.clone(),
        }
    }

    pub(crate) fn accept(&self) -> TcpStream {
        match self {
            Self::Internet(listener) => listener.accept().unwrap().0,
            Self::Unix(listener, _) => stream(listener.accept().unwrap().0),
        }
    }
}

pub(crate) fn kind(done: &Done<Task>) -> io::ErrorKind {
    done.result.as_ref().expect_err("it should have failed").kind()
}

pub(crate) fn bytes(done: &Done<Task>) -> u32 {
    *done.result.as_ref().expect("it should have succeeded")
}

pub(crate) fn sock(done: Done<Task>) -> SockRef {
    match done {
        Done { result: Ok(_), carried: Carried::Sock(sock), .. } => sock,
        done => panic!("no connection was made: {:?}", done.result),
    }
}

pub(crate) fn buf(done: Done<Task>) -> PoolBuf {
    match done {
        Done { result: Ok(_), carried: Carried::Buf(buf), .. } => buf,
        done => panic!("no buffer came back: {:?}", done.result),
    }
}

pub(crate) fn sent(done: Done<Task>) -> SendBuf {
    match done {
        Done { result: Ok(_), carried: Carried::Sent(buf), .. } => buf,
        done => panic!("nothing was sent: {:?}", done.result),
    }
}

/// Bytes that show when they are misplaced: the period is a prime.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

/// How long a test waits for what must happen. Only a broken driver is this late.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
