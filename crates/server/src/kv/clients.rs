//! Who is connected to the key-value store, and what others have for them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use xferd_engine::{Effects, lock};
use xferd_kv::commands::COMMANDS;
use xferd_os::net::Peer;
use xferd_os::{clock, scaled};
use xferd_wire::resp::Version;

/// Bytes that others may have for a connection that does not read them. Then it is cut, as by Redis's
/// `client-output-buffer-limit pubsub 32mb`: what it missed could not be told to it.
pub const INBOX_BYTES_MAX: usize = scaled(32 << 20) as usize;

/// Bytes that others may have for all connections together. When that is used up those are cut that have the most, until there
/// is room again. So nobody is cut who has no more than his equal share of what remains, however many others do not read.
pub const INBOXES_BYTES_MAX: usize = scaled(256 << 20) as usize;

/// What remains then: to look at all of them is worth it once in so many bytes.
const INBOXES_BYTES_KEPT: usize = INBOXES_BYTES_MAX / 4 * 3;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    list: Mutex<BTreeMap<u64, Arc<Client>>>,
    last_id: AtomicU64,
    /// How many want to be told of every command.
    monitors: AtomicUsize,
    /// Bytes in all inboxes.
    waiting: Arc<AtomicUsize>,
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
    /// The last command, by where it is among [`COMMANDS`].
    command: AtomicUsize,
    name: Mutex<Option<Box<str>>>,
    library: Mutex<Option<Box<Library>>>,
    inbox: Mutex<Inbox>,
    bell: OnceLock<Bell>,
}

/// How others wake whoever reads its inbox.
struct Bell(Box<dyn Fn() + Send + Sync>);

/// Which client library it is, if it says so.
#[derive(Debug, Default, Clone)]
pub(crate) struct Library {
    pub(crate) name: String,
    pub(crate) version: String,
}

#[derive(Debug)]
struct Inbox {
    bytes: VecDeque<u8>,
    end: Option<Cut>,
    /// Bytes in all of them.
    waiting: Arc<AtomicUsize>,
}

/// Why a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Somebody said CLIENT KILL.
    Killed,
    /// It did not read what it had asked for.
    TooSlow,
}

impl fmt::Debug for Bell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Bell")
    }
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
            command: AtomicUsize::new(usize::MAX),
            name: Mutex::default(),
            library: Mutex::default(),
            inbox: Mutex::new(Inbox::new(self.waiting.clone())),
            bell: OnceLock::new(),
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
                // It may have ceased to want that in between.
                .for_each(|client| {
                    self.tell_if(client, &line, |client| client.is_monitor.load(Ordering::Relaxed))
                });
        }
    }

    /// Puts a message into the inbox of a client. One that has too much there is cut.
    pub(crate) fn tell(&self, client: &Client, message: &[u8]) {
        self.tell_if(client, message, |_| true);
    }

    fn tell_if(&self, client: &Client, message: &[u8], wants: impl FnOnce(&Client) -> bool) {
        if !self.make_room(message.len()) {
            return client.cut();
        }
        client.put(message, wants);
    }

    /// Tells it nothing more, not even what waits to be told.
    pub(crate) fn hush(&self, client: &Client) {
        self.set_monitor(client, false);
        drop(client.take_all());
    }

    /// Counts `bytes` more, if need be once others have been cut.
    fn make_room(&self, bytes: usize) -> bool {
        let reserve = || {
            let fits = |waiting| Some(waiting + bytes).filter(|waiting| *waiting <= INBOXES_BYTES_MAX);
            self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
        };
        reserve() || {
            self.relieve();
            reserve()
        }
    }

    /// Cuts those that read least.
    fn relieve(&self) {
        let mut fullest: Vec<_> = self.all().into_iter().map(|client| (client.waiting(), client)).collect();
        fullest.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
        for (_, client) in fullest {
            if self.waiting.load(Ordering::Relaxed) <= INBOXES_BYTES_KEPT {
                break;
            }
            client.cut();
        }
    }
}

impl Inbox {
    fn new(waiting: Arc<AtomicUsize>) -> Self {
        Self { bytes: VecDeque::new(), end: None, waiting }
    }

    /// Takes the oldest bytes out.
    fn take(&mut self, bytes_max: usize) -> Vec<u8> {
        let bytes = self.bytes.len().min(bytes_max);
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        if bytes == self.bytes.len() {
            return std::mem::take(&mut self.bytes).into();
        }
        self.bytes.drain(..bytes).collect()
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

impl Client {
    /// Sets what is called when something has come into an empty inbox. It must not block.
    pub(crate) fn on_told(&self, call: impl Fn() + Send + Sync + 'static) {
        // A connection is connected once.
        let _ = self.bell.set(Bell(Box::new(call)));
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

    /// It says something: the command at this place among [`COMMANDS`].
    pub(crate) fn note_command(&self, index: usize, now_ms: u64) {
        self.active_ms.store(now_ms, Ordering::Relaxed);
        self.command.store(index, Ordering::Relaxed);
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

    /// Puts a message, which is counted already, into its inbox.
    fn put(&self, message: &[u8], wants: impl FnOnce(&Self) -> bool) {
        let is_new = {
            let mut inbox = lock(&self.inbox);
            let is_too_much = inbox.bytes.len() + message.len() > INBOX_BYTES_MAX;
            if inbox.end.is_some() || is_too_much || !wants(self) {
                inbox.waiting.fetch_sub(message.len(), Ordering::Relaxed);
                drop(inbox);
                return if is_too_much {
                    self.cut()
                };
            }
            let was_empty = inbox.bytes.is_empty();
            inbox.bytes.extend(message);
            was_empty
        };
        if is_new {
            self.nudge();
        }
    }

    /// Has its connection end, because it does not read what it has asked for.
    fn cut(&self) {
        {
            let mut inbox = lock(&self.inbox);
            if inbox.end.is_some() {
                return;
            }
            inbox.take(usize::MAX);
            inbox.end = Some(Cut::TooSlow);
        }
        self.nudge();
    }

    /// Has its connection end, because somebody says so.
    pub(crate) fn kill(&self) {
        lock(&self.inbox).end = Some(Cut::Killed);
        self.nudge();
    }

    /// Has its inbox looked at.
    pub(crate) fn nudge(&self) {
        if let Some(Bell(call)) = self.bell.get() {
            call();
        }
    }

    /// Whether it is to end.
    pub(crate) fn end(&self) -> Option<Cut> {
        lock(&self.inbox).end
    }

    /// Whether others have something for it, if only its end.
    pub(crate) fn has_news(&self) -> bool {
        let inbox = lock(&self.inbox);
        !inbox.bytes.is_empty() || inbox.end.is_some()
    }

    /// All that others had for it, and whether it is to end.
    pub(crate) fn take_all(&self) -> (Vec<u8>, Option<Cut>) {
        let mut inbox = lock(&self.inbox);
        (inbox.take(usize::MAX), inbox.end)
    }

    /// What others had for it first, no more than can be queued for a peer, and whether it is to end. If there is more,
    /// what was taken is enough for [`Event::Drained`](xferd_engine::Event::Drained) to follow.
    pub(crate) fn take(&self) -> (Vec<u8>, Option<Cut>) {
        let mut inbox = lock(&self.inbox);
        (inbox.take(Effects::<()>::SEND_QUEUE_HIGH_BYTES as usize), inbox.end)
    }

    /// Bytes that others have for it.
    fn waiting(&self) -> usize {
        lock(&self.inbox).bytes.len()
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
            self.waiting(),
            COMMANDS.get(self.command.load(Ordering::Relaxed)).map_or("NULL", |command| command.name),
            library.name,
            library.version,
        );
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients<const N: usize>(clients: &Clients) -> [Arc<Client>; N] {
        std::array::from_fn(|_| clients.add(Peer::Unix { pid: 1, uid: 0, gid: 0 }))
    }

    fn counted(clients: &Clients) -> usize {
        clients.waiting.load(Ordering::Relaxed)
    }

    #[test]
    fn so_much_waits_for_a_client_and_with_one_byte_more_it_is_cut() {
        let all = Clients::default();
        let [client, other] = clients(&all);
        all.tell(&client, &vec![0; INBOX_BYTES_MAX]);
        assert_eq!((client.end(), counted(&all)), (None, INBOX_BYTES_MAX));
        all.tell(&client, &[0]);
        assert_eq!((client.end(), client.waiting(), counted(&all)), (Some(Cut::TooSlow), 0, 0));
        all.tell(&other, &vec![0; INBOX_BYTES_MAX + 1]);
        assert_eq!((other.end(), counted(&all)), (Some(Cut::TooSlow), 0));
    }

    #[test]
    fn so_much_waits_for_all_and_with_one_byte_more_those_are_cut_that_have_the_most() {
        let all = Clients::default();
        let keen: [_; 3] = clients(&all);
        let deaf: [_; INBOXES_BYTES_MAX / INBOX_BYTES_MAX] = clients(&all);
        keen.iter().for_each(|client| all.tell(client, b"news"));
        let [first, rest @ ..] = &deaf;
        rest.iter().for_each(|client| all.tell(client, &vec![0; INBOX_BYTES_MAX]));
        all.tell(first, &vec![0; INBOXES_BYTES_MAX - counted(&all)]);
        assert_eq!(counted(&all), INBOXES_BYTES_MAX);
        assert!(deaf.iter().chain(&keen).all(|client| client.end().is_none()));
        let [last, ..] = &keen;
        all.tell(last, b"!");
        assert!(counted(&all) <= INBOXES_BYTES_KEPT + 1, "{}", counted(&all));
        assert!(deaf.iter().any(|client| client.end().is_none()), "more are cut than need be");
        for client in &keen {
            assert_eq!(client.end(), None);
        }
        assert_eq!(last.take(), (b"news!".to_vec(), None));
    }

    #[test]
    fn what_waits_is_handed_over_in_parts_and_counted_until_then() {
        const PART_BYTES: usize = Effects::<()>::SEND_QUEUE_HIGH_BYTES as usize;
        let all = Clients::default();
        let [client, gone] = clients(&all);
        let message: Vec<u8> = (0..2 * PART_BYTES + 1).map(|index| (index % 251) as u8).collect();
        all.tell(&client, &message);
        all.tell(&gone, b"never read");
        all.remove(&gone);
        drop(gone);
        let mut heard = Vec::new();
        for part in [PART_BYTES, PART_BYTES, 1, 0] {
            assert_eq!(counted(&all), message.len() - heard.len());
            let (bytes, _) = client.take();
            assert_eq!(bytes.len(), part);
            heard.extend(bytes);
        }
        assert!(heard == message);
    }
}
