//! Requests, ready but for their key.

use xferd_wire::resp::encode_request;

use super::Command;
use super::keys::{Keys, Next};

/// What every key begins with: nobody else's does.
const PREFIX: &str = "xferd-bench:";

/// Digits of a key's number.
const DIGITS: usize = 10;

/// What a reply is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Ok,
    Pong,
    /// The value, or that there is none.
    Value,
    Integer,
}

/// All that is ever asked.
#[derive(Debug)]
pub(super) struct Requests {
    /// What counts, and what is asked instead if chance has it.
    first: Ready,
    other: Option<(f64, Ready)>,
    /// Makes a key be as it has to be before, and afterwards.
    fill: Option<Ready>,
    clean: Option<Ready>,
}

impl Requests {
    pub(super) fn new(command: Command, value_bytes: usize) -> Self {
        let value = "x".repeat(value_bytes);
        let ready = |args: &[&str], expected| Ready::new(args, expected);
        let set = ready(&["SET", PREFIX, &value], Expected::Ok);
        let get = ready(&["GET", PREFIX], Expected::Value);
        let del = ready(&["DEL", PREFIX], Expected::Integer);
        let (first, fill) = match command {
            Command::Ping => {
                let first = ready(&["PING"], Expected::Pong);
                return Self { first, other: None, fill: None, clean: None };
            }
            Command::Set => (set.clone(), set.clone()),
            Command::Get | Command::Mixed(_) => (get, set.clone()),
            Command::Incr => (ready(&["INCR", PREFIX], Expected::Integer), del.clone()),
            Command::Lpush => (ready(&["LPUSH", PREFIX, &value], Expected::Integer), del.clone()),
        };
        let other = match command {
            Command::Mixed(reads) => Some((1.0 - reads, set)),
            _ => None,
        };
        Self { first, other, fill: Some(fill), clean: Some(del) }
    }

    /// What makes a key be there, or not be there, before.
    pub(super) fn fill(&self) -> Option<&Ready> {
        self.fill.as_ref()
    }

    /// What removes a key.
    pub(super) fn clean(&self) -> Option<&Ready> {
        self.clean.as_ref()
    }

    /// Appends one that counts.
    pub(super) fn write(&self, keys: &Keys, next: &mut Next, out: &mut Vec<u8>) -> Expected {
        let ready = match &self.other {
            Some((share, other)) if next.random.unit() < *share => other,
            _ => &self.first,
        };
        let key = if ready.digits_at.is_some() { next.key(keys) } else { 0 };
        ready.write(key, out)
    }

    /// Bytes of the longest that counts.
    pub(super) fn bytes(&self) -> usize {
        let other = self.other.as_ref().map_or(0, |(_, other)| other.bytes.len());
        self.first.bytes.len().max(other)
    }
}

/// A request, with a gap for the number of a key.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    bytes: Vec<u8>,
    digits_at: Option<usize>,
    expected: Expected,
}

impl Ready {
    /// The second argument, if there is one, begins with [`PREFIX`].
    fn new(args: &[&str], expected: Expected) -> Self {
        let key = args.get(1).map(|prefix| format!("{prefix}{:0DIGITS$}", 0));
        let args = args.iter().enumerate().map(|(index, arg)| match &key {
            Some(key) if index == 1 => key.as_bytes(),
            _ => arg.as_bytes(),
        });
        let mut bytes = Vec::new();
        encode_request(args.collect::<Vec<_>>(), &mut bytes);
        let prefix_at = bytes.windows(PREFIX.len()).position(|window| window == PREFIX.as_bytes());
        Self { bytes, digits_at: prefix_at.map(|at| at + PREFIX.len()), expected }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends it for one key.
    pub(super) fn write(&self, key: u32, out: &mut Vec<u8>) -> Expected {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        if let Some(at) = self.digits_at {
            write_digits(key, out.get_mut(start + at..start + at + DIGITS).unwrap_or_default());
        }
        self.expected
    }
}

/// Fills `out` with the last digits of `number`, two at a time.
fn write_digits(mut number: u32, out: &mut [u8]) {
    for pair in out.rchunks_exact_mut(2) {
        pair.copy_from_slice(&PAIRS[(number % 100) as usize]);
        number /= 100;
    }
}

/// 00 to 99.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + number as u8 / 10, b'0' + number as u8 % 10];
        number += 1;
    }
    pairs
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Distribution;

    fn written(command: Command, requests: usize) -> Vec<String> {
        let keys = Keys::new(u32::MAX, Distribution::Sequential);
        let mut next = keys.begin(1, 2);
        let ready = Requests::new(command, 3);
        let write = |_| {
            let mut out = Vec::new();
            ready.write(&keys, &mut next, &mut out);
            assert!(out.len() <= ready.bytes());
            out.escape_ascii().to_string()
        };
        (0..requests).map(write).collect()
    }

    #[test]
    fn each_request_has_its_own_key() {
        assert_eq!(
            written(Command::Get, 2),
            [
                r"*2\r\n$3\r\nGET\r\n$22\r\nxferd-bench:2147483647\r\n",
                r"*2\r\n$3\r\nGET\r\n$22\r\nxferd-bench:2147483648\r\n"
            ]
        );
        assert_eq!(
            written(Command::Lpush, 1),
            [r"*3\r\n$5\r\nLPUSH\r\n$22\r\nxferd-bench:2147483647\r\n$3\r\nxxx\r\n"]
        );
        assert_eq!(written(Command::Ping, 1), [r"*1\r\n$4\r\nPING\r\n"]);
    }

    #[test]
    fn of_mixed_requests_as_many_read_as_should() {
        for reads in [0.0, 0.25, 0.9, 1.0] {
            let found =
                written(Command::Mixed(reads), 10_000).iter().filter(|line| line.contains("GET")).count();
            assert!((found as f64 / 10_000.0 - reads).abs() < 0.02, "{found} for {reads}");
        }
    }

    #[test]
    fn numbers_are_written_with_all_their_digits() {
        for number in [0, 1, 99, 100, 1_234_567_890, u32::MAX] {
            let mut out = [0; DIGITS];
            write_digits(number, &mut out);
            assert_eq!(std::str::from_utf8(&out), Ok(format!("{number:010}").as_str()));
        }
    }
}
