//! The file that a Unix socket is, and who is at its other end.

use std::fs::{self, File, Permissions};
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use socket2::{Domain, SockAddr, Socket as RawSocket, Type};

use crate::net::{Access, Peer};

/// Bytes of a Unix socket's path: what `sockaddr_un` has room for, without the zero that ends it. 107 on Linux.
pub const UNIX_PATH_BYTES_MAX: usize =
    size_of::<libc::sockaddr_un>() - mem::offset_of!(libc::sockaddr_un, sun_path) - 1;

/// How long to wait for who else looks at sockets in the same folder: that takes him less than a millisecond.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// The file of a listening socket. It is removed with this, if it is still that file.
#[derive(Debug)]
pub(super) struct SocketFile {
    /// Absolute: the working directory may change.
    path: PathBuf,
    /// What no other file has while the socket is open: the kernel holds the file until then.
    device: u64,
    inode: u64,
}

/// A socket that listens at `path`, and its file.
///
/// What there is already is replaced if it is a socket on which nobody listens. Whoever looks and replaces holds a lock on
/// the folder meanwhile, so that of two who find the same socket deserted one listens and the other finds him there. A lock
/// on a file beside the socket would do as well, but nobody could ever remove that file: another may wait for its lock.
pub(super) fn listen(path: &Path, access: Access, backlog: i32) -> io::Result<(RawSocket, SocketFile)> {
    let address = sock_addr(path)?;
    let absolute = std::path::absolute(path)?;
    let _lock = FolderLock::take(&absolute)?;
    let socket = stream_socket()?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_deserted(path, &address)?;
            socket.bind(&address)
        }
        bound => bound,
    }
    .map_err(|error| about(path, &error))?;
    // Until it listens all who connect are refused. From here on the file goes if something fails.
    let file = SocketFile::made(absolute)?;
    if access.user.is_some() || access.group.is_some() {
        std::os::unix::fs::lchown(path, access.user, access.group)
            .map_err(|error| in_words(path, &error, "cannot be given to that user or group"))?;
    }
    fs::set_permissions(path, Permissions::from_mode(access.mode)).map_err(|error| about(path, &error))?;
    socket.listen(backlog)?;
    Ok((socket, file))
}

/// A socket that is connected to `path`, or about to be.
pub(super) fn connect(path: &Path) -> io::Result<RawSocket> {
    let address = sock_addr(path)?;
    let socket = stream_socket()?;
    match socket.connect(&address) {
        // There is nothing to wait for: the socket has not begun to connect (connect(2)).
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("too many connections wait at {} to be accepted; try again", path.display()),
        )),
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

impl SocketFile {
    fn made(path: PathBuf) -> io::Result<Self> {
        let made = fs::symlink_metadata(&path).map_err(|error| about(&path, &error))?;
        Ok(Self { device: made.dev(), inode: made.ino(), path })
    }

    fn is_ours(&self) -> bool {
        fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode))
    }
}

impl Drop for SocketFile {
    /// Without the lock it stays: another who wants to listen here finds it deserted.
    fn drop(&mut self) {
        let Ok(_lock) = FolderLock::take(&self.path) else { return };
        if self.is_ours() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes a socket on which nobody listens.
fn remove_deserted(path: &Path, address: &SockAddr) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(|error| about(path, &error))?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!(
                "{} is there and is no socket; choose another path, or remove it yourself",
                path.display()
            ),
        ));
    }
    match stream_socket()?.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| about(path, &error))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(in_words(path, &error, "belongs to somebody else, who may be listening"))
        }
        // It was connected, or would have been if fewer were waiting.
        _ => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("{} is in use: somebody listens there; stop him or choose another path", path.display()),
        )),
    }
}

/// Holds the others off who look at sockets in a folder. The kernel lifts it if this process ends.
struct FolderLock {
    _folder: File,
}

impl FolderLock {
    /// Waits at most [`LOCK_PATIENCE`]: anybody who may read the folder can lock it.
    fn take(path: &Path) -> io::Result<Self> {
        let folder_path = path.parent().unwrap_or(path);
        let folder = File::open(folder_path).map_err(|error| about(folder_path, &error))?;
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _folder: folder }),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(1));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        format!("{} is locked by another process; end that", folder_path.display()),
                    ));
                }
                Err(error) => return Err(about(folder_path, &error.into())),
            }
        }
    }
}

fn stream_socket() -> io::Result<RawSocket> {
    let socket = RawSocket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn sock_addr(path: &Path) -> io::Result<SockAddr> {
    let bytes = path.as_os_str().as_bytes();
    let wrong = |message: String| Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    if bytes.is_empty() || bytes.contains(&0) {
        return wrong(format!("{path:?} is no path for a socket; give the path of a file"));
    }
    if bytes.len() > UNIX_PATH_BYTES_MAX {
        return wrong(format!(
            "{} has {} bytes, and a socket's path at most {UNIX_PATH_BYTES_MAX}; choose a shorter one",
            path.display(),
            bytes.len()
        ));
    }
    SockAddr::unix(path)
}

fn about(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn in_words(path: &Path, error: &io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{} {what}: {error}", path.display()))
}

/// Who is at the other end.
#[cfg(not(target_vendor = "apple"))]
pub(super) fn peer(socket: &RawSocket) -> io::Result<Peer> {
    let mut found = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut size = size_of_val(&found) as libc::socklen_t;
    // SAFETY: the option fills in a `ucred`, whose address and size are given.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut size,
        )
    };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Peer::Unix { pid: u32::try_from(found.pid).unwrap_or_default(), uid: found.uid, gid: found.gid })
}

/// Who is at the other end.
#[cfg(target_vendor = "apple")]
pub(super) fn peer(socket: &RawSocket) -> io::Result<Peer> {
    let (mut uid, mut gid, mut pid): (libc::uid_t, libc::gid_t, libc::pid_t) = (0, 0, 0);
    let mut size = size_of_val(&pid) as libc::socklen_t;
    // SAFETY: both fill in what they are given the addresses of, and the size of the number.
    let (answer, _) = unsafe {
        (
            libc::getpeereid(socket.as_raw_fd(), &raw mut uid, &raw mut gid),
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_LOCAL,
                libc::LOCAL_PEERPID,
                (&raw mut pid).cast(),
                &raw mut size,
            ),
        )
    };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Peer::Unix { pid: u32::try_from(pid).unwrap_or_default(), uid, gid })
}

#[cfg(test)]
mod tests;
