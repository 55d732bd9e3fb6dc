use std::iter;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use xferd_engine::{Backend, Budget, shards};
use xferd_os::clock;
use xferd_os::net::Address;
use xferd_reactor::Limits;
use xferd_wire::resp::encode_request;
use xferd_wire::{Decoder, Framed, Hello, Item, KvArgs, KvPart};

use super::super::call::{Call, KvCut};
use super::super::greeting::Greeting;
use super::super::pool::Pool;
use super::*;
use crate::dispatcher::Dispatcher;
use crate::kv::Way;
use crate::session::ClientSession;

const ANSWERS_BYTES_MAX: usize = 100;
const PATIENCE: Duration = Duration::from_secs(60);

/// A lane whose connection is played, and the pool that it serves.
struct Rig {
    lane: Lane,
    pool: Arc<Pool>,
    next: u32,
}

impl Rig {
    fn new() -> Self {
        let (shards, _) =
            shards::<ClientSession>(Backend::Mio, 1, 0, Limits::default(), 1, &Budget::default()).unwrap();
        let mailbox = shards.first().expect("there is one").mailbox();
        let address = Address::from(([127, 0, 0, 1], 1));
        let dispatcher = Dispatcher::new(mailbox, iter::empty(), address, PATIENCE);
        let mut dialer = Dialer::new(Way::Shared(dispatcher), Greeting::default(), PATIENCE);
        dialer.replies_bytes_max = ANSWERS_BYTES_MAX;
        let dialer = Arc::new(dialer);
        let pool = Arc::new(Pool::new(1, dialer.clone()));
        let lane = Lane::new(Order { berth: Berth::pooled(pool.clone(), 0), dialer });
        let mut rig = Self { lane, pool, next: 1 };
        rig.lane.begin(None);
        assert_eq!(rig.said().unwrap(), [(1, "HELLO 3".to_owned())]);
        rig.reply(1, b"%0\r\n", false).unwrap();
        rig
    }

    /// A call that is sent.
    fn call(&mut self, commands: &[&[&str]]) -> Receiver<Result<Vec<u8>, KvCut>> {
        let mut requests = Vec::new();
        commands.iter().for_each(|command| encode_request(*command, &mut requests));
        self.call_with(requests, commands.len())
    }

    fn call_with(&mut self, requests: Vec<u8>, count: usize) -> Receiver<Result<Vec<u8>, KvCut>> {
        let (sender, ended) = mpsc::channel();
        let on_end = move |result| drop(sender.send(result));
        self.pool.call(Call::new(requests, count, clock::now() + PATIENCE, on_end).0);
        self.lane.go_on();
        ended
    }

    /// What is sent: the numbers of requests, and their words.
    fn said(&mut self) -> Result<Vec<(u32, String)>, Failure> {
        let mut effects = Effects::<()>::default();
        let next = &mut self.next;
        let number = || {
            *next += 1;
            *next - 1
        };
        self.lane.say(number, &mut effects)?;
        let mut bytes = Vec::new();
        Hello::default().encode(&mut bytes);
        for effect in effects.take() {
            if let Effect::Send(sent) = effect {
                bytes.extend_from_slice(sent.remaining());
            }
        }
        let (mut decoder, mut rest, mut said) = (Decoder::new(), bytes.as_slice(), Vec::new());
        while !rest.is_empty() {
            let (taken, item) = decoder.decode(rest).unwrap();
            rest = &rest[taken..];
            if let Some(Item::Frame(Framed { request, frame: Frame::Kv(part) })) = item {
                let mut args = KvArgs::default();
                let words = args.read(&part.bytes).unwrap();
                let words: Vec<_> =
                    words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
                said.push((request, words.join(" ")));
            }
        }
        Ok(said)
    }

    fn reply(&mut self, request: u32, bytes: &[u8], more: bool) -> Result<(), Failure> {
        self.lane.on_frame(request, Frame::KvReply(KvPart { bytes: bytes.to_vec(), more }))
    }
}

#[test]
fn replies_are_put_into_the_order_of_their_requests() {
    let mut rig = Rig::new();
    let (one, other) = (rig.call(&[&["GET", "a"], &["GET", "b"]]), rig.call(&[&["PING"]]));
    let said = rig.said().unwrap();
    assert_eq!(said, [(2, "GET a".into()), (3, "GET b".into()), (4, "PING".into())]);
    rig.reply(4, b"+PONG\r\n", false).unwrap();
    rig.reply(3, b"$1\r\n", true).unwrap();
    rig.reply(2, b":1\r", true).unwrap();
    rig.reply(3, b"b\r\n", false).unwrap();
    assert!(one.try_recv().is_err() && other.try_recv().is_err() && rig.lane.is_busy());
    rig.reply(2, b"\n", false).unwrap();
    assert_eq!(one.try_recv().unwrap().unwrap(), b":1\r\n$1\r\nb\r\n");
    assert_eq!(other.try_recv().unwrap().unwrap(), b"+PONG\r\n");
    assert!(!rig.lane.is_busy() && !rig.lane.is_over() && rig.lane.kept_bytes == 0);
}

#[test]
fn what_nobody_asked_is_refused() {
    let mut rig = Rig::new();
    let _call = rig.call(&[&["GET", "a"], &["GET", "b"]]);
    rig.said().unwrap();
    rig.reply(3, b":1\r\n", false).unwrap();
    for (request, frame) in [
        (1, Frame::KvReply(KvPart { bytes: b":1\r\n".to_vec(), more: false })),
        (3, Frame::KvReply(KvPart { bytes: b":1\r\n".to_vec(), more: false })),
        (2, Frame::Done),
    ] {
        assert_eq!(rig.lane.on_frame(request, frame).unwrap_err().code, ErrorCode::Protocol);
    }
}

#[test]
fn so_many_bytes_of_answers_are_kept_and_not_one_more() {
    for excess in [0, 1] {
        let mut rig = Rig::new();
        let calls = [rig.call(&[&["GET", "a"]]), rig.call(&[&["GET", "b"]])];
        rig.said().unwrap();
        rig.reply(3, &[b'+'; 50], true).unwrap();
        rig.lane.on_frame(0, Frame::KvPush(KvPart { bytes: vec![b'>'; 25], more: true })).unwrap();
        let result = rig.reply(2, &[b'+'; 25 + 1][..25 + excess], true);
        assert_eq!(result.clone().map_err(|failure| failure.code), [Ok(()), Err(ErrorCode::Limit)][excess]);
        if let Err(failure) = result {
            rig.lane.fail(&failure);
            let codes = calls.map(|call| call.try_recv().unwrap().unwrap_err().failure.code);
            assert_eq!(codes, [ErrorCode::Limit, ErrorCode::ConnectionLost]);
            assert!(rig.lane.is_over());
        }
    }
}

#[test]
fn what_is_no_request_fails_alone() {
    let mut rig = Rig::new();
    let right = rig.call(&[&["PING"]]);
    let wrong = rig.call_with(b"*1\r\n$4\r\nPI".to_vec(), 1);
    let failure = rig.said().unwrap_err();
    rig.lane.fail(&failure);
    assert_eq!(wrong.try_recv().unwrap().unwrap_err().failure.code, ErrorCode::InvalidArgument);
    assert_eq!(right.try_recv().unwrap().unwrap_err().failure.code, ErrorCode::ConnectionLost);
}

#[test]
fn who_was_told_that_nothing_was_done_hears_why() {
    let mut rig = Rig::new();
    let call = rig.call(&[&["PING"]]);
    rig.said().unwrap();
    assert!(rig.lane.has_asked(2) && !rig.lane.has_asked(1));
    let reply = Failure::new(ErrorCode::ShuttingDown, "soon").into_reply();
    let failure = rig.lane.on_frame(2, Frame::Error(reply)).unwrap_err();
    rig.lane.fail(&failure);
    assert_eq!(call.try_recv().unwrap().unwrap_err().failure, failure);
}

#[test]
fn whatever_a_server_says_each_call_ends_once() {
    const SAYINGS: [&[u8]; 7] =
        [b"+OK\r\n", b":1\r\n", b"$2\r\n", b"ab\r\n", b">1\r\n:1\r\n", b"\0", b"+a\r\n+b\r\n"];
    for seed in 1..2000_u64 {
        // Numbers that only have to be various (xorshift, Marsaglia 2003).
        let mut state = seed;
        let mut roll = |sides: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % sides
        };
        let (mut rig, mut calls) = (Rig::new(), Vec::new());
        for _ in 0..roll(40) {
            let part = KvPart { bytes: SAYINGS[roll(7) as usize].to_vec(), more: roll(4) == 0 };
            let (heard, request) = (roll(8), 2 + roll(8) as u32);
            let heard = match heard {
                0 | 1 => {
                    calls.push(rig.call(&[&["PING"], &["PING"]]));
                    Ok(())
                }
                2 => rig.lane.on_frame(0, Frame::KvPush(part)),
                _ if rig.lane.has_asked(request) => rig.lane.on_frame(request, Frame::KvReply(part)),
                _ => Ok(()),
            };
            if let Err(failure) = heard.and_then(|()| rig.said().map(drop)) {
                rig.lane.fail(&failure);
            }
            if rig.lane.is_over() {
                break;
            }
        }
        rig.pool.close();
        rig.lane.fail(&Failure::new(ErrorCode::Aborted, "the test is over"));
        for call in calls {
            assert_eq!(call.try_iter().count(), 1, "seed {seed}");
        }
    }
}
