use std::sync::Arc;
use std::sync::atomic::Ordering;

use xferd_engine::{Effect, Effects, End, Event, Session as _};
use xferd_os::net::Peer;

use super::*;
use crate::connection::ServerOutcome;

/// A session whose effects a test looks at.
struct Stage {
    kv: Arc<Kv>,
    session: KvSession,
    effects: Effects<ServerOutcome>,
}

impl Stage {
    fn new() -> Self {
        let kv =
            Kv::open(&KvConfig::default(), 1, Arc::default()).expect("keys in memory are always to be had");
        let kv = Arc::new(kv);
        let session = KvSession::new(kv.clone(), Peer::Internet(([127, 0, 0, 1], 1).into()));
        Self { kv, session, effects: Effects::default() }
    }

    /// What is answered, and whether the connection is to end.
    fn say(&mut self, bytes: &[u8]) -> (String, bool) {
        assert_eq!(self.session.on_bytes(bytes, &mut self.effects), bytes.len());
        let (mut said, mut ends) = (String::new(), false);
        for effect in self.effects.take() {
            match effect {
                Effect::Send(bytes) => said += &String::from_utf8_lossy(bytes.remaining()),
                Effect::Close { .. } => ends = true,
                _ => panic!("a session of keys in memory only talks"),
            }
        }
        (said, ends)
    }

    fn pending(&self) -> u64 {
        self.kv.pending_bytes.load(Ordering::Relaxed)
    }
}

#[test]
fn so_much_of_requests_is_kept_for_all_and_whoever_says_one_byte_more_is_cut() {
    let begun = b"*2\r\n$3\r\nGET\r\n$100\r\nk";
    let mut stage = Stage::new();
    // Others have said so much.
    let others = PENDING_BYTES_MAX - begun.len() as u64;
    stage.kv.pending_bytes.store(others, Ordering::Relaxed);
    assert_eq!(stage.say(begun), (String::new(), false));
    assert_eq!(stage.pending(), PENDING_BYTES_MAX);
    let (said, ends) = stage.say(b"k");
    assert!(ends && said.starts_with("-ERR too much of requests that are not whole"), "{said}");
    let happened = stage.kv.log.drain();
    assert!(
        matches!(&happened[..], [one] if matches!(one.kind, HappeningKind::Failed { .. })),
        "{happened:?}"
    );
    stage.session.on_event(Event::Closed(End::Closed), &mut stage.effects);
    assert_eq!(stage.pending(), others);
}

#[test]
fn what_is_kept_of_a_request_is_given_back_when_it_is_whole_and_when_it_makes_no_sense() {
    for (rest, answer, ends) in
        [("*1\r\n$4\r\nPING\r\n", "+PONG\r\n", false), ("*1\r\n$x", "-ERR Protocol", true)]
    {
        let mut stage = Stage::new();
        let (first, last) = rest.split_at(rest.len() - 1);
        assert_eq!(stage.say(first.as_bytes()), (String::new(), false));
        assert_eq!(stage.pending(), first.len() as u64);
        let last = format!("{last}\r\n");
        let (said, ended) = stage.say(last.as_bytes());
        assert!(said.starts_with(answer) && ended == ends, "{said}");
        assert_eq!(stage.pending(), 0);
    }
}
