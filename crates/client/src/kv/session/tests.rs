use std::sync::mpsc::{self, Receiver};

use xferd_engine::{Backend, Budget, Effect, shards};
use xferd_os::net::Address;
use xferd_reactor::Limits;

use super::super::call::KvCut;
use super::super::dialer::Way;
use super::super::greeting::Greeting;
use super::super::pool::Pool;
use super::*;

const GREETED: &[u8] = b"%0\r\n";
const REPLIES_BYTES_MAX: usize = 100;

/// A session whose shard is played, and the pool that it serves.
struct Rig {
    session: KvSession,
    effects: Fx,
    pool: Arc<Pool>,
}

impl Rig {
    fn new() -> Self {
        let limits = Limits::default();
        let (shards, _) = shards::<KvSession>(Backend::Mio, 1, 0, limits, 1, &Budget::default()).unwrap();
        let mailbox = shards.first().expect("there is one").mailbox();
        let address = Address::from(([127, 0, 0, 1], 1));
        let patience = Duration::from_secs(60);
        let way = Way::Own(mailbox, address);
        let mut dialer = Dialer::new(way, Greeting::default(), patience);
        dialer.replies_bytes_max = REPLIES_BYTES_MAX;
        let dialer = Arc::new(dialer);
        let pool = Arc::new(Pool::new(1, dialer.clone()));
        let mut rig = Self { session: KvSession::new(dialer), effects: Fx::default(), pool: pool.clone() };
        rig.tell(Event::Command(Berth::pooled(pool, 0)));
        rig.tell(Event::Connected);
        rig.hear(GREETED);
        assert!(rig.sent().starts_with(b"*2\r\n$5\r\nHELLO\r\n"));
        rig
    }

    fn tell(&mut self, event: Event<(), Berth>) {
        self.session.on_event(event, &mut self.effects);
    }

    fn hear(&mut self, bytes: &[u8]) {
        assert_eq!(self.session.on_bytes(bytes, &mut self.effects), bytes.len());
    }

    fn call(&mut self, requests: &[u8], count: usize) -> Receiver<Result<Vec<u8>, KvCut>> {
        let (sender, ended) = mpsc::channel();
        let deadline = clock::now() + self.session.dialer.patience;
        let (call, _) =
            Call::new(requests.to_vec(), count, deadline, move |result| drop(sender.send(result)));
        self.pool.call(call);
        self.tell(Event::Nudged);
        ended
    }

    /// Plays that it is sent.
    fn sent(&mut self) -> Vec<u8> {
        let bytes = |effect: Effect<()>| match effect {
            Effect::Send(bytes) => bytes.remaining().to_vec(),
            _ => Vec::new(),
        };
        self.effects.take().into_iter().flat_map(bytes).collect()
    }
}

fn bulk(bytes: usize) -> Vec<u8> {
    format!("${bytes}\r\n{}\r\n", "v".repeat(bytes)).into_bytes()
}

#[test]
fn so_many_bytes_of_replies_are_taken_and_not_one_more() {
    let first = bulk(50);
    assert_eq!(first.len() + bulk(36).len(), REPLIES_BYTES_MAX);
    for (excess, piece) in [(0, 1), (0, 1000), (1, 1), (1, 1000)] {
        let mut rig = Rig::new();
        let (large, other) = (rig.call(b"r", 2), rig.call(b"s", 1));
        let replies = [first.as_slice(), &bulk(36 + excess)].concat();
        replies.chunks(piece).for_each(|bytes| rig.hear(bytes));
        if excess == 0 {
            assert_eq!(large.try_recv().unwrap().unwrap(), replies);
            rig.hear(b":1\r\n");
            assert_eq!(other.try_recv().unwrap().unwrap(), b":1\r\n");
        } else {
            let KvCut { replies, failure } = large.try_recv().unwrap().unwrap_err();
            assert_eq!((replies, failure.code), (first.clone(), ErrorCode::Limit));
            assert!(failure.message.contains(&REPLIES_BYTES_MAX.to_string()), "{failure}");
            assert_eq!(other.try_recv().unwrap().unwrap_err().failure.code, ErrorCode::ConnectionLost);
            assert!(matches!(rig.effects.take().last(), Some(Effect::Close { flush: false })));
        }
    }
}

#[test]
fn a_reply_that_does_not_end_is_not_kept_beyond_the_limit() {
    let mut rig = Rig::new();
    let call = rig.call(b"r", 1);
    rig.hear(b"*1000000\r\n");
    for _ in 0..22 {
        rig.hear(b"_\r\n_");
        rig.hear(b"\r\n");
        if let Ok(result) = call.try_recv() {
            assert_eq!(result.unwrap_err().failure.code, ErrorCode::Limit);
            return;
        }
    }
    panic!("it is kept for ever");
}

#[test]
fn no_more_is_handed_over_than_can_be_sent_and_the_rest_can_go_elsewhere() {
    let mut rig = Rig::new();
    let requests = vec![b'r'; Fx::SEND_QUEUE_HIGH_BYTES as usize / 2];
    let calls: Vec<_> = (0..4).map(|_| rig.call(&requests, 1)).collect();
    assert_eq!(rig.session.calls.len(), 2);
    assert_eq!(rig.sent().len(), 2 * requests.len());
    rig.tell(Event::Closed(End::Closed));
    for (index, call) in calls.iter().enumerate() {
        match call.try_recv() {
            Ok(result) => {
                assert!(index < 2 && result.unwrap_err().failure.code == ErrorCode::ConnectionLost)
            }
            Err(_) => assert!(index >= 2),
        }
    }
}

#[test]
fn what_was_taken_back_is_not_sent_and_what_was_sent_is_answered_to_nobody() {
    let mut rig = Rig::new();
    let (sender, ended) = mpsc::channel();
    let begin = |requests: &[u8]| {
        let sender = sender.clone();
        let on_end = move |result: Result<Vec<u8>, KvCut>| sender.send(result.is_ok()).unwrap();
        let (call, handle) = Call::new(requests.to_vec(), 1, clock::now(), on_end);
        rig.pool.call(call);
        handle
    };
    let (sent, kept) = (begin(b"sent"), begin(b"kept"));
    begin(b"taken back").withdraw();
    rig.tell(Event::Nudged);
    assert_eq!(rig.sent(), b"sentkept");
    sent.withdraw();
    rig.hear(b":1\r\n:2\r\n");
    kept.withdraw();
    assert_eq!(ended.try_iter().collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(rig.pool.line(0).map(|line| line.load()), Some(0));
}

#[test]
fn an_idle_connection_is_let_go_of_and_a_call_brings_another() {
    let mut rig = Rig::new();
    assert_eq!(rig.session.patience(), IDLE_PATIENCE);
    rig.tell(Event::Stalled);
    assert!(matches!(rig.effects.take().last(), Some(Effect::Close { flush: false })));
    rig.tell(Event::Closed(End::Closed));
    assert!(rig.call(b"r", 1).try_recv().is_err(), "it waits for the next");
}

/// Numbers that only have to be various (xorshift, Marsaglia 2003).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

#[test]
fn whatever_a_server_says_each_call_ends_once() {
    const SAYINGS: [&[u8]; 14] = [
        b"+OK\r\n",
        b":1\r\n",
        b"$5\r\nhello\r\n",
        b"$-1\r\n",
        b"*2\r\n+a\r\n_\r\n",
        b">2\r\n+a\r\n:1\r\n",
        b"-ERR no\r\n",
        b"|1\r\n+a\r\n+b\r\n:1\r\n",
        b"*-2\r\n",
        b"$9223372036854775808\r\n",
        b"*2147483647\r\n",
        b"$100\r\n",
        b"\r\n",
        b"+\xff\xfe\r\n",
    ];
    for seed in 1..2000 {
        let (mut dice, mut rig) = (Dice(seed), Rig::new());
        let mut calls = Vec::new();
        for _ in 0..dice.roll(40) {
            match dice.roll(4) {
                0 if rig.session.phase == Phase::Open => calls.push(rig.call(b"r", dice.roll(4))),
                // Nonsense now and then.
                1 => {
                    let saying = SAYINGS[dice.roll(SAYINGS.len())];
                    let at = dice.roll(saying.len());
                    rig.hear(&saying[at..]);
                }
                _ => rig.hear(SAYINGS[dice.roll(8)]),
            }
            rig.sent();
        }
        rig.tell(Event::Closed(End::Stopped));
        for call in calls {
            assert_eq!(call.try_iter().count(), 1, "seed {seed}");
        }
    }
}
