//! Operations in flight: which connection each belongs to, and what its end means.

use std::collections::VecDeque;

use slab::Slab;
use xferd_reactor::{Driver, ListenerRef, Op, PoolBuf, Token};

use crate::work::Batch;

/// Names a connection of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnKey {
    pub(crate) slot: usize,
    pub(crate) generation: u32,
}

/// What an operation was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Accept(ListenerRef),
    Connect,
    Receive,
    Send,
    ShutdownWrite,
    Write,
    Work,
    Close,
}

struct Flight {
    conn: ConnKey,
    kind: Kind,
    generation: u32,
}

pub(crate) struct Flights<O: Send + 'static, D: Driver<Batch<O>>> {
    pub(crate) driver: D,
    slots: Slab<Flight>,
    generation: u32,
    /// What the driver had no room for.
    refused: VecDeque<(Token, Op<Batch<O>>)>,
    /// Connections that wait for a buffer.
    starved: Vec<ConnKey>,
    /// Bytes that a connection receives at a time, unless it is told how much will come.
    pub(crate) receive_bytes_max: usize,
}

impl<O: Send + 'static, D: Driver<Batch<O>>> Flights<O, D> {
    pub(crate) fn new(driver: D) -> Self {
        Self {
            driver,
            slots: Slab::new(),
            generation: 0,
            refused: VecDeque::new(),
            starved: Vec::new(),
            receive_bytes_max: usize::MAX,
        }
    }

    pub(crate) fn submit(&mut self, conn: ConnKey, kind: Kind, op: Op<Batch<O>>) -> Token {
        self.generation = self.generation.wrapping_add(1);
        let slot = self.slots.insert(Flight { conn, kind, generation: self.generation });
        let slot = u32::try_from(slot).expect("a shard has far fewer than 2^32 operations in flight");
        let token = Token { slot, generation: self.generation };
        if let Err(op) = self.driver.submit(token, op) {
            self.refused.push_back((token, op));
        }
        token
    }

    pub(crate) fn cancel(&mut self, token: Token) {
        self.driver.cancel(token);
    }

    /// Whose operation it is and what for.
    pub(crate) fn purpose(&self, token: Token) -> Option<(ConnKey, Kind)> {
        let flight = self.slots.get(token.slot as usize)?;
        (flight.generation == token.generation).then_some((flight.conn, flight.kind))
    }

    /// An operation has ended: whose it was and what for.
    pub(crate) fn land(&mut self, token: Token) -> Option<(ConnKey, Kind)> {
        let purpose = self.purpose(token)?;
        self.slots.remove(token.slot as usize);
        Some(purpose)
    }

    /// Offers the driver again what it had no room for.
    pub(crate) fn submit_refused(&mut self) {
        while let Some((token, op)) = self.refused.pop_front() {
            if let Err(op) = self.driver.submit(token, op) {
                self.refused.push_front((token, op));
                return;
            }
        }
    }

    /// Whether something waits for the driver or for a buffer and has to be tried again soon.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.refused.is_empty() || !self.starved.is_empty()
    }

    pub(crate) fn retry_soon(&mut self, conn: ConnKey) {
        self.starved.push(conn);
    }

    pub(crate) fn take_starved(&mut self) -> Vec<ConnKey> {
        std::mem::take(&mut self.starved)
    }

    /// Bytes of a small buffer.
    pub(crate) fn small_bytes(&self) -> u64 {
        self.driver.buffers().small_bytes() as u64
    }

    /// A buffer for `bytes` bytes, if one is free.
    pub(crate) fn take_buffer(&self, bytes: usize) -> Option<PoolBuf> {
        let buffers = self.driver.buffers();
        if bytes <= buffers.small_bytes() { buffers.take_small() } else { None }
            .or_else(|| buffers.take_large())
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use xferd_reactor::{Limits, MioDriver, Wait};

    use super::*;
    use crate::work::{Backlog, Work};

    const CONN: ConnKey = ConnKey { slot: 3, generation: 1 };

    /// Has one piece of work done, and returns what it was submitted as once that is in the list of what has ended.
    fn work(flights: &mut Flights<(), MioDriver<Batch<()>>>) -> Token {
        let mut works = Backlog::default();
        works.push(0, Work::Run(Box::new(|| ())));
        let token = flights.submit(CONN, Kind::Work, Op::Offload(works.next_batch()));
        let mut done = Vec::new();
        while done.is_empty() {
            flights.driver.turn(Wait::Now, &mut done).unwrap();
        }
        assert_eq!(done[0].token, token);
        token
    }

    #[test]
    fn an_end_that_comes_late_is_not_taken_for_that_of_the_operation_in_its_slot() {
        let mut flights = Flights::new(MioDriver::new(Limits::default(), None).unwrap());
        let first = work(&mut flights);
        assert_eq!(flights.land(first), Some((CONN, Kind::Work)));
        assert_eq!(flights.land(first), None);
        let second = work(&mut flights);
        assert_eq!(second.slot, first.slot);
        assert_eq!(flights.land(first), None);
        assert_eq!(flights.land(Token { slot: 7, ..second }), None);
        assert_eq!(flights.land(second), Some((CONN, Kind::Work)));
    }
}
