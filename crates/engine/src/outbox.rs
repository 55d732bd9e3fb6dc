//! What waits to be sent on one connection: bytes and file ranges, in order.

use std::collections::VecDeque;
use std::io;

use xferd_os::seeded;
use xferd_reactor::{Op, SendBuf, SockRef};

use crate::budget::Share;
use crate::session::SendSource;

/// Bytes of zeros sent at a time to fill up an extent whose source ended early.
const ZEROS_BYTES: u64 = 64 << 10;

/// Bytes and file ranges that may wait side by side before nothing more is read: each range keeps a descriptor open, and
/// a session queues few of them ahead.
const PARTS_MAX: usize = 64;

/// Frames up to this size are appended to the bytes queued before them instead of costing a system call of their own.
const COALESCED_BYTES_MAX: usize = 256 << 10;

pub(crate) struct Outbox {
    queue: VecDeque<Outgoing>,
    /// An operation is in flight for the front.
    sending: bool,
    queued_bytes: u64,
    /// What of it is kept in memory: no file ranges.
    kept: Share,
    /// It was above the high mark and has not been below the low one since.
    congested: bool,
}

enum Outgoing {
    Bytes(SendBuf),
    /// Bytes of which the driver has had a part; `None` while it has them.
    Begun(Option<SendBuf>),
    Extent {
        key: u32,
        source: SendSource,
        offset: u64,
        left: u64,
    },
    Zeros {
        left: u64,
    },
}

/// What the end of a send means.
pub(crate) enum Sent {
    /// Of other bytes.
    Part,
    /// So many bytes of an extent have left.
    Extent { key: u32, bytes: u64 },
    /// The extent's source ended early.
    SourceShort(u32),
    /// The connection is gone.
    Broken(io::Error),
}

impl Outbox {
    /// An empty one, whose bytes count in `kept`.
    pub(crate) fn new(kept: Share) -> Self {
        Self { queue: VecDeque::new(), sending: false, queued_bytes: 0, kept, congested: false }
    }

    pub(crate) fn queued_bytes(&self) -> u64 {
        self.queued_bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Keeps no room for what may come.
    pub(crate) fn shrink(&mut self) {
        self.queue.shrink_to_fit();
    }

    /// Whether so much is kept that nothing should be read that could cause more.
    ///
    /// File ranges don't count by their bytes: they cost no memory, and whoever sends or gets a large file has to hear,
    /// and say, that it is not wanted any more.
    pub(crate) fn is_full(&self) -> bool {
        self.kept.bytes() >= self.kept.budget().high_bytes() || self.queue.len() >= PARTS_MAX
    }

    pub(crate) fn push_bytes(&mut self, bytes: SendBuf) {
        let len = bytes.remaining().len();
        if !seeded!(AnswersUncounted) {
            self.kept.set(self.kept.bytes() + len as u64);
            self.count(len as u64);
        }
        if let Some(Outgoing::Bytes(last)) = self.queue.back_mut() {
            if last.remaining().len() + len <= COALESCED_BYTES_MAX {
                last.append(|last| last.extend_from_slice(bytes.remaining()));
                return;
            }
        }
        self.queue.push_back(Outgoing::Bytes(bytes));
    }

    pub(crate) fn push_extent(&mut self, key: u32, source: SendSource, offset: u64, len: u64) {
        self.count(len);
        self.queue.push_back(Outgoing::Extent { key, source, offset, left: len });
    }

    fn count(&mut self, bytes: u64) {
        self.queued_bytes += bytes;
        self.congested |= self.queued_bytes >= self.kept.budget().high_bytes();
    }

    /// A session was told that enough is queued, and waits to hear that it is not.
    pub(crate) fn note_congestion(&mut self) {
        self.congested = true;
    }

    /// The next operation, if there is one and none is in flight.
    pub(crate) fn next_op<J>(&mut self, sock: SockRef) -> Option<Op<J>> {
        if self.sending {
            return None;
        }
        let more = self.queue.len() > 1;
        let front = self.queue.front_mut()?;
        if let Outgoing::Bytes(bytes) = front {
            *front = Outgoing::Begun(Some(std::mem::take(bytes)));
        }
        let op = match front {
            Outgoing::Bytes(_) => return None,
            Outgoing::Begun(buf) => Op::Send { sock, buf: buf.take()?, more },
            Outgoing::Extent { source, offset, left, .. } => {
                let len = u32::try_from(*left).unwrap_or(u32::MAX);
                match source {
                    SendSource::File(file) => Op::SendFile { sock, file: file.clone(), offset: *offset, len },
                    SendSource::Mapping(mapping) => {
                        Op::SendMapped { sock, mapping: mapping.clone(), offset: *offset, len }
                    }
                }
            }
            Outgoing::Zeros { left } => {
                let len = usize::try_from((*left).min(ZEROS_BYTES)).unwrap_or_default();
                Op::Send { sock, buf: vec![0; len].into(), more }
            }
        };
        self.sending = true;
        Some(op)
    }

    /// The operation came back, with the rest of its buffer if it had one.
    pub(crate) fn on_done(&mut self, result: io::Result<u32>, rest: Option<SendBuf>) -> Sent {
        self.sending = false;
        let moved = match result {
            Ok(moved) => u64::from(moved),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return self.fill_up(error),
            Err(error) => return Sent::Broken(error),
        };
        self.queued_bytes = self.queued_bytes.saturating_sub(moved);
        let (finished, sent) = match self.queue.front_mut() {
            Some(Outgoing::Begun(buf)) => {
                self.kept.set(self.kept.bytes().saturating_sub(moved));
                *buf = rest.filter(|rest| !rest.is_empty());
                (buf.is_none(), Sent::Part)
            }
            Some(Outgoing::Extent { key, offset, left, .. }) => {
                *offset += moved;
                *left = left.saturating_sub(moved);
                (*left == 0, Sent::Extent { key: *key, bytes: moved })
            }
            Some(Outgoing::Zeros { left }) => {
                *left = left.saturating_sub(moved);
                (*left == 0, Sent::Part)
            }
            Some(Outgoing::Bytes(_)) | None => (false, Sent::Part),
        };
        if finished {
            self.queue.pop_front();
        }
        sent
    }

    /// Says once that it was congested and is not any more.
    pub(crate) fn has_drained(&mut self) -> bool {
        let drained = self.congested && self.queued_bytes < self.kept.budget().low_bytes();
        self.congested &= !drained;
        drained
    }

    fn fill_up(&mut self, error: io::Error) -> Sent {
        let Some(front) = self.queue.front_mut() else { return Sent::Broken(error) };
        let Outgoing::Extent { key, left, .. } = *front else { return Sent::Broken(error) };
        *front = Outgoing::Zeros { left };
        Sent::SourceShort(key)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::sync::Arc;

    use xferd_os::net::Socket;
    use xferd_reactor::{Driver, Limits, MioDriver};

    use super::*;
    use crate::budget::{Budget, CROWDED_BYTES, CROWDED_KEPT_BYTES};
    use crate::session::Effects;
    use crate::work::Batch;

    const HIGH: u64 = Effects::<()>::SEND_QUEUE_HIGH_BYTES;

    /// An outbox, and the driver's part.
    struct Rig {
        budget: Budget,
        outbox: Outbox,
        sock: SockRef,
        source: SendSource,
    }

    impl Rig {
        fn new() -> Self {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let socket = Socket::connect(&listener.local_addr().unwrap().into()).unwrap();
            let mut driver: MioDriver<Batch<()>> = MioDriver::new(Limits::default(), None).unwrap();
            let source = SendSource::File(Arc::new(tempfile::tempfile().unwrap()));
            let budget = Budget::default();
            let outbox = Outbox::new(budget.keep());
            Self { budget, outbox, sock: driver.register(socket).unwrap(), source }
        }

        /// Has the next operation move at most `bytes`; says what it was.
        fn send(&mut self, bytes: u32) -> (String, Sent) {
            let op: Op<()> = self.outbox.next_op(self.sock).expect("something to send");
            assert!(self.outbox.next_op::<()>(self.sock).is_none(), "one operation at a time");
            match op {
                Op::Send { mut buf, more, .. } => {
                    let moved = (buf.remaining().len() as u32).min(bytes);
                    let what = format!("{} more={more}", buf.remaining().escape_ascii());
                    buf.advance(moved as usize);
                    (what, self.outbox.on_done(Ok(moved), Some(buf)))
                }
                Op::SendFile { offset, len, .. } => {
                    (format!("file {offset}+{len}"), self.outbox.on_done(Ok(len.min(bytes)), None))
                }
                _ => panic!("neither bytes nor a file"),
            }
        }
    }

    #[test]
    fn all_is_sent_in_order_however_little_moves_at_a_time() {
        let mut rig = Rig::new();
        rig.outbox.push_bytes(b"ab".to_vec().into());
        rig.outbox.push_bytes(b"cd".to_vec().into());
        rig.outbox.push_extent(7, rig.source.clone(), 100, 5);
        rig.outbox.push_bytes(b"e".to_vec().into());
        let all = [
            ("abcd more=true", 0),
            ("d more=true", 0),
            ("file 100+5", 3),
            ("file 103+2", 2),
            ("e more=false", 0),
        ];
        for (expected, of_extent) in all {
            assert!(!rig.outbox.is_empty());
            let (what, sent) = rig.send(3);
            assert_eq!(what, expected);
            match sent {
                Sent::Extent { key, bytes } => assert_eq!((key, bytes), (7, of_extent)),
                Sent::Part => assert_eq!(of_extent, 0),
                _ => panic!("it went well"),
            }
        }
        assert!(rig.outbox.is_empty());
        assert_eq!((rig.outbox.queued_bytes(), rig.outbox.kept.bytes()), (0, 0));
        assert!(rig.outbox.next_op::<()>(rig.sock).is_none());
    }

    #[test]
    fn an_extent_whose_file_is_short_is_filled_up_with_zeros() {
        let mut rig = Rig::new();
        rig.outbox.push_extent(7, rig.source.clone(), 0, ZEROS_BYTES + 5);
        assert!(matches!(rig.send(2), (_, Sent::Extent { key: 7, bytes: 2 })));
        let _: Op<()> = rig.outbox.next_op(rig.sock).unwrap();
        let short = rig.outbox.on_done(Err(io::ErrorKind::UnexpectedEof.into()), None);
        assert!(matches!(short, Sent::SourceShort(7)));
        let mut zeros = 0;
        while !rig.outbox.is_empty() {
            let (what, sent) = rig.send(1000);
            assert!(what.starts_with("\\x00") && matches!(sent, Sent::Part));
            zeros += 1000;
        }
        assert!((ZEROS_BYTES + 3..ZEROS_BYTES + 2000).contains(&zeros));
        assert_eq!(rig.outbox.queued_bytes(), 0);
    }

    #[test]
    fn it_is_full_by_bytes_in_memory_or_by_parts_and_not_by_bytes_of_files() {
        let mut rig = Rig::new();
        rig.outbox.push_extent(7, rig.source.clone(), 0, u64::from(u32::MAX));
        rig.outbox.push_bytes(vec![0; HIGH as usize - 1].into());
        assert!(!rig.outbox.is_full());
        rig.outbox.push_bytes(vec![0].into());
        assert!(rig.outbox.is_full());

        let mut rig = Rig::new();
        for _ in 0..PARTS_MAX {
            assert!(!rig.outbox.is_full());
            rig.outbox.push_extent(7, rig.source.clone(), 0, 1);
        }
        assert!(rig.outbox.is_full());
        rig.send(1);
        assert!(!rig.outbox.is_full());
    }

    #[test]
    fn when_all_together_keep_much_each_is_full_with_less() {
        let mut rig = Rig::new();
        let mut other = Outbox::new(rig.budget.keep());
        rig.outbox.push_bytes(vec![0; CROWDED_BYTES as usize - 1].into());
        other.push_bytes(vec![0; (CROWDED_KEPT_BYTES - CROWDED_BYTES) as usize].into());
        assert!(!rig.budget.is_crowded());
        rig.outbox.push_bytes(vec![0].into());
        assert!(rig.budget.is_crowded() && rig.outbox.is_full());
        rig.send((CROWDED_BYTES / 2) as u32 + 1);
        assert!(!rig.outbox.is_full() && rig.outbox.has_drained());
        drop(other);
        assert!(!rig.budget.is_crowded());
        rig.send(u32::MAX);
        assert_eq!(rig.outbox.kept.bytes(), 0);
    }

    #[test]
    fn it_tells_once_that_it_has_drained() {
        let mut rig = Rig::new();
        rig.outbox.push_bytes(vec![0; HIGH as usize - 1].into());
        rig.send(u32::MAX);
        assert!(!rig.outbox.has_drained(), "it was not congested");
        rig.outbox.push_extent(7, rig.source.clone(), 0, HIGH);
        rig.send((HIGH - Effects::<()>::SEND_QUEUE_LOW_BYTES) as u32);
        assert!(!rig.outbox.has_drained());
        rig.send(1);
        assert!(rig.outbox.has_drained());
        assert!(!rig.outbox.has_drained());
    }
}
