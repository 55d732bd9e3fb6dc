//! Operations as drivers tell them apart: what they need, and what is to be done.

use std::net::SocketAddr;

use crate::receive::Receive;
use crate::transmit::Transmit;
use crate::workers::Work;
use crate::{ListenerRef, Op, SockRef};

/// What an operation needs for itself: one at a time may be under way there.
pub(crate) enum Direction {
    Accepting(ListenerRef),
    Receiving(SockRef),
    Sending(SockRef),
    None,
}

/// What an operation asks for.
pub(crate) enum Order<J> {
    Accept(ListenerRef),
    Connect(SocketAddr),
    Receive(SockRef, Receive),
    Transmit(SockRef, Transmit),
    Work(Work<J>),
    Close { sock: SockRef, discards_unsent: bool },
}

impl<J> Op<J> {
    pub(crate) fn direction(&self) -> Direction {
        match self {
            Op::Accept(listener) => Direction::Accepting(*listener),
            Op::RecvLarge { sock, .. } | Op::RecvSmall { sock, .. } => Direction::Receiving(*sock),
            Op::Send { sock, .. }
            | Op::SendFile { sock, .. }
            | Op::SendMapped { sock, .. }
            | Op::ShutdownWrite(sock) => Direction::Sending(*sock),
            Op::Connect(_) | Op::WriteAt { .. } | Op::Offload(_) | Op::Close(_) | Op::Reset(_) => {
                Direction::None
            }
        }
    }

    pub(crate) fn into_order(self) -> Order<J> {
        match self {
            Op::Accept(listener) => Order::Accept(listener),
            Op::Connect(address) => Order::Connect(address),
            Op::RecvLarge { sock, offset, bytes_due } => {
                Order::Receive(sock, Receive::Large { offset, bytes_due })
            }
            Op::RecvSmall { sock, bytes_max } => Order::Receive(sock, Receive::Small { bytes_max }),
            Op::Send { sock, buf, more } => Order::Transmit(sock, Transmit::Bytes { buf, more }),
            Op::SendFile { sock, file, offset, len } => {
                Order::Transmit(sock, Transmit::File { file, offset, len })
            }
            Op::SendMapped { sock, mapping, offset, len } => {
                Order::Transmit(sock, Transmit::Mapped { mapping, offset, len })
            }
            Op::ShutdownWrite(sock) => Order::Transmit(sock, Transmit::End),
            Op::WriteAt { sink, offset, buf } => Order::Work(Work::WriteAt { sink, offset, buf }),
            Op::Offload(job) => Order::Work(Work::Run(job)),
            Op::Close(sock) => Order::Close { sock, discards_unsent: false },
            Op::Reset(sock) => Order::Close { sock, discards_unsent: true },
        }
    }
}
