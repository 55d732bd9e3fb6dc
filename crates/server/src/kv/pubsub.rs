//! SUBSCRIBE, PUBLISH and what belongs to them.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use xferd_kv::Refused;
use xferd_kv::commands::{help, is_word};
use xferd_wire::resp::{Args, Replies};

use super::channels::Kind;
use super::conversation::Conversation;

/// Channels, and patterns, that one connection may listen to.
const SUBSCRIPTIONS_MAX: usize = 10_000;

/// What a connection listens to.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    channels: BTreeSet<Box<[u8]>>,
    patterns: BTreeSet<Box<[u8]>>,
}

impl Subscriptions {
    pub(super) fn len(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }

    fn of(&mut self, kind: Kind) -> &mut BTreeSet<Box<[u8]>> {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
        }
    }
}

impl Conversation {
    pub(super) fn subscribe(
        &mut self,
        kind: Kind,
        names: Args<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        if self.subscriptions.of(kind).len() + names.len() > SUBSCRIPTIONS_MAX {
            return Err(Refused::Other("ERR too many channels for one connection; open another one"));
        }
        for name in names.iter() {
            if self.subscriptions.of(kind).insert(name.into()) {
                self.kv.channels.subscribe(kind, name, &self.client);
            }
            let word = if kind == Kind::Channel { "subscribe" } else { "psubscribe" };
            self.tell_subscription(word, Some(name), out);
        }
        Ok(())
    }

    /// From all if none is named.
    pub(super) fn unsubscribe(&mut self, kind: Kind, names: Args<'_>, out: &mut Vec<u8>) {
        let word = if kind == Kind::Channel { "unsubscribe" } else { "punsubscribe" };
        let all: Vec<Box<[u8]>> = match names.is_empty() {
            true => self.subscriptions.of(kind).iter().cloned().collect(),
            false => names.iter().map(Box::from).collect(),
        };
        if all.is_empty() {
            return self.tell_subscription(word, None, out);
        }
        for name in &all {
            if self.subscriptions.of(kind).remove(name) {
                self.kv.channels.unsubscribe(kind, name, &self.client);
            }
            self.tell_subscription(word, Some(name), out);
        }
    }

    /// Without a word.
    pub(super) fn unsubscribe_all(&mut self) {
        for kind in [Kind::Channel, Kind::Pattern] {
            for name in std::mem::take(self.subscriptions.of(kind)) {
                self.kv.channels.unsubscribe(kind, &name, &self.client);
            }
        }
        self.note_subscriptions();
    }

    fn tell_subscription(&mut self, word: &str, name: Option<&[u8]>, out: &mut Vec<u8>) {
        self.note_subscriptions();
        let mut replies = Replies::new(out, self.version);
        replies.push(3);
        replies.bulk(word);
        match name {
            Some(name) => replies.bulk(name),
            None => replies.null(),
        }
        replies.integer(self.subscriptions.len() as i64);
    }

    fn note_subscriptions(&self) {
        let count = |names: &BTreeSet<_>| u16::try_from(names.len()).unwrap_or(u16::MAX);
        self.client.subscriptions.store(count(&self.subscriptions.channels), Ordering::Relaxed);
        self.client.patterns.store(count(&self.subscriptions.patterns), Ordering::Relaxed);
    }

    pub(super) fn pubsub(&mut self, args: Args<'_>, replies: &mut Replies<'_>) -> Result<(), Refused> {
        let word = args.get(1).unwrap_or_default();
        if is_word(word, "channels") && args.len() <= 3 {
            let names = self.kv.channels.names(args.get(2));
            replies.array(names.len());
            names.iter().for_each(|name| replies.bulk(name));
        } else if is_word(word, "numsub") {
            let names = args.skip(2);
            replies.array(2 * names.len());
            for name in names.iter() {
                replies.bulk(name);
                replies.integer(self.kv.channels.listeners(name) as i64);
            }
        } else if is_word(word, "numpat") {
            replies.integer(self.kv.channels.patterns() as i64);
        } else if is_word(word, "help") {
            help(
                replies,
                "PUBSUB",
                &[
                    ("CHANNELS [<pattern>]", "Channels that somebody listens to."),
                    ("NUMPAT", "How many patterns somebody listens to."),
                    ("NUMSUB [<channel> ...]", "How many listen to each of the channels."),
                ],
            );
        } else {
            return Err(Refused::subcommand_arguments("PUBSUB", word));
        }
        Ok(())
    }
}
