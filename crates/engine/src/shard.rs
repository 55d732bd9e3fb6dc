//! Runs sessions on a reactor: performs their effects, tells them what happened.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use slab::Slab;
use xferd_os::net::{Address, Listener, Peer, Socket};
use xferd_os::{clock, scaled};
use xferd_reactor::{Carried, Done, Driver, LISTENERS_MAX, ListenerRef, Op, SockRef, TimerId, Timers, Wait};

use crate::budget::Budget;
use crate::conn::Conn;
use crate::flights::{ConnKey, Flights, Kind};
use crate::mailbox::{Mailbox, Message};
use crate::session::{End, Event, Session};
use crate::work::Batch;

/// How often connections on which something happens, or did a moment ago, are looked at for silence. How often, at most,
/// the others are, whose patience may have come to its end: of thousands of them nothing is asked in between.
const SILENCE_CHECK: Duration = Duration::from_millis(500);

/// How long to wait before accepting again after the descriptor limit was reached.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long to wait before trying again what found no buffer or a full queue.
const RETRY_PAUSE: Duration = Duration::from_millis(1);

/// Commands that may wait for a connection.
const BACKLOG_COMMANDS_MAX: usize = 4096;

/// Commands that may wait for their time.
const DELAYED_COMMANDS_MAX: usize = 4096;

/// With more connections each receives at most so much at a time, of what it says by itself: if all of them say much at
/// once, it is in memory at once.
const FEW_CONNECTIONS_MAX: usize = 64;
const MANY_RECEIVE_BYTES: usize = scaled(16 << 10) as usize;

/// What becomes of a connection that the listener with this index has accepted.
pub type OnAccept = Box<dyn FnMut(usize, Socket, Peer) + Send>;

/// How much a shard has to do, for placing new connections.
#[derive(Debug, Default)]
pub struct Load {
    connections: AtomicUsize,
    bulk_bytes: AtomicU64,
}

impl Load {
    /// Connections, those on their way to the shard and those being closed included.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn add_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn remove_connection(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Announced bytes that have not come or gone yet. An order to compare shards by, not an exact count.
    pub fn bulk_bytes(&self) -> u64 {
        self.bulk_bytes.load(Ordering::Relaxed)
    }
}

/// One reactor's connections and the loop that serves them.
pub struct Shard<S: Session, D: Driver<Batch<S::Outcome>>> {
    flights: Flights<S::Outcome, D>,
    /// Boxed: a slab that grows has all of them twice for a moment, and an allocator keeps that.
    conns: Slab<(u32, Box<Conn<S>>)>,
    /// What they keep in memory, and those of other shards with them.
    budget: Budget,
    generation: u32,
    connections_max: usize,
    mailbox: Mailbox<S>,
    listeners: Vec<ListenerRef>,
    on_accept: Option<OnAccept>,
    /// Idle sessions, newest last; entries may be stale.
    idle: Vec<ConnKey>,
    backlog: VecDeque<(S::Command, Address, S)>,
    /// Commands that wait for their time.
    delayed: BTreeMap<TimerId, (S::Command, Address, S)>,
    alarms: Timers<Alarm>,
    /// Connections to be looked at for silence, if there still are any.
    watched: Vec<ConnKey>,
    checking_silence: bool,
    /// When the first of the others has run out of patience, as far as is known.
    resting_until: Option<(Instant, TimerId)>,
    load: Arc<Load>,
    draining: bool,
    done: Vec<Done<Batch<S::Outcome>>>,
}

#[derive(Clone, Copy)]
enum Alarm {
    CheckSilence,
    CheckResting,
    Accept(ListenerRef),
    Dispatch,
}

impl<S: Session, D: Driver<Batch<S::Outcome>>> Shard<S, D> {
    /// A shard of at most `connections_max` connections at a time. What they keep in memory counts in `budget`.
    pub fn new(driver: D, connections_max: usize, budget: Budget) -> Self {
        let load = Arc::<Load>::default();
        let mailbox = Mailbox::new(driver.waker(), load.clone());
        Self {
            flights: Flights::new(driver),
            conns: Slab::new(),
            budget,
            generation: 0,
            connections_max,
            mailbox,
            listeners: Vec::new(),
            on_accept: None,
            idle: Vec::new(),
            backlog: VecDeque::new(),
            delayed: BTreeMap::new(),
            alarms: Timers::new(LISTENERS_MAX + 2 + DELAYED_COMMANDS_MAX),
            watched: Vec::new(),
            checking_silence: false,
            resting_until: None,
            load,
            draining: false,
            done: Vec::new(),
        }
    }

    /// The way in from other threads.
    pub fn mailbox(&self) -> Mailbox<S> {
        self.mailbox.clone()
    }

    /// How much it has to do.
    pub fn load(&self) -> Arc<Load> {
        self.load.clone()
    }

    /// Accepts connections on `listeners` and hands each to `on_accept`.
    ///
    /// # Errors
    /// What the driver says to the listeners.
    pub fn accept(&mut self, listeners: Vec<Listener>, on_accept: OnAccept) -> io::Result<()> {
        if listeners.len() > LISTENERS_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("more than {LISTENERS_MAX} addresses to listen on"),
            ));
        }
        for listener in listeners {
            let listener = self.flights.driver.listen(listener)?;
            self.listeners.push(listener);
            self.submit_accept(listener);
        }
        self.on_accept = Some(on_accept);
        Ok(())
    }

    /// Serves until it was told to stop, or to drain and nothing is left.
    ///
    /// # Errors
    /// What the kernel says to waiting for events; nothing can go on then.
    pub fn run(mut self) -> io::Result<()> {
        let mut served = Ok(true);
        while let Ok(true) = served {
            served = self.step();
        }
        self.finish();
        served.map(drop)
    }

    /// Takes one turn: reads the mail, performs what can be performed, and tells sessions what came of it. False once it
    /// is over. For who has no thread for it; to be followed by [`Shard::finish`].
    ///
    /// # Errors
    /// As for [`Shard::run`].
    pub fn step(&mut self) -> io::Result<bool> {
        if self.is_over() {
            return Ok(false);
        }
        self.read_mail();
        let wait = if self.flights.is_waiting() {
            Wait::Until(clock::now() + RETRY_PAUSE)
        } else {
            self.alarms.next_deadline().map_or(Wait::Forever, Wait::Until)
        };
        if self.is_over() {
            return Ok(false);
        }
        let mut done = std::mem::take(&mut self.done);
        self.flights.driver.turn(wait, &mut done)?;
        let now = clock::now();
        self.look_ahead(&done);
        for done in done.drain(..) {
            self.on_done(done, now);
        }
        self.done = done;
        self.flights.submit_refused();
        for key in self.flights.take_starved() {
            self.with(key, |_| {});
        }
        while let Some((timer, alarm)) = self.alarms.expire(now) {
            self.on_alarm(timer, alarm, now);
        }
        Ok(true)
    }

    /// Tells the connections that are left that it is over, and takes no more mail.
    pub fn finish(&mut self) {
        self.mailbox.close();
        for (_, (_, mut conn)) in std::mem::take(&mut self.conns) {
            conn.end(End::Stopped);
        }
    }

    fn is_over(&self) -> bool {
        self.mailbox.is_stopped() || (self.draining && self.conns.is_empty())
    }

    fn read_mail(&mut self) {
        let now = clock::now();
        while let Some(message) = self.mailbox.take() {
            match message {
                Message::Adopt(socket, session) => self.adopt(socket, *session, now),
                Message::Dispatch(command, address, fresh) => self.dispatch(command, address, *fresh, now),
                Message::DispatchAfter(delay, command, address, fresh) => {
                    if self.delayed.len() < DELAYED_COMMANDS_MAX && !self.draining {
                        if let Some(timer) = self.alarms.set(now + delay, Alarm::Dispatch) {
                            self.delayed.insert(timer, (command, address, *fresh));
                        }
                    }
                }
            }
        }
        // Those who are called meanwhile have rung for the next turn.
        let called: Vec<ConnKey> = std::iter::from_fn(|| self.mailbox.calls().take()).collect();
        for key in called {
            self.with(key, |conn| conn.tell(Event::Nudged));
        }
        if self.mailbox.take_nudge() {
            self.for_each(|conn| conn.tell(Event::Nudged));
            let alarms = &mut self.alarms;
            self.delayed.retain(|timer, (command, ..)| {
                let is_wanted = S::is_wanted(command);
                if !is_wanted {
                    alarms.cancel(*timer);
                }
                is_wanted
            });
        }
        if self.mailbox.is_draining() && !self.draining {
            self.draining = true;
            self.backlog.clear();
            for (timer, _) in std::mem::take(&mut self.delayed) {
                self.alarms.cancel(timer);
            }
            for listener in std::mem::take(&mut self.listeners) {
                self.flights.driver.unlisten(listener);
            }
            self.for_each(|conn| conn.tell(Event::Draining));
        }
    }

    fn adopt(&mut self, socket: Socket, session: S, now: Instant) {
        match self.flights.driver.register(socket) {
            Ok(sock) => {
                let key = self.insert(session, now);
                self.connected(key, sock, now);
                if self.draining {
                    self.with(key, |conn| conn.tell(Event::Draining));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "connection not taken");
                self.load.remove_connection();
            }
        }
    }

    fn connected(&mut self, key: ConnKey, sock: SockRef, now: Instant) {
        let calls = self.mailbox.calls().clone();
        self.with(key, |conn| conn.connected(sock, &calls, now));
    }

    fn dispatch(&mut self, command: S::Command, address: Address, fresh: S, now: Instant) {
        if self.draining {
            return;
        }
        if let Some(key) = self.taker(&command) {
            return self.with(key, |conn| conn.tell(Event::Command(command)));
        }
        if self.conns.len() >= self.connections_max {
            if self.backlog.len() < BACKLOG_COMMANDS_MAX {
                self.backlog.push_back((command, address, fresh));
            }
            return;
        }
        self.load.add_connection();
        let key = self.insert(fresh, now);
        let token = self.flights.submit(key, Kind::Connect, Op::Connect(address));
        self.with(key, |conn| {
            conn.connect(token);
            conn.tell(Event::Command(command));
        });
    }

    /// Who takes up the command.
    fn taker(&mut self, command: &S::Command) -> Option<ConnKey> {
        if S::is_beside(command) {
            let taker = self.conns.iter().find(|(_, (_, conn))| conn.takes(command));
            return taker.map(|(slot, (generation, _))| ConnKey { slot, generation: *generation });
        }
        // Few do not take what others would.
        let mut passed = Vec::new();
        let mut taker = None;
        while let (None, Some(key)) = (taker, self.idle.pop()) {
            match self.conn(key).filter(|conn| conn.is_idle()) {
                Some(conn) if conn.takes(command) => taker = Some(key),
                Some(_) => passed.push(key),
                None => {}
            }
        }
        self.idle.extend(passed.into_iter().rev());
        taker
    }

    fn insert(&mut self, session: S, now: Instant) -> ConnKey {
        self.generation = self.generation.wrapping_add(1);
        self.flights.receive_bytes_max = receive_bytes_max(self.conns.len() + 1);
        let entry = self.conns.vacant_entry();
        let key = ConnKey { slot: entry.key(), generation: self.generation };
        entry.insert((self.generation, Box::new(Conn::new(key, session, &self.budget, now))));
        key
    }

    fn conn(&self, key: ConnKey) -> Option<&Conn<S>> {
        self.conns
            .get(key.slot)
            .filter(|(generation, _)| *generation == key.generation)
            .map(|(_, conn)| &**conn)
    }

    /// Changes a connection, lets it start what it can, and takes note of what became of it.
    fn with(&mut self, key: ConnKey, change: impl FnOnce(&mut Conn<S>)) {
        let Some((generation, conn)) = self.conns.get_mut(key.slot) else { return };
        if *generation != key.generation {
            return;
        }
        let (bulk_before, idle_before) = (conn.bulk_bytes(), conn.is_idle());
        change(conn);
        conn.pump(&mut self.flights);
        if !std::mem::replace(&mut conn.is_watched, true) {
            self.watched.push(key);
            if !std::mem::replace(&mut self.checking_silence, true) {
                self.alarms.set(clock::now() + SILENCE_CHECK, Alarm::CheckSilence);
            }
        }
        let (bulk_after, idle_after) = (conn.bulk_bytes(), conn.is_idle());
        self.load.bulk_bytes.fetch_add(bulk_after.wrapping_sub(bulk_before), Ordering::Relaxed);
        if conn.is_gone() {
            self.load.bulk_bytes.fetch_sub(bulk_after, Ordering::Relaxed);
            self.load.remove_connection();
            self.conns.remove(key.slot);
            self.next_from_backlog();
        } else if idle_after && !idle_before {
            self.idle.push(key);
            self.next_from_backlog();
        }
    }

    fn next_from_backlog(&mut self) {
        if let Some((command, address, fresh)) = self.backlog.pop_front() {
            self.dispatch(command, address, fresh, clock::now());
        }
    }

    fn for_each(&mut self, mut change: impl FnMut(&mut Conn<S>)) {
        let keys: Vec<ConnKey> = self
            .conns
            .iter()
            .map(|(slot, (generation, _))| ConnKey { slot, generation: *generation })
            .collect();
        for key in keys {
            self.with(key, &mut change);
        }
    }

    /// Shows sessions what they will be asked to take.
    fn look_ahead(&self, done: &[Done<Batch<S::Outcome>>]) {
        S::look_ahead(done.iter().filter_map(|done| {
            let (Carried::Buf(buf), Some((key, Kind::Receive))) =
                (&done.carried, self.flights.purpose(done.token))
            else {
                return None;
            };
            Some((self.conn(key)?.session(), &**buf))
        }));
    }

    fn on_done(&mut self, done: Done<Batch<S::Outcome>>, now: Instant) {
        let Done { token, result, carried } = done;
        let Some((key, kind)) = self.flights.land(token) else { return };
        match kind {
            Kind::Accept(listener) => self.on_accepted(listener, result, carried, now),
            Kind::Connect => self.on_connect(key, result, carried, now),
            Kind::Receive => self.with(key, |conn| conn.on_received(result, carried, now)),
            Kind::Send => self.with(key, |conn| conn.on_sent(result, carried, now)),
            Kind::Write => self.with(key, |conn| conn.on_written(result, now)),
            Kind::Work => self.with(key, |conn| conn.on_worked(result, carried, now)),
            Kind::Close => self.with(key, Conn::on_closed),
            Kind::ShutdownWrite => {}
        }
    }

    fn on_connect(
        &mut self,
        key: ConnKey,
        result: io::Result<u32>,
        carried: Carried<Batch<S::Outcome>>,
        now: Instant,
    ) {
        match (result, carried) {
            (Ok(_), Carried::Sock(sock)) => self.connected(key, sock, now),
            (Err(error), _) => self.with(key, |conn| conn.connect_failed(error)),
            (Ok(_), _) => {}
        }
    }

    fn on_accepted(
        &mut self,
        listener: ListenerRef,
        result: io::Result<u32>,
        carried: Carried<Batch<S::Outcome>>,
        now: Instant,
    ) {
        let Some(index) = self.listeners.iter().position(|known| *known == listener) else { return };
        match (result, carried) {
            (Ok(_), Carried::Socket(socket, peer)) => {
                if let Some(on_accept) = &mut self.on_accept {
                    on_accept(index, socket, peer);
                }
                self.submit_accept(listener);
            }
            (Err(error), _) if error.kind() == io::ErrorKind::ConnectionAborted => {
                self.submit_accept(listener)
            }
            (result, _) => {
                tracing::warn!(?result, "cannot accept; trying again soon");
                if self.alarms.set(now + ACCEPT_PAUSE, Alarm::Accept(listener)).is_none() {
                    self.submit_accept(listener);
                }
            }
        }
    }

    fn submit_accept(&mut self, listener: ListenerRef) {
        const NOBODY: ConnKey = ConnKey { slot: usize::MAX, generation: 0 };
        self.flights.submit(NOBODY, Kind::Accept(listener), Op::Accept(listener));
    }

    /// Looks for silence where something happened not long ago. Where nothing does any more, lets it rest.
    fn check_watched(&mut self, now: Instant) {
        let mut watched = std::mem::take(&mut self.watched);
        watched.retain(|&key| {
            self.with(key, |conn| conn.check_silence(now));
            let Some((_, conn)) =
                self.conns.get_mut(key.slot).filter(|(generation, _)| *generation == key.generation)
            else {
                return false;
            };
            let until = conn.rest(now);
            conn.is_watched = until.is_none();
            if let Some(until) = until {
                self.look_at_resting(until);
            }
            until.is_none()
        });
        // Some have come meanwhile if others have gone.
        watched.append(&mut self.watched);
        self.watched = watched;
        self.checking_silence = !self.watched.is_empty();
        if self.checking_silence {
            self.alarms.set(now + SILENCE_CHECK, Alarm::CheckSilence);
        }
    }

    /// Looks at those who have run out of patience, and when the next of the others will.
    fn check_resting(&mut self, now: Instant) {
        self.resting_until = None;
        let mut impatient = Vec::new();
        let mut next: Option<Instant> = None;
        for (slot, (generation, conn)) in &self.conns {
            match conn.patient_until() {
                _ if conn.is_watched => {}
                Some(until) if until <= now => impatient.push(ConnKey { slot, generation: *generation }),
                until => next = next.into_iter().chain(until).min(),
            }
        }
        if let Some(next) = next {
            self.look_at_resting(next.max(now + SILENCE_CHECK));
        }
        for key in impatient {
            self.with(key, |conn| conn.check_silence(now));
        }
    }

    /// Has those who rest be looked at then, if not earlier.
    fn look_at_resting(&mut self, at: Instant) {
        if self.resting_until.is_some_and(|(earlier, _)| earlier <= at) {
            return;
        }
        if let Some((_, timer)) = self.resting_until.take() {
            self.alarms.cancel(timer);
        }
        self.resting_until = self.alarms.set(at, Alarm::CheckResting).map(|timer| (at, timer));
    }

    fn on_alarm(&mut self, timer: TimerId, alarm: Alarm, now: Instant) {
        match alarm {
            Alarm::CheckSilence => {
                self.check_watched(now);
                self.flights.driver.buffers().trim();
            }
            Alarm::CheckResting => self.check_resting(now),
            Alarm::Accept(listener) if self.listeners.contains(&listener) => self.submit_accept(listener),
            Alarm::Accept(_) => {}
            Alarm::Dispatch => {
                if let Some((command, address, fresh)) = self.delayed.remove(&timer) {
                    self.dispatch(command, address, fresh, now);
                }
            }
        }
    }
}

fn receive_bytes_max(connections: usize) -> usize {
    if connections <= FEW_CONNECTIONS_MAX { usize::MAX } else { MANY_RECEIVE_BYTES }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
