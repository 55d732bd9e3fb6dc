//! Keys in frames: the arguments of a request, and what is longer than one frame.

use crate::fault::Fault;
use crate::frame::KV_MORE;
use crate::header::{HEADER_BYTES, Header};
use crate::limits::{KV_ARG_BYTES_MAX, KV_ARGS_MAX, KV_PART_BYTES_MAX, KV_REQUEST_BYTES_MAX};
use crate::reader::Reader;
use crate::resp::{Args, Span};

/// Arguments whose places are remembered between requests; beyond, memory is given back.
const ARGS_KEPT_MAX: usize = 1024;

/// Bytes of a frame before what it carries.
const HEAD_BYTES: usize = HEADER_BYTES + size_of::<u16>();

/// A part of a request to the key-value store, of its reply, or of what came unasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvPart {
    /// At least one byte, at most [`KV_PART_BYTES_MAX`].
    pub bytes: Vec<u8>,
    /// Whether another part follows.
    pub more: bool,
}

/// Appends what `write` appends as frames of `request` with this opcode, one of those of keys: in as many as that takes.
pub fn encode_kv(opcode: u8, request: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    write(out);
    let len = out.len() - start - HEAD_BYTES;
    if len <= KV_PART_BYTES_MAX {
        // Nearly all: what was written stays where it is.
        let mut head = Vec::with_capacity(HEAD_BYTES);
        write_head(opcode, request, len, false, &mut head);
        out[start..start + HEAD_BYTES].copy_from_slice(&head);
        return;
    }
    let long = out.split_off(start + HEAD_BYTES);
    out.truncate(start);
    let mut parts = long.chunks(KV_PART_BYTES_MAX).peekable();
    while let Some(part) = parts.next() {
        write_head(opcode, request, part.len(), parts.peek().is_some(), out);
        out.extend_from_slice(part);
    }
}

/// Appends the arguments of one request, its command first: at least one, at most [`KV_ARGS_MAX`], each of at most
/// [`KV_ARG_BYTES_MAX`] bytes.
pub fn write_kv_args<'a>(args: impl ExactSizeIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    out.extend_from_slice(&(args.len() as u32).to_le_bytes());
    for arg in args {
        out.extend_from_slice(&(arg.len() as u32).to_le_bytes());
        out.extend_from_slice(arg);
    }
}

/// Finds the arguments of requests, and remembers where they are: 8 bytes for each.
#[derive(Debug, Default)]
pub struct KvArgs(Vec<Span>);

impl KvArgs {
    /// The arguments of a request that is whole.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read<'a>(&'a mut self, request: &'a [u8]) -> Result<Args<'a>, Fault> {
        self.0.clear();
        self.0.shrink_to(ARGS_KEPT_MAX);
        if request.len() > KV_REQUEST_BYTES_MAX {
            return Err(Fault::KvRequest);
        }
        let mut reader = Reader::new(request);
        let count = reader.u32()?;
        if count == 0 || count as usize > KV_ARGS_MAX {
            return Err(Fault::KvArgs { count });
        }
        let mut at = size_of::<u32>();
        for _ in 0..count {
            let bytes = reader.u32()?;
            let len = bytes as usize;
            if len > KV_ARG_BYTES_MAX {
                return Err(Fault::KvArg { bytes });
            }
            reader.bytes(len)?;
            at += size_of::<u32>();
            self.0.push(Span::new(at, at + len));
            at += len;
        }
        reader.finish()?;
        Ok(Args::new(request, &self.0))
    }

    /// Gives back the memory that is kept for the next request.
    pub fn rest(&mut self) {
        self.0 = Vec::new();
    }
}

fn write_head(opcode: u8, request: u32, len: usize, more: bool, out: &mut Vec<u8>) {
    Header::write(opcode, request, (size_of::<u16>() + len) as u64, out);
    let flags = if more { KV_MORE } else { 0 };
    out.extend_from_slice(&flags.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Decoder, Frame, Framed, Hello, Item, opcode};

    fn parts(mut bytes: &[u8]) -> Vec<KvPart> {
        let mut decoder = Decoder::new();
        let mut greeting = Vec::new();
        Hello::default().encode(&mut greeting);
        decoder.decode(&greeting).unwrap();
        let mut parts = Vec::new();
        while let (taken, Some(item)) = decoder.decode(bytes).unwrap() {
            bytes = &bytes[taken..];
            match item {
                Item::Frame(Framed { request: 7, frame: Frame::KvReply(part) }) => parts.push(part),
                other => panic!("{other:?}"),
            }
        }
        parts
    }

    fn written(args: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_kv_args(args.iter().copied(), &mut bytes);
        bytes
    }

    fn fault(bytes: &[u8]) -> Fault {
        KvArgs::default().read(bytes).unwrap_err()
    }

    #[test]
    fn what_fits_is_one_frame_and_a_byte_more_makes_two() {
        for (len, lens) in [
            (1, vec![1]),
            (KV_PART_BYTES_MAX, vec![KV_PART_BYTES_MAX]),
            (KV_PART_BYTES_MAX + 1, vec![KV_PART_BYTES_MAX, 1]),
            (3 * KV_PART_BYTES_MAX, vec![KV_PART_BYTES_MAX; 3]),
        ] {
            let value: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            let mut bytes = b"before".to_vec();
            encode_kv(opcode::KV_REPLY, 7, &mut bytes, |out| out.extend_from_slice(&value));
            assert_eq!(&bytes[..6], b"before");
            let parts = parts(&bytes[6..]);
            assert_eq!(parts.iter().map(|part| part.bytes.len()).collect::<Vec<_>>(), lens);
            let (last, before) = parts.split_last().unwrap();
            assert!(!last.more && before.iter().all(|part| part.more));
            assert_eq!(parts.iter().flat_map(|part| part.bytes.clone()).collect::<Vec<u8>>(), value);
        }
    }

    #[test]
    fn arguments_arrive_as_they_were() {
        let args: [&[u8]; 4] = [b"SET", b"", b"a\r\n\0b", &[0xff; 70_000]];
        let mut places = KvArgs::default();
        for _ in 0..2 {
            let bytes = written(&args);
            assert!(places.read(&bytes).unwrap().iter().eq(args));
        }
    }

    #[test]
    fn a_request_has_an_argument_at_least_and_so_many_at_most() {
        let many = |count: usize| written(&vec![&b"x"[..]; count]);
        assert_eq!(fault(&written(&[])), Fault::KvArgs { count: 0 });
        assert_eq!(KvArgs::default().read(&many(KV_ARGS_MAX)).unwrap().len(), KV_ARGS_MAX);
        let count = KV_ARGS_MAX as u32 + 1;
        assert_eq!(fault(&many(KV_ARGS_MAX + 1)), Fault::KvArgs { count });
        assert_eq!(fault(&count.to_le_bytes()), Fault::KvArgs { count });
    }

    #[test]
    fn an_argument_has_so_many_bytes_at_most() {
        let announced = |len: u32| [&1_u32.to_le_bytes()[..], &len.to_le_bytes()].concat();
        let max = KV_ARG_BYTES_MAX as u32;
        assert_eq!(fault(&announced(max)), Fault::Short);
        assert_eq!(fault(&announced(max + 1)), Fault::KvArg { bytes: max + 1 });
        assert_eq!(fault(&announced(u32::MAX)), Fault::KvArg { bytes: u32::MAX });
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        let bytes = written(&[b"SET", b"k", b"v"]);
        (0..bytes.len()).for_each(|len| assert_eq!(fault(&bytes[..len]), Fault::Short));
        assert_eq!(fault(&[&bytes[..], b"!"].concat()), Fault::Trailing { bytes: 1 });
    }
}
