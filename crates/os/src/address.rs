//! Where sockets listen, and who connects to them.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// Where a stream socket listens, or connects to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// TCP.
    Internet(SocketAddr),
    /// A Unix socket, which is a file: what may connect there may write to it.
    Unix(Arc<Path>),
}

impl Address {
    /// Whether only this machine reaches it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Internet(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// As the URL of what is spoken there: `xfer://127.0.0.1:7400`, `xfer+unix:///run/xferd.sock`.
    pub fn url(&self, scheme: &str) -> String {
        match self {
            Self::Internet(address) => format!("{scheme}://{address}"),
            Self::Unix(path) => format!("{scheme}+unix://{}", path.display()),
        }
    }

    /// The address if it is one of TCP.
    pub fn internet(&self) -> Option<SocketAddr> {
        match self {
            Self::Internet(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Internet(address)
    }
}

impl From<([u8; 4], u16)> for Address {
    fn from(address: ([u8; 4], u16)) -> Self {
        Self::Internet(address.into())
    }
}

impl From<&Path> for Address {
    fn from(path: &Path) -> Self {
        Self::Unix(path.into())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internet(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Somebody at this address.
    Internet(SocketAddr),
    /// A process on this machine, as the kernel knew it when it connected, or began to listen (`SO_PEERCRED` in unix(7)).
    Unix {
        /// Its number; 0 if it has none here, as in another PID namespace.
        pid: u32,
        /// The user it ran as.
        uid: u32,
        /// The group it ran as.
        gid: u32,
    },
    /// Nobody else: what is said comes from the program itself.
    SameProcess,
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::Internet(address)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internet(address) => address.fmt(formatter),
            Self::Unix { pid, uid, .. } => write!(formatter, "unix:pid={pid},uid={uid}"),
            Self::SameProcess => formatter.write_str("same-process"),
        }
    }
}

/// Who may connect to a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The permissions of its file: whoever may write to it may connect. Linux heeds them, and those of the folders above;
    /// not every system does.
    pub mode: u32,
    /// The user that the file belongs to, if not the one who listens.
    pub user: Option<u32>,
    /// The group that the file belongs to, if not the one of who listens.
    pub group: Option<u32>,
}

impl Default for Access {
    /// Only the user who listens, as Redis has it: nobody else is asked who he is.
    fn default() -> Self {
        Self { mode: 0o600, user: None, group: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_peers_read_as_people_write_them() {
        let internet: SocketAddr = ([127, 0, 0, 1], 1234).into();
        assert_eq!(Address::from(internet).to_string(), "127.0.0.1:1234");
        assert_eq!(Address::from(Path::new("/run/x.sock")).to_string(), "unix:/run/x.sock");
        assert_eq!(Address::from(internet).url("xfer"), "xfer://127.0.0.1:1234");
        assert_eq!(Address::from(Path::new("/run/x.sock")).url("kv"), "kv+unix:///run/x.sock");
        assert_eq!(Peer::from(internet).to_string(), "127.0.0.1:1234");
        assert_eq!(Peer::Unix { pid: 12, uid: 0, gid: 3 }.to_string(), "unix:pid=12,uid=0");
        assert_eq!(Peer::SameProcess.to_string(), "same-process");
    }

    #[test]
    fn a_peer_takes_no_more_room_than_an_internet_address() {
        assert_eq!(size_of::<Peer>(), size_of::<SocketAddr>());
    }

    #[test]
    fn loopback_and_files_are_local() {
        for (address, is_local) in
            [("127.0.0.9:1", true), ("[::ffff:127.0.0.1]:1", true), ("10.0.0.1:1", false)]
        {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(Address::from(address).is_local(), is_local, "{address}");
        }
        assert!(Address::from(Path::new("/run/x.sock")).is_local());
    }
}
