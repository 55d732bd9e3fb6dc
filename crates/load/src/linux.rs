//! The system calls.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::{Errno, ReadWriteFlags};
use rustix::net::RecvFlags;
use rustix::time::ClockId;

use crate::{CLIENTS_MAX, Figures, Job, LoadError, Way};

/// What a receiver asks for at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// What a sender asks for at a time.
const SEND_BYTES: u64 = 4 << 20;
/// `O_DIRECT` takes buffers, offsets and lengths that are multiples of this on every file system in use.
const ALIGNMENT: usize = 4096;
/// malloc maps what is larger than its greatest threshold, and gives it back when it is freed. Smaller buffers would stay
/// with the process, and who measures its memory next would see them.
const MAPPED_BYTES_MIN: usize = 33 << 20;

/// Moves the job's copies once, by one thread for each sender and receiver, and removes them. `None` if the file system of
/// the folder does not take this way.
///
/// # Errors
/// [`LoadError::Clients`] for a count beyond the limit, [`LoadError::Io`] for whatever fails.
pub fn measure(job: &Job) -> Result<Option<Figures>, LoadError> {
    if !(1..=CLIENTS_MAX).contains(&job.clients) {
        return Err(LoadError::Clients(job.clients));
    }
    // Three descriptors for each copy. Where they do not suffice, the call that fails says so.
    let _ = xferd_os::raise_descriptor_limit();
    if !is_taken(job)? {
        return Ok(None);
    }
    let (figures, _) = run(job)?;
    Ok(Some(figures))
}

/// Tries the way with a file of one block.
fn is_taken(job: &Job) -> Result<bool, LoadError> {
    if job.way == Way::Discard {
        return Ok(true);
    }
    let path = job.folder.join("ceiling.probe");
    let attempt = Copy::create(path.clone(), job.way, ALIGNMENT as u64).and_then(|(_copy, file)| {
        let mut memory = vec![0; 2 * ALIGNMENT];
        write_at(&file, &aligned(&mut memory)[..ALIGNMENT], 0, job.way)
    });
    match attempt {
        Ok(()) => Ok(true),
        Err(error) if refuses(job.way, &error) => Ok(false),
        Err(error) => Err(failed(&path)(error)),
    }
}

/// Whether the error means that the file system has no such way.
fn refuses(way: Way, error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    match way {
        Way::Discard | Way::Plain => false,
        // A kernel that does not know the flag, and a file system that does not know the kernel's.
        Way::Prealloc | Way::DontCache => matches!(errno, Some(Errno::OPNOTSUPP)),
        Way::Direct => matches!(errno, Some(Errno::OPNOTSUPP | Errno::INVAL)),
    }
}

/// Moves the copies, and hands them over for a look before they are removed.
fn run(job: &Job) -> Result<(Figures, Vec<Copy>), LoadError> {
    let size = fs::metadata(&job.source).map_err(failed(&job.source))?.len();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed("a loopback listener"))?;
    let address = listener.local_addr().map_err(failed("a loopback listener"))?;
    let mut memory = vec![0; (job.clients * CHUNK_BYTES + ALIGNMENT).max(MAPPED_BYTES_MIN)];
    let buffers = aligned(&mut memory).chunks_exact_mut(CHUNK_BYTES).take(job.clients);
    let start = Instant::now();
    let (mut cpu, mut copies) = (Duration::ZERO, Vec::new());
    thread::scope(|scope| {
        let (mut senders, mut receivers) = (Vec::new(), Vec::new());
        for (number, buffer) in buffers.enumerate() {
            let (to, from) = connection(&listener, address).map_err(failed("a loopback connection"))?;
            let path = job.folder.join(format!("ceiling.{number}"));
            let receive = move || receive(&from, buffer, path, size, job.way);
            let send = move || send(&to, &job.source, size);
            let spawn = || Ok((spawn(scope, receive)?, spawn(scope, send)?));
            let (receiver, sender) = spawn().map_err(failed("a thread"))?;
            receivers.push(receiver);
            senders.push(sender);
        }
        for receiver in receivers {
            let (copy, spent) = join(receiver).map_err(failed(&job.folder))?;
            copies.extend(copy);
            cpu += spent;
        }
        for sender in senders {
            cpu += join(sender).map_err(failed(&job.source))?;
        }
        Ok(())
    })?;
    let elapsed = start.elapsed();
    Ok((Figures { bytes: size * job.clients as u64, elapsed, cpu }, copies))
}

fn connection(listener: &TcpListener, address: SocketAddr) -> io::Result<(TcpStream, TcpStream)> {
    let sender = TcpStream::connect(address)?;
    Ok((sender, listener.accept()?.0))
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    work: impl FnOnce() -> io::Result<T> + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, io::Result<T>>> {
    thread::Builder::new().name("xferd-ceiling".into()).spawn_scoped(scope, work)
}

fn join<T>(thread: ScopedJoinHandle<'_, io::Result<T>>) -> io::Result<T> {
    thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
}

/// Sends the whole file, then waits for the receiver's one-byte answer.
fn send(mut socket: &TcpStream, source: &Path, size: u64) -> io::Result<Duration> {
    let file = File::open(source)?;
    let mut offset = 0;
    while offset < size {
        let len = (size - offset).min(SEND_BYTES);
        if rustix::fs::sendfile(socket, &file, Some(&mut offset), len as usize)? == 0 {
            return Err(io::Error::other("it became shorter"));
        }
    }
    socket.read_exact(&mut [0])?;
    Ok(cpu_of_thread())
}

/// Stores what one connection sends.
fn receive(
    mut socket: &TcpStream,
    buffer: &mut [u8],
    path: PathBuf,
    size: u64,
    way: Way,
) -> io::Result<(Option<Copy>, Duration)> {
    let (copy, file) = match way {
        Way::Discard => (None, None),
        _ => Copy::create(path, way, size).map(|(copy, file)| (Some(copy), Some(file)))?,
    };
    let mut offset = 0;
    while offset < size {
        let want = (size - offset).min(CHUNK_BYTES as u64) as usize;
        let (got, _) = rustix::net::recv(socket, &mut buffer[..want], RecvFlags::WAITALL)?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(file) = &file {
            let len = if way == Way::Direct { got.next_multiple_of(ALIGNMENT) } else { got };
            write_at(file, &buffer[..len], offset, way)?;
        }
        offset += got as u64;
    }
    if let (Some(file), Way::Direct) = (&file, way) {
        file.set_len(size)?;
    }
    socket.write_all(b"k")?;
    Ok((copy, cpu_of_thread()))
}

fn write_at(file: &File, mut bytes: &[u8], mut offset: u64, way: Way) -> io::Result<()> {
    let flags = if way == Way::DontCache { RWF_DONTCACHE } else { ReadWriteFlags::empty() };
    while !bytes.is_empty() {
        let written = rustix::io::pwritev2(file, &[IoSlice::new(bytes)], offset, flags)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written.min(bytes.len())..];
        offset += written as u64;
    }
    Ok(())
}

/// The part of `memory` that starts where a block may.
fn aligned(memory: &mut [u8]) -> &mut [u8] {
    let unaligned = memory.as_ptr().align_offset(ALIGNMENT);
    &mut memory[unaligned..]
}

fn cpu_of_thread() -> Duration {
    let spent = rustix::time::clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(spent.tv_sec as u64, spent.tv_nsec as u32)
}

fn failed(what: impl AsRef<Path>) -> impl FnOnce(io::Error) -> LoadError {
    let what = what.as_ref().display().to_string();
    move |source| LoadError::Io { what, source }
}

/// A file that is gone when this is.
struct Copy(PathBuf);

impl Copy {
    fn create(path: PathBuf, way: Way, size: u64) -> io::Result<(Self, File)> {
        let flags = if way == Way::Direct { OFlags::DIRECT } else { OFlags::empty() };
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).custom_flags(flags.bits() as i32).open(&path)?;
        let copy = Self(path);
        if way != Way::Plain && size > 0 {
            rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, size)?;
        }
        Ok((copy, file))
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // Who measures empties the folder afterwards; a copy that stays until then changes no figure.
        let _ = fs::remove_file(&self.0);
    }
}

/// Of linux/fs.h. rustix has no name for it, and hands it to the kernel as it is.
const RWF_DONTCACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

#[cfg(test)]
mod tests {
    use super::*;

    /// No multiple of a block, nor of a chunk.
    const SIZE: usize = 5_000_001;

    fn job(folder: &Path, clients: usize, way: Way) -> Job {
        let source = folder.join("source");
        let content: Vec<u8> = (0..SIZE as u32).map(|at| (at % 251) as u8).collect();
        fs::write(&source, content).unwrap();
        let folder = folder.join("copies");
        fs::create_dir(&folder).unwrap();
        Job { source, folder, clients, way }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn every_way_that_is_taken_stores_equal_copies_and_removes_them() {
        for way in Way::ALL {
            let folder = tempfile::tempdir().unwrap();
            let job = job(folder.path(), 3, way);
            if !is_taken(&job).unwrap() {
                continue;
            }
            let (figures, copies) = run(&job).unwrap();
            assert_eq!(figures.bytes, 3 * SIZE as u64);
            assert!(figures.elapsed > Duration::ZERO && figures.cpu > Duration::ZERO);
            assert_eq!(names(&job.folder).len(), if way == Way::Discard { 0 } else { 3 });
            if way != Way::Discard {
                let content = fs::read(&job.source).unwrap();
                assert!(copies.iter().all(|copy| fs::read(&copy.0).unwrap() == content), "{}", way.name());
            }
            drop(copies);
            assert!(names(&job.folder).is_empty());
        }
    }

    #[test]
    fn an_empty_file_is_a_copy_too() {
        let folder = tempfile::tempdir().unwrap();
        let job = job(folder.path(), 2, Way::Prealloc);
        fs::write(&job.source, "").unwrap();
        let (figures, copies) = run(&job).unwrap();
        assert_eq!((figures.bytes, names(&job.folder).len(), copies.len()), (0, 2, 2));
    }

    #[test]
    fn a_way_that_the_file_system_does_not_take_is_told_apart_from_a_failure() {
        let answered = |errno: Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        assert!(refuses(Way::DontCache, &answered(Errno::OPNOTSUPP)));
        assert!(refuses(Way::Direct, &answered(Errno::INVAL)));
        assert!(!refuses(Way::Plain, &answered(Errno::OPNOTSUPP)));
        assert!(Way::ALL.into_iter().all(|way| !refuses(way, &answered(Errno::NOSPC))));
    }

    #[test]
    fn clients_are_limited() {
        let folder = tempfile::tempdir().unwrap();
        let at = |clients| measure(&Job { clients, ..job_of_one_byte(folder.path()) });
        for clients in [0, CLIENTS_MAX + 1] {
            assert!(matches!(at(clients), Err(LoadError::Clients(refused)) if refused == clients));
        }
        assert_eq!(at(CLIENTS_MAX).unwrap().unwrap().bytes, CLIENTS_MAX as u64);
    }

    fn job_of_one_byte(folder: &Path) -> Job {
        fs::write(folder.join("source"), "x").unwrap();
        Job { source: folder.join("source"), folder: folder.to_owned(), clients: 1, way: Way::Discard }
    }

    #[test]
    fn what_cannot_be_read_or_written_is_named_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let good = job(folder.path(), 2, Way::Plain);
        for (broken, word) in [
            (Job { source: folder.path().join("missing"), ..good.clone() }, "missing"),
            (Job { folder: folder.path().join("nowhere"), ..good.clone() }, "nowhere"),
        ] {
            let error = measure(&broken).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
        fs::write(good.folder.join("ceiling.1"), "in the way").unwrap();
        assert!(matches!(measure(&good), Err(LoadError::Io { .. })));
        assert_eq!(names(&good.folder), ["ceiling.1"]);
    }

    #[test]
    fn ways_are_found_by_their_names() {
        for way in Way::ALL {
            assert_eq!(Way::from_name(way.name()), Some(way));
        }
        assert_eq!(Way::from_name("splice"), None);
    }
}
