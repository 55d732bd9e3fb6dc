//! What hostile peers say to a server of keys. Nobody else speaks of the database that they are in.

use xferd_os::sim::{Dice, MILLION};
use xferd_wire::resp::encode_request;

/// Something that others say, too, and that is soon answered.
pub(super) fn session(dice: &mut Dice) -> Vec<u8> {
    let key = key(dice);
    let text = "x".repeat(*dice.one_of(&[1, 30, 2000]));
    match dice.below(12) {
        0..=2 => request(&["SET", &key, &text]),
        3 => request(&["SET", &key, &text, "PX", "200"]),
        4 => request(&["APPEND", &key, "more"]),
        5 => request(&["SUBSCRIBE", "news"]),
        6 => request(&["PUBLISH", "news", &text]),
        7 => request(&["MONITOR"]),
        8 => request(&["MULTI"]),
        9 => request(&["WATCH", &key]),
        10 => request(&["HELLO", "3"]),
        _ => b"PING\r\nGET h0\nEXISTS 'h1' \"h2\"\r\n".to_vec(),
    }
}

/// Something with a long answer, and again.
pub(super) fn demand(dice: &mut Dice) -> Vec<u8> {
    let (key, text) = (key(dice), "x".repeat(2000));
    let once = match dice.below(6) {
        0 => request(&["SET", &key, &text]),
        1 => request(&["PUBLISH", "news", &text]),
        2 => request(&["MGET", "h0", "h1", "h2", "h3"]),
        3 => request(&["COMMAND"]),
        4 => request(&["SUBSCRIBE", &key]),
        _ => request(&["GET", &key]),
    };
    once.repeat(4)
}

/// Says that more comes than ever will.
pub(super) fn announce(dice: &mut Dice) -> Vec<u8> {
    let mut words = match dice.below(8) {
        0 => b"*1048576\r\n$3\r\nDEL\r\n".to_vec(),
        1 => b"*2147483647\r\n$3\r\nDEL\r\n".to_vec(),
        2 => b"*3\r\n$3\r\nSET\r\n$2\r\nh0\r\n$9223372036854775808\r\n".to_vec(),
        3 => b"*-2\r\n".to_vec(),
        4 => b"SET h0 \"".to_vec(),
        5 => b"*3\r\n$3\r\nSET\r\n$536870912\r\n".to_vec(),
        6 => [request(&["MULTI"]), demand(dice), demand(dice)].concat(),
        _ => b"*3\r\n$3\r\nSET\r\n$2\r\nh0\r\n$536870912\r\n".to_vec(),
    };
    let little = dice.below(5000) as usize;
    words.extend(b"y".repeat(little));
    words
}

/// Anything, often with a beginning that is worth reading on.
pub(super) fn rave(dice: &mut Dice) -> Vec<u8> {
    let mut words = Vec::new();
    if dice.chance(MILLION / 2) {
        let begin = dice.one_of::<&[u8]>(&[
            b"*2\r\n$3\r\nGET\r\n",
            b"*1\r\n$",
            b"*",
            b"$5\r\n",
            b"GET / HTTP/1.1\r\n",
        ]);
        words.extend_from_slice(begin);
    }
    words.extend((0..dice.between(1, 500)).map(|_| dice.number() as u8));
    words
}

fn key(dice: &mut Dice) -> String {
    format!("h{}", dice.below(4))
}

fn request(words: &[&str]) -> Vec<u8> {
    let mut request = Vec::new();
    encode_request(words, &mut request);
    request
}
