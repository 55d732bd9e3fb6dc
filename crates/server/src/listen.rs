//! Where a server listens, and for what.

use std::fmt;
use std::io;

use xferd_engine::Failure;
use xferd_os::net::{Access, Address, Listener};
use xferd_wire::ErrorCode;

use crate::server::DEFAULT_PORT;

/// The port that keys are served on unless told otherwise: beside Redis's.
pub const KV_DEFAULT_PORT: u16 = 6390;

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Files are transferred.
    Transfer,
    /// Keys are set and got, in RESP.
    Kv,
}

impl Protocol {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Transfer, Self::Kv];

    /// The port that is meant where none is said.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Transfer => DEFAULT_PORT,
            Self::Kv => KV_DEFAULT_PORT,
        }
    }

    /// What URLs of it begin with; over a Unix socket `+unix` follows.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Transfer => "xfer",
            Self::Kv => "kv",
        }
    }
}

/// An address to listen on. It reads as a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// What is spoken there.
    pub protocol: Protocol,
    /// Where; port 0 takes a free one.
    pub address: Address,
    /// Who may connect, if it is a Unix socket.
    pub access: Access,
}

impl Listen {
    /// For transfers; on a Unix socket for those of the user who serves.
    pub fn transfer(address: impl Into<Address>) -> Self {
        Self { protocol: Protocol::Transfer, address: address.into(), access: Access::default() }
    }

    /// For keys; on a Unix socket for those of the user who serves.
    pub fn kv(address: impl Into<Address>) -> Self {
        Self { protocol: Protocol::Kv, ..Self::transfer(address) }
    }

    /// A listener, and where it is: the same, but with the port that was taken.
    ///
    /// # Errors
    /// What the system says, with what can be done about it.
    pub(crate) fn bind(&self) -> Result<(Listener, Self), Failure> {
        let listener =
            Listener::bind_with(&self.address, self.access).map_err(|error| self.failure(&error))?;
        let address = listener.local_addr().map_err(|error| Failure::io("listening", &error))?;
        Ok((listener, Self { address, ..self.clone() }))
    }

    fn failure(&self, error: &io::Error) -> Failure {
        match (&self.address, error.kind()) {
            (Address::Internet(address), io::ErrorKind::AddrInUse) => Failure::new(
                ErrorCode::Io,
                format!(
                    "{address} is in use; stop what listens there or choose another port with --port (0: any free one)"
                ),
            ),
            (Address::Unix(_), io::ErrorKind::InvalidInput) => {
                Failure::new(ErrorCode::InvalidArgument, format!("cannot listen on {self}: {error}"))
            }
            _ => Failure::io(&format!("cannot listen on {self}"), error),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.address.url(self.protocol.scheme()))
    }
}
