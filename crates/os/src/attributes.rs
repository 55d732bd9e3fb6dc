//! What there is to know about a file or a directory.

#[cfg(not(xferd_sim))]
use rustix::fs::{FileType, Stat};

/// Permission bits together with setuid, setgid and sticky.
pub(crate) const MODE_BITS: u32 = 0o7777;

/// What a name or an open file stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link itself, not what it points to.
    Symlink,
    /// A device, a pipe or a socket.
    Other,
}

/// A point in time: seconds since 1970-01-01 00:00 UTC, negative before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// The rest, less than 1,000,000,000.
    pub nanoseconds: u32,
}

/// What `stat` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// What it is.
    pub kind: Kind,
    /// Bytes of content.
    pub size: u64,
    /// Permission bits with setuid, setgid and sticky: at most `0o7777`.
    pub mode: u32,
    /// When the content last changed.
    pub mtime: Timestamp,
    /// When content or attributes last changed. Nobody can set it.
    pub ctime: Timestamp,
    /// Number of the inode, unique on its device.
    pub inode: u64,
    /// The file system it is on.
    pub device: u64,
    /// Names it has. 0 for an open file whose last name was removed.
    pub links: u64,
}

impl Attributes {
    #[cfg(not(xferd_sim))]
    // The fields of `stat` differ in width and sign between systems.
    #[allow(clippy::unnecessary_cast)]
    pub(crate) fn of(stat: &Stat) -> Self {
        Self {
            kind: Kind::of(FileType::from_raw_mode(stat.st_mode)),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mode: stat.st_mode as u32 & MODE_BITS,
            mtime: Timestamp { seconds: stat.st_mtime as i64, nanoseconds: stat.st_mtime_nsec as u32 },
            ctime: Timestamp { seconds: stat.st_ctime as i64, nanoseconds: stat.st_ctime_nsec as u32 },
            inode: stat.st_ino as u64,
            device: stat.st_dev as u64,
            links: stat.st_nlink as u64,
        }
    }

    /// Whether both are of one file, whatever happened to it in between.
    pub fn is_same_file(&self, other: &Self) -> bool {
        self.inode == other.inode && self.device == other.device
    }
}

impl Kind {
    #[cfg(not(xferd_sim))]
    pub(crate) fn of(file_type: FileType) -> Self {
        match file_type {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Symlink,
            _ => Self::Other,
        }
    }
}
