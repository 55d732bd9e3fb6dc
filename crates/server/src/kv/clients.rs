//! Who is connected to the key-value store, and what others have for them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use xferd_engine::{Reach, lock};
use xferd_os::net::Peer;
use xferd_os::{clock, scaled};
use xferd_wire::resp::Version;

/// Bytes that others may have for a connection that does not read them. Then it is cut, as by Redis's
/// `client-output-buffer-limit pubsub 32mb`: what it missed could not be told to it.
pub const INBOX_BYTES_MAX: usize = scaled(32 << 20) as usize;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    list: Mutex<BTreeMap<u64, Arc<Client>>>,
    last_id: AtomicU64,
    /// How many want to be told of every command.
    monitors: AtomicUsize,
}

/// One of them, as others see it.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: u64,
    pub(crate) peer: Peer,
    pub(crate) since: Instant,
    pub(crate) is_unix: bool,
    active_ms: AtomicU64,
    pub(crate) database: AtomicU8,
    /// The version of the protocol that it speaks.
    version: AtomicU8,
    pub(crate) subscriptions: AtomicU16,
    pub(crate) patterns: AtomicU16,
    /// Commands since MULTI; `u16::MAX` without it.
    pub(crate) queued: AtomicU16,
    pub(crate) is_monitor: AtomicBool,
    pub(crate) never_evicted: AtomicBool,
    /// The last command, as its name.
    command: Mutex<&'static str>,
    name: Mutex<Option<Box<str>>>,
    library: Mutex<Option<Box<Library>>>,
    inbox: Mutex<Inbox>,
    reach: OnceLock<Reach>,
}

/// Which client library it is, if it says so.
#[derive(Debug, Default, Clone)]
pub(crate) struct Library {
    pub(crate) name: String,
    pub(crate) version: String,
}

#[derive(Debug, Default)]
struct Inbox {
    bytes: Vec<u8>,
    end: Option<Cut>,
}

/// Why a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Somebody said CLIENT KILL.
    Killed,
    /// It did not read what it had asked for.
    TooSlow,
}

impl Clients {
    pub(crate) fn add(&self, peer: Peer) -> Arc<Client> {
        let client = Arc::new(Client {
            id: self.last_id.fetch_add(1, Ordering::Relaxed) + 1,
            peer,
            since: clock::now(),
            is_unix: matches!(peer, Peer::Unix { .. }),
            active_ms: AtomicU64::new(0),
            database: AtomicU8::new(0),
            version: AtomicU8::new(2),
            subscriptions: AtomicU16::new(0),
            patterns: AtomicU16::new(0),
            queued: AtomicU16::new(u16::MAX),
            is_monitor: AtomicBool::new(false),
            never_evicted: AtomicBool::new(false),
            command: Mutex::new("NULL"),
            name: Mutex::default(),
            library: Mutex::default(),
            inbox: Mutex::default(),
            reach: OnceLock::new(),
        });
        lock(&self.list).insert(client.id, client.clone());
        client
    }

    pub(crate) fn remove(&self, client: &Client) {
        self.set_monitor(client, false);
        lock(&self.list).remove(&client.id);
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.list).len()
    }

    /// All, the oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Client>> {
        lock(&self.list).values().cloned().collect()
    }

    pub(crate) fn set_monitor(&self, client: &Client, is_monitor: bool) {
        if client.is_monitor.swap(is_monitor, Ordering::Relaxed) != is_monitor {
            match is_monitor {
                true => self.monitors.fetch_add(1, Ordering::Relaxed),
                false => self.monitors.fetch_sub(1, Ordering::Relaxed),
            };
        }
    }

    /// Tells those who want to know everything what `tell` says, if there are any.
    pub(crate) fn tell_monitors(&self, tell: impl FnOnce() -> Vec<u8>) {
        if self.monitors.load(Ordering::Relaxed) > 0 {
            let line = tell();
            self.all()
                .iter()
                .filter(|client| client.is_monitor.load(Ordering::Relaxed))
                .for_each(|client| client.tell(&line));
        }
    }
}

impl Client {
    /// How others wake its connection.
    pub(crate) fn set_reach(&self, reach: Reach) {
        // A connection is connected once.
        let _ = self.reach.set(reach);
    }

    pub(crate) fn is_listening(&self) -> bool {
        self.subscriptions.load(Ordering::Relaxed) + self.patterns.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn version(&self) -> Version {
        if self.version.load(Ordering::Relaxed) == 3 { Version::Resp3 } else { Version::Resp2 }
    }

    pub(crate) fn set_version(&self, version: Version) {
        self.version.store(if version == Version::Resp3 { 3 } else { 2 }, Ordering::Relaxed);
    }

    /// It says something: this.
    pub(crate) fn note_command(&self, name: &'static str, now_ms: u64) {
        self.active_ms.store(now_ms, Ordering::Relaxed);
        *lock(&self.command) = name;
    }

    pub(crate) fn name(&self) -> Option<Box<str>> {
        lock(&self.name).clone()
    }

    pub(crate) fn set_name(&self, name: Option<Box<str>>) {
        *lock(&self.name) = name;
    }

    pub(crate) fn set_library(&self, set: impl FnOnce(&mut Library)) {
        set(lock(&self.library).get_or_insert_default());
    }

    /// Puts a message into its inbox. One that has too much there is cut.
    pub(crate) fn tell(&self, message: &[u8]) {
        let is_new = {
            let mut inbox = lock(&self.inbox);
            if inbox.end.is_some() {
                return;
            }
            let was_empty = inbox.bytes.is_empty();
            let is_too_much = inbox.bytes.len() + message.len() > INBOX_BYTES_MAX;
            if is_too_much {
                *inbox = Inbox { bytes: Vec::new(), end: Some(Cut::TooSlow) };
            } else {
                inbox.bytes.extend_from_slice(message);
            }
            was_empty || is_too_much
        };
        if is_new {
            self.nudge();
        }
    }

    /// Has its connection end.
    pub(crate) fn kill(&self) {
        lock(&self.inbox).end = Some(Cut::Killed);
        self.nudge();
    }

    fn nudge(&self) {
        if let Some(reach) = self.reach.get() {
            reach.nudge();
        }
    }

    /// Whether it is to end.
    pub(crate) fn end(&self) -> Option<Cut> {
        lock(&self.inbox).end
    }

    /// What others had for it, and whether it is to end.
    pub(crate) fn take(&self) -> (Vec<u8>, Option<Cut>) {
        let mut inbox = lock(&self.inbox);
        (std::mem::take(&mut inbox.bytes), inbox.end)
    }

    /// As CLIENT LIST has it, without the end of the line.
    pub(crate) fn line(&self, now_ms: u64) -> String {
        let age = clock::now().saturating_duration_since(self.since).as_secs();
        let idle = now_ms.saturating_sub(self.active_ms.load(Ordering::Relaxed)) / 1000;
        let (subscriptions, patterns) =
            (self.subscriptions.load(Ordering::Relaxed), self.patterns.load(Ordering::Relaxed));
        let queued = match self.queued.load(Ordering::Relaxed) {
            u16::MAX => -1,
            queued => queued.into(),
        };
        let mut flags = String::new();
        let is_set = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        for (letter, applies) in [
            ('O', is_set(&self.is_monitor)),
            ('P', subscriptions + patterns > 0),
            ('x', queued >= 0),
            ('U', self.is_unix),
            ('e', is_set(&self.never_evicted)),
        ] {
            if applies {
                flags.push(letter);
            }
        }
        let flags = if flags.is_empty() { "N" } else { &flags };
        let version = self.version.load(Ordering::Relaxed);
        let library = lock(&self.library).as_deref().cloned().unwrap_or_default();
        let mut line = String::new();
        // Writing into a string does not fail.
        let _ = write!(
            line,
            "id={} addr={} name={} age={age} idle={} flags={flags} db={} sub={subscriptions} psub={patterns} ssub=0 \
             multi={queued} oll=0 omem={} cmd={} user=default resp={version} lib-name={} lib-ver={}",
            self.id,
            self.peer,
            self.name().unwrap_or_default(),
            idle.min(age),
            self.database.load(Ordering::Relaxed),
            lock(&self.inbox).bytes.len(),
            lock(&self.command),
            library.name,
            library.version,
        );
        line
    }
}
