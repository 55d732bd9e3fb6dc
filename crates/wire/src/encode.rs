//! Frames into bytes.

use crate::digest::Digest;
use crate::entry::{Entry, Mtime};
use crate::error::ErrorReply;
use crate::frame::{
    Frame, Have, KV_MORE, PARENTS, PUT_DURABLE, PUT_RESUMABLE, PUT_SHARED, PUT_SIZED, Put, RECURSIVE,
    Sharing, TO_END,
};
use crate::header::{HEADER_BYTES, Header};
use crate::limits::MESSAGE_BYTES_MAX;

/// Appends `frame` of `request` to `out`.
///
/// An extent's raw bytes are no part of it: the caller sends exactly `len` of them right behind. Numbers are written
/// as they are; one beyond the limit that its field documents will be refused by the peer.
pub fn encode(request: u32, frame: &Frame, out: &mut Vec<u8>) {
    let header_at = out.len();
    Header::write(frame.opcode(), request, 0, out);
    write_body(frame, out);
    let body_at = header_at + HEADER_BYTES;
    let raw_bytes = if let Frame::Extent { len, .. } = frame { *len } else { 0 };
    let body_bytes = ((out.len() - body_at) as u64).saturating_add(raw_bytes);
    out[body_at - size_of::<u64>()..body_at].copy_from_slice(&body_bytes.to_le_bytes());
}

fn write_body(frame: &Frame, out: &mut Vec<u8>) {
    match frame {
        Frame::Goodbye | Frame::Cancel | Frame::End | Frame::Done => {}
        Frame::Error(reply) => write_error(reply, out),
        Frame::Ping(number) | Frame::Pong(number) => write_u64(*number, out),
        Frame::Put(put) => write_put(put, out),
        Frame::Extent { offset, .. } => write_u64(*offset, out),
        Frame::Digest(digest) => write_digest(digest, out),
        Frame::Commit { size } => write_u64(*size, out),
        Frame::Committed(committed) => {
            write_u64(committed.size, out);
            out.push(committed.write_path.id());
            write_digest(&committed.digest, out);
        }
        Frame::Attach(transfer) => out.extend_from_slice(&transfer.0),
        Frame::Have(have) => write_have(have, out),
        Frame::Get(get) => {
            write_text(get.path.as_str(), out);
            write_u64(get.start, out);
            write_u64(get.end.unwrap_or(TO_END), out);
            out.push(get.digest.id());
        }
        Frame::File(file) => {
            write_u64(file.size, out);
            write_u64(file.start, out);
            write_u64(file.end, out);
            write_u32(file.mode, out);
            write_mtime(file.mtime, out);
        }
        Frame::List(list) => {
            write_u16(flag(RECURSIVE, list.recursive), out);
            write_text(list.path.as_str(), out);
        }
        Frame::Entries(entries) => {
            write_u16(entries.len() as u16, out);
            entries.iter().for_each(|entry| write_entry(entry, out));
        }
        Frame::Stat(path) => write_text(path.as_str(), out),
        Frame::Entry(entry) => write_entry(entry, out),
        Frame::Remove(remove) => {
            write_u16(flag(RECURSIVE, remove.recursive), out);
            write_text(remove.path.as_str(), out);
        }
        Frame::Rename(rename) => {
            write_text(rename.from.as_str(), out);
            write_text(rename.to.as_str(), out);
        }
        Frame::MakeDir(make_dir) => {
            write_u16(flag(PARENTS, make_dir.parents), out);
            write_text(make_dir.path.as_str(), out);
            write_u32(make_dir.mode, out);
        }
        Frame::Symlink(symlink) => {
            write_text(symlink.path.as_str(), out);
            write_text(symlink.target.as_str(), out);
        }
        Frame::SetAttributes(set) => {
            write_text(set.path.as_str(), out);
            write_u32(set.mode, out);
            write_mtime(set.mtime, out);
        }
        Frame::Checksum(checksum) => {
            write_text(checksum.path.as_str(), out);
            out.push(checksum.digest.id());
        }
        Frame::Kv(part) | Frame::KvReply(part) | Frame::KvPush(part) => {
            write_u16(flag(KV_MORE, part.more), out);
            out.extend_from_slice(&part.bytes);
        }
    }
}

fn write_error(reply: &ErrorReply, out: &mut Vec<u8>) {
    write_u16(reply.code.number(), out);
    out.push(reply.retryable.into());
    write_text(clip(&reply.message), out);
}

fn write_put(put: &Put, out: &mut Vec<u8>) {
    let sharing = match put.sharing {
        Sharing::Alone => 0,
        Sharing::Shared => PUT_SHARED,
        Sharing::Resumable => PUT_SHARED | PUT_RESUMABLE,
    };
    write_u16(flag(PUT_DURABLE, put.durable) | flag(PUT_SIZED, put.size.is_some()) | sharing, out);
    out.push(put.digest.id());
    write_text(put.path.as_str(), out);
    write_u64(put.size.unwrap_or(0), out);
    write_u32(put.mode, out);
    write_mtime(put.mtime, out);
    write_u64(put.identity.inode, out);
    write_mtime(Mtime { seconds: put.identity.ctime_s, nanoseconds: put.identity.ctime_ns }, out);
}

fn write_have(have: &Have, out: &mut Vec<u8>) {
    out.extend_from_slice(&have.transfer.0);
    write_u64(have.start, out);
    write_u64(have.end, out);
    write_u16(have.runs.len() as u16, out);
    for run in &have.runs {
        write_u64(run.offset, out);
        write_u64(run.len, out);
        write_u64(run.crc64, out);
    }
}

fn write_entry(entry: &Entry, out: &mut Vec<u8>) {
    out.push(entry.kind.id());
    write_text(entry.path.as_str(), out);
    write_u64(entry.size, out);
    write_u32(entry.mode, out);
    write_mtime(entry.mtime, out);
    write_text(entry.link_target.as_ref().map_or("", |target| target.as_str()), out);
}

fn write_digest(digest: &Digest, out: &mut Vec<u8>) {
    let bytes = digest.as_bytes();
    out.extend_from_slice(&[digest.algorithm().id(), bytes.len() as u8]);
    out.extend_from_slice(bytes);
}

fn write_mtime(mtime: Mtime, out: &mut Vec<u8>) {
    out.extend_from_slice(&mtime.seconds.to_le_bytes());
    write_u32(mtime.nanoseconds, out);
}

/// A `u16` length and the text. The types of all texts keep them shorter than that length can say.
fn write_text(text: &str, out: &mut Vec<u8>) {
    debug_assert!(text.len() <= usize::from(u16::MAX));
    write_u16(text.len() as u16, out);
    out.extend_from_slice(text.as_bytes());
}

fn write_u16(value: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn write_u32(value: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn write_u64(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// The bits of `flag` if it is set.
fn flag(flag: u16, is_set: bool) -> u16 {
    if is_set { flag } else { 0 }
}

/// As much of `message` as fits, cut between characters.
fn clip(message: &str) -> &str {
    let end = (0..=MESSAGE_BYTES_MAX.min(message.len())).rev().find(|end| message.is_char_boundary(*end));
    end.map_or("", |end| &message[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_between_characters() {
        assert_eq!(clip(""), "");
        assert_eq!(clip(&"x".repeat(MESSAGE_BYTES_MAX)).len(), MESSAGE_BYTES_MAX);
        assert_eq!(clip(&"x".repeat(MESSAGE_BYTES_MAX + 1)).len(), MESSAGE_BYTES_MAX);
        // The crab has four bytes, of which three would fit.
        let message = "x".repeat(MESSAGE_BYTES_MAX - 3) + "🦀";
        assert_eq!(clip(&message), "x".repeat(MESSAGE_BYTES_MAX - 3));
    }

    #[test]
    fn a_frame_is_appended_to_what_is_there() {
        let mut out = vec![1, 2, 3];
        encode(7, &Frame::Ping(9), &mut out);
        let mut alone = Vec::new();
        encode(7, &Frame::Ping(9), &mut alone);
        assert_eq!(out, [&[1, 2, 3][..], &alone].concat());
    }
}
