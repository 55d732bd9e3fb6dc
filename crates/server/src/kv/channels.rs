//! Who listens to which channels.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use xferd_engine::lock;
use xferd_kv::matches;
use xferd_wire::resp::{Replies, Version};

use super::clients::{Client, Clients};

type Listeners = BTreeMap<u64, Arc<Client>>;

/// Channels and patterns that somebody listens to.
#[derive(Debug, Default)]
pub(crate) struct Channels(Mutex<Subscriptions>);

#[derive(Debug, Default)]
struct Subscriptions {
    channels: BTreeMap<Box<[u8]>, Listeners>,
    patterns: BTreeMap<Box<[u8]>, Listeners>,
}

/// Whether a name is that of a channel or describes several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Channel,
    Pattern,
}

impl Subscriptions {
    fn of(&mut self, kind: Kind) -> &mut BTreeMap<Box<[u8]>, Listeners> {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
        }
    }
}

impl Channels {
    pub(crate) fn subscribe(&self, kind: Kind, name: &[u8], client: &Arc<Client>) {
        lock(&self.0).of(kind).entry(name.into()).or_default().insert(client.id, client.clone());
    }

    pub(crate) fn unsubscribe(&self, kind: Kind, name: &[u8], client: &Client) {
        let mut subscriptions = lock(&self.0);
        let listeners = subscriptions.of(kind);
        if let Some(there) = listeners.get_mut(name) {
            there.remove(&client.id);
            if there.is_empty() {
                listeners.remove(name);
            }
        }
    }

    /// Tells who listens to `channel`, and how many that were.
    pub(crate) fn publish(&self, channel: &[u8], message: &[u8], clients: &Clients) -> usize {
        let subscriptions = lock(&self.0);
        let mut told = 0;
        if let Some(listeners) = subscriptions.channels.get(channel) {
            told += tell(clients, listeners, &[b"message", channel, message]);
        }
        for (pattern, listeners) in &subscriptions.patterns {
            if matches(pattern, channel) {
                told += tell(clients, listeners, &[b"pmessage", pattern, channel, message]);
            }
        }
        told
    }

    /// Channels that somebody listens to.
    pub(crate) fn names(&self, pattern: Option<&[u8]>) -> Vec<Box<[u8]>> {
        let subscriptions = lock(&self.0);
        let names = subscriptions.channels.keys();
        names.filter(|name| pattern.is_none_or(|pattern| matches(pattern, name))).cloned().collect()
    }

    /// How many listen to a channel.
    pub(crate) fn listeners(&self, channel: &[u8]) -> usize {
        lock(&self.0).channels.get(channel).map_or(0, BTreeMap::len)
    }

    pub(crate) fn channels(&self) -> usize {
        lock(&self.0).channels.len()
    }

    pub(crate) fn patterns(&self) -> usize {
        lock(&self.0).patterns.len()
    }
}

fn tell(clients: &Clients, listeners: &Listeners, parts: &[&[u8]]) -> usize {
    let encoded = [Version::Resp2, Version::Resp3].map(|version| {
        let mut bytes = Vec::new();
        let mut replies = Replies::new(&mut bytes, version);
        replies.push(parts.len());
        parts.iter().for_each(|part| replies.bulk(part));
        bytes
    });
    let [resp2, resp3] = &encoded;
    for client in listeners.values() {
        clients.tell(client, if client.version() == Version::Resp3 { resp3 } else { resp2 });
    }
    listeners.len()
}
