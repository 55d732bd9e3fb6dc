//! Sockets of a simulated network.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use super::mapping::Mapping;
use super::network::{ConnId, Sending};
use super::world::{MachineId, ProcessId, World, error};
use super::{File, world};
pub use crate::address::{Access, Address, Peer};

/// A bound, listening socket.
#[derive(Debug)]
pub struct Listener {
    process: ProcessId,
    address: SocketAddr,
}

impl Listener {
    /// Listens on `address`.
    ///
    /// # Errors
    /// `AddrInUse`; `Unsupported` for a Unix socket.
    pub fn bind(address: impl Into<Address>) -> io::Result<Listener> {
        Self::bind_with(&address.into(), Access::default())
    }

    /// The same: nobody is kept off here.
    ///
    /// # Errors
    /// As for [`Listener::bind`].
    pub fn bind_with(address: &Address, _access: Access) -> io::Result<Listener> {
        let address = address.internet().ok_or(io::ErrorKind::Unsupported)?;
        world(|world| {
            let process = world.process_here();
            world.call(process).map_err(error)?;
            if !world.network.listen(address, process) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            Ok(Listener { process, address })
        })
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// None.
    pub fn local_addr(&self) -> io::Result<Address> {
        Ok(self.address.into())
    }

    /// Takes one connection, and tells who is there.
    ///
    /// # Errors
    /// `WouldBlock` if none is waiting.
    pub fn accept(&self) -> io::Result<(Socket, Peer)> {
        world(|world| {
            let Some((conn, peer)) = world.network.accept(self.address) else {
                return Err(io::ErrorKind::WouldBlock.into());
            };
            world.call(self.process).map_err(error)?;
            world.note(format_args!("{:?}: accepts connection {conn}", self.process));
            Ok((
                Socket { process: self.process, conn, side: 1, with_reset: AtomicBool::new(false) },
                peer.into(),
            ))
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        world(|world| world.network.unlisten(self.address, self.process, world.now_ns));
    }
}

/// A connection, or one that is being made.
#[derive(Debug)]
pub struct Socket {
    process: ProcessId,
    conn: ConnId,
    side: usize,
    with_reset: AtomicBool,
}

impl Socket {
    /// Starts to connect. [`Socket::connected`] says how that has ended.
    ///
    /// # Errors
    /// `Unsupported` for a Unix socket; none of the network's.
    pub fn connect(address: &Address) -> io::Result<Socket> {
        let address = address.internet().ok_or(io::ErrorKind::Unsupported)?;
        world(|world| {
            let process = world.process_here();
            world.call(process).map_err(error)?;
            let machine = world.machine_here();
            let (faults, from) = {
                let machine = world.machine(machine);
                (machine.faults, SocketAddr::new(machine.address, 40_000))
            };
            let World { network, dice, now_ns, .. } = world;
            let conn = network.connect(process, from, address, faults, *now_ns, dice);
            world.note(format_args!("{process:?}: connects to {address}: connection {conn}"));
            Ok(Socket { process, conn, side: 0, with_reset: AtomicBool::new(false) })
        })
    }

    /// The error that befell connecting, if it has ended with one.
    ///
    /// # Errors
    /// None.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.connected().and_then(Result::err))
    }

    /// Who is at the other end.
    ///
    /// # Errors
    /// `NotConnected` before a connection is made.
    pub fn peer(&self) -> io::Result<Peer> {
        self.connected().ok_or(io::ErrorKind::NotConnected)??;
        let peer = world(|world| world.network.peer(self.conn, self.side));
        peer.map(Peer::from).ok_or(io::ErrorKind::NotConnected.into())
    }

    /// How connecting has ended; `None` while it is under way.
    fn connected(&self) -> Option<io::Result<()>> {
        world(|world| {
            let is_there = self.peer_has_power(world);
            let settled = world.network.connected(self.conn, is_there, world.now_ns)?;
            Some(settled.map_err(Into::into))
        })
    }

    /// Would have the kernel hold more for this socket.
    ///
    /// # Errors
    /// None.
    pub fn widen_receive_window(&self, _bytes: u32) -> io::Result<()> {
        Ok(())
    }

    /// Would have the kernel report this socket later.
    ///
    /// # Errors
    /// None.
    pub fn set_receive_mark(&self, _bytes: u32) -> io::Result<()> {
        Ok(())
    }

    /// Receives into `buffer`; 0 bytes is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock`, or what ended the connection.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        world(|world| {
            let World { network, dice, now_ns, .. } = world;
            let received = network.recv(self.conn, self.side, buffer, *now_ns, dice);
            if received == Err(io::ErrorKind::WouldBlock) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            world.call(self.process).map_err(error)?;
            world.note(format_args!("{:?}: receives on {}: {received:?}", self.process, self.conn));
            received.map_err(Into::into)
        })
    }

    /// Sends the front of `bytes`; returns how many went.
    ///
    /// # Errors
    /// `WouldBlock`, or what ended the connection.
    pub fn send(&self, bytes: &[u8], _more: bool) -> io::Result<usize> {
        world(|world| {
            if !world.process(self.process).is_alive {
                return Err(error(libc::EIO));
            }
            let is_there = self.peer_has_power(world);
            let World { network, dice, now_ns, .. } = world;
            let (sending, fault) = network.send(self.conn, self.side, bytes, is_there, *now_ns, dice);
            if let Some(fault) = fault {
                world.count(fault);
                world.note(format_args!("connection {}: {fault}", self.conn));
            }
            match sending {
                Sending::Full => Err(io::ErrorKind::WouldBlock.into()),
                Sending::Broken(kind) => Err(kind.into()),
                Sending::Sent(sent) => {
                    // Last, so that a process that finds its end by this call has sent it or not.
                    world.call(self.process).map_err(error)?;
                    world.note(format_args!("{:?}: sends {sent} bytes on {}", self.process, self.conn));
                    Ok(sent)
                }
            }
        })
    }

    /// Sends up to `len` bytes of `file` from `offset` on; returns how many went.
    ///
    /// # Errors
    /// As for [`Socket::send`], or `UnexpectedEof` if the file ends at or before `offset`.
    pub fn send_file(&self, file: &File, offset: u64, len: usize) -> io::Result<usize> {
        let bytes = file.bytes_to_send(offset, len)?;
        if bytes.is_empty() && len > 0 {
            Err(io::ErrorKind::UnexpectedEof.into())
        } else {
            self.send(&bytes, false)
        }
    }

    /// Sends up to `len` bytes of `mapping` from `offset` on; returns how many went.
    ///
    /// # Errors
    /// As for [`Socket::send_file`].
    pub fn send_mapped(&self, mapping: &Mapping, offset: u64, len: usize) -> io::Result<usize> {
        self.send_file(mapping.file(), offset, len)
    }

    /// Whether there is something to receive, be it the end.
    pub fn can_recv(&self) -> bool {
        world(|world| world.network.can_recv(self.conn, self.side, world.now_ns))
    }

    /// Whether sending can be tried.
    pub fn can_send(&self) -> bool {
        world(|world| world.network.can_send(self.conn, self.side, world.now_ns))
    }

    /// Ends the stream towards the peer; receiving goes on.
    ///
    /// # Errors
    /// None of the network's.
    pub fn shutdown_write(&self) -> io::Result<()> {
        world(|world| {
            world.call(self.process).map_err(error)?;
            let World { network, dice, now_ns, .. } = world;
            network.shutdown(self.conn, self.side, *now_ns, dice);
            Ok(())
        })
    }

    /// When the socket is dropped, resets the connection.
    ///
    /// # Errors
    /// None.
    pub fn discard_unsent(&self) -> io::Result<()> {
        self.with_reset.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn peer_has_power(&self, world: &World) -> bool {
        let Some(peer) = world.network.peer(self.conn, self.side) else { return false };
        let machine = world.machines.iter().position(|machine| machine.address == peer.ip());
        machine.map(MachineId).is_some_and(|machine| world.machines[machine.0].has_power)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        world(|world| world.network.close(self.conn, self.side, *self.with_reset.get_mut(), world.now_ns));
    }
}
