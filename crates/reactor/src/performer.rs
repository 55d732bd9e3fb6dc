//! What drivers do alike with an operation that they are asked for.

use std::io;

use xferd_os::net::Address;

use crate::receive::Receive;
use crate::transmit::Transmit;
use crate::workers::Work;
use crate::{Carried, ListenerRef, Op, SockRef, Token};

/// What each driver does in its own way about what it is asked for.
pub(crate) trait Performer<J> {
    fn is_accepting(&mut self, listener: ListenerRef) -> bool;
    fn is_receiving(&mut self, sock: SockRef) -> bool;
    fn is_sending(&mut self, sock: SockRef) -> bool;

    fn accept(&mut self, token: Token, listener: ListenerRef);
    fn connect(&mut self, token: Token, address: &Address);
    fn receive(&mut self, token: Token, sock: SockRef, receive: Receive);
    fn transmit(&mut self, token: Token, sock: SockRef, transmit: Transmit);
    fn work(&mut self, token: Token, work: Work<J>);
    fn close(&mut self, token: Token, sock: SockRef, discards_unsent: bool);

    /// An operation has come to nothing.
    fn end(&mut self, token: Token, error: io::Error, carried: Carried<J>);

    /// Whether the direction that `op` needs is taken by another one: one at a time may be under way there.
    fn is_taken(&mut self, op: &Op<J>) -> bool {
        match op {
            Op::Accept(listener) => self.is_accepting(*listener),
            Op::RecvLarge { sock, .. } | Op::RecvSmall { sock, .. } => self.is_receiving(*sock),
            Op::Send { sock, .. }
            | Op::SendFile { sock, .. }
            | Op::SendMapped { sock, .. }
            | Op::ShutdownWrite(sock) => self.is_sending(*sock),
            Op::Connect(_) | Op::WriteAt { .. } | Op::Offload(_) | Op::Close(_) | Op::Reset(_) => false,
        }
    }

    /// Starts an operation whose direction is free.
    fn start(&mut self, token: Token, op: Op<J>) {
        match op {
            Op::Accept(listener) => self.accept(token, listener),
            Op::Connect(address) => self.connect(token, &address),
            Op::RecvLarge { sock, offset, bytes_due } => {
                self.start_receiving(token, sock, Receive::Large { offset, bytes_due });
            }
            Op::RecvSmall { sock, bytes_max } => {
                self.start_receiving(token, sock, Receive::Small { bytes_max });
            }
            Op::Send { sock, buf, more } => self.transmit(token, sock, Transmit::Bytes { buf, more }),
            Op::SendFile { sock, file, offset, len } => {
                self.transmit(token, sock, Transmit::File { file, offset, len });
            }
            Op::SendMapped { sock, mapping, offset, len } => {
                self.transmit(token, sock, Transmit::Mapped { mapping, offset, len });
            }
            Op::ShutdownWrite(sock) => self.transmit(token, sock, Transmit::End),
            Op::WriteAt { sink, offset, buf } => self.work(token, Work::WriteAt { sink, offset, buf }),
            Op::Offload(job) => self.work(token, Work::Run(job)),
            Op::Close(sock) => self.close(token, sock, false),
            Op::Reset(sock) => self.close(token, sock, true),
        }
    }

    fn start_receiving(&mut self, token: Token, sock: SockRef, receive: Receive) {
        match receive.check() {
            Ok(()) => self.receive(token, sock, receive),
            Err(error) => self.end(token, error, Carried::Nothing),
        }
    }
}
