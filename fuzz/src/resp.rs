//! RESP: what is taken for a request or a reply, held against an independent reader.

use xferd_wire::resp::{
    ArgsBuf, ReplyScanner, RequestParser, RespError, Value, ValueDecoder, encode_request, is_http,
};

use crate::input::Input;
use crate::oracle;
use crate::wire::cut;

/// Any bytes, cut anywhere, are the same requests and the same error, and the oracle agrees where it must.
///
/// First the lengths of the pieces, over and over; the highest bit of their count says that the client is a stranger.
pub fn resp_request(data: &[u8]) {
    let mut input = Input(data);
    let how = input.u8();
    let lens = input.bytes((how & 0x0f).into());
    let is_stranger = how >= 0x80;
    let stream = input.0;
    let (requests, error) = parse([stream].into_iter(), is_stranger);
    assert_eq!(parse(cut(stream, lens), is_stranger), (requests.clone(), error));

    let mut begin = 0;
    for (len, args) in &requests {
        is_http(args.iter().collect::<ArgsBuf>().args());
        let mut again = Vec::new();
        encode_request(args, &mut again);
        if !args.is_empty() {
            assert_eq!(oracle::request(&again), Some((args.clone(), again.len())));
        }
        if let Some(theirs) = oracle::plain_request(&stream[begin..]) {
            assert_eq!(theirs, (args.clone(), *len));
        }
        begin += len;
    }
    if !is_stranger {
        assert_eq!(oracle::plain_request(&stream[begin..]), None, "{error:?}");
    }
}

/// Any bytes, cut anywhere, are the same replies for decoder and scanner, survive another round, and are the same for
/// the oracle.
pub fn resp_reply(data: &[u8]) {
    let mut input = Input(data);
    let lens = input.u8();
    let lens = input.bytes((lens & 0x0f).into());
    let stream = input.0;
    let (replies, error) = decode([stream].into_iter());
    // A NaN is no other's equal.
    assert_eq!(format!("{:?}", decode(cut(stream, lens))), format!("{:?}", (&replies, error)));

    let mut begin = 0;
    for (len, value) in &replies {
        oracle::check_value(value, &stream[begin..begin + len]);
        let mut again = Vec::new();
        oracle::write(value, &mut again);
        let (twice, error) = decode([&again[..]].into_iter());
        assert_eq!(error, None);
        assert_eq!(format!("{twice:?}"), format!("{:?}", [(again.len(), value)]));
        begin += len;
    }
}

type Requests = Vec<(usize, Vec<Vec<u8>>)>;

/// The requests in `pieces` with their lengths, and the error that ended them, if one did.
fn parse<'a>(pieces: impl Iterator<Item = &'a [u8]>, is_stranger: bool) -> (Requests, Option<RespError>) {
    let mut parser = RequestParser::new();
    parser.set_authenticated(!is_stranger);
    let mut requests = Vec::new();
    let mut bytes = Vec::new();
    for piece in pieces {
        bytes.extend_from_slice(piece);
        loop {
            match parser.parse(&bytes) {
                Err(error) => return (requests, Some(error)),
                Ok(Some(len)) => {
                    let args = parser.args(&bytes[..len]).iter().map(<[u8]>::to_vec).collect();
                    requests.push((len, args));
                    bytes.drain(..len);
                }
                Ok(None) => break,
            }
        }
        assert!(parser.wants(bytes.len()) > 0);
        // Whenever it gives back its memory, nothing is forgotten.
        parser.rest();
    }
    (requests, None)
}

/// The replies in `pieces` with their lengths, and the error that ended them, if one did.
fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<(usize, Value)>, Option<String>) {
    let mut decoder = ValueDecoder::new();
    let mut scanner = ReplyScanner::new();
    let mut replies = Vec::new();
    let mut bytes = Vec::new();
    for piece in pieces {
        bytes.extend_from_slice(piece);
        loop {
            let scanned = scanner.scan(&bytes);
            match decoder.decode(&bytes) {
                Err(error) => {
                    assert_eq!(scanned, Err(error));
                    return (replies, Some(error.to_string()));
                }
                Ok(Some((len, value))) => {
                    assert_eq!(scanned, Ok(Some(len)));
                    replies.push((len, value));
                    bytes.drain(..len);
                }
                Ok(None) => {
                    assert_eq!(scanned, Ok(None));
                    break;
                }
            }
        }
    }
    (replies, None)
}
