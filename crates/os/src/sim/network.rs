//! Connections between machines: bytes on their way, and what befalls them.

use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::net::SocketAddr;

use super::random::{Dice, MILLION};
use super::world::{Faults, ProcessId};

/// The number of a connection.
pub(crate) type ConnId = u64;

/// Connections that wait to be accepted.
const BACKLOG: usize = 64;

/// How often one connection is held back.
const STALLS_MAX: u32 = 4;

/// How long it is tried to reach a machine that is not there.
const CONNECT_PATIENCE_NS: u64 = 60_000_000_000;

const MS: u64 = 1_000_000;

#[derive(Debug, Default)]
pub(crate) struct Network {
    conns: BTreeMap<ConnId, Conn>,
    listeners: BTreeMap<SocketAddr, Listening>,
    next: ConnId,
}

#[derive(Debug)]
struct Listening {
    process: ProcessId,
    waiting: VecDeque<ConnId>,
}

#[derive(Debug)]
struct Conn {
    to: SocketAddr,
    /// When whoever connects learns what became of it; `None` once that was so.
    settled_ns: Option<u64>,
    /// The side that connects, and the one that accepts.
    sides: [Side; 2],
    window: usize,
    faults: Faults,
    /// How often it may be held back yet: what is held back again and again comes to no end.
    stalls: u32,
}

#[derive(Debug)]
struct Side {
    process: Option<ProcessId>,
    address: SocketAddr,
    presence: Presence,
    /// On its way here.
    coming: VecDeque<(u64, Segment)>,
    coming_bytes: usize,
    /// Here, and not received.
    arrived: VecDeque<u8>,
    /// Nothing more comes.
    has_ended: bool,
    broken: Option<ErrorKind>,
    has_sent_end: bool,
    /// Bytes it has sent.
    sent: u64,
    /// After so many it is cut, or comes to its end.
    fate: Option<(u64, Fate)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Open,
    /// Its machine knows that it has no such connection any more.
    Closed,
    /// Its machine has lost its power, and tells nobody.
    Vanished,
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    /// Both sides find it broken.
    Cut,
    /// The other side finds it ended, while the other direction goes on.
    End,
}

#[derive(Debug)]
enum Segment {
    Bytes(Vec<u8>),
    End,
    Reset,
}

/// What became of an attempt to send.
pub(crate) enum Sending {
    /// So many bytes are on their way.
    Sent(usize),
    /// There is no room.
    Full,
    Broken(ErrorKind),
}

impl Segment {
    fn bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::End | Self::Reset => 0,
        }
    }
}

impl Side {
    fn new(process: Option<ProcessId>, address: SocketAddr, faults: &Faults, dice: &mut Dice) -> Self {
        let fate = if dice.chance(faults.cut) {
            Some(Fate::Cut)
        } else if dice.chance(faults.half_close) {
            Some(Fate::End)
        } else {
            None
        };
        // Often in the hello, or somewhere in the first file.
        let span = 1 << dice.between(4, 16);
        Self {
            process,
            address,
            presence: Presence::Open,
            coming: VecDeque::new(),
            coming_bytes: 0,
            arrived: VecDeque::new(),
            has_ended: false,
            broken: None,
            has_sent_end: false,
            sent: 0,
            fate: fate.map(|fate| (dice.below(span), fate)),
        }
    }

    fn held(&self) -> usize {
        self.coming_bytes + self.arrived.len()
    }

    /// Has `segment` come at `at_ns`, or after what comes before it.
    fn push(&mut self, at_ns: u64, segment: Segment) {
        let last = self.coming.back().map_or(0, |(last, _)| *last);
        self.coming_bytes += segment.bytes();
        self.coming.push_back((at_ns.max(last), segment));
    }

    /// What has not come by `ns` never will.
    fn cut_off(&mut self, ns: u64) {
        self.coming.retain(|(at, _)| *at <= ns);
        self.coming_bytes = self.coming.iter().map(|(_, segment)| segment.bytes()).sum();
    }

    /// Takes in what has come by now.
    fn take_in(&mut self, now_ns: u64, dice: &mut Dice) {
        while self.coming.front().is_some_and(|(at, _)| *at <= now_ns) {
            match self.coming.pop_front() {
                Some((_, Segment::Bytes(bytes))) => {
                    self.coming_bytes -= bytes.len();
                    self.arrived.extend(bytes);
                }
                Some((_, Segment::End)) => self.has_ended = true,
                Some((_, Segment::Reset)) => {
                    self.broken.get_or_insert(ErrorKind::ConnectionReset);
                    if dice.chance(MILLION / 2) {
                        self.arrived.clear();
                    }
                    self.coming.clear();
                    self.coming_bytes = 0;
                }
                None => return,
            }
        }
    }
}

impl Network {
    pub(crate) fn listen(&mut self, address: SocketAddr, process: ProcessId) -> bool {
        let is_free = !self.listeners.contains_key(&address);
        if is_free {
            self.listeners.insert(address, Listening { process, waiting: VecDeque::new() });
        }
        is_free
    }

    pub(crate) fn unlisten(&mut self, address: SocketAddr, process: ProcessId, now_ns: u64) {
        if self.listeners.get(&address).is_none_or(|listening| listening.process != process) {
            return;
        }
        for conn in self.listeners.remove(&address).map(|it| it.waiting).unwrap_or_default() {
            self.close(conn, 1, true, now_ns);
        }
    }

    pub(crate) fn connect(
        &mut self,
        process: ProcessId,
        from: SocketAddr,
        to: SocketAddr,
        faults: Faults,
        now_ns: u64,
        dice: &mut Dice,
    ) -> ConnId {
        let id = self.next;
        self.next += 1;
        let sides = [Side::new(Some(process), from, &faults, dice), Side::new(None, to, &faults, dice)];
        let settled_ns = Some(now_ns + latency(&faults, dice));
        let window = *dice.one_of(&[1 << 10, 4 << 10, 16 << 10, 64 << 10]);
        self.conns.insert(id, Conn { to, settled_ns, sides, window, faults, stalls: STALLS_MAX });
        id
    }

    /// What became of connecting; `None` while that is under way. `is_there`: the machine has power.
    pub(crate) fn connected(
        &mut self,
        id: ConnId,
        is_there: bool,
        now_ns: u64,
    ) -> Option<Result<(), ErrorKind>> {
        let Some(conn) = self.conns.get_mut(&id) else { return Some(Err(ErrorKind::ConnectionReset)) };
        match conn.settled_ns {
            None => return Some(conn.sides[0].broken.map_or(Ok(()), Err)),
            Some(settled) if settled > now_ns => return None,
            Some(_) => conn.settled_ns = None,
        }
        if !is_there {
            if conn.sides[1].presence == Presence::Open {
                conn.sides[1].presence = Presence::Vanished;
                conn.settled_ns = Some(now_ns + CONNECT_PATIENCE_NS);
                return None;
            }
            conn.sides[0].broken = Some(ErrorKind::TimedOut);
            return Some(Err(ErrorKind::TimedOut));
        }
        match self.listeners.get_mut(&conn.to) {
            Some(listening) if listening.waiting.len() < BACKLOG => {
                conn.sides[1].presence = Presence::Open;
                conn.sides[1].process = Some(listening.process);
                listening.waiting.push_back(id);
                Some(Ok(()))
            }
            _ => {
                conn.sides[0].broken = Some(ErrorKind::ConnectionRefused);
                conn.sides[1].presence = Presence::Closed;
                Some(Err(ErrorKind::ConnectionRefused))
            }
        }
    }

    pub(crate) fn accept(&mut self, address: SocketAddr) -> Option<(ConnId, SocketAddr)> {
        let id = self.listeners.get_mut(&address)?.waiting.pop_front()?;
        Some((id, self.conns.get(&id)?.sides[0].address))
    }

    pub(crate) fn recv(
        &mut self,
        id: ConnId,
        side: usize,
        buffer: &mut [u8],
        now_ns: u64,
        dice: &mut Dice,
    ) -> Result<usize, ErrorKind> {
        let Some(conn) = self.conns.get_mut(&id) else { return Err(ErrorKind::ConnectionReset) };
        let split = conn.faults.split;
        let here = &mut conn.sides[side];
        here.take_in(now_ns, dice);
        if here.arrived.is_empty() {
            return match here.broken {
                Some(kind) => Err(kind),
                None if here.has_ended => Ok(0),
                None => Err(ErrorKind::WouldBlock),
            };
        }
        let mut bytes = buffer.len().min(here.arrived.len());
        if dice.chance(split) {
            bytes = dice.between(1, bytes as u64) as usize;
        }
        for (room, byte) in buffer.iter_mut().zip(here.arrived.drain(..bytes)) {
            *room = byte;
        }
        Ok(bytes)
    }

    pub(crate) fn send(
        &mut self,
        id: ConnId,
        side: usize,
        bytes: &[u8],
        is_there: bool,
        now_ns: u64,
        dice: &mut Dice,
    ) -> (Sending, Option<&'static str>) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return (Sending::Broken(ErrorKind::BrokenPipe), None);
        };
        let (faults, window) = (conn.faults, conn.window);
        let [first, second] = &mut conn.sides;
        let (here, there) = if side == 0 { (first, second) } else { (second, first) };
        here.take_in(now_ns, dice);
        if here.broken.is_some() || here.has_sent_end {
            return (Sending::Broken(here.broken.unwrap_or(ErrorKind::BrokenPipe)), None);
        }
        let mut at_ns = now_ns + latency(&faults, dice);
        let room = window.saturating_sub(there.held());
        let mut len = bytes.len().min(room);
        match there.presence {
            Presence::Open => {}
            Presence::Vanished if !is_there => {
                // The kernel keeps them and tries again and again.
                if len > 0 {
                    there.push(u64::MAX, Segment::Bytes(bytes[..len].to_vec()));
                    return (Sending::Sent(len), None);
                }
                return (Sending::Full, None);
            }
            Presence::Vanished | Presence::Closed => {
                here.push(at_ns, Segment::Reset);
                return (Sending::Sent(bytes.len()), None);
            }
        }
        if len == 0 {
            return (Sending::Full, None);
        }
        if dice.chance(faults.reset) {
            here.push(at_ns, Segment::Reset);
            there.push(at_ns, Segment::Reset);
            return (Sending::Sent(len), Some("reset"));
        }
        let mut fault = None;
        if dice.chance(faults.split) {
            len = dice.between(1, len as u64) as usize;
        }
        if conn.stalls > 0 && dice.chance(faults.stall) {
            conn.stalls -= 1;
            at_ns += dice.between(100, 90_000) * MS;
            fault = Some("stall");
        }
        if let Some((at, fate)) = here.fate {
            let left = at.saturating_sub(here.sent) as usize;
            if len >= left {
                if left > 0 {
                    there.push(at_ns, Segment::Bytes(bytes[..left].to_vec()));
                }
                return match fate {
                    Fate::Cut => {
                        there.push(at_ns, Segment::Reset);
                        here.push(at_ns, Segment::Reset);
                        (Sending::Sent(len), Some("cut"))
                    }
                    Fate::End => {
                        there.push(at_ns, Segment::End);
                        here.has_sent_end = true;
                        (Sending::Sent(len), Some("half-close"))
                    }
                };
            }
        }
        here.sent += len as u64;
        there.push(at_ns, Segment::Bytes(bytes[..len].to_vec()));
        (Sending::Sent(len), fault)
    }

    /// Whether receiving would not block.
    pub(crate) fn can_recv(&self, id: ConnId, side: usize, now_ns: u64) -> bool {
        let Some(conn) = self.conns.get(&id) else { return true };
        let here = &conn.sides[side];
        let has_come = here.coming.front().is_some_and(|(at, _)| *at <= now_ns);
        has_come || !here.arrived.is_empty() || here.has_ended || here.broken.is_some()
    }

    /// Whether sending, or looking whether a connection is made, may not block.
    pub(crate) fn can_send(&self, id: ConnId, side: usize, now_ns: u64) -> bool {
        let Some(conn) = self.conns.get(&id) else { return true };
        let is_settled = conn.settled_ns.is_none_or(|at| at <= now_ns);
        let (here, there) = (&conn.sides[side], &conn.sides[1 - side]);
        let has_come = here.coming.front().is_some_and(|(at, _)| *at <= now_ns);
        is_settled && (has_come || here.broken.is_some() || there.held() < conn.window)
    }

    /// Ends one direction.
    pub(crate) fn shutdown(&mut self, id: ConnId, side: usize, now_ns: u64, dice: &mut Dice) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let at_ns = now_ns + latency(&conn.faults, dice);
        if !std::mem::replace(&mut conn.sides[side].has_sent_end, true) {
            conn.sides[1 - side].push(at_ns, Segment::End);
        }
    }

    /// Closes a side. Whoever closes with bytes unread, or means to, resets the connection.
    pub(crate) fn close(&mut self, id: ConnId, side: usize, with_reset: bool, now_ns: u64) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.sides[side].presence != Presence::Open {
            return;
        }
        let [first, second] = &mut conn.sides;
        let (here, there) = if side == 0 { (first, second) } else { (second, first) };
        here.presence = Presence::Closed;
        if there.presence == Presence::Open {
            if with_reset {
                // What was not received is thrown away.
                there.cut_off(now_ns);
            }
            if with_reset || here.held() > 0 {
                there.push(now_ns + MS, Segment::Reset);
            } else if !here.has_sent_end {
                there.push(now_ns + MS, Segment::End);
            }
        } else {
            self.conns.remove(&id);
        }
    }

    /// A process has ended; its machine goes on.
    pub(crate) fn end_process(&mut self, process: ProcessId, now_ns: u64) {
        let listening: Vec<SocketAddr> = self
            .listeners
            .iter()
            .filter(|(_, it)| it.process == process)
            .map(|(address, _)| *address)
            .collect();
        for address in listening {
            self.unlisten(address, process, now_ns);
        }
        for (id, side) in self.sides_of(process) {
            self.close(id, side, false, now_ns);
        }
    }

    /// A machine has no power any more.
    pub(crate) fn vanish(&mut self, process: ProcessId) {
        self.listeners.retain(|_, listening| listening.process != process);
        for (id, side) in self.sides_of(process) {
            let Some(conn) = self.conns.get_mut(&id) else { continue };
            conn.sides[side].presence = Presence::Vanished;
            conn.sides[side].coming.clear();
            conn.sides[side].coming_bytes = 0;
            conn.sides[side].arrived.clear();
            if conn.sides[1 - side].presence != Presence::Open {
                self.conns.remove(&id);
            }
        }
    }

    fn sides_of(&self, process: ProcessId) -> Vec<(ConnId, usize)> {
        let sides = self.conns.iter().flat_map(|(id, conn)| [(*id, 0, conn), (*id, 1, conn)]);
        let is_its = |(_, side, conn): &(ConnId, usize, &Conn)| {
            conn.sides[*side].process == Some(process) && conn.sides[*side].presence == Presence::Open
        };
        sides.filter(is_its).map(|(id, side, _)| (id, side)).collect()
    }

    /// When something arrives somewhere next, after `now_ns`.
    pub(crate) fn next_ns(&self, now_ns: u64) -> u64 {
        let arrivals = self.conns.values().flat_map(|conn| {
            let coming = conn.sides.iter().filter(|side| side.presence == Presence::Open);
            let coming = coming.filter_map(|side| side.coming.front().map(|(at, _)| *at));
            coming.chain(conn.settled_ns)
        });
        arrivals.filter(|at| *at > now_ns).min().unwrap_or(u64::MAX)
    }

    /// To whom it goes.
    pub(crate) fn peer(&self, id: ConnId, side: usize) -> Option<SocketAddr> {
        let conn = self.conns.get(&id)?;
        Some(if side == 0 { conn.to } else { conn.sides[0].address })
    }

    pub(crate) fn connections(&self) -> usize {
        self.conns.len()
    }
}

fn latency(faults: &Faults, dice: &mut Dice) -> u64 {
    dice.between(MS / 20, MS / 20 + faults.latency_ms * MS)
}
