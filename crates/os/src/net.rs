//! Stream sockets that never block: TCP and Unix.
//!
//! Every call returns at once: what cannot happen now is [`io::ErrorKind::WouldBlock`]. Descriptors are close-on-exec,
//! a peer that went away is an error and never a `SIGPIPE`.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};
use socket2::{Domain, Protocol, SockAddr, Socket as RawSocket, Type};

use self::unix::SocketFile;
pub use self::unix::UNIX_PATH_BYTES_MAX;
use crate::Mapping;
pub use crate::address::{Access, Address, Peer};

mod unix;

/// Connections the kernel completes ahead of [`Listener::accept`]. Linux caps it at `net.core.somaxconn`, 4096 since
/// Linux 5.4; a burst beyond it is retried by the connecting side's kernel.
pub const BACKLOG: i32 = 1024;

/// Bytes that the kernel takes for a TCP connection beyond what is on its way to the peer. Its own limit is megabytes for each
/// (`net.ipv4.tcp_wmem`): 500 peers that asked for large files and read nothing had 1.5 GB of kernel memory, the limit from
/// which on it slows every connection down (Linux 6.18), and filling them kept two reactors busy for seconds.
pub const UNSENT_BYTES_MAX: u32 = 256 << 10;

/// A bound, listening socket.
#[derive(Debug)]
pub struct Listener {
    /// Goes first: while the socket is open, nobody else takes its file for a deserted one, and no other file for its.
    family: Family,
    socket: RawSocket,
}

#[derive(Debug)]
enum Family {
    /// How the system sends to peers on other machines.
    Internet(Congestion),
    /// Where, and its file until it is to be removed.
    Unix(Address, Option<SocketFile>),
}

impl Listener {
    /// Listens on `address`; port 0 picks a free one, see [`Listener::local_addr`]. An IPv6 address takes IPv6 only. A Unix
    /// socket takes who its default [`Access`] allows.
    ///
    /// # Errors
    /// As for [`Listener::bind_with`].
    pub fn bind(address: impl Into<Address>) -> io::Result<Listener> {
        Self::bind_with(&address.into(), Access::default())
    }

    /// The same; a Unix socket takes who `access` allows, from the beginning. A socket that is there already is replaced if
    /// nobody listens on it, and removed with this one, or when it [stops](Listener::stop), unless it is another by then.
    ///
    /// # Errors
    /// What `socket`, `bind` and `listen` answer: most often `AddrInUse` or `PermissionDenied`. `AlreadyExists` if something
    /// is there that is no socket; `InvalidInput` for more than [`UNIX_PATH_BYTES_MAX`].
    pub fn bind_with(address: &Address, access: Access) -> io::Result<Listener> {
        match address {
            Address::Internet(address) => Self::bind_internet(*address),
            Address::Unix(path) => {
                let (socket, file) = unix::listen(path, access, BACKLOG)?;
                Ok(Listener { socket, family: Family::Unix(address.clone(), Some(file)) })
            }
        }
    }

    fn bind_internet(address: SocketAddr) -> io::Result<Listener> {
        let socket = tcp_socket(address)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        let congestion = Congestion::of(&socket);
        // What a connection begins with clings to it: one that was BBR's for a moment is paced ever after, though its
        // control says reno (Linux 6.18, `sk_pacing_status` in the kernel). So this is not done when one is accepted.
        unpace(&socket);
        // What is accepted inherits it.
        limit_unsent(&socket)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Listener { socket, family: Family::Internet(congestion) })
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// What `getsockname` answers.
    pub fn local_addr(&self) -> io::Result<Address> {
        match &self.family {
            Family::Internet(_) => internet_address(&self.socket.local_addr()?).map(Address::from),
            Family::Unix(address, _) => Ok(address.clone()),
        }
    }

    /// Takes one connection, and tells who is there.
    ///
    /// # Errors
    /// `WouldBlock` if none is waiting; `ConnectionAborted` if one came and went; the descriptor limits
    /// (`EMFILE`, `ENFILE`) leave the connection waiting.
    pub fn accept(&self) -> io::Result<(Socket, Peer)> {
        let (socket, address) = self.socket.accept()?;
        socket.set_nonblocking(true)?;
        self.prepare(socket, Some(address))
    }

    /// Takes a connection that the kernel has accepted here by other means, close-on-exec and non-blocking.
    ///
    /// # Errors
    /// `NotConnected` if the peer has gone since; what `setsockopt` answers.
    pub fn adopt(&self, accepted: OwnedFd) -> io::Result<(Socket, Peer)> {
        self.prepare(RawSocket::from(accepted), None)
    }

    /// Stops listening, also if the kernel is still accepting for somebody: what waits is reset, what comes is refused.
    ///
    /// # Errors
    /// What `shutdown` answers.
    pub fn stop(&mut self) -> io::Result<()> {
        // While it listens nobody else takes its file for a deserted one.
        if let Family::Unix(_, file) = &mut self.family {
            *file = None;
        }
        self.socket.shutdown(std::net::Shutdown::Both)
    }

    /// `address` is the peer's, if it is known.
    fn prepare(&self, socket: RawSocket, address: Option<SockAddr>) -> io::Result<(Socket, Peer)> {
        let peer = match &self.family {
            Family::Unix(..) => unix::peer(&socket)?,
            Family::Internet(congestion) => {
                let address = internet_address(&address.map_or_else(|| socket.peer_addr(), Ok)?)?;
                socket.set_tcp_nodelay(true)?;
                if !is_local(address) {
                    congestion.restore(&socket);
                }
                Peer::Internet(address)
            }
        };
        Ok((Socket(socket), peer))
    }
}

/// A connection, or one that is being made.
#[derive(Debug)]
pub struct Socket(RawSocket);

impl Socket {
    /// Starts to connect. The socket turns writable when that has ended; [`Socket::take_error`] then says how.
    ///
    /// # Errors
    /// What `socket` and `connect` answer at once; a connection under way is no error.
    pub fn connect(address: &Address) -> io::Result<Socket> {
        match address {
            Address::Internet(address) => Self::connect_internet(*address),
            Address::Unix(path) => unix::connect(path).map(Socket),
        }
    }

    fn connect_internet(address: SocketAddr) -> io::Result<Socket> {
        let socket = tcp_socket(address)?;
        socket.set_tcp_nodelay(true)?;
        limit_unsent(&socket)?;
        if is_local(address) {
            unpace(&socket);
        }
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(Socket(socket)),
        }
    }

    /// The error that befell the socket since the last call, if any.
    ///
    /// # Errors
    /// What `getsockopt` answers.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.0.take_error()
    }

    /// Who is at the other end.
    ///
    /// # Errors
    /// `NotConnected` before a connection is made.
    pub fn peer(&self) -> io::Result<Peer> {
        match self.0.peer_addr()? {
            address if address.is_unix() => unix::peer(&self.0),
            address => internet_address(&address).map(Peer::Internet),
        }
    }

    /// Receives into `buffer`; 0 bytes is the end of the stream (or an empty buffer).
    ///
    /// # Errors
    /// `WouldBlock`, or what ended the connection.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (_, bytes) = rustix::net::recv(&self.0, buffer, RecvFlags::empty())?;
        Ok(bytes)
    }

    /// Has the kernel hold up to `bytes` for this socket from the start, and leaves the size to its tuning from there.
    /// Where that cannot be had nothing changes.
    ///
    /// `SO_RCVBUF` would end automatic tuning, and `net.core.rmem_max` caps it at 208 KiB by default. A low-water mark makes
    /// Linux grow the buffer to hold it, up to half of `net.ipv4.tcp_rmem`'s maximum, and the buffer stays when the mark goes
    /// (`tcp_set_rcvlowat` in the kernel). Without it, tuning at times never leaves the initial 128 KiB: two of five transfers
    /// of 469 MB over loopback then took three times as long as the rest (Linux 6.18).
    ///
    /// # Errors
    /// What `setsockopt` answers.
    pub fn widen_receive_window(&self, bytes: u32) -> io::Result<()> {
        set_receive_mark(self, bytes)?;
        set_receive_mark(self, 1)
    }

    /// Has the kernel report this socket as readable only once it holds `bytes`, or its window is full, or nothing more
    /// will come (`SO_RCVLOWAT` in socket(7), tcp(7)). What is there can be received all the same. Where that cannot be
    /// had nothing changes.
    ///
    /// # Errors
    /// What `setsockopt` answers.
    pub fn set_receive_mark(&self, bytes: u32) -> io::Result<()> {
        set_receive_mark(self, bytes)
    }

    /// Sends the front of `bytes`; returns how many went. With `more` the kernel may hold back a segment that is not
    /// full, until what follows fills it (Linux; elsewhere it has no effect).
    ///
    /// # Errors
    /// `WouldBlock`, or what ended the connection.
    pub fn send(&self, bytes: &[u8], more: bool) -> io::Result<usize> {
        Ok(rustix::net::send(&self.0, bytes, send_flags(more))?)
    }

    /// Sends up to `len` bytes of `file` from `offset` on; returns how many went. The file's own position is neither
    /// used nor moved, so that many sockets can share one open file.
    ///
    /// # Errors
    /// `WouldBlock`, what ended the connection, or `UnexpectedEof` if the file ends at or before `offset`.
    pub fn send_file(&self, file: &File, offset: u64, len: usize) -> io::Result<usize> {
        match send_file(self, file, offset, len)? {
            0 if len > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            sent => Ok(sent),
        }
    }

    /// Sends up to `len` bytes of `mapping` from `offset` on; returns how many went.
    ///
    /// # Errors
    /// `WouldBlock`, what ended the connection, or `UnexpectedEof` if the mapping ends at or before `offset`, or if
    /// its file was truncated there meanwhile.
    pub fn send_mapped(&self, mapping: &Mapping, offset: u64, len: usize) -> io::Result<usize> {
        let (start, len) = match mapping.range(offset, len) {
            (_, 0) if len > 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            range => range,
        };
        let flags = send_flags(false).bits() as i32;
        // SAFETY: `[start, start + len)` lies within the mapping, which `mapping` keeps alive. Only the kernel reads
        // it, and where the file no longer has the page the kernel answers EFAULT instead of raising SIGBUS.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), start.as_ptr(), len, flags) };
        if let Ok(sent) = usize::try_from(sent) {
            return Ok(sent);
        }
        match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::EFAULT) => Err(io::ErrorKind::UnexpectedEof.into()),
            error => Err(error),
        }
    }

    /// Ends the stream towards the peer, after everything sent so far; receiving goes on.
    ///
    /// # Errors
    /// `NotConnected` if the connection has ended.
    pub fn shutdown_write(&self) -> io::Result<()> {
        self.0.shutdown(std::net::Shutdown::Write)
    }

    /// When the socket is dropped, resets the connection and throws away what the peer has not received (`SO_LINGER` of
    /// 0 seconds, socket(7)).
    ///
    /// # Errors
    /// What setsockopt(2) answers.
    pub fn discard_unsent(&self) -> io::Result<()> {
        self.0.set_linger(Some(Duration::ZERO))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// One call is enough: the kernel goes on until `len` bytes went, the socket is full or the file ends.
#[cfg(all(target_os = "linux", not(xferd_portable)))]
fn send_file(socket: &Socket, file: &File, mut offset: u64, len: usize) -> io::Result<usize> {
    Ok(rustix::fs::sendfile(&socket.0, file, Some(&mut offset), len)?)
}

/// Reads and sends. Bytes that were read and not taken by the socket are read again next time: they are in the page
/// cache, and nothing has to be remembered.
#[cfg(not(all(target_os = "linux", not(xferd_portable))))]
fn send_file(socket: &Socket, file: &File, offset: u64, len: usize) -> io::Result<usize> {
    use std::os::unix::fs::FileExt;

    let mut buffer = [0; 64 * 1024];
    let mut sent = 0;
    while sent < len {
        let part = buffer.len().min(len - sent);
        let step = file.read_at(&mut buffer[..part], offset + sent as u64);
        match step.and_then(|read| socket.send(&buffer[..read], false)) {
            Ok(0) => break,
            Ok(bytes) => sent += bytes,
            // Whatever it is, the next call meets it with nothing sent.
            Err(_) if sent > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

#[cfg(all(target_os = "linux", not(xferd_portable)))]
fn set_receive_mark(socket: &Socket, bytes: u32) -> io::Result<()> {
    let mark = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    // SAFETY: the option takes an int, whose address and size are given.
    let answer = unsafe {
        libc::setsockopt(
            socket.0.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const mark).cast(),
            size_of_val(&mark) as libc::socklen_t,
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(all(target_os = "linux", not(xferd_portable))))]
fn set_receive_mark(_: &Socket, _: u32) -> io::Result<()> {
    Ok(())
}

/// Has the socket take no more than [`UNSENT_BYTES_MAX`] (`TCP_NOTSENT_LOWAT` in tcp(7)).
#[cfg(all(target_os = "linux", not(xferd_portable)))]
fn limit_unsent(socket: &RawSocket) -> io::Result<()> {
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)
}

#[cfg(not(all(target_os = "linux", not(xferd_portable))))]
fn limit_unsent(_: &RawSocket) -> io::Result<()> {
    Ok(())
}

fn tcp_socket(address: SocketAddr) -> io::Result<RawSocket> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn is_local(peer: SocketAddr) -> bool {
    Address::from(peer).is_local()
}

/// Makes a socket that is not connected yet send as fast as its peer takes it, for a peer on this machine.
///
/// There is no network to be fair to. Where the system's congestion control is BBR, it paces senders to the rate it
/// believes in all the same: 469 MB by `sendfile` took 1.4 times as long as with reno, and now and then 8 times (medians
/// 3180 and 4480 MB/s, Linux 6.18, 2 cores). Reno is always compiled in and open to everybody.
#[cfg(all(target_os = "linux", not(xferd_portable)))]
fn unpace(socket: &RawSocket) {
    // The kernel's own choice works too, if it will not have ours.
    let _ = socket.set_tcp_congestion(b"reno");
}

#[cfg(not(all(target_os = "linux", not(xferd_portable))))]
fn unpace(_: &RawSocket) {}

/// The congestion control that the system chose.
#[cfg(all(target_os = "linux", not(xferd_portable)))]
#[derive(Debug)]
struct Congestion(Option<Vec<u8>>);

#[cfg(all(target_os = "linux", not(xferd_portable)))]
impl Congestion {
    fn of(socket: &RawSocket) -> Self {
        Self(socket.tcp_congestion().ok())
    }

    fn restore(&self, socket: &RawSocket) {
        if let Self(Some(name)) = self {
            // It was the system's own.
            let _ = socket.set_tcp_congestion(name);
        }
    }
}

#[cfg(not(all(target_os = "linux", not(xferd_portable))))]
#[derive(Debug)]
struct Congestion;

#[cfg(not(all(target_os = "linux", not(xferd_portable))))]
impl Congestion {
    fn of(_: &RawSocket) -> Self {
        Self
    }

    fn restore(&self, _: &RawSocket) {}
}

fn internet_address(address: &SockAddr) -> io::Result<SocketAddr> {
    address.as_socket().ok_or_else(|| io::Error::other("the peer has no internet address"))
}

fn send_flags(more: bool) -> SendFlags {
    // Apple has no such flag; there socket2 sets SO_NOSIGPIPE on every socket it makes or accepts.
    #[cfg(target_vendor = "apple")]
    let flags = SendFlags::empty();
    #[cfg(not(target_vendor = "apple"))]
    let flags = SendFlags::NOSIGNAL;
    #[cfg(target_os = "linux")]
    let flags = if more { flags | SendFlags::MORE } else { flags };
    #[cfg(not(target_os = "linux"))]
    let _ = more;
    flags
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};

    use super::*;

    fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let socket = Socket::connect(&listener.local_addr().unwrap().into()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        (socket, peer)
    }

    fn internet(listener: &Listener) -> SocketAddr {
        listener.local_addr().unwrap().internet().unwrap()
    }

    #[cfg(all(target_os = "linux", not(xferd_portable)))]
    #[test]
    fn a_connection_within_the_machine_is_not_paced_and_another_has_what_the_system_chose() {
        let listener = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let connecting = Socket::connect(&listener.local_addr().unwrap()).unwrap();
        let accepted = loop {
            match listener.accept() {
                Ok((accepted, _)) => break accepted,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        };
        let name = |socket: &RawSocket| {
            let name = socket.tcp_congestion().unwrap();
            String::from_utf8(name).unwrap().trim_end_matches('\0').to_owned()
        };
        assert_eq!((name(&connecting.0), name(&accepted.0)), ("reno".into(), "reno".into()));
        let Family::Internet(congestion) = &listener.family else { panic!("a file") };
        congestion.restore(&accepted.0);
        let system = tcp_socket((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        assert_eq!(name(&accepted.0), name(&system));
    }

    #[cfg(all(target_os = "linux", not(xferd_portable)))]
    #[test]
    fn the_kernel_takes_no_more_for_a_peer_that_does_not_read_than_its_window_and_the_limit() {
        let listener = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let peer = TcpStream::connect(internet(&listener)).unwrap();
        let accepted = loop {
            if let Ok((accepted, _)) = listener.accept() {
                break accepted;
            }
        };
        let (connected, other) = pair();
        for (socket, peer) in [(accepted, peer), (connected, other)] {
            let part = vec![0; 16 << 10];
            let sent: usize = std::iter::from_fn(|| socket.send(&part, false).ok()).sum();
            // What it has not read lies in its own buffer, which does not grow meanwhile.
            let window = RawSocket::from(peer.try_clone().unwrap()).recv_buffer_size().unwrap();
            let most = UNSENT_BYTES_MAX as usize + window + part.len();
            assert!((UNSENT_BYTES_MAX as usize..=most).contains(&sent), "{sent} bytes, a window of {window}");
        }
    }

    fn blocked(answer: io::Result<usize>) -> bool {
        matches!(answer, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    fn patiently(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
        loop {
            match call() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                answer => return answer,
            }
        }
    }

    #[test]
    fn a_listener_without_connections_does_not_block() {
        let listener = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn both_families_accept_and_name_their_peer() {
        for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            let listener = match Listener::bind(SocketAddr::new(ip, 0)) {
                Err(_) if ip.is_ipv6() => return,
                listener => listener.unwrap(),
            };
            let peer = TcpStream::connect(internet(&listener)).unwrap();
            let (socket, from) = listener.accept().unwrap();
            assert_eq!(from, peer.local_addr().unwrap().into());
            assert_eq!(socket.peer().unwrap(), from);
        }
    }

    #[test]
    fn what_is_sent_is_received_and_nothing_blocks() {
        let (socket, mut peer) = pair();
        assert!(blocked(socket.recv(&mut [0; 8])));
        peer.write_all(b"question").unwrap();
        let mut heard = [0; 16];
        assert_eq!(patiently(|| socket.recv(&mut heard)).unwrap(), 8);
        assert_eq!(&heard[..8], b"question");
        assert_eq!(socket.send(b"ans", true).unwrap(), 3);
        assert_eq!(socket.send(b"wer", false).unwrap(), 3);
        socket.shutdown_write().unwrap();
        let mut answer = String::new();
        peer.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "answer");
        drop(peer);
        assert_eq!(patiently(|| socket.recv(&mut heard)).unwrap(), 0);
    }

    #[test]
    fn a_peer_that_is_gone_is_an_error_and_no_signal() {
        let (socket, peer) = pair();
        drop(peer);
        let error = loop {
            if let Err(error) = socket.send(b"anybody?", false) {
                break error.kind();
            }
        };
        assert!(matches!(error, io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset));
    }

    #[test]
    fn a_file_is_sent_from_any_offset_up_to_its_end() {
        let (socket, mut peer) = pair();
        let contents: Vec<u8> = (0..200_000_u32).map(|at| (at % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&contents).unwrap();
        let reader = std::thread::spawn(move || {
            let mut read = Vec::new();
            peer.read_to_end(&mut read).unwrap();
            read
        });
        let mut offset = 1;
        while offset < 200_000 {
            offset += patiently(|| socket.send_file(&file, offset, 1 << 20)).unwrap() as u64;
        }
        for past in [200_000, 1 << 40] {
            let error = patiently(|| socket.send_file(&file, past, 1)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
        drop(socket);
        assert!(reader.join().unwrap() == contents[1..]);
    }

    #[test]
    fn a_peer_that_does_not_read_blocks_a_file() {
        let (socket, _peer) = pair();
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 30).unwrap();
        while !blocked(socket.send_file(&file, 0, 1 << 20)) {}
    }

    #[test]
    fn a_mapping_is_sent_up_to_where_its_file_was_truncated() {
        let (socket, mut peer) = pair();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 100_000]).unwrap();
        let mapping = Mapping::map(&file, 100_000).unwrap();
        assert_eq!(socket.send_mapped(&mapping, 99_990, 100).unwrap(), 10);
        let mut read = [0; 10];
        peer.read_exact(&mut read).unwrap();
        assert_eq!(read, [7; 10]);
        file.set_len(0).unwrap();
        let error = socket.send_mapped(&mapping, 0, 100_000).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_refused_connection_is_told_by_the_socket() {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let refused = match Socket::connect(&address.into()) {
            Err(error) => error,
            Ok(socket) => loop {
                if let Some(error) = socket.take_error().unwrap() {
                    break error;
                }
            },
        };
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    #[cfg(all(target_os = "linux", not(xferd_portable)))]
    fn what_is_below_the_mark_is_not_reported_but_can_be_received() {
        use rustix::event::{PollFd, PollFlags, poll};

        let (socket, mut peer) = pair();
        let readable = || {
            let mut asked = [PollFd::new(&socket, PollFlags::IN)];
            poll(&mut asked, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 20_000_000 })).unwrap() == 1
        };
        socket.set_receive_mark(1000).unwrap();
        peer.write_all(&[1; 999]).unwrap();
        assert!(!readable());
        socket.set_receive_mark(999).unwrap();
        assert!(readable());
        socket.set_receive_mark(5000).unwrap();
        assert_eq!(patiently(|| socket.recv(&mut [0; 10])).unwrap(), 10);
        assert!(!readable());
        drop(peer);
        assert!(readable(), "nothing more will come");
    }

    #[test]
    fn a_widened_window_delays_nothing() {
        let (socket, mut peer) = pair();
        socket.widen_receive_window(4 << 20).unwrap();
        peer.write_all(b"x").unwrap();
        let mut byte = [0];
        assert_eq!(patiently(|| socket.recv(&mut byte)).unwrap(), 1);
    }
}
